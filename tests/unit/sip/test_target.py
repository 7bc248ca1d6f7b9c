"""Where messages go, and what is done when they cannot get there."""

from __future__ import annotations

import pytest

from bridge.sip.events import Answered, Confirmed, IncomingInvite
from bridge.sip.flow import Flow
from bridge.sip.parameters import EndpointConfig
from bridge.sip.target import HostHop, is_address, uri_hop, write_contact
from tests.unit.sip.link import Net, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("sip:b@h.example", HostHop("tcp", "h.example", None)),
        ("<sip:h.example:5070;lr;transport=UDP>", HostHop("udp", "h.example", 5070)),
        ("<sip:h.example;transport=tls>", HostHop("tls", "h.example", None)),
        ("sips:b@h.example", HostHop("tls", "h.example", None)),
        ("<sips:h.example;transport=tcp>", HostHop("tls", "h.example", None)),
        ("<sip:[2001:db8::1]:5060>", HostHop("tcp", "2001:db8::1", 5060)),
        ("<sip:h.example;maddr=192.0.2.9>", HostHop("tcp", "192.0.2.9", None)),
        ("<sip:h.example;transport=sctp>", None),
        ("tel:+123", None),
        ("<nonsense", None),
        ("", None),
    ],
)
def test_the_hop_of_a_uri_or_route(text: str, hop: HostHop | None) -> None:
    assert uri_hop(text, "tcp") == hop


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("192.0.2", False),
        ("192.0.2.256", False),
        ("1.2.3.4.example", False),
        ("h.example", False),
    ],
)
def test_what_is_an_address(host: str, address: bool) -> None:
    assert is_address(host) is address


def test_a_contact_without_user_and_without_listener_names_the_flow() -> None:
    flow = Flow(id=1, transport="tls", local=(A, 40001), remote=(P, 5061))
    assert write_contact(EndpointConfig(), flow, "") == f"<sip:{A}:40001;transport=tls>"


def test_an_ack_that_finds_no_way_is_tried_again_with_the_next_copy_of_the_2xx() -> None:
    net = Net()
    alice, peer = net.agent(A), net.peer(P)
    alice.dial(P)
    net.settle()
    invite = peer.request("INVITE")
    peer.reply(invite, 180, peer.arrivals[-1][1])
    net.cut_all()
    net.down.add(P)
    # Its 200 comes on a connection that is gone again before our ACK is written.
    flow = peer.fresh_flow(alice)
    accepted = peer.reply(invite, 180, flow)
    accepted.status = 200
    accepted.headers.set("Content-Type", "application/sdp")
    accepted.body = sdp(P)
    theirs = net.ends[flow.id][1]
    alice.endpoint.layer.courier.lost(theirs)
    alice.endpoint.layer.receive_response(accepted, theirs, net.now)
    alice.run()
    assert alice.of(Answered)
    assert peer.requests("ACK") == []

    net.down.clear()
    peer.say(accepted, flow)
    peer.say(accepted, flow)
    first, second = peer.requests("ACK")
    assert first.encode() == second.encode()


def test_a_response_that_finds_no_way_is_tried_again_with_the_next_copy_of_the_request() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    net.cut_all()
    net.down.add(P)
    agent.endpoint.reject(agent.only(IncomingInvite).session, 486, net.now)
    net.settle()
    assert peer.statuses("INVITE") == [100]
    net.down.clear()
    peer.say(invite, peer.fresh_flow(agent))
    assert peer.statuses("INVITE") == [100, 486]


def test_a_200_goes_to_the_address_of_the_caller_when_every_connection_is_gone() -> None:
    net = Net()
    net.set_up = 0.05
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    agent.answers()
    agent.on_event(agent.only(IncomingInvite))
    net.cut_all()
    net.run(1.2)
    accepted = peer.response("INVITE", 200)
    fresh = peer.arrivals[-1][1]
    peer.say(peer.in_dialog("ACK", accepted, fresh, cseq=1), fresh)
    assert agent.of(Confirmed)


def test_a_bye_over_tcp_is_answered_on_a_new_connection_when_its_own_is_gone() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    bye = peer.in_dialog("BYE", accepted, flow, cseq=2)
    theirs = net.ends[flow.id][1]
    agent.endpoint.flow_lost(theirs, net.now)
    agent.endpoint._receive_message(bye.encode(), theirs, net.now)
    net.settle()
    assert peer.statuses("BYE") == [200]
    assert peer.arrivals[-1][1].local == (P, 5060)
    assert "BYE" not in [s.request.method for s in agent.endpoint.layer.servers.values()]
