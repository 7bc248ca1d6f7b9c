"""CANCEL, early BYE, and what crosses them."""

from __future__ import annotations

import pytest

from bridge.sip.events import (
    Cancelled,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Progressed,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Headers, Request
from tests.unit.sip.link import Agent, Net, Peer, media, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"


def dialled(net: Net, transport: str = "tcp") -> tuple[Agent, Peer, SessionId, Request, Flow]:
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, transport=transport)
    net.settle()
    return agent, peer, session, peer.request("INVITE"), peer.arrivals[-1][1]


def cancel_of(invite: Request, **changed: str) -> Request:
    fields = Headers(
        [
            ("Via", changed.get("via") or invite.headers.all("Via")[0]),
            ("Max-Forwards", "70"),
            ("From", invite.headers.get("From") or ""),
            ("To", invite.headers.get("To") or ""),
            ("Call-ID", invite.call_id),
            ("CSeq", f"{invite.cseq.number} CANCEL"),
            ("Reason", "SIP;cause=200, Q.850;cause=26"),
        ]
    )
    return Request("CANCEL", invite.uri, fields)


def test_a_cancel_waits_for_the_first_provisional_response() -> None:
    """Row 31. RFC 3261 9.1."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    agent.endpoint.cancel(session, net.now, [("Reason", "SIP;cause=487")])
    net.run(3)
    assert peer.requests("CANCEL") == []
    peer.reply(invite, 100, flow, tag=None)
    cancel = peer.request("CANCEL")
    assert cancel.uri == invite.uri
    assert cancel.headers.all("Via") == invite.headers.all("Via")
    assert cancel.headers.get("To") == invite.headers.get("To")
    assert str(cancel.cseq) == "1 CANCEL"
    assert cancel.headers.get("Reason") == "SIP;cause=487"
    peer.reply(cancel, 200, flow)
    peer.reply(invite, 487, flow)
    failed = agent.only(Failed)
    assert (failed.cause, failed.status, failed.rang) == (FailureCause.CANCELLED, 487, False)
    assert peer.request("ACK").top_via.branch == invite.top_via.branch


def test_an_unanswered_invite_given_up_fails_as_cancelled_after_timer_b() -> None:
    net = Net()
    agent, peer, session, _, _ = dialled(net)
    agent.endpoint.cancel(session, net.now)
    net.run(40)
    assert agent.only(Failed).cause is FailureCause.CANCELLED
    assert peer.requests("CANCEL") == []


def test_a_cancel_without_any_final_response_is_over_after_64_t1() -> None:
    """Row 31. RFC 3261 9.1: the guard of 64*T1."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    agent.endpoint.cancel(session, net.now)
    net.settle()
    peer.reply(peer.request("CANCEL"), 200, flow)
    net.run(31)
    assert agent.of(Failed) == []
    net.run(2)
    failed = agent.only(Failed)
    assert (failed.cause, failed.status, failed.rang) == (FailureCause.CANCELLED, None, True)
    assert agent.endpoint.layer.clients == {}


def test_a_2xx_that_crosses_the_cancel_is_acknowledged_and_ended_at_once() -> None:
    """Row 32. RFC 3261 9.1, 15."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    agent.endpoint.cancel(session, net.now)
    peer.reply(invite, 200, flow, body=sdp(P))
    assert [m.method for m in peer.received if isinstance(m, Request)] == [
        "INVITE",
        "CANCEL",
        "ACK",
        "BYE",
    ]
    failed = agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.CANCELLED, 200)
    peer.reply(peer.request("BYE"), 200, flow)
    assert agent.endpoint.core.sessions == {}


def test_18x_after_the_cancel_are_not_passed_up() -> None:
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    agent.endpoint.cancel(session, net.now)
    peer.reply(invite, 183, flow, body=sdp(P))
    assert [e.status for e in agent.of(Progressed)] == [180]


def test_a_call_cancelled_before_it_could_connect_sends_nothing() -> None:
    net = Net()
    agent = net.agent(A)
    agent.run = lambda: None  # type: ignore[method-assign]
    session = agent.dial(P)
    agent.endpoint.cancel(session, net.now)
    del agent.run
    agent.run()
    assert agent.only(Failed).cause is FailureCause.CANCELLED
    assert net.wires == []


def ringing(net: Net) -> tuple[Agent, Peer, Flow, Request, IncomingInvite]:
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    incoming = agent.only(IncomingInvite)
    agent.endpoint.adopt(incoming.session, media(A), "carrier", net.now)
    agent.endpoint.ring(incoming.session, net.now)
    net.settle()
    return agent, peer, flow, invite, incoming


@pytest.mark.parametrize("fresh", [False, True], ids=["same flow", "new flow"])
def test_an_incoming_cancel_ends_the_call_with_487(fresh: bool) -> None:
    """Row 33. RFC 3261 9.2."""
    net = Net()
    agent, peer, flow, invite, incoming = ringing(net)
    peer.say(cancel_of(invite), peer.fresh_flow(agent) if fresh else flow)
    assert peer.statuses("CANCEL") == [200]
    assert peer.statuses("INVITE") == [100, 180, 487]
    assert peer.response("CANCEL").to.tag == peer.response("INVITE").to.tag
    assert agent.only(Cancelled).q850 == 26
    assert agent.endpoint.core.sessions == {}
    agent.endpoint.answer(incoming.session, net.now)
    agent.endpoint.ring(incoming.session, net.now)
    net.settle()
    assert peer.statuses("INVITE") == [100, 180, 487]
    # Once more: the transaction is still known, and nothing else happens.
    peer.say(cancel_of(invite), flow)
    assert peer.statuses("CANCEL") == [200, 200]
    assert len(agent.of(Cancelled)) == 1


def test_a_cancel_after_our_200_is_answered_and_has_no_effect() -> None:
    """Row 33. RFC 3261 9.2."""
    net = Net()
    agent, peer, flow, invite, incoming = ringing(net)
    agent.endpoint.answer(incoming.session, net.now)
    net.settle()
    peer.say(cancel_of(invite), flow)
    assert peer.statuses("CANCEL") == [200]
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    assert agent.of(Cancelled) == []
    assert agent.endpoint.occupied == 1


def test_a_cancel_for_nothing_is_answered_481() -> None:
    """Row 33. Threat 5.1: Spoofed in-dialog requests. RFC 3261 9.2."""
    net = Net()
    agent, peer, flow, invite, _ = ringing(net)
    peer.say(cancel_of(invite, via=peer.new_via(flow)), flow)
    assert peer.statuses("CANCEL") == [481]
    assert agent.of(Cancelled) == []


def test_a_cancel_from_a_stranger_is_ignored() -> None:
    """Threat 5.1: Spoofed in-dialog requests."""
    net = Net()
    agent, _, _, invite, _ = ringing(net)
    stranger = net.peer("203.0.113.66")
    agent.trunks = agent.new_call_trunks = frozenset()
    stranger.say(cancel_of(invite), stranger.flow_to(agent))
    assert stranger.received == []
    assert agent.of(Cancelled) == []


def test_an_early_bye_of_the_caller_is_answered_and_the_invite_gets_487() -> None:
    """Row 34. RFC 3261 15.1.2."""
    net = Net()
    agent, peer, flow, _, _ = ringing(net)
    early = peer.response("INVITE", 180)
    peer.say(peer.in_dialog("BYE", early, flow, cseq=2), flow)
    assert peer.statuses("BYE") == [200]
    assert peer.statuses("INVITE") == [100, 180, 487]
    assert agent.of(Cancelled)


def test_a_bye_between_our_200_and_its_ack_ends_the_call() -> None:
    """Row 34. RFC 3261 15."""
    net = Net()
    agent, peer, flow, _, incoming = ringing(net)
    agent.endpoint.answer(incoming.session, net.now)
    net.settle()
    peer.say(peer.in_dialog("BYE", peer.response("INVITE", 200), flow, cseq=2), flow)
    assert peer.statuses("BYE") == [200]
    assert agent.only(Ended).cause is EndCause.BYE
    before = len(peer.statuses("INVITE"))
    net.run(10)
    assert len(peer.statuses("INVITE")) == before


def test_an_early_bye_of_the_callee_ends_only_its_early_dialog() -> None:
    """Row 34. RFC 3261 15: of one fork, not of the call."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=1), flow)
    assert peer.statuses("BYE") == [200]
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=2), flow)
    assert peer.statuses("BYE") == [200, 481]
    peer.reply(invite, 486, flow)
    assert agent.only(Failed).status == 486


def test_our_bye_before_their_ack_waits_for_it() -> None:
    net = Net()
    agent, peer, flow, _, incoming = ringing(net)
    agent.endpoint.answer(incoming.session, net.now)
    net.settle()
    agent.endpoint.bye(incoming.session, net.now, [("Reason", "Q.850;cause=16")])
    net.settle()
    assert peer.requests("BYE") == []
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    assert peer.request("BYE").headers.get("Reason") == "Q.850;cause=16"
    assert [type(e) for e in agent.events] == [IncomingInvite]


def test_our_bye_without_their_ack_goes_out_after_64_t1() -> None:
    net = Net()
    agent, peer, _, _, incoming = ringing(net)
    agent.endpoint.answer(incoming.session, net.now)
    agent.endpoint.bye(incoming.session, net.now)
    net.run(31)
    assert peer.requests("BYE") == []
    net.run(2)
    assert peer.requests("BYE")
    assert [type(e) for e in agent.events] == [IncomingInvite]


def test_a_200_that_is_never_acknowledged_ends_with_no_ack() -> None:
    """Row 20. R1 7.1.11. RFC 3261 13.3.1.4: again from T1 to T2, on TCP too; BYE after 64*T1."""
    net = Net()
    agent, peer, _, _, incoming = ringing(net)
    agent.endpoint.answer(incoming.session, net.now)
    net.run(33)
    assert agent.only(Ended).cause is EndCause.NO_ACK
    (bye,) = peer.requests("BYE")
    assert bye.headers.get("Reason") == 'SIP;cause=408;text="Request Timeout"'
    assert peer.statuses("INVITE").count(200) == 11


def test_bye_before_our_answer_rejects_an_incoming_call_and_cancels_one_of_ours() -> None:
    net = Net()
    agent, peer, _, _, incoming = ringing(net)
    agent.endpoint.bye(incoming.session, net.now)
    net.settle()
    assert peer.statuses("INVITE")[-1] == 480

    session = agent.dial(P)
    net.settle()
    peer.reply(peer.request("INVITE"), 180, peer.arrivals[-1][1])
    agent.endpoint.bye(session, net.now)
    net.settle()
    assert peer.requests("CANCEL")
