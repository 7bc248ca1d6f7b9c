"""What is kept of a call, how long, and what is left when it is erased."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.events import rfc3339
from bridge.journal.entries import JournalError
from bridge.journal.journal import Journal
from bridge.privacy import masked, masked_record
from bridge.store import project, tables
from bridge.store.project import Projection
from bridge.store.queries import CallFilter
from bridge.store.store import Store
from bridge.transcript.segment import Segment, Speaker
from tests.unit.store.making import AT, entry, record
from tests.unit.store.test_project import PATIENCE, following

pytestmark = pytest.mark.unit

NUMBER = "+919876543210"
DAY = 86400.0


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", instance="a")
    yield opened
    await asyncio.to_thread(opened.close)


async def whole_call(journal: Journal, call_id: str, **changes: Any) -> None:
    """Write a call that says much of a person."""
    private = {"webhook_url": "https://hook", "session": {"kind": "voice", "config": "be kind"}}
    await journal.append(
        [
            entry(call_id, 1, private=private, room_name="desk-+919876543210", **changes),
            entry(call_id, 2, name="call_dtmf", more={"digit": "7", "duration_ms": 100}),
            entry(call_id, 3, name="call_transfer", more={"to": "+914433221100", "status": 200}),
            entry(
                call_id,
                4,
                name="call_ended",
                ended=True,
                outcome="completed",
                user_id="u-secret",
                room_name="desk-+919876543210",
                **changes,
            ),
        ]
    )
    line = Segment(speaker=Speaker.USER, content="my pin is 4711", at=AT)
    await journal.note(call_id, "transcript", line.as_dict())
    await journal.note(call_id, "report", {"metrics": {"x": 1}, "current_agent": "secret-agent"})
    await journal.note(call_id, "ladder", {"rungs": [{"first_line": "INVITE sip:secret"}]})


SAID = ("9876543210", "4433221100", "u-secret", "Jane", "4711", "secret-agent", "INVITE", "hook")


def everything(store: Store) -> str:
    """Return all that is in the store as one text."""
    found = []
    with store.reading() as connection:
        for table in tables.metadata.tables.values():
            found += [str(tuple(row)) for row in connection.execute(table.select())]
    return "\n".join(found)


def on_disk(path: Path) -> bytes:
    """Return every byte of a SQLite file and of its log."""
    return b"".join(one.read_bytes() for one in path.parent.glob(f"{path.name}*"))


async def test_an_erased_call_keeps_when_and_how_it_went_and_nothing_else(
    journal: Journal, store: Store
) -> None:
    await whole_call(journal, "c1")
    await whole_call(journal, "other", phone_number="+14155550100")
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        assert all(one in everything(store) for one in SAID)
        assert await asyncio.to_thread(journal.erase, "c1")
        assert await projection.caught_up(PATIENCE)
        found = store.call("c1")
        assert found is not None
        kept = {name: value for name, value in found.record.items() if value not in (None, {}, [])}
        assert kept == {
            "id": "c1",
            "status": "completed",
            "direction": "outbound",
            "call_type": "sip",
            "trunk": "exotel",
            "room_name": "erased",
            "outcome": "completed",
            "seq": 4,
            "created_at": rfc3339(AT),
            "ended_at": rfc3339(AT + 4),
        }
        assert found.erased
        assert found.private == {"session": {"kind": "voice"}}
        assert [(one["seq"], one.get("digit"), one.get("to")) for one in store.events("c1")] == [
            (1, None, None),
            (2, "", None),
            (3, None, ""),
            (4, None, None),
        ]
        assert journal.events("c1") == store.events("c1")
        assert journal.record("c1") == found.record
        assert (store.transcript("c1"), store.ladder("c1"), store.reports(["c1"])) == ([], None, {})
        assert store.call_of_room("desk-+919876543210").record["id"] == "other"  # type: ignore[union-attr]
        assert len(store.transcript("other")) == 1
        # What still comes of it is left out, here and there.
        await whole_call(journal, "c1")
        assert await projection.caught_up(PATIENCE)
        assert store.transcript("c1") == []
        assert (found.record, found.private) == (
            store.call("c1").record,  # type: ignore[union-attr]
            store.call("c1").private,  # type: ignore[union-attr]
        )
        with closing(sqlite3.connect(journal.path)) as reader:
            facts = reader.execute("select kind from facts where call_id = 'c1'").fetchall()
        assert facts == [("erased",)]


async def test_what_was_erased_is_not_in_the_journals_file_either(journal: Journal) -> None:
    await whole_call(journal, "c1")
    assert b"my pin is 4711" in on_disk(journal.path)
    assert await asyncio.to_thread(journal.erase, "c1")
    left = on_disk(journal.path)
    assert [one for one in SAID if one.encode() in left] == []


async def test_erased_in_the_store_is_erased_in_its_owners_journal(
    journal: Journal, store: Store
) -> None:
    await whole_call(journal, "c1")
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    assert store.erase("c1")
    assert not any(one in everything(store) for one in SAID)
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while (journal.record("c1") or {}).get("user_id"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # polling a thread
    assert not any(one in everything(store) for one in SAID)


async def test_a_journal_that_deletes_nothing_costs_no_lease(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def refuse(*_: object, **__: object) -> None:
        tried.set()
        raise JournalError("the disk is full")

    monkeypatch.setattr(journal, "retain", refuse)
    monkeypatch.setattr(project, "_CHORES", 0.0)
    renewed = 0
    renew = store.renew

    def counted() -> None:
        nonlocal renewed
        renewed += tried.is_set()
        renew()

    monkeypatch.setattr(store, "renew", counted)
    async with following(journal, store, retention_days=1) as projection:
        async with asyncio.timeout(PATIENCE):
            while renewed < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # polling a thread
        assert projection.well


async def test_only_a_call_that_has_ended_is_erased(journal: Journal, store: Store) -> None:
    await journal.append([entry("c1", 1)])
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        assert not await asyncio.to_thread(journal.erase, "c1")
        assert not store.erase("c1")
        assert not await asyncio.to_thread(journal.erase, "unknown")
        assert not store.erase("unknown")
        assert store.call("c1").record["phone_number"] == NUMBER  # type: ignore[union-attr]


async def test_calls_that_have_ended_are_kept_as_long_as_it_is_said(
    tmp_path: Path, store: Store
) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    now = AT + 100 * DAY
    for n in range(150):
        await whole_call(journal, f"old{n}")
    await journal.append([entry("open", 1)])
    young = entry("young", 1, ended=True, created_at=rfc3339(now - 5 * DAY))
    await journal.append([young])
    with closing(sqlite3.connect(journal.path)) as clock:
        clock.execute("update calls set created_at = ? where call_id = 'young'", (now - 5 * DAY,))
        clock.commit()
    for days, left in ((0, 152), (90, 2)):
        projection = Projection(journal, store, retention_days=days, wall=lambda: now)
        projection.start()
        assert await projection.caught_up(PATIENCE)
        await asyncio.to_thread(projection.stop)
        assert store.calls(CallFilter(), limit=1)[1] == left
    assert {one["id"] for one in store.calls(CallFilter(), limit=9)[0]} == {"open", "young"}
    assert "old1" not in everything(store).replace("journal", "")
    assert journal.record("old1") is None
    assert journal.events("old1") == []
    assert journal.record("young") is not None
    assert [call.call_id for call in journal.open_calls()] == ["open"]
    await asyncio.to_thread(journal.close)


async def test_numbers_are_masked_at_rest_once_a_call_has_ended(
    tmp_path: Path, made_url: str
) -> None:
    journal = Journal(tmp_path / "j.db", instance="a", mask_numbers=True)
    store = Store.open(made_url, instance="a", mask_numbers=True)
    await journal.append([entry("c1", 1, room_name="desk-919876543210")])
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        running = store.call("c1")
        assert running is not None
        assert running.record["phone_number"] == NUMBER
        await whole_call(journal, "c1")
        assert await projection.caught_up(PATIENCE)
        ended = store.call("c1")
        assert ended is not None
        assert ended.record["phone_number"] == "+**********10"
        assert ended.record["room_name"] == "desk-+**********10"
        assert ended.record["user_context"] == {"name": "Jane"}
        assert [one["to"] for one in store.events("c1") if "to" in one] == ["+**********00"]
    for text in (everything(store), json.dumps(journal.record("c1")), str(journal.events("c1"))):
        assert "9876543210" not in text
        assert "4433221100" not in text
    await asyncio.to_thread(journal.close)
    assert b"9876543210" not in (tmp_path / "j.db").read_bytes()
    store.close()


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (NUMBER, "+**********10"),
        ("1000", "1000"),
        ("anonymous", "anonymous"),
        ("", ""),
        ("0(44) 3322", "*(**) **22"),
    ],
)
def test_a_masked_number_shows_its_last_digits_and_stays_as_it_is(number: str, shown: str) -> None:
    assert masked(number) == shown
    assert masked(shown) == shown


def test_a_record_is_masked_wherever_the_number_stands_and_only_once() -> None:
    one = record("c1", user_context={"who": [NUMBER, {"n": "919876543210"}]})
    once = masked_record(one)
    assert "9876543210" not in json.dumps(once)
    assert masked_record(once) == once
    assert masked_record(record("c1", phone_number=None)) == record("c1", phone_number=None)
