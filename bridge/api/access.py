"""Who asks, once the door has let them in: an API key, a JWT, or this machine itself."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

TENANTS: Final = uuid.NAMESPACE_URL
ADMIN: Final = "admin"
TOKEN: Final = "jwt:"  # noqa: S105 (no secret)
"""How names of JWTs begin; those of keys have no colon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What somebody may do. ``name`` is the key's, ``""`` for this machine without keys.

    ``tenant`` is whose the calls are that they make; None: nobody's (without keys). What
    they see is another matter: `scope`. ``plan`` names one of ``[[plan]]``, ``credit`` is the
    balance.
    """

    name: str
    tenant: str | None
    plan: str
    permissions: frozenset[str]
    credit: float

    @property
    def is_token(self) -> bool:
        """Whether it is a JWT's bearer, who need not be an operator."""
        return self.name.startswith(TOKEN)

    @property
    def scope(self) -> str | None:
        """The tenant whose calls they see, beside nobody's; None: everybody's.

        Everybody's without keys, and by the permission ``admin``.
        """
        return None if ADMIN in self.permissions else self.tenant

    def sees(self, tenant: str | None) -> bool:
        """Whether a call of *tenant* is theirs to see; one of nobody (inbound) is everybody's."""
        return self.scope is None or tenant is None or tenant == self.scope


HERE: Final = Access(
    name="", tenant=None, plan="enterprise", permissions=frozenset(("stt", "tts", "llm")), credit=0
)
"""Who asks on loopback without keys."""


def own_key(who: Access, key: str | None) -> str | None:
    """Return an Idempotency-Key as nobody else can give it: no other key, no other tenant."""
    return None if key is None else f"{who.name}\0{who.tenant}\0{key}"


def tenant_of(name: str, configured: str) -> str:
    """Return a key's tenant: the *configured* one, else the UUIDv5 of its *name*."""
    return configured or str(uuid.uuid5(TENANTS, name))


def access_of(request: Request) -> Access:
    """Return who asks; set by `bridge.api.auth.Gate`."""
    access: Access = request.state.access
    return access
