"""Who we say is calling: From, and what goes with it when the number is withheld. Pure.

RFC 3323 4.1, RFC 3325 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from bridge.trunk.numbers import ANONYMOUS, NumberPlan, normalise, uri_of

# RFC 3323 4.1.1.3: "the use of a display-name of "Anonymous" is RECOMMENDED", and the URI
# is sip:anonymous@anonymous.invalid.
_WITHHELD_FROM: Final = '"Anonymous" <sip:anonymous@anonymous.invalid>'


class CallingTrunk(NumberPlan, Protocol):
    """What a trunk's configuration says about our own numbers."""

    @property
    def caller_id(self) -> str: ...
    @property
    def from_domain(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerIdentity:
    """How an INVITE of ours names the caller. ``headers`` has the trunk's own too."""

    from_: str
    contact_user: str
    headers: tuple[tuple[str, str], ...]


def caller_identity(number: str, trunk: CallingTrunk) -> CallerIdentity:
    """Return the identity for a call that shows *number*, ``anonymous`` to withhold it.

    A withheld call still tells the carrier whose it is, when the trunk has a ``caller_id``:
    in P-Asserted-Identity with ``Privacy: id`` (RFC 3325 9.3), which is what carriers ask
    of a PBX. What the trunk's ``headers`` say wins.
    """
    if number != ANONYMOUS:
        uri = uri_of(number or ANONYMOUS, trunk.from_domain, trunk)
        return CallerIdentity(
            from_=f"<{uri}>", contact_user=uri.user or "", headers=tuple(trunk.headers.items())
        )
    ours = normalise(trunk.caller_id, trunk.country)
    added = {"Privacy": "id"}
    if ours and ours != ANONYMOUS:
        added["P-Asserted-Identity"] = f"<{uri_of(ours, trunk.from_domain, trunk)}>"
    own = {name.lower() for name in trunk.headers}
    fields = [(name, value) for name, value in added.items() if name.lower() not in own]
    return CallerIdentity(
        from_=_WITHHELD_FROM,
        contact_user=ANONYMOUS,
        headers=(*trunk.headers.items(), *fields),
    )
