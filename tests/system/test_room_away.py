"""Calls whose livekit-server is killed, stopped or started again under them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit import api

from tests.system.calls import fine, inbound, the_call
from tests.system.conftest import PrivateLiveKit
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    RoomAgent,
    agent_number,
    now_number,
    room_exists,
    room_of,
    room_service,
    until,
)

pytestmark = pytest.mark.system

GONE = 3.0  # seconds
SOON = 8.0  # seconds in which all is well again; `python -m bench room_return` has the figures


@contextlib.asynccontextmanager
async def gone(server: PrivateLiveKit, seconds: float = GONE) -> AsyncIterator[None]:
    """Kill the server; what is done in here is done while it is away; then start it."""
    server.kill()
    back_at = time.monotonic() + seconds
    yield
    await asyncio.sleep(back_at - time.monotonic())  # the length of the absence is the test
    assert await asyncio.to_thread(server.start)


async def successor(desk: Desk, agent: RoomAgent) -> tuple[RoomAgent, asyncio.Task[None]]:
    """Let *agent* go and another wait for the server, to join at once."""
    await agent.leave()
    other = desk.waiting_agent(agent.room, "successor")
    return other, asyncio.create_task(other.join(when_up=True))


def names(agent: RoomAgent) -> list[str]:
    """Return the names of the events that the agent was sent."""
    return [str(event["event"]) for event in agent.events]


def seqs(agent: RoomAgent) -> list[int]:
    """Return the numbers of the events that the agent was sent."""
    return [int(event["seq"]) for event in agent.events]


# --- killed and started again ------------------------------------------------------------


async def test_a_killed_servers_return_brings_audio_back_to_an_agent_that_joins_at_once(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    before = (await agent.phone())["identity"]
    call_id = await the_call(agent)
    async with gone(private_livekit):
        other, joining = await successor(private_desk, agent)
        await leg.run("wait 500ms")
        before_it = leg.media.report()
        await leg.run("wait 2s")
        fine(leg)
        after_it = leg.media.report()
        assert 85 <= after_it.packets - before_it.packets <= 115, "packets at their pace"
        sound = after_it.seconds_of_sound - before_it.seconds_of_sound
        assert sound <= 0.1, "of silence, but for what the SDK still conceals"
    await joining
    await other.hears(CALLER_HERTZ, within=SOON)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s")
    fine(leg)
    phone = await other.phone()
    assert phone["identity"] == before
    assert phone["attributes"]["sip.callStatus"] == "active"
    assert phone["attributes"]["sip.callID"] == call_id
    assert [one for one in names(other) if one == "call_answered"] == ["call_answered"]
    report = leg.media.report()
    assert (report.ssrcs, report.timestamp_faults, report.lost) == (1, 0, 0)
    await leg.run("hangup")
    fine(leg)
    ended = await other.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_an_agent_that_repairs_itself_is_told_what_it_missed_and_nothing_twice(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    async with gone(private_livekit):
        await leg.run("hold sendonly; resume; hold inactive")
        fine(leg)
    await agent.event("call_hold", 2, within=25)
    await agent.attribute("bridge.hold", "true")
    await agent.is_muted(True)
    resumed_at = time.monotonic()
    await leg.run("resume")
    await agent.event("call_resume", 2)
    await agent.hears(CALLER_HERTZ, since=resumed_at)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert names(agent) == [
        "call_ringing",
        "call_answered",
        "call_hold",
        "call_resume",
        "call_hold",
        "call_resume",
        "call_ended",
    ]
    assert seqs(agent) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.engines("direct")
async def test_events_that_die_with_their_server_are_told_once_it_is_back(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    """A server that stands still before it is killed: what is sent is gone, and counted as sent."""
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    private_livekit.pause()
    await leg.run("hold sendonly")
    fine(leg)
    await bridge.seen(call_id, "call_hold")
    async with gone(private_livekit):
        pass
    await agent.event("call_hold", within=25)
    await leg.run(f"resume; expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert names(agent) == [
        "call_ringing",
        "call_answered",
        "call_hold",
        "call_resume",
        "call_ended",
    ]
    assert seqs(agent) == [1, 2, 3, 4, 5]


async def test_a_hold_while_the_server_is_away_is_there_before_it_is_told(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    async with gone(private_livekit):
        other, joining = await successor(private_desk, agent)
        await leg.run("hold sendonly")
        fine(leg)
    await joining
    held = await other.event("call_hold", within=SOON)
    before = [line for line in other.seen if line["at"] <= held["received"]]
    shown = [x["attributes"] for x in before if x["saw"] in ("participant", "attributes")]
    assert shown[-1]["bridge.hold"] == "true"
    tracks = [x["muted"] for x in before if x["saw"] == "track" and x["name"] == "sip_audio"]
    assert all(tracks), "never seen unmuted"
    assert names(other) == ["call_answered", "call_hold"]
    await leg.run(f"resume; expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)
    await other.event("call_ended")
    assert names(other)[2:] == ["call_resume", "call_ended"]


async def test_a_hold_that_ends_while_the_server_is_away_leaves_the_call_talking(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    await leg.run("hold sendonly")
    await agent.event("call_hold")
    async with gone(private_livekit):
        other, joining = await successor(private_desk, agent)
        await leg.run("resume; hold inactive; resume")
        fine(leg)
    await joining
    await other.hears(CALLER_HERTZ, within=SOON)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s")
    fine(leg)
    assert other.attributes["bridge.hold"] == "false"
    assert names(other)[0] == "call_answered"
    numbers = seqs(other)
    assert numbers == sorted(set(numbers))
    await leg.run("hangup")
    fine(leg)


# --- the call ends or begins meanwhile ---------------------------------------------------


async def test_a_call_that_ends_while_the_server_is_away_is_recorded_and_leaves_nothing(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    async with gone(private_livekit, 4):
        await agent.leave()
        await leg.run("wait 500ms; hangup")
        fine(leg)
        ended = await bridge.ended(call_id)
        assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
        resource = await bridge.resource(call_id)
        assert (resource["status"], resource["outcome"]) == ("completed", "completed")
    await asyncio.sleep(6)  # longer than the deletion of a room waits
    assert not await room_exists(private_livekit.server, agent.room)
    # And the daemon is at its ease: the next call goes as the first.
    leg, other = await inbound(private_desk, bridge.sip_uri, carrier)
    await leg.run("hangup")
    await other.event("call_ended")


async def phones(desk: Desk, room: str) -> list[str]:
    """Return the identities of the participants whose track is published in *room*."""
    async with room_service(desk.server) as service:
        if not (await service.room.list_rooms(api.ListRoomsRequest(names=[room]))).rooms:
            return []
        found = await service.room.list_participants(api.ListParticipantsRequest(room=room))
    return [one.identity for one in found.participants if one.tracks]


async def test_a_ringing_call_in_outlives_its_server_and_is_answered(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    number = agent_number()
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    ringing = asyncio.create_task(leg.run(f"talk; expect audio {AGENT_HERTZ} within 20s"))

    async def there() -> bool:
        return bool(await phones(private_desk, room_of(number)))

    await until(there, "the phone is in its room")
    async with gone(private_livekit):
        agent = private_desk.waiting_agent(room_of(number))
        joining = asyncio.create_task(agent.join(when_up=True))
    await joining
    await ringing
    fine(leg)
    await agent.event("call_answered")
    await agent.hears(CALLER_HERTZ)
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")
    assert names(agent)[-2:] == ["call_answered", "call_ended"]


async def test_a_call_out_is_answered_while_the_server_is_away(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    call = await bridge.dial("+919000000031")
    leg = await carrier.incoming()
    agent = private_desk.waiting_agent(call.accepted["room_name"])
    async with gone(private_livekit):
        joining = asyncio.create_task(agent.join(when_up=True))
        await leg.run("answer; talk")
        fine(leg)
        await bridge.seen(call.id, "call_answered")
    await joining
    await agent.event("call_answered", within=SOON)
    await agent.hears(CALLER_HERTZ, within=SOON)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert names(agent).count("call_answered") == 1

    async def deleted() -> bool:
        return not await room_exists(private_livekit.server, agent.room)

    await until(deleted, "the room that the bridge had made is deleted")


async def test_a_room_that_stays_away_for_thirty_seconds_drops_the_call(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    private_livekit.kill()
    killed_at = time.monotonic()
    await agent.leave()
    await leg.run("wait 27s; expect hangup within 15s")
    fine(leg)
    assert 29.5 < time.monotonic() - killed_at < 40
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"], ended["ended_by"]) == (
        "dropped",
        "room_lost",
        "bridge",
    )
    bridge.signal(signal.SIGTERM)
    assert await bridge.exited(within=12) == 0, "nothing waits for the server any more"


async def test_a_room_back_after_twenty_five_seconds_keeps_the_call(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    async with gone(private_livekit, 25):
        other, joining = await successor(private_desk, agent)
    await joining
    await other.hears(CALLER_HERTZ, within=SOON)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; wait 6s; options; hangup")
    fine(leg)


# --- a server that stands still ----------------------------------------------------------


async def test_a_server_that_stands_still_for_seconds_loses_no_event(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier)
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    private_livekit.pause()
    await leg.run("wait 2s; hold sendonly; wait 2s; resume; wait 1s")
    fine(leg)
    private_livekit.go_on()
    await agent.event("call_resume", within=20)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert seqs(agent) == [1, 2, 3, 4, 5]
    assert not agent.saw("left"), "nobody left"


# --- the agent that was dispatched -------------------------------------------------------


def named_route(number: str) -> list[dict[str, Any]]:
    """Return routes that send *number* to a named agent, answered at once."""
    return [{"number": number, "room": "in-{number}", "answer": "now", "agent": "helper"}]


async def dispatches(desk: Desk, room: str) -> int:
    """Return how many dispatches of the named agent the server knows in *room*."""
    async with room_service(desk.server) as service:
        if not (await service.room.list_rooms(api.ListRoomsRequest(names=[room]))).rooms:
            return 0
        found = await service.agent_dispatch.list_dispatch(room)
    return sum(one.agent_name == "helper" for one in found)


async def test_an_agent_that_does_not_come_back_is_dispatched_again(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    number = now_number()
    bridge = await private_desk.bridge(carrier, routes=named_route(number))
    room = room_of(number)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run("talk; wait 200ms")
    agent = await private_desk.agent(room, kind="agent")
    await agent.hears(CALLER_HERTZ)
    assert await dispatches(private_desk, room) == 1
    async with gone(private_livekit):
        await agent.leave()

    async def back() -> bool:
        return await dispatches(private_desk, room) == 1

    await until(back, "the agent is asked again", SOON)
    other = await private_desk.agent(room, "other", kind="agent")
    await other.hears(CALLER_HERTZ)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; wait 10s; options; hangup")
    fine(leg)


async def test_an_agent_that_comes_back_by_itself_is_not_dispatched_again(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    number = now_number()
    bridge = await private_desk.bridge(carrier, routes=named_route(number))
    room = room_of(number)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run("talk; wait 200ms")
    agent = await private_desk.agent(room, kind="agent")
    await agent.hears(CALLER_HERTZ)
    async with gone(private_livekit):
        await agent.leave()
        other = private_desk.waiting_agent(room, "agent")
        joining = asyncio.create_task(other.join(when_up=True, kind="agent"))
    await joining
    await other.hears(CALLER_HERTZ, within=SOON)
    await leg.run("wait 4s; options")
    fine(leg)
    assert await dispatches(private_desk, room) == 0
    await leg.run("hangup")
    fine(leg)


async def test_an_agent_that_never_comes_back_ends_the_call_from_the_rejoin_on(
    private_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await private_desk.carrier()
    bridge = await private_desk.bridge(carrier, trunk={"agent_gone_timeout": 4})
    leg, agent = await inbound(private_desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    async with gone(private_livekit, 6):
        await agent.leave()
        await leg.run("wait 5s; options")
        fine(leg)
    back_at = time.monotonic()
    await leg.run("expect hangup within 20s")
    fine(leg)
    assert 3.5 < time.monotonic() - back_at < 15
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "agent_gone")
