"""Vectors of what the direct engine passes on to the room."""

from __future__ import annotations

from script import Script, passed


def forwarded_loss() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.lose()
    s.t += 0.02
    s.every(20, audio=(0x13,))
    for _ in range(10):
        s.lose()
        s.t += 0.02
    s.every(20, audio=(0x20,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(3, 480, 0x13),
        passed(14, 2240, 0x20),
    )
    s.stats(received=4, lost=11)
    return s


def forwarded_reordered_and_twice() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.sequence += 1
    s.timestamp += 160
    s.audio(0x13)
    s.sequence -= 2
    s.timestamp -= 320
    s.audio(0x12)
    s.sequence -= 1
    s.timestamp -= 160
    s.audio(0x12)
    s.sequence += 1
    s.timestamp += 160
    s.t += 0.04
    s.audio(0x14)
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(3, 480, 0x13),
        passed(2, 320, 0x12),
        passed(4, 640, 0x14),
    )
    s.stats(received=6, lost=0)
    return s


def forwarded_ssrc_change() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11, 0x12))
    s.ssrc, s.sequence, s.timestamp = 0x2222, 9, 4_000_000
    s.every(20, audio=(0x20, 0x21))
    s.t += 1
    s.ssrc, s.sequence, s.timestamp = 0x3333, 60_000, 77
    s.every(20, audio=(0x30, 0x31))
    s.ssrc, s.sequence, s.timestamp = 0x2222, 11, 4_000_320
    s.audio(0x66)  # a straggler of the one before: two in a row would be its return
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12),
        passed(3, 480, 0x20, marker=True),
        passed(4, 640, 0x21),
        passed(5, 640 + 8160, 0x30, marker=True),  # 1020 ms after the one before
        passed(6, 640 + 8320, 0x31),
    )
    return s


def forwarded_ssrc_changes_with_jitter() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10)
    for ssrc, passed_ms in ((2, 29), (3, 11), (4, 36), (5, 0)):
        s.t += passed_ms / 1000
        s.ssrc, s.sequence, s.timestamp = ssrc, 9, 4_000_000
        s.audio(0x10 + ssrc)
    s.forwarded(  # whole packets: what jitter adds or takes would be heard
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x12, marker=True),
        passed(2, 320, 0x13, marker=True),
        passed(3, 640, 0x14, marker=True),
        passed(4, 800, 0x15, marker=True),
    )
    return s


def forwarded_restart() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11, 0x12))
    s.sequence += 5000
    s.timestamp += 777_777
    s.every(20, audio=(0x20, 0x21, 0x22))  # the first of a jump is not believed
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12),
        passed(3, 640, 0x21, marker=True),
        passed(4, 800, 0x22),
    )
    return s


def forwarded_stray_sequence() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.sequence += 30_000
    s.audio(0x66)
    s.sequence -= 30_001
    s.timestamp -= 160
    s.every(20, audio=(0x12, 0x13))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12),
        passed(3, 480, 0x13),
    )
    return s


def forwarded_timestamp_restart() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.timestamp -= 80_000
    s.every(20, audio=(0x12, 0x13))
    s.timestamp += 800_000
    s.every(20, audio=(0x14, 0x15))
    s.timestamp -= 160  # a clock that stands still
    s.every(20, audio=(0x16,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12, marker=True),
        passed(3, 480, 0x13),
        passed(4, 640, 0x14, marker=True),
        passed(5, 800, 0x15),
        passed(6, 960, 0x16, marker=True),
    )
    return s


def forwarded_pauses() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.t += 5  # silence suppression: their clock goes on
    s.timestamp += 40_000
    s.audio(0x12, marker=True)
    s.t += 0.02
    s.every(20, audio=(0x13,))
    s.t += 5  # and a source whose clock does not
    s.every(20, audio=(0x14, 0x15))
    s.timestamp += 400  # 50 ms unsaid
    s.t += 0.05
    s.every(20, audio=(0x16,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 40_320, 0x12, marker=True),
        passed(3, 40_480, 0x13),
        passed(4, 80_640, 0x14, marker=True),
        passed(5, 80_800, 0x15),
        passed(6, 81_360, 0x16),
    )
    s.stats(lost=0)
    return s


def forwarded_network_stall() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10,))
    s.t += 0.5  # then all at once: jitter is for the room's buffer
    for byte in range(0x11, 0x15):
        s.audio(byte)
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12),
        passed(3, 480, 0x13),
        passed(4, 640, 0x14),
    )
    return s


def forwarded_gate() -> Script:
    s = Script()
    s.expect()
    s.gate(open=False)
    s.every(20, audio=(0x01, 0x02))  # ringback, say
    s.forwarded()
    s.gate(open=True)
    s.every(20, audio=(0x10, 0x11))
    s.gate(open=False)
    s.every(20, audio=(0x12, 0x13))
    s.lose()
    s.t += 0.02
    s.every(20, audio=(0x15,))
    s.gate(open=True)
    s.every(20, audio=(0x16, 0x17))
    s.gate(open=False)
    s.every(20, audio=(0x18,))
    s.ssrc, s.sequence, s.timestamp = 0x2222, 9, 4_000_000
    s.every(20, audio=(0x19,))
    s.gate(open=True)
    s.every(20, audio=(0x1A, 0x1B))
    s.first = (s.first[0] + 2, s.first[1] + 320)
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 960, 0x16, marker=True),
        passed(3, 1120, 0x17),
        passed(4, 1120 + 480, 0x1A, marker=True),
        passed(5, 1120 + 640, 0x1B),
    )
    return s


def forwarded_late_from_before_the_gate() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    s.gate(open=False)
    s.every(20, audio=(0x12,))
    s.sequence += 1
    s.timestamp += 160
    s.every(20, audio=(0x14,))
    s.gate(open=True)
    s.every(20, audio=(0x15,))
    s.sequence -= 3
    s.timestamp -= 480
    s.audio(0x13)  # its place was closed up
    s.sequence += 2
    s.timestamp += 320
    s.every(20, audio=(0x16,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 800, 0x15, marker=True),
        passed(3, 960, 0x16),
    )
    return s


def forwarded_keys_in_audio() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    start = s.timestamp
    for index in range(1, 5):
        s.event(5, 160 * index, start, marker=index == 1)
        s.t += 0.02
    for _ in range(3):
        s.event(5, 640, start, end=True)
        s.t += 0.02
    s.timestamp += 7 * 160
    s.every(20, audio=(0x12, 0x13))
    start = s.timestamp
    s.event(6, 160, start, marker=True)
    s.every(20, audio=(0x14,))  # the audio goes on during the key
    s.sequence += 1  # nobody knows what this was
    s.event(6, 480, start, end=True)
    s.every(20, audio=(0x15, 0x16))
    s.keys(("5", 80), ("6", 60))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320 + 1120, 0x12, marker=True),
        passed(3, 320 + 1280, 0x13),
        passed(4, 320 + 1440, 0x14, marker=True),
        passed(6, 320 + 1600, 0x15, marker=True),
        passed(7, 320 + 1760, 0x16),
    )
    s.stats(lost=1)
    return s


def forwarded_key_whose_clock_stood_still() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    for index in range(1, 11):
        s.event(5, 160 * index, s.timestamp, marker=index == 1, end=index > 7)
        s.t += 0.02
    s.every(20, audio=(0x12, 0x13))  # as if the 200 ms had not been
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320 + 1600, 0x12, marker=True),
        passed(3, 320 + 1760, 0x13),
    )
    return s


def forwarded_key_that_came_late() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10,))
    s.sequence += 1
    s.audio(0x11)
    s.sequence -= 2
    s.event(5, 160, s.timestamp, marker=True)  # its number has been left open
    s.sequence += 1
    s.event(5, 320, s.timestamp, end=True)
    s.sequence += 1
    s.t += 0.02
    s.every(20, audio=(0x13,))
    s.sequence -= 2
    s.timestamp -= 160
    s.audio(0x12, samples=80)  # behind a number that was closed up
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(2, 160, 0x11),
        passed(4, 320, 0x13, marker=True),
        passed(3, 320, 0x12, samples=80),
    )
    return s


def forwarded_late_behind_a_key() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10,))
    s.sequence += 1
    s.event(5, 160, s.timestamp, end=True)
    s.sequence -= 2
    s.every(20, audio=(0x11,))
    s.ssrc, s.sequence, s.timestamp = 0x2222, 9, 4_000_000
    s.every(20, audio=(0x20, 0x21))  # does not get the number of the one before again
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x20, marker=True),
        passed(3, 480, 0x21),
    )
    return s


def forwarded_keep_alive_in_a_stall() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10,))
    s.raw(s.header(8), accepted=True)
    s.t += 0.5
    for byte in (0x11, 0x12):  # they waited on the way: nothing stood still
        s.audio(byte)
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11, marker=True),
        passed(2, 320, 0x12),
    )
    return s


def forwarded_comfort_noise() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=(0x10, 0x11))
    for pt in (13, 19):
        s.raw(s.header(pt) + b"\x30", accepted=True)
        s.t += 0.2
        s.timestamp += 1600
    s.audio(0x12, marker=True)
    s.t += 0.02
    s.every(20, audio=(0x13,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320 + 3200, 0x12, marker=True),
        passed(3, 480 + 3200, 0x13),
    )
    s.stats(lost=0)
    return s


def forwarded_keep_alives() -> Script:
    s = Script()
    s.expect()
    s.raw(s.header(8), accepted=True)  # nothing but a header
    s.every(20, audio=(0x10,))
    s.raw(s.header(8, first=0xA0) + b"\0\0\0\4", accepted=True)
    s.every(20, audio=(0x11, 0x12))
    s.first = (s.first[0] + 1, s.first[1])
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11, marker=True),
        passed(2, 320, 0x12),
    )
    return s


def forwarded_other_law() -> Script:
    s = Script(track="PCMA")
    s.expect()
    s.every(20, audio=(0x80, 0x00, 0xFF), pt=0)
    s.every(20, audio=(0xD5,))
    s.forwarded(
        passed(0, 0, 0xAA, marker=True, level=0),
        passed(1, 160, 0x2A, level=0),
        passed(2, 320, 0xD5, level=-72),  # A-law has no zero
        passed(3, 480, 0xD5, level=-72),
    )
    return s


def forwarded_to_a_mu_law_track() -> Script:
    s = Script(track="PCMU")
    s.expect()
    s.every(20, audio=(0xAA, 0x2A, 0xD5))
    s.every(20, audio=(0xFF, 0x8F), pt=0)
    s.forwarded(
        passed(0, 0, 0x80, marker=True, level=0),
        passed(1, 160, 0x00, level=0),
        passed(2, 320, 0xFE, level=-72),
        passed(3, 480, 0xFF, level=-127),
        passed(4, 640, 0x8F, level=-6),  # 16764 of 32124
    )
    return s


def forwarded_packet_times() -> Script:
    s = Script()
    s.expect()
    s.every(40, audio=(0x10, 0x11))
    s.every(60, audio=(0x12, 0x13))
    s.every(10, audio=(0x14, 0x15))
    s.every(200, audio=(0x16,))
    s.every(60, audio=(0x17,))
    s.ssrc, s.sequence, s.timestamp = 0x2222, 9, 4_000_000
    s.every(60, audio=(0x18, 0x19))
    s.forwarded(
        passed(0, 0, 0x10, marker=True, samples=320),
        passed(1, 320, 0x11, samples=320),
        passed(2, 640, 0x12, samples=480),
        passed(3, 1120, 0x13, samples=480),
        passed(4, 1600, 0x14, samples=80),
        passed(5, 1680, 0x15, samples=80),
        passed(6, 1760, 0x16, samples=1600),
        passed(7, 3360, 0x17, samples=480),
        passed(8, 3840, 0x18, marker=True, samples=480),
        passed(9, 4320, 0x19, samples=480),
    )
    return s


def forwarded_wrap() -> Script:
    s = Script()
    s.expect()
    s.every(20, audio=tuple(range(0x10, 0x14)))
    s.sequence += 1  # 65534 comes after the wrap of both counters
    s.timestamp += 160
    s.every(20, audio=(0x15, 0x16))
    s.sequence -= 3
    s.timestamp -= 480
    s.audio(0x14)
    s.sequence += 2
    s.timestamp += 320
    s.every(20, audio=(0x17,))
    s.forwarded(
        passed(0, 0, 0x10, marker=True),
        passed(1, 160, 0x11),
        passed(2, 320, 0x12),
        passed(3, 480, 0x13),
        passed(5, 800, 0x15),
        passed(6, 960, 0x16),
        passed(4, 640, 0x14),
        passed(7, 1120, 0x17),
    )
    s.stats(lost=0)
    return s


FORWARDED = (
    forwarded_loss,
    forwarded_reordered_and_twice,
    forwarded_ssrc_change,
    forwarded_ssrc_changes_with_jitter,
    forwarded_restart,
    forwarded_stray_sequence,
    forwarded_timestamp_restart,
    forwarded_pauses,
    forwarded_network_stall,
    forwarded_gate,
    forwarded_late_from_before_the_gate,
    forwarded_keys_in_audio,
    forwarded_key_whose_clock_stood_still,
    forwarded_key_that_came_late,
    forwarded_late_behind_a_key,
    forwarded_keep_alive_in_a_stall,
    forwarded_comfort_noise,
    forwarded_keep_alives,
    forwarded_other_law,
    forwarded_to_a_mu_law_track,
    forwarded_packet_times,
    forwarded_wrap,
)
