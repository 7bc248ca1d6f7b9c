"""Bad networks on either leg: what the far end hears of speech, by PESQ, on both engines.

Both engines' calls run at the same time through one relay, with the same seeds: packet for
packet the same is lost, late, in another order, twice. ``TRUNKBRIDGE_SEEDS=8`` for more than
two; with ``TRUNKBRIDGE_PESQ=FILE`` each figure becomes a JSON line there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
from array import array
from collections.abc import Iterable, Mapping
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
from tests.system.calls import fine
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
    until,
)
from tests.system.relay import Relay, relayed
from tests.system.weather import Weather

SEEDS = int(os.environ.get("TRUNKBRIDGE_SEEDS", "2"))
WEATHERS: Mapping[str, Weather] = {
    "random loss": Weather(loss=0.05),
    "bursts": Weather(bad=0.02, good=0.4),
    "jitter": Weather(jitter=0.060),
    "reordered, twice": Weather(reordered=0.05, twice=0.05),
}
BATCHES = (("random loss", "bursts"), ("jitter", "reordered, twice"))
"""Two at a time, each a call on both engines: more, and the agents do not keep up."""
NOT_WORSE = 0.15  # PESQ; and twice the error of the mean over the seeds
ONE_SEED = 0.4  # PESQ, what one seed differs from another, where there is only one
TEXT = "The bridge carries what you say into the room, and brings you what is answered there."
TAIL = 1.1  # seconds after the speech: what the network and the buffers hold back

pytestmark = [pytest.mark.system, pytest.mark.timeout(90 + 20 * SEEDS)]


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
    reference, recorded = (np.asarray(one, dtype=np.float64) for one in (said, heard))
    recorded = np.pad(recorded, (0, len(reference)))
    size = len(recorded) + len(reference)
    spectrum = np.fft.rfft(recorded, size) * np.conj(np.fft.rfft(reference, size))
    energy = np.concatenate([[0.0], np.cumsum(recorded**2)])
    places = len(recorded) - len(reference) + 1
    within = energy[len(reference) :][:places] - energy[:places]
    likeness = np.fft.irfft(spectrum, size)[:places] / np.sqrt(within + energy[-1] / 10)
    begins = int(np.argmax(likeness))
    part = np.asarray(recorded[begins : begins + len(reference)], dtype=np.int16)
    return round(float(pesq(sound.RATE, np.array(said, dtype=np.int16), part, "nb")), 3)


async def connected(desk: Desk, bridge: Bridge, engine: str, weather: str) -> Call:
    """Return a call that is heard at both ends."""
    carrier = await desk.carrier()
    number = now_number()
    agent = await desk.agent(room_of(number), rate=8000, queue_ms=400)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return Call(engine=engine, weather=weather, leg=leg, agent=agent)


async def by_relay(call: Call, relay: Relay, weather: Weather) -> None:
    """Let the RTP between the carrier and the bridge go by the relay."""
    media = call.leg.media
    assert media.remote is not None
    port = await relay.open(media.remote[1])
    await relay.weather(weather, port=port)
    # The bridge follows where our packets come from, when it is sure.
    media.remote = ("127.0.0.1", port)

    async def followed() -> bool:
        (counts,) = await relay.ask("counts", port=port)
        return bool(counts["down in"])

    await until(followed, "RTP comes back by the relay")


async def heard_of(call: Call, speech: array[int], folder: Path) -> dict[str, Any]:
    """Speak both ways; return what each end heard."""
    media = call.leg.media
    before = len(media.heard.samples())
    await call.agent.keep()
    await call.agent.say_file(folder / "said.s16")
    media.play(clip_source(speech, repeat=False))
    await asyncio.sleep(len(speech) / sound.RATE + TAIL)  # the length of what is said
    file = folder / f"{call.engine} {call.weather}.s16"
    await call.agent.kept(file)
    by_agent = np.frombuffer(await asyncio.to_thread(file.read_bytes), dtype=np.int16)
    return {"agent": by_agent, "phone": media.heard.samples()[before:]}


async def spoken(
    calls: list[Call], speech: array[int], folder: Path, leg: str, seed: int
) -> list[Row]:
    """Speak on all calls at once; return the figures."""
    heard = await asyncio.gather(*(heard_of(call, speech, folder) for call in calls))
    return [
        Row(
            engine=call.engine,
            leg=leg,
            weather=call.weather,
            seed=seed,
            hears=who,
            pesq=await asyncio.to_thread(score, speech, samples),
        )
        for call, ears in zip(calls, heard, strict=True)
        for who, samples in ears.items()
    ]


async def daemons(
    desk: Desk, relay: Relay, leg: str, stack: contextlib.AsyncExitStack
) -> list[tuple[str, Bridge, int]]:
    """Start one for each engine; on the leg of the room, each with a relay's port."""
    http = int(desk.server.http_url.rpartition(":")[2])
    found = []
    for engine in ENGINES:
        port = await relay.open(desk.server.udp_port)
        cable = Cable(http, media=(desk.server.udp_port, port) if leg == "room" else None)
        await cable.plug()
        stack.push_async_callback(cable.unplug)
        way = {"livekit": {"url": f"ws://127.0.0.1:{cable.port}"}}
        bridge = await desk.bridge(sections={**way, "media": {"engine": need(engine)}})
        found.append((engine, bridge, port))
    return found


async def both_engines(
    desk: Desk,
    relay: Relay,
    ways: list[tuple[str, Bridge, int]],
    leg: str,
    names: Iterable[str],
) -> list[Call]:
    """Return a call of each engine for each of the weathers, which have not begun yet."""
    calls: list[Call] = []
    for engine, bridge, port in ways:
        for name in names:
            await relay.weather(WEATHERS[name], port=port)
            calls.append(await connected(desk, bridge, engine, name))
    if leg == "carrier":
        await asyncio.gather(*(by_relay(call, relay, WEATHERS[call.weather]) for call in calls))
    return calls


@pytest.mark.parametrize("leg", ["carrier", "room"])
async def test_speech_over_a_bad_network_is_no_worse_on_the_direct_engine(
    lite_desk: Desk, speech: array[int], tmp_path: Path, leg: str
) -> None:
    need("direct")
    (tmp_path / "said.s16").write_bytes(speech.tobytes())
    rows: list[Row] = []
    async with relayed() as relay, contextlib.AsyncExitStack() as stack:
        ways = await daemons(lite_desk, relay, leg, stack)
        for names in BATCHES:
            calls = await both_engines(lite_desk, relay, ways, leg, names)
            for seed in range(SEEDS):
                await relay.ask("begin", seed=seed)
                rows += await spoken(calls, speech, tmp_path, leg, seed)
            for call in calls:
                await call.leg.run("hangup")
                fine(call.leg)
        for counts in await relay.ask("counts"):
            sys.stdout.write(f"{counts}\n")
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
    cells: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row in rows:
        seeds = cells.setdefault((row.weather, row.hears), {})
        seeds.setdefault(row.seed, {})[row.engine] = row.pesq
    better = {
        cell: [one["direct"] - one["sdk"] for one in seeds.values()]
        for cell, seeds in cells.items()
    }
    # What the seeds differ by is alike in all cells; of few seeds, only all together tell it.
    spreads = [statistics.variance(one) for one in better.values() if len(one) > 1]
    error = (statistics.fmean(spreads or [ONE_SEED**2]) / SEEDS) ** 0.5
    worse = []
    for (weather, hears), found in better.items():
        mean = statistics.fmean(found)
        line = f"{weather}, heard by the {hears}: {mean:+.2f}, error {error:.2f}"
        sys.stdout.write(f"direct against SDK engine: {line}\n")
        if mean < -(NOT_WORSE + 2 * error):
            worse.append(line)
    return worse
