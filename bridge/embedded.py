"""A daemon inside the caller's process and loop: `bridge.Bridge`.

async with Bridge(config="trunkbridge.toml") as bridge:
    call = await bridge.dial("+919876543210", agent="support")
    async for event in call.events():
        print(event.name)

It *is* a `trunkbridge.Client`, so that a program can change from one to the other: every verb
is answered by the API's own app, without a socket, a key or a thread in between; events come
from the journal's feed.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import structlog
from fastapi import FastAPI
from starlette.requests import Request

from bridge.api.access import Access
from bridge.api.auth import Gatekeeper
from bridge.api.problems import setting_of
from bridge.call.requests import BadConfiguration, Unavailable
from bridge.config.config import Config
from bridge.config.loading import ConfigError, find_config, from_values, load
from bridge.daemon import Daemon
from bridge.errors import MisuseError
from bridge.feed import Feed
from bridge.observe import logs
from bridge.sessions.requests import NEEDED, NO_PLAN
from trunkbridge.client import PATIENCE, ApiError, Client, Event
from trunkbridge.client import Call as ClientCall

Given = Config | Mapping[str, Any] | str | os.PathLike[str]
"""A configuration: checked already, plain data as in the file, or the file."""

_URL: Final = "http://127.0.0.1"
"""What the app is told it was asked at; nothing goes there."""

_OPERATOR: Final = Access(name="", tenant=None, plan=NO_PLAN, permissions=NEEDED, credit=0)
"""The program around the bridge: sees everything, and no plan limits it."""


class Bridge(Client):
    """One daemon. Use as ``async with``, or `start` and `stop` it.

    Without *config* the file is looked for as the command line does. HTTP is served only
    when ``[http] listen`` is given (port 0: a free one), and never needed. `start` raises
    `BridgeError` when it cannot run, `ConfigError` for a wrong configuration. Logs go
    where structlog is configured to, else to standard error as ``[log]`` says.
    """

    def __init__(self, config: Given | None = None) -> None:
        self._config, self._path = _read(config)
        self._daemon: Daemon | None = None
        self._feed: Feed | None = None
        super().__init__(_URL, transport=_Inside(lambda: self._running))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen for SIP, on the running loop."""
        if self._daemon is not None:
            raise MisuseError("this bridge was started already")
        if not structlog.is_configured():
            logs.configure(self._config.log.level, self._config.log.format)
        serve_http = "listen" in self._config.http.model_fields_set
        self._daemon = Daemon(self._config, path=self._path, serve_http=serve_http)
        self._feed = self._daemon.follow()
        await self._daemon.start()

    async def stop(self) -> None:
        """Hang up what still runs, and stop. A stopped bridge does not start again."""
        if self._daemon is not None:
            await self._daemon.stop()

    async def aclose(self) -> None:
        """`stop`."""
        await self.stop()

    @property
    def sip_addresses(self) -> list[str]:
        """Where SIP is heard, as ``transport:host:port``, with the real ports."""
        return self._running.sip_addresses

    @property
    def url(self) -> str | None:
        """Where HTTP is served; None when it is not."""
        return self._running.http_address if self._running.serves_http else None

    # What is not asked of the app.

    def _call(self, call_id: str, accepted: Mapping[str, Any]) -> Call:
        return Call(self, call_id, accepted)

    async def events(
        self, *, after: int | None = None, patience: float = PATIENCE
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of all calls from now on, or after an `Event.id`.

        ``after=0`` begins at the first event of the journal. Ends when the bridge stops.
        Nothing is lost on the way, so that no *patience* is needed.
        """
        del patience
        feed = self._following
        with _as_answers(), feed.seat():
            start = await feed.last_position() if after is None else after
            async with aclosing(feed.everything(start)) as batches:
                async for batch in batches:
                    for one in batch:
                        yield _event(one.body, one.position)

    async def reload(self, config: Given | None = None) -> dict[str, list[str]]:
        """Re-read the file, or take another *config*; return what is different now.

        ``changed`` is in force, ``restart`` waits for a new bridge. Raises `ApiError` 422
        for a bad configuration; nothing changed.
        """
        if config is None:
            return await super().reload()
        with _as_answers():
            return self._running.take(_read(config)[0]).as_dict()

    @property
    def _running(self) -> Daemon:
        if self._daemon is None:
            raise MisuseError("the bridge was not started")
        return self._daemon

    @property
    def _following(self) -> Feed:
        if self._feed is None:
            raise MisuseError("the bridge was not started")
        return self._feed


class Call(ClientCall):
    """One call. ``accepted`` is what `Bridge.dial` was answered."""

    def __init__(self, bridge: Bridge, call_id: str, accepted: Mapping[str, Any]) -> None:
        super().__init__(bridge, call_id, accepted)
        self._bridge = bridge

    async def events(
        self, *, after: int = 0, patience: float = PATIENCE
    ) -> AsyncGenerator[Event, None]:
        """Yield every event after the seq *after*, as it happens; ends after ``call_ended``."""
        del patience
        feed = self._bridge._following
        call = await self.status()
        if call["ended_at"] is not None and after >= call["seq"]:
            return
        with _as_answers(), feed.seat():
            async with aclosing(feed.of_call(call["id"], after)) as batches:
                async for batch in batches:
                    for one in batch:
                        yield _event(one.body, one.seq)


class _Insider(Gatekeeper):
    """Lets the program around the bridge in."""

    def __init__(self) -> None:
        super().__init__(())

    def admit(self, request: Request) -> Access:
        """Whoever has the object may do everything."""
        del request
        return _OPERATOR


class _Inside(httpx.AsyncBaseTransport):
    """The way to the app of a daemon of this process, which is made when it is first needed."""

    def __init__(self, daemon: Callable[[], Daemon]) -> None:
        self._daemon = daemon
        self._app: FastAPI | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Have the app answer *request*."""
        if self._app is None:
            self._app = self._daemon().app(_Insider())
        way = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        return await way.handle_async_request(request)


def _read(given: Given | None) -> tuple[Config, Path | None]:
    match given:
        case Config():
            return given, None
        case Mapping():
            return from_values(given), None
        case _:
            path = find_config(None if given is None else str(given))
            return load(path), path


def _event(body: str, id_: int) -> Event:
    data = json.loads(body)
    return Event(name=data["event"], call_id=data["call_id"], seq=data["seq"], id=id_, data=data)


@contextmanager
def _as_answers() -> Iterator[None]:
    """Raise what the API would have answered."""
    try:
        yield
    except (BadConfiguration, ConfigError) as failure:
        errors = [{"field": setting_of(line), "message": line} for line in failure.lines]
        raise ApiError(422, str(failure), {"errors": errors}) from failure
    except Unavailable as failure:
        raise ApiError(503, str(failure), retry_after=failure.retry_after) from failure
