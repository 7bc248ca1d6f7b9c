"""What can go wrong with the store, and whose fault it is."""

from __future__ import annotations

from typing import Final

from sqlalchemy import exc

from bridge.errors import BridgeError

# SQLSTATE classes of data that will never fit: bad value, broken rule, too large.
_NEVER: Final = ("22", "23", "54")
_GONE: Final = ("08", "57")
_SLOW: Final = "57014"  # query_canceled: statement_timeout; the server is there
_LINE: Final = 300


class StoreError(BridgeError):
    """The store could not be opened, read or written; its text names no secret."""


class StoreAway(StoreError):
    """The database does not take it now, and may later."""


class StoreUnreachable(StoreAway):
    """Nobody answers."""


class StoreRefused(StoreError):
    """The database does not take this, and never will: the data's fault, or ours."""


def store_error(failure: exc.SQLAlchemyError, password: str | None) -> StoreError:
    """Return *failure* as one of ours, in one line without a secret or anybody's data."""
    cause = getattr(failure, "orig", None) or failure
    if _is_of_the_data(failure):
        return StoreRefused(type(cause).__name__)
    line = " ".join(str(cause).split()) or type(cause).__name__
    away = StoreUnreachable if _is_of_the_connection(failure) else StoreAway
    return away((line.replace(password, "***") if password else line)[:_LINE])


def _is_of_the_connection(failure: exc.SQLAlchemyError) -> bool:
    if not isinstance(failure, exc.OperationalError | exc.InterfaceError):
        return False
    state = getattr(failure.orig, "sqlstate", "")  # SQLite has none
    if failure.connection_invalidated or state is None:
        return True
    return state[:2] in _GONE and state != _SLOW


def _is_of_the_data(failure: exc.SQLAlchemyError) -> bool:
    if not isinstance(failure, exc.DBAPIError):
        return not isinstance(failure, exc.TimeoutError)
    if failure.connection_invalidated:
        return False
    state = getattr(failure.orig, "sqlstate", None)
    if isinstance(state, str):
        return state[:2] in _NEVER
    return isinstance(failure, exc.DataError | exc.IntegrityError | exc.ProgrammingError)
