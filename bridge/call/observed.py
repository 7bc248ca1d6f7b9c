"""An observer whose faults cost no call anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from bridge.call.plan import CallPlan
from bridge.call.ports import CallObserver, Watched
from bridge.events import CallEvent

_log = structlog.get_logger(__name__)


class Guarded(CallObserver):
    """Passes everything on to *observer*; what that raises is logged."""

    def __init__(self, observer: CallObserver) -> None:
        self._observer = observer

    def began(self, call: Watched, now: float) -> None:
        """A call was taken on."""
        self._attempt(self._observer.began, call, now)

    def gone(self, call: Watched) -> None:
        """Everything of the call is done."""
        self._attempt(self._observer.gone, call)

    def told(self, plan: CallPlan, event: CallEvent) -> None:
        """Journal and room have the event."""
        self._attempt(self._observer.told, plan, event)

    def cause_at(self, now: float) -> float:
        """Return when that arrived which a call takes now."""
        try:
            return self._observer.cause_at(now)
        except Exception:
            _log.exception("call.observer_failed", heard="cause_at")
            return now

    def published(self, event: CallEvent, seconds: float) -> None:
        """The room has the event."""
        self._attempt(self._observer.published, event, seconds)

    def joined(self, *, seconds: float, again: bool, ok: bool) -> None:
        """An attempt to get into the room ended."""
        self._attempt(self._observer.joined, seconds=seconds, again=again, ok=ok)

    def dial_refused(self, why: Exception) -> None:
        """A request for a call became none."""
        self._attempt(self._observer.dial_refused, why)

    def _attempt(self, hear: Callable[..., None], *facts: Any, **named: Any) -> None:
        try:
            hear(*facts, **named)
        except Exception:
            _log.exception("call.observer_failed", heard=hear.__name__)
