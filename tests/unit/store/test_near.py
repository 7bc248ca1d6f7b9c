"""What is read at once is what the store says, or nothing is said."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.journal.entries import WrittenEvent, WrittenFact
from bridge.store import near as near_module
from bridge.store.near import Near, NotNow
from bridge.store.queries import CallFilter
from bridge.store.store import Store
from bridge.store.totals import Totals
from bridge.store.writing import Writer, dump
from tests.unit.store.making import event
from tests.unit.store.test_queries import made, write

pytestmark = pytest.mark.unit


class Clock:
    """A clock that goes *step* seconds further whenever it is read."""

    def __init__(self) -> None:
        self.now = 100.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def path(made_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_file, tmp_path / "made #1.db"))


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store in a file, with three calls, one of them over."""
    opened = Store.open(f"sqlite:///{path}", instance="a")
    ended = made(3, status="completed", ended_at="2026-05-28T20:27:00.000Z", current_agent="x")
    write(opened, made(1, tenant_id="t"), made(2, tenant_id="u"), ended)
    measured = WrittenFact(
        position=1,
        call_id="c3",
        kind="report",
        body=dump({"metrics": {"total_tokens": 7}, "agent_history": ["x"]}),
        record="{}",
        private="{}",
    )
    told = [
        WrittenEvent(
            position=n,
            call_id="c3",
            seq=n,
            body=dump(event("c3", n)),
            record="{}",
            private="{}",
        )
        for n in (1, 2)
    ]
    with opened.writing() as connection:
        Writer(journal="j").facts(connection, [measured])
        Writer(journal="j").events(connection, told)
    yield opened
    opened.close()


def near_of(store: Store) -> Near:
    assert store.near is not None
    return store.near


@pytest.mark.parametrize(
    "wanted",
    [
        CallFilter(),
        CallFilter(tenant="t"),
        CallFilter(status="completed"),
        CallFilter(tenant="u", statuses=["pending", "connecting"], ascending=True),
        CallFilter(started_after=1.0),
        CallFilter(only_sessions=True),
        CallFilter(passthrough=False, to_number="+919876543210"),
    ],
)
@pytest.mark.parametrize("place", [(20, 0), (1, 0), (1, 1), (1, 7)])
def test_a_page_is_the_stores(store: Store, wanted: CallFilter, place: tuple[int, int]) -> None:
    limit, offset = place
    theirs = store.calls(wanted, limit=limit, offset=offset)
    assert near_of(store).calls(wanted, limit=limit, offset=offset) == theirs


def test_a_call_and_its_events_are_the_stores(store: Store) -> None:
    near = near_of(store)
    stored = store.call("c3")
    assert stored is not None
    assert stored.record["metrics"]["total_tokens"] == 7
    assert near.call("c3") == stored.record
    assert near.call("nobody") is None
    assert near.events("c3") == store.events("c3") != []
    assert near.events("c3", after=1) == store.events("c3", after=1)
    assert near.events("c1") == []


def test_a_total_is_counted_only_where_few_were(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = near_of(store)
    with pytest.raises(NotNow):
        near.calls(CallFilter(), limit=1)
    assert store.calls(CallFilter(), limit=1)[1] == 3
    assert near.calls(CallFilter(), limit=1)[1] == 3
    write(store, made(4))
    assert near.calls(CallFilter(), limit=1)[1] == 4
    write(store, made(5))
    monkeypatch.setattr(near_module, "_COUNTED", 3)
    with pytest.raises(NotNow):
        near.calls(CallFilter(), limit=1)


def test_what_is_long_or_deep_is_for_a_thread(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = near_of(store)
    store.calls(CallFilter(), limit=1)
    assert near.calls(CallFilter(), limit=1, offset=999)[1] == 3
    with pytest.raises(NotNow):
        near.calls(CallFilter(), limit=1, offset=1000)
    monkeypatch.setattr(near_module, "_MANY", 1)
    with pytest.raises(NotNow):
        near.calls(CallFilter(), limit=100)
    with pytest.raises(NotNow):
        near.events("c3")


def test_a_slow_file_is_left_alone_for_a_while(store: Store, path: Path) -> None:
    clock = Clock()
    with closing(Near(path, Totals(), lambda: 0, clock=clock)) as near:
        clock.step = 0.2
        assert near.call("c1") is not None  # it took long, this once
        clock.step = 0.0
        with pytest.raises(NotNow):
            near.call("c1")
        clock.now += 2
        assert near.call("c1") is not None


def test_a_question_that_goes_through_every_call_is_taken_back(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_module, "_PATIENCE", -1.0)
    monkeypatch.setattr(near_module, "_STEPS", 10)
    with closing(Near(path, Totals(), lambda: 0)) as near, pytest.raises(NotNow):
        near.calls(CallFilter(), limit=20)
    monkeypatch.undo()
    with closing(Near(path, Totals(), lambda: 0)) as near:
        with pytest.raises(NotNow, match="many to count"):
            near.calls(CallFilter(), limit=1)
        assert near.call("c1") is not None


def test_a_file_that_is_locked_is_not_waited_for(store: Store, path: Path) -> None:
    near = near_of(store)
    assert near.call("c1") is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")  # a writer is in nobody's way
        assert near.call("c1") is not None
        other.execute("rollback")
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma locking_mode = exclusive")
        other.execute("begin exclusive")
        with closing(Near(path, Totals(), lambda: 0)) as late, pytest.raises(NotNow):
            late.call("c1")


def test_where_there_is_no_store_nothing_is_made_and_nothing_said(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with closing(Near(path, Totals(), lambda: 0)) as near:
        with pytest.raises(NotNow):
            near.call("c1")
        assert not path.exists()
        path.touch()
        with pytest.raises(NotNow):  # no tables
            near.call("c1")


def test_text_that_is_no_json_is_for_the_store(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql('update calls set record = \'{"id":"\\ud800"}\'')
    with pytest.raises(NotNow):
        near_of(store).call("c1")
    found = store.call("c1")
    assert found is not None
    assert found.record == {"id": "\ud800"}


def test_a_closed_store_answers_nothing(store: Store) -> None:
    near = near_of(store)
    assert near.call("c1") is not None
    store.close()
    with pytest.raises(NotNow):
        near.call("c1")


def test_only_a_file_is_near() -> None:
    with closing(Store("postgresql://nobody@127.0.0.1:1/none", instance="a")) as away:
        assert away.near is None
