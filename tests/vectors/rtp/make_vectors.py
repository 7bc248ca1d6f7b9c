"""Writes the vectors beside it: ``python tests/vectors/rtp/make_vectors.py``."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

SDP = ("192.0.2.10", 4000)
HERE = Path(__file__).parent


class Script:
    """One vector; the sender's sequence and timestamp go on by themselves."""

    def __init__(
        self,
        *,
        allow: tuple[str, ...] = (),
        own: tuple[Any, ...] = (),
        track: str | None = None,
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self.t = 0.0
        self.source = SDP
        self.ssrc = 0x1111
        self.sequence = 65530
        self.timestamp = 0xFFFF_FE00
        own = tuple(list(port) for port in own)
        law = {} if track is None else {"track": track}
        self.add(do="open", signalling="198.51.100.1", allow=list(allow), own=own, **law)
        self.first = (self.sequence % 0x8000, self.timestamp)  # numbers of what is forwarded

    def add(self, **line: Any) -> None:
        self.lines.append({"t": round(self.t, 4), **line})

    def expect(self, address: str = SDP[0], port: int = SDP[1], *, dtmf: int = 101) -> None:
        self.add(
            do="expect", address=address, port=port, codecs={"8": "PCMA", "0": "PCMU"}, dtmf=dtmf
        )

    def raw(self, data: bytes, *, accepted: bool) -> None:
        self.add(**{"from": list(self.source)}, hex=data.hex(), accepted=accepted)

    def header(
        self, pt: int, *, first: int = 0x80, marker: bool = False, ts: int | None = None
    ) -> bytes:
        timestamp = self.timestamp if ts is None else ts
        data = struct.pack(
            "!BBHII",
            first,
            pt | (0x80 if marker else 0),
            self.sequence & 0xFFFF,
            timestamp & 0xFFFF_FFFF,
            self.ssrc,
        )
        self.sequence += 1
        return data

    def audio(
        self,
        byte: int,
        *,
        samples: int = 160,
        pt: int = 8,
        accepted: bool = True,
        marker: bool = False,
    ) -> None:
        self.raw(self.header(pt, marker=marker) + bytes((byte,)) * samples, accepted=accepted)
        self.timestamp += samples

    def lose(self, samples: int = 160) -> None:
        self.sequence += 1
        self.timestamp += samples

    def event(
        self,
        code: int,
        duration: int,
        ts: int,
        *,
        end: bool = False,
        marker: bool = False,
        pt: int = 101,
    ) -> None:
        body = struct.pack("!BBH", code, 10 | (0x80 if end else 0), duration)
        self.raw(self.header(pt, marker=marker, ts=ts) + body, accepted=True)

    def every(self, ms: int, *, audio: tuple[int, ...], pt: int = 8) -> None:
        """Packets at the pace of their length, the first now; then it is time for the next."""
        for byte in audio:
            self.audio(byte, samples=ms * 8, pt=pt)
            self.t += ms / 1000

    def frame(
        self,
        what: int | str,
        *,
        law: str = "PCMA",
        samples: int = 160,
        direct: int | str | None = None,
    ) -> None:
        """The steady clock, half a frame after the packets."""
        self.t += 0.010
        heard: dict[str, int | str] = (
            {"pcm": what} if direct is None else {"pcm": what, "direct": direct}
        )
        self.add(
            do="frame",
            samples=samples,
            **{
                key: value if isinstance(value, str) else {"law": law, "byte": f"{value:02x}"}
                for key, value in heard.items()
            },
        )
        self.t += 0.010

    def gate(self, *, open: bool) -> None:  # noqa: A002 (the word of the contract)
        self.add(do="gate", open=open)

    def forwarded(self, *packets: dict[str, Any]) -> None:
        """What the room got since the last such line; numbers count from the first packet's."""
        sequence, timestamp = self.first
        placed = [
            packet
            | {
                "sequence": sequence + packet["sequence"],
                "timestamp": (timestamp + packet["timestamp"]) & 0xFFFF_FFFF,
            }
            for packet in packets
        ]
        self.add(do="forwarded", packets=placed)

    def keys(self, *keys: tuple[str, int]) -> None:
        self.add(do="keys", keys=[list(key) for key in keys])

    def stats(self, **values: Any) -> None:
        self.add(do="stats", **values)

    def steady(self) -> None:
        """Five packets; the first is played 30 ms after it came."""
        self.audio(0x10)
        self.frame("silence")
        self.audio(0x11)
        self.frame(0x10)
        self.audio(0x12)
        self.frame(0x11)

    def write(self, name: str) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines)
        (HERE / f"{name}.jsonl").write_text(text)


def passed(
    sequence: int,
    timestamp: int,
    byte: int,
    *,
    marker: bool = False,
    samples: int = 160,
    **level: int,
) -> dict[str, Any]:
    """One packet as the room gets it."""
    return {
        "sequence": sequence,
        "timestamp": timestamp,
        "marker": marker,
        "samples": samples,
        "byte": f"{byte:02x}",
        **level,
    }


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

if __name__ == "__main__":
    for case in CASES:
        case().write(case.__name__)
