"""Digest challenges of the carrier, and its judgement of what comes back.

Written by hand from RFC 7616 and RFC 2617; nothing of the bridge's digest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from bridge.carrier.steps import Challenge
from bridge.sip.message import Request

REALM = "carrier.invalid"
OTHER_REALM = "proxy.carrier.invalid"
OPAQUE = r"one, \"two\""  # as written, between the quotes: it has to come back like this

_FIELDS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}
_HASHES = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}
_RANKS = {"md5": 1, "sha-256": 2, "sha-512-256": 2}
_PARAM = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(slots=True, kw_only=True)
class Gate:
    """One realm that is closed to those without credentials.

    ``algorithms`` are offered in this order; the first of the best must be used. ``used``
    is the nc that the nonce has come with, ``cnonce`` the first that came with it.
    """

    status: int
    realm: str = REALM
    algorithms: tuple[str, ...] = ("md5",)
    qop: str | None = "auth"
    nonce: str = ""
    used: int = 0
    cnonce: str = ""

    def challenge(self, *, stale: bool = False) -> list[tuple[str, str]]:
        """Return the header fields of a challenge with a fresh nonce."""
        self.nonce, self.used, self.cnonce = secrets.token_hex(16), 0, ""
        return [
            (_FIELDS[self.status][0], self._value(name, stale=stale)) for name in self.algorithms
        ]

    def _value(self, algorithm: str, *, stale: bool) -> str:
        written = (
            "SHA3-512" if algorithm == "unknown" else algorithm.upper().replace("SESS", "sess")
        )
        value = f'Digest realm="{self.realm}", nonce="{self.nonce}", opaque="{OPAQUE}", '
        value += f"algorithm={written}"
        value += f', qop="{self.qop}"' if self.qop else ""
        return value + (", stale=TRUE" if stale else "")

    @property
    def best(self) -> str:
        """The algorithm that must be used, in lower case; "" when none can be."""
        known = [name for name in self.algorithms if name != "unknown"]
        return max(known, key=lambda name: _RANKS[name.removesuffix("-sess")], default="")

    def given(self, request: Request) -> dict[str, str] | None:
        """Return the credentials for this realm, texts as between their quotes."""
        for value in request.headers.all(_FIELDS[self.status][1]):
            found = _PARAM.findall(value)
            fields = {key.lower(): quoted or plain for key, quoted, plain in found}
            if fields.get("realm") == self.realm:
                return fields
        return None

    def fault(self, request: Request, credentials: tuple[str, str] | None) -> str | None:
        """Return what is wrong with the credentials in *request*; None when they are right.

        Without *credentials* of our own only the form can be checked.
        """
        name = _FIELDS[self.status][1]
        fields = self.given(request)
        if fields is None:
            if name in request.headers:
                return "the credentials are for another realm"
            return f"the {request.method} has no {name}"
        fault = self._form_fault(request, fields)
        if fault is None and credentials is not None:
            fault = self._response_fault(request.method, fields, credentials)
        if fault is None:
            self.used += 1
            self.cnonce = self.cnonce or fields.get("cnonce", "")
        return fault

    def _form_fault(self, request: Request, fields: dict[str, str]) -> str | None:
        if fields.get("nonce") != self.nonce:
            return "the credentials are for another nonce"
        if fields.get("uri") != request.uri:
            return "the credentials are for another uri"
        if fields.get("opaque") != OPAQUE:
            return "the opaque was not sent back as it was"
        algorithm = fields.get("algorithm", "MD5")
        if algorithm.lower() != self.best:
            return f"the credentials use {algorithm}, {self.best} is the best that was offered"
        if self.qop is None:
            return "the credentials have a qop" if {"qop", "nc"} & fields.keys() else None
        if fields.get("qop") != "auth":
            return f"the qop is {fields.get('qop')}"
        if fields.get("nc") != f"{self.used + 1:08x}":
            return f"nc is {fields.get('nc')}, {self.used + 1:08x} expected"
        return None if fields.get("cnonce") else "the credentials have no cnonce"

    def _response_fault(
        self, method: str, fields: dict[str, str], credentials: tuple[str, str]
    ) -> str | None:
        user, password = credentials
        if fields.get("username") != user:
            return "the credentials are another user's"
        kind = _HASHES[self.best.removesuffix("-sess")]

        def h(text: str) -> str:
            return hashlib.new(kind, text.encode(), usedforsecurity=False).hexdigest()

        ha1 = h(f"{user}:{self.realm}:{password}")
        if self.best.endswith("-sess"):
            ha1 = h(f"{ha1}:{self.nonce}:{self.cnonce or fields.get('cnonce', '')}")
        parts = [ha1, self.nonce]
        if self.qop is not None:
            parts += [fields["nc"], fields["cnonce"], fields["qop"]]
        right = h(":".join([*parts, h(f"{method}:{fields['uri']}")]))
        return None if fields.get("response") == right else "the digest response is wrong"


@dataclass(slots=True, kw_only=True)
class Demand:
    """A request that is refused until its credentials are right."""

    step: Challenge
    asked: bool = False
    was_stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How to answer a request that may not pass; ``fault``: what is wrong with it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    fault: str | None = None


@dataclass(slots=True)
class Guard:
    """The gates of one leg, and which requests must pass them."""

    gates: dict[int, Gate] = field(default_factory=dict)
    demands: dict[str, Demand] = field(default_factory=dict)
    invites: dict[int, list[str]] = field(default_factory=dict)  # CSeq -> their credentials

    def demand(self, kind: str, step: Challenge) -> None:
        """Refuse the next request of a kind (INVITE, REINVITE, BYE ...) as *step* says."""
        self.demands[kind] = Demand(step=step)

    def refusal(
        self, kind: str, request: Request, credentials: tuple[str, str] | None
    ) -> Refusal | None:
        """Return how *request* is to be refused; None when it may pass."""
        if request.method == "INVITE":
            self.invites[request.cseq.number] = _credentials_in(request)
        demand = self.demands.get(kind)
        if demand is None or not demand.asked:
            # Credentials that came unasked have to be right as well.
            fault = self._fault(request, credentials)
            if fault is not None:
                return Refusal(status=403, fault=fault)
            if demand is None:
                return None
            demand.asked = True
            known = any(gate.given(request) is not None for gate in self.gates.values())
            self._close(demand.step)
            return self._ask(demand.step, stale=known and not demand.step.given_up)
        fault = self._fault(request, credentials, _statuses(demand.step))
        if fault is not None:
            return Refusal(status=403, fault=fault)
        if demand.step.stale and not demand.was_stale:
            demand.was_stale = True
            return self._ask(demand.step, stale=True)
        del self.demands[kind]
        return None

    def faults(self, ack: Request) -> list[str]:
        """Return what is wrong with the ACK of a 2xx: it repeats its INVITE's credentials.

        RFC 3261 22.1.
        """
        right = _credentials_in(ack) == self.invites.pop(ack.cseq.number, [])
        return [] if right else ["the ACK has not the credentials of its INVITE"]

    def _close(self, step: Challenge) -> None:
        for status in _statuses(step):
            self.gates[status] = Gate(
                status=status,
                realm=REALM if status == step.status else OTHER_REALM,
                algorithms=step.algorithms,
                qop=step.qop,
            )

    def _ask(self, step: Challenge, *, stale: bool) -> Refusal:
        gates = [self.gates[status] for status in _statuses(step)]
        headers = [header for gate in gates for header in gate.challenge(stale=stale)]
        return Refusal(status=step.status, headers=tuple(headers))

    def _fault(
        self,
        request: Request,
        credentials: tuple[str, str] | None,
        required: tuple[int, ...] = (),
    ) -> str | None:
        for gate in self.gates.values():
            if gate.status not in required and gate.given(request) is None:
                continue
            fault = gate.fault(request, credentials)
            if fault is not None:
                return fault
        return None


def _statuses(step: Challenge) -> tuple[int, ...]:
    return (step.status,) if step.realms == 1 else (401, 407)


def _credentials_in(request: Request) -> list[str]:
    names = (answers for _, answers in _FIELDS.values())
    return [value for name in names for value in request.headers.all(name)]
