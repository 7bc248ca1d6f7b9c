"""The called side of LiveKit's RPC."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from bridge.room.signal.rpc import (
    DEFAULT_TIMEOUT,
    ID_LIMIT,
    LONGEST_TIMEOUT,
    MESSAGE_LIMIT,
    PAYLOAD_LIMIT,
    RUNNING_LIMIT,
    RUNNING_PER_CALLER,
    SEEN_LIMIT,
    RpcAsked,
    RpcCode,
    RpcExpired,
    RpcKey,
    RpcOutput,
    RpcReply,
    RpcServer,
)

pytestmark = pytest.mark.unit

METHOD = "lk.sip.EndCall"


def server() -> RpcServer:
    return RpcServer({METHOD})


def ask(
    serving: RpcServer,
    identifier: str = "1",
    *,
    caller: str = "agent",
    method: str = METHOD,
    payload: str = "{}",
    version: int = 1,
    timeout_ms: int = 10_000,
    now: float = 0.0,
) -> list[RpcOutput]:
    request = models.RpcRequest(
        id=identifier,
        method=method,
        payload=payload,
        version=version,
        response_timeout_ms=timeout_ms,
    )
    return serving.request(caller, request, now)


def asked(outputs: list[RpcOutput]) -> RpcAsked:
    [found] = [one for one in outputs if isinstance(one, RpcAsked)]
    return found


def acknowledged(outputs: list[RpcOutput]) -> list[str]:
    packets = [one.packet for one in outputs if isinstance(one, RpcReply)]
    return [one.rpc_ack.request_id for one in packets if one.WhichOneof("value") == "rpc_ack"]


def responses(outputs: list[RpcOutput]) -> list[models.RpcResponse]:
    packets = [one.packet for one in outputs if isinstance(one, RpcReply)]
    return [one.rpc_response for one in packets if one.WhichOneof("value") == "rpc_response"]


def error_of(outputs: list[RpcOutput]) -> tuple[int, str]:
    [response] = responses(outputs)
    assert response.WhichOneof("value") == "error"
    return response.error.code, response.error.message


def test_a_request_is_acknowledged_at_once_and_then_run() -> None:
    outputs = ask(server(), "abc", payload='{"headers":{}}')
    assert isinstance(outputs[0], RpcReply)
    assert acknowledged(outputs) == ["abc"]
    found = asked(outputs)
    assert (found.caller, found.method, found.payload) == ("agent", METHOD, '{"headers":{}}')


def test_a_call_of_the_servers_own_api_is_known_by_its_caller() -> None:
    assert asked(ask(server(), "abc", caller="abc")).from_server
    assert not asked(ask(server(), "abc", caller="agent")).from_server


def test_everything_goes_to_the_caller_alone() -> None:
    serving = server()
    outputs = ask(serving, caller="agent-1")
    outputs += serving.answer(asked(outputs).key, "ok")
    packets = [one.packet for one in outputs if isinstance(one, RpcReply)]
    assert [list(one.destination_identities) for one in packets] == [["agent-1"], ["agent-1"]]


def test_an_answer_carries_the_request_id_and_the_payload() -> None:
    serving = server()
    [response] = responses(serving.answer(asked(ask(serving, "abc")).key, "done"))
    assert (response.request_id, response.payload) == ("abc", "done")


def test_an_empty_answer_is_a_payload_and_no_error() -> None:
    serving = server()
    [response] = responses(serving.answer(asked(ask(serving)).key, ""))
    assert response.WhichOneof("value") == "payload"


@pytest.mark.parametrize(
    ("request_of", "code", "text"),
    [
        ({"method": "nope"}, 1400, "Method not supported at destination"),
        ({"payload": "x" * (PAYLOAD_LIMIT + 1)}, 1402, "Request payload too large"),
        ({"payload": "é" * (PAYLOAD_LIMIT // 2 + 1)}, 1402, "Request payload too large"),
        ({"version": 0}, 1404, "Unsupported RPC version"),
        ({"version": 2}, 1404, "Unsupported RPC version"),
        ({"version": 2, "method": "nope"}, 1404, "Unsupported RPC version"),
    ],
)
def test_what_cannot_be_served_is_acknowledged_and_refused(
    request_of: dict[str, object], code: int, text: str
) -> None:
    outputs = ask(server(), **request_of)  # type: ignore[arg-type]
    assert acknowledged(outputs) == ["1"]
    assert error_of(outputs) == (code, text)
    assert not [one for one in outputs if isinstance(one, RpcAsked)]


def test_a_payload_of_exactly_the_limit_is_taken_and_given() -> None:
    serving = server()
    payload = "x" * PAYLOAD_LIMIT
    found = asked(ask(serving, payload=payload))
    assert found.payload == payload
    [response] = responses(serving.answer(found.key, payload))
    assert response.payload == payload


def test_an_answer_that_is_too_large_becomes_an_error() -> None:
    serving = server()
    outputs = serving.answer(asked(ask(serving)).key, "x" * (PAYLOAD_LIMIT + 1))
    assert error_of(outputs) == (1504, "Response payload too large")


def test_a_handler_refuses_with_its_own_code_and_text() -> None:
    serving = server()
    assert error_of(serving.refuse(asked(ask(serving)).key, 403, "not you")) == (403, "not you")


def test_a_failed_handler_is_an_application_error_with_livekits_text() -> None:
    serving = server()
    outputs = serving.refuse(asked(ask(serving)).key, RpcCode.APPLICATION_ERROR)
    assert error_of(outputs) == (1500, "Application error in method handler")


@pytest.mark.parametrize("code", [-1, 1 << 32])
def test_a_code_that_is_none_becomes_an_application_error(code: int) -> None:
    serving = server()
    assert error_of(serving.refuse(asked(ask(serving)).key, code, "x")) == (1500, "x")


def test_a_long_error_text_is_cut_between_characters() -> None:
    serving = server()
    _, text = error_of(serving.refuse(asked(ask(serving)).key, 1, "a" + "é" * MESSAGE_LIMIT))
    assert text == "a" + "é" * ((MESSAGE_LIMIT - 1) // 2)


def test_text_that_is_no_unicode_does_not_raise() -> None:
    serving = server()
    [response] = responses(serving.answer(asked(ask(serving)).key, "a\ud800"))
    assert response.payload == "a?"
    assert error_of(serving.refuse(asked(ask(serving, "2")).key, 1, "\ud800")) == (1, "?")


def test_a_repeated_request_is_acknowledged_again_and_not_run_twice() -> None:
    serving = server()
    first = asked(ask(serving))
    again = ask(serving)
    assert acknowledged(again) == ["1"]
    assert len(again) == 1
    serving.answer(first.key, "done")
    assert len(ask(serving)) == 1


def test_the_same_id_of_another_caller_is_another_request() -> None:
    serving = server()
    ask(serving, caller="one")
    assert asked(ask(serving, caller="two")).caller == "two"


def test_a_request_is_answered_once() -> None:
    serving = server()
    key = asked(ask(serving)).key
    assert len(serving.answer(key, "done")) == 1
    assert serving.answer(key, "again") == []
    assert serving.refuse(key, 1, "again") == []


def test_a_caller_whose_time_is_over_is_told_and_the_handler_too() -> None:
    serving = server()
    key = asked(ask(serving, timeout_ms=2000, now=10.0)).key
    assert serving.next_deadline() == pytest.approx(12.0)
    assert serving.poll(11.9) == []
    outputs = serving.poll(12.0)
    assert error_of(outputs) == (1502, "Response timeout")
    assert outputs[-1] == RpcExpired(key=key)
    assert serving.answer(key, "late") == []
    assert serving.next_deadline() is None


@pytest.mark.parametrize(
    ("timeout_ms", "seconds"), [(0, DEFAULT_TIMEOUT), (2**32 - 1, LONGEST_TIMEOUT), (1, 0.001)]
)
def test_timeouts_have_a_default_and_a_longest(timeout_ms: int, seconds: float) -> None:
    serving = server()
    ask(serving, timeout_ms=timeout_ms)
    assert serving.next_deadline() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("caller", "identifier"), [("", "1"), ("agent", ""), ("agent", "x" * (ID_LIMIT + 1))]
)
def test_a_request_that_nobody_could_be_answered_for_is_ignored(
    caller: str, identifier: str
) -> None:
    assert ask(server(), identifier, caller=caller) == []


def test_one_caller_cannot_take_all_places() -> None:
    serving = server()
    for number in range(RUNNING_PER_CALLER):
        asked(ask(serving, str(number)))
    assert error_of(ask(serving, "more"))[0] == 1500
    assert asked(ask(serving, "other", caller="other")).caller == "other"


def test_the_number_of_running_requests_is_bounded() -> None:
    serving = server()
    for number in range(RUNNING_LIMIT):
        asked(ask(serving, "1", caller=f"caller-{number}"))
    assert error_of(ask(serving, "1", caller="one more"))[0] == 1500


def test_what_is_remembered_is_bounded() -> None:
    serving = server()
    for number in range(SEEN_LIMIT + 100):
        ask(serving, str(number), method="nope")
    assert len(serving._seen) == SEEN_LIMIT


def test_leaving_tells_all_who_wait() -> None:
    serving = server()
    key = asked(ask(serving)).key
    outputs = serving.leave()
    assert error_of(outputs) == (1503, "Recipient disconnected")
    assert outputs[-1] == RpcExpired(key=key)
    assert serving.leave() == []


def test_a_new_participant_answers_nobody_of_the_one_before() -> None:
    serving = server()
    key = asked(ask(serving)).key
    assert serving.forget() == [RpcExpired(key=key)]
    assert serving.answer(key, "late") == []
    assert asked(ask(serving)).key != key


def test_a_request_as_a_stream_is_refused_by_its_version() -> None:
    outputs = server().refuse_stream("agent", "7")
    assert acknowledged(outputs) == ["7"]
    assert error_of(outputs) == (1404, "Unsupported RPC version")
    assert server().refuse_stream("", "7") == []
    assert server().refuse_stream("agent", "x" * 1000) == []


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from(["1", "2", "3"]),
            st.integers(0, 20_000),
            st.sampled_from(["ask", "answer", "refuse", "poll"]),
        ),
        max_size=60,
    )
)
def test_every_request_that_is_run_gets_exactly_one_response(
    steps: list[tuple[str, str, int, str]],
) -> None:
    serving = server()
    run: list[RpcKey] = []
    answered: list[tuple[str, str]] = []
    asked_for: list[tuple[str, str]] = []
    for now, (caller, identifier, timeout, step) in enumerate(steps):
        if step == "ask":
            outputs = ask(serving, identifier, caller=caller, timeout_ms=timeout, now=float(now))
        elif step == "poll":
            outputs = serving.poll(float(now))
        elif step == "answer" and run:
            outputs = serving.answer(run[timeout % len(run)], "ok")
        elif run:
            outputs = serving.refuse(run[timeout % len(run)], timeout)
        else:
            outputs = []
        for output in outputs:
            if isinstance(output, RpcAsked):
                run.append(output.key)
                asked_for.append((caller, identifier))
            elif isinstance(output, RpcReply) and output.packet.HasField("rpc_response"):
                [to] = output.packet.destination_identities
                answered.append((to, output.packet.rpc_response.request_id))
    for output in serving.leave():
        if isinstance(output, RpcReply):
            [to] = output.packet.destination_identities
            answered.append((to, output.packet.rpc_response.request_id))
    assert sorted(answered) == sorted(asked_for)
    assert len(set(asked_for)) == len(asked_for)
