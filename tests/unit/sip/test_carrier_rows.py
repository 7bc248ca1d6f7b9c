"""Dialogs as carriers behave: what the rows of docs/carrier-rows.md ask and nothing else proves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Progressed,
    Reoffered,
    SessionChanged,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from bridge.sip.parameters import ALLOWED
from sdp.model import Direction
from sdp.negotiate import Rejected
from sdp.negotiated import Hold
from tests.unit.sip.link import Agent, Net, Peer, media, sdp

pytestmark = pytest.mark.unit

A, B, P, PROXY = "192.0.2.1", "192.0.2.2", "198.51.100.7", "198.51.100.20"
LOOSE = f"<sip:{P};lr;transport=tcp>"


def dialled(net: Net, transport: str = "tcp", **options: object) -> tuple[Agent, Peer, int]:
    agent, peer = net.agent(A, **options), net.peer(P)
    session = agent.dial(P, transport=transport)
    net.settle()
    return agent, peer, session


def answered(
    net: Net, *headers: tuple[str, str], contact: str = "", **options: object
) -> tuple[Agent, Peer, int, Flow]:
    """A call of ours that was answered; what the 200 says besides."""
    agent, peer, session = dialled(net, **options)
    flow = peer.arrivals[-1][1]
    peer.reply(
        peer.request("INVITE"), 200, flow, body=sdp(P), headers=tuple(headers), contact=contact
    )
    agent.only(Answered)
    return agent, peer, session, flow


def called(
    net: Net, *headers: tuple[str, str], transport: str = "tcp"
) -> tuple[Agent, Peer, Flow, Response]:
    """A call of theirs that was answered."""
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent, transport)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=headers), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    agent.only(Confirmed)
    return agent, peer, flow, accepted


# Routes


@pytest.mark.parametrize("caller", [True, False], ids=["caller", "callee"])
def test_a_strict_router_is_in_the_request_uri_of_everything_we_send(caller: bool) -> None:
    """Row 23. Failure 7.2: BYE without Route. RFC 3261 12.2.1.1: as caller and as callee."""
    net = Net()
    recorded = ("Record-Route", f"<sip:{P};transport=tcp>, <sip:inner.example;lr>")
    if caller:
        # The caller turns the order round: the strict router has to be the last one here.
        recorded = ("Record-Route", f"<sip:inner.example;lr>, <sip:{P};transport=tcp>")
        agent, peer, session, _ = answered(net, recorded)
        target = f"<sip:bob@{P}:5060;transport=tcp>"
        assert peer.request("ACK").uri == f"sip:{P};transport=tcp"
    else:
        agent, peer, _, _ = called(net, recorded)
        session = agent.only(IncomingInvite).session
        target = f"<sip:carol@{P}:5060;transport=tcp>"
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)  # type: ignore[arg-type]
    net.settle()
    invite = peer.request("INVITE")
    flow, body = peer.arrivals[-1][1], sdp(P, "a=recvonly", version=2)
    peer.reply(invite, 200, flow, tag=None, body=body, contact=target)
    agent.endpoint.bye(session, net.now)  # type: ignore[arg-type]
    net.settle()
    for request in (invite, peer.request("ACK"), peer.request("BYE")):
        assert request.uri == f"sip:{P};transport=tcp"
        assert request.headers.all("Route") == ["<sip:inner.example;lr>", target]


def test_the_ack_of_a_tcp_call_goes_by_the_record_route_and_not_to_the_tls_contact() -> None:
    """Row 23. Failure 7.3: ACK by the Record-Route. Exotel's 200 names a tls Contact of its own."""
    net = Net()
    contact = "<sip:919999999999@10.0.0.7:443;transport=tls>"
    agent, peer, session, _ = answered(net, ("Record-Route", LOOSE), contact=contact)
    net.cut_all()
    agent.endpoint.bye(session, net.now)  # type: ignore[arg-type]
    net.settle()
    for request in (peer.request("ACK"), peer.request("BYE")):
        assert request.uri == contact.strip("<>")
        assert request.headers.all("Route") == [LOOSE]
        assert request.top_via.transport == "TCP"


def test_a_private_contact_behind_two_record_routes_is_reached_by_both() -> None:
    """Row 23. Failure 7.4: private Contact behind two Record-Routes. Telnyx, Kamailio ``r2=on``."""
    net = Net()
    inner, outer = "<sip:10.1.1.1;r2=on;lr;ftag=x>", f"<sip:{P};transport=tcp;r2=on;lr;ftag=x>"
    agent, peer, session, _ = answered(
        net, ("Record-Route", inner), ("Record-Route", outer), contact="<sip:bob@10.9.9.9:5080>"
    )
    agent.endpoint.bye(session, net.now)  # type: ignore[arg-type]
    net.settle()
    for request in (peer.request("ACK"), peer.request("BYE")):
        assert request.uri == "sip:bob@10.9.9.9:5080"
        assert request.headers.all("Route") == [outer, inner]


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_target_refresh_moves_the_target_and_never_the_route(method: str) -> None:
    """Row 24. RFC 3261 12.2.2, RFC 3311 5.2: Record-Route in a re-INVITE or UPDATE is ignored."""
    net = Net()
    agent, peer, flow, accepted = called(net, ("Record-Route", LOOSE))
    refresh = peer.in_dialog(
        method,
        accepted,
        flow,
        cseq=2,
        body=sdp(P, version=2),
        headers=(("Record-Route", "<sip:evil.example;lr>"), ("Contact", f"<sip:new@{P}:5099>")),
        contact=False,
    )
    peer.say(refresh, flow)
    assert peer.response(method).status == 200
    if method == "INVITE":
        peer.say(peer.in_dialog("ACK", accepted, flow, cseq=2), flow)
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    bye = peer.request("BYE")
    assert (bye.uri, bye.headers.all("Route")) == (f"sip:new@{P}:5099", [LOOSE])


def test_the_answer_to_our_reinvite_refreshes_the_target_too() -> None:
    """Row 24. RFC 3261 12.2.1.2: by the Contact of the 2xx."""
    net = Net()
    agent, peer, session, flow = answered(net, ("Record-Route", LOOSE))
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)  # type: ignore[arg-type]
    net.settle()
    body = sdp(P, "a=recvonly", version=2)
    moved = (("Record-Route", "<sip:evil.example;lr>"),)
    peer.reply(
        peer.request("INVITE"), 200, flow, tag=None, body=body, headers=moved, contact="<sip:n@x.y>"
    )
    ack = peer.request("ACK")
    assert (ack.uri, ack.headers.all("Route")) == ("sip:n@x.y", [LOOSE])


# What our 200 says


def echoed(request: Request, response: Response) -> None:
    assert response.headers.values("Via")[1:] == request.headers.values("Via")[1:]
    assert response.headers.values("Via")[0].startswith(request.headers.values("Via")[0])
    assert response.to.tag
    assert response.contact is not None
    assert response.headers.values("Allow") == list(ALLOWED)


def test_every_200_echoes_the_vias_and_says_who_and_what_we_are() -> None:
    """Row 25. R1 7.1.1. RFC 3261 8.2.6, 12.1.1, 13.3.1: INVITE, re-INVITE and UPDATE."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    vias = (
        ("Via", "SIP/2.0/UDP edge.example:5060;branch=z9hG4bKedge;received=203.0.113.9"),
        ("v", "SIP/2.0/TLS core.example;branch=z9hG4bKcore, SIP/2.0/UDP ua;branch=z9hG4bKua"),
    )
    routes = (("Record-Route", f"{LOOSE}, <sip:core.example;lr>"), ("Record-Route", "<sip:x;lr>"))
    invite = peer.invite(agent, flow, body=sdp(P), headers=(*vias, *routes))
    peer.say(invite, flow)
    accepted = peer.response("INVITE", 200)
    echoed(invite, accepted)
    assert accepted.headers.values("Record-Route") == invite.headers.values("Record-Route")
    assert b"m=audio" in accepted.body
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    for cseq, method in enumerate(("INVITE", "UPDATE"), start=2):
        again = peer.in_dialog(
            method, accepted, flow, cseq=cseq, body=sdp(P, version=2), headers=vias
        )
        peer.say(again, flow)
        response = peer.response(method, 200)
        echoed(again, response)
        assert response.to.tag == accepted.to.tag
        assert b"m=audio" in response.body
        if method == "INVITE":
            peer.say(peer.in_dialog("ACK", accepted, flow, cseq=cseq), flow)


def test_our_sequence_numbers_rise_over_holds_probes_and_the_bye() -> None:
    """Row 26. Failure 7.2: dup CSeq. RFC 3261 12.2.1.1: one counter of the dialog."""
    net = Net()
    agent, peer, session, flow = answered(net)
    for direction, line in ((Direction.SENDONLY, "a=recvonly"), (Direction.SENDRECV, "")):
        agent.endpoint.reoffer(session, direction, net.now)  # type: ignore[arg-type]
        net.settle()
        lines = (line,) if line else ()
        peer.reply(peer.request("INVITE"), 200, flow, tag=None, body=sdp(P, *lines))
        agent.endpoint.probe(session, net.now)  # type: ignore[arg-type]
        net.settle()
        peer.reply(peer.request("OPTIONS"), 200, flow, tag=None)
    agent.endpoint.bye(session, net.now)  # type: ignore[arg-type]
    net.settle()
    requests = [m for m in peer.received if isinstance(m, Request) and m.method != "ACK"]
    numbers = [request.cseq.number for request in requests]
    assert [request.method for request in requests][-1] == "BYE"
    assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_an_ack_or_cancel_with_a_lower_number_is_no_error() -> None:
    """Row 26. RFC 3261 12.2.2: ACK and CANCEL are exempt."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    peer.say(peer.in_dialog("OPTIONS", accepted, flow, cseq=9), flow)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    before = len(net.wires)
    net.run(1)
    assert len(net.wires) == before
    assert agent.of(Ended) == []


def test_a_reinvite_with_the_branch_of_the_first_invite_is_a_request_of_its_own() -> None:
    """Row 28. RFC 3261 8.1.1.7 forbids it; the CSeq tells it from a copy."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P), branch="z9hG4bKever"), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1, branch="z9hG4bKever"), flow)
    for cseq, lines in ((2, ("a=sendonly",)), (3, ())):
        body = sdp(P, *lines, version=cseq)
        again = peer.in_dialog("INVITE", accepted, flow, cseq=cseq, body=body, branch="z9hG4bKever")
        for _ in range(2):
            peer.say(again, flow)
            assert peer.response("INVITE").cseq.number == cseq
        ack = peer.in_dialog("ACK", accepted, flow, cseq=cseq, branch="z9hG4bKever")
        peer.say(ack, flow)
    assert [event.negotiated.hold for event in agent.of(SessionChanged)] == [Hold.SENDONLY, None]
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=4, branch="z9hG4bKever"), flow)
    assert peer.statuses("BYE") == [200]
    net.run(100)
    assert agent.endpoint.layer.servers == {}
    assert agent.endpoint.layer.servers_on.total() == 0


@pytest.mark.parametrize(("how", "status"), [("reject", 503), ("cancel", 482)])
def test_an_invite_that_comes_again_by_another_way_is_refused_again_and_merged_if_cancelled(
    how: str, status: int
) -> None:
    """Row 27. RFC 3261 8.2.2.2, RFC 3263 4.3: a failover is told what the first try was told."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    first = peer.invite(agent, flow, body=sdp(P), branch="z9hG4bKone")
    peer.say(first, flow)
    if how == "reject":
        agent.endpoint.reject(agent.only(IncomingInvite).session, 503, net.now)
        net.settle()
    else:
        cancel = Request("CANCEL", first.uri, first.headers.copy())
        cancel.headers.set("CSeq", "1 CANCEL")
        cancel.headers.remove("Content-Type")
        peer.say(cancel, flow)
    peer.say(peer.invite(agent, flow, body=sdp(P), branch="z9hG4bKtwo"), flow)
    assert peer.statuses("INVITE")[-1] == status
    agent.only(IncomingInvite)


def test_an_info_of_a_package_we_do_not_know_is_refused() -> None:
    """Row 38. RFC 6086 4.2.2: 469 with Recv-Info."""
    net = Net()
    _, peer, flow, accepted = called(net)
    fields = (("Info-Package", "foo"), ("Content-Type", "application/dtmf"))
    peer.say(peer.in_dialog("INFO", accepted, flow, cseq=2, body=b"5", headers=fields), flow)
    assert peer.response("INFO").status == 469
    assert peer.response("INFO").headers.get("Recv-Info") == ""


# Tags that are missing


@pytest.mark.parametrize(
    ("early", "final", "port"),
    [(None, "bobtag", 31000), ("bobtag", None, 31000), (None, None, 31000)],
)
def test_a_2xx_without_sdp_takes_the_early_answer_though_one_of_them_has_no_tag(
    early: str | None, final: str | None, port: int
) -> None:
    """Rows 30, 58. RFC 3261 12.1.2, RFC 2543: one early dialog, whatever it was called."""
    net = Net()
    agent, peer, _ = dialled(net)
    flow = peer.arrivals[-1][1]
    invite = peer.request("INVITE")
    peer.reply(invite, 183, flow, tag=early, body=sdp(P, port=port))
    peer.reply(invite, 200, flow, tag=final)
    assert agent.only(Answered).negotiated.remote_port == port
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=1), flow)
    assert peer.statuses("BYE") == [200]


def test_a_2xx_of_another_fork_does_not_take_the_early_answer_of_the_first() -> None:
    """Rows 29, 58. RFC 3261 13.2.2.4: two tags are two dialogs."""
    net = Net()
    agent, peer, _ = dialled(net)
    flow = peer.arrivals[-1][1]
    peer.reply(peer.request("INVITE"), 183, flow, tag="one", body=sdp(P, port=31000))
    peer.reply(peer.request("INVITE"), 200, flow, tag="two")
    assert agent.only(Failed).cause is FailureCause.UNUSABLE_ANSWER
    assert peer.request("BYE").to.tag == "two"


# Refusals, redirections, waiting


@pytest.mark.parametrize("status", [300, 301, 302, 305, 380])
def test_a_redirection_is_a_failure_and_nobody_is_called_instead(status: int) -> None:
    """Row 40. Threat 5.1: Toll fraud. RFC 3261 8.1.3.4, 21.3: only the trunk is dialled."""
    net = Net()
    agent, peer, _ = dialled(net)
    other = net.peer(PROXY)
    contacts = (("Contact", f"<sip:bob@{PROXY}>;q=1, <sip:bob@{P}:5070>"), ("Contact", "<tel:1>"))
    peer.reply(peer.request("INVITE"), status, peer.arrivals[-1][1], headers=contacts, contact=None)
    failed = agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.REFUSED, status)
    net.run(40)
    assert other.received == []
    assert len(peer.requests("INVITE")) == 1
    assert len(peer.requests("ACK")) == 1


def test_a_2xx_other_than_200_is_an_answer() -> None:
    """R1 7.1.16. RFC 3261 8.1.3.2: an unknown 2xx counts as 200."""
    net = Net()
    agent, peer, _ = dialled(net)
    peer.reply(peer.request("INVITE"), 202, peer.arrivals[-1][1], body=sdp(P))
    assert agent.only(Answered).status == 202
    assert peer.request("ACK").to.tag == "bobtag"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_ringing_invite_waits_beyond_timer_b(transport: str) -> None:
    """Row 37. RFC 3261 17.1.1.2: Timer B ends with the first 1xx; how long to ring is ours."""
    net = Net()
    agent, peer, _ = dialled(net, transport)
    peer.reply(peer.request("INVITE"), 180, peer.arrivals[-1][1])
    net.run(300)
    assert agent.of(Failed) == []
    peer.reply(peer.request("INVITE"), 200, peer.arrivals[0][1], body=sdp(P))
    agent.only(Answered)
    assert [event.status for event in agent.of(Progressed)] == [180]


def test_options_inside_a_dialog_are_answered_while_draining() -> None:
    """Row 39. RFC 3261 11.2: the dialog lives whatever is refused outside of it."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    agent.endpoint.set_draining(True)
    peer.say(peer.in_dialog("OPTIONS", accepted, flow, cseq=2), flow)
    answer = peer.response("OPTIONS")
    assert answer.status == 200
    assert answer.headers.values("Allow") == list(ALLOWED)


@pytest.mark.parametrize(
    ("retry_after", "again"), [("0", 0.0), ("4 (busy);duration=9", 4.0), ("10", 10.0)]
)
def test_our_reinvite_met_with_500_and_retry_after_comes_again_then(
    retry_after: str, again: float
) -> None:
    """Rows 46, 53. RFC 3261 14.2: the peer still had an INVITE of ours or its own to settle."""
    net = Net()
    agent, peer, session, flow = answered(net)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)  # type: ignore[arg-type]
    net.settle()
    first = peer.request("INVITE")
    peer.reply(first, 500, flow, tag=None, headers=(("Retry-After", retry_after),))
    refused_at = net.now - 0.2 + net.delay
    net.run(11)
    second = peer.request("INVITE")
    assert second.cseq.number == first.cseq.number + 1
    sent_at = [wire.at for wire in net.wires if wire.source == A and wire.label == "INVITE"][-1]
    assert sent_at - refused_at == pytest.approx(again)
    assert agent.of(Reoffered) == []
    peer.reply(second, 200, flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    assert agent.only(Reoffered).ok


@pytest.mark.parametrize("retry_after", ["11", "3600", "nonsense", ""])
def test_a_500_that_asks_for_no_or_a_long_wait_settles_our_reinvite(retry_after: str) -> None:
    """Row 46. RFC 3261 20.33: a longer wait than 14.2 knows is another trouble."""
    net = Net()
    agent, peer, session, flow = answered(net)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)  # type: ignore[arg-type]
    net.settle()
    fields = (("Retry-After", retry_after),) if retry_after else ()
    peer.reply(peer.request("INVITE"), 500, flow, tag=None, headers=fields)
    assert agent.only(Reoffered).ok is False
    assert agent.of(Ended) == []


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (sdp(P).replace(b"8 101", b"18").replace(b"8 PCMA", b"18 G729"), "305"),
        (sdp(P).replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVPF"), "302"),
        (sdp(P).replace(b"m=audio 30000 RTP/AVP 8 101", b"m=image 9 udptl t38"), "304"),
        (b"v=1\r\n", "399"),
    ],
    ids=["no codec", "no protocol", "no audio", "unreadable"],
)
def test_an_unusable_offer_is_refused_with_a_warning_of_its_kind(offer: bytes, code: str) -> None:
    """Rows 46, 67, 93. RFC 3261 20.43, 21.4.26: in the first INVITE and in a re-INVITE."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=offer), flow)
    session = agent.only(IncomingInvite).session
    rejected = agent.endpoint.adopt(session, media(A), "carrier", net.now)
    assert isinstance(rejected, Rejected)
    agent.endpoint.reject(session, rejected.status, net.now)
    net.settle()
    refused = peer.response("INVITE", rejected.status)
    assert (refused.headers.get("Warning") or "").startswith(f"{code} trunkbridge ")

    agent.answers()
    peer.say(peer.invite(agent, flow, body=sdp(P), call_id="second"), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=2, body=offer), flow)
    refused = peer.response("INVITE")
    assert refused.status == rejected.status
    assert (refused.headers.get("Warning") or "").startswith(f"{code} trunkbridge ")
    assert agent.of(SessionChanged) == []


def test_a_refusal_for_another_reason_has_no_warning() -> None:
    """Row 46. RFC 3261 20.43: nothing was wrong with the offer."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    session = agent.only(IncomingInvite).session
    agent.endpoint.adopt(session, media(A), "carrier", net.now)
    agent.endpoint.reject(session, 480, net.now)
    net.settle()
    assert "Warning" not in peer.response("INVITE", 480).headers


@pytest.mark.parametrize(
    ("pause", "taken", "cause"),
    [
        (0.06, False, EndCause.RENEGOTIATION_FAILED),
        (3.0, False, EndCause.BYE),
        (0.06, True, EndCause.BYE),
    ],
    ids=["at once", "later", "after another offer"],
)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_bye_right_after_we_refused_an_offer_is_about_that_offer(
    method: str, pause: float, taken: bool, cause: EndCause
) -> None:
    """Row 67. Carriers hang up over a 488 (Plivo 3040); else the session goes on as it was."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    net.delay = 0.001
    g729 = sdp(P, version=2).replace(b"AVP 8", b"AVP 18").replace(b"8 PCMA", b"18 G729")
    for cseq, body in enumerate([g729, sdp(P, version=3)] if taken else [g729], start=2):
        request = peer.in_dialog(method, accepted, flow, cseq=cseq, body=body)
        peer.net.send(peer, flow, request.encode())
        net.run(pause)
    assert agent.of(Ended) == []
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=9), flow)
    assert agent.only(Ended).cause is cause


# Header fields that are not for us


def test_header_fields_we_do_nothing_with_do_no_harm() -> None:
    """Row 47. RFC 3261 20.17, 20.19, 20.38; RFC 7989; RFC 8224: and Timestamp is echoed."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    fields = (
        ("Timestamp", "54.21 0.5"),
        ("Expires", "180"),
        ("Session-ID", "ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000"),
        ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("y", "eyJhbGciOiJFUzI1NiJ9.e30.x;info=<https://c.example/p>;alg=ES256;ppt=shaken"),
        ("Expires", "nonsense"),
        ("Max-Breadth", "60"),
        ("Proxy-Require", "privacy"),
    )
    invite = peer.invite(agent, flow, body=sdp(P), headers=fields)
    peer.say(invite, flow)
    assert peer.statuses("INVITE") == [100, 180, 200]
    assert peer.response("INVITE", 100).headers.get("Timestamp") == "54.21 0.5"


# Right after the answer


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("inbound", [True, False])
def test_a_reinvite_or_update_right_after_the_answer_is_neither_a_call_nor_a_hold(
    method: str, inbound: bool
) -> None:
    """Failure 7.3: IMS re-INVITE after the answer. RFC 3261 14.2, RFC 3264 8."""
    net = Net()
    if inbound:
        agent, peer, flow, accepted = called(net)
        peer.say(peer.in_dialog(method, accepted, flow, cseq=2, body=sdp(P, version=2)), flow)
        peer.say(peer.in_dialog("ACK", accepted, flow, cseq=2), flow)
    else:
        agent, peer, _, flow = answered(net)
        invite = peer.request("INVITE")
        again = peer.from_callee(method, invite, flow, tag="bobtag", cseq=1, body=sdp(P, version=2))
        peer.say(again, flow)
        peer.say(peer.from_callee("ACK", invite, flow, tag="bobtag", cseq=1), flow)
    response = peer.response(method)
    assert response.status == 200
    assert b"a=sendrecv" in response.body
    assert agent.of(SessionChanged) == []
    assert len(agent.of(IncomingInvite)) == int(inbound)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_codec_packet_time_and_address_may_change_in_mid_call_without_a_hold(method: str) -> None:
    """Row 66. RFC 3264 8.3.1 to 8.3.4."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    steps = [
        sdp(P, version=2).replace(b"AVP 8 101", b"AVP 0 96").replace(b":101 tele", b":96 tele"),
        sdp(P, "a=ptime:40", version=3, port=31000),
        sdp(P, version=4, address="198.51.100.9"),
        sdp(P, version=5),
    ]
    for cseq, body in enumerate(steps, start=2):
        peer.say(peer.in_dialog(method, accepted, flow, cseq=cseq, body=body), flow)
        assert peer.response(method).status == 200
        if method == "INVITE":
            peer.say(peer.in_dialog("ACK", accepted, flow, cseq=cseq), flow)
    seen = [
        (n.codec, n.dtmf_payload_type, n.ptime, n.remote_address, n.remote_port, n.hold)
        for n in (event.negotiated for event in agent.of(SessionChanged))
    ]
    assert seen == [
        ("PCMU", 96, 20, P, 30000, None),
        ("PCMA", 101, 40, P, 31000, None),
        ("PCMA", 101, 20, "198.51.100.9", 30000, None),
        ("PCMA", 101, 20, P, 30000, None),
    ]


@pytest.mark.parametrize("later", ["same address", "no attribute"])
def test_an_unhold_with_the_same_address_sends_again(later: str) -> None:
    """Failure 7.3: unhold with the same address. Failure 7.4: sendrecv after unhold."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    bodies = [
        sdp(P, "a=sendonly", version=2, address="0.0.0.0"),
        sdp(P, *(("a=sendrecv",) if later == "same address" else ()), version=3),
        sdp(P, "a=sendrecv", version=4),
    ]
    for cseq, body in enumerate(bodies, start=2):
        peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=cseq, body=body), flow)
        peer.say(peer.in_dialog("ACK", accepted, flow, cseq=cseq), flow)
    changes = [event.negotiated for event in agent.of(SessionChanged)]
    assert [change.hold for change in changes] == [Hold.ZERO_ADDRESS, None]
    assert (changes[-1].send, changes[-1].remote_address) == (True, P)


def test_t38_beside_the_audio_is_declined_alone() -> None:
    """Rows 60, 93. RFC 3264 6: port 0 for the fax, the audio as it was."""
    net = Net()
    agent, peer, flow, accepted = called(net)
    fax = sdp(P, version=2) + b"m=image 6000 udptl t38\r\na=T38FaxVersion:0\r\n"
    peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=2, body=fax), flow)
    response = peer.response("INVITE")
    assert response.status == 200
    lines = [line for line in response.body.split(b"\r\n") if line.startswith(b"m=")]
    assert [line.split()[1] == b"0" for line in lines] == [False, True]
    assert agent.of(SessionChanged) == []


def test_several_calls_share_a_connection_and_end_one_by_one() -> None:
    """R1 7.1.21. RFC 3261 12: dialogs are told apart by their ids."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    accepted = []
    for number in range(3):
        peer.say(peer.invite(agent, flow, body=sdp(P), call_id=f"call-{number}"), flow)
        accepted.append(peer.response("INVITE", 200))
        peer.say(peer.in_dialog("ACK", accepted[-1], flow, cseq=1), flow)
    peer.say(peer.in_dialog("BYE", accepted[1], flow, cseq=2), flow)
    sessions = [event.session for event in agent.of(IncomingInvite)]
    assert agent.only(Ended).session == sessions[1]
    assert agent.only(Ended).cause is EndCause.BYE
    assert agent.endpoint.occupied == 2


def test_tags_and_call_ids_are_whole_tokens_and_new_for_every_call() -> None:
    """R1 7.1.19. Failure 7.2: From tag constant. RFC 3261 19.3: random, and of each call's own."""
    net = Net()
    made: list[str] = []

    def tokens() -> str:
        made.append(f"{len(made):024d}")
        return made[-1]

    agent, peer = net.agent(A, tokens=tokens), net.peer(P)
    for _ in range(3):
        agent.dial(P)
    net.settle()
    invites = peer.requests("INVITE")
    for values in (
        [invite.from_.tag for invite in invites],
        [invite.call_id for invite in invites],
        [(invite.top_via.branch or "").removeprefix("z9hG4bK-") for invite in invites],
    ):
        assert len(set(values)) == 3
        assert set(values) <= set(made)


def test_only_what_is_there_is_advertised() -> None:
    """R1 7.1.13. RFC 3261 20.5, 20.37: Allow and Supported of our INVITE, 200 and OPTIONS."""
    net = Net()
    _, peer, _ = dialled(net)
    invite = peer.request("INVITE")
    assert invite.headers.values("Allow") == list(ALLOWED)
    agent = net.agent(B)
    agent.answers()
    for method in invite.headers.values("Allow"):
        assert method in ("ACK", "CANCEL") or method in _served(net, agent, peer)


def _served(net: Net, agent: Agent, peer: Peer) -> list[str]:
    """Return the methods that a dialog of ours does not refuse with 405."""
    flow = peer.fresh_flow(agent)
    call_id = f"served-{net.now}"
    peer.say(peer.invite(agent, flow, body=sdp(P), call_id=call_id), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    served = []
    for cseq, method in enumerate((m for m in ALLOWED if m not in ("ACK", "CANCEL", "BYE")), 2):
        peer.say(peer.in_dialog(method, accepted, flow, cseq=cseq), flow)
        if peer.response(method).status != 405:
            served.append(method)
        if method == "INVITE":
            peer.say(peer.in_dialog("ACK", accepted, flow, cseq=cseq, body=sdp(P)), flow)
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=99), flow)
    return [*served, "BYE"] if peer.response("BYE").status == 200 else served
