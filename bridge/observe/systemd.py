"""What the service manager is told: sd_notify(3), without a library.

Nothing is sent when ``NOTIFY_SOCKET`` is not set. The watchdog is fed from the main loop,
and only while everything a call needs is alive: a wedged process is killed and started
again rather than left with its port open.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

_log = structlog.get_logger(__name__)

TURN: Final = 1.0
"""Seconds between two looks at the status."""
RETRY: Final = 0.1
"""Part of the watchdog's time after which a failed look is repeated: one bad moment heals."""
EXTENSION: Final = 15.0
"""Seconds of life asked for while stopping; asked for again in every turn."""
_LONGEST_STATUS: Final = 400  # characters


class Notifier:
    """Sends datagrams to the service manager; *address* as in ``NOTIFY_SOCKET``, "" for nobody.

    A path, or ``@name`` in Linux's abstract namespace. Never blocks, never raises.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._failed = False
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(0)

    @property
    def present(self) -> bool:
        """Whether anybody wants to know."""
        return self._socket is not None

    def tell(self, *assignments: str) -> bool:
        """Send ``NAME=value`` lines as one datagram; False when it could not be sent."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as failure:
            if not self._failed:
                _log.warning("systemd.notify_failed", why=failure.strerror or str(failure))
            self._failed = True
            return False
        self._failed = False
        return True

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Clock(Protocol):
    """What a clock says of itself."""

    @property
    def turns(self) -> int:
        """Turns so far."""

    @property
    def ought_to_turn(self) -> bool:
        """Whether there is something to do: `turns` must advance."""


class ClockSign:
    """Whether a clock that ought to turn has turned since the last look."""

    def __init__(self, read: Callable[[], Clock]) -> None:
        self._read = read
        self._last: int | None = None

    def alive(self) -> bool:
        """Look. A clock that had nothing to do at the last look is given until the next."""
        clock, before = self._read(), self._last
        self._last = clock.turns if clock.ought_to_turn else None
        return self._last is None or before is None or clock.turns != before


class Phase(enum.Enum):
    """How far the process is, as systemd sees it."""

    STARTING = enum.auto()
    RUNNING = enum.auto()
    DRAINING = enum.auto()
    ENDING = enum.auto()


_PHASES: Final = {
    Phase.STARTING: "starting",
    Phase.RUNNING: "",
    Phase.DRAINING: "draining",
    Phase.ENDING: "stopping",
}


class Unit:
    """This process as a unit of systemd.

    *watchdog* is ``WATCHDOG_USEC`` in seconds, 0 for none. `start` belongs on the running
    loop. *dead* of `start` names the parts that do not live; it is asked in every half of
    *watchdog*, must not take longer than a fourth of it, and while it names something the
    watchdog is not fed. *status* of `start` is one line for ``systemctl status``.
    """

    def __init__(
        self, notifier: Notifier, *, watchdog: float = 0.0, state: Path | None = None
    ) -> None:
        self.state = state
        """The folder of ``StateDirectory=``, where what is kept belongs; None without a unit."""
        self._notifier = notifier
        self._watchdog = watchdog
        self._phase = Phase.STARTING
        self._unsaid: list[str] = []  # could not be sent yet; nothing of it may be lost
        self._status: Callable[[], str] = lambda: ""
        self._remark = ""
        self._said_status = ""
        self._dead: Callable[[], Awaitable[list[str]]] | None = None
        self._withheld = False
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def nobodys(cls) -> Unit:
        """Return a unit that nobody looks after: nothing is said."""
        return cls(Notifier(""))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Unit:
        """Return what ``NOTIFY_SOCKET``, ``WATCHDOG_*`` and ``STATE_DIRECTORY`` say we are."""
        address = environ.get("NOTIFY_SOCKET", "")
        # systemd.exec(5): several state folders are separated by colons.
        state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls(
            Notifier(address if address.startswith(("/", "@")) else ""),
            watchdog=_watchdog_of(environ),
            state=Path(state) if state else None,
        )

    def start(self, *, dead: Callable[[], Awaitable[list[str]]], status: Callable[[], str]) -> None:
        """Say that we are ready, and begin to feed the watchdog."""
        self._dead, self._status = dead, status
        if self._phase is Phase.STARTING:  # else a signal came during the start
            self._phase = Phase.RUNNING
        if not self._notifier.present:
            return
        self._say("READY=1")
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._turn()))
        if self._watchdog:
            self._tasks.append(loop.create_task(self._feed()))

    @contextmanager
    def reload(self) -> Iterator[None]:
        """Say that a reload runs, then that it is over; a failed one stays in the status."""
        ready = self._phase is not Phase.STARTING  # a signal during the start: not yet
        # sd_notify(3): RELOADING=1 wants MONOTONIC_USEC= with it, CLOCK_MONOTONIC in us.
        if ready:
            self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        except Exception:
            self._remark = "the last reload was refused, see the log"
            raise
        else:
            self._remark = ""
        finally:
            if ready:
                self._say("READY=1")

    def draining(self) -> None:
        """Say that we are going to stop; running calls may take longer than systemd waits."""
        self._phase = Phase.DRAINING
        self._say("STOPPING=1", _extension())

    def ending(self) -> None:
        """The listeners are about to be closed: from now on only the loop has to turn."""
        if self._phase is not Phase.DRAINING:
            self._say("STOPPING=1", _extension())
        self._phase = Phase.ENDING

    async def stop(self) -> None:
        """End the tasks and close the socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._notifier.close()

    # What is said.

    def _say(self, *assignments: str) -> None:
        """Send at once, with the status as it is now; what cannot be sent is kept, in order."""
        if not self._notifier.present:
            return
        self._unsaid += assignments
        status = self._line()
        if self._notifier.tell(*self._unsaid, f"STATUS={status}"):
            self._unsaid.clear()
            self._said_status = status

    def _line(self) -> str:
        parts = (_PHASES[self._phase], self._status(), self._remark)
        text = "; ".join(part for part in parts if part)
        return " ".join(text.split())[:_LONGEST_STATUS]

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(TURN)
            if self._phase in (Phase.DRAINING, Phase.ENDING):
                self._notifier.tell(_extension())
            if self._unsaid or self._line() != self._said_status:
                self._say()

    # The watchdog.

    async def _feed(self) -> None:
        """Feed twice in every *watchdog* seconds, sooner again when a look has failed."""
        while True:
            dead = await self._look()
            if not dead:
                self._notifier.tell("WATCHDOG=1")
            if bool(dead) is not self._withheld:
                self._withheld = bool(dead)
                if dead:
                    _log.error("systemd.watchdog_withheld", dead=dead)
                else:
                    _log.warning("systemd.watchdog_fed_again")
            await asyncio.sleep(self._watchdog * (RETRY if dead else 0.5))

    async def _look(self) -> list[str]:
        if self._phase is Phase.ENDING or self._dead is None:
            return []
        try:
            async with asyncio.timeout(self._watchdog / 4):
                return await self._dead()
        except TimeoutError:
            return ["the look itself"]


def _watchdog_of(environ: Mapping[str, str]) -> float:
    """Return the watchdog's seconds, 0 when there is none or it is another process's."""
    # sd_watchdog_enabled(3): meant for us when WATCHDOG_PID is unset or our own.
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0, int(environ.get("WATCHDOG_USEC", "0"))) / 1e6
    except ValueError:
        return 0.0


def _extension() -> str:
    return f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}"
