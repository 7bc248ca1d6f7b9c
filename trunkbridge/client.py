"""A client of the daemon's HTTP API.

async with Client("http://127.0.0.1:8080", key="…") as client:
    call = await client.dial("+919876543210", agent="support")
    async for event in call.events():
        print(event.name, event.data)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

_POLL = 0.25


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
    """One event of a call: its name, number and the whole JSON object."""

    name: str
    seq: int
    data: Mapping[str, Any]


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
            base_url=url, headers=headers, timeout=timeout, transport=transport
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
        self, phone_number: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Call:
        """Dial *phone_number*; *fields* are those of ``POST /api/v1/calls``.

        Returns as soon as the daemon has accepted the call. With an *idempotency_key*
        a request may be sent again for 24 hours and is one call. Raises `ApiError`.
        """
        body = {"phone_number": phone_number, **{k: v for k, v in fields.items() if v is not None}}
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        accepted = await self._ask("POST", "/api/v1/calls", json=body, headers=headers)
        return Call(self, accepted["call_id"], accepted)

    def call(self, call_id: str) -> Call:
        """Return a handle of a call that exists already."""
        return Call(self, call_id, {})

    async def active(self) -> list[dict[str, Any]]:
        """Return every call without an end."""
        calls: list[dict[str, Any]] = await self._ask("GET", "/api/v1/calls/active")
        return calls

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as failure:
            text = str(failure) or type(failure).__name__
            raise ApiError(0, f"{self._http.base_url}: {text}") from failure
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success and answer is not None:
            return answer
        if response.is_success:
            raise ApiError(response.status_code, f"{self._http.base_url}: no JSON: no bridge there")
        problem = answer if isinstance(answer, dict) else {}
        wait = response.headers.get("Retry-After", "")
        raise ApiError(
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

    async def events(self) -> AsyncIterator[Event]:
        """Yield every event from the first, as it happens; ends after ``call_ended``."""
        seen = 0
        while True:
            for data in await self._client._ask("GET", f"{self._path}/events"):
                if data["seq"] <= seen:
                    continue
                seen = data["seq"]
                yield Event(name=data["event"], seq=seen, data=data)
                if data["event"] == "call_ended":
                    return
            await asyncio.sleep(_POLL)

    async def hangup(self) -> None:
        """End the call, also before its answer."""
        await self._client._ask("DELETE", self._path)
