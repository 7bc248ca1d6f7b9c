"""Digest challenges of the carrier. RFC 2617 3.2 (MD5, qop auth), written by hand."""

from __future__ import annotations

import hashlib
import re
import secrets

from bridge.sip.message import Request

REALM = "carrier.invalid"

_HEADERS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}


def challenge_value(status: int) -> tuple[str, str, str]:
    """Return name and value of the challenge for 401 or 407, and its nonce."""
    nonce = secrets.token_hex(16)
    value = f'Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5, qop="auth"'
    return _HEADERS[status][0], value, nonce


def check_credentials(
    request: Request, status: int, nonce: str, credentials: tuple[str, str] | None
) -> str | None:
    """Return what is wrong with the credentials in *request*; None when they are right.

    Without *credentials* of our own only the form can be checked.
    """
    name = _HEADERS[status][1]
    value = request.headers.get(name)
    if value is None:
        return f"the second {request.method} has no {name}"
    fields = {
        key.lower(): quoted or plain
        for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,"]+))', value)
    }
    if fields.get("nonce") != nonce:
        return "the credentials are for another nonce"
    if fields.get("realm") != REALM:
        return "the credentials are for another realm"
    if fields.get("uri") != request.uri:
        return "the credentials are for another uri"
    if credentials is None:
        return None
    return _check_response(request.method, fields, credentials)


def _check_response(
    method: str, fields: dict[str, str], credentials: tuple[str, str]
) -> str | None:
    user, password = credentials
    if fields.get("username") != user:
        return "the credentials are another user's"
    ha1 = _md5(f"{user}:{REALM}:{password}")
    ha2 = _md5(f"{method}:{fields['uri']}")
    parts = [ha1, fields["nonce"]]
    if "qop" in fields:
        parts += [fields.get("nc", ""), fields.get("cnonce", ""), fields["qop"]]
    if fields.get("response") != _md5(":".join([*parts, ha2])):
        return "the digest response is wrong"
    return None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
