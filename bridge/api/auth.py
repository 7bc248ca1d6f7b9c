"""Who may ask: bearer keys and tokens, or, on loopback without, only this machine itself."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api import access
from bridge.api.access import Access, tenant_of
from bridge.api.envelope import ENVELOPED, refusal
from bridge.api.problems import problem
from bridge.api.tokens import PERMISSIONS, PLAN, BadTokenError, read_token

OPEN: Final = frozenset(("/", "/healthz", "/readyz", "/openapi.json"))
"""What anybody may read; it says nothing about calls."""

SIGNED: Final = frozenset(("/livekit/webhook",))
"""What LiveKit posts to: its own JWT over the body says who asks."""

LOCAL: Final = frozenset(("/metrics",))
"""What programs of this machine may read without a key (contract 6)."""

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

_NOBODY: Final = Access(name="", tenant="", plan="", permissions=frozenset(), credit=0)
"""Who reads what is open: sees nobody's calls."""

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request's body; a call's own limits are far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that may call the API; the fields are those of ``[[http.key]]``."""

    name: str
    secret: str = field(repr=False)
    tenant: str = ""
    plan: str = PLAN
    permissions: frozenset[str] = PERMISSIONS
    credit: float = 0

    @property
    def access(self) -> Access:
        """What its bearer may do."""
        return Access(
            name=self.name,
            tenant=tenant_of(self.name, self.tenant),
            plan=self.plan,
            permissions=self.permissions,
            credit=self.credit,
        )


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name such as 127.example.com


def _host_of(authority: str) -> str | None:
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def is_from_here(request: Request) -> bool:
    """Whether a program of this machine asks for itself, and no proxy for somebody else."""
    peer = request.client
    return (
        peer is not None
        and _is_loopback(peer.host)
        and _is_loopback(_host_of(request.headers.get("host", "")))
        and not any(name in request.headers for name in _FORWARDED)
    )


class Gatekeeper:
    """Checks every request (contract 6, last paragraph).

    With keys or a *jwt_secret*: ``Authorization: Bearer <key or token>``. Without: the
    ``Host`` must be loopback, so must be the ``Origin`` when there is one, and a body must
    be ``application/json``, so that no web page can dial through a browser on this machine.
    """

    def __init__(self, keys: Sequence[ApiKey], jwt_secret: str = "") -> None:
        self._known = (tuple(keys), jwt_secret)

    def replace_keys(self, keys: Sequence[ApiKey], jwt_secret: str | None = None) -> None:
        """Take new keys, and another secret of tokens unless it is None; from any thread."""
        self._known = (tuple(keys), self._known[1] if jwt_secret is None else jwt_secret)

    def admit(self, request: Request) -> Access:
        """Return who asks. Raises 401, 403 or 415."""
        keys, jwt_secret = self._known
        if not keys and not jwt_secret:
            self._check_local(request)
            return access.HERE
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        refusal = "no or wrong key: Authorization: Bearer <key>"
        if scheme.lower() == "bearer":
            given = given.strip(" \t")
            for key in keys:
                if hmac.compare_digest(key.secret.encode(), given.encode("latin-1")):
                    return key.access
            if jwt_secret and given.count(".") == 2:
                try:
                    return read_token(given, jwt_secret)
                except BadTokenError as failure:
                    refusal = str(failure)
        raise HTTPException(401, refusal, {"WWW-Authenticate": "Bearer"})

    def still_admits(self, request: Request) -> bool:
        """Whether who was admitted would be now, with the same rights: a key may have changed."""
        try:
            return self.admit(request) == access.access_of(request)
        except HTTPException:
            return False

    def _check_local(self, request: Request) -> None:
        if not _is_loopback(_host_of(request.headers.get("host", ""))):
            raise HTTPException(403, "without keys the Host must be loopback")
        origin = request.headers.get("origin")
        if origin is not None and not _is_loopback(_host_of(origin.partition("://")[2])):
            raise HTTPException(403, "without keys the Origin must be loopback")
        has_body = request.headers.get("content-length", "0") != "0" or (
            "transfer-encoding" in request.headers
        )
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if has_body and media_type != "application/json":
            raise HTTPException(415, "without keys a body must be application/json")


class Gate:
    """Lets a request in, or answers it, before anything of its body is read.

    ``access_of(request)`` says who asks afterwards.
    """

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        self._app = app
        self._gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            who = _NOBODY if _is_open(request) else self._gatekeeper.admit(request)
            _check_length(request.headers.get("content-length", "0"))
        except HTTPException as failure:
            await _refusal(request, failure)(scope, receive, send)
            return
        request.state.access = who
        await self._app(scope, _bounded(receive), send)


def _refusal(request: Request, failure: HTTPException) -> Response:
    """Return the answer in the words of the route: the older bridge's have an envelope."""
    headers = dict(failure.headers or {})
    if request.scope["path"].startswith(ENVELOPED):
        return refusal(failure.status_code, str(failure.detail), headers=headers)
    return problem(failure.status_code, str(failure.detail), headers=headers)


def _is_open(request: Request) -> bool:
    path = request.scope["path"]
    return path in OPEN or path in SIGNED or (path in LOCAL and is_from_here(request))


def _check_length(text: str) -> None:
    if not text.isdecimal() or int(text) > MAX_BODY:
        raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")


def _bounded(receive: Receive) -> Receive:
    """Return *receive* for a body of unknown length."""
    got = 0

    async def counted() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
        return message

    return counted
