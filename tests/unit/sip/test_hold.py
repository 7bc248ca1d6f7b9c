"""Hold and resume: re-INVITE and UPDATE in every dialect, both ways, on old and new flows."""

from __future__ import annotations

import pytest

from bridge.sip.events import SessionChanged
from sdp.model import Direction
from sdp.negotiated import Hold
from tests.unit.sip.link import Net, established

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_hold_and_a_resume_by_reinvite_are_answered_and_passed_up(transport: str) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session, _ = established(net, alice, bob, transport=transport)

    alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(1)
    assert bob.only(SessionChanged).negotiated.hold is Hold.SENDONLY
    assert b"a=recvonly" in net.sent(B, "200 INVITE")[-1].body

    alice.endpoint.reoffer(session, Direction.SENDRECV, net.now)
    net.run(1)
    assert [e.negotiated.hold for e in bob.of(SessionChanged)] == [Hold.SENDONLY, None]
    assert net.labels(A) == ["INVITE", "ACK"] * 3
