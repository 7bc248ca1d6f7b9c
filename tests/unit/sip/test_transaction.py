"""The four transaction machines in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MisuseError
from bridge.sip.flow import Flow
from bridge.sip.grammar import ParseError
from bridge.sip.matching import cancelled_key, client_key, server_key
from bridge.sip.message import Headers, Message, Request, Response, parse, response_to
from bridge.sip.transaction import (
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
    ServerTransaction,
    State,
    Timers,
    Transaction,
    TxDone,
    TxOutput,
    TxPass,
    TxSend,
    TxTimeout,
    TxTransportError,
    ack_to,
    cancel_to,
    restore,
)

pytestmark = pytest.mark.unit

T1, T2, T4 = 0.5, 4.0, 5.0
PATIENCE = 64 * T1
START = 1000.0

UDP = Flow(id=1, transport="udp", local=("10.0.0.1", 5060), remote=("10.0.0.2", 5060))
TCP = Flow(id=2, transport="tcp", local=("10.0.0.1", 5060), remote=("10.0.0.2", 5060))


def request(method: str = "INVITE", *, branch: str = "z9hG4bK1", to: str = "<sip:b@h>") -> Request:
    headers = Headers(
        [
            ("Via", f"SIP/2.0/UDP 10.0.0.1:5060;branch={branch};rport"),
            ("Route", "<sip:r1;lr>"),
            ("Route", "<sip:r2;lr>"),
            ("Max-Forwards", "70"),
            ("From", "<sip:a@h>;tag=a1"),
            ("To", to),
            ("Call-ID", "c1"),
            ("CSeq", f"7 {method}"),
            ("Contact", "<sip:a@10.0.0.1>"),
        ]
    )
    return Request(method, "sip:b@h", headers, b"v=0")


INVITE = request()
BYE = request("BYE")


def answer(to: Request, status: int, tag: str = "b1") -> Response:
    return response_to(to, status, to_tag=tag)


def shown(outputs: list[TxOutput]) -> str:
    """Outputs in short: what is sent, passed up, or said."""
    return " ".join(_shown(output) for output in outputs)


def _shown(output: TxOutput) -> str:
    match output:
        case TxSend(data):
            return f"send:{_named(parse(data))}"
        case TxPass(message):
            return f"pass:{_named(message)}"
        case TxTimeout():
            return "timeout"
        case TxTransportError():
            return "transport-error"
        case TxDone():
            return "done"


def _named(message: Message) -> str:
    return message.method if isinstance(message, Request) else str(message.status)


def make(kind: str, flow: Flow) -> Transaction:
    match kind:
        case "ict":
            return InviteClient(INVITE, flow, START)
        case "nict":
            return NonInviteClient(BYE, flow, START)
        case "ist":
            return InviteServer(INVITE, flow, START)
        case "nist":
            return NonInviteServer(BYE, flow, START)
    raise AssertionError(kind)


def step(machine: Transaction, what: str, now: float) -> list[TxOutput]:
    """Apply one input: start, tick, fail, a status, ``<status``/``<METHOD`` from the wire."""
    match what:
        case "start":
            return machine.start(now)
        case "tick":
            return machine.tick(now)
        case "fail":
            return machine.send_failed(now)
        case "<ACK":
            return machine.receive(ack_to(INVITE, answer(INVITE, 486)), now)
    if what.startswith("<"):
        word = what[1:]
        return machine.receive(
            answer(machine.request, int(word)) if word.isdigit() else machine.request, now
        )
    assert isinstance(machine, ServerTransaction)
    return machine.respond(answer(machine.request, int(what)), now)


# Machine, flow, inputs before, input -> state, outputs, running timers (seconds from now).
# All inputs come at the same instant.
ROWS: list[tuple[str, Flow, str, str, State, str, dict[str, float]]] = [
    # INVITE client
    ("ict", UDP, "", "start", State.CALLING, "send:INVITE", {"A": T1, "B": PATIENCE}),
    ("ict", TCP, "", "start", State.CALLING, "send:INVITE", {"B": PATIENCE}),
    ("ict", UDP, "", "<200", State.INITIAL, "", {}),
    ("ict", UDP, "start", "<100", State.PROCEEDING, "pass:100", {}),
    ("ict", TCP, "start", "<180", State.PROCEEDING, "pass:180", {}),
    ("ict", UDP, "start", "<200", State.ACCEPTED, "pass:200", {"M": PATIENCE}),
    ("ict", TCP, "start", "<200", State.ACCEPTED, "pass:200", {"M": PATIENCE}),
    ("ict", UDP, "start", "<486", State.COMPLETED, "send:ACK pass:486", {"D": 32.0}),
    ("ict", TCP, "start", "<486", State.TERMINATED, "send:ACK pass:486 done", {}),
    ("ict", UDP, "start", "fail", State.TERMINATED, "transport-error done", {}),
    ("ict", UDP, "start", "<INVITE", State.CALLING, "", {"A": T1, "B": PATIENCE}),
    ("ict", UDP, "start", "tick", State.CALLING, "", {"A": T1, "B": PATIENCE}),
    ("ict", UDP, "start <180", "<183", State.PROCEEDING, "pass:183", {}),
    ("ict", UDP, "start <180", "<200", State.ACCEPTED, "pass:200", {"M": PATIENCE}),
    ("ict", UDP, "start <180", "<603", State.COMPLETED, "send:ACK pass:603", {"D": 32.0}),
    ("ict", TCP, "start <180", "<302", State.TERMINATED, "send:ACK pass:302 done", {}),
    ("ict", UDP, "start <180", "fail", State.PROCEEDING, "", {}),
    ("ict", UDP, "start <200", "<200", State.ACCEPTED, "pass:200", {"M": PATIENCE}),
    ("ict", UDP, "start <200", "<180", State.ACCEPTED, "", {"M": PATIENCE}),
    ("ict", UDP, "start <200", "<486", State.ACCEPTED, "", {"M": PATIENCE}),
    ("ict", UDP, "start <200", "fail", State.ACCEPTED, "", {"M": PATIENCE}),
    ("ict", UDP, "start <486", "<486", State.COMPLETED, "send:ACK", {"D": 32.0}),
    ("ict", UDP, "start <486", "<200", State.COMPLETED, "", {"D": 32.0}),
    ("ict", UDP, "start <486", "<180", State.COMPLETED, "", {"D": 32.0}),
    ("ict", UDP, "start <486", "fail", State.TERMINATED, "transport-error done", {}),
    ("ict", TCP, "start <486", "<486", State.TERMINATED, "", {}),
    ("ict", TCP, "start <486", "<200", State.TERMINATED, "", {}),
    ("ict", TCP, "start <486", "fail", State.TERMINATED, "", {}),
    ("ict", TCP, "start <486", "tick", State.TERMINATED, "", {}),
    # Other client
    ("nict", UDP, "", "start", State.TRYING, "send:BYE", {"E": T1, "F": PATIENCE}),
    ("nict", TCP, "", "start", State.TRYING, "send:BYE", {"F": PATIENCE}),
    ("nict", UDP, "start", "<100", State.PROCEEDING, "pass:100", {"E": T1, "F": PATIENCE}),
    ("nict", TCP, "start", "<100", State.PROCEEDING, "pass:100", {"F": PATIENCE}),
    ("nict", UDP, "start", "<200", State.COMPLETED, "pass:200", {"K": T4}),
    ("nict", TCP, "start", "<200", State.TERMINATED, "pass:200 done", {}),
    ("nict", UDP, "start", "fail", State.TERMINATED, "transport-error done", {}),
    ("nict", UDP, "start <100", "<481", State.COMPLETED, "pass:481", {"K": T4}),
    ("nict", UDP, "start <100", "fail", State.TERMINATED, "transport-error done", {}),
    ("nict", UDP, "start <200", "<200", State.COMPLETED, "", {"K": T4}),
    ("nict", UDP, "start <200", "<100", State.COMPLETED, "", {"K": T4}),
    ("nict", UDP, "start <200", "fail", State.COMPLETED, "", {"K": T4}),
    ("nict", TCP, "start <200", "<200", State.TERMINATED, "", {}),
    # INVITE server
    ("ist", UDP, "", "start", State.PROCEEDING, "pass:INVITE", {}),
    ("ist", UDP, "start", "<INVITE", State.PROCEEDING, "", {}),
    ("ist", UDP, "start", "<ACK", State.PROCEEDING, "", {}),
    ("ist", UDP, "start", "<200", State.PROCEEDING, "", {}),
    ("ist", UDP, "start", "180", State.PROCEEDING, "send:180", {}),
    ("ist", UDP, "start 100 183", "<INVITE", State.PROCEEDING, "send:183", {}),
    ("ist", TCP, "start 100", "<INVITE", State.PROCEEDING, "send:100", {}),
    ("ist", UDP, "start 180", "fail", State.PROCEEDING, "transport-error", {}),
    ("ist", UDP, "start 180", "200", State.ACCEPTED, "send:200", {"L": PATIENCE}),
    ("ist", TCP, "start", "200", State.ACCEPTED, "send:200", {"L": PATIENCE}),
    ("ist", UDP, "start", "486", State.COMPLETED, "send:486", {"H": PATIENCE, "G": T1}),
    ("ist", TCP, "start", "486", State.COMPLETED, "send:486", {"H": PATIENCE}),
    ("ist", UDP, "start 200", "<INVITE", State.ACCEPTED, "", {"L": PATIENCE}),
    ("ist", UDP, "start 200", "<ACK", State.ACCEPTED, "pass:ACK", {"L": PATIENCE}),
    ("ist", UDP, "start 200", "200", State.ACCEPTED, "send:200", {"L": PATIENCE}),
    ("ist", UDP, "start 200", "fail", State.ACCEPTED, "transport-error", {"L": PATIENCE}),
    ("ist", UDP, "start 486", "<INVITE", State.COMPLETED, "send:486", {"H": PATIENCE, "G": T1}),
    ("ist", UDP, "start 486", "<ACK", State.CONFIRMED, "", {"I": T4}),
    ("ist", TCP, "start 486", "<ACK", State.TERMINATED, "done", {}),
    ("ist", UDP, "start 486", "fail", State.COMPLETED, "transport-error", {"H": PATIENCE, "G": T1}),
    ("ist", UDP, "start 486 <ACK", "<ACK", State.CONFIRMED, "", {"I": T4}),
    ("ist", UDP, "start 486 <ACK", "<INVITE", State.CONFIRMED, "", {"I": T4}),
    ("ist", UDP, "start 486 <ACK", "fail", State.CONFIRMED, "", {"I": T4}),
    ("ist", TCP, "start 486 <ACK", "<INVITE", State.TERMINATED, "", {}),
    ("ist", TCP, "start 486 <ACK", "200", State.TERMINATED, "", {}),
    # Other server
    ("nist", UDP, "", "start", State.TRYING, "pass:BYE", {}),
    ("nist", UDP, "start", "<BYE", State.TRYING, "", {}),
    ("nist", UDP, "start", "fail", State.TRYING, "", {}),
    ("nist", UDP, "start", "100", State.PROCEEDING, "send:100", {}),
    ("nist", UDP, "start", "200", State.COMPLETED, "send:200", {"J": PATIENCE}),
    ("nist", TCP, "start", "200", State.TERMINATED, "send:200 done", {}),
    ("nist", UDP, "start 100", "<BYE", State.PROCEEDING, "send:100", {}),
    ("nist", UDP, "start 100", "481", State.COMPLETED, "send:481", {"J": PATIENCE}),
    ("nist", UDP, "start 100", "fail", State.TERMINATED, "transport-error done", {}),
    ("nist", UDP, "start 200", "<BYE", State.COMPLETED, "send:200", {"J": PATIENCE}),
    ("nist", UDP, "start 200", "fail", State.TERMINATED, "transport-error done", {}),
    ("nist", TCP, "start 200", "<BYE", State.TERMINATED, "", {}),
    ("nist", TCP, "start 200", "200", State.TERMINATED, "", {}),
]


@pytest.mark.parametrize(
    ("kind", "flow", "before", "what", "state", "outputs", "timers"),
    [
        pytest.param(*row, id=f"{row[0]}-{row[1].transport}-{row[2] or 'new'}-{row[3]}")
        for row in ROWS
    ],
)
def test_input_gives_state_outputs_and_deadlines(
    kind: str,
    flow: Flow,
    before: str,
    what: str,
    state: State,
    outputs: str,
    timers: dict[str, float],
) -> None:
    machine = make(kind, flow)
    for earlier in before.split():
        step(machine, earlier, START)
    assert shown(step(machine, what, START)) == outputs
    assert machine.state is state
    assert machine.deadlines() == {letter: START + after for letter, after in timers.items()}
    assert machine.next_deadline() == (START + min(timers.values()) if timers else None)
    assert machine.done is (state is State.TERMINATED)


@pytest.mark.parametrize(
    ("kind", "before", "what"),
    [
        ("ict", "start", "start"),
        ("ist", "start", "start"),
        ("ist", "", "200"),
        ("ist", "start 200", "180"),
        ("ist", "start 200", "486"),
        ("ist", "start 486", "486"),
        ("ist", "start 486 <ACK", "200"),
        ("nist", "", "200"),
        ("nist", "start 200", "200"),
        ("nist", "start 200", "100"),
    ],
)
def test_misuse_is_refused_and_changes_nothing(kind: str, before: str, what: str) -> None:
    machine = make(kind, UDP)
    for earlier in before.split():
        step(machine, earlier, START)
    state, timers = machine.state, machine.deadlines()
    with pytest.raises(MisuseError):
        step(machine, what, START)
    assert (machine.state, machine.deadlines()) == (state, timers)


def run_out(machine: Transaction, now: float = START) -> list[tuple[float, str]]:
    """Let time pass, tick by tick, until nothing is awaited."""
    log: list[tuple[float, str]] = []
    while (deadline := machine.next_deadline()) is not None:
        assert deadline > now
        assert machine.tick(math.nextafter(deadline, 0)) == []
        now = deadline
        log.append((now - START, shown(machine.tick(now))))
    return log


def test_unanswered_invite_is_sent_seven_times_and_times_out() -> None:
    """Row 37. RFC 3261 17.1.1.2: Timers A and B."""
    machine = make("ict", UDP)
    machine.start(START)
    assert run_out(machine) == [
        *[(at, "send:INVITE") for at in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5)],
        (32.0, "timeout done"),
    ]


def test_unanswered_request_slows_down_to_t2() -> None:
    machine = make("nict", UDP)
    machine.start(START)
    resent = (0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
    assert run_out(machine) == [*[(at, "send:BYE") for at in resent], (32.0, "timeout done")]


def test_request_with_provisional_answer_is_resent_every_t2() -> None:
    machine = make("nict", UDP)
    machine.start(START)
    step(machine, "<100", START)
    resent = (0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5)
    assert run_out(machine) == [*[(at, "send:BYE") for at in resent], (32.0, "timeout done")]


@pytest.mark.parametrize(
    ("kind", "flow", "before", "log"),
    [
        ("ict", TCP, "start", [(32.0, "timeout done")]),
        ("ict", UDP, "start <180", []),
        ("ict", UDP, "start <486", [(32.0, "done")]),
        ("ict", TCP, "start <200", [(32.0, "done")]),
        ("nict", TCP, "start", [(32.0, "timeout done")]),
        ("nict", UDP, "start <200", [(5.0, "done")]),
        ("ist", UDP, "start 180", []),
        ("ist", TCP, "start 200", [(32.0, "done")]),
        ("ist", TCP, "start 486", [(32.0, "timeout done")]),
        ("ist", UDP, "start 486 <ACK", [(5.0, "done")]),
        ("nist", UDP, "start", []),
        ("nist", UDP, "start 200", [(32.0, "done")]),
    ],
)
def test_state_ends_when_its_timer_does(
    kind: str, flow: Flow, before: str, log: list[tuple[float, str]]
) -> None:
    machine = make(kind, flow)
    for what in before.split():
        step(machine, what, START)
    assert run_out(machine) == log


def test_refusal_without_ack_is_resent_and_times_out() -> None:
    """Row 37. RFC 3261 17.2.1: Timers G and H."""
    machine = make("ist", UDP)
    step(machine, "start", START)
    step(machine, "486", START)
    resent = (0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
    assert run_out(machine) == [*[(at, "send:486") for at in resent], (32.0, "timeout done")]


def test_late_tick_makes_one_retransmission_and_no_burst() -> None:
    machine = make("ict", UDP)
    machine.start(START)
    assert shown(machine.tick(START + 20)) == "send:INVITE"
    assert machine.deadlines() == {"A": START + 21, "B": START + 32}
    assert shown(machine.tick(START + 100)) == "timeout done"


def test_timers_scale_with_t1() -> None:
    machine = InviteClient(INVITE, UDP, START, Timers(t1=0.1))
    machine.start(START)
    assert machine.deadlines() == pytest.approx({"A": START + 0.1, "B": START + 6.4})


def test_ack_of_a_refusal_belongs_to_the_invite() -> None:
    """Row 22. RFC 3261 17.1.1.3."""
    machine = make("ict", TCP)
    machine.start(START)
    sent = machine.receive(answer(INVITE, 486, tag="theirs"), START)[0]
    assert isinstance(sent, TxSend)
    ack = parse(sent.data)
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, ack.body) == ("ACK", INVITE.uri, b"")
    assert ack.headers.items() == [
        ("Via", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport"),
        ("Route", "<sip:r1;lr>"),
        ("Route", "<sip:r2;lr>"),
        ("Max-Forwards", "70"),
        ("From", "<sip:a@h>;tag=a1"),
        ("To", "<sip:b@h>;tag=theirs"),
        ("Call-ID", "c1"),
        ("CSeq", "7 ACK"),
        ("Content-Length", "0"),
    ]
    assert server_key(ack) == server_key(INVITE)


def test_resent_ack_answers_the_refusal_that_came() -> None:
    machine = make("ict", UDP)
    machine.start(START)
    machine.receive(answer(INVITE, 486, tag="one"), START)
    (sent,) = machine.receive(answer(INVITE, 486, tag="two"), START)
    assert isinstance(sent, TxSend)
    assert parse(sent.data).to.tag == "two"


def test_every_2xx_of_every_fork_is_passed_up() -> None:
    """Row 37. RFC 6026 7.2: state Accepted."""
    machine = make("ict", TCP)
    machine.start(START)
    tags = []
    for tag in ("one", "two", "one"):
        (output,) = machine.receive(answer(INVITE, 200, tag=tag), START + 1)
        assert isinstance(output, TxPass)
        tags.append(output.message.to.tag)
    assert tags == ["one", "two", "one"]
    assert machine.next_deadline() == START + 1 + PATIENCE


def test_cancel_is_its_own_transaction_on_the_branch_of_the_invite() -> None:
    cancel = cancel_to(INVITE)
    assert parse(cancel.encode()).cseq.number == 7
    assert cancel.headers.get("CSeq") == "7 CANCEL"
    assert cancel.headers.get("To") == "<sip:b@h>"
    assert cancel.headers.all("Route") == ["<sip:r1;lr>", "<sip:r2;lr>"]
    assert server_key(cancel) != server_key(INVITE)
    assert cancelled_key(cancel) == server_key(INVITE)
    assert client_key(cancel) == ("z9hG4bK1", "CANCEL")


def test_response_is_matched_by_branch_and_method() -> None:
    assert client_key(answer(INVITE, 200)) == client_key(INVITE) == ("z9hG4bK1", "INVITE")
    assert client_key(answer(BYE, 200)) != client_key(INVITE)


def test_request_is_matched_by_branch_sent_by_and_method() -> None:
    other = request()
    other.headers.set("Via", "SIP/2.0/UDP 10.0.0.1:5061;branch=z9hG4bK1")
    assert server_key(request()) == server_key(INVITE)
    assert server_key(other) != server_key(INVITE)
    assert server_key(BYE) != server_key(INVITE)


@pytest.mark.parametrize("branch", ["old", "z9hG4bK"])
def test_peers_without_magic_cookie_are_matched_as_rfc2543_says(branch: str) -> None:
    invite = request(branch=branch)
    key = server_key(invite)
    assert server_key(request(branch=branch)) == key
    assert server_key(ack_to(invite, answer(invite, 486))) == key
    assert cancelled_key(cancel_to(invite)) == key
    assert server_key(request("BYE", branch=branch)) != key
    next_one = request(branch=branch)
    next_one.headers.set("CSeq", "8 INVITE")
    assert server_key(next_one) != key
    tagged = request("BYE", branch=branch, to="<sip:b@h>;tag=x")
    assert server_key(tagged) != server_key(request("BYE", branch=branch))


INPUTS = {
    "ict": ["tick", "fail", "<INVITE", "<100", "<180", "<200", "<302", "<486", "wait"],
    "nict": ["tick", "fail", "<100", "<200", "<481", "wait"],
    "ist": ["tick", "fail", "<INVITE", "<ACK", "100", "180", "200", "486", "wait"],
    "nist": ["tick", "fail", "<BYE", "100", "200", "wait"],
}


def scripts() -> st.SearchStrategy[tuple[str, list[tuple[str, float]]]]:
    waits = st.sampled_from([0.0, 0.25, 0.5, 4.0, 31.75, 32.0])
    return st.sampled_from(sorted(INPUTS)).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.lists(st.tuples(st.sampled_from(INPUTS[kind]), waits), max_size=10),
        )
    )


def play(machine: Transaction, script: list[tuple[str, float]], now: float) -> list[object]:
    log: list[object] = []
    for what, wait in script:
        now += wait
        try:
            outputs = shown(step(machine, "tick" if what == "wait" else what, now))
        except MisuseError:
            outputs = "misuse"
        log.append((outputs, machine.state, machine.next_deadline()))
    return log


@settings(max_examples=150)
@given(
    script=scripts(),
    cut=st.integers(0, 10),
    flow=st.sampled_from([UDP, TCP]),
    asleep=st.sampled_from([0.0, 0.25, 8.0]),
)
def test_restored_machine_goes_on_as_if_nothing_had_happened(
    script: tuple[str, list[tuple[str, float]]], cut: int, flow: Flow, asleep: float
) -> None:
    kind, steps = script
    machine = make(kind, flow)
    machine.start(START)
    play(machine, steps[:cut], START)
    now = START + sum(wait for _, wait in steps[:cut])
    snapshot = machine.snapshot(now, wall=5_000_000.0)
    # Another process: its clock began elsewhere, and *asleep* seconds went by.
    woken = 64.0
    copy = restore(snapshot, replace(flow, id=9), woken, wall=5_000_000.0 + asleep)
    assert type(copy) is type(machine)
    assert copy.flow.id == 9
    shift = (woken - asleep) - now
    log = play(machine, steps[cut:], now + asleep)
    restored_log = play(copy, steps[cut:], woken)
    assert [(row[0], row[1]) for row in restored_log] == [(row[0], row[1]) for row in log]
    for restored_row, row in zip(restored_log, log, strict=True):
        if row[2] is None:
            assert restored_row[2] is None
        else:
            assert restored_row[2] == pytest.approx(row[2] + shift, abs=1e-6)


@settings(max_examples=150)
@given(script=scripts(), flow=st.sampled_from([UDP, TCP]))
def test_done_is_said_once_and_last(
    script: tuple[str, list[tuple[str, float]]], flow: Flow
) -> None:
    kind, steps = script
    machine = make(kind, flow)
    outputs = list(machine.start(START))
    now = START
    for what, wait in steps:
        now += wait
        try:
            outputs += step(machine, "tick" if what == "wait" else what, now)
        except MisuseError:
            continue
    assert outputs.count(TxDone()) == (1 if machine.done else 0)
    if machine.done:
        assert outputs[-1] == TxDone()
        assert machine.next_deadline() is None


def test_overdue_deadlines_fire_at_the_first_tick_after_a_restart() -> None:
    machine = make("ict", UDP)
    machine.start(START)
    copy = restore(machine.snapshot(START, wall=100.0), UDP, now=3.0, wall=100.0 + 60.0)
    assert shown(copy.tick(3.0)) == "timeout done"


def test_restored_server_replays_the_bytes_it_sent() -> None:
    machine = make("ist", UDP)
    step(machine, "start", START)
    (sent,) = step(machine, "183", START)
    copy = InviteServer.restore(machine.snapshot(START, wall=0.0), UDP, now=0.0, wall=0.0)
    assert copy.receive(INVITE, 0.0) == [sent]


BAD_SNAPSHOTS: list[tuple[Callable[[Transaction], object], type[Exception]]] = [
    (lambda m: restore(replace(m.snapshot(0, 0), kind="?"), UDP, 0, 0), MisuseError),
    (lambda m: InviteServer.restore(m.snapshot(0, 0), UDP, 0, 0), MisuseError),
    (lambda m: restore(replace(m.snapshot(0, 0), request=b"?"), UDP, 0, 0), ParseError),
    (
        lambda m: restore(replace(m.snapshot(0, 0), request=answer(BYE, 200).encode()), UDP, 0, 0),
        MisuseError,
    ),
]


@pytest.mark.parametrize(("act", "error"), BAD_SNAPSHOTS)
def test_snapshot_that_does_not_fit_is_refused(
    act: Callable[[Transaction], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        act(make("ict", UDP))
