"""The tables: made at a start, by one daemon at a time, never by an older one."""

import re
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from bridge.store.errors import StoreError
from bridge.store.store import Store
from bridge.store.tables import metadata
from tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.unit


def test_the_migrations_make_exactly_the_tables_we_use(store: Store) -> None:
    with store.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        connection.rollback()
    assert differences == []
    indexes = {
        (table.name, index.name) for table in metadata.tables.values() for index in table.indexes
    }
    found = inspect(store.engine)
    assert indexes == {
        (table, index["name"])
        for table in metadata.tables
        for index in found.get_indexes(table)
        if not index.get("duplicates_constraint")
    }


def test_a_store_that_is_up_to_date_is_opened_again(url: str) -> None:
    Store.open(url, instance="a").close()
    again = Store.open(url, instance="b")
    assert again.ready
    again.close()


def test_daemons_that_start_at_once_make_the_tables_once(url: str) -> None:
    opened: list[Store] = []
    failures: list[BaseException] = []
    line = threading.Barrier(4)

    def start(n: int) -> None:
        line.wait()
        try:
            opened.append(Store.open(url, instance=f"i{n}"))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [store.ready for store in opened] == [True] * 4
    for store in opened:
        store.renew()
        store.close()


def test_an_older_daemon_refuses_newer_tables_in_one_line(url: str) -> None:
    store = Store.open(url, instance="a")
    with store.writing() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError) as refused:
        Store.open(url, instance="a")
    assert re.fullmatch(
        r"the store is a newer daemon.s \(schema 9999, this one knows \d+\)", str(refused.value)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://trunk:hush-hush@[::1",
        "postgresql://trunk:hush-hush@host:hush/db",
        "mysql://trunk:hush-hush@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "hush-hush",
        "postgresql://trunk:hush-hush@127.0.0.1:1/db?nonsense=1",
    ],
)
def test_a_url_that_is_wrong_is_refused_and_not_shown(wrong: str) -> None:
    with pytest.raises(StoreError) as refused:
        Store.open(wrong, instance="a")
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__ or "hush" not in repr(refused.value.__context__)


def test_a_wrong_password_is_not_shown(postgres: Postgres) -> None:
    url = postgres.url().replace(PASSWORD, "hush-hush")
    store = Store.open(url, instance="a")
    with pytest.raises(StoreError) as refused:
        store.call("c1")
    assert "hush" not in str(refused.value)
    assert not store.ready
    store.close()
