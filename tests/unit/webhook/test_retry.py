"""What follows from an attempt, and how a delivery is signed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.webhook.retry import (
    AT_LEAST,
    LIFETIME,
    LONGEST_DELAY,
    Answer,
    State,
    Verdict,
    judge,
    retry_after,
    signed_headers,
)

pytestmark = pytest.mark.unit

NOW = 1_780_000_000.0


def verdict(
    answer: Answer, *, attempts: int = 1, chance: float = 1.0, left: float = LIFETIME
) -> Verdict:
    return judge(answer, attempts=attempts, give_up_at=NOW + left, now=NOW, chance=chance)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert verdict(Answer(status=status)).state is State.DELIVERED


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 401, 404, 422, 429, 500, 503, 600])
def test_any_other_status_is_tried_again(status: int) -> None:
    found = verdict(Answer(status=status))
    assert (found.state, found.status) == (State.WAITING, status)


def test_gone_is_dead_at_once() -> None:
    assert verdict(Answer(status=410)).state is State.DEAD


def test_a_url_that_may_not_be_asked_is_dead_at_once() -> None:
    found = verdict(Answer(error="address refused", hopeless=True))
    assert (found.state, found.error) == (State.DEAD, "address refused")


def test_the_delay_doubles_from_a_second_to_an_hour() -> None:
    delays = [verdict(Answer(status=500), attempts=n).next_at - NOW for n in range(1, 16)]
    assert delays[:5] == [1, 2, 4, 8, 16]
    assert delays[11] == 2048
    assert delays[12:] == [LONGEST_DELAY] * 3


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_jitter_is_full_and_bounded(attempts: int, chance: float) -> None:
    found = verdict(Answer(error="timeout"), attempts=attempts, chance=chance)
    assert 0 <= found.next_at - NOW <= LONGEST_DELAY


def test_after_a_day_it_is_dead() -> None:
    last = verdict(Answer(status=500), attempts=40, left=3599)
    assert (last.state, last.status) == (State.DEAD, 500)
    assert verdict(Answer(status=500), attempts=40, left=3601).state is State.WAITING


def test_one_that_was_late_when_its_turn_came_is_tried_some_times() -> None:
    states = [
        verdict(Answer(status=500), attempts=n, left=-1000).state for n in range(1, AT_LEAST + 1)
    ]
    assert states == [State.WAITING] * (AT_LEAST - 1) + [State.DEAD]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("asked", "delay"), [(30, 30), (0, 0), (-5, 0), (10**9, LONGEST_DELAY)])
def test_a_receiver_may_ask_for_time_within_bounds(status: int, asked: float, delay: float) -> None:
    found = verdict(Answer(status=status, retry_after=asked), chance=0.0)
    assert found.next_at - NOW == delay


def test_a_receiver_cannot_shorten_the_delay_nor_ask_with_another_status() -> None:
    assert verdict(Answer(status=429, retry_after=1), attempts=9).next_at - NOW == 256
    assert verdict(Answer(status=500, retry_after=99), chance=0.0).next_at == NOW


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, 999_999_999.0),
        ("١٢", None),
        ("Thu, 28 May 2026 20:27:10 GMT", 30.0),
        ("Thu, 28 May 2026 20:26:10 -0000", -30.0),
        ("Sun, 06 Nov 9999999 08:49:37 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_raises(header: str) -> None:
    found = retry_after(header, NOW)
    assert found is None or isinstance(found, float)


def test_the_signature_is_the_hmac_of_the_raw_body() -> None:
    # printf '%s' '{"event":"call_ended"}' | openssl dgst -sha256 -hmac s3cret
    signed = "8617e8fecfaa79628b9d3a9f4fbcd8d10b01ace2fc759f716d2b6d4a754ab8de"
    headers = signed_headers(
        prefix="X-CallMissed-",
        secret="s3cret",
        user_agent="trunkbridge/1",
        delivery="d-1",
        event="call.ended",
        body=b'{"event":"call_ended"}',
    )
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": "trunkbridge/1",
        "X-CallMissed-Event": "call.ended",
        "X-CallMissed-Delivery": "d-1",
        "X-CallMissed-Signature": f"sha256={signed}",
    }
