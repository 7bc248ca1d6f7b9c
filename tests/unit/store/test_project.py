"""The projection: everything once, whatever stops when, and nobody waits for it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from bridge.call.idempotency import LIFETIME, Claim
from bridge.call.requests import BadRequest
from bridge.journal import Journal
from bridge.store import project as project_module
from bridge.store import tables
from bridge.store.claims import Claims
from bridge.store.deliveries import Delivery
from bridge.store.project import Projection
from bridge.store.queries import CallFilter
from bridge.store.store import Store
from bridge.transcript.segment import Segment, Speaker
from tests.postgres import Postgres
from tests.unit.store.making import AT, entry, event

pytestmark = pytest.mark.unit

PATIENCE = 20.0


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", instance="a")
    yield opened
    await asyncio.to_thread(opened.close)


@asynccontextmanager
async def following(journal: Journal, store: Store, **more: Any) -> AsyncIterator[Projection]:
    projection = Projection(journal, store, **more)
    projection.start()
    try:
        yield projection
    finally:
        await asyncio.to_thread(projection.stop)


async def test_what_the_journal_has_is_in_the_store(journal: Journal, store: Store) -> None:
    async with following(journal, store) as projection:
        await journal.append([entry("c1"), entry("c1", 1), entry("c1", 2, name="call_answered")])
        assert await projection.caught_up(PATIENCE)
        found = store.call("c1")
        assert found is not None
        assert found.record["seq"] == 2
        assert [one["event"] for one in store.events("c1")] == ["call_ringing", "call_answered"]
        assert projection.metrics.lag == 0
        assert projection.well


async def test_a_reader_that_waits_reads_what_was_written_before_it_asked(
    journal: Journal, store: Store
) -> None:
    async with following(journal, store) as projection:
        for seq in range(1, 30):
            await journal.append([entry("c1", seq)])
            assert await projection.caught_up(PATIENCE)
            assert len(store.events("c1")) == seq


async def test_a_key_used_at_one_instance_counts_at_all(
    journal: Journal, store: Store, made_url: str
) -> None:
    answer = {"call_id": "c1", "room_name": "r"}
    claim = Claim(key_digest="k", body_digest="b", at=AT, answer=answer)
    await journal.append([replace(entry("c1", 1), claim=claim)])
    b = Store.open(made_url, instance="b")
    claims = Claims(b)
    async with following(journal, store, wall=lambda: AT + 60) as projection:
        assert await projection.caught_up(PATIENCE)
        assert await claims.reserve("k", "b", at=AT + LIFETIME) == claim
        with pytest.raises(BadRequest):
            await claims.reserve("k", "other", at=AT)
        assert await claims.reserve("other", "b", at=AT) is None
        await journal.append([entry("c1", 2, ended=True)])
        await asyncio.to_thread(journal.erase, "c1")
        assert await projection.caught_up(PATIENCE)
        assert await claims.reserve("k", "b", at=AT) is None
    claims.close()
    b.close()


async def test_a_key_of_yesterday_counts_no_more(
    journal: Journal, store: Store, made_url: str
) -> None:
    claim = Claim(key_digest="k", body_digest="b", at=AT, answer={"call_id": "c1"})
    await journal.append([replace(entry("c1", 1), claim=claim)])
    b = Store.open(made_url, instance="b")
    claims = Claims(b)
    async with following(journal, store, wall=lambda: AT + 60) as projection:
        assert await projection.caught_up(PATIENCE)
        assert await claims.reserve("k", "b", at=AT + LIFETIME + 1) is None
    claims.close()
    b.close()


async def test_more_than_one_batch_is_written_whole(journal: Journal, store: Store) -> None:
    await journal.append([entry(f"c{n % 7}", n) for n in range(1, 900)])
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        assert sum(len(store.events(f"c{n}")) for n in range(7)) == 899
        assert store.calls(CallFilter(), limit=1)[1] == 7


async def test_what_was_written_at_the_very_end_is_there_after_a_stop(
    journal: Journal, store: Store
) -> None:
    async with following(journal, store, interval=100.0) as projection:
        assert await projection.caught_up(PATIENCE)
        await journal.append([entry("c1", 1, ended=True)])
    assert len(store.events("c1")) == 1
    assert store.expired() == ["a"]


async def test_what_agents_report_is_folded_in_once(journal: Journal, store: Store) -> None:
    await journal.append([entry("c1", 1, metrics={"rtp": 1})])
    await journal.note(
        "c1", "report", {"metrics": {"stt_latency_ms": 1}, "current_agent": "greeter"}
    )
    await journal.note("c1", "report", {"metrics": {"llm_latency_ms": 2}, "current_agent": "meal"})
    await journal.note(
        "c1", "report", {"metrics": {"stt_latency_ms": 3}, "current_agent": "greeter"}
    )
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    with store.writing() as connection:
        connection.execute(tables.cursors.delete())
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        found = store.call("c1")
        assert found is not None
        assert {"rtp": 1, "stt_latency_ms": 3, "llm_latency_ms": 2}.items() <= found.record[
            "metrics"
        ].items()
        assert found.record["agent_history"] == ["greeter", "meal", "greeter"]
        assert found.record["current_agent"] == "greeter"
        assert store.calls(CallFilter(), limit=1)[0] == [found.record]
        assert store.reports(["c1"])["c1"]["current_agent"] == "greeter"
        await journal.append([entry("c1", 2, ended=True, name="call_ended")])
        assert await projection.caught_up(PATIENCE)
        ended = store.call("c1")
        assert ended is not None
        assert ended.record["current_agent"] is None


async def test_ladder_and_the_end_of_capture_are_facts(journal: Journal, store: Store) -> None:
    await journal.note("c1", "ladder", {"rungs": [{"first_line": "INVITE"}]})
    await journal.note("c1", "capture_off", {})
    await journal.note("c1", "of a newer daemon", {})
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    assert store.ladder("c1") == [{"first_line": "INVITE"}]
    assert store.ladder("c2") is None
    assert store.capture_is_off("c1")
    assert not store.capture_is_off("c2")


def deliver(
    event: Mapping[str, Any], record: Mapping[str, Any], private: Mapping[str, Any]
) -> Sequence[Delivery]:
    if event.get("boom"):
        raise ValueError("a bug")
    if "webhook_url" not in private:
        return []
    return [
        Delivery(
            id=f"{event['call_id']}-{event['seq']}",
            call_id=event["call_id"],
            seq=event["seq"],
            event=str(event["event"]),
            url=private["webhook_url"],
            body=record["status"],
        )
    ]


def outbox(store: Store) -> list[tuple[str, int, str, str, str]]:
    table = tables.outbox
    with store.reading() as connection:
        rows = connection.execute(
            select(table.c.call_id, table.c.seq, table.c.url, table.c.body, table.c.state).order_by(
                table.c.call_id, table.c.seq
            )
        )
        return [tuple(row) for row in rows]


async def test_webhooks_are_made_with_their_event_and_never_again(
    journal: Journal, store: Store
) -> None:
    private = {"webhook_url": "https://x"}
    await journal.append([entry("c1", 1, private=private), entry("c2", 1)])
    await journal.append([entry("c3", 1, private=private, more={"boom": True})])
    await journal.note("c1", "notice", event("c1", 0, "voice_session.started"))
    async with following(journal, store, deliveries=deliver) as projection:
        assert await projection.caught_up(PATIENCE)
        expected = [
            ("c1", 0, "https://x", "pending", "waiting"),
            ("c1", 1, "https://x", "pending", "waiting"),
        ]
        assert outbox(store) == expected
    assert len(store.events("c3")) == 1
    with store.writing() as connection:  # everything again, after what was sent was tidied away
        connection.execute(tables.cursors.delete())
        connection.execute(tables.outbox.delete().where(tables.outbox.c.seq == 1))
    async with following(journal, store, deliveries=deliver) as projection:
        assert await projection.caught_up(PATIENCE)
        assert outbox(store) == expected[:1]


async def test_what_will_never_fit_is_left_out_alone(journal: Journal, store: Store) -> None:
    await journal.append([entry("c1", 1), entry("c2", 1), entry("c3", 1)])
    huge = 2**40  # no column of PostgreSQL holds it
    more = {"at": "2026-01-01T00:00:00.000Z"}
    await journal.append([replace(entry("c3", 1), event={**event("c3", 1), "seq": huge, **more})])
    await journal.note("c1", "transcript", {"speaker": "USER", "content": "x", "at": "no time"})
    await journal.note(
        "c1", "transcript", Segment(speaker=Speaker.USER, content="y", at=AT).as_dict()
    )
    await journal.append([entry("c4", 1, created_at="when?")])
    with closing(sqlite3.connect(journal.path)) as spoiler:
        spoiler.execute("update calls set record = '[1' where call_id = 'c2'")
        spoiler.commit()
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
        assert projection.metrics.refused >= 2
        assert projection.well
    assert store.call("c1") is not None
    assert store.call("c2") is None
    assert store.call("c4") is not None
    assert [one.content for one in store.transcript("c1")] == ["y"]
    assert len(store.events("c1")) == len(store.events("c4")) == 1


async def test_two_instances_on_one_store_keep_their_own_place(
    tmp_path: Path, made_url: str, store: Store
) -> None:
    journals = [Journal(tmp_path / f"{name}.db", instance=name) for name in "ab"]
    stores = [store, Store.open(made_url, instance="b")]
    projections = [Projection(j, s) for j, s in zip(journals, stores, strict=True)]
    for projection in projections:
        projection.start()
    for n in range(1, 60):
        for journal in journals:
            await journal.append([entry(f"c-{journal.path.stem}", n)])
    for projection in projections:
        assert await projection.caught_up(PATIENCE)
    positions = [row[0] for row in store.events_since(0, limit=1000)]
    assert len(positions) == 118
    assert positions == sorted(set(positions))
    for projection in projections:
        await asyncio.to_thread(projection.stop)
    for journal in journals:
        await asyncio.to_thread(journal.close)
    stores[1].close()


async def test_a_journal_that_was_put_back_is_read_again(
    journal: Journal, store: Store, tmp_path: Path
) -> None:
    await journal.append([entry("c1", n) for n in range(1, 9)])
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    with store.writing() as connection:
        connection.execute(tables.cursors.update().values(event=1000))
        connection.execute(tables.calls.update().values(revision=1000))
    await journal.append([entry("c1", 9, status="active")])
    async with following(journal, store) as projection:
        assert await projection.caught_up(PATIENCE)
    assert len(store.events("c1")) == 9
    assert store.calls(CallFilter(status="active"), limit=1)[1] == 1


# The store away.


async def until_caught_up(projection: Projection) -> None:
    """Poll a thread that tries again now and then."""
    async with asyncio.timeout(PATIENCE):
        while not await projection.caught_up(1.0):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_an_outage_costs_nothing_but_time(
    postgres: Postgres, journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(postgres.new_database(), instance="a")
    async with following(journal, store) as projection:
        await journal.append([entry("c1", 1)])
        assert await projection.caught_up(PATIENCE)
        postgres.stop()
        try:
            for n in range(2, 40):
                await journal.append([entry("c1", n)])
            async with asyncio.timeout(PATIENCE):
                while projection.well:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # polling a thread
            assert not await projection.caught_up(PATIENCE)  # at once
            assert projection.metrics.lag > 0
            assert projection.metrics.last_error
            assert not store.alive()
            await asyncio.sleep(1.2)  # several attempts
        finally:
            postgres.start()
        await until_caught_up(projection)
        assert len(store.events("c1")) == 39
        assert projection.well
    said = capsys.readouterr().out
    assert said.count("store.away") == 1
    assert said.count("store.back") == 1
    store.close()


async def test_a_daemon_may_start_before_its_database(postgres: Postgres, journal: Journal) -> None:
    url = postgres.new_database()
    postgres.stop()
    try:
        store = Store.open(url, instance="a")
        assert not store.ready
        projection = Projection(journal, store)
        projection.start()
        await journal.append([entry("c1", 1)])
        assert not await projection.caught_up(5.0)
    finally:
        postgres.start()
    await until_caught_up(projection)
    assert store.call("c1") is not None
    await asyncio.to_thread(projection.stop)
    store.close()


# Any cut.


class Cut(Exception):
    """The process ends here."""


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """Return changes of up to three calls: events, facts."""
    kinds = st.sampled_from(["event", "event", "record", "transcript", "report", "ladder"])
    calls = st.sampled_from(["c1", "c2", "c3"])
    return [(draw(calls), draw(kinds), n) for n in range(1, draw(st.integers(2, 25)))]


async def tell(journal: Journal, history: Sequence[tuple[str, str, int]]) -> None:
    for call, kind, n in history:
        if kind == "event":
            await journal.append([entry(call, n, name="call_dtmf")])
        elif kind == "record":
            await journal.append([entry(call, 0, status=f"s{n}")])
        elif kind == "transcript":
            line = Segment(speaker=Speaker.USER, content=str(n), at=AT + n % 3)
            await journal.note(call, kind, line.as_dict())
        elif kind == "report":
            await journal.note(call, kind, {"total_tokens": n, "current_agent": f"a{n % 2}"})
        else:
            await journal.note(call, kind, {"rungs": [n]})


def contents(store: Store) -> list[Any]:
    """Return everything but when it was written."""
    found: list[Any] = []
    with store.reading() as connection:
        for table in (
            tables.calls,
            tables.events,
            tables.transcripts,
            tables.reports,
            tables.ladder,
        ):
            skipped = {"position"} if table is tables.events else {"revision"}
            if table in (tables.reports, tables.ladder):
                skipped = {"at"}
            columns = [column for column in table.c if column.name not in skipped]
            rows = connection.execute(select(*columns))
            found.append((table.name, sorted(tuple(row) for row in rows)))
    return found


@settings(max_examples=10)
@given(history=histories(), cuts=st.lists(st.integers(0, 6), max_size=6), lost=st.booleans())
def test_any_cut_and_replay_gives_the_same_store(
    made_file: Path, history: list[tuple[str, str, int]], cuts: list[int], lost: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("straight.db", "crooked.db"):
            shutil.copy(made_file, Path(folder) / name)
        asyncio.run(_cut_and_replay(Path(folder), history, cuts, lost))


async def _cut_and_replay(
    folder: Path, history: list[tuple[str, str, int]], cuts: list[int], lost: bool
) -> None:
    journal = Journal(folder / "j.db", instance="a")
    straight = Store.open(f"sqlite:///{folder}/straight.db", instance="a")
    crooked = Store.open(f"sqlite:///{folder}/crooked.db", instance="a")
    reader = journal.reader()
    told = 0
    for cut in cuts:  # some is written, some of that is read, and the process ends
        await tell(journal, history[told : told + cut])
        told += cut
        with_cut(crooked, journal, reader, cut)
    await tell(journal, history[told:])
    if lost:
        with crooked.writing() as connection:
            connection.execute(tables.cursors.delete())
    for store in (straight, crooked):
        projection = Projection(journal, store)
        while not projection._step(reader):
            pass
    assert contents(straight) == contents(crooked)
    reader.close()
    straight.close()
    crooked.close()
    journal.close()


def with_cut(store: Store, journal: Journal, reader: Any, cut: int) -> None:
    """Let a projection take two at a time, and end in the middle of a transaction."""
    projection = Projection(journal, store)
    before = project_module._BATCH
    project_module._BATCH = 2  # type: ignore[misc]
    try:
        for _ in range(cut % 3):
            projection._step(reader)
        write = projection._writer.cursor

        def broken(*arguments: Any) -> None:
            write(*arguments)
            raise Cut

        projection._writer.cursor = broken  # type: ignore[method-assign]
        with suppress(Cut):
            projection._step(reader)
    finally:
        project_module._BATCH = before  # type: ignore[misc]


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("more", [0, 2])
async def test_the_true_end_takes_the_place_of_one_that_others_gave_a_call_that_went_on(
    journal: Journal, store: Store, made_url: str, tmp_path: Path, *, more: int, told: bool
) -> None:
    """An instance that was cut off from the store for longer than its lease."""
    private = {"webhook_url": "https://x"}
    await journal.append([entry("c1", 1, private=private)])
    async with following(journal, store, deliveries=deliver) as projection:
        assert await projection.caught_up(PATIENCE)
    others = Journal(tmp_path / "b.db", instance="b")
    b = Store.open(made_url, instance="b")
    crash = {"reason": "crash"}
    end = entry("c1", 2, name="call_ended", ended=True, private=private, more=crash, **crash)
    await others.append([end])
    async with following(others, b, deliveries=deliver) as projection:
        assert await projection.caught_up(PATIENCE)
    if told:
        with store.writing() as connection:
            connection.execute(
                update(tables.outbox).where(tables.outbox.c.seq == 2).values(state="delivered")
            )
    # The cut is over: this is how it went.
    for seq in range(2, 2 + more):
        await journal.append([entry("c1", seq, name="call_hold", private=private)])
    last = 2 + more
    busy = {"reason": "remote_hangup"}
    await journal.append(
        [entry("c1", last, name="call_ended", ended=True, private=private, more=busy, **busy)]
    )
    for _ in range(2):  # also when it is read once more from the beginning
        async with following(journal, store, deliveries=deliver) as projection:
            assert await projection.caught_up(PATIENCE)
        with store.writing() as connection:
            connection.execute(delete(tables.cursors))
    assert store.events("c1") == journal.events("c1")
    found = store.call("c1")
    assert found is not None
    assert found.record["reason"] == "remote_hangup"
    positions = [row[0] for row in store.events_since(0, limit=10)]
    assert positions == sorted(set(positions))
    with store.reading() as connection:
        rows = connection.execute(
            select(tables.outbox.c.seq, tables.outbox.c.event, tables.outbox.c.id)
        ).all()
    false = [row for row in rows if row.id == "c1-2"]
    assert len(false) == (1 if told else 0)
    true = sorted((row.seq, row.event) for row in rows if row.id != "c1-2")
    assert true == [(one["seq"], one["event"]) for one in journal.events("c1")]
    # What comes of the others now changes nothing.
    with b.writing() as connection:
        connection.execute(delete(tables.cursors))
    async with following(others, b, deliveries=deliver) as projection:
        assert await projection.caught_up(PATIENCE)
    assert store.events("c1") == journal.events("c1")
    found = store.call("c1")
    assert found is not None
    assert found.record["reason"] == "remote_hangup"
    b.close()
    await asyncio.to_thread(others.close)
