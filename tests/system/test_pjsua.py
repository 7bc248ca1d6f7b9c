"""Calls with PJSIP, which has all of it: SRTP, session timers, UPDATE, PRACK, transfers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trustme

from tests.authority import Authority
from tests.ports import free_port
from tests.system.calls import fine
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)
from tests.system.pjsua import Pjsua
from tests.system.test_tls_calls import settings

pytestmark = pytest.mark.system

NUMBER = "+919000000071"
TO = "+918045678900"


async def pjsua(desk: Desk, **options: object) -> Pjsua:
    """Return a PJSIP that is ended with the test."""
    folder = desk.folder / f"pjsua-{free_port()}"
    peer = Pjsua(folder=folder, number=NUMBER, **options)  # type: ignore[arg-type]
    desk._stack.push_async_callback(peer.stop)
    await peer.start()
    return peer


async def called(desk: Desk, peer: Pjsua, bridge: Bridge, port: int = 0) -> RoomAgent:
    """PJSIP calls us, by default at our port; both hear each other."""
    number = agent_number()
    agent = await desk.agent(room_of(number), kind="agent")
    at = f"127.0.0.1:{port or bridge.sip_port};transport={peer.transport}"
    await peer.dial(f"sip:{number}@{at}")
    await heard_both_ways(peer, agent)
    return agent


async def calling(desk: Desk, peer: Pjsua, bridge: Bridge) -> RoomAgent:
    """We call PJSIP, which rings and answers; both hear each other."""
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    await bridge.dial(NUMBER, room=room)
    await peer.event("incoming")
    await agent.event("call_ringing")
    await peer.do("answer")
    await heard_both_ways(peer, agent)
    return agent


async def heard_both_ways(peer: Pjsua, agent: RoomAgent) -> None:
    await peer.talking()
    await agent.hears(CALLER_HERTZ)
    await peer.hears(AGENT_HERTZ)


async def held_and_keyed(peer: Pjsua, agent: RoomAgent) -> None:
    """Holds of both sides, then keys of both, by RTP and by INFO."""
    await peer.do("hold")
    assert (await agent.event("call_hold"))["direction"] in ("sendonly", "inactive")
    await agent.is_muted(True)
    since = time.monotonic()
    await peer.do("resume")
    await agent.event("call_resume")
    await agent.hears(CALLER_HERTZ, since=since)
    assert await agent.rpc("bridge.Hold") == "{}"
    await peer.event("media", state="remote hold")
    since = time.monotonic()
    assert await agent.rpc("bridge.Resume") == "{}"
    await agent.hears(CALLER_HERTZ, since=since)
    await peer.hears(AGENT_HERTZ)

    await peer.do("keys", digits="5")
    await agent.until(lambda: [k["digit"] for k in agent.saw("dtmf")] == ["5"], "a key by RTP")
    await peer.do("keys", digits="6", info=True)
    await agent.until(lambda: [k["digit"] for k in agent.saw("dtmf")] == ["5", "6"], "by INFO")
    await agent.press("7")
    await peer.event("key", digit="7")


async def all_of_it(peer: Pjsua, agent: RoomAgent, interval: int) -> dict[str, object]:
    """Walk a call of a PJSIP that insists on everything to its end; return that."""
    await peer.do("update")
    await held_and_keyed(peer, agent)
    assert "RTP/SAVP" in peer.log
    assert "\nRAck: " in peer.log
    # The interval is the caller's; RFC 4028 9: the callee may lower it, and neither does.
    assert f"\nSession-Expires: {interval};refresher=" in peer.log
    await peer.do("hangup")
    ended = await agent.event("call_ended")
    assert peer.faults() == []
    return ended


async def test_pjsip_calls_over_tls_with_srtp_timer_and_100rel_mandatory(
    desk: Desk, tmp_path: Path
) -> None:
    """Rows 18, 54, 55, 64, 68, 86. All that PJSIP can insist on, in one call in."""
    authority, port = Authority(trustme.CA(), tmp_path), free_port()
    peer = await pjsua(
        desk,
        transport="tls",
        tls=authority.issue("pjsip.example"),
        srtp=True,
        timer=90,
        reliable=True,
    )
    sections = settings(authority, tmp_path, port)
    bridge = await desk.bridge(peer.port, trunk={"srtp": "required"}, sections=sections)
    agent = await called(desk, peer, bridge, port)
    ended = await all_of_it(peer, agent, 90)
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_pjsip_is_called_over_udp_with_srtp_timer_and_100rel_mandatory(desk: Desk) -> None:
    """Rows 54, 55, 64, 68, 86. All that PJSIP can insist on, in one call out."""
    peer = await pjsua(desk, transport="udp", srtp=True, timer=90, reliable=True)
    bridge = await desk.bridge(peer.port, trunk={"srtp": "required", "transport": "udp"})
    agent = await calling(desk, peer, bridge)
    ended = await all_of_it(peer, agent, 1800)
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "callee")


async def test_pjsip_calls_whom_it_is_referred_to(desk: Desk) -> None:
    """Row 96. Blind transfer out: 202, NOTIFY 100 to 200, and the third party answers."""
    other = await desk.carrier()
    peer = await pjsua(desk)
    bridge = await desk.bridge(peer.port, trunk={"transfer_allow": ["sip:*@127.0.0.1:*"]})
    agent = await called(desk, peer, bridge)
    target = f"sip:desk@127.0.0.1:{other.port};transport=tcp"
    assert await agent.rpc("bridge.Transfer", f'{{"to":"{target}"}}') == "{}"
    leg = await other.incoming(20)
    await leg.run("ring; answer; talk; expect rtp within 20s")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["reason"]) == ("completed", "transferred")
    assert agent.named("call_transfer")[-1]["status"] == 200
    await leg.run("hangup")
    assert peer.faults() == []


async def test_pjsip_refers_us_and_hears_how_it_went(desk: Desk) -> None:
    """Row 95. Blind transfer in, by policy: the target comes into the room."""
    carrier = await desk.carrier()
    peer = await pjsua(desk)
    trunk = {"refer_in": True, "transfer_allow": ["+9180*"]}
    bridge = await desk.bridge(carrier, trunk=trunk)
    agent = await called(desk, peer, bridge)
    first = str((await agent.phone())["attributes"]["sip.callID"])
    await peer.do("hold")
    await agent.event("call_hold")
    await peer.do("refer", to=bridge.sip_uri(TO))
    other = await carrier.incoming(20)
    await other.run(f"ring; answer; talk; expect audio {AGENT_HERTZ} within 20s")
    fine(other)
    await peer.event("transfer", status=200, final=True)
    await peer.do("hangup")
    ended = await bridge.ended(first)
    assert (ended["outcome"], ended["reason"]) == ("completed", "transferred")
    await other.run("hangup")
    assert peer.faults() == []
