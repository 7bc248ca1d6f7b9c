"""The outbox's questions are answered by its indexes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.store.store import Store
from bridge.webhook.outbox import Outbox

pytestmark = pytest.mark.unit


@pytest.fixture
def made_url(tmp_path: Any) -> str:
    """SQLite alone: it takes an index of some rows only when the question names them."""
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def asked(store: Store) -> list[tuple[str, Any]]:
    """What is asked of the database from now on."""
    found: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        found.append((statement, parameters))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    return found


def plans(store: Store, asked: list[tuple[str, Any]]) -> list[str]:
    """How SQLite answers what was asked."""
    questions = [(s, p) for s, p in asked if s.lstrip().upper().startswith(("SELECT", "UPDATE"))]
    with store.engine.connect() as connection:
        return [
            " | ".join(
                str(row[3])
                for row in connection.exec_driver_sql(f"explain query plan {question}", given)
            )
            for question, given in questions
        ]


def put(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(
            sa.text(
                "insert into outbox (id, seq, call_id, event, url, body, state, attempts, "
                "created_at, next_at) values ('d', 4, 'c', 'e', 'u', 'b', 'waiting', 0, 1, 1)"
            )
        )


def test_what_is_due_and_what_is_left_is_found_by_index(
    store: Store, asked: list[tuple[str, Any]]
) -> None:
    put(store)
    asked.clear()
    box = Outbox(store)
    assert len(box.due(time.time(), limit=5, per_receiver=2)) == 1
    assert box.backlog(time.time()).waiting == 1
    found = plans(store, asked)
    assert len(found) == 4  # is anything due, what is, how much waits, how much is dead
    for plan in found:
        assert "SCAN outbox" not in plan.replace("SCAN outbox USING", ""), plan
    assert "outbox_due" in found[0]
    assert "outbox_due" in found[1]
    assert "outbox_call" in found[1]
    assert "outbox_due" in found[2]
    assert "outbox_dead" in found[3]
