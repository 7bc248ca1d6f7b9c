"""Session timers on the wire, against Debian's SIPp.

The daemon keeps to the 90 s that RFC 4028 has for a minimum; what takes longer than a test may
is shown with a user agent of the same make that was given a smaller one.
"""

from __future__ import annotations

import asyncio
import secrets

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.config.values import ListenAddress
from bridge.sip.endpoint import Endpoint, EndpointConfig, OutgoingInvite
from bridge.sip.events import Answered, EndCause, Ended, SipEvent
from bridge.trunk.admission import Admission
from bridge.ua.tap import Ladder
from bridge.ua.user_agent import UserAgent
from sdp.negotiate import LocalMedia, OfferAnswer
from tests.ports import free_port
from tests.system.harness import DEADLINE, Desk, now_number
from tests.system.test_sipp import listening

pytestmark = pytest.mark.system

HOST = "127.0.0.1"


@pytest.mark.parametrize("transport", ["t1", "u1"])
async def test_a_caller_negotiates_and_refreshes_a_session_timer(
    desk: Desk, transport: str
) -> None:
    """Row 64. 422 with our Min-SE, then the timer as it asks, UPDATE and re-INVITE answered."""
    bridge = await desk.bridge()
    sipp = desk.sipp(
        "uac-timer",
        target=f"{HOST}:{bridge.sip_port}",
        port=free_port(),
        keys={"number": now_number(), "caller": "+919876543210"},
        transport=transport,
    )
    await sipp.start()
    await sipp.passed()


async def test_we_refresh_by_update_and_end_what_is_not_known_any_more(desk: Desk) -> None:
    """Row 64. 422 to our INVITE, two UPDATEs half an interval apart, BYE after the 481."""
    port = free_port()
    sipp = desk.sipp("uas-timer", target=f"{HOST}:9", port=port)
    events: asyncio.Queue[SipEvent] = asyncio.Queue()
    agent = UserAgent(
        Endpoint(
            EndpointConfig(min_session_expires=2),
            tokens=lambda: secrets.token_hex(12),
            next_hop_allowed=lambda host, trunk: agent.next_hop_allowed(host, trunk),
        ),
        Admission([TrunkConfig(name="sipp", host=HOST, media_allow=["127.0.0.0/8"])]),
        listen=[ListenAddress.parse(f"tcp:{HOST}:0")],
        on_event=events.put_nowait,
        tap=Ladder(),
    )
    await sipp.start()
    await listening(port)
    await agent.start()
    try:
        agent.dial(invite(port))
        async with asyncio.timeout(DEADLINE):
            assert isinstance(await events.get(), Answered)
            await sipp.reached("refreshed")
            ended = await events.get()
        assert isinstance(ended, Ended)
        assert (ended.cause, ended.status) == (EndCause.SESSION_EXPIRED, 481)
        await sipp.passed()
    finally:
        await agent.stop()


async def test_the_carrier_raises_the_interval_and_its_refreshes_keep_a_hold(desk: Desk) -> None:
    """Rows 64, 65. Status 422. Refreshed while it holds, and told of the hold once."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    call = await bridge.dial("+919000000064")
    leg = await carrier.incoming()
    await leg.run(
        "expect header Session-Expires 1800; too-brief 2400; session-expires 2400 refresher uas; "
        "answer; expect rtp within 15s; refresh update; refresh; "
        "hold sendonly; refresh; expect answer recvonly; expect version same; refresh update; "
        "resume; refresh; expect rtp within 15s; hangup"
    )
    assert leg.report.failed is None
    await bridge.ended(call.id)
    names = [event["event"] for event in await bridge.events(call.id)]
    assert names == ["call_answered", "call_hold", "call_resume", "call_ended"]


def invite(port: int) -> OutgoingInvite:
    local = LocalMedia(address=HOST, port=20000, codecs=("PCMA",), session_id=1)
    return OutgoingInvite(
        trunk="sipp",
        next_hop=("tcp", HOST, port),
        request_uri=f"sip:callee@{HOST}:{port}",
        from_=f"<sip:caller@{HOST}>",
        to=f"<sip:callee@{HOST}:{port}>",
        offer_answer=OfferAnswer(local, destination_allowed=lambda _address, _port: True),
        session_timer=4,
    )
