"""Who may ask: bearer keys, or, on loopback without keys, only this machine itself."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import HTTPException, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that may call the API."""

    name: str
    secret: str


def _host_of(header: str) -> str:
    return header.rsplit("]", 1)[0].strip("[") if header.startswith("[") else header.split(":")[0]


class Gatekeeper:
    """Checks every request of the API (contract 6, last paragraph).

    With keys: ``Authorization: Bearer <key>``. Without: the ``Host`` must be loopback
    and a body must be ``application/json``, so that no web page can dial through a
    browser on this machine.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = tuple(keys)

    async def __call__(self, request: Request) -> str:
        """Return the name of the key, ``""`` without keys. Raises 401, 403 or 415."""
        if not self._keys:
            self._check_local(request)
            return ""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            for key in self._keys:
                if hmac.compare_digest(key.secret.encode(), given.strip().encode()):
                    return key.name
        raise HTTPException(
            401, "no or wrong key: Authorization: Bearer <key>", {"WWW-Authenticate": "Bearer"}
        )

    def _check_local(self, request: Request) -> None:
        host = _host_of(request.headers.get("host", ""))
        if not (host in ("localhost", "::1") or host.startswith("127.")):
            raise HTTPException(403, "without keys the Host must be loopback")
        has_body = request.headers.get("content-length", "0") != "0" or (
            "transfer-encoding" in request.headers
        )
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if has_body and media_type != "application/json":
            raise HTTPException(415, "without keys a body must be application/json")
