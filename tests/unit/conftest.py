"""What all unit tests share: how Hypothesis judges, and both databases with our tables.

Hypothesis judges results, never how fast a busy machine is.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgres import Postgres

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, to be copied."""
    path = tmp_path_factory.mktemp("store") / "made.db"
    _make_tables(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def made_database(postgres: Postgres) -> str:
    """The name of a database with the tables, to be copied."""
    url = postgres.new_database()
    _make_tables(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def made_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty tables: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("made_file"), tmp_path / "made.db")
        return f"sqlite:///{tmp_path}/made.db"
    running: Postgres = request.getfixturevalue("postgres")
    return running.new_database(template=request.getfixturevalue("made_database"))


def _make_tables(url: str) -> None:
    from bridge.store.store import Store  # who needs none does not wait for the import

    Store.open(url, instance="a").close()
