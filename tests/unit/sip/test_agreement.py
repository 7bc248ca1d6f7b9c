"""Two ends in random conversation agree on who may send, or that the call is over.

More examples: ``TRUNKBRIDGE_EXAMPLES=5000``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.delivery import Purpose
from bridge.sip.events import (
    Answered,
    Confirmed,
    Ended,
    IncomingInvite,
    Probed,
    Reoffered,
    SessionChanged,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response, response_to
from bridge.sip.session import Phase, Session
from sdp.model import Direction
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Negotiated
from tests.unit.sip.link import Agent, Net, Peer, media
from tests.unit.sip.test_stress import assert_empty

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"
EXAMPLES = int(os.environ.get("TRUNKBRIDGE_EXAMPLES", "60"))
WISHES = {
    "hold": Direction.SENDONLY,
    "resume": Direction.SENDRECV,
    "both ways off": Direction.INACTIVE,
}
PATIENCE = 400.0  # seconds: every timer has run out, every retry was made

verbs = st.sampled_from([*WISHES, "hold", "resume", "probe", "update", "cut"])
sides = st.sampled_from([(0,), (1,), (0, 1), (1, 0)])
pauses = st.sampled_from([0.0, 0.004, 0.011, 0.02, 0.3, 0.6, 2.5, 9.0])
steps = st.lists(st.tuples(sides, verbs, pauses), min_size=1, max_size=14)
networks = st.sampled_from(
    [
        # transport, loss, duplication, jitter in seconds
        ("tcp", 0.0, 0.0, 0.0),
        ("udp", 0.0, 0.0, 0.0),
        ("udp", 0.0, 0.3, 0.6),
        ("udp", 0.15, 0.0, 0.05),
        ("udp", 0.3, 0.3, 0.6),
    ]
)


@dataclass
class Side:
    """One end of the call, and what a call layer above it knows."""

    agent: Agent
    session: SessionId
    agreed: Negotiated | None = None
    heard: int = 0
    over: bool = False

    @property
    def state(self) -> Session | None:
        return self.agent.endpoint.core.sessions.get(self.session)

    @property
    def alive(self) -> bool:
        return self.state is not None and self.state.phase is Phase.CONFIRMED

    @property
    def holds(self) -> bool:
        """Whether its last wish that was agreed to was not to hear the other."""
        assert self.state is not None
        assert self.state.offer_answer is not None
        return self.state.offer_answer.wanted is not Direction.SENDRECV

    def act(self, verb: str, now: float) -> None:
        endpoint, state = self.agent.endpoint, self.state
        if verb in WISHES:
            endpoint.reoffer(self.session, WISHES[verb], now)
        elif verb == "probe":
            endpoint.probe(self.session, now)
        elif state is not None and state.phase is Phase.CONFIRMED:
            # A refresh without SDP. Nobody waits for its answer, as nobody does for a CANCEL's.
            endpoint.core.send(state, "UPDATE", Purpose.CANCEL, now)
        self.agent.run()

    def hear(self) -> None:
        """Follow the events as a call layer does."""
        for event in self.agent.events[self.heard :]:
            assert not self.over, "an event after the last one"
            match event:
                case Answered() | Confirmed():
                    assert self.agreed is None
                    self.agreed = event.negotiated
                case SessionChanged():
                    assert self.agreed is not None
                    assert event.negotiated != self.agreed, "a change that changes nothing"
                    self.agreed = event.negotiated
                case Ended():
                    self.over = True
                case Reoffered() | Probed():
                    pass
        self.heard = len(self.agent.events)


def agree(alice: Side, bob: Side) -> None:
    """Both ends say the same about the call."""
    assert alice.alive == bob.alive
    assert alice.over == bob.over
    if not alice.alive:
        return
    assert alice.agreed is not None
    assert bob.agreed is not None
    for one, other in ((alice, bob), (bob, alice)):
        state = one.state
        assert state is not None
        assert state.offer_answer is not None
        assert state.reoffer is None, "a wish that is never settled"
        assert state.unacked is None
        assert not state.offer_answer.pending
        assert state.offer_answer.active == one.agreed, "what was told is what is in force"
        assert one.agreed is not None
        assert other.agreed is not None
        assert one.agreed.send == other.agreed.receive
        assert (one.agreed.hold is not None) == other.holds


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    conversation=steps,
    network=networks,
    seed=st.integers(0, 10_000),
    enders=sides,
    timer=st.sampled_from([0, 90]),
)
def test_whatever_two_ends_say_they_agree_who_may_send_and_that_it_is_over(
    conversation: list[tuple[tuple[int, ...], str, float]],
    network: tuple[str, float, float, float],
    seed: int,
    enders: tuple[int, ...],
    timer: int,
) -> None:
    """Rows 52, 70. Failure 7.4: hold races a session refresh. On good and bad networks.

    RFC 3261 14, RFC 3264 8, RFC 4028: holds, resumes, glare, refreshes between them.
    """
    net = Net(seed)
    transport, loss, duplication, jitter = network
    agents = net.agent(A), net.agent(B)
    agents[1].answers()
    ours = agents[0].dial(B, transport=transport, session_timer=timer)
    net.run(2)
    theirs = agents[1].only(IncomingInvite).session
    both = Side(agents[0], ours), Side(agents[1], theirs)
    net.loss, net.duplication, net.jitter = loss, duplication, jitter
    for who, verb, pause in conversation:
        if verb == "cut":
            net.cut_all()
        else:
            for side in who:
                both[side].act(verb, net.now)
        net.run(pause)
        for side in both:
            side.hear()
    net.run(PATIENCE)
    for side in both:
        side.hear()
    agree(*both)
    if loss == 0.0:
        assert both[0].alive, "nothing ends a call on a network that loses nothing"
    for index in enders:
        agents[index].endpoint.bye(both[index].session, net.now)
        agents[index].run()
    net.run(PATIENCE)
    for side in both:
        side.hear()
        assert_empty(side.agent)
    told = [side.over for side in both]
    assert all(over or index in enders for index, over in enumerate(told))


# Against an end that also makes offers in UPDATE and in the ACK, by its own, simpler rules


@dataclass
class Partner:
    """A carrier of a few rules: one offer at a time, 491 to whatever crosses it."""

    peer: Peer
    flow: Flow
    accepted: Response
    media: OfferAnswer
    cseq: int = 1
    asking: Request | None = None
    wish: Direction = Direction.SENDRECV
    read: int = 0
    refused: int = 0
    over: bool = False

    def act(self, verb: str, wish: Direction) -> None:
        """Make an offer: by re-INVITE, by UPDATE, or as the answer in an ACK."""
        if self.asking is not None or self.over:
            return
        self.cseq += 1
        self.wish = wish
        body = b"" if verb == "offerless" else self.media.offer(wish)
        method = "UPDATE" if verb == "update" else "INVITE"
        self.asking = self.peer.in_dialog(
            method, self.accepted, self.flow, cseq=self.cseq, body=body
        )
        self._send(self.asking)

    def follow(self) -> None:
        """Take what has come."""
        while self.read < len(self.peer.received):
            message = self.peer.received[self.read]
            self.read += 1
            if isinstance(message, Response):
                self._answered(message)
            else:
                self._asked(message)

    def _send(self, message: Request | Response) -> None:
        self.peer.net.send(self.peer, self.flow, message.encode())

    def _reply(self, request: Request, status: int, body: bytes = b"") -> None:
        fields = [("Contact", f"<sip:carol@{self.peer.host}>")] if body else []
        if body:
            fields.append(("Content-Type", "application/sdp"))
        self._send(response_to(request, status, headers=fields, body=body))

    def _asked(self, request: Request) -> None:
        match request.method:
            case "INVITE" if self.asking is not None:
                self._reply(request, 491)
            case "INVITE":
                result = self.media.receive_offer(request.sdp or b"")
                assert isinstance(result, Answer)
                self._reply(request, 200, result.body)
            case "ACK":
                pass
            case method:
                self.over = self.over or method == "BYE"
                self._reply(request, 200)

    def _answered(self, response: Response) -> None:
        asked = self.asking
        if asked is None or response.status < 200 or response.cseq != asked.cseq:
            return
        self.asking = None
        body = b""
        if response.status >= 300:
            self.refused += 1
            self.media.rollback()
        elif asked.body:
            assert not isinstance(self.media.receive_answer(response.sdp or b""), Rejected)
        else:
            # Its wish is in its answer, to an offer that it looks at as if it were the first.
            self.media._state = replace(self.media._state, wanted=self.wish, agreed=None)
            result = self.media.receive_offer(response.sdp or b"")
            assert isinstance(result, Answer)
            body = result.body
        if asked.method == "INVITE":
            branch = asked.top_via.branch if response.status >= 300 else None
            self._send(
                self.peer.in_dialog(
                    "ACK", self.accepted, self.flow, cseq=self.cseq, body=body, branch=branch
                )
            )


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    conversation=st.lists(
        st.tuples(
            st.sampled_from(["ours", "theirs", "both"]),
            st.sampled_from(["invite", "update", "offerless"]),
            st.sampled_from(list(WISHES)),
            st.sampled_from([0.0, 0.004, 0.009, 0.011, 0.015, 0.021, 0.3, 4.5]),
        ),
        min_size=1,
        max_size=16,
    ),
)
def test_an_end_that_offers_in_updates_and_acks_agrees_with_us_too(
    conversation: list[tuple[str, str, str, float]],
) -> None:
    """Rows 51, 52, 54. RFC 3261 14, RFC 3311 5: offers of every kind cross each other."""
    net = Net()
    agent, peer = net.agent(A), net.peer(B)
    agent.answers()
    flow = peer.flow_to(agent)
    machine = media(B, port=30000)
    peer.say(peer.invite(agent, flow, body=machine.offer()), flow)
    accepted = peer.response("INVITE", 200)
    machine.receive_answer(accepted.body)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    us = Side(agent, agent.of(IncomingInvite)[0].session)
    partner = Partner(peer, flow, accepted, machine, read=len(peer.received))
    # An answer of theirs is written the moment the question is there, as ours is.
    peer.run = partner.follow  # type: ignore[method-assign]
    for who, verb, wish, pause in conversation:
        if who != "theirs":
            us.act(wish, net.now)
        if who != "ours":
            partner.act(verb, WISHES[wish])
        net.run(pause)
        us.hear()
    net.run(PATIENCE)
    us.hear()
    assert us.alive
    assert not partner.over
    assert us.state is not None
    assert us.state.offer_answer is not None
    assert partner.asking is None
    assert us.state.reoffer is None
    theirs, ours = partner.media.active, us.agreed
    assert theirs is not None
    assert ours is not None
    assert us.state.offer_answer.active == ours
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    assert (theirs.hold is not None) == us.holds
