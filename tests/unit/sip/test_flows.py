"""Connections come, die and come again: calls and transactions live on."""

from __future__ import annotations

import pytest

from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Answered,
    Confirmed,
    Connect,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    KeyReported,
    Probed,
    Resolve,
    SessionChanged,
)
from bridge.sip.flow import Flow
from bridge.sip.parameters import EndpointConfig
from sdp.model import Direction
from sdp.negotiated import Hold
from tests.unit.sip.link import TRUNKS, Agent, Net, Peer, counter_tokens, established, sdp

pytestmark = pytest.mark.unit

A, B, P = "192.0.2.1", "192.0.2.2", "198.51.100.7"
PROXY = "198.51.100.9"


# A lost connection in the middle of a call


@pytest.mark.parametrize("caller_speaks", [True, False])
def test_a_bye_leaves_on_a_new_connection_after_the_old_one_was_cut(caller_speaks: bool) -> None:
    """Rows 6, 7. R1 7.1.9. Failure 7.2: in-dialog sends on a dead flow."""
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    ours, theirs = established(net, alice, bob)
    net.cut_all()
    net.run(5)
    assert (alice.of(Ended), bob.of(Ended)) == ([], [])
    speaker, session, other = (alice, ours, bob) if caller_speaks else (bob, theirs, alice)
    speaker.endpoint.bye(session, net.now)
    net.run(1)
    assert other.only(Ended).cause is EndCause.BYE
    assert speaker.endpoint.core.sessions == {}


@pytest.mark.parametrize("caller_speaks", [True, False])
def test_a_hold_leaves_on_a_new_connection_after_the_old_one_was_cut(caller_speaks: bool) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    ours, theirs = established(net, alice, bob)
    net.cut_all()
    speaker, session, other = (alice, ours, bob) if caller_speaks else (bob, theirs, alice)
    speaker.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(1)
    assert other.only(SessionChanged).negotiated.hold is Hold.SENDONLY
    net.cut_all()
    speaker.endpoint.reoffer(session, Direction.SENDRECV, net.now)
    net.run(1)
    assert other.of(SessionChanged)[-1].negotiated.hold is None


def test_a_200_that_waits_for_its_ack_outlives_its_connection() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    net.drop = lambda wire: wire.label == "ACK"
    alice.dial(B)
    net.run(0.1)
    assert alice.of(Answered)
    net.drop = lambda _wire: False
    net.cut_all()
    net.run(10)
    assert bob.of(Confirmed)
    assert bob.of(Ended) == []


def test_the_ack_of_a_2xx_finds_a_new_connection() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    alice.dial(B)
    while not alice.endpoint.layer.clients or net.labels(B).count("200 INVITE") == 0:
        net.run(0.005)
    net.cut_all()
    net.run(10)
    assert alice.of(Answered)
    assert bob.of(Confirmed)


# Our requests whose connection dies


def test_an_invite_without_any_response_is_repeated_on_a_new_connection() -> None:
    net = Net()
    alice, peer = net.agent(A), net.peer(P)
    alice.dial(P)
    net.run(0.005)
    net.cut_all()
    net.settle()
    first, second = (w.data for w in net.wires if w.label == "INVITE")
    assert first == second
    peer.reply(peer.request("INVITE"), 200, peer.arrivals[-1][1], body=sdp(P))
    assert alice.of(Answered)


def test_an_invite_whose_connection_dies_twice_fails() -> None:
    net = Net()
    alice, _ = net.agent(A), net.peer(P)
    alice.dial(P)
    for _ in range(2):
        net.run(0.005)
        net.cut_all()
    net.settle()
    assert alice.only(Failed).cause is FailureCause.UNREACHABLE
    assert net.labels(A) == ["INVITE", "INVITE"]


def test_a_ringing_invite_waits_for_its_answer_on_a_connection_of_the_callee() -> None:
    net = Net()
    alice, peer = net.agent(A), net.peer(P)
    session = alice.dial(P)
    net.settle()
    invite = peer.request("INVITE")
    peer.reply(invite, 180, peer.arrivals[-1][1])
    net.cut_all()
    net.run(60)
    assert net.labels(A) == ["INVITE"]
    peer.reply(invite, 200, peer.fresh_flow(alice), body=sdp(P))
    assert alice.of(Answered)
    assert peer.requests("ACK")
    assert alice.endpoint.details(session) is not None


def test_a_ringing_invite_is_cancelled_and_its_487_acknowledged_on_new_connections() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session = alice.dial(B)
    net.settle()
    bob.endpoint.ring(bob.only(IncomingInvite).session, net.now)
    net.settle()
    net.cut_all()
    alice.endpoint.cancel(session, net.now)
    net.run(1)
    assert alice.only(Failed).status == 487
    net.run(40)
    assert bob.endpoint.layer.servers == {}
    assert net.labels(A)[-1] == "ACK"


@pytest.mark.parametrize("method", ["bye", "probe"])
def test_a_request_in_a_dialog_is_repeated_once_its_connection_dies(method: str) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session, _ = established(net, alice, bob)
    getattr(alice.endpoint, method)(session, net.now)
    alice.run()
    net.cut_all()
    net.run(1)
    label = "BYE" if method == "bye" else "OPTIONS"
    first, second = (w.data for w in net.wires if w.label == label)
    assert first == second
    if method == "bye":
        assert bob.only(Ended).cause is EndCause.BYE
    else:
        assert alice.only(Probed).alive


def test_a_repeat_that_goes_to_another_address_has_a_new_branch() -> None:
    net = Net()
    alice, first, second = net.agent(A), net.peer(P), net.peer(PROXY)
    net.names["sip.example"] = [(P, 5060), (PROXY, 5060)]
    alice.dial("sip.example")
    net.settle()
    net.down.add(P)
    net.cut_all()
    net.settle()
    old, new = first.request("INVITE"), second.request("INVITE")
    assert old.top_via.branch != new.top_via.branch
    assert (old.call_id, old.cseq, old.from_.tag) == (new.call_id, new.cseq, new.from_.tag)


# Responses whose connection dies


def test_a_response_leaves_by_the_via_when_its_connection_is_gone() -> None:
    """Row 5. RFC 3261 18.2.2: to the source address, at the port of sent-by."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    net.cut_all()
    agent.endpoint.reject(agent.only(IncomingInvite).session, 486, net.now)
    net.settle()
    assert peer.statuses("INVITE")[-1] == 486
    assert peer.arrivals[-1][1].local == (P, 5060)


def test_a_retransmission_on_a_new_connection_is_no_second_call_and_moves_the_responses() -> None:
    """Rows 5, 28. RFC 3261 17.2.3."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    fresh = peer.fresh_flow(agent)
    peer.say(invite, fresh)
    incoming = agent.only(IncomingInvite)
    assert peer.statuses("INVITE") == [100, 100]
    agent.endpoint.reject(incoming.session, 486, net.now)
    net.settle()
    assert peer.arrivals[-1][1].id == fresh.id


def test_a_response_over_udp_without_rport_goes_to_the_port_of_the_via() -> None:
    """Row 10. RFC 3261 18.2.2."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = Flow(
        id=900,
        transport="udp",
        local=(A, 5060),
        remote=(P, 49999),
        trunks=TRUNKS,
        new_call_trunks=TRUNKS,
    )
    request = peer.invite(agent, flow, body=sdp(P))
    agent.take(request.encode(), flow)
    agent.run()
    net.settle()
    assert peer.statuses("INVITE") == [100]
    with_rport = request.headers
    with_rport.set("Via", f"SIP/2.0/UDP {P}:5060;branch=z9hG4bKother;rport")
    request.headers.set("Call-ID", "call-2")
    agent.take(request.encode(), flow)
    agent.run()
    assert net.wires[-1].flow == 900
    assert b";rport=49999;received=198.51.100.7" in net.wires[-1].data


# Where in-dialog requests go


def inbound_call(
    net: Net, *headers: tuple[str, str], contact: str | None = None, **options: object
) -> tuple[Agent, Peer, Flow]:
    agent, peer = net.agent(A, **options), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=headers, contact=contact), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    agent.only(Confirmed)
    return agent, peer, flow


def targets(agent: Agent) -> list[tuple[str, str, int]]:
    return [(o.transport, o.address, o.port) for o in agent.outputs if isinstance(o, Connect)]


def test_record_route_wins_over_contact_for_the_next_hop() -> None:
    """Row 23. Failure 7.3: ACK by the Record-Route. RFC 3261 8.1.2."""
    # Exotel: a TCP Record-Route and a tls Contact.
    net = Net()
    agent, _, _ = inbound_call(
        net,
        ("Record-Route", f"<sip:{PROXY}:5060;transport=tcp;lr>"),
        contact="<sip:carol@203.0.113.5:5061;transport=tls>",
        next_hop_allowed=lambda host, trunk: host == PROXY and trunk == "carrier",
    )
    proxy = net.peer(PROXY)
    net.cut_all()
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    assert targets(agent) == [("tcp", PROXY, 5060)]
    bye = proxy.request("BYE")
    assert bye.uri == "sip:carol@203.0.113.5:5061;transport=tls"
    assert bye.headers.all("Route") == [f"<sip:{PROXY}:5060;transport=tcp;lr>"]
    assert bye.top_via.transport == "TCP"


def test_a_living_connection_is_preferred_to_every_route() -> None:
    net = Net()
    agent, peer, _ = inbound_call(net, ("Record-Route", f"<sip:{PROXY};lr;transport=tcp>"))
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    assert targets(agent) == []
    assert peer.request("BYE").headers.all("Route") == [f"<sip:{PROXY};lr;transport=tcp>"]


def test_the_last_flow_that_carried_the_dialog_is_the_one_preferred() -> None:
    """Row 6."""
    net = Net()
    agent, peer, _ = inbound_call(net)
    fresh = peer.fresh_flow(agent)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("OPTIONS", accepted, fresh, cseq=2), fresh)
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    assert peer.arrivals[-1][1].id == fresh.id


@pytest.mark.parametrize(
    "contact", ["<sip:carol@10.0.0.5:5060;transport=tcp>", "<sip:carol@internal.example>"]
)
def test_a_contact_never_leads_us_where_the_policy_forbids(contact: str) -> None:
    """Threat 5.1: SSRF."""
    net = Net()
    net.names["internal.example"] = [("10.0.0.5", 5060)]
    asked: list[tuple[str, str]] = []

    def allowed(host: str, trunk: str) -> bool:
        asked.append((host, trunk))
        return not host.startswith("10.")

    agent, peer, _ = inbound_call(net, contact=contact, next_hop_allowed=allowed)
    net.cut_all()
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    assert ("10.0.0.5", "carrier") in asked
    assert targets(agent) == [("tcp", P, 5060)]
    assert peer.requests("BYE")


def test_without_a_way_to_the_route_our_request_goes_to_the_next_hop_of_the_trunk() -> None:
    """Row 6. Route, then target, then where the INVITE went; never a passing port."""
    net = Net()
    alice, peer = net.agent(A, next_hop_allowed=lambda _h, _t: True), net.peer(P)
    net.names["trunk.example"] = [(P, 5060)]
    session = alice.dial("trunk.example")
    net.settle()
    peer.reply(
        peer.request("INVITE"),
        200,
        peer.arrivals[-1][1],
        body=sdp(P),
        headers=(("Record-Route", "<sip:203.0.113.99;transport=tcp;lr>"),),
        contact="<sip:bob@203.0.113.98>",
    )
    net.cut_all()
    alice.endpoint.bye(session, net.now)
    net.settle()
    assert targets(alice) == [("tcp", P, 5060), ("tcp", "203.0.113.99", 5060), ("tcp", P, 5060)]
    assert len([o for o in alice.outputs if isinstance(o, Resolve)]) == 2
    assert peer.requests("BYE")


# Dialling


def test_dialling_tries_every_address_and_fails_when_none_answers() -> None:
    net = Net()
    alice = net.agent(A)
    net.names["trunk.example"] = [("203.0.113.1", 5060), ("203.0.113.2", 5060)]
    alice.dial("trunk.example")
    net.settle()
    assert targets(alice) == [("tcp", "203.0.113.1", 5060), ("tcp", "203.0.113.2", 5060)]
    assert alice.only(Failed).cause is FailureCause.UNREACHABLE
    assert alice.endpoint.core.sessions == {}


def test_dialling_a_name_without_addresses_fails() -> None:
    net = Net()
    alice = net.agent(A)
    alice.dial("nowhere.example")
    net.settle()
    assert alice.only(Failed).cause is FailureCause.UNREACHABLE


def test_a_resolver_or_connection_that_never_answers_is_given_up() -> None:
    net = Net()
    agent = net.agent(A)
    agent.run = lambda: None  # type: ignore[method-assign]
    agent.dial("trunk.example")
    agent.endpoint.tick(net.now + 33)
    events = [o.event for o in agent.endpoint.poll(net.now) if hasattr(o, "event")]
    assert [type(e) for e in events] == [Failed]
    assert agent.endpoint.next_deadline() is None
    agent.endpoint.resolved(2, [(P, 5060)], net.now + 34)
    assert agent.endpoint.poll(net.now) == []


def test_nobody_answering_at_all_is_no_response() -> None:
    net = Net()
    alice, _ = net.agent(A), net.peer(P)
    alice.dial(P, transport="udp")
    net.run(40)
    assert alice.only(Failed).cause is FailureCause.NO_RESPONSE
    assert net.labels(A) == ["INVITE"] * 7


def test_a_udp_peer_that_is_not_there_is_unreachable() -> None:
    net = Net()
    alice = net.agent(A)
    alice.dial(P, transport="udp")
    flow = next(iter(alice.flows.values()))
    alice.endpoint.send_failed(flow, net.now)
    alice.run()
    assert alice.only(Failed).cause is FailureCause.UNREACHABLE


# What we write about ourselves


@pytest.mark.parametrize(
    ("advertise", "ports", "transport", "via", "contact"),
    [
        ("", {"tcp": 5070}, "tcp", f"SIP/2.0/TCP {A}:5070", f"<sip:alice@{A}:5070;transport=tcp>"),
        (
            "sip.example.net",
            {"udp": 5060},
            "udp",
            "SIP/2.0/UDP sip.example.net:5060",
            "<sip:alice@sip.example.net:5060>",
        ),
        (
            "2001:db8::1",
            {"tcp": 5060},
            "tcp",
            "SIP/2.0/TCP [2001:db8::1]:5060",
            "<sip:alice@[2001:db8::1]:5060;transport=tcp>",
        ),
    ],
)
def test_via_and_contact_follow_the_flow(
    advertise: str, ports: dict[str, int], transport: str, via: str, contact: str
) -> None:
    net = Net()
    config = EndpointConfig(advertise=advertise, listen_ports=ports)
    # An advertised address is told to peers of its family only.
    ours, theirs = ("2001:db8::2", "2001:db8::7") if ":" in advertise else (A, P)
    alice, peer = net.agent(ours, config=config), net.peer(theirs)
    alice.dial(theirs, transport=transport)
    net.settle()
    invite = peer.request("INVITE")
    assert (invite.headers.get("Via") or "").startswith(via + ";branch=z9hG4bK")
    assert invite.headers.get("Contact") == contact


def test_keep_alives_between_messages_are_answered() -> None:
    """Failure 7.2: bare CRLF keep-alive."""
    endpoint = Endpoint(EndpointConfig(), tokens=counter_tokens("t"))
    flow = Flow(id=1, transport="tcp", local=(A, 5060), remote=(P, 40000), trunks=TRUNKS)
    for data in (b"\r\n\r\n", b"\r\n", b"\r\n\r\n"):
        endpoint.receive(data, flow, 0.0)
    sent = [o.data for o in endpoint.poll(0.0) if hasattr(o, "data")]
    assert sent == [b"\r\n", b"\r\n"]


def test_a_key_may_come_on_another_connection() -> None:
    net = Net()
    agent, peer, _ = inbound_call(net)
    fresh = peer.fresh_flow(agent)
    accepted = peer.response("INVITE", 200)
    info = peer.in_dialog(
        "INFO",
        accepted,
        fresh,
        cseq=2,
        body=b"Signal=5\r\nDuration=200\r\n",
        headers=(("Content-Type", "application/dtmf-relay"),),
    )
    peer.say(info, fresh)
    key = agent.only(KeyReported)
    assert (key.digit, key.duration_ms) == ("5", 200)


def test_the_media_of_a_call_are_untouched_by_a_lost_connection() -> None:
    """R1 7.1.9."""
    net = Net()
    agent, _, _ = inbound_call(net)
    session = agent.only(IncomingInvite).session
    known = agent.endpoint.core.sessions[session].offer_answer
    assert known is not None
    before = known.active
    net.cut_all()
    net.run(3600)
    assert agent.endpoint.core.sessions[session].offer_answer is known
    assert known.active == before
