"""The session timer itself: what each side says, hears, and does when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.message import Headers
from bridge.sip.session_timer import (
    LONGEST,
    MAX_RAISES,
    Due,
    Refresher,
    SessionExpires,
    SessionTimer,
    is_too_brief,
    read_min_se,
    read_session_expires,
)

pytestmark = pytest.mark.unit

ABLE = ("Supported", "replaces, timer")


def asks(expires: str | None = None, *more: tuple[str, str]) -> Headers:
    """The header fields of a message that may ask for a session timer."""
    return Headers([*([] if expires is None else [("Session-Expires", expires)]), *more])


def expires_of(fields: list[tuple[str, str]]) -> str | None:
    return dict(fields).get("Session-Expires")


# Header fields


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1800", SessionExpires(1800)),
        (" 1800 ; refresher = UAC ", SessionExpires(1800, "uac")),
        ("90;x=y;Refresher=uas", SessionExpires(90, "uas")),
        ("90;refresher=me", SessionExpires(90)),
        ("0", SessionExpires(0)),
        ("9999999999", SessionExpires(LONGEST)),
        ("99999999999", None),
        ("-90", None),
        ("90.5", None),
        ("٩٠", None),
        ("", None),
        ("soon", None),
    ],
)
def test_session_expires_is_read_or_ignored(text: str, found: SessionExpires | None) -> None:
    assert read_session_expires(asks(text)) == found


def test_the_compact_form_of_session_expires_is_read() -> None:
    assert read_session_expires(Headers([("x", "1800")])) == SessionExpires(1800)
    assert read_min_se(Headers([("min-se", "120;lr")])) == 120
    assert read_min_se(Headers([("Min-SE", "a while")])) == 0


def test_only_who_knows_422_is_told_that_the_interval_is_too_brief() -> None:
    """RFC 4028 9: a 422 needs "Supported: timer" in the request."""
    assert is_too_brief(asks("89", ABLE), 90)
    assert is_too_brief(asks("0", ("Require", "TIMER")), 90)
    assert not is_too_brief(asks("90", ABLE), 90)
    assert not is_too_brief(asks("89"), 90)
    assert not is_too_brief(asks("soon", ABLE), 90)


# The one who answers: RFC 4028 9, table 2


@pytest.mark.parametrize(
    ("headers", "said", "refresher"),
    [
        (asks("1800;refresher=uac", ABLE), "1800;refresher=uac", Refresher.THEM),
        (asks("1800;refresher=uas", ABLE), "1800;refresher=uas", Refresher.US),
        (asks("1800", ABLE), "1800;refresher=uas", Refresher.US),
        (asks("1800"), "1800;refresher=uas", Refresher.US),
        (asks("1800;refresher=uac"), "1800;refresher=uas", Refresher.US),
        (asks(None, ABLE), "1200;refresher=uas", Refresher.US),
        (asks("soon", ABLE), "1200;refresher=uas", Refresher.US),
    ],
)
def test_who_answers_names_the_refresher(headers: Headers, said: str, refresher: Refresher) -> None:
    """Row 64. RFC 4028 9, table 2: their word counts, and who cannot refresh does not."""
    timer = SessionTimer(wish=1200 if said.startswith("1200") else 0)
    fields = timer.answer(headers, 0.0)
    assert expires_of(fields) == said
    assert timer.refresher is refresher
    assert (("Require", "timer") in fields) is ("Supported" in headers)


def test_a_timer_is_not_forced_on_one_who_does_not_know_it() -> None:
    timer = SessionTimer(wish=1800)
    assert timer.answer(asks(), 0.0) == []
    assert timer.next_deadline() is None


@pytest.mark.parametrize(
    ("wish", "expires", "min_se", "agreed"),
    [
        (1800, 7200, None, 1800),
        (1800, 7200, 3600, 3600),
        (1800, 600, None, 600),
        (0, 7200, None, 7200),
        (1800, 100, 200, 100),  # theirs contradicts itself, and we may not increase it
    ],
)
def test_an_interval_is_reduced_to_our_wish_and_never_increased(
    wish: int, expires: int, min_se: int | None, agreed: int
) -> None:
    """Row 64. RFC 4028 9: "The UAS MUST NOT increase the value"."""
    more = () if min_se is None else (("Min-SE", str(min_se)),)
    timer = SessionTimer(wish=wish)
    fields = timer.answer(asks(str(expires), ABLE, *more), 0.0)
    assert expires_of(fields) == f"{agreed};refresher=uas"


def test_our_own_proposal_respects_their_min_se() -> None:
    timer = SessionTimer(wish=1800)
    fields = timer.answer(asks(None, ABLE, ("Min-SE", "3600")), 0.0)
    assert expires_of(fields) == "3600;refresher=uas"


def test_a_brief_interval_of_one_who_knows_no_422_is_no_timer() -> None:
    timer = SessionTimer(wish=1800)
    assert timer.answer(asks("10"), 0.0) == []
    assert timer.next_deadline() is None


# The one who asks


def test_what_the_2xx_says_counts_also_when_nothing_was_asked_for() -> None:
    """Row 64. RFC 4028 7.2: a UAC "MUST be prepared to receive a Session-Expires"."""
    timer = SessionTimer()
    assert timer.first_fields() == []
    timer.accepted(asks("1800;refresher=uac"), 0.0)
    assert (timer.interval, timer.refresher, timer.refresh_at) == (1800, Refresher.US, 900.0)
    assert timer.give_up_at == 1800 - 32
    assert expires_of(timer.fields()) == "1800;refresher=uac"


def test_the_other_side_refreshes_and_we_wait_for_it() -> None:
    timer = SessionTimer(wish=1800)
    assert timer.first_fields() == [("Session-Expires", "1800")]
    timer.accepted(asks("90;refresher=uas"), 1000.0)
    assert (timer.refresher, timer.refresh_at) == (Refresher.THEM, None)
    assert timer.next_deadline() == 1000 + 90 - 30  # a third, less than 32 s
    assert expires_of(timer.fields()) == "90;refresher=uas"
    assert timer.due(1059.0) is None
    assert timer.due(1060.0) is Due.EXPIRED


def test_a_2xx_without_refresher_leaves_it_to_us() -> None:
    timer = SessionTimer(wish=1800)
    timer.accepted(asks("1800"), 0.0)
    assert timer.refresher is Refresher.US


@pytest.mark.parametrize("expires", [None, "0", "soon"])
def test_a_2xx_without_session_expires_turns_the_timer_off(expires: str | None) -> None:
    """Row 64. RFC 4028 7.2: "the session timer can be 'turned-off' in mid dialog"."""
    timer = SessionTimer(wish=1800)
    timer.accepted(asks("1800;refresher=uac"), 0.0)
    timer.accepted(asks(expires), 900.0)
    assert not timer.running
    assert timer.next_deadline() is None
    assert timer.fields() == []


def test_an_absurdly_brief_2xx_does_not_make_us_refresh_all_the_time() -> None:
    timer = SessionTimer(wish=1800)
    timer.accepted(asks("1;refresher=uac"), 0.0)
    assert timer.refresh_at == 45.0


def test_422_is_answered_with_the_larger_interval_and_not_for_ever() -> None:
    """Row 64. Status 422. RFC 4028 7.3: the largest Min-SE of all."""
    timer = SessionTimer(wish=1800)
    assert timer.raised(Headers([("Min-SE", "3600")]))
    assert timer.first_fields() == [("Session-Expires", "3600"), ("Min-SE", "3600")]
    assert not timer.raised(Headers([("Min-SE", "3600")]))
    assert not timer.raised(Headers())
    grown = [timer.raised(Headers([("Min-SE", str(4000 + n))])) for n in range(9)]
    assert grown.count(True) == MAX_RAISES - 1


def test_a_refresh_is_due_once_and_tried_again_while_the_session_lives() -> None:
    """Failure 7.2: refresh 422 or 503 taken for success."""
    timer = SessionTimer(wish=1800)
    timer.accepted(asks("1800;refresher=uac"), 0.0)
    now, tries = 0.0, 0
    while (now := timer.next_deadline() or 0.0) and timer.due(now) is Due.REFRESH:
        assert timer.due(now) is None
        tries += 1
        timer.failed(now)
    assert now == 1800 - 32
    assert 3 < tries < 12


def test_retry_after_is_kept_to_unless_the_session_is_over_by_then() -> None:
    timer = SessionTimer(wish=1800)
    timer.accepted(asks("1800;refresher=uac"), 0.0)
    assert timer.due(900.0) is Due.REFRESH
    timer.failed(900.0, 60)
    assert timer.refresh_at == 960.0
    timer.failed(960.0, 0)
    assert timer.refresh_at == 965.0
    assert timer.due(965.0) is Due.REFRESH
    timer.failed(965.0, 900)
    assert timer.refresh_at is None


# Both roles in one dialog


def test_the_refresher_may_swap_and_swap_back() -> None:
    """Row 64. RFC 4028 7.4, 9: "uac" is who sent this request, not who made the call."""
    ours, theirs = SessionTimer(wish=1800), SessionTimer()
    ours.accepted(Headers(theirs.answer(asks("1800", ABLE), 0.0)), 0.0)
    assert (ours.refresher, theirs.refresher) == (Refresher.THEM, Refresher.US)
    ours.accepted(Headers(theirs.answer(asks("1800;refresher=uac", ABLE), 5.0)), 5.0)
    assert (ours.refresher, theirs.refresher) == (Refresher.US, Refresher.THEM)
    ours.accepted(Headers(theirs.answer(asks("1800;refresher=uas", ABLE), 5.0)), 5.0)
    again = Headers([*theirs.fields(), ABLE])
    assert again.get("Session-Expires") == "1800;refresher=uac"
    theirs.accepted(Headers(ours.answer(again, 6.0)), 6.0)
    assert (ours.refresher, theirs.refresher) == (Refresher.THEM, Refresher.US)


@pytest.mark.parametrize(
    ("able", "first", "said"),
    [
        (True, "1800;refresher=uas", "1800;refresher=uas"),
        (True, "1800;refresher=uac", "1800;refresher=uac"),
        (False, "1800;refresher=uac", "1800;refresher=uas"),
    ],
)
def test_a_reinvite_that_says_nothing_of_the_timer_keeps_it(
    able: bool, first: str, said: str
) -> None:
    """A hold by a peer that speaks of the timer in its refreshes alone must not end it."""
    timer = SessionTimer()
    timer.answer(asks(first, ABLE), 0.0)
    fields = timer.answer(asks(None, *((ABLE,) if able else ())), 10.0)
    assert expires_of(fields) == said
    assert timer.give_up_at == 10 + 1800 - 32


messages = st.builds(
    lambda expires, min_se, supported: Headers(
        [
            *([("Session-Expires", expires)] if expires is not None else []),
            *([("Min-SE", min_se)] if min_se is not None else []),
            *([("Supported", "timer")] if supported else []),
        ]
    ),
    st.none()
    | st.builds(
        "{}{}".format,
        st.integers(0, 10**11),
        st.sampled_from(["", ";refresher=uac", ";refresher=uas", ";refresher="]),
    )
    | st.text("0129;=ua c\x7f", max_size=12),
    st.none() | st.integers(0, 10**11).map(str) | st.just("x"),
    st.booleans(),
)


@given(
    wish=st.sampled_from([0, 90, 1800]),
    steps=st.lists(
        st.tuples(st.sampled_from(["accepted", "answer", "raised", "failed", "due"]), messages),
        max_size=12,
    ),
)
def test_whatever_a_peer_says_the_timer_keeps_its_bounds(
    wish: int, steps: list[tuple[str, Headers]]
) -> None:
    timer = SessionTimer(wish=wish)
    now = 0.0
    for step, headers in steps:
        now += 7
        match step:
            case "accepted":
                timer.accepted(headers, now)
            case "answer":
                asked = read_session_expires(headers)
                fields = timer.answer(headers, now)
                said = read_session_expires(Headers(fields))
                if said is not None and asked is not None and asked.seconds >= timer.floor:
                    assert said.seconds <= asked.seconds
            case "raised":
                timer.raised(headers)
            case "failed":
                timer.failed(now, read_min_se(headers) or None)
            case _:
                timer.due(now)
        assert timer.interval is None or 90 <= timer.interval <= LONGEST
        assert (timer.give_up_at is None) is (timer.interval is None)
        if timer.refresh_at is not None and timer.give_up_at is not None:
            assert timer.refresher is Refresher.US
            assert timer.refresh_at < timer.give_up_at
