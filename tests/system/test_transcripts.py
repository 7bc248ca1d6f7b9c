"""Transcripts of real calls: an agent that knows no bridge, heard on phone calls and in web rooms.

Its models are ours (`tests.agents.models`); what it streams of them is livekit-agents' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from livekit import api

from bridge.carrier.call import Leg
from bridge.room.tokens import LiveKitKeys
from bridge.transcript.desk import Transcripts
from bridge.transcript.web import WebCapture
from tests.agents.models import VOICE_HERTZ
from tests.system.calls import fine
from tests.system.conftest import LiveKitServer
from tests.system.harness import Bridge, Desk, room_service, until
from tests.system.workers import Worker, now, working

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

NUMBER = "+919000000021"


@pytest.fixture(scope="module")
def running(livekit: LiveKitServer) -> Iterator[Worker]:
    with working(livekit, "spoken") as made:
        yield made


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


async def test_a_call_that_is_hung_up_in_the_middle_keeps_what_was_said_so_far(
    desk: Desk, worker: Worker
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    call = await bridge.dial(NUMBER, room=desk.room(), agent="spoken", metadata={"long": True})
    leg = await carrier.incoming()
    await heard_greeting(leg)
    await worker.sees("greeted", since=began)
    await leg.run("wait 2s; hangup")
    await bridge.ended(call.id)

    async def cut() -> dict[str, Any] | None:
        found = await turns(bridge, call.id)
        return found[0] if found and "and now" in (found[0]["agent_response"] or "") else None

    turn = await until(cut, "the words up to the hangup")
    assert turn["interrupted"]
    assert turn["user_transcript"] is None


async def test_posts_take_the_place_of_what_is_heard(desk: Desk, worker: Worker) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    room = desk.room()
    call = await bridge.dial(NUMBER, room=room, agent="spoken")
    leg = await carrier.incoming()
    await heard_greeting(leg)
    await says(bridge, call.id, "assistant", "good morning")
    post = f"/api/sessions/by-room/{room}/transcripts"
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        # The same words, from the agent itself: they are there once.
        first = await http.post(post, json={"speaker": "AGENT", "content": "good morning"})
        assert (first.status_code, first.json()) == (201, {"stored": 1, "suppressed": 0})
        await leg.run(f"tone 440 600ms; expect audio {VOICE_HERTZ} within 10s")
        fine(leg)
        await worker.sees("item", role="assistant", text="reply 1.", since=began)
        assert (await http.post(post, json={"speaker": "USER", "content": "posted"})).is_success
        await leg.run("hold sendonly; expect silence 1s")
        held = await http.post(post, json=[{"speaker": "USER", "content": "music"}])
        assert (held.status_code, held.json()) == (201, {"stored": 0, "suppressed": 1})
        await leg.run("hangup")
        await bridge.ended(call.id)
        late = await http.post(post, json={"speaker": "AGENT", "content": "goodbye"})
        assert (late.status_code, late.json()) == (201, {"stored": 1, "suppressed": 0})
        assert (await http.post(post.replace(room, "nowhere"), json={})).status_code in (404, 422)
    assert await said(bridge, call.id) == [
        ("system", "Call started"),
        ("assistant", "good morning"),
        ("user", "posted"),
        ("assistant", "goodbye"),
    ]


def beep(folder: Path, seconds: float) -> Path:
    """Write a tone as 16-bit samples at 48 kHz."""
    samples = 9000 * np.sin(2 * np.pi * 440 / 48000 * np.arange(int(48000 * seconds)))
    path = folder / "beep.pcm"
    path.write_bytes(samples.astype(np.int16).tobytes())
    return path


async def test_a_web_call_is_heard_by_one_whom_nobody_sees(
    desk: Desk, worker: Worker, tmp_path: Path
) -> None:
    bridge = await desk.bridge()
    began = now()
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        made = await http.post("/api/v1/calls", json={"call_type": "voip", "agent": "spoken"})
        assert made.status_code == 201, made.text
        call_id, room = made.json()["call_id"], made.json()["room_name"]
        user = await desk.agent(room, identity="web-user", hertz=None, listen=[VOICE_HERTZ])
        await user.talk(0)  # a microphone in a quiet room
        await worker.sees("greeted", since=began)
        await says(bridge, call_id, "assistant", "good morning")
        await user.say_file(beep(tmp_path, 0.6))
        await says(bridge, call_id, "user", "words 1")
        await says(bridge, call_id, "assistant", "reply 1.")
        assert not [seen for seen in user.saw("joined") if "listener" in seen["identity"]]
        await user.leave()
        assert (await http.delete(f"/api/v1/calls/{call_id}")).status_code == 202
        await bridge.ended(call_id)
        text = await http.get(f"/v1/voice/sessions/{call_id}/transcript?format=txt")
        srt = await http.get(f"/v1/voice/sessions/{call_id}/transcript?format=srt")
    assert text.headers["content-type"].startswith("text/plain")
    assert srt.headers["content-type"] == "application/x-subrip"
    assert text.text == "Agent: good morning\nUser: words 1\nAgent: reply 1.\n"
    assert srt.text.startswith("1\n00:00:0")
    # Times of the turn came from the agent's own account of it.
    turn = (await turns(bridge, call_id))[1]
    assert turn["first_audio_ms"] is not None
    assert turn["total_ms"] is not None


class Book:
    """A journal in memory."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, Mapping[str, Any]]] = []

    async def note(self, call_id: str, kind: str, body: Mapping[str, Any]) -> None:
        self.notes.append((call_id, kind, body))


async def test_a_listener_keeps_no_room_alive(livekit: LiveKitServer, desk: Desk) -> None:
    name = desk.room()
    keys = LiveKitKeys(api_key=livekit.api_key, api_secret=livekit.api_secret)
    transcripts = Transcripts(Book())
    capture = WebCapture(transcripts, livekit.url, keys)
    async with room_service(livekit) as service:
        wanted = api.CreateRoomRequest(name=name, empty_timeout=30, departure_timeout=1)
        await service.room.create_room(wanted)
        user = await desk.agent(name, identity="web-user", hertz=None)
        capture.watch("c", name)

        async def gone() -> bool:
            found = await service.room.list_rooms(api.ListRoomsRequest(names=[name]))
            return not found.rooms

        try:
            await until(lambda: bool(capture._listeners["c"].connected), "the listener is there")
            people = await service.room.list_participants(api.ListParticipantsRequest(room=name))
            seen = [one.identity for one in people.participants if not one.permission.hidden]
            assert seen == ["web-user"]
            assert not user.saw("joined")
            await user.leave()
            await until(gone, "the room is over", 40.0)
            capture.forget("c")
        finally:
            await capture.close()
            await transcripts.close()
        assert await gone()  # nor did it make it anew
