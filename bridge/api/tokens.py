"""JSON Web Tokens as keys: who asks is written in the token (contract 3, ``http.jwt_secret``).

HS256 only. The claims: ``sub`` (who), ``tenant_id`` or ``tenant``, ``plan``, ``permissions``
(a list, or words in one text), ``credit``, ``exp``; what is missing is as with a key of
``[[http.key]]`` that does not say it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Final

import jwt
from jwt.warnings import InsecureKeyLengthWarning

from bridge.api.access import TOKEN, Access, tenant_of

ALGORITHMS: Final = ("HS256",)
PLAN: Final = "enterprise"
PERMISSIONS: Final = frozenset(("stt", "tts", "llm"))
LONGEST: Final = 256
"""Characters of a claim that names something."""


class BadTokenError(Exception):
    """The token is not one of ours, is over, or says what cannot be."""


def read_token(text: str, secret: str) -> Access:
    """Return whom *text* names. Raises `BadTokenError`; its text names the claim.

    RFC 7519 4.1: ``exp`` and ``nbf`` are obeyed where they stand; a token for an ``aud``
    is refused, because we are none.
    """
    try:
        with warnings.catch_warnings():  # how long the secret is was for the operator to say
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
            claims = jwt.decode(text, secret, algorithms=list(ALGORITHMS))
    except jwt.ExpiredSignatureError:
        raise BadTokenError("the token is over (exp)") from None
    except jwt.InvalidTokenError:
        raise BadTokenError("the token is not one that is accepted here") from None
    return _access(claims)


def _access(claims: Mapping[str, Any]) -> Access:
    who = _name(claims, "sub")
    tenant = _name(claims, "tenant_id") or _name(claims, "tenant")
    if not who and not tenant:
        raise BadTokenError("sub: missing, the token names nobody")
    permissions = _permissions(claims.get("permissions"))
    return Access(
        name=f"{TOKEN}{who}",
        tenant=tenant_of(who, tenant),
        plan=_name(claims, "plan") or PLAN,
        permissions=permissions,
        credit=_number(claims.get("credit")),
    )


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims.get(claim)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise BadTokenError(f"{claim}: not a name")
    return value


def _permissions(value: Any) -> frozenset[str]:
    if value is None:
        return PERMISSIONS
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadTokenError("permissions: not a list of words")
    return frozenset(words)


def _number(value: Any) -> float:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadTokenError("credit: not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadTokenError("credit: not a number")
    return number
