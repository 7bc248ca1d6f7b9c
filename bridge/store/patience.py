"""How long an answer of PostgreSQL is waited for.

What the server can bound (a statement, a lock, an idle transaction) it is asked to. A server that
stands still bounds nothing, and its kernel goes on acknowledging what we send, so that neither
keep-alives nor ``TCP_USER_TIMEOUT`` notice: an answer that is late makes us knock at its door
once. Nobody opens: it stands still, and every wait for it ends. Somebody does: the statement is
slow, and waited for as long as the server allows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors

T = TypeVar("T")

LATE: Final = 2.0
"""Seconds without a word after which somebody knocks, and again after each knock."""
KNOCK: Final = 3
"""Seconds until a connection must have been made; a busy server takes its time."""
ENOUGH: Final = 20.0
"""Seconds for one answer, whatever else the server does; longer than it allows a statement."""


class Pulse:
    """Whether a server lives, for all who wait for it. From any thread.

    *knock* makes one connection and closes it; raises `psycopg.Error` when it cannot.
    """

    def __init__(
        self, knock: Callable[[], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._knock = knock
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._lives = True
        self.closed = False
        """Nobody waits any more: the store is closed."""

    def beats(self, silent_since: float) -> bool:
        """Whether the server answered at *silent_since* or later; knocks when nobody has asked."""
        with self._lock:
            if self._asked_at < silent_since:
                self._lives = self._opened()
                self._asked_at = self._clock()
            return self._lives

    def _opened(self) -> bool:
        try:
            self._knock()
        except errors.ConnectionTimeout:
            return False
        except psycopg.Error:  # refused, too many, going down: somebody said so
            return True
        return True

    def watch(
        self, answer: Generator[Any, Any, T], enough: float = ENOUGH
    ) -> Generator[Any, Any, T]:
        """Pass on what *answer* waits for; raises `Silent` when that will not come."""
        began = heard_at = self._clock()
        try:
            wanted = next(answer)
            while True:
                ready = yield wanted
                now = self._clock()
                if ready:
                    heard_at = now
                elif self.closed or now - began > enough:
                    raise Silent
                elif now - heard_at > LATE:
                    if not self.beats(heard_at):
                        raise Silent
                    heard_at = self._clock()
                wanted = answer.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result


class Silent(psycopg.OperationalError):
    """The server says nothing any more, or nobody listens."""

    def __init__(self) -> None:
        super().__init__("the server does not answer")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that ends itself when its server stands still."""

    pulse: Pulse | None = None
    enough = ENOUGH
    """Seconds for one answer of a server that lives."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Run *gen* to its end, as the library does; by *pulse* unless it has a time-out."""
        if self.pulse is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(self.pulse.watch(gen, self.enough), interval)
        except Silent:
            self.close()  # what comes late answers nothing
            raise
