"""Both databases: every test that takes `store` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.store.store import Store


@pytest.fixture
def store(made_url: str) -> Iterator[Store]:
    """The database with its tables, as the instance "one" sees it."""
    store = Store.open(made_url, instance="one")
    yield store
    store.close()


@pytest.fixture
def other_store(made_url: str, store: Store) -> Iterator[Store]:
    """The same database, as another instance sees it."""
    assert store.ready
    other = Store.open(made_url, instance="two")
    yield other
    other.close()
