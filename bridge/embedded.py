"""A daemon inside the caller's process and loop: `bridge.Bridge`.

async with Bridge(config="trunkbridge.toml") as bridge:
    call = await bridge.dial("+919876543210", agent="support")
    async for event in call.events():
        print(event.name)

The verbs, what they return and what they raise are `trunkbridge.Client`'s, so that a
program can change from one to the other; nothing goes over HTTP in between.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from pydantic import ValidationError

from bridge.api.models import CreateCall
from bridge.api.problems import named, sentence, setting_of
from bridge.call.requests import (
    BadConfiguration,
    BadRequest,
    NotAllowed,
    NotDone,
    OverLimit,
    Unavailable,
    WrongState,
)
from bridge.call.switchboard import Switchboard
from bridge.config import Config, ConfigError, find_config, from_values, load
from bridge.daemon import Daemon
from bridge.errors import MisuseError
from bridge.feed import Feed
from bridge.observe import logs
from trunkbridge.client import ApiError, Event

T = TypeVar("T")

Given = Config | Mapping[str, Any] | str | os.PathLike[str]
"""A configuration: checked already, plain data as in the file, or the file."""


class Bridge:
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

    @property
    def sip_addresses(self) -> list[str]:
        """Where SIP is heard, as ``transport:host:port``, with the real ports."""
        return self._running.sip_addresses

    @property
    def url(self) -> str | None:
        """Where HTTP is served; None when it is not."""
        return self._running.http_address if self._running.serves_http else None

    # Client's verbs.

    async def dial(
        self, phone_number: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Call:
        """Dial *phone_number*; *fields* are those of ``POST /api/v1/calls``.

        Returns as soon as the call is accepted. Raises `ApiError`.
        """
        given = {"phone_number": phone_number, **{k: v for k, v in fields.items() if v is not None}}
        with _as_answers():
            request = CreateCall(**given).request()
            accepted = await self._verbs.dial(request, key=idempotency_key)
        return Call(
            self,
            accepted.call_id,
            {
                "call_id": accepted.call_id,
                "room_name": accepted.room_name,
                "url": accepted.url,
                "token": accepted.token,
                "status": accepted.status,
            },
        )

    def call(self, call_id: str) -> Call:
        """Return a handle of a call that exists already."""
        return Call(self, call_id, {})

    async def calls(
        self, *, status: str | None = None, page: int = 1, page_size: int = 20
    ) -> list[dict[str, Any]]:
        """Return one page of the calls, newest first, those with *status* only."""
        with _as_answers():
            found, _ = await self._verbs.calls(
                status=status, limit=page_size, offset=(page - 1) * page_size
            )
        return found

    async def active(self) -> list[dict[str, Any]]:
        """Return every call without an end, oldest first."""
        return await self._verbs.active()

    async def events(self, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of all calls from now on, or after an `Event.id`.

        ``after=0`` begins at the first event of the journal. Ends when the bridge stops.
        """
        feed = self._following
        with _as_answers(), feed.seat():
            start = await feed.last_position() if after is None else after
            async with aclosing(feed.everything(start)) as batches:
                async for batch in batches:
                    for one in batch:
                        yield _event(one.body, one.position)

    async def position(self) -> int:
        """Return the `Event.id` of the last event so far, to give to `events` later."""
        with _as_answers():
            return await self._following.last_position()

    async def drain(self) -> int:
        """Take no new calls; return how many still run."""
        return await self._verbs.drain()

    async def reload(self, config: Given | None = None) -> dict[str, list[str]]:
        """Re-read the file, or take another *config*; return what is different now.

        ``changed`` is in force, ``restart`` waits for a new bridge. Raises `ApiError` 422
        for a bad configuration; nothing changed.
        """
        with _as_answers():
            if config is not None:
                return self._running.take(_read(config)[0]).as_dict()
            return await self._verbs.reload()

    async def ready(self) -> bool:
        """Return whether new calls are taken."""
        return all((await self._verbs.readiness()).values())

    @property
    def _running(self) -> Daemon:
        if self._daemon is None:
            raise MisuseError("the bridge was not started")
        return self._daemon

    @property
    def _verbs(self) -> Switchboard:
        return self._running.switchboard

    @property
    def _following(self) -> Feed:
        if self._feed is None:
            raise MisuseError("the bridge was not started")
        return self._feed


class Call:
    """One call. ``accepted`` is what `Bridge.dial` was answered."""

    def __init__(self, bridge: Bridge, call_id: str, accepted: Mapping[str, Any]) -> None:
        self._bridge = bridge
        self.id = call_id
        self.accepted = dict(accepted)

    async def status(self) -> dict[str, Any]:
        """Return the call's resource as it is now."""
        with _as_answers():
            return _known(await self._bridge._verbs.find(self.id))

    async def history(self) -> list[Event]:
        """Return the events so far, and do not wait for more."""
        with _as_answers():
            events = _known(await self._bridge._verbs.events_of(self.id))
        return [_event(json.dumps(event), event["seq"]) for event in events]

    async def events(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield every event after the seq *after*, as it happens; ends after ``call_ended``."""
        feed = self._bridge._following
        with _as_answers(), feed.seat():
            call = _known(await self._bridge._verbs.find(self.id))
            if call["ended_at"] is not None and after >= call["seq"]:
                return
            async with aclosing(feed.of_call(self.id, after)) as batches:
                async for batch in batches:
                    for one in batch:
                        yield _event(one.body, one.seq)

    async def ladder(self) -> list[dict[str, Any]]:
        """Return the call's SIP messages in order; empty when they are kept no longer."""
        with _as_answers():
            return _known(await self._bridge._verbs.ladder(self.id))

    async def hangup(self) -> None:
        """End the call, also before its answer; nothing happens when it has ended."""
        with _as_answers():
            _known(await self._bridge._verbs.hang_up(self.id))

    async def hold(self) -> None:
        """Hold the far end; returns when it agreed.

        Raises `ApiError` 409 when the call's state forbids it, 502 when the far end
        refuses or does not answer.
        """
        with _as_answers():
            _known(await self._bridge._verbs.hold(self.id))

    async def resume(self) -> None:
        """End our own hold; as `hold`."""
        with _as_answers():
            _known(await self._bridge._verbs.resume(self.id))

    async def transfer(self, to: str) -> None:
        """Ask the far end to call *to* instead; returns when it has agreed to try.

        Raises `ApiError` 403 when ``transfer_allow`` does not name *to*, 409 when the call's
        state forbids it, 502 when the far end refuses. How it goes are ``call_transfer``.
        """
        with _as_answers():
            _known(await self._bridge._verbs.transfer(self.id, to))

    async def send_dtmf(self, digits: str) -> None:
        """Play keys to the far end: ``0-9 * # A-D``, ``w`` waits half a second."""
        with _as_answers():
            _known(await self._bridge._verbs.send_dtmf(self.id, digits))


def _read(given: Given | None) -> tuple[Config, Path | None]:
    match given:
        case Config():
            return given, None
        case Mapping():
            return from_values(given), None
        case _:
            path = find_config(None if given is None else str(given))
            return load(path), path


def _known(value: T | None) -> T:
    if value is None or value is False:
        raise ApiError(404, "no such call")
    return value


def _event(body: str, id_: int) -> Event:
    data = json.loads(body)
    return Event(name=data["event"], call_id=data["call_id"], seq=data["seq"], id=id_, data=data)


@contextmanager
def _as_answers() -> Iterator[None]:
    """Raise what the API would have answered."""
    try:
        yield
    except ValidationError as failure:
        errors = named([{**e, "loc": ("body", *e["loc"])} for e in failure.errors()])
        raise ApiError(422, sentence(errors), {"errors": errors}) from failure
    except BadRequest as failure:
        errors = [{"field": failure.field, "message": failure.text}]
        raise ApiError(422, str(failure), {"errors": errors}) from failure
    except (BadConfiguration, ConfigError) as failure:
        errors = [{"field": setting_of(line), "message": line} for line in failure.lines]
        raise ApiError(422, str(failure), {"errors": errors}) from failure
    except OverLimit as failure:
        raise ApiError(429, str(failure), retry_after=failure.retry_after) from failure
    except Unavailable as failure:
        raise ApiError(503, str(failure), retry_after=failure.retry_after) from failure
    except NotAllowed as failure:
        raise ApiError(403, str(failure)) from failure
    except WrongState as failure:
        raise ApiError(409, str(failure)) from failure
    except NotDone as failure:
        raise ApiError(502, str(failure)) from failure
