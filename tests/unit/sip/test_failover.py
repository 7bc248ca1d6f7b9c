"""One name, several targets: the next one is tried, and what failed is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.call.outcome import CARRIER_FAILURE, RATE_LIMITED, failure_outcome
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Answered,
    Connect,
    Failed,
    FailureCause,
    IncomingInvite,
    Progressed,
    TrunkProbed,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parameters import EndpointConfig, OutgoingInvite
from bridge.sip.probe import TrunkQuestion
from bridge.sip.standing import COOL_DOWN, MAX_COOL_DOWN, MAX_REST, Standings
from sdp.negotiate import OfferAnswer
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, counter_tokens, media, sdp

pytestmark = pytest.mark.unit

A = "192.0.2.1"
ONE, TWO, THREE = "198.51.100.1", "198.51.100.2", "198.51.100.3"
NAME = "trunk.example"


def network(*up: str) -> tuple[Net, Agent, dict[str, Peer]]:
    net = Net()
    net.names[NAME] = [(ONE, 5060), (TWO, 5060), (THREE, 5060)]
    return net, net.agent(A), {host: net.peer(host) for host in up}


def last(peer: Peer) -> tuple[Request, Flow]:
    found = [(m, f) for m, f in peer.arrivals if isinstance(m, Request) and m.method == "INVITE"]
    return found[-1]


def refuse(peer: Peer, status: int, *headers: tuple[str, str]) -> None:
    request, flow = last(peer)
    peer.reply(request, status, flow, headers=headers)


def accept(peer: Peer) -> None:
    request, flow = last(peer)
    peer.reply(request, 200, flow, body=sdp(peer.host))


def tried(agent: Agent) -> list[str]:
    return [o.address for o in agent.outputs if isinstance(o, Connect)]


def outcome_of(event: Failed) -> object:
    return failure_outcome(
        event.cause, event.status, event.q850, phrase=event.phrase, retry_after=event.retry_after
    )


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_after_a_503_the_next_target_is_tried_with_a_new_branch_and_the_same_call(
    transport: str,
) -> None:
    """Row 16. RFC 3263 4.3: identical to the previous, but with another branch."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME, transport=transport)
    net.settle()
    refuse(peers[ONE], 503)
    old, new = last(peers[ONE])[0], last(peers[TWO])[0]
    assert old.top_via.branch != new.top_via.branch
    assert (old.call_id, old.cseq, old.from_, old.to) == (
        new.call_id,
        new.cseq,
        new.from_,
        new.to,
    )
    assert old.body == new.body
    assert peers[ONE].requests("ACK")
    accept(peers[TWO])
    assert alice.of(Answered)
    assert not alice.of(Failed)
    assert peers[TWO].requests("ACK")


def test_refused_connections_and_a_503_lead_to_the_third_target() -> None:
    """Row 16."""
    net, alice, peers = network(TWO, THREE)
    alice.dial(NAME)
    net.settle()
    refuse(peers[TWO], 503)
    accept(peers[THREE])
    assert tried(alice) == [ONE, TWO, THREE]
    assert alice.of(Answered)


def test_a_target_that_says_nothing_over_udp_is_left_after_timer_b() -> None:
    """Row 16. RFC 3263 4.3: a time-out of the transaction is a failure."""
    net, alice, peers = network(TWO)
    alice.dial(NAME, transport="udp")
    net.run(31)
    assert not peers[TWO].received
    net.run(2)
    accept(peers[TWO])
    assert alice.of(Answered)


def test_a_connection_that_is_not_made_in_time_is_left_for_the_next_one() -> None:
    """Row 16. A firewall that swallows the SYN costs 4 s, not the patience of the caller."""
    net, alice, peers = network(TWO)
    run, alice.run = alice.run, lambda: None  # type: ignore[method-assign]
    alice.dial(NAME)
    asked = alice.endpoint.poll(net.now)
    alice.endpoint.resolved(asked[0].query, net.names[NAME][:2], net.now)  # type: ignore[union-attr]
    first = alice.endpoint.poll(net.now)
    assert [o.address for o in first if isinstance(o, Connect)] == [ONE]
    assert alice.endpoint.next_deadline() == net.now + 4
    net.now += 4
    alice.endpoint.tick(net.now)
    alice.run = run  # type: ignore[method-assign]
    alice.run()
    net.settle()
    accept(peers[TWO])
    assert alice.of(Answered)


@pytest.mark.parametrize("status", [180, 183])
def test_a_call_that_rang_is_never_sent_to_another_target(status: int) -> None:
    """Rows 16, 46. carriers.md 4 rule 1: the callee would be called twice."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], status)
    assert alice.of(Progressed)
    refuse(peers[ONE], 503, ("Retry-After", "5"))
    failed = alice.only(Failed)
    assert (failed.status, failed.retry_after) == (503, 5)
    assert not peers[TWO].received


def test_a_100_alone_does_not_keep_a_503_from_being_retried() -> None:
    """Row 16."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], 100)
    refuse(peers[ONE], 503)
    accept(peers[TWO])
    assert alice.of(Answered)


@pytest.mark.parametrize("status", [404, 480, 486, 500, 502, 504, 600, 603])
def test_no_other_refusal_is_taken_to_another_target(status: int) -> None:
    """Rows 16, 46. Retry-After of any refusal is told; only a 503 is about the server."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], status, ("Retry-After", "120 (I am busy);duration=60"))
    failed = alice.only(Failed)
    assert (failed.status, failed.retry_after) == (status, 120)
    assert not peers[TWO].received
    alice.dial(NAME)
    net.settle()
    assert len(peers[ONE].requests("INVITE")) == 2


def test_a_cancelled_call_is_not_sent_to_another_target() -> None:
    """Row 16."""
    net, alice, peers = network(ONE, TWO)
    session = alice.dial(NAME)
    net.settle()
    alice.endpoint.cancel(session, net.now)
    refuse(peers[ONE], 503)
    assert alice.only(Failed).cause is FailureCause.CANCELLED
    assert not peers[TWO].received


def test_a_cancel_goes_to_the_target_that_was_tried_last() -> None:
    """Row 16. Its provisional response is awaited anew."""
    net, alice, peers = network(ONE, TWO)
    session = alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], 100)
    refuse(peers[ONE], 503)
    alice.endpoint.cancel(session, net.now)
    net.settle()
    assert not peers[TWO].requests("CANCEL")
    refuse(peers[TWO], 100)
    assert not peers[ONE].requests("CANCEL")
    cancel = peers[TWO].request("CANCEL")
    assert cancel.top_via.branch == last(peers[TWO])[0].top_via.branch


def test_when_all_targets_refuse_the_last_refusal_is_the_outcome() -> None:
    """Row 16. Status 503."""
    net, alice, peers = network(ONE, TWO, THREE)
    alice.dial(NAME)
    net.settle()
    for peer in peers.values():
        refuse(peer, 503)
    failed = alice.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.REFUSED, 503)
    assert outcome_of(failed) is CARRIER_FAILURE
    assert alice.endpoint.core.sessions == {}


def test_a_refusal_counts_more_than_targets_that_cannot_be_reached() -> None:
    """Row 16."""
    net, alice, peers = network(ONE)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], 503)
    failed = alice.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.REFUSED, 503)
    assert tried(alice) == [ONE, TWO, THREE]


def test_retry_after_leaves_that_target_alone_for_so_long() -> None:
    """Row 46. RFC 3261 21.5.4."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], 503, ("Retry-After", "20"))
    for _ in range(2):
        alice.dial(NAME)
        net.settle()
    assert len(peers[ONE].requests("INVITE")) == 1
    assert len(peers[TWO].requests("INVITE")) == 3
    net.run(20)
    alice.dial(NAME)
    net.settle()
    assert len(peers[ONE].requests("INVITE")) == 2


def test_when_every_target_wants_rest_a_call_fails_at_once_as_rate_limited() -> None:
    """Row 46. carriers.md 4: 503 with Retry-After."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    alice.dial(ONE)
    net.settle()
    refuse(peer, 503, ("Retry-After", "20"))
    assert outcome_of(alice.of(Failed)[0]) is RATE_LIMITED
    net.run(5)
    alice.dial(ONE)
    failed = alice.of(Failed)[1]
    assert (failed.cause, failed.status) == (FailureCause.RESTING, None)
    assert failed.retry_after == pytest.approx(15, abs=0.5)
    assert outcome_of(failed) is RATE_LIMITED
    assert len(peer.requests("INVITE")) == 1
    net.run(16)
    alice.dial(ONE)
    net.settle()
    assert len(peer.requests("INVITE")) == 2


def test_a_503_without_retry_after_keeps_no_later_call_away() -> None:
    """Row 46. RFC 3261 21.5.4: without it the response is as a 500."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    for _ in range(2):
        alice.dial(ONE)
        net.settle()
        refuse(peer, 503)
    assert len(peer.requests("INVITE")) == 2
    assert outcome_of(alice.of(Failed)[1]) is CARRIER_FAILURE


def test_a_running_call_is_ended_also_at_a_target_that_wants_rest() -> None:
    """Row 46. Rest is about new calls."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    session = alice.dial(ONE)
    net.settle()
    accept(peer)
    alice.dial(ONE)
    net.settle()
    refuse(peer, 503, ("Retry-After", "60"))
    net.cut_all()
    alice.endpoint.bye(session, net.now)
    net.settle()
    assert peer.requests("BYE")


def test_a_target_that_failed_is_tried_last_for_a_while() -> None:
    """Row 16. It is demoted, never shut out: the only one is always tried."""
    net, alice, peers = network(TWO)
    alice.dial(NAME)
    net.settle()
    accept(peers[TWO])
    net.cut_all()
    alice.outputs.clear()
    alice.dial(NAME)
    net.settle()
    assert tried(alice) == [TWO]
    accept(peers[TWO])
    net.run(COOL_DOWN + 1)
    net.cut_all()
    alice.outputs.clear()
    alice.dial(NAME)
    net.settle()
    assert tried(alice)[0] == ONE


def test_a_target_cools_longer_with_every_failure_and_an_answer_forgives() -> None:
    """Row 16."""
    standings, target = Standings(), ("tcp", ONE, 5060)
    for pause in (30, 60, 120, 240, 480, 600, 600):
        standings.failed(target, 0.0)
        assert standings.is_cooling(target, pause - 1)
        assert not standings.is_cooling(target, min(pause, MAX_COOL_DOWN))
    standings.answered(target)
    assert not standings.is_cooling(target, 0.0)
    assert not standings.known


def test_a_retry_after_of_a_day_is_bounded_and_survives_an_answer() -> None:
    """Row 46."""
    standings, target = Standings(), ("tcp", ONE, 5060)
    standings.failed(target, 0.0)
    standings.rest(target, 86_400, 0.0)
    standings.answered(target)
    assert standings.rests_for(target, 0.0) == MAX_REST
    assert standings.rests_for(target, MAX_REST) == 0


def test_what_is_known_of_targets_is_bounded() -> None:
    """Row 16. A flood of names cannot grow it."""
    standings = Standings()
    for port in range(1, 3000):
        standings.failed(("udp", ONE, port), 0.0)
    assert len(standings.known) == 1024
    assert standings.is_cooling(("udp", ONE, 2999), 1.0)


def test_a_snapshot_knows_the_standings_and_where_an_invite_was_turned_away() -> None:
    """Row 16."""
    net, alice, peers = network(ONE, TWO)
    alice.dial(NAME)
    net.settle()
    refuse(peers[ONE], 503, ("Retry-After", "20"))
    saved = alice.endpoint.snapshot(net.now, 0.0)
    alice.endpoint = Endpoint.restore(
        saved,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=counter_tokens("again"),
        offer_answer=lambda _trunk, kept: OfferAnswer.restore(
            kept, destination_allowed=lambda *_: True
        ),
        now=net.now,
        wall=0.0,
    )
    assert alice.endpoint.snapshot(net.now, 0.0) == saved
    net.run(33)
    failed = alice.only(Failed)
    assert (failed.status, failed.retry_after) == (503, 20)


def test_a_trunk_is_up_when_its_second_server_answers_the_probe() -> None:
    """Row 16. The question is about the trunk, not about one of its servers."""
    net, alice, peers = network(ONE, TWO)
    question = TrunkQuestion(
        trunk=TRUNK,
        next_hop=("tcp", NAME, None),
        request_uri=f"sip:{NAME}",
        from_=f"<sip:ping@{NAME}>",
        to=f"<sip:{NAME}>",
    )
    alice.endpoint.ask_trunk(question, net.now)
    alice.run()
    net.settle()
    for peer, status in ((peers[ONE], 503), (peers[TWO], 200)):
        request, flow = peer.arrivals[-1]
        assert isinstance(request, Request)
        peer.reply(request, status, flow)
    assert alice.only(TrunkProbed).status == 200


BEHAVIOURS = ("absent", "silent", "cut", "100", "503", "503 later", "486", "180 503", "180", "200")


class Crowd:
    """Targets that each behave in one way; they answer every INVITE that comes."""

    def __init__(self, behaviours: list[str], transport: str) -> None:
        self.net = Net()
        self.alice = self.net.agent(A)
        self.transport = transport
        self.behaviours = {f"198.51.100.{n}": b for n, b in enumerate(behaviours, 1)}
        self.net.names[NAME] = [(host, 5060) for host in self.behaviours]
        self.peers = {host: self.net.peer(host) for host in self.behaviours}
        for host, behaviour in self.behaviours.items():
            self.peers[host].listens = behaviour != "absent"
        self.seen: set[str] = set()

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.net.run(1)
            for host, peer in self.peers.items():
                for message, flow in list(peer.arrivals):
                    if isinstance(message, Request) and message.method == "INVITE":
                        self._take(peer, message, flow, self.behaviours[host])
                    elif isinstance(message, Request) and message.method in ("BYE", "CANCEL"):
                        self._once(peer, message, flow, 200)

    def _take(self, peer: Peer, invite: Request, flow: Flow, behaviour: str) -> None:
        match behaviour:
            case "cut":
                self.net.cut(flow)
            case "100" | "486" | "503" | "180" | "200":
                self._once(peer, invite, flow, int(behaviour))
            case "503 later":
                self._once(peer, invite, flow, 503, ("Retry-After", "40"))
            case "180 503":
                self._once(peer, invite, flow, 180)
                self._once(peer, invite, flow, 503)
            case _:
                pass

    def _once(
        self, peer: Peer, request: Request, flow: Flow, status: int, *headers: tuple[str, str]
    ) -> None:
        mark = f"{peer.host} {request.top_via.branch} {request.method} {status}"
        if mark not in self.seen:
            self.seen.add(mark)
            body = sdp(peer.host) if (status, request.method) == (200, "INVITE") else b""
            peer.reply(request, status, flow, headers=headers, body=body)


@given(
    st.lists(st.sampled_from(BEHAVIOURS), min_size=1, max_size=5), st.sampled_from(("tcp", "udp"))
)
@settings(max_examples=40, deadline=None)
def test_whatever_targets_do_a_call_ends_once_and_no_phone_rings_after_another(
    behaviours: list[str], transport: str
) -> None:
    """Rows 16, 46. In any order of any behaviours."""
    crowd = Crowd(behaviours, transport)
    alice = crowd.alice
    session = alice.dial(NAME, transport=transport)
    crowd.run(32 * len(behaviours) + 8)
    alice.endpoint.cancel(session, crowd.net.now)  # our ring timer
    alice.run()
    crowd.run(70)
    assert len(alice.of(Failed)) + len(alice.of(Answered)) == 1
    told = [host for host, peer in crowd.peers.items() if peer.requests("INVITE")]
    rang = [host for host in told if crowd.behaviours[host] in ("180", "180 503", "200", "486")]
    assert len(rang) <= 1
    assert not rang or told[-1] == rang[0]
    branches = [
        peer.requests("INVITE")[0].top_via.branch
        for peer in crowd.peers.values()
        if peer.requests("INVITE")
    ]
    assert len(set(branches)) == len(branches)
    calls = {
        (invite.call_id, invite.cseq.number, invite.from_.tag)
        for peer in crowd.peers.values()
        for invite in peer.requests("INVITE")
    }
    assert len(calls) <= 1
    if alice.of(Failed):
        assert alice.endpoint.core.sessions == {}
        assert alice.endpoint.layer.clients == {}
    assert alice.endpoint.layer.courier.deliveries == {}


# RFC 3261 18.1.1: too large for UDP

LONG = (("X-Padding", "p" * 1300),)


def dial_large(agent: Agent, host: str = ONE) -> None:
    invite = OutgoingInvite(
        trunk=TRUNK,
        next_hop=("udp", host, 5060),
        request_uri=f"sip:bob@{host}",
        from_=f"<sip:alice@{agent.host}>",
        to=f"<sip:bob@{host}>",
        headers=LONG,
        offer_answer=media(agent.host),
        contact_user="alice",
    )
    agent.endpoint.dial(invite, agent.net.now)
    agent.run()


def test_a_request_over_1300_bytes_leaves_by_tcp_with_a_via_that_says_so() -> None:
    """Row 9. RFC 3261 18.1.1; the Contact stays that of the trunk's transport."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    dial_large(alice)
    net.settle()
    invite, flow = last(peer)
    assert (flow.transport, invite.top_via.transport) == ("tcp", "TCP")
    assert invite.headers.get("Contact") == f"<sip:alice@{A}:5060>"
    accept(peer)
    assert alice.of(Answered)
    assert peer.arrivals[-1][1].transport == "tcp"
    assert peer.requests("ACK")


def test_a_request_of_at_most_1300_bytes_stays_on_udp() -> None:
    """Row 9."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    alice.dial(ONE, transport="udp")
    net.settle()
    invite, flow = last(peer)
    assert (flow.transport, invite.top_via.transport) == ("udp", "UDP")
    assert tried(alice) == [ONE]


def test_a_carrier_without_tcp_gets_the_large_request_over_udp_and_is_not_asked_again_soon() -> (
    None
):
    """Row 9. RFC 3261 18.1.1: "the element SHOULD retry the request, using UDP"."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    peer.listens = False
    for _ in range(2):
        dial_large(alice)
        net.settle()
    invite, flow = last(peer)
    assert (flow.transport, invite.top_via.transport) == ("udp", "UDP")
    wanted = [o.transport for o in alice.outputs if isinstance(o, Connect)]
    assert wanted == ["udp", "tcp", "udp"]
    accept(peer)
    assert alice.of(Answered)


def test_a_carrier_that_swallows_tcp_costs_one_large_request_four_seconds() -> None:
    """Row 9."""
    net = Net()
    alice, peer = net.agent(A), net.peer(ONE)
    connect = alice._connect

    def swallow(output: Connect) -> None:
        if output.transport == "udp":
            connect(output)

    alice._connect = swallow  # type: ignore[method-assign]
    dial_large(alice)
    net.run(3.9)
    assert not peer.received
    net.run(0.3)
    assert last(peer)[1].transport == "udp"


def test_without_tcp_and_at_a_second_target_the_large_request_still_arrives() -> None:
    """Rows 9, 16."""
    net, alice, peers = network(ONE, TWO)
    for peer in peers.values():
        peer.listens = False
    dial_large(alice, NAME)
    net.settle()
    refuse(peers[ONE], 503)
    accept(peers[TWO])
    assert alice.of(Answered)


# RFC 3261 18.2.2, RFC 3263 5: responses


def test_a_response_whose_connection_is_gone_goes_on_to_the_host_of_the_via() -> None:
    """Row 5. First to the address it came from, then by RFC 3263 5 to sent-by."""
    net = Net()
    agent, peer = net.agent(A, next_hop_allowed=lambda host, _: host == TWO), net.peer(ONE)
    behind = net.peer(TWO)
    net.names["proxy.example"] = [(TWO, 5060)]
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(ONE))
    invite.headers.set("Via", "SIP/2.0/TCP proxy.example:5060;branch=z9hG4bKproxy")
    peer.say(invite, flow)
    net.down.add(ONE)
    net.cut_all()
    agent.endpoint.reject(agent.only(IncomingInvite).session, 486, net.now)
    net.settle()
    assert tried(agent) == [ONE, TWO]
    assert behind.statuses("INVITE") == [486]


@pytest.mark.parametrize("host", ["10.0.0.5", "internal.example"])
def test_a_via_never_leads_a_response_where_the_policy_forbids(host: str) -> None:
    """Row 5. Threat 5.1: SSRF."""
    net = Net()
    agent, peer = net.agent(A), net.peer(ONE)
    net.names["internal.example"] = [("10.0.0.5", 5060)]
    flow = peer.flow_to(agent)
    invite = peer.invite(agent, flow, body=sdp(ONE))
    invite.headers.set("Via", f"SIP/2.0/TCP {host}:5060;branch=z9hG4bKproxy")
    peer.say(invite, flow)
    net.down.add(ONE)
    net.cut_all()
    agent.endpoint.reject(agent.only(IncomingInvite).session, 486, net.now)
    net.settle()
    assert tried(agent) == [ONE]
