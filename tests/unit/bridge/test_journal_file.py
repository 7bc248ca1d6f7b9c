"""The journal's file: one of the first daemons', facts, and what a reader is told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.journal.entries import Entry, JournalError, Marks
from bridge.journal.journal import Journal
from bridge.journal.schema import statements

pytestmark = pytest.mark.unit

# As the daemons before version 2 made it, to the letter.
_FIRST = """
create table if not exists calls (
    call_id text primary key,
    instance text not null,
    created_at real not null,
    ended integer not null default 0,
    record text not null,
    snapshot text
);
create index if not exists calls_open on calls (instance) where not ended;
create table if not exists events (
    position integer primary key autoincrement,
    call_id text not null,
    seq integer not null,
    body text not null,
    unique (call_id, seq)
);
create table if not exists claims (
    key_digest text primary key,
    body_digest text not null,
    at real not null,
    answer text not null
);
create index if not exists claims_at on claims (at);
create view if not exists entries as
    select call_id, instance, created_at, ended, record, snapshot, 0 as seq, '' as event from calls;
create trigger if not exists entry_written instead of insert on entries begin
    insert into events (call_id, seq, body)
        select new.call_id, new.seq, new.event where new.event is not null
        on conflict do nothing;
    insert into calls (call_id, instance, created_at, ended, record, snapshot)
        values (new.call_id, new.instance, new.created_at, new.ended, new.record, new.snapshot)
        on conflict (call_id) do update set
        ended = excluded.ended, record = excluded.record, snapshot = excluded.snapshot;
end;
"""


def first_daemons(path: Path) -> None:
    """Make a file as the first daemons left it: two calls, one of them open."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(_FIRST)
        for call_id, seq, ended in (("done", 1, 0), ("open", 1, 0), ("done", 2, 1)):
            connection.execute(
                "insert into entries (call_id, instance, created_at, ended, record, snapshot, seq,"
                " event) values (?, 'a', 1.0, ?, ?, '{}', ?, ?)",
                (call_id, ended, f'{{"id": "{call_id}"}}', seq, f'{{"seq": {seq}}}'),
            )
        connection.execute("insert into claims values ('k', 'b', 1.0, '{}')")
        connection.commit()


def entry(call_id: str, seq: int, *, ended: bool = False, **more: Any) -> Entry:
    return Entry(
        call_id=call_id,
        created_at=1.0,
        event={"event": "call_ringing", "call_id": call_id, "seq": seq},
        record={"id": call_id, "seq": seq},
        ended=ended,
        **more,
    )


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "j.db", instance="a")
    yield opened
    await asyncio.to_thread(opened.close)


async def test_a_file_of_the_first_daemons_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    first_daemons(path)
    journal = Journal(path, instance="a")
    assert [(call.call_id, call.last_seq) for call in journal.open_calls()] == [("open", 1)]
    assert journal.record("done") == {"id": "done"}
    assert journal.claim("k", since=0.0) is not None
    reader = journal.reader()
    news = reader.news(Marks(), limit=10)
    assert [one.call_id for one in news.records] == ["done", "open"]
    assert [(one.call_id, one.seq) for one in news.events] == [
        ("done", 1),
        ("open", 1),
        ("done", 2),
    ]
    await journal.append([entry("open", 2, private={"webhook_url": "x"})])
    later = reader.news(news.marks, limit=10)
    assert [(one.call_id, one.private) for one in later.records] == [
        ("open", '{"webhook_url":"x"}')
    ]
    assert [(one.call_id, one.seq) for one in later.events] == [("open", 2)]
    reader.close()
    journal.close()
    again = Journal(path, instance="a")
    assert again.id == journal.id
    again.close()


def test_several_that_open_an_old_file_at_once_bring_it_up_to_date_once(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    first_daemons(path)
    ids: list[str] = []
    line = threading.Barrier(4)

    def start() -> None:
        line.wait()
        journal = Journal(path, instance="a")
        ids.append(journal.id)
        journal.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_the_file_of_a_newer_daemon_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    Journal(path, instance="a").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 7")
    with pytest.raises(JournalError, match=r"a newer daemon's journal \(version 7, .* knows 2\)$"):
        Journal(path, instance="a")


async def test_facts_are_read_in_the_order_they_were_noted(journal: Journal) -> None:
    await journal.append([entry("c1", 1, private={"p": 1})])
    done = journal.note("c1", "transcript", {"content": "a"}, lasting=False)
    assert done.done()
    await asyncio.gather(*(journal.note("c2", "report", {"n": n}) for n in range(20)))
    reader = journal.reader()
    facts = reader.news(Marks(), limit=100).facts
    assert [(one.call_id, one.kind) for one in facts] == [("c1", "transcript")] + [
        ("c2", "report")
    ] * 20
    assert [one.body for one in facts[1:]] == [f'{{"n":{n}}}' for n in range(20)]
    assert (facts[0].record, facts[0].private) == ('{"id":"c1","seq":1}', '{"p":1}')
    assert (facts[1].record, facts[1].private) == ("{}", "{}")
    reader.close()


async def test_a_fact_that_is_no_json_is_refused_alone(journal: Journal) -> None:
    with pytest.raises(JournalError, match="no JSON"):
        await journal.note("c1", "report", {"n": object()})
    await journal.note("c1", "report", {"n": 1})
    assert journal.heads().fact == 1


async def test_a_record_that_changed_is_news_again_and_only_its_last_state(
    journal: Journal,
) -> None:
    reader = journal.reader()
    await journal.append([entry("c1", 1), entry("c2", 1), entry("c1", 2)])
    news = reader.news(Marks(), limit=10)
    assert {one.call_id: one.record for one in news.records} == {
        "c2": '{"id":"c2","seq":1}',
        "c1": '{"id":"c1","seq":2}',
    }
    assert news.complete
    assert news.marks == journal.heads()
    assert len(reader.news(news.marks, limit=10)) == 0
    written = journal.written
    await journal.append([replace(entry("c2", 2), lasting=False)])
    assert journal.written == written + 1
    assert [one.call_id for one in reader.news(news.marks, limit=10).records] == ["c2"]
    reader.close()


async def test_a_record_written_without_a_new_event_is_news_too(journal: Journal) -> None:
    reader = journal.reader()
    await journal.append([entry("c1", 1), entry("c2", 1)])
    first = reader.news(Marks(), limit=10)
    for again in (replace(entry("c1", 1), record={"n": 1}), replace(entry("c2", 5), event=None)):
        await journal.append([again])
        news = reader.news(first.marks, limit=10)
        assert [one.call_id for one in news.records] == [again.call_id]
        assert len(news.events) == 0
        assert news.records[0].revision > first.records[0].revision
        first = news
    reader.close()


async def test_news_come_in_parts_that_leave_nothing_out(journal: Journal) -> None:
    await journal.append([entry(f"c{n % 3}", n) for n in range(1, 12)])
    reader = journal.reader()
    marks, seen = Marks(), 0
    while True:
        news = reader.news(marks, limit=2)
        seen += len(news.events)
        marks = news.marks
        if news.complete:
            break
    assert (seen, marks) == (11, journal.heads())
    reader.close()


async def test_what_is_private_stays_when_an_entry_does_not_say_it(journal: Journal) -> None:
    await journal.append([entry("c1", 1, private={"session": {"kind": "voice"}})])
    await journal.append([entry("c1", 2)])
    assert journal.open_calls()[0].private == {"session": {"kind": "voice"}}


async def test_a_call_that_has_ended_needs_no_snapshot(journal: Journal) -> None:
    await journal.append([entry("c1", 1, snapshot={"number": "+919876543210"})])
    assert journal.open_calls()[0].snapshot == {"number": "+919876543210"}
    await journal.append([entry("c1", 2, ended=True, snapshot={"number": "+919876543210"})])
    with closing(sqlite3.connect(journal.path)) as reader:
        assert reader.execute("select snapshot from calls").fetchall() == [(None,)]


async def test_deleting_the_newest_never_hides_what_comes_next(journal: Journal) -> None:
    await journal.append([entry(f"c{n}", 1, ended=True) for n in range(5)])
    reader = journal.reader()
    seen = reader.news(Marks(), limit=100).marks
    assert await asyncio.to_thread(journal.retain, 2.0) == 5
    assert journal.heads() == seen
    assert journal.last_position() == seen.event
    await journal.append([entry("new", 1)])
    news = reader.news(seen, limit=100)
    assert [one.call_id for one in news.records] == ["new"]
    assert [one.call_id for one in news.events] == ["new"]
    reader.close()


async def test_a_call_that_is_open_is_never_too_old(journal: Journal) -> None:
    await journal.append([entry("open", 1), entry("done", 1, ended=True)])
    assert await asyncio.to_thread(journal.retain, 2.0) == 1
    assert await asyncio.to_thread(journal.retain, 2.0) == 0
    assert [call.call_id for call in journal.open_calls()] == ["open"]


async def test_a_chore_that_fails_is_told_and_costs_nothing_else(journal: Journal) -> None:
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("alter table facts rename to gone")
        await journal.append([entry("c1", 1, ended=True)])
        with pytest.raises(JournalError, match="no such table"):
            await asyncio.to_thread(journal.erase, "c1")
        other.execute("alter table gone rename to facts")
    assert await asyncio.to_thread(journal.erase, "c1")


def test_a_script_is_cut_into_statements() -> None:
    assert statements("a;\ncreate trigger t insert on x begin\n b;\nend;\n") == [
        "a;",
        "create trigger t insert on x begin\n b;\nend;",
    ]
