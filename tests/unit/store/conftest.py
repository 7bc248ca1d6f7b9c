"""Both databases: every test that takes `url` or `store` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_database()


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, to be copied."""
    path = tmp_path_factory.mktemp("store") / "made.db"
    Store.open(f"sqlite:///{path}", instance="a").close()
    return path


@pytest.fixture(scope="session")
def made_database(postgres: Postgres) -> str:
    """The name of a database with the tables, to be copied."""
    url = postgres.new_database()
    Store.open(url, instance="a").close()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def made_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("made_file"), tmp_path / "made.db")
        return f"sqlite:///{tmp_path}/made.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_database(template=request.getfixturevalue("made_database"))


@pytest.fixture
def store(made_url: str) -> Iterator[Store]:
    """A store with its tables."""
    opened = Store.open(made_url, instance="a")
    yield opened
    opened.close()
