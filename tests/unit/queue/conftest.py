"""Stores of several instances on one database of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bridge.store.store import Store
from tests.postgres import Postgres

OpenStore = Callable[[str], Store]


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
