"""Digest on the wire: SIPp and the built-in carrier challenge, and check by their own sums.

SIPp knows MD5 alone; the carrier knows every algorithm, counts nc and compares opaques.
"""

from __future__ import annotations

from typing import Any

import pytest

from bridge.carrier.call import Leg
from tests.ports import free_port
from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, Bridge, Desk, agent_number, room_of
from tests.system.test_sipp import listening

pytestmark = pytest.mark.system

USER, PASSWORD = "trunk-user", "open sesame"
ACCOUNT = {"username": USER, "password": PASSWORD}
CALLEE = "+919000000031"


def nothing_leaked(bridge: Bridge) -> None:
    """Fail when the password stands anywhere but in the configuration."""
    for file in bridge.folder.iterdir():
        if file.is_file() and file != bridge.config:
            assert PASSWORD.encode() not in file.read_bytes(), file.name


async def refused_call(bridge: Bridge, call: Any) -> dict[str, Any]:
    await bridge.ended(call.id)
    resource: dict[str, Any] = await call.status()
    return {key: resource[key] for key in ("outcome", "reason", "sip_status", "status")}


AUTH_FAILED = {"outcome": "failed", "reason": "auth", "status": "failed"}


# SIPp


@pytest.mark.parametrize("transport", ["t1", "u1"])
async def test_sipp_challenges_the_invite_the_hold_and_the_bye(desk: Desk, transport: str) -> None:
    """Rows 41, 42. By SIPp, from outside."""
    port = free_port()
    trunk = {**ACCOUNT, "transport": "tcp" if transport == "t1" else "udp"}
    bridge = await desk.bridge(port, trunk=trunk)
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    sipp = desk.sipp(
        "uas-digest",
        target=f"127.0.0.1:{bridge.sip_port}",
        port=port,
        transport=transport,
        arguments=("-rtp_echo",),
    )
    await sipp.start()
    if transport == "t1":
        await listening(port)
    call = await bridge.dial(CALLEE, room=room)
    await sipp.reached("talking")
    await agent.event("call_answered")
    assert await agent.rpc("bridge.Hold") == "{}"
    await sipp.reached("held")
    assert await agent.rpc("lk.sip.EndCall") == "{}"
    await sipp.passed()
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "agent")
    nothing_leaked(bridge)


async def test_sipp_refuses_the_credentials_and_the_call_fails_as_auth(desk: Desk) -> None:
    port = free_port()
    bridge = await desk.bridge(port, trunk=ACCOUNT)
    sipp = desk.sipp("uas-digest-refused", target=f"127.0.0.1:{bridge.sip_port}", port=port)
    await sipp.start()
    await listening(port)
    call = await bridge.dial(CALLEE)
    assert await refused_call(bridge, call) == {**AUTH_FAILED, "sip_status": 401}
    await sipp.passed()
    assert sipp.messages.count("INVITE sip:") == 3


async def test_sipp_notices_a_wrong_password(desk: Desk) -> None:
    """The scenario above can fail: its arithmetic is SIPp's, not ours."""
    port = free_port()
    bridge = await desk.bridge(port, trunk={**ACCOUNT, "password": "wrong"})
    sipp = desk.sipp("uas-digest", target=f"127.0.0.1:{bridge.sip_port}", port=port)
    await sipp.start()
    await listening(port)
    call = await bridge.dial(CALLEE)
    await bridge.ended(call.id)
    assert await sipp.ended() != 0
    assert (await call.status())["sip_status"] == 403


# The carrier


async def talking(desk: Desk, bridge: Bridge, leg: Leg, script: str) -> None:
    await leg.run(f"{script}; answer; expect rtp within 5s")
    fine(leg)


@pytest.mark.parametrize(
    ("challenge", "times"),
    [
        ("401", 1),
        ("407 md5-sess without qop", 1),
        ("401 md5 sha-256 with auth-int", 1),
        ("407 unknown sha-512-256-sess sha-256 md5 stale", 2),
        ("401 sha-256-sess two realms", 1),
    ],
)
async def test_every_kind_of_challenge_is_met_on_invite_and_bye(
    desk: Desk, challenge: str, times: int
) -> None:
    carrier = await desk.carrier(credentials=(USER, PASSWORD))
    bridge = await desk.bridge(carrier, trunk=ACCOUNT)
    call = await bridge.dial(CALLEE)
    leg = await carrier.incoming()
    await talking(desk, bridge, leg, f"challenge {challenge}")
    assert leg.report.challenges == times
    status, _, rest = challenge.partition(" ")
    await leg.run(f"challenge {status} bye {rest}")
    await call.hangup()
    # RFC 3326: the copy with credentials says why, as the first did.
    await leg.run("expect hangup within 5s cause 16; expect header Reason")
    fine(leg)
    assert leg.report.challenges == 2 * times
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "api_hangup")
    nothing_leaked(bridge)


async def test_a_hold_and_a_resume_of_ours_are_challenged_and_heard_through(desk: Desk) -> None:
    carrier = await desk.carrier(credentials=(USER, PASSWORD))
    bridge = await desk.bridge(carrier, trunk=ACCOUNT)
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    await bridge.dial(CALLEE, room=room)
    leg = await carrier.incoming()
    await leg.run(f"challenge 407 sha-256; answer; talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    await leg.run("challenge 407 reinvite sha-256 stale")
    assert await agent.rpc("bridge.Hold") == "{}"
    await leg.run("expect reinvite sendonly within 5s; expect version +1; expect quiet 1s")
    fine(leg)
    # Unasked this time: the nonce is known.
    assert await agent.rpc("bridge.Resume") == "{}"
    await leg.run(
        "expect reinvite sendrecv within 5s; expect header Proxy-Authorization; "
        f"expect audio {AGENT_HERTZ} within 5s"
    )
    fine(leg)
    assert leg.report.challenges == 3
    assert await agent.rpc("lk.sip.EndCall") == "{}"
    await leg.run("expect hangup within 5s; expect header Proxy-Authorization")
    fine(leg)
    await agent.event("call_ended")


async def test_a_call_that_came_in_is_ended_with_credentials_too(desk: Desk) -> None:
    carrier = await desk.carrier(credentials=(USER, PASSWORD))
    bridge = await desk.bridge(carrier, trunk=ACCOUNT)
    number = agent_number()
    agent = await desk.agent(room_of(number), kind="agent")
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s; challenge 401 bye sha-256")
    fine(leg)
    assert await agent.rpc("lk.sip.EndCall") == "{}"
    await leg.run("expect hangup within 5s; expect header Authorization")
    fine(leg)
    assert leg.report.challenges == 1


@pytest.mark.parametrize(
    ("trunk", "script", "status", "invites"),
    [
        ({**ACCOUNT, "password": "wrong"}, "challenge 401 until given up", 401, 3),
        (ACCOUNT, "challenge 407 unknown until given up", 407, 1),
        ({}, "challenge 407 until given up", 407, 1),
    ],
    ids=["wrong password", "unknown algorithm", "no account"],
)
async def test_what_cannot_be_met_fails_as_auth(
    desk: Desk, trunk: dict[str, str], script: str, status: int, invites: int
) -> None:
    carrier = await desk.carrier(credentials=(USER, PASSWORD))
    bridge = await desk.bridge(carrier, trunk=trunk)
    call = await bridge.dial(CALLEE)
    leg = await carrier.incoming()
    await leg.run(script)
    fine(leg)
    assert leg.report.challenges == invites
    assert await refused_call(bridge, call) == {**AUTH_FAILED, "sip_status": status}


async def test_a_call_given_up_while_its_challenge_is_answered_is_cancelled(desk: Desk) -> None:
    carrier = await desk.carrier(credentials=(USER, PASSWORD))
    bridge = await desk.bridge(carrier, trunk=ACCOUNT)
    call = await bridge.dial(CALLEE)
    leg = await carrier.incoming()
    await leg.run("challenge 401; ring")
    await call.hangup()
    await leg.run("expect hangup within 5s")
    fine(leg)
    assert leg.report.cancelled
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "api_hangup")
