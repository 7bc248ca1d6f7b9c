"""Transcripts of real calls: an agent that knows no bridge, heard on phone calls and in web rooms.

Its models are ours (`tests.agents.models`); what it streams of them is livekit-agents' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bridge.carrier.call import Leg
from tests.agents.models import VOICE_HERTZ
from tests.system.calls import fine
from tests.system.conftest import LiveKitServer
from tests.system.harness import Bridge, Desk, until
from tests.system.workers import Worker, now

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

NUMBER = "+919000000021"


@pytest.fixture(scope="module")
def running(livekit: LiveKitServer) -> Iterator[Worker]:
    made = Worker(livekit, ["-m", "tests.agents.spoken", "start"])
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
async def worker(running: Worker) -> Worker:
    await running.ready()
    return running


async def messages(bridge: Bridge, call_id: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        reply = await http.get(f"/api/v1/calls/{call_id}/transcript")
    assert reply.status_code == 200, reply.text
    return list(reply.json())


async def said(bridge: Bridge, call_id: str) -> list[tuple[str, str]]:
    return [(one["role"], one["content"]) for one in await messages(bridge, call_id)]


async def says(bridge: Bridge, call_id: str, role: str, content: str) -> None:
    async def there() -> bool:
        return (role, content) in await said(bridge, call_id)

    try:
        await until(there, f"{role}: {content}")
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{await messages(bridge, call_id)}") from None


async def turns(bridge: Bridge, call_id: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        reply = await http.get(f"/v1/voice/sessions/{call_id}/transcript")
    assert reply.status_code == 200, reply.text
    return list(reply.json())


async def heard_greeting(leg: Leg) -> None:
    await leg.run(f"answer; expect audio {VOICE_HERTZ} within 15s")
    fine(leg)


@pytest.mark.engines("direct", "sdk")
async def test_a_phone_call_is_written_down_but_not_while_it_is_held(
    desk: Desk, worker: Worker
) -> None:
    carrier = await desk.carrier()
    # Hold music is let through, and the agent does not know of holds: it hears words in it.
    bridge = await desk.bridge(carrier, trunk={"hold_music": True})
    began = now()
    call = await bridge.dial(NUMBER, room=desk.room(), agent="spoken")
    leg = await carrier.incoming()
    await heard_greeting(leg)
    await worker.sees("greeted", since=began)
    await leg.run(f"tone 440 600ms; expect audio {VOICE_HERTZ} within 10s")
    fine(leg)
    await says(bridge, call.id, "user", "words 1")
    await says(bridge, call.id, "assistant", "reply 1.")
    await leg.run("hold sendonly; expect silence 3s; tone 660 1s; expect silence 1500ms")
    held_at = now()
    await worker.sees("item", role="user", text="words 2", since=began)
    await worker.sees("item", role="assistant", text="reply 2.", since=began)
    await leg.run("resume; tone 440 600ms")
    fine(leg)
    await worker.sees("item", role="user", text="words 3", since=held_at)
    await says(bridge, call.id, "user", "words 3")
    await says(bridge, call.id, "assistant", "reply 3.")
    await leg.run("hangup")
    await bridge.ended(call.id)
    assert await said(bridge, call.id) == [
        ("system", "Call started"),
        ("assistant", "good morning"),
        ("user", "words 1"),
        ("assistant", "reply 1."),
        ("user", "words 3"),
        ("assistant", "reply 3."),
    ]
    assert {one["agent_name"] for one in await messages(bridge, call.id)} == {"spoken"}


@pytest.mark.engines("direct", "sdk")
async def test_what_was_interrupted_is_marked_and_what_a_hangup_cut_is_kept(
    desk: Desk, worker: Worker
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    call = await bridge.dial(NUMBER, room=desk.room(), agent="spoken", metadata={"long": True})
    leg = await carrier.incoming()
    await heard_greeting(leg)
    await worker.sees("greeted", since=began)
    await leg.run(f"expect audio {VOICE_HERTZ} within 10s; talk 1s; tone 440 1200ms")
    fine(leg)
    cut = await worker.sees("long speech", since=began)
    assert cut["interrupted"]
    await says(bridge, call.id, "user", "words 1")
    first, second = (await turns(bridge, call.id))[:2]
    assert first["interrupted"]
    assert first["agent_response"].startswith("good morning and now")
    assert second["user_transcript"] == "words 1"
    await leg.run("hangup")
    await bridge.ended(call.id)
