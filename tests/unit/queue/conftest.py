"""A PostgreSQL of the run, and stores of several instances on one database of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bridge.store.store import Store
from tests.postgres import Postgres, server

OpenStore = Callable[[str], Store]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole run; tests have databases of their own."""
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def made_database(postgres: Postgres) -> str:
    """The name of a database with the tables, to be copied."""
    url = postgres.new_database()
    Store.open(url, instance="a").close()
    return url.rpartition("/")[2]


@pytest.fixture
def store_of(postgres: Postgres, made_database: str) -> Iterator[OpenStore]:
    """Opens the store of one instance; all of a test are on one database."""
    url = postgres.new_database(template=made_database)
    opened: list[Store] = []

    def open_(instance: str) -> Store:
        store = Store.open(url, instance=instance)
        store.grace = 0  # who is silent is gone at once
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()
