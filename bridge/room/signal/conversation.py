"""A signalling machine with its clock and whatever socket it has at the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from bridge.room.signal.outputs import JoinedRoom, Output, Transmit
from bridge.room.signal.protocol import Signalling
from bridge.room.signal.socket import Socket

log = structlog.get_logger(__name__)

_PARTING: Final = (Transmit, JoinedRoom)
"""What still counts while we leave."""


class Conversation:
    """One participant's talk with its server, over one socket after the other.

    *perform* is given what the machine wants done, all but what is sent; *lost* is called
    when the socket has ended, for whatever reason.
    """

    def __init__(
        self,
        machine: Signalling,
        perform: Callable[[Output], None],
        lost: Callable[[], None],
    ) -> None:
        self.machine = machine
        self._perform = perform
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._socket: Socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def has_socket(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    def attach(self, socket: Socket) -> None:
        """Talk on *socket* from now on."""
        self._socket = socket
        self.machine.opened(self._loop.time())
        self._reader = self._loop.create_task(self._read(socket))
        self._schedule()

    def run(self) -> None:
        """Do what the machine wants done."""
        for output in self.machine.take():
            if isinstance(output, Transmit):
                if self._socket is not None:
                    self._socket.send(output.data)
            elif not self._stopped or isinstance(output, _PARTING):
                self._perform(output)
        self._schedule()

    def drop(self) -> None:
        """Give up the socket, dead or dismissed; what follows is as if it had been lost."""
        if self._socket is not None:
            self._socket.abort()

    async def answered(self, milestone: asyncio.Future[None], timeout: float) -> bool:
        """Wait for *milestone* on the present socket; False: it ended, or too late: it is gone."""
        socket, reader = self._socket, self._reader
        if socket is None or reader is None:
            return False
        either: set[asyncio.Future[None]] = {milestone, reader}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._socket is socket and milestone.done():
            return True
        if self._socket is socket:
            self._socket = None
            socket.abort()
        return False

    def stop(self) -> None:
        """Perform nothing more but what belongs to a goodbye."""
        self._stopped = True
        self._schedule()

    async def ended(self, timeout: float) -> None:
        """Wait until the server has closed the socket, at most *timeout* seconds."""
        if self._socket is not None:
            await self._socket.ended(timeout)

    async def free(self, timeout: float) -> None:
        """End the socket at once."""
        self.stop()
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
            await asyncio.wait({reader})
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.abort()
            await socket.ended(timeout)

    async def _read(self, socket: Socket) -> None:
        async for data in socket.messages():
            self.machine.receive(data, self._loop.time())
            try:
                self.run()
            except Exception:  # one notice's bug must not end the reading
                log.exception("room.signal_failed")
        if self._socket is socket:
            self._socket = None
            self.machine.closed()
            self._schedule()
            if not self._stopped:
                self._lost()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._stopped else self.machine.next_deadline()
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.machine.tick(self._loop.time())
        self.run()
