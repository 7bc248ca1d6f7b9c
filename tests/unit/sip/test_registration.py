"""REGISTER of ours: made, kept, refused, moved and taken back, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import Connect, Failed, RegistrationChanged
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parameters import EndpointConfig
from bridge.sip.registration import RegistrationSettings, back_off
from sdp.negotiate import OfferAnswer
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, counter_tokens, sdp

pytestmark = pytest.mark.unit

A, P, Q = "192.0.2.1", "198.51.100.7", "198.51.100.8"
SECRET = Credentials(username="line1", password="s3cret")
CHALLENGE = 'Digest realm="carrier", nonce="n1", algorithm=SHA-256, qop="auth"'


SAID = ("<sip:a;lr>", "<sip:line1@192.0.2.1>;expires=0", "0", "7200", CHALLENGE, "<", '"')


def settings(host: str = P, transport: str = "tcp", **changes: object) -> RegistrationSettings:
    wanted = RegistrationSettings(
        trunk=TRUNK,
        next_hop=(transport, host, None if not host[0].isdigit() else 5060),
        registrar="sip:carrier.example",
        address_of_record="<sip:line1@carrier.example>",
        contact_user="line1",
        credentials=SECRET,
    )
    return replace(wanted, **changes)  # type: ignore[arg-type]


def begun(net: Net, transport: str = "tcp", **changes: object) -> tuple[Agent, Peer]:
    agent, peer = net.agent(A), net.peer(P)
    agent.endpoint.register(settings(transport=transport, **changes), net.now)
    agent.run()
    net.settle()
    return agent, peer


def last(peer: Peer, method: str = "REGISTER") -> tuple[Request, Flow]:
    found = [(m, f) for m, f in peer.arrivals if isinstance(m, Request) and m.method == method]
    return found[-1]


def answer(peer: Peer, status: int, *headers: tuple[str, str]) -> None:
    request, flow = last(peer)
    peer.reply(request, status, flow, headers=headers)


def grant(peer: Peer, expires: int = 3600, *headers: tuple[str, str]) -> None:
    contact = last(peer)[0].headers.get("Contact")
    answer(peer, 200, ("Contact", f"{contact};expires={expires}"), *headers)


def registered(net: Net, expires: int = 3600, transport: str = "tcp") -> tuple[Agent, Peer]:
    agent, peer = begun(net, transport)
    grant(peer, expires)
    return agent, peer


def told(agent: Agent) -> list[tuple[bool, str, int | None]]:
    return [(e.registered, e.what, e.status) for e in agent.of(RegistrationChanged)]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_register_says_who_we_are_and_where_for_an_hour(transport: str) -> None:
    """Row 99. RFC 3261 10.2: no user in the Request-URI, To and From the address of record."""
    net = Net()
    agent, peer = begun(net, transport)
    request = last(peer)[0]
    suffix = "" if transport == "udp" else ";transport=tcp"
    assert request.uri == "sip:carrier.example"
    assert request.headers.get("To") == "<sip:line1@carrier.example>"
    assert str(request.from_.uri) == "sip:line1@carrier.example"
    assert request.headers.get("Contact") == f"<sip:line1@{A}:5060{suffix}>"
    assert request.headers.get("Expires") == "3600"
    assert request.headers.get("Supported") == "path"
    grant(peer)
    event = agent.only(RegistrationChanged)
    assert (event.registered, event.what, event.status) == (True, "registered", 200)
    assert event.expires == pytest.approx(3600)


def test_it_is_refreshed_before_it_ends_with_the_same_call_id_and_the_next_cseq() -> None:
    """Row 99. RFC 3261 10.2.4; between 80 and 90 % of what was granted."""
    net = Net()
    _, peer = registered(net, 600)
    first = last(peer)[0]
    net.run(479)
    assert len(peer.requests("REGISTER")) == 1
    net.run(62)
    second = last(peer)[0]
    assert len(peer.requests("REGISTER")) == 2
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
    assert second.cseq.number == first.cseq.number + 1
    assert second.top_via.branch != first.top_via.branch
    grant(peer, 600)
    net.run(545)
    assert len(peer.requests("REGISTER")) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((("Contact", f"<sip:line1@{A}:5060;transport=tcp>;expires=120"),), 120),
        ((("Contact", f"<sip:other@{P}>;expires=9, <sip:line1@{A}:5060;transport=tcp>"),), 3600),
        ((("Contact", "<sip:line1@203.0.113.9:4444>;expires=90"),), 90),
        ((("Expires", "300"),), 300),
        ((), 3600),
        ((("Expires", "99999999999999999999"),), 3600),
        ((("Expires", "1"),), 10),
        ((("Contact", "<<<>"), ("Expires", "soon")), 3600),
    ],
)
def test_the_time_the_registrar_grants_counts(
    headers: tuple[tuple[str, str], ...], seconds: int
) -> None:
    """Row 99. RFC 3261 10.2.4; bounded, so that no answer makes us ask without pause."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, 200, *headers)
    assert agent.only(RegistrationChanged).expires == pytest.approx(seconds)


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_is_answered_and_refreshes_bring_the_credentials_along(status: int) -> None:
    """Row 99. RFC 3261 22.2, 22.3."""
    net = Net()
    agent, peer = begun(net)
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    answer(peer, status, (name, CHALLENGE))
    request = last(peer)[0]
    field = "Authorization" if status == 401 else "Proxy-Authorization"
    assert 'uri="sip:carrier.example"' in (request.headers.get(field) or "")
    assert request.cseq.number == 2
    assert request.headers.get("Contact") == f"<sip:line1@{A}:5060;transport=tcp>"
    grant(peer, 60)
    net.run(60)
    refresh = last(peer)[0].headers.get(field) or ""
    assert "nc=00000002" in refresh
    assert told(agent) == [(True, "registered", 200)]


def test_a_wrong_password_is_told_and_tried_again_only_much_later() -> None:
    """Row 99. RFC 3261 22.2: a locked account is worse than a late one."""
    net = Net()
    agent, peer = begun(net)
    for number in range(3):
        answer(peer, 401, ("WWW-Authenticate", CHALLENGE.replace("n1", f"n{number}")))
    assert told(agent) == [(False, "refused", 401)]
    sent = len(peer.requests("REGISTER"))
    net.run(25)
    assert len(peer.requests("REGISTER")) == sent


def test_without_credentials_a_challenge_is_a_refusal() -> None:
    """Row 99."""
    net = Net()
    agent, peer = begun(net, credentials=None)
    answer(peer, 401, ("WWW-Authenticate", CHALLENGE))
    assert told(agent) == [(False, "refused", 401)]


def test_a_registrar_that_wants_longer_gets_it() -> None:
    """Row 99. RFC 3261 10.2.8: 423 with Min-Expires."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, 423, ("Min-Expires", "7200"))
    assert last(peer)[0].headers.get("Expires") == "7200"
    grant(peer, 7200)
    assert told(agent) == [(True, "registered", 200)]


@pytest.mark.parametrize("wanted", ["60", "soon", "-1", "99999999999", "3600"])
def test_a_423_that_is_no_use_is_a_refusal_and_no_loop(wanted: str) -> None:
    """Row 99."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, 423, ("Min-Expires", wanted))
    assert told(agent) == [(False, "refused", 423)]
    assert len(peer.requests("REGISTER")) == 1


@pytest.mark.parametrize("status", [302, 403, 404, 500])
def test_a_refusal_is_told_with_its_status_and_tried_again(status: int) -> None:
    """Row 99. A 3xx is not followed."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, status, ("Contact", "<sip:elsewhere.example>"))
    event = agent.only(RegistrationChanged)
    assert (event.registered, event.what, event.status) == (False, "refused", status)
    assert event.again is not None
    assert event.again >= (15 if status == 500 else 150)
    net.run(event.again + 1)
    assert len(peer.requests("REGISTER")) == 2


def test_silence_is_told_and_met_with_growing_pauses() -> None:
    """Row 99. RFC 5626 4.5: between half and all of 30 s * 2^n, at most 1800 s."""
    net = Net()
    agent, _ = begun(net)
    pauses = []
    for _ in range(9):
        before = len(agent.of(RegistrationChanged))
        while len(agent.of(RegistrationChanged)) == before:
            net.run(10)
        event = agent.of(RegistrationChanged)[-1]
        assert (event.registered, event.what, event.status) == (False, "no_answer", None)
        assert event.again is not None
        pauses.append(event.again)
    for failures, pause in enumerate(pauses, 1):
        upper = min(1800, 30 * 2**failures)
        assert upper / 2 <= pause <= upper


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_pauses_are_those_of_the_rfc(share: float) -> None:
    """Row 99. RFC 5626 4.5."""
    assert [back_off(n, share) / (0.5 + share / 2) for n in (0, 1, 5, 6, 60)] == pytest.approx(
        [30, 60, 960, 1800, 1800]
    )


def test_retry_after_of_a_503_is_waited_for() -> None:
    """Rows 46, 99."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, 503, ("Retry-After", "900"))
    event = agent.only(RegistrationChanged)
    assert event.again == pytest.approx(900)


def test_the_next_server_of_the_registrar_is_tried() -> None:
    """Rows 16, 99. RFC 3263 4.3."""
    net = Net()
    agent, first, second = net.agent(A), net.peer(P), net.peer(Q)
    net.names["reg.example"] = [(P, 5060), (Q, 5060)]
    agent.endpoint.register(settings("reg.example"), net.now)
    agent.run()
    net.settle()
    answer(first, 503)
    grant(second)
    assert told(agent) == [(True, "registered", 200)]
    assert last(first)[0].top_via.branch != last(second)[0].top_via.branch


def test_a_refresh_that_nobody_answers_leaves_us_registered_until_the_time_is_over() -> None:
    """Row 99."""
    net = Net()
    agent, _ = registered(net, 600)
    net.run(595)
    assert told(agent)[1] == (True, "no_answer", None)
    net.run(110)
    assert told(agent)[-1] == (False, "no_answer", None)


def test_a_connection_that_dies_is_replaced_at_once_and_registered_by() -> None:
    """Row 99. RFC 5626 4.4: the flow is how calls reach us."""
    net = Net()
    agent, peer = registered(net)
    net.run(500)
    net.cut_all()
    net.run(3)
    assert len(peer.requests("REGISTER")) == 2
    assert last(peer)[1].id != peer.arrivals[0][1].id
    grant(peer)
    assert told(agent) == [(True, "registered", 200)] * 2


def test_a_peer_that_closes_every_connection_is_not_asked_ever_faster() -> None:
    """Row 99. RFC 5626 4.5."""
    net = Net()
    _, peer = registered(net)
    sent = [net.now]
    for _ in range(6):
        net.cut_all()
        before = len(peer.requests("REGISTER"))
        while len(peer.requests("REGISTER")) == before:
            net.run(1)
        sent.append(net.now)
        grant(peer)
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert gaps[0] <= 4
    assert gaps[-1] >= 100
    assert len(peer.requests("REGISTER")) == 7


def test_our_new_address_is_registered_at_once() -> None:
    """Row 99."""
    net = Net()
    agent, peer = registered(net)
    agent.endpoint.moved(TRUNK, net.now)
    agent.run()
    net.settle()
    assert len(peer.requests("REGISTER")) == 2


def test_it_is_taken_back_with_expires_0_and_nothing_is_left() -> None:
    """Row 99. RFC 3261 10.2.2."""
    net = Net()
    agent, peer = registered(net)
    agent.endpoint.unregister(TRUNK, net.now)
    agent.run()
    assert agent.endpoint.registrar.registrations
    net.settle()
    request = last(peer)[0]
    assert request.headers.get("Expires") == "0"
    assert request.headers.get("Contact") == f"<sip:line1@{A}:5060;transport=tcp>"
    answer(peer, 401, ("WWW-Authenticate", CHALLENGE))
    assert last(peer)[0].headers.get("Expires") == "0"
    assert last(peer)[0].headers.get("Authorization")
    answer(peer, 200)
    assert told(agent)[-1] == (False, "removed", 200)
    assert agent.endpoint.registrar.registrations == {}
    net.run(40)
    assert agent.endpoint.next_deadline() is None
    assert agent.endpoint.core.ways_out == {}


def test_taking_back_waits_for_the_answer_that_is_due() -> None:
    """Row 99. RFC 3261 10.2: no second REGISTER while the first one has no final response."""
    net = Net()
    agent, peer = begun(net)
    agent.endpoint.unregister(TRUNK, net.now)
    agent.run()
    net.settle()
    assert len(peer.requests("REGISTER")) == 1
    grant(peer)
    assert last(peer)[0].headers.get("Expires") == "0"
    answer(peer, 200)
    assert told(agent) == [(False, "removed", 200)]


def test_taking_back_what_never_was_sends_nothing() -> None:
    """Row 99."""
    net = Net()
    agent, peer = begun(net)
    answer(peer, 403)
    agent.endpoint.unregister(TRUNK, net.now)
    agent.run()
    net.settle()
    assert len(peer.requests("REGISTER")) == 1
    assert told(agent)[-1] == (False, "removed", None)


def test_other_settings_replace_the_registration_and_the_same_ones_do_nothing() -> None:
    """Row 99. A reload."""
    net = Net()
    agent, peer = registered(net)
    agent.endpoint.register(settings(), net.now)
    agent.run()
    net.settle()
    assert len(peer.requests("REGISTER")) == 1
    agent.endpoint.register(settings(contact_user="line2"), net.now)
    agent.run()
    net.settle()
    expires = [r.headers.get("Expires") for r in peer.requests("REGISTER")]
    assert sorted(expires[1:]) == ["0", "3600"]  # type: ignore[type-var]


# RFC 3608


def dial(agent: Agent, peer: Peer, **options: object) -> Request:
    agent.dial(P, **options)  # type: ignore[arg-type]
    agent.net.settle()
    return last(peer, "INVITE")[0]


def test_calls_take_the_service_route_and_the_connection_of_the_registration() -> None:
    """Row 99. RFC 3608 6.1: as a preloaded route, in order."""
    net = Net()
    agent, peer = begun(net)
    routes = ("<sip:orig@home.example;lr>", "<sip:second.example;lr;x=1>")
    grant(peer, 3600, ("Service-Route", ", ".join(routes)))
    agent.outputs.clear()
    invite = dial(agent, peer)
    assert invite.headers.values("Route") == list(routes)
    assert not [o for o in agent.outputs if isinstance(o, Connect)]
    request, flow = last(peer, "INVITE")
    peer.reply(request, 486, flow)
    assert peer.request("ACK").headers.values("Route") == list(routes)


def test_without_that_connection_a_call_goes_to_the_topmost_route() -> None:
    """Row 99. RFC 3261 8.1.2."""
    net = Net()
    agent, peer = net.agent(A, next_hop_allowed=lambda _h, _t: True), net.peer(P)
    net.names["home.example"] = [(Q, 5060)]
    home = net.peer(Q)
    agent.endpoint.register(settings(transport="udp"), net.now)
    agent.run()
    net.settle()
    grant(peer, 3600, ("Service-Route", "<sip:home.example;lr>"))
    agent.dial(P, transport="udp")
    net.settle()
    assert home.requests("INVITE")


@pytest.mark.parametrize(
    "route",
    [
        "<sip:strict.example>",
        "<tel:+91>",
        "<<",
        ", ".join(["<sip:a.example;lr>"] * 9),
        f"<sip:{'a' * 2000}.example;lr>",
    ],
)
def test_a_service_route_that_breaks_the_rules_is_not_followed(route: str) -> None:
    """Row 99. RFC 3608 5: each element is a loose route; bounded."""
    net = Net()
    agent, peer = begun(net)
    grant(peer, 3600, ("Service-Route", route))
    assert told(agent) == [(True, "registered", 200)]
    assert "Route" not in dial(agent, peer).headers


def test_a_service_route_never_leads_us_where_the_policy_forbids() -> None:
    """Row 99. Threat 5.1: SSRF."""
    net = Net()
    agent, peer = begun(net, "udp")
    net.peer("10.0.0.5")
    grant(peer, 3600, ("Service-Route", "<sip:10.0.0.5;lr>"))
    dial(agent, peer, transport="udp")
    assert not [o for o in agent.outputs if isinstance(o, Connect) and o.address == "10.0.0.5"]


def test_calls_of_other_trunks_and_after_the_end_take_no_service_route() -> None:
    """Row 99."""
    net = Net()
    agent, peer = begun(net)
    grant(peer, 3600, ("Service-Route", "<sip:home.example;lr>"))
    agent.endpoint.unregister(TRUNK, net.now)
    agent.run()
    net.settle()
    assert "Route" not in dial(agent, peer).headers


def test_a_call_comes_in_by_the_connection_of_the_registration() -> None:
    """Row 99. RFC 5626 5.3."""
    net = Net()
    agent, peer = registered(net)
    agent.answers()
    _, flow = last(peer)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    assert peer.statuses("INVITE")[-1] == 200
    assert not agent.of(Failed)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
FIELD = st.sampled_from(
    ("Contact", "Expires", "Service-Route", "Min-Expires", "Retry-After", "WWW-Authenticate")
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((200, 302, 401, 407, 423, 503, 600)),
            st.lists(st.tuples(FIELD, TEXT | st.sampled_from(SAID)), max_size=5),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings_of_hypothesis(max_examples=60, deadline=None)
def test_nothing_a_registrar_says_raises_or_makes_us_ask_without_pause(
    answers: list[tuple[int, list[tuple[str, str]]]],
) -> None:
    """Row 99. A hostile or broken registrar costs a bounded number of requests."""
    net = Net()
    _, peer = begun(net)
    for status, headers in answers:
        request, flow = last(peer)
        peer.reply(request, status, flow, headers=tuple(headers))
    asked = len(peer.requests("REGISTER"))
    assert asked <= 1 + 4 * len(answers)
    net.run(5)
    assert len(peer.requests("REGISTER")) <= asked + 1


# Snapshots


@pytest.mark.parametrize("moment", ["waiting", "registering", "registered", "removing"])
def test_a_snapshot_goes_on_where_it_was_taken(moment: str) -> None:
    """Row 99."""
    net = Net()
    agent, peer = begun(net)
    match moment:
        case "waiting":
            answer(peer, 500)
        case "registered":
            grant(peer, 600, ("Service-Route", "<sip:home.example;lr>"))
        case "removing":
            grant(peer, 600)
            agent.endpoint.unregister(TRUNK, net.now)
            agent.run()
            net.settle()
        case _:
            pass
    kept = agent.endpoint.snapshot(net.now, 0.0)
    assert "s3cret" not in repr(kept)
    again = Endpoint.restore(
        kept,
        EndpointConfig(listen_ports={"tcp": 5060, "udp": 5060}),
        tokens=counter_tokens("again"),
        offer_answer=lambda _, body: OfferAnswer.restore(body, destination_allowed=lambda *_: True),
        credentials=lambda _: SECRET,
        now=net.now,
        wall=0.0,
    )
    assert again.snapshot(net.now, 0.0) == kept
    assert again.next_deadline() == pytest.approx(agent.endpoint.next_deadline())
    assert again.core.ways_out == agent.endpoint.core.ways_out
    agent.endpoint = again
    if moment in ("registering", "removing"):
        answer(peer, 401, ("WWW-Authenticate", CHALLENGE))
        assert last(peer)[0].headers.get("Authorization")
    net.run(700)
    assert len(peer.requests("REGISTER")) >= 2


def test_an_address_that_changes_while_an_answer_is_awaited_is_registered_after_it() -> None:
    """RFC 3261 10.2: one REGISTER at a time; the one under way has told our old address."""
    net = Net()
    agent, peer = begun(net)
    agent.endpoint.moved(TRUNK, net.now)
    agent.run()
    net.settle()
    assert len(peer.requests("REGISTER")) == 1
    grant(peer)
    net.settle()
    assert len(peer.requests("REGISTER")) == 2
    grant(peer)
    net.run(600)
    assert len(peer.requests("REGISTER")) == 2


def test_a_registrar_that_wants_longer_every_time_is_not_asked_without_pause() -> None:
    """RFC 3261 10.2.8: a 423 is met at once a single time; what it wants is kept for later."""
    net = Net()
    _, peer = begun(net)
    for more in range(6):
        answer(peer, 423, ("Min-Expires", str(3601 + more)))
    assert [r.headers.get("Expires") for r in peer.requests("REGISTER")] == ["3600", "3601"]
    net.run(301)
    assert last(peer)[0].headers.get("Expires") == "3602"
