"""Calls with baresip, a SIP stack that is neither ours nor SIPp's, both ways, TCP and UDP."""

from __future__ import annotations

import time

import pytest

from tests.system.baresip import Baresip
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)

pytestmark = pytest.mark.system

TRANSPORTS = ["tcp", "udp"]
NUMBER = "+919000000031"


async def baresip(desk: Desk, transport: str = "tcp", answer: str = "auto") -> Baresip:
    """Return a baresip that is ended with the test."""
    peer = Baresip(
        folder=desk.folder / "baresip", number=NUMBER, transport=transport, answer=answer
    )
    desk._stack.push_async_callback(peer.stop)
    await peer.start()
    return peer


async def called(desk: Desk, peer: Baresip, transport: str) -> tuple[Bridge, RoomAgent]:
    """baresip calls us, the agent answers; both hear each other."""
    bridge = await desk.bridge(peer.port, trunk={"transport": transport})
    number = agent_number()
    agent = await desk.agent(room_of(number), kind="agent")
    await peer.command("dial", bridge.sip_uri(number, transport))
    await peer.event("CALL_ESTABLISHED")
    await agent.hears(CALLER_HERTZ)
    return bridge, agent


async def calling(desk: Desk, peer: Baresip, transport: str) -> tuple[Bridge, RoomAgent]:
    """We call baresip, which answers by itself."""
    bridge = await desk.bridge(peer.port, trunk={"transport": transport})
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    await bridge.dial(NUMBER, room=room)
    await peer.event("CALL_ESTABLISHED")
    await agent.hears(CALLER_HERTZ)
    return bridge, agent


async def call_id(agent: RoomAgent) -> str:
    return str((await agent.phone())["attributes"]["sip.callID"])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_a_call_is_heard_held_resumed_and_keyed(
    desk: Desk, transport: str, direction: str
) -> None:
    peer = await baresip(desk, transport)
    begin = called if direction == "inbound" else calling
    _, agent = await begin(desk, peer, transport)
    await peer.hears(AGENT_HERTZ)

    await peer.command("hold")
    assert (await agent.event("call_hold"))["direction"] == "sendonly"
    await agent.is_muted(True)
    resumed_at = time.monotonic()
    await peer.command("resume")
    await agent.event("call_resume")
    await agent.hears(CALLER_HERTZ, since=resumed_at)
    # What it hears from here on baresip 1.0.0 does not write down; keys show that it hears us.
    await peer.command("sndcode", "5")
    await agent.until(lambda: [k["digit"] for k in agent.saw("dtmf")] == ["5"], "a key")
    await agent.press("7")
    await peer.event("CALL_DTMF_START")
    assert peer.keys() == "7"
    assert [event["event"] for event in agent.events if event["event"] != "call_ringing"] == [
        "call_answered",
        "call_hold",
        "call_resume",
        "call_dtmf",
    ]

    await peer.command("hangup")
    ended = await agent.event("call_ended")
    far = "caller" if direction == "inbound" else "callee"
    assert (ended["outcome"], ended["ended_by"]) == ("completed", far)
    assert peer.heard(CALLER_HERTZ) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_we_hang_up_and_it_hears_so(desk: Desk, transport: str) -> None:
    peer = await baresip(desk, transport)
    _, agent = await called(desk, peer, transport)
    await agent.rpc("lk.sip.EndCall", "{}")
    await peer.event("CALL_CLOSED")
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "agent")


async def test_a_call_of_ours_is_hung_up_by_the_api(desk: Desk) -> None:
    peer = await baresip(desk)
    bridge, agent = await calling(desk, peer, "tcp")
    await bridge.client.call(await call_id(agent)).hangup()
    await peer.event("CALL_CLOSED")
    assert (await agent.event("call_ended"))["ended_by"] == "api"


async def test_our_own_hold_is_understood(desk: Desk) -> None:
    peer = await baresip(desk)
    _, agent = await called(desk, peer, "tcp")
    assert await agent.rpc("bridge.Hold") == "{}"
    await peer.event("CALL_REMOTE_SDP", 2)
    held_at = time.monotonic()
    assert await agent.rpc("bridge.Resume") == "{}"
    await agent.hears(CALLER_HERTZ, since=held_at)
    await peer.command("hangup")
    await agent.event("call_ended")


async def test_a_transfer_is_refused_upon_which_it_hangs_up(desk: Desk) -> None:
    peer = await baresip(desk)
    _, agent = await called(desk, peer, "tcp")
    await peer.command("transfer", "sip:somebody@127.0.0.1:9")
    refused = await peer.event("TRANSFER_FAILED")
    assert "603" in str(refused.get("param")), refused
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_gives_up_before_the_answer(desk: Desk, transport: str) -> None:
    peer = await baresip(desk, transport)
    bridge = await desk.bridge(peer.port, trunk={"transport": transport})
    number = agent_number()
    agent = await desk.agent(room_of(number), hertz=None)
    await peer.command("dial", bridge.sip_uri(number, transport))
    await peer.event("CALL_RINGING")
    await agent.event("call_ringing")
    await peer.command("hangup")
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("cancelled", "caller")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_is_busy(desk: Desk, transport: str) -> None:
    peer = await baresip(desk, transport, "manual")
    bridge = await desk.bridge(peer.port, trunk={"transport": transport})
    call = await bridge.dial(NUMBER)
    await peer.event("CALL_INCOMING")
    await bridge.seen(call.id, "call_ringing")
    await peer.command("hangup")
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["sip_status"]) == ("busy", 486)


async def test_we_give_up_while_it_rings(desk: Desk) -> None:
    peer = await baresip(desk, answer="manual")
    bridge = await desk.bridge(peer.port)
    call = await bridge.dial(NUMBER)
    await peer.event("CALL_INCOMING")
    await bridge.seen(call.id, "call_ringing")
    await call.hangup()
    await peer.event("CALL_CLOSED")
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["ended_by"]) == ("cancelled", "api")


async def test_a_number_it_does_not_have_is_invalid(desk: Desk) -> None:
    peer = await baresip(desk)
    bridge = await desk.bridge(peer.port)
    call = await bridge.dial("+919000000032")
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["sip_status"]) == ("unreachable", 404)
