"""The metrics of one daemon: what is counted as it happens, and what is looked up.

Everything is counted on the loop's thread, at most a few times for each event of a call;
no RTP packet is ever touched: the media's own counters are read every 5 s and at each
scrape (`Traffic`). Nothing is global, so several daemons fit into one process.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector

from bridge.call.plan import CallPlan
from bridge.call.ports import CallObserver, Watched
from bridge.call.requests import BadRequest, OverLimit
from bridge.call.state import CallState, Phase
from bridge.config.trunk import TrunkConfig
from bridge.events import EVENT_TYPES, CallAnswered, CallEnded, CallEvent, CallHold, CallRinging
from bridge.observe import catalogue
from bridge.observe.catalogue import DIRECTIONS, GONE, OUTCOMES, STATES, WAYS, Figure
from bridge.observe.process import ThisProcess
from bridge.observe.reading import Page, Reading, Rows, TrunkWay, single
from bridge.observe.sip_count import SipCount
from bridge.observe.traffic import Seen, Traffic
from bridge.observe.trunks import TrunkBoard
from bridge.sip.events import RegistrationChanged
from bridge.trunk.health import By

_log = structlog.get_logger(__name__)

SAMPLING: Final = 5.0  # seconds between two looks at the jitter of every call

_STATES: Final[Mapping[Phase, str]] = {
    Phase.NEW: "pending",
    Phase.PREPARING: "pending",
    Phase.DIALING: "connecting",
    Phase.RINGING: "connecting",
    Phase.ANSWERING: "connecting",
    Phase.CANCELLING: "connecting",
    Phase.ANSWERED: "active",
    Phase.ENDED: "ending",
    Phase.DONE: "ending",
}

I = TypeVar("I", Counter, Histogram)  # noqa: E741 (an instrument)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What others of the daemon know, at one moment."""

    livekit_up: bool
    draining: bool
    overloaded: bool
    journal_writable: bool
    journal_waiting: int
    store_up: bool
    store_lag: int
    store_refused: int
    ports_free: int
    ports_used: int
    ports_resting: int
    media_calls: int
    media_turns: int
    media_missed: int
    media_late: float
    capture_dropped: int
    sip_sessions: int
    sip_connections: Mapping[str, int]
    max_calls: int
    webhooks: Mapping[str, int] = field(default_factory=dict)
    webhooks_waiting: int = 0
    webhooks_oldest: float = 0.0
    queue_waiting: Mapping[str, int] = field(default_factory=dict)
    web_calls: int = 0
    recordings: Mapping[str, float] = field(default_factory=dict)
    tls_expiry: Mapping[str, float] = field(default_factory=dict)
    tls_failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Live:
    """A call that runs."""

    call: Watched
    began: float
    seen: Seen = field(default_factory=Seen)


class Metrics(CallObserver):
    """Counts for one daemon. Built on the loop's thread and used there, but for `Page`.

    *gauges* is asked at each scrape; *heard_at* says when the SIP message came that is
    being handled, in seconds of the calls' clock. *wall* is in seconds since the epoch.
    """

    def __init__(
        self,
        trunks: Iterable[TrunkConfig],
        *,
        version: str,
        gauges: Callable[[], Awaitable[Gauges]],
        heard_at: Callable[[], float | None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._version = version
        self._gauges = gauges
        self._heard_at = heard_at
        self._wall = wall
        self._registry = CollectorRegistry()
        self._live: dict[str, _Live] = {}
        self._traffic = Traffic()
        self._known: set[str] = set()  # trunks of this and every earlier configuration
        self._make_instruments()
        self.sip = SipCount(
            self._made(Counter, catalogue.SIP_REQUESTS),
            self._made(Counter, catalogue.SIP_RESPONSES),
        )
        self.trunks = TrunkBoard(trunks)
        self._open_trunks()
        ThisProcess(registry=self._registry)
        GCCollector(registry=self._registry)

    def _make_instruments(self) -> None:
        self._started = self._made(Counter, catalogue.CALLS_STARTED)
        self._answered = self._made(Counter, catalogue.CALLS_ANSWERED)
        self._ended = self._made(Counter, catalogue.CALLS_ENDED)
        self._reasons = self._made(Counter, catalogue.END_REASONS)
        self._dials_refused = self._made(Counter, catalogue.DIALS_REFUSED)
        self._talk = self._made(Counter, catalogue.TALK_SECONDS)
        self._setup = self._made(Histogram, catalogue.SETUP_SECONDS)
        self._post_dial = self._made(Histogram, catalogue.POST_DIAL_SECONDS)
        self._ring = self._made(Histogram, catalogue.RING_SECONDS)
        self._events = self._made(Counter, catalogue.EVENTS)
        self._hold_publish = self._made(Histogram, catalogue.HOLD_PUBLISH_SECONDS)
        self._jitter = self._made(Histogram, catalogue.RTP_JITTER)
        self._round_trip = self._made(Histogram, catalogue.RTP_ROUND_TRIP)
        self._joins = self._made(Counter, catalogue.ROOM_JOINS)
        self._connect = self._made(Histogram, catalogue.ROOM_CONNECT)
        self._trunk_failures = self._made(Counter, catalogue.TRUNK_FAILURES)
        self._probe_seconds = self._made(Histogram, catalogue.TRUNK_PROBE)
        self._lag = self._made(Histogram, catalogue.LOOP_LAG)
        self._journal_write = self._made(Histogram, catalogue.JOURNAL_WRITE)
        self._sip_refused = self._made(Counter, catalogue.SIP_REFUSED)
        self._journal_failures = self._made(Counter, catalogue.JOURNAL_FAILURES)
        self._reloads = self._made(Counter, catalogue.RELOADS)
        # Zeros from the start: what appears with its first event has no rate for it.
        for why in catalogue.REFUSED:
            self._dials_refused.labels(why)
        for kind in catalogue.JOINS:
            for result in catalogue.ENDINGS:
                self._joins.labels(kind, result)
        for result in catalogue.RELOADED:
            self._reloads.labels(result)

    def _made(self, kind: type[I], figure: Figure) -> I:
        options: dict[str, Any] = {"buckets": figure.buckets} if figure.buckets else {}
        return kind(figure.name, figure.text, figure.labels, registry=self._registry, **options)

    # Trunks.

    def reload(self, trunks: Iterable[TrunkConfig]) -> None:
        """Take the trunks of a reload; counters of those that are gone stay as they are."""
        self.trunks.replace(trunks)
        self._open_trunks()

    def reloaded(self, *, ok: bool) -> None:
        """A reload was taken or refused."""
        self._reloads.labels("ok" if ok else "refused").inc()

    def _open_trunks(self) -> None:
        for trunk in self.trunks.trunks:
            if trunk in self._known:
                continue
            self._known.add(trunk)
            self._post_dial.labels(trunk)
            for reason in catalogue.TURNED_AWAY:
                self._sip_refused.labels(trunk, reason)
            for by in By:
                self._trunk_failures.labels(trunk, by.value)
            for direction in DIRECTIONS:
                self._open(trunk, direction)

    def _open(self, trunk: str, direction: str) -> None:
        for counter in (self._started, self._answered, self._talk):
            counter.labels(trunk, direction)
        self._ring.labels(trunk, direction)
        for outcome in OUTCOMES:
            self._ended.labels(trunk, direction, outcome)
        for event in EVENT_TYPES:
            self._events.labels(trunk, direction, event)
        self._traffic.open((trunk, direction))

    def _where(self, plan: CallPlan) -> TrunkWay:
        trunk = plan.trunk if plan.trunk in self._known else GONE
        return trunk, plan.direction.value

    def probed(self, trunk: str, status: int | None, seconds: float) -> None:
        """A probe of *trunk* was answered, or was not (None)."""
        if trunk not in self._known:
            return
        if status is not None:
            self._probe_seconds.labels(trunk).observe(seconds)
        if not self.trunks.probed(trunk, status, self._wall()):
            self._trunk_failures.labels(trunk, By.PROBE.value).inc()

    def registration(self, event: RegistrationChanged) -> None:
        """An attempt to register a trunk is settled."""
        if event.trunk in self._known and not self.trunks.registration(event, self._wall()):
            self._trunk_failures.labels(event.trunk, By.REGISTER.value).inc()

    # What calls tell (`CallObserver`).

    def began(self, call: Watched, now: float) -> None:
        """A call was taken on."""
        self._live[call.plan.call_id] = _Live(call, now)
        self._started.labels(*self._where(call.plan)).inc()

    def gone(self, call: Watched) -> None:
        """Everything of the call is done: its last counts are added."""
        live = self._live.pop(call.plan.call_id, None)
        if live is not None:
            self._absorb(live)

    def told(self, plan: CallPlan, event: CallEvent) -> None:
        """Count an event that everybody has heard of."""
        where = self._where(plan)
        self._events.labels(*where, event.name).inc()
        match event:
            case CallRinging() | CallAnswered():
                self._progressed(where, plan, event)
            case CallEnded():
                self._ended.labels(*where, event.outcome).inc()
                self._reasons.labels(*where, event.reason).inc()
                self._talk.labels(*where).inc(event.duration_ms / 1000)
            case _:
                pass
        if self.trunks.told(plan, event) is not None:
            self._trunk_failures.labels(plan.trunk, By.CALL.value).inc()

    def _progressed(
        self, where: TrunkWay, plan: CallPlan, event: CallRinging | CallAnswered
    ) -> None:
        live = self._live.get(plan.call_id)
        state = live.call.state if live is not None else None
        if isinstance(event, CallAnswered):
            self._answered.labels(*where).inc()
            if live is not None and state is not None and state.answered_at is not None:
                self._setup.observe(max(0.0, state.answered_at - live.began))
            if state is None or state.rang_at is not None:
                self._ring.labels(*where).observe(event.ring_ms / 1000)
        elif state is not None and state.dialed_at is not None and state.rang_at is not None:
            self._post_dial.labels(where[0]).observe(max(0.0, state.rang_at - state.dialed_at))

    def ended_after_crash(self, record: Mapping[str, Any], event: CallEnded) -> None:
        """Count a call that the process before this one left open."""
        trunk = record.get("trunk")
        where = (
            trunk if isinstance(trunk, str) and trunk in self._known else GONE,
            "outbound" if record.get("direction") == "outbound" else "inbound",
        )
        self._events.labels(*where, event.name).inc()
        self._ended.labels(*where, event.outcome).inc()
        self._reasons.labels(*where, event.reason).inc()

    def cause_at(self, now: float) -> float:
        """Return when the SIP message came that a call takes *now*."""
        heard_at = self._heard_at()
        return now if heard_at is None else heard_at

    def published(self, event: CallEvent, seconds: float) -> None:
        """The room has *event*."""
        if isinstance(event, CallHold):
            self._hold_publish.observe(seconds)

    def joined(self, *, seconds: float, again: bool, ok: bool) -> None:
        """An attempt to get into a room ended."""
        self._joins.labels("again" if again else "first", "ok" if ok else "failed").inc()
        if ok:
            self._connect.observe(seconds)

    def dial_refused(self, why: Exception) -> None:
        """A request for a call became none."""
        match why:
            case BadRequest():
                word = "bad_request"
            case OverLimit():
                word = "over_limit"
            case _:
                word = "unavailable"
        self._dials_refused.labels(word).inc()

    def sip_refused(self, trunk: str, reason: str) -> None:
        """A request was refused before it became a call."""
        self._sip_refused.labels(trunk if trunk in self._known else GONE, reason).inc()

    # What the process tells.

    def lagged(self, seconds: float) -> None:
        """The loop was *seconds* late."""
        self._lag.observe(seconds)

    def journalled(self, seconds: float, ok: bool) -> None:  # noqa: FBT001 (a fact)
        """A write to the journal ended."""
        self._journal_write.observe(seconds)
        if not ok:
            self._journal_failures.inc()

    # Looking.

    async def watch(self) -> None:
        """Look at the media of every call every 5 s, until cancelled."""
        while True:
            await asyncio.sleep(SAMPLING)
            try:
                self.sample()
            except Exception:  # a bug in one look costs no later one
                _log.exception("metrics.sample_failed")

    def sample(self) -> None:
        """Take the jitter and round trip of every call that hears RTP."""
        for live in self._live.values():
            stats = self._absorb(live)
            if stats.packets_received and live.call.state.phase is Phase.ANSWERED:
                self._jitter.observe(stats.jitter_ms / 1000)
                if stats.round_trip_ms is not None:
                    self._round_trip.observe(stats.round_trip_ms / 1000)

    def _absorb(self, live: _Live) -> Any:
        stats = live.call.media.carrier.stats()
        self._traffic.add(self._where(live.call.plan), live.seen, stats)
        return stats

    async def take(self) -> Page:
        """Look at everything; the page may be written in any thread."""
        gauges = await self._gauges()
        for live in self._live.values():
            self._absorb(live)
        return Page(self._registry, Reading(rows=self._rows(gauges)))

    async def report(self) -> list[dict[str, Any]]:
        """Return ``GET /api/v1/trunks``."""
        return self.trunks.report(self.running())

    def running(self) -> dict[TrunkWay, int]:
        """Return how many calls run, by trunk and direction."""
        return dict(Tally(self._where(live.call.plan) for live in self._live.values()))

    def _rows(self, gauges: Gauges) -> dict[Figure, Rows]:
        health = {name: self.trunks.health(name) for name in self.trunks.trunks}
        return {
            catalogue.CALLS: self._calls(),
            catalogue.RTP_LOST: self._traffic.lost(),
            catalogue.RTP_PACKETS: self._traffic.packets(),
            catalogue.MEDIA_PORTS: {
                ("free",): gauges.ports_free,
                ("used",): gauges.ports_used,
                ("resting",): gauges.ports_resting,
            },
            catalogue.MEDIA_CALLS: single(gauges.media_calls),
            catalogue.MEDIA_TURNS: single(gauges.media_turns),
            catalogue.MEDIA_MISSED: single(gauges.media_missed),
            catalogue.MEDIA_LATE: single(gauges.media_late),
            catalogue.CAPTURE_DROPPED: single(gauges.capture_dropped),
            catalogue.LIVEKIT_UP: single(gauges.livekit_up),
            catalogue.SIP_CONNECTIONS: {
                (way,): count for way, count in gauges.sip_connections.items()
            },
            catalogue.OVERLOADED: single(gauges.overloaded),
            catalogue.SIP_SESSIONS: single(gauges.sip_sessions),
            catalogue.TLS_EXPIRY: {(name,): end for name, end in gauges.tls_expiry.items()},
            catalogue.TLS_FAILED: {(way,): gauges.tls_failed.get(way, 0) for way in WAYS},
            catalogue.TRUNK_UP: {
                (name,): float(known.up)
                for name, known in health.items()
                if known is not None and known.up is not None
            },
            catalogue.TRUNK_REGISTERED: {
                (name,): float(self.trunks.is_registered(name, self._wall()))
                for name, trunk in self.trunks.trunks.items()
                if trunk.register_
            },
            catalogue.TRUNK_LAST_SUCCESS: {
                (name,): known.succeeded_at
                for name, known in health.items()
                if known is not None and known.succeeded_at is not None
            },
            catalogue.TRUNK_MAX_CALLS: {
                (name,): trunk.max_calls for name, trunk in self.trunks.trunks.items()
            },
            catalogue.MAX_CALLS: single(gauges.max_calls),
            catalogue.DRAINING: single(gauges.draining),
            catalogue.JOURNAL_WRITABLE: single(gauges.journal_writable),
            catalogue.JOURNAL_WAITING: single(gauges.journal_waiting),
            catalogue.STORE_UP: single(gauges.store_up),
            catalogue.STORE_LAG: single(gauges.store_lag),
            catalogue.STORE_REFUSED: single(gauges.store_refused),
            catalogue.WEBHOOKS: {
                (result,): gauges.webhooks.get(result, 0) for result in catalogue.SENDING
            },
            catalogue.WEBHOOKS_WAITING: single(gauges.webhooks_waiting),
            catalogue.WEBHOOKS_OLDEST: single(gauges.webhooks_oldest),
            catalogue.QUEUE_WAITING: {
                (name,): gauges.queue_waiting.get(name, 0) for name in self.trunks.trunks
            },
            catalogue.WEB_CALLS: single(gauges.web_calls),
            catalogue.RECORDINGS_RUNNING: single(gauges.recordings.get("running", 0)),
            catalogue.RECORDINGS: {
                (result,): gauges.recordings.get(result, 0) for result in catalogue.KEEPING
            },
            catalogue.RECORDINGS_WAITING: single(gauges.recordings.get("waiting", 0)),
            catalogue.RECORDING_DROPPED: single(gauges.recordings.get("dropped_seconds", 0)),
            catalogue.BUILD_INFO: {(self._version, platform.python_version()): 1},
        }

    def _calls(self) -> dict[tuple[str, ...], float]:
        rows: dict[tuple[str, ...], float] = {
            (trunk, direction, state): 0
            for trunk in self.trunks.trunks
            for direction in DIRECTIONS
            for state in STATES
        }
        for live in self._live.values():
            row = (*self._where(live.call.plan), _state(live.call.state))
            rows[row] = rows.get(row, 0) + 1
        return rows


def _state(state: CallState) -> str:
    if state.phase is Phase.ANSWERED and state.held:
        return "held"
    return _STATES[state.phase]
