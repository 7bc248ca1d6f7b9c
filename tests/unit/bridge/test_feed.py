"""The journal's side of the feed: positions, and what a real journal gives back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.events import CallDtmf, CallEvent
from bridge.feed import Feed
from bridge.journal.entries import Entry
from bridge.journal.journal import Journal

pytestmark = pytest.mark.unit


def key(call_id: str, seq: int) -> CallDtmf:
    return CallDtmf(call_id=call_id, seq=seq, at=0.0, digit="1", duration_ms=100)


def entry(event: CallEvent) -> Entry:
    return Entry(
        call_id=event.call_id,
        created_at=1.0,
        event=event.as_dict(),
        record={"id": event.call_id, "status": "active"},
    )


async def test_the_journal_is_read_by_position_and_by_call(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    assert journal.last_position() == 0
    await journal.append([entry(key("a", 1)), entry(key("b", 1)), entry(key("a", 2))])
    rows = journal.events_since(0, limit=10)
    assert [(call, seq) for _, call, seq, _ in rows] == [("a", 1), ("b", 1), ("a", 2)]
    positions = [row[0] for row in rows]
    assert positions == sorted(set(positions))
    assert journal.last_position() == positions[-1]
    assert journal.events_since(positions[0], limit=1) == rows[1:2]
    assert [row[2] for row in journal.events_of("a", after=1, limit=9)] == [2]
    assert journal.calls(limit=1, offset=0) == ([{"id": "b", "status": "active"}], 2)
    assert journal.calls(status="active", limit=1, offset=1)[0][0]["id"] == "a"
    assert journal.calls(status="failed", limit=1, offset=0) == ([], 0)
    journal.close()


async def test_readers_of_a_real_journal_hear_everything_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    feed = Feed(journal)
    count = 300

    async def read(after: int) -> list[int]:
        seen: list[int] = []
        with feed.seat():
            async for batch in feed.everything(after):
                seen += [one.position for one in batch]
                if seen and seen[-1] == count:
                    break
        return seen

    async def write() -> None:
        for seq in range(1, count + 1):
            event = key(f"call-{seq % 7}", seq)
            written = journal.append([entry(event)])
            if seq % 3:
                await written
            feed.tell(event)  # every third one before it is written

    async with asyncio.timeout(10):
        early = asyncio.create_task(read(0))
        await write()
        late = await read(100)
        assert await early == list(range(1, count + 1))
    assert late == list(range(101, count + 1))
    assert feed.seats == 0
    journal.close()


async def test_what_is_kept_for_readers_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.feed._KEPT", 10)
    journal = Journal(tmp_path / "j.db", instance="a")
    feed = Feed(journal)
    with feed.seat():
        slow = feed.everything(0)
        await journal.append([entry(key("first", 1))])
        feed.tell(key("first", 1))
        assert len(await anext(slow)) == 1
        for seq in range(1, 51):
            await journal.append([entry(key("a", seq))])
            feed.tell(key("a", seq))
        async with asyncio.timeout(30):
            while feed._position < 51:  # noqa: ASYNC110 (nobody tells when it was read)
                await asyncio.sleep(0.005)
            assert len(feed._kept) == 10
            assert len(feed._heads) <= 10
            rest: list[int] = []
            while len(rest) < 50:  # more than is kept: from the journal
                rest += [one.position for one in await anext(slow)]
        assert rest == list(range(2, 52))
        await slow.aclose()
    journal.close()


async def test_nobody_reads_nothing_is_followed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db", instance="a")
    feed = Feed(journal)
    with feed.seat():
        assert feed._tail is not None
    assert feed._tail is None
    feed.tell(key("a", 1))
    assert not feed._told
    feed.close()
    journal.close()
