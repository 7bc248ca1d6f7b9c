"""The health of every trunk, from the calls we make and the probes we send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.call.plan import CallPlan
from bridge.config.trunk import TrunkConfig
from bridge.events import CallAnswered, CallEnded, CallEvent, CallRinging, rfc3339
from bridge.sip.events import RegistrationChanged
from bridge.trunk.health import By, Failure, TrunkHealth, Verdict, answer_says

_NOT_THE_TRUNKS: Final = frozenset({"callee", "caller", "agent", "api"})
"""Who may end a call without its being the trunk's failure."""

_ANSWERED: Final = frozenset({"completed", "dropped"})

_NO_ANSWER: Final = "carrier_unreachable"
"""The reason of a call whose INVITE nobody answered, or that could not be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """How the last attempt to register went. ``until``: wall time, None: not registered."""

    state: str
    until: float | None
    sip_status: int | None


class TrunkBoard:
    """What is known of the configured trunks. Lives on the loop's thread."""

    def __init__(self, trunks: Iterable[TrunkConfig]) -> None:
        self._trunks = {trunk.name: trunk for trunk in trunks}
        self._health = {name: TrunkHealth() for name in self._trunks}
        self._registered: dict[str, Registered] = {}
        self._why: dict[str, str] = {}  # the last connection that could not be made

    def replace(self, trunks: Iterable[TrunkConfig]) -> None:
        """Take the trunks of a reload; what is known of one stays while it leads to one place."""
        before, health = self._trunks, self._health
        self._trunks = {trunk.name: trunk for trunk in trunks}
        self._why = {}
        self._health = {
            name: health[name]
            if name in before and _place(before[name]) == _place(trunk)
            else TrunkHealth()
            for name, trunk in self._trunks.items()
        }
        self._registered = {
            name: known for name, known in self._registered.items() if name in self._trunks
        }

    @property
    def trunks(self) -> Mapping[str, TrunkConfig]:
        """The configured trunks, by name, in the order of the file."""
        return self._trunks

    def health(self, trunk: str) -> TrunkHealth | None:
        """Return what is known of *trunk*."""
        return self._health.get(trunk)

    def unreachable(self, trunk: str, why: str) -> None:
        """A connection to *trunk* could not be made: the next failure without an answer says so."""
        if trunk in self._trunks:
            self._why[trunk] = why

    def told(self, plan: CallPlan, event: CallEvent) -> By | None:
        """Take an event of a call; return `By.CALL` when it says that the trunk is down.

        Only calls that we made tell: how they were received, not how they went on.
        """
        health = self._health.get(plan.trunk)
        if health is None or plan.inbound:
            return None
        match event:
            case CallRinging() | CallAnswered():
                health.succeeded(event.at)
            case CallEnded():
                return self._ended(health, plan.trunk, event)
            case _:
                pass
        return None

    def probed(self, trunk: str, status: int | None, at: float) -> bool:
        """Take the answer to a probe (None: none came); return whether it says up."""
        health = self._health.get(trunk)
        up = answer_says(status, By.PROBE) is Verdict.UP
        if health is not None and up:
            health.succeeded(at)
        elif health is not None:
            reason = "no_answer" if status is None else "refused"
            detail = self._detail(trunk, status)
            health.failed(
                Failure(at=at, by=By.PROBE, sip_status=status, reason=reason, detail=detail)
            )
        return up

    def registration(self, event: RegistrationChanged, at: float) -> bool:
        """Take how an attempt to register went; return whether it says nothing bad.

        A trunk that refuses us is as good as down: no call will come or go.
        """
        health = self._health.get(event.trunk)
        if health is None:
            return True
        lasts = at + event.expires if event.registered else None
        self._registered[event.trunk] = Registered(
            state=event.what, until=lasts, sip_status=event.status
        )
        if event.what == "removed":
            return True
        if event.what == "registered":
            health.succeeded(at)
            return True
        reason = f"register_{event.what}"
        health.failed(Failure(at=at, by=By.REGISTER, sip_status=event.status, reason=reason))
        return False

    def is_registered(self, trunk: str, at: float) -> bool:
        """Whether the registrar has us, as far as is known."""
        known = self._registered.get(trunk)
        return known is not None and known.until is not None and at < known.until

    def _detail(self, trunk: str, status: int | None) -> str:
        why = self._why.pop(trunk, "")
        return why if status is None else ""

    def report(self, calls: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
        """Return ``GET /api/v1/trunks``; *calls* counts running ones by trunk and direction.

        Neither numbers nor credentials are in it.
        """
        return [self._row(trunk, calls) for trunk in self._trunks.values()]

    def _row(self, trunk: TrunkConfig, calls: Mapping[tuple[str, str], int]) -> dict[str, Any]:
        health = self._health[trunk.name]
        at = health.succeeded_at
        return {
            "name": trunk.name,
            "profile": trunk.profile,
            "host": trunk.host,
            "port": trunk.port,
            "transport": trunk.transport,
            "status": {True: "up", False: "down", None: "unknown"}[health.up],
            "calls": {way: calls.get((trunk.name, way), 0) for way in ("inbound", "outbound")},
            "max_calls": trunk.max_calls,
            "calls_per_second": trunk.calls_per_second,
            "options_interval": trunk.options_interval,
            "registration": self._registration(trunk),
            "last_success": None if at is None else rfc3339(at),
            "last_failures": [
                {
                    "at": rfc3339(failure.at),
                    "by": failure.by.value,
                    "sip_status": failure.sip_status,
                    "reason": failure.reason,
                    "detail": failure.detail,
                }
                for failure in health.failures
            ],
        }

    def _registration(self, trunk: TrunkConfig) -> dict[str, Any] | None:
        if not trunk.register_:
            return None
        known = self._registered.get(trunk.name)
        if known is None:
            return {"state": "registering", "until": None, "sip_status": None}
        return {
            "state": known.state,
            "until": None if known.until is None else rfc3339(known.until),
            "sip_status": known.sip_status,
        }

    def _ended(self, health: TrunkHealth, trunk: str, event: CallEnded) -> By | None:
        """Judge the end of a call of ours: the final response to its INVITE, or that none came."""
        if event.sip_status is None and event.reason != _NO_ANSWER:
            return None  # we gave up first, or never asked
        failure = Failure(
            at=event.at,
            by=By.CALL,
            sip_status=event.sip_status,
            reason=event.reason,
            detail=self._detail(trunk, event.sip_status),
        )
        if event.outcome in _ANSWERED:
            verdict = Verdict.NOTHING  # told when it was answered; the status may be of a BYE
        else:
            verdict = answer_says(event.sip_status, By.CALL)
        if verdict is Verdict.DOWN:
            health.failed(failure)
            return By.CALL
        if verdict is Verdict.UP:
            health.succeeded(event.at)
        if event.ended_by not in _NOT_THE_TRUNKS:
            health.noted(failure)
        return None


def _place(trunk: TrunkConfig) -> tuple[str, int, str, str]:
    return trunk.host, trunk.port, trunk.transport, trunk.outbound_proxy
