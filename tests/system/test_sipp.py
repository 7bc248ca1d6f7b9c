"""SIPp, unmodified, as the carrier: calls with media both ways, and everything that fails."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.ports import free_port
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    Sipp,
    agent_number,
    now_number,
    room_of,
    until,
)

pytestmark = pytest.mark.system

CALLER = "+919876543210"


def caller(desk: Desk, scenario: str, bridge: Bridge, number: str, **options: Any) -> Sipp:
    """Return a SIPp that calls *number* of the bridge."""
    return desk.sipp(
        scenario,
        target=f"127.0.0.1:{bridge.sip_port}",
        port=free_port(),
        keys={"number": number, "caller": CALLER},
        **options,
    )


async def hold_and_resume(sipp: Sipp, agent: RoomAgent) -> None:
    """Walk a talking scenario through its hold and its resume, watched by the agent."""
    await sipp.go_on()
    await sipp.reached("held")
    held = await agent.event("call_hold")
    assert held["direction"] == "sendonly"
    await agent.is_muted(True)
    await agent.attribute("bridge.hold", "true")
    await sipp.go_on()
    await sipp.reached("resumed")
    resumed = await agent.event("call_resume")
    assert resumed["held_ms"] >= 0
    await agent.is_muted(False)
    await agent.attribute("bridge.hold", "false")


def story(agent: RoomAgent) -> list[str]:
    """Return the names of the events, and make sure that their numbers have no gap."""
    assert [event["seq"] for event in agent.events] == list(range(1, len(agent.events) + 1))
    return [event["event"] for event in agent.events]


WHOLE_CALL = ["call_ringing", "call_answered", "call_hold", "call_resume", "call_ended"]


@pytest.mark.parametrize("transport", ["t1", "u1"])
async def test_sipp_calls_and_its_own_media_go_both_ways_through_hold_and_resume(
    desk: Desk, transport: str
) -> None:
    """SIPp sends back the RTP it gets: the agent hears itself from the other end of the call."""
    bridge = await desk.bridge()
    number = agent_number()
    agent = await desk.agent(room_of(number))
    sipp = caller(desk, "uac-hold", bridge, number, transport=transport, arguments=("-rtp_echo",))
    await sipp.start()
    await sipp.reached("talking")
    await agent.hears(AGENT_HERTZ)
    await hold_and_resume(sipp, agent)
    resumed = await agent.event("call_resume")
    await agent.hears(AGENT_HERTZ, since=resumed["received"])
    await sipp.go_on()
    await sipp.passed()
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
    assert story(agent) == WHOLE_CALL


async def test_sipp_calls_and_an_rtp_peer_at_its_port_talks_and_listens(desk: Desk) -> None:
    bridge = await desk.bridge()
    number = agent_number()
    agent = await desk.agent(room_of(number))
    peer = await desk.sip_peer()
    sipp = caller(desk, "uac-hold", bridge, number, rtp_port=peer.port)
    await sipp.start()
    await sipp.reached("talking")
    peer.play(media_port_of(sipp))
    await peer.hears(AGENT_HERTZ)
    await agent.hears(CALLER_HERTZ)
    await hold_and_resume(sipp, agent)
    resumed = await agent.event("call_resume")
    await peer.hears(AGENT_HERTZ)
    await agent.hears(CALLER_HERTZ, since=resumed["received"])
    await sipp.go_on()
    await sipp.passed()
    await agent.event("call_ended")
    assert story(agent) == WHOLE_CALL


def media_port_of(sipp: Sipp) -> int:
    """Return the port that the bridge advertised, read from SIPp's log."""
    received = sipp.messages.split("message received")
    lines = [line for part in received[1:] for line in part.splitlines() if "m=audio" in line]
    return int(lines[0].split()[1])


async def test_sipp_takes_a_call_holds_resumes_and_hangs_up(desk: Desk) -> None:
    port = free_port()
    bridge = await desk.bridge(port)
    room = desk.room()
    agent = await desk.agent(room)
    peer = await desk.sip_peer()
    sipp = desk.sipp(
        "uas-hold",
        target=f"127.0.0.1:{bridge.sip_port}",
        port=port,
        keys={"number": "+919000000001"},
        rtp_port=peer.port,
    )
    await sipp.start()
    await listening(port)
    call = await bridge.dial("+919000000001", room=room)
    await sipp.reached("talking")
    answered = await agent.event("call_answered")
    assert (answered["call_id"], answered["codec"]) == (call.id, "PCMA")
    peer.play(media_port_of(sipp))
    await peer.hears(AGENT_HERTZ)
    await agent.hears(CALLER_HERTZ)
    await hold_and_resume(sipp, agent)
    await agent.hears(CALLER_HERTZ, since=(await agent.event("call_resume"))["received"])
    await peer.hears(AGENT_HERTZ)
    await sipp.go_on()
    await sipp.passed()
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "callee")
    assert (await call.status())["status"] == "completed"
    await agent.event("call_ended")
    assert story(agent) == WHOLE_CALL


async def listening(port: int) -> None:
    """Wait until somebody listens on a TCP port of loopback."""

    def taken() -> bool:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return True
            return False

    await until(taken, f"somebody listens on {port}")


# --- refused on the way in ---------------------------------------------------------------


async def test_a_number_without_a_route_is_answered_404(desk: Desk) -> None:
    bridge = await desk.bridge(routes=[{"number": "+918012345678", "answer": "now"}])
    sipp = caller(desk, "uac-no-route", bridge, now_number())
    await sipp.start()
    await sipp.passed()


async def test_an_offer_without_a_common_codec_is_answered_488(desk: Desk) -> None:
    bridge = await desk.bridge()
    sipp = caller(desk, "uac-no-codec", bridge, now_number())
    await sipp.start()
    await sipp.passed()


async def test_a_request_of_an_unknown_dialog_is_answered_481(desk: Desk) -> None:
    bridge = await desk.bridge()
    sipp = caller(desk, "uac-unknown-dialog", bridge, now_number())
    await sipp.start()
    await sipp.passed()


async def test_a_caller_who_gives_up_is_answered_487(desk: Desk) -> None:
    """Row 33. By SIPp, from outside."""
    bridge = await desk.bridge()
    number = agent_number()
    agent = await desk.agent(room_of(number), hertz=None)
    sipp = caller(desk, "uac-cancel", bridge, number)
    await sipp.start()
    await sipp.reached("ringing")
    await agent.event("call_ringing")
    await sipp.go_on()
    await sipp.passed()
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("cancelled", "caller")
    assert story(agent) == ["call_ringing", "call_ended"]


ONLY_ONE = {"allow": ["127.0.0.1/32"], "host": "127.0.0.1"}


async def test_an_unknown_source_gets_nothing_over_udp(desk: Desk) -> None:
    bridge = await desk.bridge(trunk=ONLY_ONE)
    sipp = caller(desk, "uac-ignored", bridge, now_number(), transport="u1", host="127.0.0.2")
    await sipp.start()
    await sipp.ended()
    assert "message sent" in sipp.messages
    assert "message received" not in sipp.messages


async def test_an_unknown_source_is_hung_up_on_over_tcp_without_a_byte(desk: Desk) -> None:
    bridge = await desk.bridge(trunk=ONLY_ONE)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", bridge.sip_port, local_addr=("127.0.0.2", 0)
    )
    writer.write(b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n")
    try:
        received = await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        received = b""
    finally:
        writer.close()
    assert received == b""


async def test_sipp_from_an_unknown_source_gets_nothing_over_tcp(desk: Desk) -> None:
    bridge = await desk.bridge(trunk=ONLY_ONE)
    sipp = caller(desk, "uac-ignored", bridge, now_number(), host="127.0.0.2")
    await sipp.start()
    await sipp.ended()
    assert "message received" not in sipp.messages


# --- refused on the way out --------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "outcome", "reason", "sip_status"),
    [
        ("uas-busy", "busy", "busy", 486),
        ("uas-decline", "rejected", "declined", 603),
        ("uas-moved", "failed", "redirected", 302),
        ("uas-unknown", "unreachable", "invalid_number", 404),
    ],
)
async def test_a_call_that_is_refused_ends_with_its_outcome(
    desk: Desk, scenario: str, outcome: str, reason: str, sip_status: int
) -> None:
    """Rows 22, 40. By SIPp, from outside: a 302 is not followed."""
    port = free_port()
    bridge = await desk.bridge(port)
    sipp = desk.sipp(scenario, target=f"127.0.0.1:{bridge.sip_port}", port=port)
    await sipp.start()
    await listening(port)
    call = await bridge.dial("+919000000002")
    await bridge.ended(call.id)
    await sipp.passed()
    resource = await call.status()
    assert resource["outcome"] == outcome
    assert resource["reason"] == reason
    assert resource["sip_status"] == sip_status
    assert resource["status"] == "failed"
    assert resource["started_at"] is None
    assert [event["event"] for event in await bridge.events(call.id)] == ["call_ended"]


async def test_a_call_that_nobody_takes_is_cancelled_at_the_ring_timeout(desk: Desk) -> None:
    """Row 31. By SIPp, from outside."""
    port = free_port()
    bridge = await desk.bridge(port)
    sipp = desk.sipp("uas-no-answer", target=f"127.0.0.1:{bridge.sip_port}", port=port)
    await sipp.start()
    await listening(port)
    call = await bridge.dial("+919000000003", ring_timeout=2)
    await sipp.reached("ringing")
    await bridge.ended(call.id)
    await sipp.passed()
    resource = await call.status()
    assert (resource["outcome"], resource["reason"]) == ("no_answer", "ring_timeout")
    assert resource["ended_by"] == "timer"
    assert resource["status"] == "timeout"


async def test_a_number_that_nothing_listens_for_is_unreachable(desk: Desk) -> None:
    bridge = await desk.bridge(free_port())
    call = await bridge.dial("+919000000004")
    await bridge.ended(call.id, within=40)
    resource = await call.status()
    assert resource["outcome"] in ("unreachable", "failed")
    assert resource["status"] == "failed"
