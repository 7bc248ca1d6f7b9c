"""Webhooks of a real daemon: every event of real calls, in order, signed, over its restart too."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.system.harness import Bridge, Desk, agent_number, room_of
from tests.unit.webhook.receiver import SECRET, Heard, Receiver, receiving

pytestmark = pytest.mark.system


async def started(desk: Desk, receiver: Receiver, **options: Any) -> Bridge:
    """Start a daemon that tells *receiver* of calls."""
    webhook = {"url": receiver.url, "secret": SECRET, "allow_private": True}
    return await desk.bridge(sections={"webhook": webhook}, **options)


def of(receiver: Receiver, call_id: str) -> list[dict[str, Any]]:
    return [heard.body for heard in receiver.heard if heard.body.get("call_id") == call_id]


def over(call_id: str) -> Any:
    """Whether the end of a call was heard."""
    return lambda heard: any(
        one.body["type"] == "call.ended" and one.body["call_id"] == call_id for one in heard
    )


async def judge(bridge: Bridge, receiver: Receiver, call_id: str) -> list[str]:
    """Check that what was heard is the call's journal; return the types in order."""
    await receiver.until(over(call_id), 15)
    bodies = of(receiver, call_id)
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        events = (await http.get(f"/api/v1/calls/{call_id}/events")).json()
        resource = (await http.get(f"/api/v1/calls/{call_id}")).json()
    told = [{k: v for k, v in body.items() if k not in ("type", "call")} for body in bodies]
    assert told == events
    assert bodies[-1]["call"] == resource
    assert receiver.refused == 0
    for heard in receiver.heard:
        assert heard.headers["X-Trunkbridge-Event"] == heard.body["type"]
        assert heard.headers["User-Agent"].startswith("trunkbridge/")
    return [body["type"] for body in bodies]


async def test_a_call_in_and_a_call_out_are_told_in_order_with_valid_signatures(
    desk: Desk,
) -> None:
    async with receiving() as receiver, receiving() as own:
        carrier = await desk.carrier()
        bridge = await started(desk, receiver, carrier=carrier)
        called = agent_number()
        await desk.agent(room_of(called))
        leg = await carrier.dial(bridge.sip_uri(called))
        await leg.run("talk 500ms; hold sendonly 500ms; resume; talk 500ms; hangup")
        await receiver.until(lambda heard: any(h.body["type"] == "call.ended" for h in heard), 15)
        inbound = receiver.heard[0].body["call_id"]
        assert await judge(bridge, receiver, inbound) == [
            "call.ringing",
            "call.answered",
            "call.hold",
            "call.resume",
            "call.ended",
        ]
        assert [body["call"]["status"] for body in of(receiver, inbound)] == [
            "connecting",
            "active",
            "active",
            "active",
            "completed",
        ]
        room = desk.room()
        await desk.agent(room)
        call = await bridge.dial(
            "+919000000177", agent="", room=room, webhook_url=own.url + "?tenant=7"
        )
        leg = await carrier.incoming()
        await leg.run("ring; answer; talk 500ms; hangup")
        assert await judge(bridge, own, call.id) == ["call.ringing", "call.answered", "call.ended"]
        assert own.heard[0].path == "/hook?tenant=7"
        assert of(receiver, call.id) == []


async def test_what_a_receiver_missed_over_a_kill_it_is_told_after_the_start(desk: Desk) -> None:
    well = False

    async def ill(_: Heard) -> web.Response | None:
        return None if well else web.Response(status=503)

    async with receiving(ill) as receiver:
        carrier = await desk.carrier()
        bridge = await started(desk, receiver, carrier=carrier)
        room = desk.room()
        await desk.agent(room)
        call = await bridge.dial("+919000000178", agent="", room=room)
        leg = await carrier.incoming()
        await leg.run("ring; answer; talk 500ms")
        await bridge.seen(call.id, "call_answered")
        await receiver.until(lambda heard: len(heard) >= 2)
        bridge.signal(signal.SIGKILL)
        await bridge.exited()
        missed = {heard.delivery for heard in receiver.heard}
        assert len(missed) == 1  # in order: the first was never taken
        receiver.heard.clear()
        well = True
        await bridge.start()
        types = await judge(bridge, receiver, call.id)
        assert (types[0], types[-1]) == ("call.ringing", "call.ended")
        assert receiver.heard[0].delivery in missed
        delivery = receiver.heard[1]
        async with httpx.AsyncClient(base_url=bridge.url) as http:
            answer = await http.post(f"/api/v1/webhooks/{delivery.delivery}/replay")
            assert (answer.status_code, answer.json()) == (202, {"id": delivery.delivery})
        await receiver.until(lambda heard: len(heard) == len(types) + 1)
        assert receiver.heard[-1].delivery == delivery.delivery
        assert receiver.heard[-1].raw == delivery.raw


async def test_a_voice_session_is_told_as_seed_004_says(desk: Desk) -> None:
    async with receiving() as receiver:
        bridge = await desk.bridge(
            sections={
                "webhook": {"secret": SECRET, "allow_private": True},
            }
        )
        async with httpx.AsyncClient(base_url=bridge.url) as http:
            made = await http.post("/v1/voice/sessions", json={"webhook_url": receiver.url})
            assert made.status_code == 201
            session = made.json()
            await receiver.until(lambda heard: len(heard) == 1)
            deleted = await http.delete(f"/v1/voice/sessions/{session['id']}")
            assert deleted.status_code == 204
            await receiver.until(lambda heard: len(heard) == 2)
            shown = (await http.get(f"/v1/voice/sessions/{session['id']}")).json()
        started, ended = receiver.heard
        assert started.body["type"] == "voice_session.started"
        created = {k: v for k, v in session.items() if k not in ("ws_url", "token")}
        assert started.body["session"] == created
        assert ended.body["type"] == "voice_session.ended"
        assert ended.body["session"] == shown
        assert ended.body["session"]["end_reason"] == "api_delete"
        assert ended.headers["X-Trunkbridge-Event"] == "voice_session.ended"


async def test_a_url_that_may_not_be_asked_is_refused_before_the_call(desk: Desk) -> None:
    bridge = await desk.bridge(sections={"webhook": {"secret": SECRET}})
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        for url in ("http://127.0.0.1:1/", "http://localhost/", "ftp://example.com/"):
            body = {"phone_number": "+919000000179", "trunk": "carrier", "webhook_url": url}
            answer = await http.post("/api/v1/calls", json=body)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "webhook_url"
