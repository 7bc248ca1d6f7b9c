"""401 and 407 to requests of ours, and everything that crosses them.

RFC 3261 22; the checking side is written here by hand and shares nothing with the core.
"""

from __future__ import annotations

import hashlib
import re

import pytest

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Probed,
    Progressed,
    Reoffered,
    SessionChanged,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, response_to
from bridge.sip.parameters import EndpointConfig
from sdp.model import Direction
from sdp.negotiate import OfferAnswer, OfferAnswerSnapshot
from tests.unit.sip.link import Agent, Net, Peer, counter_tokens, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
USER, PASSWORD = "alice", "open sesame"
SECRET = Credentials(username=USER, password=PASSWORD)
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def challenge(nonce: str, *more: str, realm: str = "carrier") -> str:
    return ", ".join((f'Digest realm="{realm}"', f'nonce="{nonce}"', 'qop="auth"', *more))


def www(nonce: str, *more: str, realm: str = "carrier") -> tuple[tuple[str, str], ...]:
    return (("WWW-Authenticate", challenge(nonce, *more, realm=realm)),)


def read(value: str) -> dict[str, str]:
    found = re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', value)
    return {name: quoted or plain for name, quoted, plain in found}


def proven(request: Request, name: str = "Authorization") -> dict[str, str]:
    """The credentials of a request, once they have been found right."""
    (value,) = request.headers.all(name)
    fields = read(value)
    kind = HASHES[fields.get("algorithm", "MD5").removesuffix("-sess")]

    def h(text: str) -> str:
        return hashlib.new(kind, text.encode()).hexdigest()

    secret = h(f"{USER}:{fields['realm']}:{PASSWORD}")
    if fields.get("algorithm", "").endswith("-sess"):
        secret = h(f"{secret}:{fields['nonce']}:{fields['cnonce']}")
    middle = f"{fields['nc']}:{fields['cnonce']}:{fields['qop']}:" if "qop" in fields else ""
    what = h(f"{request.method}:{request.uri}")
    assert fields["response"] == h(f"{secret}:{fields['nonce']}:{middle}{what}")
    assert (fields["username"], fields["uri"]) == (USER, request.uri)
    return fields


class Call:
    """A call of ours to a scripted peer."""

    def __init__(
        self, net: Net, *, transport: str = "tcp", credentials: Credentials | None = SECRET
    ) -> None:
        self.net = net
        self.agent: Agent = net.agent(A)
        self.peer: Peer = net.peer(P)
        self.session: SessionId = self.agent.dial(P, transport=transport, credentials=credentials)
        net.settle()

    @property
    def flow(self) -> Flow:
        return self.peer.arrivals[-1][1]

    def last(self, method: str) -> Request:
        return self.peer.request(method)

    def refuse(self, method: str, *headers: tuple[str, str], status: int = 401) -> Request:
        """Refuse the last request of a kind; return the last one after that."""
        self.peer.reply(self.last(method), status, self.flow, headers=headers, tag=self.tag(method))
        return self.last(method)

    def tag(self, method: str) -> str:
        return "refused" if method == "INVITE" and not self.agent.of(Answered) else "bobtag"

    def accept(self, method: str, *, body: bytes = b"", tag: str = "bobtag") -> None:
        self.peer.reply(self.last(method), 200, self.flow, body=body, tag=tag)

    def established(self, *, nonce: str = "n1") -> Call:
        self.refuse("INVITE", *www(nonce))
        self.accept("INVITE", body=sdp(P))
        assert self.agent.of(Answered)
        return self

    @property
    def over(self) -> bool:
        return self.agent.endpoint.core.sessions == {}


# INVITE


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("status", "asks", "answers"),
    [
        (401, "WWW-Authenticate", "Authorization"),
        (407, "Proxy-Authenticate", "Proxy-Authorization"),
    ],
)
def test_a_challenged_invite_is_sent_again_with_credentials(
    transport: str, status: int, asks: str, answers: str
) -> None:
    """Rows 41, 42. RFC 3261 22.2."""
    call = Call(Net(), transport=transport)
    first = call.last("INVITE")
    assert answers not in first.headers
    second = call.refuse("INVITE", (asks, challenge("n1")), status=status)
    ack = call.last("ACK")
    assert (ack.top_via.branch, str(ack.cseq)) == (first.top_via.branch, "1 ACK")
    assert answers not in ack.headers
    assert proven(second, answers)["nc"] == "00000001"
    assert str(second.cseq) == "2 INVITE"
    assert second.top_via.branch != first.top_via.branch
    for name in ("Call-ID", "From", "To", "Contact"):
        assert second.headers.all(name) == first.headers.all(name)
    assert (second.uri, second.body) == (first.uri, first.body)
    assert len(call.peer.requests("INVITE")) == 2
    call.accept("INVITE", body=sdp(P))
    assert call.agent.only(Answered).status == 200
    # RFC 3261 22.1: the ACK has the credentials of its INVITE, count and all.
    ack = call.last("ACK")
    assert str(ack.cseq) == "2 ACK"
    assert ack.headers.all(answers) == second.headers.all(answers)


@pytest.mark.parametrize(
    "algorithm",
    ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"],
)
@pytest.mark.parametrize("qop", ['qop="auth"', 'qop="auth,auth-int"', 'x="y"'])
def test_every_algorithm_is_answered_as_a_server_checks_it(algorithm: str, qop: str) -> None:
    """Row 41. R1 7.1.14. RFC 7616, RFC 8760."""
    call = Call(Net())
    value = f'Digest realm="carrier", nonce="n1", algorithm={algorithm}, {qop}'
    second = call.refuse("INVITE", ("WWW-Authenticate", value))
    assert ("nc" in proven(second)) == qop.startswith("qop")


def test_a_proxy_and_the_far_end_are_answered_in_one_request() -> None:
    """Row 41. RFC 3261 22.3."""
    call = Call(Net())
    call.refuse("INVITE", ("Proxy-Authenticate", challenge("p1", realm="proxy")), status=407)
    third = call.refuse("INVITE", *www("w1", realm="callee"))
    assert proven(third)["nonce"] == "w1"
    # The proxy is told again, with the next count, though it has not asked again.
    assert (fields := proven(third, "Proxy-Authorization"))["nonce"] == "p1"
    assert fields["nc"] == "00000002"
    assert str(third.cseq) == "3 INVITE"


def test_without_credentials_a_challenge_ends_the_call() -> None:
    """Threat 5.1: Digest attacks."""
    call = Call(Net(), credentials=None)
    call.refuse("INVITE", *www("n1"))
    failed = call.agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.REFUSED, 401)
    assert len(call.peer.requests("INVITE")) == 1
    assert call.over


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("WWW-Authenticate", 'Basic realm="carrier"'),),
        www("n1", "algorithm=SHA3-256"),
        (("WWW-Authenticate", 'Digest realm="carrier", nonce="n", qop="auth-int"'),),
    ],
    ids=["nothing", "another scheme", "another algorithm", "auth-int alone"],
)
def test_a_challenge_that_cannot_be_answered_ends_the_call(
    headers: tuple[tuple[str, str], ...],
) -> None:
    call = Call(Net())
    call.refuse("INVITE", *headers)
    assert call.agent.only(Failed).status == 401
    assert call.over


def test_credentials_that_are_refused_twice_are_not_tried_again() -> None:
    """Row 41. RFC 3261 22.1."""
    call = Call(Net())
    for nonce in ("n1", "n2", "n3"):
        call.refuse("INVITE", *www(nonce))
    failed = call.agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.REFUSED, 401)
    assert len(call.peer.requests("INVITE")) == 3
    assert call.over
    call.net.run(40)
    assert call.agent.endpoint.layer.clients == {}


def test_a_stale_nonce_costs_nothing() -> None:
    """Row 41. RFC 7616 3.3."""
    call = Call(Net())
    for nonce in ("n1", "n2", "n3", "n4"):
        last = call.refuse("INVITE", *www(nonce, "stale=true"))
    assert (proven(last)["nonce"], str(last.cseq)) == ("n4", "5 INVITE")
    call.accept("INVITE", body=sdp(P))
    assert call.agent.only(Answered)


def test_a_copy_of_the_challenge_does_not_make_another_invite() -> None:
    call = Call(Net(), transport="udp")
    first, flow = call.last("INVITE"), call.flow
    for _ in range(3):
        call.peer.reply(first, 401, flow, headers=www("n1"), tag="refused")
    assert {r.cseq.number for r in call.peer.requests("INVITE")} == {1, 2}
    assert len({r.top_via.branch for r in call.peer.requests("INVITE")}) == 2
    assert len(call.peer.requests("ACK")) == 3


def test_a_refusal_after_the_credentials_is_acknowledged_with_them() -> None:
    call = Call(Net())
    second = call.refuse("INVITE", *www("n1"))
    call.refuse("INVITE", status=486)
    assert call.last("ACK").headers.all("Authorization") == second.headers.all("Authorization")
    assert call.agent.only(Failed).status == 486


def test_the_invite_finds_another_connection_when_the_challenge_came_by_a_dying_one() -> None:
    net = Net()
    call = Call(net)
    first, flow = call.last("INVITE"), call.flow
    net.set_up = 0.05
    call.peer.reply(first, 401, flow, headers=www("n1"), tag="refused")
    net.cut_all()
    net.run(1)
    second = call.last("INVITE")
    assert call.flow.id != flow.id
    assert proven(second)["nc"] == "00000001"
    call.accept("INVITE", body=sdp(P))
    assert call.agent.only(Answered)


# CANCEL


def test_a_cancel_after_the_challenge_waits_for_the_new_invite_to_be_heard_of() -> None:
    call = Call(Net())
    call.peer.reply(call.last("INVITE"), 100, call.flow, tag=None)
    second = call.refuse("INVITE", *www("n1"))
    call.agent.endpoint.cancel(call.session, call.net.now)
    call.net.settle()
    assert call.peer.requests("CANCEL") == []
    call.peer.reply(second, 100, call.flow, tag=None)
    cancel = call.last("CANCEL")
    assert (str(cancel.cseq), cancel.top_via.branch) == ("2 CANCEL", second.top_via.branch)
    call.accept("CANCEL")
    call.refuse("INVITE", status=487)
    assert call.agent.only(Failed).cause is FailureCause.CANCELLED
    assert call.over


def test_a_cancel_while_the_new_invite_looks_for_a_connection_lets_none_out() -> None:
    net = Net()
    call = Call(net)
    first, flow = call.last("INVITE"), call.flow
    net.drop = lambda wire: wire.source == A and wire.label == "ACK"
    net.cut(call.agent.flows[next(iter(call.agent.flows))])
    net.set_up = 5.0
    back = net.open(call.peer, "tcp", call.agent)
    call.peer.reply(first, 401, back, headers=www("n1"), tag="refused")
    del flow
    for known in list(call.agent.flows.values()):
        net.cut(known)
    call.agent.endpoint.cancel(call.session, net.now)
    net.run(40)
    assert call.agent.only(Failed).cause is FailureCause.CANCELLED
    assert [str(m.cseq) for m in call.peer.requests("INVITE")] == ["1 INVITE"]
    assert call.over


def test_a_challenge_that_crosses_our_cancel_is_not_answered() -> None:
    call = Call(Net())
    call.peer.reply(call.last("INVITE"), 180, call.flow, tag="early")
    call.agent.endpoint.cancel(call.session, call.net.now)
    call.refuse("INVITE", *www("n1"))
    failed = call.agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.CANCELLED, 401)
    assert len(call.peer.requests("INVITE")) == 1
    assert call.over


# Forks


def test_early_dialogs_of_the_challenged_invite_are_over() -> None:
    call = Call(Net())
    call.peer.reply(call.last("INVITE"), 183, call.flow, tag="one", body=sdp(P))
    assert len(call.agent.endpoint.core.dialogs) == 1
    second = call.refuse("INVITE", ("Proxy-Authenticate", challenge("n1")), status=407)
    assert call.agent.endpoint.core.dialogs == {}
    call.peer.reply(second, 180, call.flow, tag="two")
    call.accept("INVITE", body=sdp(P, port=30002), tag="two")
    assert [event.status for event in call.agent.of(Progressed)] == [183, 180]
    assert call.agent.only(Answered).negotiated.remote_port == 30002


def test_the_bye_of_another_fork_has_credentials_and_answers_a_challenge() -> None:
    call = Call(Net())
    second = call.refuse("INVITE", *www("n1"))
    call.accept("INVITE", body=sdp(P), tag="one")
    call.peer.reply(second, 200, call.flow, tag="two", body=sdp(P))
    bye = call.last("BYE")
    assert bye.to.tag == "two"
    assert proven(bye)["nc"] == "00000002"
    again = call.refuse("BYE", *www("n2", "stale=true"))
    assert (proven(again)["nonce"], again.cseq.number) == ("n2", bye.cseq.number + 1)
    call.accept("BYE")
    assert set(call.agent.endpoint.core.sessions) == {call.session}


def test_a_fork_that_answers_when_the_call_is_gone_is_ended_with_credentials() -> None:
    call = Call(Net())
    second = call.refuse("INVITE", *www("n1"))
    call.accept("INVITE", body=sdp(P), tag="one")
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    call.accept("BYE", tag="one")
    assert call.over
    call.peer.reply(second, 200, call.flow, tag="two", body=sdp(P))
    assert proven(call.last("BYE"))["nc"] == "00000003"
    again = call.refuse("BYE", *www("n2"))
    assert proven(again)["nonce"] == "n2"
    call.accept("BYE", tag="two")
    assert call.over


# In the dialog


def test_requests_in_the_dialog_carry_credentials_at_once() -> None:
    """Row 42. RFC 3261 22.3."""
    call = Call(Net()).established()
    endpoint, net = call.agent.endpoint, call.net
    endpoint.probe(call.session, net.now)
    net.settle()
    call.accept("OPTIONS")
    endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.accept("INVITE", body=sdp(P, "a=recvonly", version=2))
    endpoint.bye(call.session, net.now)
    net.settle()
    counts = [proven(call.last(method))["nc"] for method in ("OPTIONS", "INVITE", "BYE")]
    assert counts == ["00000002", "00000003", "00000004"]
    reinvite, ack = call.last("INVITE"), call.last("ACK")
    assert ack.headers.all("Authorization") == reinvite.headers.all("Authorization")
    call.accept("BYE")
    assert call.over


def test_a_challenged_re_invite_is_sent_again_and_the_hold_is_settled_once() -> None:
    """Row 42. RFC 3261 22."""
    call = Call(Net()).established()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    first = call.last("INVITE")
    again = call.refuse("INVITE", *www("n2", "stale=true"))
    assert (str(first.cseq), str(again.cseq)) == ("3 INVITE", "4 INVITE")
    assert again.body == first.body
    assert again.to.tag == "bobtag"
    assert proven(again)["nonce"] == "n2"
    assert call.agent.of(Reoffered) == []
    call.accept("INVITE", body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok
    assert call.agent.only(SessionChanged)
    assert str(call.last("ACK").cseq) == "4 ACK"


def test_a_re_invite_refused_twice_leaves_the_call_as_it_was() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.refuse("INVITE", *www("n2"))
    call.refuse("INVITE", *www("n3"))
    assert not call.agent.only(Reoffered).ok
    assert call.agent.of(SessionChanged) == []
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.accept("INVITE", body=sdp(P, "a=recvonly", version=2))
    assert [event.ok for event in call.agent.of(Reoffered)] == [False, True]


def test_a_challenged_re_invite_that_meets_glare_waits_and_goes_out_with_credentials() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.refuse("INVITE", *www("n2", "stale=true"))
    call.refuse("INVITE", status=491)
    seen = len(call.peer.requests("INVITE"))
    call.net.run(5)
    assert len(call.peer.requests("INVITE")) == seen + 1
    last = call.last("INVITE")
    assert (proven(last)["nonce"], proven(last)["nc"]) == ("n2", "00000002")
    call.accept("INVITE", body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


def test_their_re_invite_between_our_challenge_and_its_answer_gets_491() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.refuse("INVITE", *www("n2", "stale=true"))
    theirs = call.peer.from_callee(
        "INVITE", call.peer.requests("INVITE")[1], call.flow, tag="bobtag", cseq=1, body=sdp(P)
    )
    call.peer.say(theirs, call.flow)
    assert call.peer.statuses("INVITE") == [491]
    ours = call.peer.requests("INVITE")[-1]
    call.peer.reply(ours, 200, call.flow, body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


def test_a_challenge_to_a_re_invite_after_the_bye_is_left_alone() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    call.refuse("INVITE", *www("n2", "stale=true"))
    assert len(call.peer.requests("INVITE")) == 3
    call.accept("BYE")
    assert call.over


def test_a_challenged_probe_is_sent_again_and_told_once() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.probe(call.session, call.net.now)
    call.net.settle()
    again = call.refuse("OPTIONS", *www("n2", "stale=true"))
    assert str(again.cseq) == "4 OPTIONS"
    assert call.agent.of(Probed) == []
    call.accept("OPTIONS")
    assert call.agent.only(Probed).alive


def test_a_probe_whose_credentials_are_refused_is_a_sign_of_life() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.probe(call.session, call.net.now)
    call.net.settle()
    for nonce in ("n2", "n3"):
        call.refuse("OPTIONS", *www(nonce))
    assert call.agent.only(Probed).alive


def test_requests_challenged_side_by_side_do_not_count_against_each_other() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.probe(call.session, call.net.now)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.net.settle()
    call.refuse("OPTIONS", *www("n2"))
    call.refuse("INVITE", *www("n3"))
    call.accept("OPTIONS")
    call.accept("INVITE", body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Probed).alive
    assert call.agent.only(Reoffered).ok
    numbers = {(r.method, r.cseq.number) for r in call.peer.requests("OPTIONS")}
    numbers |= {(r.method, r.cseq.number) for r in call.peer.requests("INVITE")[2:]}
    assert numbers == {("OPTIONS", 3), ("INVITE", 4), ("OPTIONS", 5), ("INVITE", 6)}


# BYE


def test_the_dialog_lives_until_a_challenged_bye_is_answered() -> None:
    """Row 42. RFC 3261 22."""
    call = Call(Net()).established()
    call.agent.endpoint.bye(call.session, call.net.now, [("Reason", "Q.850;cause=16")])
    call.net.settle()
    again = call.refuse("BYE", *www("n2", "stale=true"))
    assert (proven(again)["nonce"], str(again.cseq)) == ("n2", "4 BYE")
    assert again.headers.get("Reason") == "Q.850;cause=16"
    assert not call.over
    call.accept("BYE")
    assert call.over
    assert call.agent.of(Ended) == []


def test_a_bye_is_first_challenged_after_a_call_that_never_was() -> None:
    call = Call(Net())
    call.accept("INVITE", body=sdp(P))
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    assert "Proxy-Authorization" not in call.last("BYE").headers
    again = call.refuse("BYE", ("Proxy-Authenticate", challenge("n1")), status=407)
    assert proven(again, "Proxy-Authorization")["nc"] == "00000001"
    call.accept("BYE")
    assert call.over


@pytest.mark.parametrize("credentials", [SECRET, None], ids=["refused twice", "none to give"])
def test_a_bye_that_nothing_helps_is_given_up(credentials: Credentials | None) -> None:
    call = Call(Net(), credentials=credentials)
    call.accept("INVITE", body=sdp(P))
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    for nonce in ("n1", "n2", "n3"):
        if not call.over:
            call.refuse("BYE", *www(nonce))
    assert call.over
    assert len(call.peer.requests("BYE")) == (1 if credentials is None else 3)


def test_the_bye_of_a_cancelled_call_that_was_answered_has_credentials() -> None:
    call = Call(Net())
    second = call.refuse("INVITE", *www("n1"))
    call.peer.reply(second, 180, call.flow, tag="bobtag")
    call.agent.endpoint.cancel(call.session, call.net.now)
    call.accept("INVITE", body=sdp(P))
    assert proven(call.last("BYE"))["nc"] == "00000002"
    call.accept("BYE")
    assert call.over


def test_our_requests_in_a_call_of_theirs_answer_challenges_too() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers(credentials=SECRET)
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(P))
    peer.say(invite, flow)
    ok = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", ok, flow, cseq=1), flow)
    assert agent.of(Confirmed)
    agent.endpoint.bye(agent.only(IncomingInvite).session, net.now)
    net.settle()
    first = peer.request("BYE")
    assert "Authorization" not in first.headers
    peer.reply(first, 401, flow, headers=www("n1"), tag=None)
    again = peer.request("BYE")
    assert proven(again)["nonce"] == "n1"
    assert again.cseq.number == first.cseq.number + 1
    peer.reply(again, 200, flow, tag=None)
    assert agent.endpoint.core.sessions == {}


# What outlives a process


def same(_trunk: str, kept: OfferAnswerSnapshot) -> OfferAnswer:
    return OfferAnswer.restore(kept, destination_allowed=lambda _a, _p: True)


def test_a_restored_call_goes_on_with_its_nonce_and_the_trunks_credentials() -> None:
    call = Call(Net()).established()
    snapshot = call.agent.endpoint.snapshot(call.net.now, 1.7e9)
    assert PASSWORD not in repr(snapshot)
    assert PASSWORD.encode() not in repr(snapshot).encode()
    asked: list[str] = []

    def credentials(trunk: str) -> Credentials:
        asked.append(trunk)
        return SECRET

    call.agent.endpoint = Endpoint.restore(
        snapshot,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=counter_tokens("new"),
        offer_answer=same,
        now=call.net.now,
        wall=1.7e9,
        credentials=credentials,
    )
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    assert proven(call.last("BYE"))["nc"] == "00000002"
    assert set(asked) == {"carrier"}


def test_a_restored_request_remembers_what_was_refused() -> None:
    call = Call(Net())
    call.refuse("INVITE", *www("n1"))
    call.refuse("INVITE", *www("n2"))
    snapshot = call.agent.endpoint.snapshot(call.net.now, 1.7e9)
    call.agent.endpoint = Endpoint.restore(
        snapshot,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=counter_tokens("new"),
        offer_answer=same,
        now=call.net.now,
        wall=1.7e9,
        credentials=lambda _trunk: SECRET,
    )
    call.refuse("INVITE", *www("n3"))
    assert call.agent.only(Failed).status == 401


def test_a_probe_challenged_without_end_does_not_keep_a_dead_call() -> None:
    call = Call(Net()).established()
    call.agent.endpoint.probe(call.session, call.net.now)
    call.net.settle()
    for number in range(20):
        call.refuse("OPTIONS", *www(f"m{number}", "stale=true"))
    assert len(call.peer.requests("OPTIONS")) == 9
    assert call.agent.only(Probed).alive
    call.agent.endpoint.probe(call.session, call.net.now)
    call.net.settle()
    call.refuse("OPTIONS", status=481)
    assert call.agent.only(Ended).cause is EndCause.PEER_GONE


# A network that loses, doubles and reorders


class Gatekeeper(Peer):
    """Answers every request by itself: 401 without the right nonce, else 200; keeps no state.

    Its nonces wear out after three uses, and it says so.
    """

    def __init__(self, net: Net, host: str) -> None:
        super().__init__(net, host)
        self.uses: dict[str, str] = {}  # nonce and nc -> branch
        self.nonces = 1

    def take(self, data: bytes, flow: Flow) -> None:
        super().take(data, flow)
        message = self.received[-1]
        if not isinstance(message, Request) or message.method == "ACK":
            return
        given = message.headers.get("Authorization")
        fields = {} if given is None else proven(message)
        branch = message.top_via.branch or ""
        use = f"{fields.get('nonce')} {fields.get('nc')}"
        known = self.uses.setdefault(use, branch) == branch if fields else True
        assert known, "one count of a nonce for two requests"
        if fields.get("nonce") == f"n{self.nonces}" and int(fields["nc"], 16) <= 3:
            self.answer(message, 200, flow)
            return
        if fields.get("nonce") == f"n{self.nonces}":
            self.nonces += 1
        stale = ("stale=true",) if fields else ()
        self.answer(message, 401, flow, *www(f"n{self.nonces}", *stale))

    def answer(self, request: Request, status: int, flow: Flow, *more: tuple[str, str]) -> None:
        body = b""
        fields = list(more)
        if request.method == "INVITE" and status == 200:
            held = b"a=sendonly" in request.body
            body = sdp(P, *(("a=recvonly",) if held else ()), version=request.cseq.number)
            fields.append(("Contact", f"<sip:bob@{P}:5060>"))
            fields.append(("Content-Type", "application/sdp"))
        response = response_to(request, status, to_tag="bobtag", headers=fields, body=body)
        self.net.send(self, flow, response.encode())


@pytest.mark.parametrize("seed", range(12))
def test_a_call_through_a_bad_network_answers_every_challenge(seed: int) -> None:
    net = Net(seed)
    agent = net.agent(A)
    peer = net.nodes[P] = Gatekeeper(net, P)
    session = agent.dial(P, transport="udp", credentials=SECRET)
    net.loss, net.duplication, net.jitter = 0.2, 0.2, 0.6
    net.run(40)
    assert agent.only(Answered)
    for number in range(4):
        wanted = Direction.SENDRECV if number % 2 else Direction.SENDONLY
        agent.endpoint.reoffer(session, wanted, net.now)
        agent.endpoint.probe(session, net.now)
        net.run(40)
    assert [event.ok for event in agent.of(Reoffered)] == [True] * 4
    assert len(agent.of(Probed)) == 4
    agent.endpoint.bye(session, net.now)
    net.run(80)
    assert agent.of(Ended) == []
    assert agent.endpoint.core.sessions == {}
    assert agent.endpoint.layer.clients == {}
    assert peer.nonces > 2
