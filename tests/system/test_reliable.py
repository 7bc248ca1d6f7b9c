"""Reliable provisional responses against SIPp, in both roles, over TCP and UDP."""

from __future__ import annotations

import pytest

from tests.ports import free_port
from tests.system.harness import Desk, agent_number, room_of
from tests.system.test_sipp import caller, listening

pytestmark = pytest.mark.system

CALLEE = "+919000000055"


@pytest.mark.parametrize("transport", ["t1", "u1"])
async def test_sipp_rings_reliably_and_requires_that_of_us(desk: Desk, transport: str) -> None:
    """Rows 55, 58. RFC 3262: PRACK from us for their 183 and 180, and theirs for our 180."""
    port = free_port()
    trunk = {"transport": "tcp" if transport == "t1" else "udp"}
    bridge = await desk.bridge(port, trunk=trunk)
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    target = f"127.0.0.1:{bridge.sip_port}"
    callee = desk.sipp("uas-reliable", target=target, port=port, transport=transport)
    await callee.start()
    if transport == "t1":
        await listening(port)
    call = await bridge.dial(CALLEE, room=room)
    await callee.reached("talking")
    answered = await agent.event("call_answered")
    assert answered["codec"] == "PCMA"
    await call.hangup()
    await callee.passed()

    number = agent_number()
    other = await desk.agent(room_of(number))
    sipp = caller(desk, "uac-reliable", bridge, number, transport=transport)
    await sipp.start()
    await sipp.reached("talking")
    assert (await other.event("call_answered"))["codec"] == "PCMA"
    await sipp.go_on()
    await sipp.passed()
    ended = await other.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
