"""The connection to the database: one engine, two ways to begin a transaction.

SQLite and PostgreSQL behave the same behind it: `reading` sees one moment and waits for
nobody, `writing` is alone with what it changes until it commits.
"""

from __future__ import annotations

import math
import select
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from bridge.store.errors import StoreError, store_error
from bridge.store.patience import ENOUGH, KNOCK, PatientConnection, Pulse

_POOL: Final = 8
_WAIT: Final = 5  # seconds for a connection, and for a lock of SQLite
_LIMITS: Final = {  # milliseconds, kept by PostgreSQL
    "statement_timeout": 15_000,
    "lock_timeout": 10_000,
    "idle_in_transaction_session_timeout": 30_000,  # one of us that stands still frees its locks
}

_POSTGRESQL: Final = {
    "connect_timeout": 3,
    "application_name": "trunkbridge",
    "options": " ".join(f"-c {name}={ms}" for name, ms in _LIMITS.items()) + " -c timezone=UTC",
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def parse(url: str) -> URL:
    """Return *url* with the driver we use. Raises `StoreError`, which shows nothing of it."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError, exc.NoSuchModuleError):
        raise StoreError("[store] url is no URL of a database") from None
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise StoreError("[store] url: sqlite or postgresql")
    if parsed.database in (None, "", ":memory:"):
        raise StoreError("[store] url: SQLite needs the path of a file")
    return parsed.set(drivername="sqlite+pysqlite")


def connect(url: URL, pulse: Pulse | None = None) -> Engine:
    """Return an engine for *url*; it connects when it is first used.

    *pulse* is its server's, for those who wait for an answer.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            pool_size=_POOL,
            max_overflow=4,
            pool_timeout=_WAIT,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": _WAIT},
        )
        event.listen(engine, "connect", _tune)
        event.listen(engine, "begin", _begin)
        return engine
    given = {name: value for name, value in _POSTGRESQL.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=_POOL,
        max_overflow=4,
        pool_timeout=_WAIT,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args=given,
    )
    event.listen(engine, "checkout", _check)

    def open_(_: Any, __: Any, args: Any, given: Any) -> PatientConnection:
        connection = PatientConnection.connect(*args, **given)
        connection.pulse = pulse
        return connection

    event.listen(engine, "do_connect", open_)
    return engine


def _knock(url: URL) -> None:
    """Make a connection and close it."""
    given, named = url.get_dialect()().create_connect_args(url)
    wanted: dict[str, Any] = {**_POSTGRESQL, **named, "connect_timeout": KNOCK}
    psycopg.connect(*given, **wanted).close()


def _check(connection: Any, *_: Any) -> None:
    """Refuse a connection that the server has closed: no round trip, a look at the socket."""
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
    except Exception as failure:  # closed on our side
        raise exc.DisconnectionError from failure
    # An idle connection has nothing to say but good-bye.
    if poll.poll(0):
        raise exc.DisconnectionError


def _tune(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # we say when a transaction begins
    for pragma in ("journal_mode = wal", "synchronous = full", "secure_delete = on"):
        connection.execute(f"pragma {pragma}")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and then writes cannot wait for another one that does.
    immediate = connection.get_execution_options().get("trunkbridge_writes", False)
    connection.exec_driver_sql("begin immediate" if immediate else "begin")


class Database:
    """The engine of one store. From any thread."""

    def __init__(self, url: str) -> None:
        self.url = parse(url)
        self._pulse = Pulse(partial(_knock, self.url))
        try:
            self.engine = connect(self.url, self._pulse)
        except (exc.SQLAlchemyError, TypeError, ValueError) as failure:
            msg = "[store] url is not understood"
            raise StoreError(msg) from failure
        event.listen(self.engine, "checkin", self._given_back)
        self._password = str(self.url.password) if self.url.password else None
        self._writer = self.engine.execution_options(trunkbridge_writes=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def is_file(self) -> bool:
        """Whether it is a file by its path, and not by a URI with wishes of its own."""
        return self.is_sqlite and not str(self.url.database).startswith("file:")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that changes nothing. Raises `StoreError`."""
        with self.errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that is committed at the end. Raises `StoreError`."""
        with self.errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def unhurried(self, connection: Connection) -> Iterator[None]:
        """Give *connection* all the time there is, as long as its server lives."""
        driver = connection.connection.driver_connection
        if not isinstance(driver, PatientConnection):
            yield
            return
        driver.enough = math.inf
        try:
            for limit in ("statement_timeout", "lock_timeout"):
                connection.exec_driver_sql(f"set local {limit} = 0")
            yield
        finally:
            driver.enough = ENOUGH

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the library's errors into ours."""
        try:
            yield
        except exc.SQLAlchemyError as failure:
            raise store_error(failure, self._password) from None

    def _given_back(self, connection: Any, _: Any) -> None:
        if self._pulse.closed and connection is not None:  # nobody takes it again
            connection.close()

    def close(self) -> None:
        """Close all connections; who waits for an answer waits no more."""
        self._pulse.closed = True
        self.engine.dispose()
