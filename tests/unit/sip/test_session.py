"""What is refused and how; sources; keys; probes; limits; what is left behind."""

from __future__ import annotations

import pytest

from bridge.errors import MisuseError
from bridge.sip.agenda import Agenda
from bridge.sip.events import (
    Answered,
    CloseFlow,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    KeyReported,
    Probed,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Headers, Request
from bridge.sip.parameters import ALLOWED, EXTENSIONS, EndpointConfig
from sdp.negotiate import Rejected
from tests.unit.sip.link import Agent, Net, Peer, established, media, sdp

pytestmark = pytest.mark.unit

A, B, P, STRANGER = "192.0.2.1", "192.0.2.2", "198.51.100.7", "203.0.113.66"


def pair(net: Net, transport: str = "tcp", **options: object) -> tuple[Agent, Peer, Flow]:
    agent, peer = net.agent(A, **options), net.peer(P)
    return agent, peer, peer.flow_to(agent, transport)


def lone(
    peer: Peer, flow: Flow, method: str, *fields: tuple[str, str], body: bytes = b""
) -> Request:
    """A request outside of any dialog."""
    headers = Headers(
        [
            ("Via", peer.new_via(flow)),
            ("Max-Forwards", "70"),
            ("From", f"<sip:carol@{P}>;tag=peertag"),
            ("To", f"<sip:5551@{A}>"),
            ("Call-ID", f"lone-{method}"),
            ("CSeq", f"1 {method}"),
            *fields,
        ]
    )
    return Request(method, f"sip:5551@{A}", headers, body)


def in_call(net: Net, transport: str = "tcp", **options: object) -> tuple[Agent, Peer, Flow]:
    agent, peer, flow = pair(net, transport, **options)
    agent.answers()
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    agent.only(Confirmed)
    return agent, peer, flow


# Requests outside of a dialog


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 200),
        ("REFER", 603),
        ("NOTIFY", 481),
        ("BYE", 481),
        ("UPDATE", 481),
        ("INFO", 481),
        ("PRACK", 481),
        ("MESSAGE", 405),
        ("SUBSCRIBE", 405),
        ("REGISTER", 405),
        ("PUBLISH", 405),
        ("NOTHING", 405),
    ],
)
def test_requests_outside_of_a_dialog(method: str, status: int) -> None:
    """Rows 38, 95, 97, 98. R1 7.1.8. Threat 5.1: Toll fraud.

    RFC 3261 8.2.1, 8.2.7; RFC 6665 4.1.3.
    """
    net = Net()
    agent, peer, flow = pair(net)
    request = lone(peer, flow, method)
    request.headers.set("Max-Forwards", "0")  # RFC 4475 zeromf: a UA serves it all the same
    peer.say(request, flow)
    peer.say(request, flow)
    assert peer.statuses(method) == [status, status]
    first, second = (m for m in peer.received)
    assert first.to.tag == second.to.tag is not None
    if status == 405:
        assert first.headers.values("Allow") == list(ALLOWED)
    assert agent.endpoint.layer.servers == {}


def test_a_notify_that_nobody_asked_for_is_refused_and_told_to_nobody() -> None:
    """Row 97. RFC 3842, RFC 6665 4.1.3: message-summary after a REGISTER, say."""
    net = Net()
    agent, peer, flow = pair(net)
    fields = (("Event", "message-summary"), ("Subscription-State", "active"))
    peer.say(lone(peer, flow, "NOTIFY", *fields, body=b"Messages-Waiting: yes\r\n"), flow)
    refused = peer.response("NOTIFY", 489)
    assert refused.headers.get("Allow-Events") == "refer"
    peer.say(lone(peer, flow, "NOTIFY", ("Event", "refer;id=2")), flow)
    assert peer.response("NOTIFY").status == 481
    assert agent.events == []
    assert agent.endpoint.layer.servers == {}


def test_options_tells_what_we_can_do_and_503_while_draining() -> None:
    """Row 39. RFC 3261 11.2."""
    net = Net()
    agent, peer, flow = pair(net)
    peer.say(lone(peer, flow, "OPTIONS"), flow)
    answer = peer.response("OPTIONS", 200)
    assert answer.headers.values("Allow") == list(ALLOWED)
    assert "application/sdp" in answer.headers.values("Accept")
    assert answer.headers.values("Supported") == sorted(EXTENSIONS)
    agent.endpoint.set_draining(True)
    peer.say(lone(peer, flow, "OPTIONS"), flow)
    assert peer.response("OPTIONS").status == 503
    assert "Retry-After" in peer.response("OPTIONS").headers
    agent.endpoint.set_draining(False)
    peer.say(lone(peer, flow, "OPTIONS"), flow)
    assert peer.response("OPTIONS").status == 200


@pytest.mark.parametrize(
    ("change", "status", "field", "value"),
    [
        (("Require", "100rel, precondition"), 420, "Unsupported", "precondition"),
        (("Content-Type", "text/plain"), 415, "Accept", "application/sdp, multipart/mixed"),
        (("Content-Encoding", "gzip"), 415, "Accept-Encoding", "identity"),
        (("Contact", ""), 400, None, None),
        (("uri", "http://example.com/"), 416, None, None),
    ],
)
def test_invites_we_cannot_serve(
    change: tuple[str, str], status: int, field: str | None, value: str | None
) -> None:
    """Rows 38, 56. RFC 3261 8.2.2.3, 8.2.3, 8.2.2.1."""
    net = Net()
    agent, peer, flow = pair(net)
    invite = peer.invite(agent, flow, body=sdp(P))
    name, text = change
    if name == "uri":
        invite.uri = text
    elif text:
        invite.headers.set(name, text)
    else:
        invite.headers.remove(name)
    peer.say(invite, flow)
    assert peer.statuses("INVITE") == [status]
    if field is not None:
        assert peer.response("INVITE").headers.get(field) == value
    assert agent.events == []
    assert agent.endpoint.core.sessions == {}


def test_a_body_that_may_be_ignored_makes_a_delayed_offer() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    agent.answers()
    invite = peer.invite(agent, flow, headers=(("Content-Disposition", "x;handling=optional"),))
    invite.headers.set("Content-Type", "text/plain")
    invite.body = b"hello"
    peer.say(invite, flow)
    assert b"m=audio" in peer.response("INVITE", 200).body


def test_sdp_is_found_in_a_multipart_body() -> None:
    """Row 38. RFC 5621 3."""
    net = Net()
    agent, peer, flow = pair(net)
    invite = peer.invite(agent, flow)
    invite.headers.set("Content-Type", "multipart/mixed;boundary=zz")
    invite.body = (
        b"--zz\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n"
        b"--zz\r\nContent-Type: application/sdp\r\n\r\n" + sdp(P) + b"\r\n--zz--\r\n"
    )
    peer.say(invite, flow)
    session = agent.only(IncomingInvite).session
    result = agent.endpoint.adopt(session, media(A), "carrier", net.now)
    assert result is not None
    assert not isinstance(result, Rejected)


def test_an_offer_without_a_common_codec_is_told_to_the_call_layer() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    body = sdp(P).replace(b"8 101", b"18").replace(b"8 PCMA", b"18 G729")
    peer.say(peer.invite(agent, flow, body=body), flow)
    session = agent.only(IncomingInvite).session
    rejected = agent.endpoint.adopt(session, media(A), "carrier", net.now)
    assert isinstance(rejected, Rejected)
    agent.endpoint.reject(session, rejected.status, net.now)
    net.settle()
    assert peer.statuses("INVITE") == [100, 488]
    assert agent.endpoint.core.sessions == {}


def test_a_merged_invite_is_refused_and_a_copy_is_not_a_second_call() -> None:
    """Rows 27, 28. Threat 5.1: Amplification and loops. RFC 3261 8.2.2.2, 17.2.1."""
    net = Net()
    agent, peer, flow = pair(net)
    invite = peer.invite(agent, flow, body=sdp(P), branch="z9hG4bKone")
    peer.say(invite, flow)
    peer.say(invite, flow)
    peer.say(peer.invite(agent, flow, body=sdp(P), branch="z9hG4bKtwo"), flow)
    assert peer.statuses("INVITE") == [100, 100, 482]
    agent.only(IncomingInvite)


def test_over_max_sessions_nothing_is_allocated() -> None:
    """Row 46. Threat 5.1: INVITE and REGISTER flood. RFC 3261 21.5.4: 503 with Retry-After."""
    net = Net()
    agent, peer, flow = pair(net, config=EndpointConfig(max_sessions=2, retry_after=7))
    for n in range(4):
        peer.say(peer.invite(agent, flow, body=sdp(P), call_id=f"c{n}"), flow)
    assert peer.statuses("INVITE") == [100, 100, 503, 503]
    assert peer.response("INVITE", 503).headers.get("Retry-After") == "7"
    assert agent.endpoint.occupied == 2
    assert len(agent.endpoint.layer.servers) == 2
    agent.endpoint.reject(agent.of(IncomingInvite)[0].session, 486, net.now)
    peer.say(peer.invite(agent, flow, body=sdp(P), call_id="c9"), flow)
    assert len(agent.of(IncomingInvite)) == 3


def test_draining_passes_new_calls_up_and_serves_running_ones() -> None:
    net = Net()
    agent, peer, flow = in_call(net)
    agent.endpoint.set_draining(True)
    peer.say(peer.invite(agent, flow, body=sdp(P), call_id="second"), flow)
    second = agent.of(IncomingInvite)[-1]
    assert second.request.call_id == "second"
    agent.endpoint.reject(second.session, 503, net.now)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("OPTIONS", accepted, flow, cseq=2), flow)
    assert peer.response("OPTIONS").status == 200
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=3), flow)
    assert peer.response("BYE").status == 200


# Sources


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE"])
@pytest.mark.parametrize("policy", [False, True])
def test_strangers_are_ignored_or_refused_as_the_policy_says(method: str, policy: bool) -> None:
    """Row 98. Threat 5.1: Amplification and loops."""
    net = Net()
    agent = net.agent(A, unknown_reject=lambda _flow: policy)
    agent.trunks = agent.new_call_trunks = frozenset()
    peer = net.peer(STRANGER)
    flow = peer.flow_to(agent)
    request = (
        peer.invite(agent, flow, body=sdp(P)) if method == "INVITE" else lone(peer, flow, method)
    )
    peer.say(request, flow)
    assert peer.statuses(method) == ([403] if policy else [])
    assert agent.events == []


def test_a_source_for_dialogs_only_may_not_make_a_new_call() -> None:
    """Threat 5.1: Toll fraud."""
    net = Net()
    agent = net.agent(A)
    agent.new_call_trunks = frozenset()
    peer = net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    assert peer.received == []
    peer.say(lone(peer, flow, "OPTIONS"), flow)
    assert peer.statuses("OPTIONS") == [200]


@pytest.mark.parametrize(
    ("host", "trunks", "status"),
    [
        (STRANGER, frozenset(), None),
        (STRANGER, frozenset(("another",)), None),
        (STRANGER, frozenset(("carrier",)), 200),
        (P, frozenset(), 200),
    ],
)
def test_who_may_speak_in_a_dialog(host: str, trunks: frozenset[str], status: int | None) -> None:
    """Failure 7.2: BYE of the far end on another connection.

    Threat 5.1: Spoofed in-dialog requests.
    """
    net = Net()
    agent, peer, _ = in_call(net)
    accepted = peer.response("INVITE", 200)
    speaker = peer if host == P else net.peer(host)
    agent.trunks, agent.new_call_trunks = trunks, frozenset()
    flow = speaker.fresh_flow(agent)
    ack_later = speaker.in_dialog("BYE", accepted, flow, cseq=2)
    speaker.say(ack_later, flow)
    assert speaker.statuses("BYE") == ([] if status is None else [status])
    assert len(agent.of(Ended)) == (0 if status is None else 1)


# Requests inside a dialog


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("REFER", 603),
        ("NOTIFY", 481),
        ("PRACK", 481),
        ("MESSAGE", 405),
        ("SUBSCRIBE", 405),
        ("OPTIONS", 200),
        ("INFO", 200),
        ("UPDATE", 200),
        ("BYE", 200),
    ],
)
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_requests_inside_a_dialog(method: str, status: int, transport: str) -> None:
    """Rows 38, 95, 97, 98. R1 7.1.8. RFC 3261 8.2.1; RFC 3515 2.4.2."""
    net = Net()
    agent, peer, flow = in_call(net, transport)
    accepted = peer.response("INVITE", 200)
    request = peer.in_dialog(method, accepted, flow, cseq=2)
    peer.say(request, flow)
    answer = peer.response(method)
    assert answer.status == status
    assert answer.to.tag == accepted.to.tag
    if transport == "udp":
        peer.say(request, flow)
        assert peer.statuses(method) == [status, status]
    assert agent.endpoint.occupied == (0 if method == "BYE" else 1)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "BYE", "INFO", "OPTIONS"])
def test_requests_for_an_unknown_dialog_are_answered_481(method: str) -> None:
    """Row 35. RFC 3261 12.2.2."""
    net = Net()
    _, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    request = peer.in_dialog(method, accepted, flow, cseq=2)
    request.headers.set("Call-ID", "unknown")
    peer.say(request, flow)
    assert peer.statuses(method)[-1] == 481


def test_a_lower_cseq_is_answered_500_and_a_jump_is_fine() -> None:
    """Row 26. RFC 3261 12.2.2."""
    net = Net()
    _, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    for cseq in (50, 49, 51):
        peer.say(peer.in_dialog("OPTIONS", accepted, flow, cseq=cseq), flow)
    assert peer.statuses("OPTIONS") == [200, 500, 200]


def test_a_reinvite_is_never_a_new_call_whatever_is_wrong_with_it() -> None:
    """R1 7.1.2."""
    net = Net()
    agent, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    for cseq, field in enumerate(
        [("Require", "precondition"), ("Content-Type", "text/html")], start=2
    ):
        request = peer.in_dialog("INVITE", accepted, flow, cseq=cseq, body=sdp(P, version=2))
        request.headers.set(*field)
        peer.say(request, flow)
    assert peer.statuses("INVITE")[-2:] == [420, 415]
    agent.only(IncomingInvite)


def test_a_stray_ack_is_ignored() -> None:
    net = Net()
    agent, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    before = len(net.wires)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=77), flow)
    peer.say(lone(peer, flow, "ACK"), flow)
    assert net.labels()[before:] == ["ACK"] * 3
    assert len(agent.of(Confirmed)) == 1


def test_a_bye_after_the_end_is_answered_481_and_a_bye_that_crosses_ours_200() -> None:
    """Row 35. RFC 3261 15.1.2."""
    net = Net()
    agent, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    ours = peer.request("BYE")
    peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=2, body=sdp(P)), flow)
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=3), flow)
    peer.reply(ours, 200, flow, tag=None)
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=4), flow)
    peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=5, body=sdp(P)), flow)
    assert peer.statuses("BYE") == [200, 481]
    assert peer.statuses("INVITE")[-2:] == [481, 481]
    assert agent.of(Ended) == []


# INFO


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("application/dtmf-relay", b"Signal=5\r\nDuration=250\r\n", ("5", 250)),
        ("application/dtmf-relay", b"Signal= * \r\nDuration= 90", ("*", 90)),
        ("application/dtmf-relay", b"Signal=11\nDuration=x\n", ("#", 160)),
        ("Application/DTMF-Relay; charset=utf-8", b"signal=d", ("D", 160)),
        ("application/dtmf-relay", b"Signal=1\r\nDuration=99999999999", ("1", 160)),
        ("application/dtmf-relay", b"Signal=1\r\nDuration=600000", ("1", 10000)),
        ("application/dtmf", b"7", ("7", 160)),
        ("application/dtmf", b"10\r\n", ("*", 160)),
        ("application/dtmf-relay", b"Signal=16\r\n", None),
        ("application/dtmf-relay", b"", None),
        ("application/dtmf", b"\xff\xfe", None),
    ],
)
def test_keys_by_info(kind: str, body: bytes, key: tuple[str, int] | None) -> None:
    """Row 86. RFC 6086 (the older usage): a key, or nothing that hurts; 200."""
    net = Net()
    agent, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    fields = (("Content-Type", kind),)
    peer.say(peer.in_dialog("INFO", accepted, flow, cseq=2, body=body, headers=fields), flow)
    assert peer.statuses("INFO") == [200]
    found = [(e.digit, e.duration_ms) for e in agent.of(KeyReported)]
    assert found == ([] if key is None else [key])


def test_an_info_that_is_no_key_is_answered_415() -> None:
    """Row 86. RFC 3261 8.2.3."""
    net = Net()
    agent, peer, flow = in_call(net)
    accepted = peer.response("INVITE", 200)
    fields = (("Content-Type", "application/media_control+xml"),)
    peer.say(peer.in_dialog("INFO", accepted, flow, cseq=2, body=b"<x/>", headers=fields), flow)
    assert peer.statuses("INFO") == [415]
    assert "application/dtmf-relay" in peer.response("INFO").headers.values("Accept")
    assert agent.of(KeyReported) == []


def test_a_copy_of_an_info_over_udp_is_one_key() -> None:
    net = Net()
    agent, peer, flow = in_call(net, "udp")
    accepted = peer.response("INVITE", 200)
    fields = (("Content-Type", "application/dtmf"),)
    info = peer.in_dialog("INFO", accepted, flow, cseq=2, body=b"1", headers=fields)
    for _ in range(3):
        peer.say(info, flow)
    assert peer.statuses("INFO") == [200, 200, 200]
    assert len(agent.of(KeyReported)) == 1


# Delayed offer


def test_a_delayed_offer_is_confirmed_by_the_answer_in_the_ack() -> None:
    """Row 50. Failure 7.2: delayed-offer ACK dropped. RFC 3261 13.2.1, RFC 6337 3.1.2."""
    net = Net()
    agent, peer, flow = pair(net)
    agent.answers()
    peer.say(peer.invite(agent, flow), flow)
    accepted = peer.response("INVITE", 200)
    assert b"RTP/AVP 8 0 101" in accepted.body
    assert agent.of(Confirmed) == []
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1, body=sdp(P, "a=sendonly")), flow)
    confirmed = agent.only(Confirmed).negotiated
    assert (confirmed.remote_port, confirmed.hold) == (30000, "sendonly")


@pytest.mark.parametrize("body", [b"", b"nonsense"])
def test_a_delayed_offer_without_usable_answer_ends_the_call(body: bytes) -> None:
    """Row 50. RFC 3261 13.2.1."""
    net = Net()
    agent, peer, flow = pair(net)
    agent.answers()
    peer.say(peer.invite(agent, flow), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1, body=body), flow)
    assert agent.only(Ended).cause is EndCause.UNUSABLE_ANSWER
    assert peer.request("BYE").headers.get("Reason") == 'SIP;cause=488;text="Not Acceptable Here"'
    assert agent.of(Confirmed) == []


# Responses to our INVITE


@pytest.mark.parametrize("status", [302, 401, 407, 404, 486, 503, 603])
def test_every_refusal_is_acknowledged_and_told(status: int) -> None:
    """Row 22. R1 7.1.16. Failure 7.2: ACK of a rejected INVITE leaks. RFC 3261 17.1.1.3."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P)
    net.settle()
    peer.reply(peer.request("INVITE"), status, peer.arrivals[-1][1])
    failed = agent.only(Failed)
    assert (failed.cause, failed.status, failed.rang) == (FailureCause.REFUSED, status, False)
    ack = peer.request("ACK")
    assert ack.top_via.branch == peer.request("INVITE").top_via.branch
    assert ack.to.tag == "bobtag"
    assert agent.endpoint.core.sessions == {}
    assert agent.endpoint.core.dialogs == {}


def test_the_ack_of_a_2xx_has_its_own_branch_the_route_set_and_the_contact() -> None:
    """Row 21. R1 7.1.12. RFC 3261 13.2.2.4, 17.1.1.3."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P)
    net.settle()
    invite = peer.request("INVITE")
    route = (("Record-Route", f"<sip:{P};lr>, <sip:inner.example;lr>"),)
    peer.reply(
        invite, 200, peer.arrivals[-1][1], body=sdp(P), headers=route, contact="<sip:b@10.1.1.1>"
    )
    ack = peer.request("ACK")
    assert ack.uri == "sip:b@10.1.1.1"
    assert ack.headers.all("Route") == ["<sip:inner.example;lr>", f"<sip:{P};lr>"]
    assert ack.top_via.branch != invite.top_via.branch
    assert str(ack.cseq) == "1 ACK"
    assert agent.of(Answered)


def test_responses_to_nothing_are_dropped() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P)
    net.settle()
    invite, flow = peer.arrivals[-1]
    assert isinstance(invite, Request)
    invite.headers.set("Via", f"SIP/2.0/TCP {A}:5060;branch=z9hG4bKunknown")
    peer.reply(invite, 200, flow, body=sdp(P))
    assert agent.events == []


# Probes


def test_a_probe_that_is_answered_is_alive_and_another_status_too() -> None:
    net = Net()
    agent, peer, flow = in_call(net)
    session = agent.only(IncomingInvite).session
    for status in (200, 405, 500):
        agent.endpoint.probe(session, net.now)
        agent.endpoint.probe(session, net.now)
        net.settle()
        peer.reply(peer.request("OPTIONS"), status, flow, tag=None)
    assert [e.alive for e in agent.of(Probed)] == [True] * 3
    assert len(peer.requests("OPTIONS")) == 3


def test_a_probe_answered_481_ends_the_call_without_bye() -> None:
    """Row 36. RFC 3261 12.2.1.2."""
    net = Net()
    agent, peer, flow = in_call(net)
    agent.endpoint.probe(agent.only(IncomingInvite).session, net.now)
    net.settle()
    peer.reply(peer.request("OPTIONS"), 481, flow, tag=None)
    ended = agent.only(Ended)
    assert (ended.cause, ended.status) == (EndCause.PEER_GONE, 481)
    assert peer.requests("BYE") == []
    assert agent.endpoint.core.sessions == {}


def test_two_probes_in_a_row_without_an_answer_end_the_call_with_bye() -> None:
    """Row 36. RFC 3261 12.2.1.2: one time-out may be the network's."""
    net = Net()
    agent, peer, flow = in_call(net)
    session = agent.only(IncomingInvite).session
    for answered in (False, True, False, False):
        assert agent.of(Ended) == []
        agent.endpoint.probe(session, net.now)
        net.settle()
        if answered:
            peer.reply(peer.request("OPTIONS"), 200, flow, tag=None)
        net.run(33)
    assert [e.alive for e in agent.of(Probed)] == [False, True, False, False]
    assert agent.only(Ended).cause is EndCause.PEER_GONE
    assert len(peer.requests("BYE")) == 1


# Broken messages


def test_a_broken_stream_is_answered_400_and_closed() -> None:
    """Row 2. Threat 5.1: TCP abuse. RFC 3261 18.3, 20.14."""
    net = Net()
    agent, peer, flow = pair(net)
    invite = peer.invite(agent, flow, body=sdp(P)).encode()
    peer.say(invite.replace(b"Content-Length: ", b"Content-Length: x"), flow)
    assert peer.statuses("INVITE") == [400]
    assert len([o for o in agent.outputs if isinstance(o, CloseFlow)]) == 1
    assert flow.id not in net.ends


def test_a_malformed_request_in_a_sound_stream_is_answered_and_the_stream_lives() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    bad = peer.invite(agent, flow, body=sdp(P)).encode().replace(b"CSeq: 1 INVITE", b"CSeq: one")
    peer.say(bad, flow)
    peer.say(lone(peer, flow, "OPTIONS"), flow)
    assert [m.status for m in peer.received if not isinstance(m, Request)] == [400, 200]


# Odds and ends


def test_ringing_is_repeated_every_minute() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    agent.endpoint.ring(agent.only(IncomingInvite).session, net.now)
    net.run(130)
    assert peer.statuses("INVITE") == [100, 180, 180, 180]
    assert len({m.to.tag for m in peer.received[1:]}) == 1


def test_commands_for_a_session_that_is_gone_are_ignored() -> None:
    net = Net()
    agent = net.agent(A)
    gone = SessionId(12345)
    endpoint = agent.endpoint
    assert endpoint.adopt(gone, media(A), "carrier", net.now) is None
    for command in (endpoint.ring, endpoint.answer, endpoint.cancel, endpoint.bye, endpoint.probe):
        command(gone, net.now)
    endpoint.reject(gone, 486, net.now)
    assert endpoint.details(gone) is None
    assert endpoint.poll(net.now) == []


def test_answering_without_adopting_and_adopting_twice_are_our_own_bugs() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    session = agent.only(IncomingInvite).session
    with pytest.raises(MisuseError):
        agent.endpoint.answer(session, net.now)
    agent.endpoint.adopt(session, media(A), "carrier", net.now)
    with pytest.raises(MisuseError):
        agent.endpoint.adopt(session, media(A), "carrier", net.now)


def test_details_tell_ids_trunk_and_headers() -> None:
    net = Net()
    agent, peer, flow = pair(net)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=(("X-Ticket", "42"),)), flow)
    session = agent.only(IncomingInvite).session
    agent.endpoint.adopt(session, media(A), "carrier", net.now)
    details = agent.endpoint.details(session)
    assert details is not None
    assert (details.call_id, details.remote_tag, details.trunk) == ("call-1", "peertag", "carrier")
    assert ("X-Ticket", "42") in details.remote_headers
    assert details.request is not None


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_nothing_is_left_of_a_call_once_its_timers_have_run_out(transport: str) -> None:
    """Failure 7.2: leaked dialogs."""
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    for _ in range(3):
        session, _ = established(net, alice, bob, transport=transport)
        alice.endpoint.bye(session, net.now)
        net.run(1)
    net.run(60)
    for agent in (alice, bob):
        endpoint = agent.endpoint
        assert endpoint.core.sessions == endpoint.core.dialogs == {}
        assert endpoint.layer.clients == endpoint.layer.servers == {}
        assert endpoint.layer.courier.deliveries == endpoint.layer.courier.waiting == {}
        assert endpoint.callee.merges == {}
        assert endpoint.layer.servers_on.total() == 0
        assert endpoint.next_deadline() is None


def test_a_flood_of_requests_in_one_dialog_is_bounded() -> None:
    """Threat 5.1: Spoofed in-dialog requests."""
    net = Net()
    agent, peer, flow = in_call(net, "udp", config=EndpointConfig(max_flow_transactions=20))
    accepted = peer.response("INVITE", 200)
    for cseq in range(2, 60):
        peer.say(peer.in_dialog("OPTIONS", accepted, flow, cseq=cseq), flow)
    statuses = peer.statuses("OPTIONS")
    assert statuses.count(503) > 30
    assert len(agent.endpoint.layer.servers) == 20
    net.run(40)
    peer.say(peer.in_dialog("BYE", accepted, flow, cseq=99), flow)
    assert peer.statuses("BYE") == [200]


# The agenda


def test_the_agenda_keeps_order_moves_and_forgets() -> None:
    agenda: Agenda[str] = Agenda()
    for key, at in (("a", 3.0), ("b", 1.0), ("c", 1.0), ("d", 2.0)):
        agenda.set(key, at)
    agenda.set("b", 2.0)
    agenda.set("d", None)
    assert agenda.keys() == ["c", "b", "a"]
    assert agenda.next() == 1.0
    assert [agenda.pop_due(2.5) for _ in range(3)] == ["c", "b", None]
    assert (agenda.next(), len(agenda)) == (3.0, 1)


def test_the_agenda_does_not_grow_with_moves() -> None:
    agenda: Agenda[str] = Agenda()
    for at in range(10_000):
        agenda.set("a", float(at))
    assert len(agenda._heap) < 100
    assert agenda.pop_due(1e9) == "a"
    assert agenda.next() is None


def test_a_stranger_that_repeats_a_known_invite_is_told_nothing() -> None:
    """Threat 5.1: Spoofed in-dialog requests."""
    net = Net()
    agent, peer, flow = pair(net, "udp")
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    stranger = net.peer(STRANGER)
    agent.trunks = agent.new_call_trunks = frozenset()
    stranger.say(invite, stranger.flow_to(agent, "udp"))
    assert stranger.received == []
    assert peer.statuses("INVITE") == [100]
