"""Event streams of a real daemon with real calls: live, resumed, over a restart, for several."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.system.harness import Bridge, Desk, now_number, until
from trunkbridge import Client, Event
from trunkbridge.sse import Message, Reader

pytestmark = pytest.mark.system

STREAM = {"Accept": "text/event-stream"}
PROMPT = 3.0  # seconds from an event to its readers, on a loaded machine


async def connected(desk: Desk, bridge: Bridge, carrier: Carrier) -> tuple[Leg, str]:
    """Return a call that came in and was answered, and its id."""
    before = {call["id"] for call in await bridge.client.calls()}
    leg = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
    await leg.run("talk")
    assert leg.report.failed is None, leg.report.failed

    async def new() -> str | None:
        found = [call["id"] for call in await bridge.client.calls() if call["id"] not in before]
        return str(found[0]) if found else None

    call_id: str = await until(new, "the call is written down")
    await bridge.seen(call_id, "call_answered")
    return leg, call_id


async def messages(response: httpx.Response) -> AsyncIterator[Message]:
    reader = Reader()
    async for data in response.aiter_bytes():
        for message in reader.feed(data):
            if message.data:
                yield message


class Watch:
    """Collects a stream's events in the background, with the moment each came."""

    def __init__(self, stream: AsyncIterator[Event]) -> None:
        self.events: list[Event] = []
        self.at: list[float] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(stream))

    async def _run(self, stream: AsyncIterator[Event]) -> None:
        async for event in stream:
            self.events.append(event)
            self.at.append(time.monotonic())
            self._changed.set()

    async def saw(self, name: str, call_id: str, within: float = 15.0) -> None:
        """Wait for an event of a call."""
        async with asyncio.timeout(within):
            while not any(e.name == name and e.call_id == call_id for e in self.events):
                self._changed.clear()
                await self._changed.wait()

    async def end(self, within: float = 15.0) -> list[Event]:
        """Wait for the end of the stream; return what came."""
        async with asyncio.timeout(within):
            await self._task
        return self.events

    async def stop(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_two_readers_follow_a_call_as_it_happens_to_its_end(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, call_id = await connected(desk, bridge, carrier)
    first = Watch(bridge.client.call(call_id).events())
    everything = Watch(bridge.client.events(after=0))
    await first.saw("call_answered", call_id)
    await everything.saw("call_answered", call_id)
    began = time.monotonic()
    await leg.run("hold sendonly")
    await first.saw("call_hold", call_id)
    await everything.saw("call_hold", call_id)
    assert max(first.at[-1], everything.at[-1]) - began < PROMPT
    await leg.run("resume; hangup")
    events = await first.end()
    assert [event.data for event in events] == await bridge.events(call_id)
    assert [event.name for event in events][-3:] == ["call_hold", "call_resume", "call_ended"]
    await everything.saw("call_ended", call_id)
    await everything.stop()
    assert [e.data for e in everything.events] == [e.data for e in events]
    assert [e.id for e in everything.events] == sorted({e.id for e in everything.events})


async def test_a_stream_is_resumed_after_its_connection_broke(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, call_id = await connected(desk, bridge, carrier)
    path = f"/api/v1/calls/{call_id}/events"
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        async with http.stream("GET", path, headers=STREAM) as answer:
            first = [await anext(aiter(messages(answer)))]
        await leg.run("hold sendonly; resume")
        headers = {**STREAM, "Last-Event-ID": first[-1].id}
        async with http.stream("GET", path, headers=headers) as answer:
            stream = aiter(messages(answer))
            second = [await anext(stream)]
            await leg.run("hangup")
            second += [message async for message in stream]
        over = await http.get(path, headers={**STREAM, "Last-Event-ID": second[-1].id})
    assert over.status_code == 204
    assert [json.loads(m.data) for m in first + second] == await bridge.events(call_id)


async def test_readers_go_on_over_a_crash_and_a_restart_of_the_daemon(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    _, killed = await connected(desk, bridge, carrier)
    of_call = Watch(bridge.client.call(killed).events())
    everything = Watch(bridge.client.events(after=0))
    await of_call.saw("call_answered", killed)
    await everything.saw("call_answered", killed)
    await bridge.kill()
    await bridge.start()
    assert [event.data for event in await of_call.end()] == await bridge.events(killed)
    assert of_call.events[-1].data["reason"] == "crash"
    leg, after = await connected(desk, bridge, carrier)
    await leg.run("hangup")
    await everything.saw("call_ended", after)
    await everything.stop()
    told = [event.data for event in everything.events]
    assert told == [*await bridge.events(killed), *await bridge.events(after)]


async def test_readers_that_read_nothing_delay_neither_others_nor_the_stop(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, call_id = await connected(desk, bridge, carrier)
    request = b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    lazy = [socket.create_connection(("127.0.0.1", bridge.http_port)) for _ in range(20)]
    try:
        for one in lazy:
            one.sendall(request)
        watch = Watch(bridge.client.call(call_id).events())
        await watch.saw("call_answered", call_id)
        began = time.monotonic()
        await leg.run("hold sendonly")
        await watch.saw("call_hold", call_id)
        assert watch.at[-1] - began < PROMPT
        bridge.signal(signal.SIGTERM)  # drains for a second, then hangs up
        await leg.run("expect hangup within 8s")
        assert (await watch.end())[-1].data["reason"] == "shutdown"
        stopping = time.monotonic()
        assert await bridge.exited() == 0
        assert time.monotonic() - stopping < 15
    finally:
        for one in lazy:
            one.close()


async def test_a_browser_may_resume_by_the_address_and_keys_are_asked_for(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    with bridge.config.open("a") as file:
        file.write('\n[[http.key]]\nname = "app"\nkey = "s3cret"\n')
    assert await bridge.client.reload() == {"changed": ["http.key[app]: added"], "restart": []}
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        refused = await http.get("/api/v1/events", headers=STREAM)
    assert refused.status_code == 401
    async with Client(bridge.url, "s3cret") as client:
        assert await client.position() == 0
        everything = Watch(client.events(after=0))
        leg = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
        await leg.run("hangup")
        await until(lambda: everything.events, "an event")
        call = client.call(everything.events[0].call_id)
        events = [event async for event in call.events()]
        await everything.stop()
        path = f"/api/v1/calls/{call.id}/events?last_event_id={events[0].seq}"
        async with httpx.AsyncClient(base_url=bridge.url) as http:
            headers = {**STREAM, "Authorization": "Bearer s3cret"}
            async with http.stream("GET", path, headers=headers) as answer:
                rest = [int(message.id) async for message in messages(answer)]
    assert rest == [event.seq for event in events[1:]]
