"""Two endpoints make, answer and end calls over a virtual network."""

from __future__ import annotations

import pytest

from bridge.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Progressed,
)
from tests.unit.sip.link import Net, established, media

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_call_is_made_answered_and_ended_by_the_caller(transport: str) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session, _ = established(net, alice, bob, transport=transport)

    assert [type(e) for e in alice.events] == [Progressed, Answered]
    assert [type(e) for e in bob.events] == [IncomingInvite, Confirmed]
    assert alice.only(Answered).negotiated.codec == "PCMA"
    assert bob.only(Confirmed).negotiated.remote_address == A

    alice.endpoint.bye(session, net.now)
    net.run(1)
    assert bob.only(Ended).cause is EndCause.BYE
    assert alice.of(Ended) == []
    assert net.labels(A) == ["INVITE", "ACK", "BYE"]
    assert net.labels(B) == ["100 INVITE", "180 INVITE", "200 INVITE", "200 BYE"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_callee_ends_the_call(transport: str) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    _, theirs = established(net, alice, bob, transport=transport)
    bob.endpoint.bye(theirs, net.now, [("Reason", 'Q.850;cause=16;text="done"')])
    net.run(1)
    ended = alice.only(Ended)
    assert (ended.cause, ended.q850) == (EndCause.BYE, 16)
    assert net.labels(A)[-1] == "200 BYE"


def test_a_refused_call_fails_with_status_cause_and_phrase() -> None:
    """Row 45. RFC 6432: Reason in a response."""
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    alice.dial(B)
    net.settle()
    incoming = bob.only(IncomingInvite)
    bob.endpoint.adopt(incoming.session, media(B), "carrier", net.now)
    bob.endpoint.ring(incoming.session, net.now)
    bob.endpoint.reject(incoming.session, 486, net.now, [("Reason", "Q.850;cause=17")])
    net.settle()
    failed = alice.only(Failed)
    assert failed.cause is FailureCause.REFUSED
    assert (failed.status, failed.phrase, failed.q850) == (486, "Busy Here", 17)
    assert failed.rang
    assert net.labels(A) == ["INVITE", "ACK"]


def test_a_call_given_up_while_it_rings_is_cancelled_on_both_sides() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session = alice.dial(B)
    net.settle()
    bob.endpoint.ring(bob.only(IncomingInvite).session, net.now)
    net.settle()
    alice.endpoint.cancel(session, net.now)
    net.settle()
    assert isinstance(bob.events[-1], Cancelled)
    failed = alice.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.CANCELLED, 487)
    assert net.labels(A) == ["INVITE", "CANCEL", "ACK"]
