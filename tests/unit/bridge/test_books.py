"""Where the store lies, and what a start says of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from bridge.books import Books, store_url
from bridge.config.loading import from_values
from bridge.journal.journal import Journal
from bridge.store.errors import StoreError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("sqlite:///trunkbridge.db", "sqlite:////state/trunkbridge.db"),
        ("sqlite:///a/b.db", "sqlite:////state/a/b.db"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://u:p@db/trunkbridge", "postgresql://u:p@db/trunkbridge"),
    ],
)
def test_a_relative_file_lies_beside_the_journal(url: str, found: str) -> None:
    assert store_url(url, Path("/state")) == found


def books(tmp_path: Path, url: str) -> Books:
    config = from_values({"store": {"url": url, "instance": "one"}}, {})
    return Books(config, Journal(tmp_path / "journal.db", instance="one"), tmp_path, version="0")


async def test_a_store_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/nothing"
    rows = books(tmp_path, url)
    await rows.open()
    assert not rows.projection.well
    await rows.stop()


async def test_a_file_that_is_no_database_costs_no_call_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"no database at all" * 100)
    rows = books(tmp_path, "sqlite:///no.db")
    await rows.open()
    assert not await rows.projection.caught_up(0)
    assert not rows.projection.well
    await rows.stop()


async def test_the_tables_of_a_newer_daemon_stop_the_start_in_one_line(tmp_path: Path) -> None:
    rows = books(tmp_path, "sqlite:///new.db")
    await rows.open()
    with rows.store.writing() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    await rows.stop()
    rows = books(tmp_path, "sqlite:///new.db")
    with pytest.raises(StoreError) as failure:
        await rows.open()
    assert "newer" in str(failure.value)
    assert "\n" not in str(failure.value)
    await rows.stop()
