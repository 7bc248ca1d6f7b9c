"""Calls with SDES SRTP, both ways: the built-in carrier, and baresip which insists on it."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.carrier.exchange import Behaviour
from tests.system.baresip import Baresip
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, agent_number, room_of

pytestmark = pytest.mark.system

NUMBER = "+919000000033"
STORY = (
    f"expect srtp {{suite}}; expect audio {AGENT_HERTZ} within 20s;"
    "hold sendonly 500ms; resume; expect srtp {suite} within 15s;"
    f"rekey; expect audio {AGENT_HERTZ} within 20s;"
    f"move; dtmf 12#; expect dtmf 7 within 60s; expect srtp {{suite}} within 15s"
)


async def test_protected_calls_are_heard_held_resumed_rekeyed_moved_and_keyed(desk: Desk) -> None:
    """Row 68. RFC 4568, RFC 3711: in and out, held, resumed, with new keys, from a new port."""
    carrier = await desk.carrier(behaviour=Behaviour(srtp="required", mki=True))
    bridge = await desk.bridge(carrier, trunk={"srtp": "required"})
    called, room = agent_number(), desk.room()
    there = await desk.agent(room_of(called))
    here = await desk.agent(room)

    leg = await carrier.dial(
        bridge.sip_uri(called),
        behaviour=Behaviour(srtp="required", suites=("AEAD_AES_256_GCM",)),
    )
    await bridge.dial(NUMBER, room=room)
    answered = await carrier.incoming(20)
    legs = (
        (leg, there, "talk;", "AEAD_AES_256_GCM"),
        (answered, here, "answer; talk;", "AES_CM_128_HMAC_SHA1_80"),
    )
    stories = [
        asyncio.create_task(one.run(begin + STORY.format(suite=suite)))
        for one, _, begin, suite in legs
    ]
    for _, agent, _, _ in legs:
        await agent.event("call_resume")
        await agent.hears(CALLER_HERTZ)
        keys = await agent.until(
            lambda agent=agent: found if len(found := agent.saw("dtmf")) >= 3 else None,
            "three keys",
        )
        assert [key["digit"] for key in keys] == ["1", "2", "#"]
        await agent.hears(CALLER_HERTZ, since=keys[-1]["at"])
        await agent.press("7")
    await asyncio.gather(*stories)
    for one, agent, _, suite in legs:
        assert one.report.failed is None
        await one.run("hangup")
        await agent.event("call_ended")
        report = one.media.report()
        assert (report.srtp, report.unauthentic, report.malformed) == (suite, 0, 0)
        assert report.ssrcs == 1


async def test_a_trunk_that_requires_it_refuses_a_plain_call_and_one_that_may_takes_both(
    desk: Desk,
) -> None:
    """Row 68. `optional` is RTP/AVP with keys: who has none still gets the call."""
    carrier = await desk.carrier()
    strict = await desk.bridge(carrier, trunk={"srtp": "required"})
    refused = await carrier.dial(strict.sip_uri(agent_number()))
    await refused.run("expect status 488 within 15s")
    assert refused.report.failed is None, refused.report.failed
    await refused.finish()
    call = await strict.dial(NUMBER, room=desk.room())
    answered = await carrier.incoming(20)
    await answered.run("answer; expect hangup within 15s")
    ended = await strict.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("failed", "media_incompatible")

    lenient = await desk.bridge(carrier, trunk={"srtp": "optional"})
    for policy in ("off", "optional", "required"):
        room = desk.room()
        agent = await desk.agent(room)
        await lenient.dial(NUMBER, room=room)
        leg = await carrier.incoming(20)
        leg.session.secure.policy = policy  # type: ignore[assignment]
        await leg.run(f"answer; talk; expect audio {AGENT_HERTZ} within 20s")
        await agent.hears(CALLER_HERTZ)
        await leg.run("hangup")
        assert leg.report.failed is None
        assert bool(leg.media.report().srtp) is (policy != "off")


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_baresip_that_insists_on_it_is_heard_held_resumed_and_keyed(
    desk: Desk, direction: str
) -> None:
    """Row 68. An SRTP that is not ours: RTP/SAVP and `a=crypto` of libre."""
    peer = Baresip(folder=desk.folder / "baresip", number=NUMBER, srtp="srtp-mand")
    desk._stack.push_async_callback(peer.stop)
    await peer.start()
    bridge = await desk.bridge(peer.port, trunk={"srtp": "required"})
    if direction == "inbound":
        number = agent_number()
        agent = await desk.agent(room_of(number), kind="agent")
        await peer.command("dial", bridge.sip_uri(number))
    else:
        room = desk.room()
        agent = await desk.agent(room, kind="agent")
        await bridge.dial(NUMBER, room=room)
    await peer.event("CALL_ESTABLISHED")
    await agent.hears(CALLER_HERTZ)
    await peer.hears(AGENT_HERTZ)
    await peer.command("hold")
    await agent.event("call_hold")
    resumed_at = time.monotonic()
    await peer.command("resume")
    await agent.event("call_resume")
    await agent.hears(CALLER_HERTZ, since=resumed_at)
    await peer.command("sndcode", "5")
    await agent.until(lambda: [key["digit"] for key in agent.saw("dtmf")] == ["5"], "a key")
    await agent.press("7")
    await peer.event("CALL_DTMF_START")
    await peer.command("hangup")
    assert (await agent.event("call_ended"))["outcome"] == "completed"
