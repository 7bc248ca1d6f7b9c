"""Lists and look-ups, the same on both databases."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.events import rfc3339
from bridge.journal import ChangedRecord, WrittenEvent, WrittenFact
from bridge.store.queries import CallFilter
from bridge.store.store import Store
from bridge.store.writing import Writer, dump
from bridge.transcript import shapes
from bridge.transcript.segment import Segment, Speaker
from tests.unit.store.making import AT, event, record

pytestmark = pytest.mark.unit


def write(
    store: Store, *calls: dict[str, Any], private: dict[str, Any] | None = None, revision: int = 1
) -> None:
    """Put calls into the store as the projection does."""
    items = [
        ChangedRecord(
            call_id=one["id"],
            revision=revision,
            instance="a",
            record=dump(one),
            private=dump(private or {}),
        )
        for one in calls
    ]
    with store.writing() as connection:
        Writer(journal="j1").records(connection, items)
    store.changes += 1


def ids(store: Store, wanted: CallFilter, limit: int = 50, offset: int = 0) -> list[str]:
    found, total = store.calls(wanted, limit=limit, offset=offset)
    assert total >= len(found)
    return [one["id"] for one in found]


def made(n: int, **changes: Any) -> dict[str, Any]:
    return record(f"c{n}", created_at=rfc3339(AT + n), **changes)


def test_a_call_is_found_by_its_id_and_its_room(store: Store) -> None:
    write(store, made(1, room_name="desk"), private={"webhook_url": "https://x"})
    write(store, made(2, room_name="desk", tenant_id="t"))
    found = store.call("c1")
    assert found is not None
    assert found.record == made(1, room_name="desk")
    assert (found.private, found.instance, found.tenant_id) == (
        {"webhook_url": "https://x"},
        "a",
        None,
    )
    newest = store.call_of_room("desk")
    assert newest is not None
    assert (newest.record["id"], newest.tenant_id) == ("c2", "t")
    assert store.call("c3") is None
    assert store.call_of_room("other") is None


def test_lists_are_newest_first_in_pages_with_a_total(store: Store) -> None:
    write(store, *(made(n) for n in range(7)))
    found, total = store.calls(CallFilter(), limit=3, offset=0)
    assert ([one["id"] for one in found], total) == (["c6", "c5", "c4"], 7)
    found, total = store.calls(CallFilter(), limit=3, offset=6)
    assert ([one["id"] for one in found], total) == (["c0"], 7)
    assert store.calls(CallFilter(), limit=3, offset=70) == ([], 7)
    assert ids(store, CallFilter(ascending=True), limit=2) == ["c0", "c1"]


def test_calls_made_in_the_same_moment_have_a_steady_order(store: Store) -> None:
    write(store, *(record(f"c{n}") for n in range(9)))
    whole = ids(store, CallFilter())
    pages = [ids(store, CallFilter(), limit=2, offset=n) for n in range(0, 9, 2)]
    assert [one for page in pages for one in page] == whole == sorted(whole, reverse=True)


_CASES: list[tuple[CallFilter, list[str]]] = [
    (CallFilter(status="active"), ["c3"]),
    (CallFilter(statuses=("active", "pending")), ["c4", "c3", "c1", "c0"]),
    (CallFilter(workflow_id="w"), ["c1"]),
    (CallFilter(user_id="u"), ["c2"]),
    (CallFilter(user_id="u", status="active"), []),
    (CallFilter(call_type="voip"), ["c4"]),
    (CallFilter(direction="inbound"), ["c4"]),
    (CallFilter(to_number="+911"), ["c3"]),
    (CallFilter(started_after=AT + 2), ["c3"]),
    (CallFilter(started_before=AT + 3.5), ["c3", "c2"]),
    (CallFilter(started_after=AT + 2, started_before=AT + 3), []),
    (CallFilter(started_before=AT + 9, sort_by="created_at", ascending=True), ["c2", "c3"]),
    (CallFilter(created_after=AT + 1, created_before=AT + 4), ["c3", "c2"]),
    (CallFilter(tenant="t"), ["c4", "c3", "c1", "c0"]),
    (CallFilter(tenant="t", status="pending"), ["c4", "c1", "c0"]),
    (
        CallFilter(tenant="t", statuses=("pending", "active"), ascending=True),
        ["c0", "c1", "c3", "c4"],
    ),
    (CallFilter(tenant="v"), ["c4", "c1", "c0"]),
    (CallFilter(passthrough=False), ["c4", "c3", "c2", "c1", "c0"]),
    (CallFilter(passthrough=True), []),
    (CallFilter(only_sessions=True), []),
]


def test_filters_narrow_and_a_tenant_sees_its_own_and_nobodys(store: Store) -> None:
    write(
        store,
        made(0),
        made(1, workflow_id="w"),
        made(2, user_id="u", status="completed", started_at=rfc3339(AT + 2), tenant_id="o"),
        made(3, status="active", started_at=rfc3339(AT + 3), phone_number="+911", tenant_id="t"),
        made(4, call_type="voip", direction="inbound"),
    )
    for wanted, expected in _CASES:
        assert ids(store, wanted) == expected, wanted
        assert store.calls(wanted, limit=1)[1] == len(expected), wanted


def test_sessions_and_passthrough_calls_are_told_by_what_is_private(store: Store) -> None:
    write(store, made(1), private={"session": {"kind": "voice"}})
    write(store, made(2), private={"passthrough": True})
    assert ids(store, CallFilter(only_sessions=True)) == ["c1"]
    assert ids(store, CallFilter(only_sessions=True, tenant="t")) == ["c1"]
    assert ids(store, CallFilter(passthrough=True)) == ["c2"]
    assert ids(store, CallFilter(passthrough=False)) == ["c1"]


def test_the_number_that_was_called_is_ours_where_a_call_came_in(store: Store) -> None:
    ours, theirs = "+918047361000", "+919876543210"
    numbers = {"phone_number": theirs, "trunk_number": ours}
    write(
        store,
        made(1, **numbers, direction="outbound"),
        made(2, **numbers, direction="inbound"),
        made(3, phone_number=None, trunk_number=None, direction="inbound", call_type="voip"),
    )
    assert ids(store, CallFilter(to_number=theirs)) == ["c1"]
    assert ids(store, CallFilter(to_number=ours)) == ["c2"]


def test_a_total_is_what_it_is_after_every_write_of_ours(store: Store) -> None:
    write(store, *(made(n) for n in range(3)))
    assert store.calls(CallFilter(), limit=1)[1] == 3
    write(store, made(9))
    assert store.calls(CallFilter(), limit=1)[1] == 4


def test_values_no_column_holds_are_cut_and_found_all_the_same(store: Store) -> None:
    long = "u" * 5000
    write(store, made(1, user_id=long, room_name="a\x00b"))
    assert ids(store, CallFilter(user_id=long)) == ["c1"]
    found = store.call_of_room("a\x00b")
    assert found is not None
    assert found.record["user_id"] == long


def test_an_older_state_of_a_call_never_wins(store: Store) -> None:
    write(store, made(1, status="active", seq=2), revision=5)
    write(store, made(1, status="pending", seq=1), revision=4)
    found = store.call("c1")
    assert found is not None
    assert found.record["status"] == "active"


def test_the_instance_that_takes_a_call_over_wins_over_the_one_that_had_it(store: Store) -> None:
    def by(journal: str, revision: int, **changes: Any) -> str:
        item = ChangedRecord(
            call_id="c1",
            revision=revision,
            instance=journal,
            record=dump(made(1, **changes)),
            private="{}",
        )
        with store.writing() as connection:
            Writer(journal=journal).records(connection, [item])
        found = store.call("c1")
        assert found is not None
        return str(found.record["status"])

    assert by("j1", 50, status="pending") == "pending"
    assert by("j2", 3, status="active", seq=2) == "active"
    assert by("j1", 50, status="pending") == "active"
    ended = rfc3339(AT + 9)
    assert by("j2", 4, status="completed", seq=3, ended_at=ended) == "completed"
    assert by("j1", 51, status="active", seq=3) == "completed"


def test_transcripts_are_in_the_order_of_time_and_a_line_with_an_id_is_replaced(
    store: Store,
) -> None:
    first = Segment(speaker=Speaker.USER, content="hello", at=AT + 5, id="s1")
    lines = [
        first,
        Segment(
            speaker=Speaker.AGENT,
            content="hi\x00",
            at=AT + 3,
            interrupted=True,
            tool_call={"name": "save_meal", "arguments": {}},
            stt_ms=12.5,
        ),
        replace(first, content="hello!"),
    ]
    facts = [
        WrittenFact(
            position=n,
            call_id="c1",
            kind="transcript",
            body=dump(line.as_dict()),
            record="{}",
            private="{}",
        )
        for n, line in enumerate(lines, 1)
    ]
    for _ in range(2):
        with store.writing() as connection:
            Writer(journal="j").facts(connection, facts)
    assert store.transcript("c1") == [
        replace(lines[1], content="hi"),
        replace(first, content="hello!"),
    ]
    assert store.transcript("c2") == []


def test_events_of_all_calls_follow_in_the_order_stored(store: Store) -> None:
    items = [
        WrittenEvent(
            position=n,
            call_id=f"c{n % 2}",
            seq=n,
            body=dump(event(f"c{n % 2}", n)),
            record="{}",
            private="{}",
        )
        for n in range(1, 7)
    ]
    with store.writing() as connection:
        Writer(journal="j").events(connection, items)
    everything = store.events_since(0, limit=100)
    assert [(call, seq) for _, call, seq, _ in everything] == [
        (f"c{n % 2}", n) for n in range(1, 7)
    ]
    assert [row[2] for row in store.events_since(everything[3][0], limit=1)] == [5]
    assert [one["seq"] for one in store.events("c1", after=1)] == [3, 5]
    assert [row[1:3] for row in store.events_of("c1", after=1, limit=1)] == [("c1", 3)]
    assert store.last_position() == everything[-1][0]


def test_a_lease_that_is_not_renewed_runs_out(store: Store, made_url: str) -> None:
    other = Store.open(made_url, instance="b")
    store.grace = 0
    other.renew(lifetime=1000)
    assert store.expired() == []
    other.renew(lifetime=-1)
    assert store.expired() == ["b"]
    other.renew()
    assert store.expired() == []
    other.give_up()
    assert store.expired() == ["b"]
    store.grace = 1000
    assert store.expired() == ["b"]
    assert abs(store.now() - time.time()) < 60
    other.close()


def test_who_was_away_says_of_nobody_that_it_is_gone(store: Store, made_url: str) -> None:
    other = Store.open(made_url, instance="b")
    other.renew(lifetime=-1)
    store.grace = 1e-9
    assert store.expired() == []  # not alive itself
    store.renew(lifetime=1000)
    assert store.expired() == ["b"]
    store.grace = 1000
    assert store.expired() == []  # not long enough
    store.grace = 1e-9
    store.renew(lifetime=-1)  # what an outage leaves behind
    assert store.expired() == []
    store.renew(lifetime=1000)
    store.grace = 0.5
    assert store.expired() == []  # its own silence was as long as the other's
    other.close()


@given(who=st.lists(st.sampled_from(["USER", "AGENT", "SYSTEM"]), max_size=12))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_turns_are_counted_as_they_are_shown(store: Store, who: list[str]) -> None:
    """Also those that began at the same moment, in the order they came."""
    lines = [
        {"speaker": speaker, "content": "words", "at": AT + n // 2} for n, speaker in enumerate(who)
    ]
    call = f"c{uuid.uuid4().hex}"
    facts = [
        WrittenFact(
            position=n,
            call_id=call,
            kind="transcript",
            body=dump(line),
            record="{}",
            private="{}",
        )
        for n, line in enumerate(lines, start=1)
    ]
    with store.writing() as connection:
        Writer(journal=uuid.uuid4().hex).facts(connection, facts)
    spoken = [line for line in lines if line["speaker"] != "SYSTEM"]
    shown = shapes.turn_count(store.transcript(call))
    assert store.turn_counts([call, "other"]) == {call: shown, "other": 0}
    assert store.transcript_size(call) == (len(lines), 5 * len(lines))
    assert shown <= len(spoken)


def test_turns_of_no_calls_are_none(store: Store) -> None:
    assert store.turn_counts([]) == {}
