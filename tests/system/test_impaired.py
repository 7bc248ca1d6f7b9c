"""Bad networks on either leg: what the far end hears of speech, by PESQ, on both engines.

Both engines' calls run at the same time through one relay, with the same seeds: packet for
packet the same is lost, late, in another order, twice. ``TRUNKBRIDGE_SEEDS=8`` for more than
one; with ``TRUNKBRIDGE_PESQ=FILE`` each figure becomes a JSON line there.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pesq import pesq

from bridge.carrier import sound
from bridge.carrier.call import Leg
from bridge.carrier.media import clip_source
from bridge.carrier.speech import speak
from tests.system.cable import Cable
from tests.system.engines import ENGINES, need
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    missing,
    now_number,
    room_of,
)
from tests.system.relay import Relay, relayed
from tests.system.test_survival import fine
from tests.system.weather import Weather

SEEDS = int(os.environ.get("TRUNKBRIDGE_SEEDS", "1"))
WEATHERS: Mapping[str, Weather] = {
    "random loss": Weather(loss=0.05),
    "bursts": Weather(bad=0.02, good=0.4),
    "jitter": Weather(jitter=0.060),
    "reordered, twice": Weather(reordered=0.05, twice=0.05),
}
NOT_WORSE = 0.15  # PESQ; and twice the deviation of the mean of the seeds
TEXT = "The bridge carries what you say into the room, and brings you what is answered there."
TAIL = 0.7  # seconds after the speech: what the network and the buffers hold back

pytestmark = [pytest.mark.system, pytest.mark.timeout(60 + 60 * SEEDS)]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. ``leg`` had the ``weather``; ``hears`` is who listened."""

    engine: str
    leg: str
    weather: str
    seed: int
    hears: str
    pesq: float


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call under a weather."""

    engine: str
    weather: str
    leg: Leg
    agent: RoomAgent


@pytest.fixture(scope="module")
def speech() -> array[int]:
    """What is said, at 8 kHz."""
    spoken = speak(TEXT)
    if spoken is None:
        missing("espeak-ng")
    assert spoken is not None
    return spoken


def score(said: array[int], heard: Any) -> float:
    """Return PESQ-NB of what was *heard* (8 kHz), found by correlation in a longer recording."""
    reference = np.array(said, dtype=np.float64)
    size = len(reference) + len(heard)
    spectrum = np.fft.rfft(np.asarray(heard, dtype=np.float64), size)
    likeness = np.fft.irfft(spectrum * np.conj(np.fft.rfft(reference, size)), size)
    begins = int(np.argmax(likeness[: max(1, len(heard) - len(reference) // 2)]))
    part = np.asarray(heard[begins : begins + len(reference)], dtype=np.int16)
    part = np.pad(part, (0, len(reference) - len(part)))
    return round(float(pesq(sound.RATE, np.array(said, dtype=np.int16), part, "nb")), 3)


async def connected(desk: Desk, bridge: Bridge, engine: str, weather: str) -> Call:
    """Return a call that is heard at both ends."""
    carrier = await desk.carrier()
    number = now_number()
    agent = await desk.agent(room_of(number), rate=8000)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return Call(engine=engine, weather=weather, leg=leg, agent=agent)


async def under_weather(
    desk: Desk, bridge: Bridge, relay: Relay, leg: str, room_port: int, engine: str, seed: int
) -> list[Call]:
    """Return a call for each weather on *leg*."""
    calls = []
    for name, weather in WEATHERS.items():
        await relay.weather(weather, seed=seed, port=room_port)
        call = await connected(desk, bridge, engine, name)
        if leg == "carrier":
            media = call.leg.media
            assert media.remote is not None
            port = await relay.open(media.remote[1])
            await relay.weather(weather, seed=seed, port=port)
            # The bridge follows where our packets come from.
            media.remote = ("127.0.0.1", port)
        calls.append(call)
    return calls


async def figures(call: Call, speech: array[int], folder: Path, leg: str, seed: int) -> list[Row]:
    """Speak both ways; return what each end heard."""
    media = call.leg.media
    before = len(media.heard.samples())
    await call.agent.keep()
    said = folder / "said.s16"
    await call.agent.say_file(said)
    media.play(clip_source(speech, repeat=False))
    await asyncio.sleep(len(speech) / sound.RATE + TAIL)  # the length of what is said
    heard = folder / f"heard-{call.engine}-{seed}-{call.weather.replace(' ', '-')}.s16"
    await call.agent.kept(heard)
    by_agent = np.frombuffer(await asyncio.to_thread(heard.read_bytes), dtype=np.int16)
    by_phone = media.heard.samples()[before:]
    await call.leg.run("hangup")
    fine(call.leg)
    return [
        Row(
            engine=call.engine,
            leg=leg,
            weather=call.weather,
            seed=seed,
            hears=who,
            pesq=await asyncio.to_thread(score, speech, samples),
        )
        for who, samples in (("agent", by_agent), ("phone", by_phone))
    ]


async def one_seed(
    desk: Desk, speech: array[int], folder: Path, leg: str, seed: int, relay: Relay
) -> list[Row]:
    """Return the figures of both engines under every weather."""
    http = int(desk.server.http_url.rpartition(":")[2])
    calls: list[Call] = []
    cables = []
    for engine in ENGINES:
        real = desk.server.udp_port
        port = await relay.open(real)
        cable = Cable(http, media=(real, port) if leg == "room" else None)
        await cable.plug()
        cables.append(cable)
        way = {
            "livekit": {"url": f"ws://127.0.0.1:{cable.port}"},
            "media": {"engine": need(engine)},
        }
        bridge = await desk.bridge(sections=way)
        calls += await under_weather(desk, bridge, relay, leg, port, engine, seed)
    await relay.ask("begin")
    rows = await asyncio.gather(*(figures(call, speech, folder, leg, seed) for call in calls))
    for counts in await relay.ask("counts"):
        sys.stdout.write(f"{counts}\n")
    for cable in cables:
        await cable.unplug()
    return [row for some in rows for row in some]


@pytest.mark.parametrize("leg", ["carrier", "room"])
async def test_speech_over_a_bad_network_is_no_worse_on_the_direct_engine(
    lite_desk: Desk, speech: array[int], tmp_path: Path, leg: str
) -> None:
    need("direct")
    (tmp_path / "said.s16").write_bytes(speech.tobytes())
    rows: list[Row] = []
    for seed in range(SEEDS):
        async with relayed() as relay:
            rows += await one_seed(lite_desk, speech, tmp_path, leg, seed, relay)
    tell(rows)
    worse = compared(rows)
    assert not worse, "\n".join(worse)


def tell(rows: list[Row]) -> None:
    """Print the figures, and add them to a file if one is wanted."""
    for row in rows:
        sys.stdout.write(f"{row.leg} {row.weather}, {row.hears}: {row.engine} {row.pesq}\n")
    wanted = os.environ.get("TRUNKBRIDGE_PESQ")
    if wanted:
        with Path(wanted).open("a") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def compared(rows: list[Row]) -> list[str]:
    """Return where the direct engine is worse, by more than the seeds differ."""
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        found[row.weather, row.hears][row.seed][row.engine] = row.pesq
    worse = []
    for (weather, hears), seeds in found.items():
        better = [one["direct"] - one["sdk"] for one in seeds.values()]
        spread = statistics.stdev(better) / len(better) ** 0.5 if len(better) > 1 else NOT_WORSE
        mean = statistics.fmean(better)
        sys.stdout.write(f"{weather}, {hears}: direct better by {mean:+.2f} ({spread:.2f})\n")
        if mean < -(NOT_WORSE + 2 * spread):
            worse.append(f"{weather}, heard by the {hears}: {mean:+.2f}, spread {spread:.2f}")
    return worse
