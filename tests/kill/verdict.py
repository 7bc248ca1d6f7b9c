"""Whether the records keep what the daemon promised before it was killed. Pure.

Each check returns one line for each thing that is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kill.ledger import Delivery, Ledger

Event = Mapping[str, Any]
Record = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Found:
    """What one place says when all is quiet: the journal, the API or the store."""

    place: str
    records: dict[str, Record] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)


def judged(ledger: Ledger, journal: Found, others: Sequence[Found], *, webhooks: bool) -> list[str]:
    """Return what is wrong, most of it by comparing with *journal*."""
    wrong = list(ledger.faults)
    for place in (journal, *others):
        wrong += ends(place)
        wrong += gaps(place)
    wrong += promises(ledger, journal)
    wrong += told_before_written(ledger, journal)
    for place in others:
        wrong += differences(journal, place)
    if webhooks:
        wrong += deliveries(ledger.deliveries, journal)
    return wrong


def ends(place: Found) -> Iterator[str]:
    """Every call has an outcome, and so says its last event, and only that."""
    for call_id, record in place.records.items():
        if record.get("outcome") is None or record.get("ended_at") is None:
            yield f"{place.place}: {call_id} has no outcome: {record.get('status')}"
        names = [event["event"] for event in place.events.get(call_id, [])]
        if names.count("call_ended") != 1 or names[-1] != "call_ended":
            yield f"{place.place}: {call_id} does not end with one call_ended: {names}"
            continue
        last = place.events[call_id][-1]
        for word in ("outcome", "reason", "ended_by"):
            if last.get(word) != record.get(word):
                yield (
                    f"{place.place}: {call_id} ended {word}={last.get(word)}, "
                    f"its record says {record.get(word)}"
                )


def gaps(place: Found) -> Iterator[str]:
    """The events of a call are numbered 1 to n, and every event is of a known call."""
    for call_id, events in place.events.items():
        numbers = [event["seq"] for event in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{place.place}: {call_id} has a gap: {numbers}"
        if call_id not in place.records:
            yield f"{place.place}: {call_id} has events and no record"


def promises(ledger: Ledger, journal: Found) -> Iterator[str]:
    """What was accepted or answered has a record, one; nobody is rung twice."""
    by_number: dict[str, list[str]] = defaultdict(list)
    for call_id, record in journal.records.items():
        by_number[str(record.get("phone_number"))].append(call_id)
    for key, calls in ledger.accepted.items():
        if len(set(calls)) != 1:
            yield f"key {key} was answered with different calls: {sorted(set(calls))}"
        for call_id in set(calls) - journal.records.keys():
            yield f"call {call_id} was accepted and has no record"
    for number in ledger.answered:
        if not by_number[number]:
            yield f"the call from {number} was answered and has no record"
    for number in ledger.asked.values():
        if len(by_number[number]) > 1:
            yield f"{number} has {len(by_number[number])} records: {by_number[number]}"
    for number, calls_rung in ledger.rung.items():
        if calls_rung > 1:
            yield f"{number} was rung {calls_rung} times"
        if not by_number[number]:
            yield f"{number} was rung and has no record"


def told_before_written(ledger: Ledger, journal: Found) -> Iterator[str]:
    """What anybody was told is in the journal, the same to the letter."""
    for who, events in ledger.told.items():
        for event in events:
            written = journal.events.get(event["call_id"], [])
            if event not in written:
                yield f"{who} was told {brief(event)}, the journal has {[*map(brief, written)]}"


_SHOWN = ("metrics",)  # made whole where it is shown; the journal has what calls say themselves


def differences(journal: Found, place: Found) -> Iterator[str]:
    """*place* has what the journal has: the same calls, the same events."""
    for call_id in journal.records.keys() - place.records.keys():
        yield f"{place.place}: {call_id} is missing"
    for call_id in place.records.keys() - journal.records.keys():
        yield f"{place.place}: {call_id} is not in the journal"
    for call_id in journal.records.keys() & place.records.keys():
        ours, theirs = journal.records[call_id], place.records[call_id]
        different = [
            name
            for name in ours
            if name not in _SHOWN and ours[name] != theirs.get(name, ours[name])
        ]
        if different:
            yield f"{place.place}: {call_id} differs from the journal in {different}"
        if list(place.events.get(call_id, [])) != list(journal.events.get(call_id, [])):
            yield (
                f"{place.place}: {call_id} has events "
                f"{[*map(brief, place.events.get(call_id, []))]}, the journal "
                f"{[*map(brief, journal.events.get(call_id, []))]}"
            )


def all_told(who: str, told: Sequence[Event], journal: Found) -> Iterator[str]:
    """A reader of the stream of everything was told each event once."""
    count = Counter((event["call_id"], event["seq"]) for event in told)
    for call_id, events in journal.events.items():
        for event in events:
            times = count[call_id, event["seq"]]
            if times != 1:
                yield f"{who} was told {brief(event)} of {call_id} {times} times"


def deliveries(came: Sequence[Delivery], journal: Found) -> Iterator[str]:
    """Each event came, in order; again only with the same id and the same body."""
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    bodies: dict[str, Mapping[str, Any]] = {}
    taken: dict[str, list[int]] = defaultdict(list)
    for one in came:
        ids[one.call_id, one.seq].add(one.id)
        if bodies.setdefault(one.id, one.body) != one.body:
            yield f"delivery {one.id} came again with another body"
        if one.taken and one.seq not in taken[one.call_id]:
            taken[one.call_id].append(one.seq)
    for (call_id, seq), names in ids.items():
        if len(names) > 1:
            yield f"event {seq} of {call_id} came with {len(names)} ids"
        if not any(event["seq"] == seq for event in journal.events.get(call_id, [])):
            yield f"event {seq} of {call_id} was delivered and is not in the journal"
    for call_id, events in journal.events.items():
        wanted = [event["seq"] for event in events]
        if taken[call_id] != wanted:
            yield f"webhooks of {call_id} were taken as {taken[call_id]}, wanted {wanted}"


def brief(event: Event) -> str:
    """Return an event in a word."""
    return f"{event.get('seq')}:{event.get('event')}"
