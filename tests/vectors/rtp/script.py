"""What the lines of a vector are written with; the README says what they mean."""

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
