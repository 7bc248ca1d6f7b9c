"""Writes the vectors beside it: ``python tests/vectors/rtp/make_vectors.py``."""

from __future__ import annotations

from forwarded import FORWARDED
from script import SDP, Script


def plain_and_wrap() -> Script:
    s = Script()
    s.expect()
    s.stats(target=list(SDP))
    s.steady()
    for byte in range(0x13, 0x23):  # both counters wrap on the way
        s.audio(byte)
        s.frame(byte - 1)
    s.stats(received=19, lost=0, refused=0, target=list(SDP))
    return s


def one_lost() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.lose()
    s.frame(0x12)
    s.audio(0x14)
    s.frame("concealed")
    s.audio(0x15)
    s.frame(0x14)
    s.stats(received=5, lost=1)
    return s


def ten_lost() -> Script:
    s = Script()
    s.expect()
    s.steady()
    for index in range(10):
        s.lose()
        heard: tuple[int | str, ...] = (0x12, "concealed", "concealed", "concealed")
        s.frame(heard[index] if index < 4 else "silence")
    s.audio(0x20)
    s.frame("silence")
    s.audio(0x21)
    s.frame(0x20)
    s.frame(0x21)
    s.stats(received=5, lost=10)
    return s


def reordered_and_twice() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.sequence += 1
    s.timestamp += 160
    s.audio(0x14)
    s.sequence -= 2
    s.timestamp -= 320
    s.frame(0x12)
    s.audio(0x13)
    s.sequence -= 1
    s.timestamp -= 160
    s.audio(0x13)
    s.frame(0x13)
    s.frame(0x14)
    s.stats(received=6, lost=0, refused=0)
    return s


def restart() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.sequence += 5000
    s.timestamp += 777_777
    s.audio(0x20)  # RFC 3550 A.1: the first of a jump is not believed
    s.frame(0x12)
    for byte, heard in ((0x21, "silence"), (0x22, 0x21), (0x23, 0x22)):
        s.audio(byte)
        s.frame(heard)
    s.stats(received=7, lost=0)
    return s


def stray_sequence() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.sequence += 30_000
    s.audio(0x66)
    s.sequence -= 30_001
    s.timestamp -= 160
    s.audio(0x13)
    s.frame(0x12)
    s.audio(0x14)
    s.frame(0x13)
    s.stats(lost=0)
    return s


def ssrc_change() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.ssrc, s.sequence, s.timestamp = 0x2222, 9, 4_000_000
    s.audio(0x20)
    s.frame("silence", direct=0x12)  # what was on its way is not thrown away
    s.audio(0x21)
    s.frame(0x20)
    s.audio(0x22)
    s.frame(0x21)
    s.stats(received=6, lost=0)
    return s


def silence_suppressed() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.frame(0x12)
    for heard in ("concealed", "concealed", "concealed", "silence", "silence", "silence"):
        s.timestamp += 160
        s.frame(heard)
    s.timestamp += 160
    s.audio(0x20)
    s.frame("silence")
    s.audio(0x21)
    s.frame(0x20)
    s.stats(received=5, lost=0)
    return s


def comfort_noise() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.raw(s.header(13) + b"\x30", accepted=True)
    s.timestamp += 160
    s.frame(0x12)
    s.frame("silence", direct="concealed")  # the room is not told why nothing comes
    s.stats(received=4, lost=0, refused=0)
    return s


def headers() -> Script:
    s = Script()
    s.expect()
    body = b"\x10" * 160
    s.raw(s.header(8, first=0x82) + b"\0\0\0\1\0\0\0\2" + body, accepted=True)
    s.timestamp += 160
    s.frame("silence")
    s.raw(s.header(8, first=0x90) + b"\xbe\xde\0\1\0\0\0\0" + b"\x11" * 160, accepted=True)
    s.timestamp += 160
    s.frame(0x10)
    s.raw(s.header(8, first=0xA0) + b"\x12" * 160 + b"\0\0\0\4", accepted=True)
    s.timestamp += 160
    s.frame(0x11)
    s.frame(0x12)
    s.stats(received=3, refused=0)
    return s


def junk() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.raw(b"", accepted=False)
    s.raw(b"\x80\x08\x00", accepted=False)
    s.raw(b"\x40" + bytes(171), accepted=False)
    s.raw(b"\x8f\x08" + bytes(12), accepted=False)
    s.raw(b"\x90\x08" + bytes(10) + b"\0\0\xff\xff", accepted=False)
    s.raw(b"\xa0\x08" + bytes(10) + b"\x09", accepted=False)
    s.raw(b"\x80\x12" + bytes(30), accepted=False)
    s.raw(b"\x80\x08" + bytes(1900), accepted=False)
    s.audio(0x13)
    s.frame(0x12)
    s.stats(received=4, refused=8, lost=0)
    return s


def both_laws() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.audio(0x33, pt=0)
    s.frame(0x12)
    s.audio(0x34)
    s.frame(0x33, law="PCMU")
    s.frame(0x34)
    return s


def packet_times() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10, samples=240)
    s.frame("silence")
    s.audio(0x10, samples=80)
    s.audio(0x10, samples=80)
    s.frame(0x10)
    s.audio(0x10, samples=480)
    for _ in range(4):
        s.frame(0x10)
    s.stats(lost=0)
    return s


def key_once() -> Script:
    s = Script()
    s.expect()
    s.steady()
    start = s.timestamp
    for index in range(1, 6):
        s.event(5, 160 * index, start, marker=index == 1)
    for _ in range(3):
        s.event(5, 800, start, end=True)
    s.keys(("5", 100))
    s.timestamp += 1280
    start = s.timestamp
    s.event(5, 160, start, marker=True)
    s.event(5, 320, start, end=True)
    s.keys(("5", 40))
    s.t += 1
    s.keys()
    s.stats(lost=0, refused=0)
    return s


def key_ends_lost() -> Script:
    s = Script()
    s.expect()
    start = s.timestamp
    s.event(11, 160, start, marker=True)
    s.t += 0.02
    s.event(11, 320, start)
    s.t += 0.15
    s.keys()
    s.t += 0.06
    s.keys(("#", 40))
    s.event(11, 640, start, end=True)  # late: told already
    s.keys()
    return s


def key_start_lost() -> Script:
    s = Script()
    s.expect()
    s.event(10, 1600, s.timestamp, end=True)
    s.keys(("*", 200))
    return s


def key_cut_short_by_next() -> Script:
    s = Script()
    s.expect()
    first = s.timestamp
    s.event(1, 800, first, marker=True)
    s.event(2, 160, first + 2000, marker=True)
    s.keys(("1", 100))
    s.event(1, 960, first, end=True)
    s.event(2, 800, first + 2000, end=True)
    s.keys(("2", 100))
    return s


def key_held_ten_seconds() -> Script:
    s = Script()
    s.expect()
    start = s.timestamp
    for duration in (16_000, 32_000, 64_000, 65_535):
        s.event(0, duration, start, marker=duration == 16_000)
        s.t += 0.05
    s.event(0, 8_000, start + 65_535)
    s.t += 0.05
    s.event(0, 14_465, start + 65_535, end=True)
    s.keys(("0", 10_000))
    return s


def two_keys_with_one_timestamp() -> Script:
    s = Script()
    s.expect()
    start = s.timestamp
    s.event(1, 800, start, marker=True)
    s.event(1, 960, start, end=True)
    s.event(2, 160, start, marker=True)  # a sender whose clock stands still
    for _ in range(3):
        s.event(2, 800, start, end=True)
    s.event(1, 960, start, end=True)  # late: told already
    s.keys(("1", 120), ("2", 100))
    s.t += 1
    s.keys()
    return s


def key_in_segments_of_whole_packets() -> Script:
    s = Script()
    s.expect()
    start = s.timestamp
    s.event(0, 64_000, start, marker=True)
    s.event(0, 65_440, start)  # 409 packets of 20 ms: the next would not fit
    s.t += 0.05
    s.event(0, 8_000, start + 65_440)
    s.event(0, 14_560, start + 65_440, end=True)
    s.keys(("0", 10_000))
    return s


def key_over_a_change_of_its_payload_type() -> Script:
    s = Script()
    s.expect()
    start = s.timestamp
    s.event(9, 160, start, marker=True)
    s.event(9, 320, start)
    s.expect(dtmf=96)  # a re-INVITE in the middle of a key
    for _ in range(3):
        s.event(9, 800, start, end=True, pt=96)
    s.keys(("9", 100))
    s.raw(s.header(101, ts=start + 4000) + b"\x05\x8a\x03\x20", accepted=False)
    s.t += 1
    s.keys()
    return s


def key_while_the_audio_goes_on() -> Script:
    s = Script()
    s.expect()
    s.steady()
    start = s.timestamp
    for index in range(1, 4):
        s.event(3, 160 * index, start, marker=index == 1, end=index == 3)
        s.audio(0x20 + index)
        s.frame(0x12 if index == 1 else 0x20 + index - 1)
    s.frame(0x23)
    s.keys(("3", 60))
    s.stats(lost=0, refused=0)
    return s


def timestamp_jumps() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.frame(0x12)
    s.timestamp += 16_000  # two seconds without a packet: nothing is filled in for them
    s.raw(s.header(8, marker=True) + b"\x20" * 160, accepted=True)
    s.timestamp += 160
    s.frame(0x20, direct="silence")  # 40 ms have passed, not 20
    s.audio(0x21)
    s.frame(0x21, direct=0x20)
    s.timestamp -= 80_000  # back, with the sequence going on
    s.audio(0x30)
    s.frame(0x30, direct=0x21)
    s.audio(0x31)
    s.frame(0x31, direct=0x30)
    s.stats(received=7, lost=0, refused=0)
    return s


def comfort_noise_of_old() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.raw(s.header(19) + b"\x30", accepted=True)  # Cisco's before RFC 3389
    s.timestamp += 160
    s.frame(0x12)
    s.frame("silence", direct="concealed")  # the room is not told why nothing comes
    s.stats(received=4, lost=0, refused=0)
    return s


def forty_and_sixty() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10, samples=320)
    s.frame("silence")
    s.frame(0x10)
    s.audio(0x11, samples=480)
    s.frame(0x10)
    for _ in range(3):
        s.frame(0x11)
    s.stats(lost=0)
    return s


def headers_whole() -> Script:
    s = Script()
    s.expect()
    # Fifteen CSRC, an empty extension, and padding, all at once; then nothing but padding.
    s.raw(
        s.header(8, first=0xBF) + bytes(60) + b"\xbe\xde\0\0" + b"\x10" * 160 + b"\0\0\0\4",
        accepted=True,
    )
    s.timestamp += 160
    s.frame("silence")
    s.raw(s.header(8, first=0xA0) + b"\0\0\0\4", accepted=True)
    s.frame(0x10)
    s.stats(received=2, refused=0)
    return s


def no_key() -> Script:
    s = Script()
    s.expect()
    s.event(16, 800, s.timestamp, end=True)  # flash
    s.raw(s.header(101) + b"\x05\x80", accepted=True)
    s.t += 1
    s.keys()
    return s


def latch_behind_nat() -> Script:
    s = Script()
    s.expect()
    s.source = ("192.0.2.77", 61_000)
    s.audio(0x10, accepted=False)
    s.audio(0x11, accepted=False)
    s.stats(target=list(SDP))
    s.audio(0x12)
    s.stats(target=["192.0.2.77", 61_000], received=1, refused=2)
    return s


def latch_interrupted_probation() -> Script:
    s = Script()
    s.expect()
    s.source = ("192.0.2.77", 61_000)
    s.audio(0x10, accepted=False)
    s.audio(0x11, accepted=False)
    s.sequence += 1
    s.audio(0x12, accepted=False)
    s.audio(0x13, accepted=False)
    s.ssrc += 1
    s.audio(0x14, accepted=False)
    s.audio(0x15, accepted=False)
    s.audio(0x16)
    return s


def latch_signalling_network() -> Script:
    s = Script()
    s.expect()
    s.source = ("198.51.100.99", 5000)
    for accepted in (False, False, True):
        s.audio(0x10, accepted=accepted)
    return s


def latch_stranger() -> Script:
    s = Script(own=(("192.0.2.50", 20_000),))
    s.expect()
    for stranger in (("203.0.113.5", 4000), ("127.0.0.1", 4000), ("192.0.2.50", 20_000)):
        s.source = stranger
        for _ in range(6):
            s.audio(0x10, accepted=False)
    s.stats(target=list(SDP), received=0, refused=18)
    return s


def latch_allowed_private() -> Script:
    s = Script(allow=("10.1.0.0/16",))
    s.expect()
    s.source = ("10.2.0.1", 4000)
    for _ in range(4):
        s.audio(0x10, accepted=False)
    s.source = ("10.1.2.3", 4000)
    for accepted in (False, False, True):
        s.audio(0x10, accepted=accepted)
    s.stats(target=["10.1.2.3", 4000])
    return s


def latch_private_sdp() -> Script:
    s = Script()
    s.expect("192.168.1.2")
    s.stats(target=None)
    s.source = ("192.168.1.2", 4000)
    for _ in range(5):
        s.audio(0x10, accepted=False)
    return s


def latch_locked() -> Script:
    s = Script()
    s.expect()
    s.steady()
    s.source = ("192.0.2.66", 4000)
    s.ssrc = 0x6666
    for _ in range(10):
        s.audio(0x66, accepted=False)
    s.stats(target=list(SDP))
    return s


def latch_silent_two_seconds() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10)
    s.source = ("192.0.2.66", 4000)
    s.t += 1.9
    for _ in range(4):
        s.audio(0x66, accepted=False)
    s.t += 0.2
    for accepted in (False, False, True):
        s.audio(0x66, accepted=accepted)
    s.stats(target=["192.0.2.66", 4000])
    return s


def latch_sdp_address_wins() -> Script:
    s = Script()
    s.expect()
    s.source = ("192.0.2.66", 4000)
    for accepted in (False, False, True):
        s.audio(0x66, accepted=accepted)
    s.source = SDP
    s.audio(0x10)
    s.source = ("192.0.2.66", 4000)
    s.audio(0x66, accepted=False)
    s.stats(target=list(SDP))
    return s


def latch_moved_by_reinvite() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10)
    s.expect("192.0.2.200", 7000)
    s.stats(target=["192.0.2.200", 7000])
    for _ in range(10):  # the old source's tail
        s.audio(0x10, accepted=False)
    s.source = ("192.0.2.201", 7000)
    s.ssrc = 0x2222
    for accepted in (False, False, True):
        s.audio(0x20, accepted=accepted)
    s.stats(target=["192.0.2.201", 7000])
    return s


def latch_window_told() -> Script:
    s = Script()
    s.expect()
    s.audio(0x10)
    s.add(do="window")
    s.audio(0x11)
    s.source = ("192.0.2.66", 4000)
    s.ssrc = 0x6666
    for accepted in (False, False, True):
        s.audio(0x66, accepted=accepted)
    s.stats(target=["192.0.2.66", 4000])
    return s


def latch_nowhere() -> Script:
    s = Script()
    s.expect()
    s.source = ("192.0.2.66", 4000)
    for accepted in (False, False, True):
        s.audio(0x66, accepted=accepted)
    for address, port in (("", 0), ("0.0.0.0", 4000), SDP):
        s.expect(address, port)
        s.audio(0x66)
    s.stats(target=["192.0.2.66", 4000])
    return s


CASES = (
    plain_and_wrap,
    one_lost,
    ten_lost,
    reordered_and_twice,
    restart,
    stray_sequence,
    ssrc_change,
    silence_suppressed,
    comfort_noise,
    headers,
    junk,
    both_laws,
    packet_times,
    key_once,
    key_ends_lost,
    key_start_lost,
    key_cut_short_by_next,
    key_held_ten_seconds,
    two_keys_with_one_timestamp,
    key_in_segments_of_whole_packets,
    key_over_a_change_of_its_payload_type,
    key_while_the_audio_goes_on,
    timestamp_jumps,
    comfort_noise_of_old,
    forty_and_sixty,
    headers_whole,
    no_key,
    latch_behind_nat,
    latch_interrupted_probation,
    latch_signalling_network,
    latch_stranger,
    latch_allowed_private,
    latch_private_sdp,
    latch_locked,
    latch_silent_two_seconds,
    latch_sdp_address_wins,
    latch_moved_by_reinvite,
    latch_window_told,
    latch_nowhere,
)

if __name__ == "__main__":
    for case in (*CASES, *FORWARDED):
        case().write(case.__name__)
