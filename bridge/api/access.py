"""Who asks, once the door has let them in: an API key, a JWT, or this machine itself."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

TENANTS: Final = uuid.NAMESPACE_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What somebody may do. ``name`` is the key's, ``""`` for this machine without keys.

    ``tenant`` None: calls of every tenant are theirs to see (without keys, and by the
    permission ``admin``). ``plan`` names one of ``[[plan]]``, ``credit`` is the balance.
    """

    name: str
    tenant: str | None
    plan: str
    permissions: frozenset[str]
    credit: float

    def sees(self, tenant: str | None) -> bool:
        """Whether a call of *tenant* is theirs to see; one of nobody (inbound) is everybody's."""
        return self.tenant is None or tenant is None or tenant == self.tenant


HERE: Final = Access(
    name="", tenant=None, plan="enterprise", permissions=frozenset(("stt", "tts", "llm")), credit=0
)
"""Who asks on loopback without keys."""


def tenant_of(name: str, configured: str) -> str:
    """Return a key's tenant: the *configured* one, else the UUIDv5 of its *name*."""
    return configured or str(uuid.uuid5(TENANTS, name))


def access_of(request: Request) -> Access:
    """Return who asks; set by `bridge.api.auth.Gate`."""
    access: Access = request.state.access
    return access
