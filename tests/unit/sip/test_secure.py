"""TLS as the core sees it: whom a connection has to reach, and ``sips:`` addresses."""

from __future__ import annotations

import pytest

from bridge.sip.events import Answered, Confirmed, Connect, EndCause, Ended, IncomingInvite
from bridge.sip.headers import parse_name_addr
from bridge.sip.message import Request
from bridge.sip.uri import SipUri
from sdp.model import Direction
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, sdp

pytestmark = pytest.mark.unit

A, B, P = "192.0.2.1", "192.0.2.2", "198.51.100.7"
NAME = "sip.carrier.example"


def dials(agent: Agent) -> list[tuple[str, str, str]]:
    """Return address, name and trunk of every connection that was asked for."""
    return [(o.address, o.name, o.trunk) for o in agent.outputs if isinstance(o, Connect)]


def test_a_tls_connection_is_asked_for_with_the_host_it_has_to_prove() -> None:
    """Row 18. RFC 5922 4: the name that was configured, not what DNS made of it."""
    net = Net()
    net.names[NAME] = [(B, 5061)]
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    alice.dial(NAME, transport="tls")
    net.run(2)
    assert alice.only(Answered).status == 200
    assert dials(alice) == [(B, NAME, TRUNK)]


def test_over_tcp_nothing_has_to_be_proven() -> None:
    net = Net()
    net.names[NAME] = [(B, 5060)]
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    alice.dial(NAME, transport="tcp")
    net.run(2)
    assert dials(alice) == [(B, "", "")]


def test_a_connection_lost_in_mid_call_is_made_anew_to_the_same_name() -> None:
    """Row 18. The address alone would prove nothing."""
    net = Net()
    net.names[NAME] = [(B, 5061)]
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    session = alice.dial(NAME, transport="tls")
    net.run(2)
    net.cut_all()
    net.run(1)
    alice.endpoint.bye(session, net.now)
    net.run(2)
    assert bob.only(Ended).cause is EndCause.BYE
    assert len(dials(alice)) == 2
    assert {trunk for _, _, trunk in dials(alice)} == {TRUNK}
    assert net.sent(A, "BYE")[-1].top_via.transport == "TLS"


def test_an_unanswered_invite_goes_again_to_the_same_name() -> None:
    net = Net()
    net.names[NAME] = [(P, 5061)]
    alice = net.agent(A)
    net.peer(P)  # which says nothing
    alice.dial(NAME, transport="tls")
    net.run(0.5)
    net.cut_all()
    net.run(0.5)
    assert dials(alice) == [(P, NAME, TRUNK), (P, NAME, TRUNK)]


def sips(agent: Agent, peer: Peer, transport: str, method: str = "INVITE") -> Request:
    """Return a request for a ``sips:`` address of ours."""
    flow = peer.flow_to(agent, transport)
    contact = f"<sips:carol@{P}:5061>"
    request = peer.invite(agent, flow, body=sdp(P), contact=contact)
    request.uri = f"sips:5551@{A}"
    if method != "INVITE":
        request.method, request.body = method, b""
        request.headers.set("CSeq", f"1 {method}")
        request.headers.remove("Content-Type")
    peer.say(request, flow)
    return request


def contact_of(message: object) -> SipUri:
    """Return the Contact of a message of ours."""
    uri = parse_name_addr(message.headers.get("Contact") or "").uri  # type: ignore[attr-defined]
    assert isinstance(uri, SipUri)
    return uri


def test_a_call_to_a_sips_address_on_tls_gets_a_sips_contact() -> None:
    """Row 18. RFC 3261 12.1.1, RFC 5630."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    sips(agent, peer, "tls")
    for status in (180, 200):
        assert str(contact_of(peer.response("INVITE", status))) == f"sips:5551@{A}:5061"


def test_our_requests_in_a_sips_dialog_keep_to_it_on_a_new_connection() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    sips(agent, peer, "tls")
    accepted = peer.response("INVITE", 200)
    flow = peer.flow_to(agent, "tls")
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    agent.only(Confirmed)
    net.cut_all()
    agent.endpoint.reoffer(agent.only(IncomingInvite).session, Direction.SENDONLY, net.now)
    net.run(1)
    again = peer.request("INVITE")
    assert again.uri == f"sips:carol@{P}:5061"
    assert again.top_via.transport == "TLS"
    assert contact_of(again).scheme == "sips"


def test_a_call_to_a_sip_address_on_tls_gets_a_sip_contact() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent, "tls")
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    assert str(contact_of(peer.response("INVITE", 200))) == f"sip:5551@{A}:5061;transport=tls"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_a_sips_address_is_not_served_without_tls(transport: str, method: str) -> None:
    """Row 18. RFC 5630: 480 with warning 381, so that the caller tries ``sip:``."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    sips(agent, peer, transport, method)
    (refused,) = [peer.response(method, 480)]
    assert refused.headers.get("Warning") == f'381 {A} "SIPS Not Allowed"'
    assert agent.of(IncomingInvite) == []
