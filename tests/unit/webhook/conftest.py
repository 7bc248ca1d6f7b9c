"""Both databases: every test that takes `store` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store.store import Store
from tests.postgres import Postgres, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole run; tests have databases of their own."""
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def made_database(postgres: Postgres) -> str:
    """The name of a database with the tables, to be copied."""
    url = postgres.new_database()
    Store.open(url, instance="one").close()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_database(template=request.getfixturevalue("made_database"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The database with its tables, as the instance "one" sees it."""
    store = Store.open(url, instance="one")
    yield store
    store.close()


@pytest.fixture
def other_store(url: str, store: Store) -> Iterator[Store]:
    """The same database, as another instance sees it."""
    assert store.ready
    other = Store.open(url, instance="two")
    yield other
    other.close()
