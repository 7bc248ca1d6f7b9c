"""Both databases: every test that takes `url` or `store` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store.store import Store
from tests.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_database()


@pytest.fixture
def store(made_url: str) -> Iterator[Store]:
    """A store with its tables."""
    opened = Store.open(made_url, instance="a")
    yield opened
    opened.close()
