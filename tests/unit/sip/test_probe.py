"""OPTIONS of ours outside any dialog."""

from __future__ import annotations

import pytest

from bridge.sip.endpoint import Endpoint
from bridge.sip.events import TrunkProbed
from bridge.sip.parameters import EndpointConfig
from bridge.sip.probe import TrunkQuestion
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, counter_tokens, established

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"


def ask(agent: Agent, transport: str = "tcp", *, host: str = P, trunk: str = TRUNK) -> None:
    question = TrunkQuestion(
        trunk=trunk,
        next_hop=(transport, host, 5060),
        request_uri=f"sip:{host}",
        from_=f"<sip:ping@{host}>",
        to=f"<sip:{host}>",
    )
    agent.endpoint.ask_trunk(question, agent.net.now)
    agent.run()


def asked(net: Net, transport: str = "tcp") -> tuple[Agent, Peer]:
    agent, peer = net.agent(A), net.peer(P)
    ask(agent, transport)
    net.settle()
    return agent, peer


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("status", [200, 404, 407, 503])
def test_every_final_response_is_told_with_its_status(transport: str, status: int) -> None:
    net = Net()
    agent, peer = asked(net, transport)
    request, flow = peer.arrivals[-1]
    assert request.method == "OPTIONS"  # type: ignore[union-attr]
    peer.reply(request, 100, flow)  # type: ignore[arg-type]
    assert agent.events == []
    peer.reply(request, status, flow)  # type: ignore[arg-type]
    event = agent.only(TrunkProbed)
    assert (event.trunk, event.status) == (TRUNK, status)
    assert 0 < event.seconds < 1


def test_the_request_has_what_rfc_3261_asks_for_and_no_dialog() -> None:
    net = Net()
    _, peer = asked(net)
    request = peer.request("OPTIONS")
    assert request.to.tag is None
    assert request.from_.tag
    assert request.headers.get("Accept", "").startswith("application/sdp")  # type: ignore[union-attr]
    assert request.headers.get("Max-Forwards") == "70"
    assert request.contact is not None
    assert request.body == b""


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_silence_is_told_after_timer_f(transport: str) -> None:
    net = Net()
    agent, _ = asked(net, transport)
    net.run(31)
    assert agent.events == []
    net.run(2)
    assert agent.only(TrunkProbed).status is None


def test_a_host_that_cannot_be_reached_is_told_at_once() -> None:
    net = Net()
    agent = net.agent(A)
    net.peer(P).listens = False
    ask(agent)
    assert agent.only(TrunkProbed).status is None


def test_a_second_question_while_one_is_open_is_not_sent_but_other_trunks_are_asked() -> None:
    net = Net()
    agent, peer = asked(net)
    ask(agent)
    ask(agent, trunk="other")
    net.settle()
    assert len(peer.requests("OPTIONS")) == 2
    for request, flow in list(peer.arrivals):
        peer.reply(request, 200, flow)  # type: ignore[arg-type]
    assert [event.trunk for event in agent.of(TrunkProbed)] == [TRUNK, "other"]
    ask(agent)
    net.settle()
    assert len(peer.requests("OPTIONS")) == 3


def test_what_a_trunk_was_before_a_reload_says_nothing_of_what_it_is_now() -> None:
    net = Net()
    agent, before = asked(net)
    now = net.peer("198.51.100.8")
    ask(agent, host="198.51.100.8")
    net.settle()
    before.reply(*before.arrivals[-1][:1], 200, before.arrivals[-1][1])  # type: ignore[arg-type]
    assert agent.of(TrunkProbed) == []
    now.reply(*now.arrivals[-1][:1], 503, now.arrivals[-1][1])  # type: ignore[arg-type]
    assert agent.only(TrunkProbed).status == 503


def test_the_connection_of_a_call_is_used_again() -> None:
    net = Net()
    caller, callee = net.agent(A), net.agent(P)
    established(net, caller, callee)
    connections = len(net.ends)
    ask(caller)
    net.settle()
    assert caller.only(TrunkProbed).status == 200
    assert len(net.ends) == connections


def test_a_connection_that_dies_is_replaced_and_the_answer_still_comes() -> None:
    net = Net()
    agent, peer = asked(net)
    net.cut_all()
    net.settle()
    requests = peer.requests("OPTIONS")
    assert len(requests) == 2
    peer.reply(*peer.arrivals[-1][:1], 200, peer.arrivals[-1][1])  # type: ignore[arg-type]
    assert agent.only(TrunkProbed).status == 200


def test_nothing_is_left_behind() -> None:
    net = Net()
    agent, peer = asked(net)
    peer.reply(*peer.arrivals[-1][:1], 200, peer.arrivals[-1][1])  # type: ignore[arg-type]
    net.run(40)
    endpoint = agent.endpoint
    assert not endpoint.probes.asked
    assert not endpoint.layer.clients
    assert endpoint.next_deadline() is None


def test_an_answer_to_the_question_of_an_earlier_process_is_told_to_nobody() -> None:
    net = Net()
    agent, peer = asked(net)
    saved = agent.endpoint.snapshot(net.now, 0.0)
    agent.endpoint = Endpoint.restore(
        saved,
        EndpointConfig(),
        tokens=counter_tokens("again"),
        offer_answer=lambda *_: None,  # type: ignore[arg-type,return-value]
        now=net.now,
        wall=0.0,
    )
    peer.reply(*peer.arrivals[-1][:1], 200, peer.arrivals[-1][1])  # type: ignore[arg-type]
    assert agent.events == []
    net.run(40)
    assert not agent.endpoint.layer.clients
