"""Recorded calls: what the API gives back of a call that was really made, on each engine."""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.carrier.call import Leg
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
    until,
)
from tests.unit.recording.sounds import decode, level, part, sounds

pytestmark = pytest.mark.system

ENGINES = pytest.mark.engines("direct", "sdk")


async def fetched(bridge: Bridge, call_id: str, folder: Path, kind: str) -> Path:
    """Return the call's recording as the API gives it, as a file."""
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        answer = await http.get(f"/api/v1/calls/{call_id}/recording")
        answer.raise_for_status()
        assert answer.headers["content-type"] == f"audio/{kind}"
        some = await http.get(
            f"/api/v1/calls/{call_id}/recording", headers={"Range": "bytes=100-199"}
        )
    assert (some.status_code, some.content) == (206, answer.content[100:200])
    path = folder / f"fetched.{kind}"
    path.write_bytes(answer.content)
    return path


async def talked(leg: Leg, agent: RoomAgent) -> None:
    """Wait until both ends hear each other."""
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    assert leg.report.failed is None
    await agent.hears(CALLER_HERTZ)


def spans(samples: array[int], hertz: float) -> list[tuple[int, int]]:
    """Return where a tone sounds, in tenths of a second: begin and end of each stretch."""
    found: list[tuple[int, int]] = []
    for n in range(len(samples) // 800):
        if sounds(part(samples, n / 10, n / 10 + 0.1), hertz):
            if found and found[-1][1] == n:
                found[-1] = (found[-1][0], n + 1)
            else:
                found.append((n, n + 1))
    return found


def only(samples: array[int], hertz: float, other: float) -> bool:
    """Whether *hertz* is heard for half a second at least, and *other* never."""
    longest = max((end - begin for begin, end in spans(samples, hertz)), default=0)
    return longest >= 5 and not spans(samples, other)


@ENGINES
async def test_a_call_that_asked_for_it_is_recorded_with_its_hold(desk: Desk) -> None:
    """Caller left, agent right, silence while it was held, as long as the call was."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"recording": {"url": "kept", "format": "ogg"}})
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000031", room=room, record=True)
    leg = await carrier.incoming()
    await leg.run("ring; answer")
    await talked(leg, agent)
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        running = await http.get(f"/api/v1/calls/{call.id}/recording")
    await leg.run("wait 1s; hold sendonly; wait 2s; resume")
    await leg.run(f"expect audio {AGENT_HERTZ} within 10s; wait 1s; hangup")
    ended = await bridge.ended(call.id)
    path = await fetched(bridge, call.id, desk.folder, "ogg")
    left, right = decode(path)
    assert running.status_code == 409
    assert abs(len(left) / 8 - ended["duration_ms"]) < 100
    assert only(left, CALLER_HERTZ, AGENT_HERTZ)
    assert only(right, AGENT_HERTZ, CALLER_HERTZ)
    for samples, hertz in ((left, CALLER_HERTZ), (right, AGENT_HERTZ)):
        before, *_, after = spans(samples, hertz)
        held = part(samples, before[1] / 10 + 0.2, after[0] / 10 - 0.2)
        assert 1.0 < len(held) / 8000 < 3.5
        assert level(held) < 100
    kept = bridge.folder / "kept" / f"{call.id}.ogg"
    await until(kept.exists, "the file is where it is to be kept")
    assert not list((bridge.folder / "journal.db.recordings").iterdir())


@ENGINES
async def test_a_call_that_came_in_is_recorded_where_recordings_are_on(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"recording": {"url": "kept", "format": "wav"}})
    number = agent_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number))
    await talked(leg, agent)
    await leg.run("wait 1s; hangup")
    ended = await agent.event("call_ended")
    await bridge.ended(ended["call_id"])
    path = await fetched(bridge, ended["call_id"], desk.folder, "wav")
    left, right = decode(path)
    assert abs(len(left) / 8 - ended["duration_ms"]) < 100
    assert only(left, CALLER_HERTZ, AGENT_HERTZ)
    assert only(right, AGENT_HERTZ, CALLER_HERTZ)
    await bridge.client.call(ended["call_id"]).erase()
    kept = bridge.folder / "kept" / f"{ended['call_id']}.wav"
    await until(lambda: not kept.exists(), "the file of an erased call is deleted")


async def test_a_crash_in_mid_call_leaves_what_was_said_before_it(desk: Desk) -> None:
    """kill -9 while the call runs; the next life finishes the file and keeps it."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"recording": {"url": "kept"}})
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000032", room=room, record=True)
    leg = await carrier.incoming()
    await leg.run("ring; answer")
    await talked(leg, agent)
    await leg.run("wait 2s")
    part_file = bridge.folder / "journal.db.recordings" / f"{call.id}.ogg.part"
    await until(lambda: part_file.stat().st_size > 4000, "a second of it is on the disk")
    await bridge.kill()
    await bridge.start()
    ended = await bridge.ended(call.id)

    async def there() -> Any:
        async with httpx.AsyncClient(base_url=bridge.url) as http:
            answer = await http.get(f"/api/v1/calls/{call.id}/recording")
        return answer.status_code == 200

    await until(there, "the recording is there")
    path = await fetched(bridge, call.id, desk.folder, "ogg")
    left, right = await asyncio.to_thread(decode, path)
    assert (ended["outcome"], ended["reason"]) == ("dropped", "crash")
    assert only(left, CALLER_HERTZ, AGENT_HERTZ)
    assert only(right, AGENT_HERTZ, CALLER_HERTZ)
    assert (bridge.folder / "kept" / f"{call.id}.ogg").exists()
