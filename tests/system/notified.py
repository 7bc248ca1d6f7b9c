"""The service manager's end of NOTIFY_SOCKET."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.system.harness import DEADLINE


@dataclass(frozen=True, kw_only=True)
class Told:
    """One datagram: when it came, and its assignments."""

    at: float
    lines: tuple[str, ...]


class NotifySocket:
    """Listens and keeps what it is told, in order. An async context manager.

    *path* is a file, or ``@name`` in the abstract namespace, which every mount namespace sees.
    """

    def __init__(self, path: Path | str) -> None:
        self.address = str(path)
        self.told: list[Told] = []
        self._changed = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        abstract = self.address.startswith("@")
        self._socket.bind(f"\0{self.address[1:]}" if abstract else self.address)
        self._socket.settimeout(0)

    async def __aenter__(self) -> NotifySocket:
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(65536).decode().split("\n")
                self.told.append(Told(at=time.monotonic(), lines=tuple(lines)))
                self._changed.set()

    def environ(self, watchdog: float = 0.0) -> dict[str, str]:
        """Return what systemd sets for the service."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(watchdog * 1e6))}

    def saying(self, line: str, since: float = 0.0) -> list[Told]:
        """Return the datagrams with this line, since a moment."""
        return [told for told in self.told if line in told.lines and told.at >= since]

    async def hears(self, line: str, since: float = 0.0, within: float = DEADLINE) -> Told:
        """Wait for a datagram with this line that came at or after *since*."""
        deadline = time.monotonic() + within
        while True:
            self._changed.clear()
            found = self.saying(line, since)
            if found:
                return found[0]
            left = deadline - time.monotonic()
            if left <= 0:
                story = "\n".join(str(told) for told in self.told[-20:])
                raise AssertionError(f"not told within {within:g} s: {line}\n{story}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
