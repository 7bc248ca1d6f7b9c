"""``trunkbridge calls``"""

from __future__ import annotations

import asyncio
import signal
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from bridge.cli.options import ConfigOption, JsonOption, UrlOption, client_of, fail, show_json
from bridge.cli.table import plain, pretty
from bridge.cli.timeline import line_of
from trunkbridge.client import ApiError, Client

HELP = """List the calls of a running daemon, newest first.

With --watch the table stays up to date until Ctrl-C: calls that run and those that ended
meanwhile. Where there is no terminal, or with --json, each event is a line as it happens.

\b
Example: trunkbridge calls --watch
"""

GONE = 404
_KEPT = 30  # calls that ended while somebody watches
_PATIENCE = 0.5  # seconds for a cancellation to be obeyed
_REFRESH = 1.0  # seconds: how long somebody has talked


class Status(StrEnum):
    """What a call's status may be."""

    PENDING = "pending"
    CONNECTING = "connecting"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    DISCONNECTED = "disconnected"
    TIMEOUT = "timeout"


def calls(
    watch: Annotated[bool, typer.Option("--watch", help="Show what happens, live.")] = False,
    status: Annotated[Status | None, typer.Option(help="Only calls with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many calls.")] = 20,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    client = client_of(url, config)
    console = Console()
    try:
        if not watch:
            asyncio.run(_list(client, console, status, limit, as_json=as_json))
        elif as_json or not console.is_terminal:
            asyncio.run(_until_interrupted(_follow(client, as_json=as_json)))
        else:
            asyncio.run(_until_interrupted(Board(client, console).run()))
    except ApiError as failure:
        fail(f"calls: {failure}")
    except KeyboardInterrupt:
        return  # in the moment before the watch


async def _until_interrupted(watch: Coroutine[Any, Any, None]) -> None:
    """Run *watch* until Ctrl-C, which is how a watch ends."""
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    watching = asyncio.create_task(watch)
    waiting = asyncio.create_task(interrupted.wait())
    await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not watching.done():
        await _cancelled(watching)
        return
    watching.result()


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel *task* until it has ended: a stream that is just being set up may lose one."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE)


async def _list(
    client: Client, console: Console, status: Status | None, limit: int, *, as_json: bool
) -> None:
    async with client:
        found = await client.calls(status=status, page_size=limit)
    if as_json:
        for call in found:
            show_json(call)
    elif console.is_terminal:
        console.print(pretty(found, console.width))
    else:
        for line in plain(found):
            typer.echo(line)


async def _follow(client: Client, *, as_json: bool) -> None:
    """Print each event of all calls on a line, at once."""
    async with client:
        async for event in client.events():
            if as_json:
                show_json(event.data)
            else:
                typer.echo(f"{event.call_id}  {line_of(event.data)}")


class Board:
    """The live table. Its rows are asked for again when something happened to their call."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console
        self._calls: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._changed = asyncio.Event()
        self._stale: set[str] = set()

    async def run(self) -> None:
        """Show the table until the daemon is gone for good: `ApiError`."""
        async with self._client:
            listener = asyncio.create_task(self._listen())
            listener.add_done_callback(lambda _: self._changed.set())
            try:
                await self._changed.wait()
                with Live(console=self._console, auto_refresh=False) as live:
                    while not listener.done():
                        live.update(
                            pretty(self.rows, self._console.width, self._title), refresh=True
                        )
                        await self._next()
                listener.result()
            finally:
                await _cancelled(listener)

    async def _next(self) -> None:
        """Wait for something to show, or for a second of talk."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REFRESH):
                await self._changed.wait()
        await self._ask()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The calls to show, newest first."""
        return sorted(self._calls.values(), key=lambda call: call["created_at"], reverse=True)

    @property
    def _title(self) -> str:
        running = sum(1 for call in self._calls.values() if call["outcome"] is None)
        return f"{running} call{'' if running == 1 else 's'} now, Ctrl-C ends this view"

    async def _listen(self) -> None:
        position = await self._client.position()
        for call in await self._client.active():
            self._calls[call["id"]] = call
        self._changed.set()
        async for event in self._client.events(after=position):
            self._stale.add(event.call_id)
            self._changed.set()

    async def _ask(self) -> None:
        for call_id in list(self._stale):
            self._stale.discard(call_id)  # first: an event that comes meanwhile asks again
            try:
                self._calls[call_id] = await self._client.call(call_id).status()
            except ApiError as failure:
                if failure.status != GONE:
                    self._stale.add(call_id)
                    return  # a daemon that restarts: asked again
        over = [call["id"] for call in self._calls.values() if call["outcome"] is not None]
        for call_id in over[:-_KEPT]:
            del self._calls[call_id]
