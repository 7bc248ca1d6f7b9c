"""Lists with 100,000 calls: read along an index, on both databases, as their plans say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import Select, text

from bridge.store.queries import CallFilter, page_of, total_of
from bridge.store.store import Store

pytestmark = pytest.mark.unit

_NUMBERS = {
    "sqlite": "with recursive n(i) as (select 0 union all select i + 1 from n where i < 99999)",
    "postgresql": "with n(i) as (select generate_series(0, 99999))",
}
_WIDE = {
    "sqlite": "replace(hex(zeroblob(200)), '0', 'y')",
    "postgresql": "repeat('y', 400)",
}
_FILL = """
{numbers}
insert into calls (id, tenant_id, instance, journal, revision, seq, status, direction, call_type,
    trunk, user_id, workflow_id, room_name, phone_number, is_session, is_passthrough, created_at,
    started_at, ended_at, record, private)
select 'c' || i, case when i % 3 = 0 then null else 't' || (i % 20) end, 'a', 'j', i, 1,
    case when i % 1000 = 0 then 'active' when i % 10 = 1 then 'failed' else 'completed' end,
    case when i % 2 = 0 then 'inbound' else 'outbound' end,
    case when i % 50 = 0 then 'voip' else 'sip' end, 'x', 'u' || (i % 5000), 'w' || (i % 40),
    'r' || i, '+91' || (i % 20000), case when i % 100 = 0 then 1 else 0 end,
    case when i % 200 = 0 then 1 else 0 end, 1e9 + i,
    case when i % 10 = 1 then null else 1e9 + i + 5 end,
    case when i % 1000 = 0 then null else 1e9 + i + 60 end, {wide}, '{{}}' from n
"""
_RUNNING = ("pending", "connecting", "active")
_T0 = 1e9
WANTED = [
    CallFilter(),
    CallFilter(ascending=True),
    CallFilter(sort_by="started_at"),
    CallFilter(status="failed"),
    CallFilter(statuses=_RUNNING),
    CallFilter(workflow_id="w3"),
    CallFilter(user_id="u7"),
    CallFilter(call_type="voip"),
    CallFilter(direction="inbound"),
    CallFilter(to_number="+9177"),
    CallFilter(started_after=_T0 + 99_000),
    CallFilter(started_before=_T0 + 1_000),
    CallFilter(started_after=_T0 + 5_000, started_before=_T0 + 6_000, status="failed"),
    CallFilter(only_sessions=True),
    CallFilter(passthrough=True),
    CallFilter(tenant="t1"),
    CallFilter(tenant="t1", status="failed"),
    CallFilter(tenant="t1", statuses=_RUNNING),
    CallFilter(tenant="t1", workflow_id="w3"),
    CallFilter(tenant="t1", user_id="u7"),
    CallFilter(tenant="t1", started_after=_T0 + 99_000),
    CallFilter(tenant="t1", only_sessions=True),
    CallFilter(tenant="t1", only_sessions=True, status="completed"),
]


@pytest.fixture
def full(store: Store) -> Store:
    """A store with 100,000 calls, a third of them nobody's."""
    name = store.engine.dialect.name
    with store.writing() as connection:
        filled = _FILL.format(numbers=_NUMBERS[name], wide=_WIDE[name])
        connection.execute(text(filled))
    if name == "sqlite":
        with store.writing() as connection:
            connection.execute(text("analyze"))
    else:
        engine = store.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("vacuum analyze calls"))
    return store


def _plan(store: Store, question: Select[Any]) -> list[str]:
    literal = question.compile(store.engine, compile_kwargs={"literal_binds": True})
    with store.reading() as connection:
        if store.database.is_sqlite:
            rows = connection.exec_driver_sql(f"explain query plan {literal}")
            return [row[3] for row in rows]
        rows = connection.exec_driver_sql(f"explain (costs off) {literal}".replace("%", "%%"))
        return [row[0].strip(" ->") for row in rows]


def _reads_all(line: str) -> bool:
    scans = line.startswith(("SCAN calls", "Seq Scan", "Parallel Seq Scan"))
    return scans and "INDEX" not in line


def test_pages_and_totals_of_100000_calls_are_read_along_an_index(full: Store) -> None:
    for wanted in WANTED:
        page = _plan(full, page_of(wanted, limit=20, offset=0))
        total = _plan(full, total_of(wanted))
        assert not any(_reads_all(line) for line in page + total), (wanted, page, total)
        for before, line in itertools.pairwise(page):
            # What is sorted is the heads of several lists, never the table.
            sorts_calls = "TEMP B-TREE" in line and " calls " in f"{before} "
            assert not sorts_calls, (wanted, page)
        assert not any(line.startswith("Gather") for line in page), (wanted, page)
    wanted = CallFilter(tenant="t1", status="failed")
    expected = [
        f"c{n}" for n in range(99_999, -1, -1) if n % 10 == 1 and (n % 3 == 0 or n % 20 == 1)
    ]
    question = page_of(wanted, limit=20, offset=500)
    with full.reading() as connection:
        assert [row.id for row in connection.execute(question)] == expected[500:520]
        assert connection.execute(total_of(wanted)).scalar() == len(expected)
