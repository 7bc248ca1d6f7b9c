"""The verdict of `make kill` sees each promise that can be broken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kill.ledger import Delivery, Ledger
from tests.kill.verdict import Event, Found, all_told, judged

pytestmark = pytest.mark.unit

ENDED = {"outcome": "dropped", "reason": "crash", "ended_by": "bridge"}


def event(seq: int, name: str, **more: Any) -> dict[str, Any]:
    return {"event": name, "call_id": "c1", "seq": seq, **more}


def story() -> list[Event]:
    return [event(1, "call_ringing"), event(2, "call_answered"), event(3, "call_ended", **ENDED)]


def place(name: str, *events: Event, **record: Any) -> Found:
    whole = {"id": "c1", "phone_number": "+1", "ended_at": "now", **ENDED, **record}
    return Found(place=name, records={"c1": whole}, events={"c1": list(events or story())})


def delivery(seq: int, *, name: str = "", taken: bool = True, **more: Any) -> Delivery:
    body = {**event(seq, "call"), **more}
    return Delivery(id=name or f"d{seq}", event="call", body=body, taken=taken)


def well() -> Ledger:
    ledger = Ledger()
    ledger.asked["key"] = "+1"
    ledger.accepted["key"] = ["c1", "c1"]
    ledger.rung["+1"] = 1
    ledger.told["agent"] = [*story()]
    ledger.deliveries = [
        delivery(1, taken=False),
        delivery(1),
        delivery(2),
        delivery(2),
        delivery(3),
    ]
    return ledger


def wrong(ledger: Ledger, journal: Found, *others: Found) -> str:
    return "\n".join(judged(ledger, journal, others, webhooks=True))


def test_what_was_kept_is_no_fault() -> None:
    ledger = well()
    ledger.answered.append("+1")
    assert wrong(ledger, place("journal"), place("API"), place("store")) == ""


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"outcome": None}, "has no outcome"),
        ({"ended_at": None}, "has no outcome"),
        ({"reason": "else"}, "its record says else"),
    ],
)
def test_a_record_without_its_end_is_wrong(record: dict[str, Any], said: str) -> None:
    assert said in wrong(well(), place("journal", **record))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (story()[:2], "does not end with one call_ended"),
        ([*story(), event(4, "call_ended", **ENDED)], "does not end with one call_ended"),
        ([story()[0], story()[2]], "has a gap"),
    ],
)
def test_a_story_with_a_gap_or_without_an_end_is_wrong(events: list[Event], said: str) -> None:
    assert said in wrong(well(), place("journal", *events))


def test_events_without_a_record_are_wrong() -> None:
    journal = place("journal")
    journal.events["c2"] = story()
    assert "has events and no record" in wrong(well(), journal)


def test_an_accepted_call_without_a_record_is_wrong() -> None:
    ledger = well()
    ledger.accepted["other"] = ["c9"]
    assert "call c9 was accepted and has no record" in wrong(ledger, place("journal"))


def test_a_key_that_made_two_calls_is_wrong() -> None:
    ledger = well()
    ledger.accepted["key"] = ["c1", "c2"]
    assert "was answered with different calls" in wrong(ledger, place("journal"))


def test_two_records_of_one_key_are_wrong() -> None:
    journal = place("journal")
    journal.records["c2"] = {**journal.records["c1"], "id": "c2"}
    journal.events["c2"] = [{**one, "call_id": "c2"} for one in story()]
    assert "+1 has 2 records" in wrong(well(), journal)


def test_a_person_who_is_rung_twice_or_without_a_record_is_wrong() -> None:
    ledger = well()
    ledger.rung["+1"] = 2
    ledger.rung["+2"] = 1
    said = wrong(ledger, place("journal"))
    assert "+1 was rung 2 times" in said
    assert "+2 was rung and has no record" in said


def test_an_answered_caller_without_a_record_is_wrong() -> None:
    ledger = well()
    ledger.answered.append("+3")
    assert "from +3 was answered and has no record" in wrong(ledger, place("journal"))


def test_what_was_told_and_not_written_is_wrong() -> None:
    ledger = well()
    ledger.told["agent"].append(event(2, "call_hold"))
    assert "agent was told 2:call_hold" in wrong(ledger, place("journal"))


def test_a_store_that_differs_from_the_journal_is_wrong() -> None:
    less, other = place("store"), place("store", room_name="b")
    less.records.clear()
    less.events.clear()
    assert "store: c1 is missing" in wrong(well(), place("journal"), less)
    assert "differs from the journal in ['room_name']" in wrong(
        well(), place("journal", room_name="a"), other
    )
    short = place("store", *story()[:2])
    assert "the journal ['1:call_ringing'" in wrong(well(), place("journal"), short)
    more = place("store")
    more.records["c2"] = more.records["c1"]
    assert "c2 is not in the journal" in wrong(well(), place("journal"), more)


@pytest.mark.parametrize(
    ("came", "said"),
    [
        ([delivery(1), delivery(2)], "were taken as [1, 2], wanted [1, 2, 3]"),
        ([delivery(2), delivery(1), delivery(3)], "were taken as [2, 1, 3]"),
        ([delivery(1), delivery(2, taken=False), delivery(3)], "were taken as [1, 3]"),
        ([delivery(1), delivery(1, name="x"), delivery(2), delivery(3)], "came with 2 ids"),
        ([delivery(1), delivery(1, a=1), delivery(2), delivery(3)], "with another body"),
        ([*map(delivery, (1, 2, 3, 4))], "event 4 of c1 was delivered and is not in the"),
    ],
)
def test_webhooks_out_of_order_twice_or_lost_are_wrong(came: list[Delivery], said: str) -> None:
    ledger = well()
    ledger.deliveries = came
    assert said in wrong(ledger, place("journal"))


def test_a_stream_that_skips_or_repeats_is_wrong() -> None:
    journal = place("journal")
    assert not list(all_told("it", story(), journal))
    assert list(all_told("it", story()[1:], journal)) == [
        "it was told 1:call_ringing of c1 0 times"
    ]
    assert "2:call_answered of c1 2 times" in "".join(
        all_told("it", [*story(), story()[1]], journal)
    )
