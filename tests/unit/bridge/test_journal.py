"""The journal: durable before anyone is told, in order, and never a dead end."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.journal import journal as journal_module
from bridge.journal.entries import Entry, JournalError
from bridge.journal.journal import Journal

pytestmark = pytest.mark.unit


def entry(call_id: str, seq: int, *, ended: bool = False, **record: Any) -> Entry:
    return Entry(
        call_id=call_id,
        created_at=1.0,
        event={"event": "call_ringing", "call_id": call_id, "seq": seq},
        record={"id": call_id, **record},
        ended=ended,
    )


async def test_appended_events_are_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    await asyncio.gather(*(journal.append([entry("c1", seq)]) for seq in range(1, 200)))
    assert [event["seq"] for event in journal.events("c1")] == list(range(1, 200))
    assert [event["seq"] for event in journal.events("c1", after=197)] == [198, 199]
    journal.close()


async def test_the_same_seq_written_twice_is_one_event(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    await journal.append([entry("c1", 1), entry("c1", 1, status="active")])
    assert len(journal.events("c1")) == 1
    assert journal.record("c1") == {"id": "c1", "status": "active"}
    journal.close()


async def test_calls_without_an_end_survive_a_restart_for_their_instance_only(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    await journal.append([entry("open", 1), entry("open", 2), entry("done", 1, ended=True)])
    journal.close()
    again = Journal(tmp_path / "j.db", instance="a")
    assert [(call.call_id, call.last_seq) for call in again.open_calls()] == [("open", 2)]
    again.close()
    other = Journal(tmp_path / "j.db", instance="b")
    assert other.open_calls() == []
    other.close()


async def test_a_refusing_disk_fails_the_future_and_shows_in_writable(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    blocker = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    blocker.execute("drop table calls")
    with pytest.raises(JournalError, match="no such table"):
        await journal.append([entry("c1", 1)])
    assert not journal.writable
    blocker.execute(
        "create table calls (call_id text primary key, instance text, created_at real, "
        "ended integer, record text, snapshot text, private text, changed integer, erased integer)"
    )
    blocker.close()
    await journal.append([entry("c1", 1)])
    assert journal.writable
    journal.close()


async def test_events_that_the_disk_refused_are_written_when_it_takes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their calls went on and the room has heard of them: no event is lost, none doubled."""
    journal = Journal(tmp_path / "j.db", instance="a")
    await journal.append([entry("c1", 1)])

    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(journal, "_insert", full)
        for seq in (2, 3):
            with pytest.raises(JournalError, match="disk is full"):
                await journal.append([entry("c1", seq, ended=seq == 3)])
    async with asyncio.timeout(10):
        while not journal.writable:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await journal.append([entry("c2", 1)])
    assert [event["seq"] for event in journal.events("c1")] == [1, 2, 3]
    assert [call.call_id for call in journal.open_calls()] == ["c2"]
    journal.close()


def test_a_folder_that_cannot_hold_a_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file"):
        Journal(tmp_path / "file" / "j.db", instance="a")


async def test_an_entry_that_is_no_json_costs_no_other_entry(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    futures = [
        journal.append([entry("good", 1)]),
        journal.append([entry("bad", 1, text="half a pair: \ud800")]),
        journal.append([entry("worse", 1, text=object())]),
        journal.append([entry("good", 2)]),
    ]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None),
        JournalError,
        JournalError,
        type(None),
    ]
    assert len(journal.events("good")) == 2
    assert journal.record("bad") is None
    assert journal.writable
    journal.close()


async def test_a_disk_that_comes_back_is_noticed_without_a_call(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    blocker = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    blocker.execute(
        "create trigger broken before insert on events begin select raise(abort, 'no disk'); end"
    )
    with pytest.raises(JournalError):
        await journal.append([entry("c1", 1)])
    assert not journal.writable
    blocker.execute("drop trigger broken")
    blocker.close()
    async with asyncio.timeout(10):
        while not journal.writable:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # polling another thread: there is nothing to wait on
    assert journal.open_calls() == []
    journal.close()


def passing(call_id: str, seq: int, **record: Any) -> Entry:
    """Return an entry that waits for no disk."""
    return replace(entry(call_id, seq, **record), lasting=False)


async def test_what_need_not_last_is_written_before_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    await journal.append([entry("c1", 1)])
    done = journal.append([passing("c1", 2, hold=True)])
    assert done.done()
    assert [event["seq"] for event in journal.events("c1")] == [1, 2]
    assert journal.record("c1") == {"id": "c1", "hold": True}
    journal.close()


async def test_it_never_overtakes_what_the_writer_still_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    first = journal.append([entry("c1", 1, status="active")])
    second = journal.append([passing("c1", 2, status="held")])
    assert not second.done()
    await asyncio.gather(first, second)
    assert journal.record("c1") == {"id": "c1", "status": "held"}
    assert journal.append([passing("c1", 3)]).done()
    journal.close()


async def test_a_file_that_somebody_else_writes_is_left_to_the_writer(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        done = journal.append([passing("c1", 1)])
        assert not done.done()
        other.execute("rollback")
        await done
    assert journal.writable
    assert len(journal.events("c1")) == 1
    journal.close()


async def test_a_slow_disk_is_left_to_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_SLOW", -1.0)
    journal = Journal(tmp_path / "j.db", instance="a")
    assert journal.append([passing("c1", 1)]).done()
    late = journal.append([passing("c1", 2)])
    assert not late.done()
    await late
    assert len(journal.events("c1")) == 2
    journal.close()


async def test_the_writer_gets_its_turn_to_tidy_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_RUN", 3)
    monkeypatch.setattr(journal_module, "_SLOW", 60.0)  # whatever this machine's disk does
    journal = Journal(tmp_path / "j.db", instance="a")
    at_once = []
    for seq in range(1, 9):
        done = journal.append([passing("c1", seq)])
        at_once.append(done.done())
        await done
    assert at_once == [True, True, True, False] * 2
    journal.close()
