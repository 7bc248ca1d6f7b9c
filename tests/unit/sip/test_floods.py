"""Floods of known sources: refused before anything is allocated, and said again when repeated."""

from __future__ import annotations

import pytest

from bridge.sip.events import IncomingInvite
from bridge.sip.flow import Flow
from bridge.sip.message import MAX_ELEMENTS, Request
from bridge.sip.parameters import EndpointConfig
from bridge.sip.rejections import LIFETIME, MOST, Rejections
from bridge.sip.screening import Refusal
from bridge.sip.uri import parse_uri
from tests.unit.sip.link import Net, Peer, sdp
from tests.unit.sip.test_session import A, P, lone, pair

pytestmark = pytest.mark.unit

BUSY = Refusal(503, (("Retry-After", "3"),))
NO_ROUTE = Refusal(404, remembered=True)


class Screen:
    """Refuses everything in one way, and remembers what it was asked."""

    def __init__(self, refusal: Refusal | None) -> None:
        self.refusal = refusal
        self.asked: list[Request] = []

    def __call__(self, request: Request, _flow: Flow, _now: float) -> Refusal | None:
        self.asked.append(request)
        return self.refusal


def allocated(agent: object) -> int:
    endpoint = agent.endpoint  # type: ignore[attr-defined]
    core, layer = endpoint.core, endpoint.layer
    tables = (core.sessions, core.dialogs, layer.servers, layer.clients, layer.agenda)
    return sum(map(len, tables)) + len(endpoint.callee.merges)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_flood_over_the_rate_is_answered_and_allocates_nothing(transport: str) -> None:
    """Threat 5.1: INVITE and REGISTER flood."""
    net = Net()
    agent, peer = net.agent(A, screen=Screen(BUSY)), net.peer(P)
    flow = peer.flow_to(agent, transport)
    for n in range(200):
        peer.say(peer.invite(agent, flow, body=sdp(P), call_id=f"c{n}"), flow)
    assert peer.statuses("INVITE") == [503] * 200
    assert peer.response("INVITE").headers.get("Retry-After") == "3"
    assert agent.events == []
    assert allocated(agent) == 0
    assert len(agent.endpoint.callee.rejections) == 0


def test_the_ack_of_a_refusal_without_a_transaction_is_ignored() -> None:
    net = Net()
    agent, peer, flow = pair(net, screen=Screen(BUSY))
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    before = len(peer.received)
    peer.say(ack_of(peer, invite), flow)
    assert len(peer.received) == before
    assert allocated(agent) == 0


def ack_of(peer: Peer, invite: Request) -> Request:
    ack = Request("ACK", invite.uri, invite.headers.copy())
    ack.headers.set("CSeq", f"{invite.cseq.number} ACK")
    ack.headers.set("To", peer.response("INVITE").headers.get("To") or "")
    ack.headers.remove("Content-Type")
    return ack


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_storm_of_retries_is_decided_on_once_and_answered_every_time(transport: str) -> None:
    """Threat 5.1: INVITE and REGISTER flood."""
    net = Net()
    screen = Screen(NO_ROUTE)
    agent, peer = net.agent(A, screen=screen), net.peer(P)
    flow = peer.flow_to(agent, transport)
    for n in range(50):
        invite = peer.invite(agent, flow, body=sdp(P), branch=f"z9hG4bKretry{n}")
        peer.say(invite, flow)
        peer.say(ack_of(peer, invite), flow)
        net.run(6)  # over UDP the transaction is spent by then
    assert 404 in peer.statuses("INVITE")
    assert set(peer.statuses("INVITE")) <= {404, 482}
    assert len(screen.asked) <= 10  # once in LIFETIME
    assert agent.events == []


def test_over_udp_a_remembered_refusal_is_repeated_until_its_ack() -> None:
    net = Net()
    screen = Screen(NO_ROUTE)
    agent, peer = net.agent(A, screen=screen), net.peer(P)
    flow = peer.flow_to(agent, "udp")
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    net.run(1.6)
    assert peer.statuses("INVITE") == [404, 404, 404]  # Timer G: 0.5, 1 s
    peer.say(invite, flow)
    peer.say(ack_of(peer, invite), flow)
    net.run(60)
    assert peer.statuses("INVITE") == [404] * 4
    assert len(screen.asked) == 1
    assert allocated(agent) == 0


def test_a_call_that_was_rejected_is_rejected_again_without_being_told_again() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    agent.endpoint.reject(agent.only(IncomingInvite).session, 486, net.now)
    net.settle()
    peer.say(ack_of(peer, invite), flow)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    assert peer.statuses("INVITE") == [100, 486, 486]
    agent.only(IncomingInvite)
    # Another attempt of the same caller has another CSeq, and is a new call.
    peer.say(peer.invite(agent, flow, body=sdp(P), cseq=2), flow)
    assert len(agent.of(IncomingInvite)) == 2


def test_rejections_are_bounded_and_end() -> None:
    known = Rejections(most=3)
    for n in range(5):
        known.note((f"c{n}", "t", 1), NO_ROUTE, 0.0)
    assert len(known) == 3 < MOST
    assert known.find(("c0", "t", 1), 1.0) is None
    assert known.find(("c4", "t", 1), LIFETIME - 1) is NO_ROUTE
    assert known.find(("c4", "t", 1), LIFETIME) is None


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH"])
def test_other_requests_without_a_dialog_are_screened_too(method: str) -> None:
    """Row 98. Threat 5.1: INVITE and REGISTER flood. RFC 3261 8.2.1: 405, and 503 over the rate."""
    net = Net()
    screen = Screen(None)
    _, peer, flow = pair(net, screen=screen)
    peer.say(lone(peer, flow, method), flow)
    assert peer.statuses(method) == [200 if method == "OPTIONS" else 405]
    screen.refusal = BUSY
    peer.say(lone(peer, flow, method), flow)
    assert peer.statuses(method)[-1] == 503
    assert peer.response(method).headers.get("Retry-After") == "3"


def test_requests_in_a_dialog_are_never_screened() -> None:
    """Live calls go on while new ones are refused."""
    net = Net()
    screen = Screen(None)
    agent, peer, flow = pair(net, screen=screen)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    session = agent.only(IncomingInvite).session
    screen.refusal = BUSY
    agent.endpoint.reject(session, 480, net.now)
    assert len(screen.asked) == 1


def test_a_thousand_calls_that_end_cost_each_the_same() -> None:
    """Known once and mended: ``abandon`` and ``occupied`` looked at every call for each."""
    net = Net()
    agent, peer, flow = pair(net, config=EndpointConfig(max_sessions=2000))
    courier = agent.endpoint.layer.courier
    for n in range(300):
        peer.say(peer.invite(agent, flow, body=sdp(P), call_id=f"c{n}"), flow)
    assert agent.endpoint.occupied == 300
    for event in agent.of(IncomingInvite):
        agent.endpoint.reject(event.session, 486, net.now)
    assert agent.endpoint.occupied == 0
    assert courier.of_session == {}


def test_a_field_of_thousands_of_elements_is_not_looked_at_to_its_end() -> None:
    """Threat 5.1: Malformed messages. Found by hand: 4 ms and a 56 KiB answer for one INVITE."""
    net = Net()
    agent, peer, flow = pair(net)
    many = ",".join(["x"] * 4000)
    headers = (("Require", many),) * 7
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=headers), flow)
    refused = peer.response("INVITE", 420)
    assert len(refused.headers.values("Unsupported")) == MAX_ELEMENTS
    assert len(refused.encode()) < 2000
    routes = ", ".join(["<sip:192.0.2.9;lr>"] * 380)
    fields = (("Record-Route", routes),) * 8
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=fields, call_id="c2"), flow)
    assert agent.only(IncomingInvite).request.call_id == "c2"


def test_a_long_uri_is_read_once_for_a_message() -> None:
    text = "sip:1000@192.0.2.1" + ";a=b" * 2000
    assert parse_uri(text) is parse_uri(text)
    short = "sip:1000@192.0.2.1"
    assert parse_uri(short) is parse_uri(short)
