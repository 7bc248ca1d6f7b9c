"""The RTP vectors through the carrier's side of the direct engine.

What the room's agent hears is told by the reference jitter buffer, fed with the packets that
were passed on; tests/vectors/rtp/README.md says where that differs from the SDK engine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtp import g711
from rtp.jitter import JitterBuffer

native: Any = pytest.importorskip("trunkbridge_native", reason="native/ is not built")

pytestmark = pytest.mark.unit

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "rtp").glob("*.jsonl"))

OPEN = {"transmit": False, "agent_audio": False, "caller_audio": True}
CLOSED = {**OPEN, "caller_audio": False}


class Replay:
    """Runs the lines of one vector and checks what comes of them."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.track = first.get("track", "PCMA")
        self.carrier = native.CarrierReplay(
            signalling=first["signalling"],
            allow=first["allow"],
            own=[tuple(port) for port in first["own"]],
            track=self.track,
        )
        self.carrier.apply(0.0, **OPEN)
        self.agent = JitterBuffer()
        self.forwarded_since: list[dict[str, Any]] = []
        self.loudness = 1 << 15

    def line(self, line: dict[str, Any]) -> None:
        if "hex" in line:
            self.datagram(line)
        else:
            getattr(self, line["do"])(line)

    def datagram(self, line: dict[str, Any]) -> None:
        source = tuple(line["from"])
        accepted, packet = self.carrier.receive(bytes.fromhex(line["hex"]), source, line["t"])
        assert accepted is line["accepted"]
        if packet is None:
            return
        sequence, timestamp, marker, level, payload = packet
        told = {"sequence": sequence, "timestamp": timestamp, "marker": marker, "level": level}
        assert len(set(payload)) == 1, "a vector's packet is of one byte"
        told |= {"samples": len(payload), "byte": payload[:1].hex()}
        self.forwarded_since.append(told)
        self.agent.put(sequence, timestamp, g711.decode(self.track, payload), line["t"])

    def expect(self, line: dict[str, Any]) -> None:
        self.carrier.connect(
            line["t"],
            remote=(line["address"], line["port"]),
            receive_codecs=[(int(number), name) for number, name in line["codecs"].items()],
            receive_dtmf_payload_type=line["dtmf"],
        )

    def window(self, line: dict[str, Any]) -> None:
        self.carrier.window(line["t"])

    def gate(self, line: dict[str, Any]) -> None:
        self.carrier.apply(line["t"], **(OPEN if line["open"] else CLOSED))

    def frame(self, line: dict[str, Any]) -> None:
        samples, wanted = line["samples"], line.get("direct", line["pcm"])
        pcm = self.agent.pull(samples, line["t"]) or bytes(samples * 2)
        loudness = max(abs(x) for x in memoryview(pcm).cast("h"))
        if wanted == "silence":
            assert loudness == 0
        elif wanted == "concealed":
            assert 0 < loudness < self.loudness
        else:
            heard = bytes.fromhex(wanted["byte"]) * samples
            heard = g711.translate(heard, source=wanted["law"], target=self.track)
            assert pcm == g711.decode(self.track, heard)
        self.loudness = loudness

    def keys(self, line: dict[str, Any]) -> None:
        self.carrier.poll(line["t"])
        keys = [list(notice[1:]) for notice in self.carrier.notices() if notice[0] == "key"]
        assert keys == line["keys"]

    def stats(self, line: dict[str, Any]) -> None:
        target = self.carrier.target()
        found = self.carrier.stats() | {"target": target and list(target)}
        wanted = {key: value for key, value in line.items() if key not in ("t", "do")}
        assert {key: found[key] for key in wanted} == wanted

    def forwarded(self, line: dict[str, Any]) -> None:
        """Each field that the line has; a level only where it says one."""
        asked = [
            {key: told[key] for key in wanted}
            for told, wanted in zip(self.forwarded_since, line["packets"], strict=False)
        ]
        assert asked == line["packets"]
        assert len(self.forwarded_since) == len(asked)
        self.forwarded_since = []


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector_is_received_as_it_says(path: Path) -> None:
    """Rows 80, 81, 82, 83, 84, 85, 87, 88. R1 7.1.17. Each vector by its name."""
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    replay = Replay(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        try:
            replay.line(line)
        except AssertionError as error:
            raise AssertionError(f"{path.name}:{number}: {error}") from error
