"""A client of the daemon's HTTP API.

async with Client("http://127.0.0.1:8080", key="…") as client:
    call = await client.dial("+919876543210", agent="support")
    async for event in call.events():
        print(event.name, event.data)
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import quote

import httpx

from trunkbridge.options import (
    CallOptions,
    CallQuery,
    DialOptions,
    SessionOptions,
    SessionStatus,
    given,
)
from trunkbridge.session import Session
from trunkbridge.sse import Message, Reader

PATIENCE = 300.0
"""Seconds a stream of events goes on trying to reach a daemon it has lost."""

_BACKOFF = 0.2, 5.0  # seconds before the first and the later attempts
_SILENCE = 45.0  # seconds; the daemon says something every 15
_PASSING = (429, 502, 503, 504)  # a daemon that stops, starts, or is full


class ApiError(Exception):
    """The daemon refused: ``status`` is the HTTP status, ``problem`` its document.

    ``status`` is 0 when the daemon could not be reached, ``retry_after`` the seconds it
    asks to wait, if it does.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        problem: Mapping[str, Any] | None = None,
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = dict(problem or {})
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a call: its name, number and the whole JSON object.

    ``id`` is what a stream is resumed with: the seq on a call's, the position in the
    daemon's journal on that of all calls.
    """

    name: str
    call_id: str
    seq: int
    id: int
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPage:
    """One page of calls, and how many there are in all."""

    items: list[dict[str, Any]]
    total: int
    page: int
    page_size: int
    pages: int


class Client:
    """Speaks to one daemon. Use as ``async with``, or `aclose` it.

    Raises ``ValueError`` for a *url* that is no HTTP address.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        key: str | None = None,
        *,
        timeout: float = 10,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!r} is no HTTP address, allowed: http://HOST:PORT")
        headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
        self._http = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=timeout,
            transport=transport,
            limits=httpx.Limits(max_keepalive_connections=20),  # a stream is a connection
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def dial(
        self,
        phone_number: str,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[DialOptions],
    ) -> Call:
        """Dial *phone_number*; *options* are the fields of ``POST /api/v1/calls``.

        Returns as soon as the daemon has accepted the call. With an *idempotency_key*
        a request may be sent again for 24 hours and is one call. Raises `ApiError`.
        """
        body = {"phone_number": phone_number, **given(options)}
        return await self._make("/api/v1/calls", body, idempotency_key)

    async def web_call(
        self, *, idempotency_key: str | None = None, **options: Unpack[CallOptions]
    ) -> Call:
        """Open a room for a browser and an agent: ``accepted`` has ``url`` and ``token``.

        Needs ``workflow_slug`` or ``agent``; otherwise as `dial`.
        """
        return await self._make(
            "/api/v1/calls", {"call_type": "voip", **given(options)}, idempotency_key
        )

    async def test_agent(
        self,
        agent_name: str,
        *,
        user_id: str | None = None,
        user_context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call:
        """Open a room for a browser and one agent, without a workflow."""
        named = {
            "agent_name": agent_name,
            "user_id": user_id,
            "user_context": user_context,
            "metadata": metadata,
        }
        return await self._make("/api/v1/calls/test-agent", given(named), None)

    async def _make(self, path: str, body: Mapping[str, Any], key: str | None) -> Call:
        headers = {} if key is None else {"Idempotency-Key": key}
        accepted = await self._ask("POST", path, json=body, headers=headers)
        return self._call(accepted["call_id"], accepted)

    def call(self, call_id: str) -> Call:
        """Return a handle of a call that exists already."""
        return self._call(call_id, {})

    def _call(self, call_id: str, accepted: Mapping[str, Any]) -> Call:
        return Call(self, call_id, accepted)

    async def page(
        self, *, page: int = 1, page_size: int = 20, **wanted: Unpack[CallQuery]
    ) -> CallPage:
        """Return one page of the calls that are *wanted*, newest first."""
        answer = await self._page(page, page_size, wanted)
        return CallPage(**{name: answer[name] for name in CallPage.__dataclass_fields__})

    async def calls(
        self, *, page: int = 1, page_size: int = 20, **wanted: Unpack[CallQuery]
    ) -> list[dict[str, Any]]:
        """Return the calls of one `page`."""
        found: list[dict[str, Any]] = (await self._page(page, page_size, wanted))["items"]
        return found

    async def _page(self, page: int, page_size: int, wanted: CallQuery) -> dict[str, Any]:
        params = {**given(wanted), "page": page, "page_size": page_size}
        answer: dict[str, Any] = await self._ask("GET", "/api/v1/calls", params=params)
        return answer

    async def all_calls(self, **wanted: Unpack[CallQuery]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield every call that is *wanted*, newest first, page by page, each once."""
        seen: set[str] = set()
        number = 1
        while True:
            page = await self.page(page=number, page_size=100, **wanted)
            for call in page.items:
                if call["id"] not in seen:  # what is new moves the others on
                    seen.add(call["id"])
                    yield call
            if number >= page.pages:
                return
            number += 1

    async def active(self, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Return every call without an end, oldest first; at most *limit*, which is 1 to 100."""
        params = given({"limit": limit})
        calls: list[dict[str, Any]] = await self._ask("GET", "/api/v1/calls/active", params=params)
        return calls

    # Voice sessions.

    async def create_session(self, **options: Unpack[SessionOptions]) -> Session:
        """Open a voice session: ``created`` has ``ws_url`` and ``token``.

        Raises `ApiError` 402, 403 and 429 as the key's plan and permissions say.
        """
        created = await self._ask("POST", "/v1/voice/sessions", json=given(options))
        return Session(self, created["id"], created)

    def session(self, session_id: str) -> Session:
        """Return a handle of a session that exists already."""
        return Session(self, session_id, {})

    async def sessions(
        self, *, status: SessionStatus | None = None, limit: int = 50, offset: int = 0
    ) -> list[dict[str, Any]]:
        """Return voice sessions, newest first."""
        params = given({"status": status, "limit": limit, "offset": offset})
        found: list[dict[str, Any]] = await self._ask("GET", "/v1/voice/sessions", params=params)
        return found

    # What agents tell of a room.

    async def post_transcript(
        self, room: str, entries: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> dict[str, int]:
        """Post what was said in *room*: ``speaker`` USER or AGENT, ``content``, ``timestamp``.

        Returns how many were ``stored`` and how many ``suppressed``, the call being held. The
        first post for a room ends the capture of what is streamed there.
        """
        kept: dict[str, int] = await self._ask("POST", _room(room, "transcripts"), json=entries)
        return kept

    async def post_metrics(self, room: str, report: Mapping[str, Any]) -> None:
        """Report what an agent measured in *room*; `trunkbridge.agent` does that by itself."""
        await self._ask("POST", _room(room, "metrics"), json=report)

    # The daemon.

    async def trunks(self) -> list[dict[str, Any]]:
        """Return every trunk: whether it can be reached, its calls, its last failures."""
        trunks: list[dict[str, Any]] = await self._ask("GET", "/api/v1/trunks")
        return trunks

    async def replay(self, delivery: str) -> None:
        """Have a webhook delivered again, with the same id."""
        path = f"/api/v1/webhooks/{quote(delivery, safe='')}/replay"
        await self._ask("POST", path)

    async def events(
        self, *, after: int | None = None, patience: float = PATIENCE
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of all calls from now on, or after an `Event.id`; never ends.

        ``after=0`` begins at the first event of the daemon's journal. A lost connection,
        or a daemon that restarts, is taken up again where it was, each event once;
        raises `ApiError` when that does not work for *patience* seconds.
        """
        last = "latest" if after is None else str(after)
        async for message in self._messages("/api/v1/events", last, patience):
            yield _event(json.loads(message.data), int(message.id))

    async def position(self) -> int:
        """Return the `Event.id` of the last event so far, to give to `events` later."""
        response = await self._send("GET", "/api/v1/events", params={"last_event_id": "latest"})
        try:
            return int(response.headers["Last-Event-ID"])
        except (KeyError, ValueError):
            raise self._no_bridge(response) from None

    async def drain(self) -> int:
        """Have the daemon take no new calls; return how many still run.

        Ask again to learn how many are left. Only a restart of the daemon ends it.
        """
        return int((await self._ask("POST", "/api/v1/drain"))["calls"])

    async def reload(self) -> dict[str, list[str]]:
        """Have the daemon re-read its configuration; return what is different now.

        ``changed`` is in force, ``restart`` waits for a restart. Raises `ApiError` 422 for
        a bad configuration, its ``problem["errors"]`` one for each line; nothing changed.
        """
        changes: dict[str, list[str]] = await self._ask("POST", "/api/v1/reload")
        return changes

    async def ready(self) -> bool:
        """Return whether the daemon takes new calls; False when nobody answers, too."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        response = await self._send(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise self._no_bridge(response) from None

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        if "json" in options:
            options["content"] = _encoded(options.pop("json"))
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as failure:
            raise self._unreachable(failure) from failure
        if not response.is_success:
            raise self._refusal(response)
        return response

    async def _messages(self, path: str, last: str, patience: float) -> AsyncIterator[Message]:
        """Yield a stream's messages; connect again, where it was, when it is lost."""
        connected = False
        lost = _Lost(patience)
        while True:
            try:
                async for message in self._connection(path, last):
                    connected = True
                    lost.reached()
                    last = message.id or last
                    if message.data:
                        lost.served()
                        yield message
            except _Finished:
                return
            except ApiError as failure:
                passing = failure.status == 0 or failure.status in _PASSING
                if not connected or not passing or lost.too_long():
                    raise
            await lost.wait()

    async def _connection(self, path: str, last: str) -> AsyncIterator[Message]:
        headers = {"Accept": "text/event-stream"}
        params = {}
        if last.isdecimal():
            headers["Last-Event-ID"] = last
        else:
            params["last_event_id"] = last
        usual = self._http.timeout
        timeout = httpx.Timeout(
            connect=usual.connect, read=_SILENCE, write=usual.write, pool=usual.pool
        )
        try:
            async with self._http.stream(
                "GET", path, headers=headers, params=params, timeout=timeout
            ) as response:
                if response.status_code == 204:
                    raise _Finished
                if not response.is_success:
                    await response.aread()
                    raise self._refusal(response)
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise self._no_bridge(response)
                reader = Reader()
                async for data in response.aiter_bytes():
                    for message in reader.feed(data):
                        yield message
        except (httpx.HTTPError, ValueError) as failure:
            raise self._unreachable(failure) from failure

    def _no_bridge(self, response: httpx.Response) -> ApiError:
        return ApiError(
            response.status_code, f"{self._http.base_url}: that is no answer of a bridge"
        )

    def _unreachable(self, failure: Exception) -> ApiError:
        return ApiError(0, f"{self._http.base_url}: {str(failure) or type(failure).__name__}")

    def _refusal(self, response: httpx.Response) -> ApiError:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        problem = answer if isinstance(answer, dict) else {}
        wait = response.headers.get("Retry-After", "")
        return ApiError(
            response.status_code,
            str(problem.get("detail") or f"HTTP {response.status_code} {response.reason_phrase}"),
            problem,
            retry_after=int(wait) if wait.isdecimal() else None,
        )


class Call:
    """One call. ``accepted`` is the daemon's answer to `Client.dial`."""

    def __init__(self, client: Client, call_id: str, accepted: Mapping[str, Any]) -> None:
        self._client = client
        self.id = call_id
        self.accepted = dict(accepted)
        self._path = f"/api/v1/calls/{quote(call_id, safe='')}"

    async def status(self) -> dict[str, Any]:
        """Return the call's resource as it is now."""
        resource: dict[str, Any] = await self._client._ask("GET", self._path)
        return resource

    async def history(self) -> list[Event]:
        """Return the events so far, and do not wait for more."""
        documents = await self._client._ask("GET", f"{self._path}/events")
        return [_event(data, data["seq"]) for data in documents]

    async def events(
        self, *, after: int = 0, patience: float = PATIENCE
    ) -> AsyncGenerator[Event, None]:
        """Yield every event after the seq *after*, as it happens; ends after ``call_ended``.

        Goes on after a lost connection and a restart of the daemon as `Client.events` does.
        """
        async for message in self._client._messages(f"{self._path}/events", str(after), patience):
            event = _event(json.loads(message.data), int(message.id))
            if event.seq <= after:
                continue
            after = event.seq
            yield event
            if event.name == "call_ended":
                return

    async def ladder(self) -> list[dict[str, Any]]:
        """Return the call's SIP messages in order; empty when they are kept no longer."""
        rungs: list[dict[str, Any]] = await self._client._ask("GET", f"{self._path}/ladder")
        return rungs

    async def transcript(self) -> list[dict[str, Any]]:
        """Return what was said, in order: ``role``, ``content``, ``timestamp``, …"""
        said: list[dict[str, Any]] = await self._client._ask("GET", f"{self._path}/transcript")
        return said

    async def metrics(self) -> dict[str, Any]:
        """Return what the call's agents measured; None what nobody told."""
        measured: dict[str, Any] = await self._client._ask("GET", f"{self._path}/metrics")
        return measured

    async def analysis(self) -> dict[str, Any]:
        """Return what was made of the conversation; None what nobody told."""
        made: dict[str, Any] = await self._client._ask("GET", f"{self._path}/analysis")
        return made

    async def cost(self) -> dict[str, Any]:
        """Return what the call cost, and what there was to pay for; None what nobody told."""
        cost: dict[str, Any] = await self._client._ask("GET", f"{self._path}/cost")
        return cost

    async def erase(self) -> None:
        """Forget what was said and who called. Raises `ApiError` 409 while the call runs."""
        await self._client._ask("POST", f"{self._path}/erase")

    async def hangup(self) -> None:
        """End the call, also before its answer; nothing happens when it has ended."""
        await self._client._ask("DELETE", self._path)

    async def hold(self) -> None:
        """Hold the far end; returns when it agreed.

        Raises `ApiError` 409 when the call's state forbids it, 502 when the far end
        refuses or does not answer.
        """
        await self._client._ask("POST", f"{self._path}/hold")

    async def resume(self) -> None:
        """End our own hold; as `hold`."""
        await self._client._ask("POST", f"{self._path}/resume")

    async def transfer(self, to: str) -> None:
        """Ask the far end to call *to* instead; returns when it has agreed to try.

        *to* is a phone number, a ``tel:`` or a ``sip:`` URI; or ``call:`` and the id of
        another call, which is taken over (attended). How it goes are ``call_transfer``
        events. Raises `ApiError` 403 when the trunk's ``transfer_allow`` does not name *to*,
        409 when the call's state forbids it, 422 when *to* is no target, 502 when the far
        end refuses or does not answer.
        """
        await self._client._ask("POST", f"{self._path}/transfer", json={"to": to})

    async def send_dtmf(self, digits: str) -> None:
        """Play keys to the far end: ``0-9 * # A-D``, ``w`` waits half a second.

        Raises `ApiError` 409 before the answer and on hold.
        """
        await self._client._ask("POST", f"{self._path}/dtmf", json={"digits": digits})


class _Finished(Exception):
    """There is nothing more to come."""


class _Lost:
    """A stream that is lost: since when, and how long to wait before the next attempt."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: float | None = None
        self._reached: float | None = None
        self._pause = _BACKOFF[0]

    def reached(self) -> None:
        """The daemon answers; only if that lasts the pauses begin anew."""
        self._since, self._reached = None, time.monotonic()

    def served(self) -> None:
        """It said something: whatever happens next is new."""
        self._pause = _BACKOFF[0]

    def too_long(self) -> bool:
        """Whether to give up."""
        return self._since is not None and time.monotonic() >= self._since + self._patience

    async def wait(self) -> None:
        """Wait; longer each time, never in step with others who lost the same daemon."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if self._reached is not None and now - self._reached >= _BACKOFF[1]:
            self._pause = _BACKOFF[0]
        self._reached = None
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
        self._pause = min(self._pause * 2, _BACKOFF[1])


def _encoded(body: Any) -> bytes:
    """Return *body* as JSON. Raises `ApiError`, as the daemon would, for what is none."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        fields = body.items() if isinstance(body, Mapping) else [("body", body)]
        wrong = [str(name) for name, value in fields if not _is_json(value)] or ["body"]
    message = "has a value that is not JSON"
    errors = [{"field": name, "message": message} for name in wrong]
    detail = "; ".join(f"{name}: {message}" for name in wrong)
    raise ApiError(422, detail, {"status": 422, "detail": detail, "errors": errors})


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _room(room: str, what: str) -> str:
    return f"/api/sessions/by-room/{quote(room, safe='')}/{what}"


def _event(data: Mapping[str, Any], id_: int) -> Event:
    return Event(name=data["event"], call_id=data["call_id"], seq=data["seq"], id=id_, data=data)
