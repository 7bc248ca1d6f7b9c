"""Where recordings are: projected, found, and lost with their call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.journal.entries import Marks
from bridge.journal.journal import Journal
from bridge.store.recordings import RecordingRows, StoredRecording
from bridge.store.store import Store
from tests.unit.store.making import AT, entry
from tests.unit.store.test_project import PATIENCE, following

pytestmark = pytest.mark.unit

KEPT = {"name": "c1.ogg", "path": "s3://b/c1.ogg", "octets": 4711, "seconds": 2.5, "instance": "a"}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", instance="a")
    yield opened
    await asyncio.to_thread(opened.close)


async def call(journal: Journal, call_id: str = "c1", *, record: bool = True) -> None:
    private: dict[str, Any] = {"record": True} if record else {}
    await journal.append(
        [
            entry(call_id, 1, private=private),
            entry(call_id, 2, name="call_ended", ended=True, outcome="completed", private=private),
        ]
    )


async def test_the_fact_is_found_by_its_call(store: Store, journal: Journal) -> None:
    rows = RecordingRows(store)
    async with following(journal, store) as projection:
        await call(journal)
        assert await projection.caught_up(PATIENCE)
        assert rows.is_recorded("c1")
        assert rows.of("c1") is None
        await journal.note("c1", "recording", KEPT)
        await journal.note("c1", "recording", {**KEPT, "octets": 4712})  # brought again
        assert await projection.caught_up(PATIENCE)
    assert rows.of("c1") == StoredRecording(call_id="c1", name="c1.ogg", octets=4712, seconds=2.5)
    assert store.recording_path("c1") == "s3://b/c1.ogg"
    assert rows.gone(of_others=True) == []
    assert not rows.is_recorded("c2")


@pytest.mark.parametrize("kept", [True, False])
async def test_an_erased_call_leaves_what_is_to_be_deleted_until_it_is(
    store: Store, journal: Journal, kept: bool
) -> None:
    """Also when nobody knows yet where its recording is; what is told late changes nothing."""
    rows = RecordingRows(store)
    async with following(journal, store) as projection:
        await call(journal)
        await call(journal, "c2", record=False)
        if kept:
            await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
        for call_id in ("c1", "c2"):
            assert await asyncio.to_thread(journal.erase, call_id)
        await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
    assert rows.of("c1") is None
    assert store.recording_path("c1") is None
    assert rows.gone(of_others=False) == ["c1"]
    mine, store.instance = store.instance, "b"  # asked by another instance
    assert rows.gone(of_others=False) == []
    assert rows.gone(of_others=True) == ["c1"]  # what was told late has a place
    rows.deleted("c1", of_others=False)
    store.instance = mine
    assert rows.is_gone("c1")
    rows.deleted("c1", of_others=False)
    assert rows.gone(of_others=True) == []


async def test_a_call_that_is_too_old_loses_its_recording(store: Store, journal: Journal) -> None:
    rows = RecordingRows(store)
    async with following(journal, store) as projection:
        await call(journal)
        await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
    assert store.retain(AT + 86_400) == 1
    assert rows.of("c1") is None
    assert rows.gone(of_others=False) == ["c1"]
    rows.deleted("c1", of_others=False)
    assert rows.gone(of_others=False) == []


async def test_a_recording_that_is_kept_is_not_forgotten_by_mistake(
    store: Store, journal: Journal
) -> None:
    rows = RecordingRows(store)
    async with following(journal, store) as projection:
        await call(journal)
        await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
    rows.deleted("c1", of_others=False)
    assert rows.of("c1") is not None


async def test_what_has_no_place_yet_is_deleted_by_the_instance_of_the_call_alone(
    store: Store, journal: Journal
) -> None:
    """Another one would find nothing in the bucket, and the file would come afterwards."""
    rows = RecordingRows(store)
    async with following(journal, store) as projection:
        await call(journal)
        assert await projection.caught_up(PATIENCE)
        store.instance = "b"
        assert store.erase("c1")
        assert rows.gone(of_others=True) == []
        rows.deleted("c1", of_others=True)
        store.instance = "a"
        assert rows.gone(of_others=True) == ["c1"]
        rows.deleted("c1", of_others=True)
        assert rows.gone(of_others=True) == []
        assert rows.is_gone("c1")
        await journal.note("c1", "recording", KEPT)  # it was brought, for all that
        assert await projection.caught_up(PATIENCE)
    assert rows.of("c1") is None
    assert rows.gone(of_others=True) == ["c1"]
    store.instance = "b"
    assert rows.gone(of_others=True) == ["c1"]
    rows.deleted("c1", of_others=True)
    assert rows.gone(of_others=True) == []


async def test_who_has_the_file_hears_that_its_call_was_erased_elsewhere(
    store: Store, journal: Journal, made_url: str
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def erased(call_id: str) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, call_id)

    await call(journal)
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    b = Store.open(made_url, instance="b")
    assert b.erase("c1")
    b.close()
    async with following(journal, store, erased=erased), asyncio.timeout(PATIENCE):
        assert await heard.get() == "c1"


async def test_a_call_that_is_too_old_loses_a_recording_that_nobody_knows_of_yet(
    store: Store, journal: Journal
) -> None:
    """Its file is on its way: whenever it comes, it goes."""
    rows = RecordingRows(store)
    now = AT + 100 * 86_400
    async with following(journal, store) as projection:
        await call(journal)
        await call(journal, "c2", record=False)
        assert await projection.caught_up(PATIENCE)
    assert store.retain(now) == 2
    assert rows.gone(of_others=False) == ["c1"]
    rows.deleted("c1", of_others=False)
    assert await asyncio.to_thread(journal.retain, now) == 2
    async with following(journal, store) as projection:
        await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
    assert rows.of("c1") is None
    assert rows.gone(of_others=False) == ["c1"]


async def test_a_call_that_only_the_journal_knows_keeps_its_recording_until_it_is_too_old(
    store: Store, journal: Journal
) -> None:
    """Its record may still be on its way; another instance may have deleted it as too old."""
    rows = RecordingRows(store)
    await call(journal)
    await journal.note("c1", "recording", KEPT)
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        assert rows.of("c1") is not None  # all in one batch
        assert store.retain(AT + 1) == 1
        rows.deleted("c1", of_others=False)
        await journal.note("c1", "recording", KEPT)
        assert await projection.caught_up(PATIENCE)
        assert rows.of("c1") is not None
        assert store.retain(AT - 1) == 0
        assert rows.of("c1") is not None
        assert store.retain(AT + 1) == 0
    assert rows.of("c1") is None
    assert rows.gone(of_others=False) == ["c1"]


async def test_the_journal_keeps_a_call_until_its_facts_are_read(journal: Journal) -> None:
    await call(journal)
    await call(journal, "c2")
    await journal.note("c1", "recording", KEPT)
    later = time.time()
    assert await asyncio.to_thread(lambda: journal.retain(later, seen=Marks())) == 1
    assert journal.record("c1") is not None
    assert journal.record("c2") is None
    assert await asyncio.to_thread(lambda: journal.retain(later, seen=journal.heads())) == 1
    assert journal.record("c1") is None
