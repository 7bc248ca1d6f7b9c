"""The counters of one daemon, over calls that are only states."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from bridge.call.outcome import Result
from bridge.call.plan import CallPlan, Direction
from bridge.call.requests import BadRequest, OverLimit, Unavailable
from bridge.call.state import CallState, Phase
from bridge.config.trunk import TrunkConfig
from bridge.events import (
    EVENT_TYPES,
    CallAnswered,
    CallDtmf,
    CallEnded,
    CallHold,
    CallRinging,
)
from bridge.media.seam import CallMedia, MediaStats
from bridge.observe import catalogue
from bridge.observe.metrics import Gauges, Metrics
from bridge.observe.reading import PULLED

pytestmark = pytest.mark.unit


def trunk(name: str = "exotel") -> TrunkConfig:
    return TrunkConfig(name=name, host="192.0.2.9", max_calls=30)


@dataclass
class Daemon:
    """Gauges that a test sets."""

    gauges: Gauges = field(
        default_factory=lambda: Gauges(
            livekit_up=True,
            draining=False,
            overloaded=False,
            journal_writable=True,
            journal_waiting=2,
            store_up=True,
            store_lag=5,
            store_refused=1,
            ports_free=4000,
            ports_used=3,
            ports_resting=1,
            media_calls=3,
            media_turns=77,
            media_missed=5,
            media_late=0.5,
            capture_dropped=9,
            sip_sessions=3,
            sip_connections={"accepted": 2, "dialled": 1},
            max_calls=1000,
            tls_expiry={"_listener": 1_800_000_000.0},
            tls_failed={"in": 2},
        )
    )

    async def look(self) -> Gauges:
        return self.gauges


@dataclass
class FakeCall:
    """A call as an observer sees it."""

    plan: CallPlan
    state: CallState
    stats_: MediaStats

    @property
    def media(self) -> CallMedia:
        return CallMedia(carrier=self, room=None)  # type: ignore[arg-type]

    def stats(self) -> MediaStats:
        return self.stats_


def stats(received: int = 0, lost: int = 0, jitter_ms: float = 4.0, **more: Any) -> MediaStats:
    return MediaStats(
        packets_received=received,
        packets_sent=received,
        packets_lost=lost,
        packets_refused=0,
        jitter_ms=jitter_ms,
        **{"round_trip_ms": None, **more},
    )


def call(
    number: int = 1,
    *,
    trunk: str = "exotel",
    direction: Direction = Direction.OUTBOUND,
    phase: Phase = Phase.ANSWERED,
    **state: Any,
) -> FakeCall:
    plan = CallPlan(
        call_id=f"c{number}", direction=direction, trunk=trunk, room="r", created_at=0.0
    )
    return FakeCall(plan, CallState(plan=plan, phase=phase, **state), stats())


def ended(outcome: str = "completed", reason: str = "remote_hangup", **values: Any) -> CallEnded:
    facts = {"ended_by": "callee", "sip_status": 200, "q850": None, "duration_ms": 4000}
    return CallEnded(
        call_id="c1", seq=9, at=99.0, outcome=outcome, reason=reason, **{**facts, **values}
    )


HOLD = CallHold(call_id="c1", seq=3, at=12.0, direction="sendonly")


def made(*trunks: str, **options: Any) -> Metrics:
    names = trunks or ("exotel",)
    return Metrics(
        [trunk(name) for name in names], version="1.2.3", gauges=Daemon().look, **options
    )


_ORDER = ("trunk", "direction", "state", "outcome", "reason", "event", "kind", "result", "by", "le")


async def text(metrics: Metrics, accept: str = "") -> str:
    page = await metrics.take()
    return page.text(accept)[0].decode()


async def rows(metrics: Metrics, sample: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of *sample* that are not 0, by their other labels' values."""
    return {
        tuple(
            row.labels[key] for key in sorted(row.labels, key=_ORDER.index) if key not in labels
        ): row.value
        for family in text_string_to_metric_families(await text(metrics))
        for row in family.samples
        if row.name == sample and row.value and labels.items() <= row.labels.items()
    }


async def one(metrics: Metrics, sample: str, **labels: str) -> float:
    found = await rows(metrics, sample, **labels)
    assert len(found) <= 1, found
    return next(iter(found.values()), 0.0)


async def test_every_figure_of_the_catalogue_is_on_the_page_with_its_type() -> None:
    families = {f.name: f for f in text_string_to_metric_families(await text(made()))}
    ours = {name: f.type for name, f in families.items() if name.startswith("trunkbridge_")}
    assert ours == {figure.name.removesuffix("_total"): figure.kind for figure in catalogue.ALL}
    assert {"process_resident_memory_bytes", "python_gc_collections"} <= set(families)


async def test_what_the_catalogue_says_is_pulled_is_what_is_pulled() -> None:
    page = await made().take()
    assert {f.name for f in page._reading.families()} == {
        figure.name.removesuffix("_total") for figure in PULLED
    }


async def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    page = await made().take()
    body, kind = page.text("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b"_created" not in body


async def test_no_series_tells_when_it_was_made() -> None:
    assert "_created" not in await text(made())


async def test_two_daemons_in_one_process_do_not_see_each_other() -> None:
    one_, other = made("exotel"), made("exotel")
    one_.began(call(), 0.0)
    assert await one(one_, "trunkbridge_calls_started_total") == 1
    assert await one(other, "trunkbridge_calls_started_total") == 0


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.NEW, "pending"),
        (Phase.PREPARING, "pending"),
        (Phase.DIALING, "connecting"),
        (Phase.RINGING, "connecting"),
        (Phase.ANSWERING, "connecting"),
        (Phase.ANSWERED, "active"),
        (Phase.CANCELLING, "connecting"),
        (Phase.ENDED, "ending"),
        (Phase.DONE, "ending"),
    ],
)
async def test_each_phase_has_its_state(phase: Phase, state: str) -> None:
    metrics = made()
    metrics.began(call(phase=phase), 0.0)
    assert await rows(metrics, "trunkbridge_calls") == {("exotel", "outbound", state): 1}


async def test_a_held_call_is_held_and_every_place_of_a_trunk_has_a_zero() -> None:
    metrics = made()
    metrics.began(call(held_at=5.0), 0.0)
    assert await rows(metrics, "trunkbridge_calls") == {("exotel", "outbound", "held"): 1}
    page = await text(metrics)
    assert 'trunkbridge_calls{direction="inbound",state="pending",trunk="exotel"} 0.0' in page


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text; version=abc", "text/plain;version=1.x.0", ";", "a/b;q=1,,/"],
)
async def test_whoever_asks_for_a_version_that_is_none_gets_the_plain_page(accept: str) -> None:
    assert "trunkbridge_build_info{" in await text(made(), accept)


async def test_a_call_from_its_acceptance_to_its_end() -> None:
    metrics = made()
    it = call(dialed_at=11.0, rang_at=12.5, answered_at=15.0)
    metrics.began(it, 10.0)
    metrics.told(it.plan, CallRinging(call_id="c1", seq=1, at=1.0, early_media=False))
    metrics.told(it.plan, CallAnswered(call_id="c1", seq=2, at=2.0, codec="PCMA", ring_ms=2500))
    metrics.told(it.plan, ended())
    metrics.gone(it)
    where = {"trunk": "exotel", "direction": "outbound"}
    assert await one(metrics, "trunkbridge_setup_seconds_sum") == 5.0
    assert await one(metrics, "trunkbridge_post_dial_seconds_sum", trunk="exotel") == 1.5
    assert await one(metrics, "trunkbridge_ring_seconds_sum", **where) == 2.5
    assert await one(metrics, "trunkbridge_calls_answered_total", **where) == 1
    assert await one(metrics, "trunkbridge_talk_seconds_total", **where) == 4
    assert await rows(metrics, "trunkbridge_calls_ended_total", **where) == {("completed",): 1}
    assert await rows(metrics, "trunkbridge_call_end_reasons_total", **where) == {
        ("remote_hangup",): 1
    }
    assert await rows(metrics, "trunkbridge_events_total", **where) == {
        ("call_answered",): 1,
        ("call_ended",): 1,
        ("call_ringing",): 1,
    }
    assert await rows(metrics, "trunkbridge_calls") == {}
    assert metrics.running() == {}


async def test_a_call_answered_without_ringing_has_no_ring_time() -> None:
    metrics = made()
    it = call(direction=Direction.INBOUND, answered_at=10.2)
    metrics.began(it, 10.0)
    metrics.told(it.plan, CallAnswered(call_id="c1", seq=1, at=2.0, codec="PCMA", ring_ms=0))
    assert await one(metrics, "trunkbridge_ring_seconds_count") == 0
    assert await one(metrics, "trunkbridge_setup_seconds_count") == 1


async def test_a_refused_call_is_counted_although_it_never_began() -> None:
    metrics = made()
    plan = call(direction=Direction.INBOUND).plan
    metrics.told(plan, ended("failed", "trunk_full", sip_status=486, duration_ms=0))
    assert await one(metrics, "trunkbridge_calls_ended_total", outcome="failed") == 1
    assert await one(metrics, "trunkbridge_call_end_reasons_total", reason="trunk_full") == 1
    assert await one(metrics, "trunkbridge_calls_started_total") == 0


async def test_only_a_hold_is_timed_and_by_the_message_that_caused_it() -> None:
    heard: list[float | None] = [9.5]
    metrics = made(heard_at=lambda: heard[0])
    assert metrics.cause_at(10.0) == 9.5
    heard[0] = None
    assert metrics.cause_at(10.0) == 10.0
    metrics.published(HOLD, 0.004)
    metrics.published(CallDtmf(call_id="c1", seq=4, at=1.0, digit="1", duration_ms=90), 7.0)
    assert await one(metrics, "trunkbridge_hold_publish_seconds_count") == 1
    assert await one(metrics, "trunkbridge_hold_publish_seconds_bucket", le="0.005") == 1
    assert await one(metrics, "trunkbridge_hold_publish_seconds_bucket", le="0.0025") == 0


async def test_the_media_of_calls_that_are_over_stays_in_the_totals() -> None:
    metrics = made()
    first, second = call(1), call(2)
    for it in (first, second):
        metrics.began(it, 0.0)
    first.stats_ = stats(received=100, lost=3)
    second.stats_ = stats(received=10)
    kind = {"kind": "received"}
    assert await one(metrics, "trunkbridge_rtp_packets_total", **kind) == 110
    first.stats_ = stats(received=120, lost=2)
    metrics.gone(first)
    assert await one(metrics, "trunkbridge_rtp_packets_total", **kind) == 130
    assert await one(metrics, "trunkbridge_rtp_lost_total") == 3
    metrics.gone(first)
    assert await one(metrics, "trunkbridge_rtp_packets_total", **kind) == 130


async def test_jitter_is_sampled_of_calls_that_hear_something() -> None:
    metrics = made()
    loud, silent, ringing = call(1), call(2), call(3, phase=Phase.RINGING)
    for it in (loud, silent, ringing):
        metrics.began(it, 0.0)
    loud.stats_ = stats(received=9, jitter_ms=4.0, round_trip_ms=80.0)
    ringing.stats_ = stats(received=9)
    metrics.sample()
    metrics.sample()
    assert await one(metrics, "trunkbridge_rtp_jitter_seconds_count") == 2
    assert await one(metrics, "trunkbridge_rtp_jitter_seconds_bucket", le="0.005") == 2
    assert await one(metrics, "trunkbridge_rtp_round_trip_seconds_sum") == pytest.approx(0.16)


class Flaky(FakeCall):
    """Its counters fail the first time; ``again`` is set at the third."""

    again: asyncio.Event
    looks = 0

    def stats(self) -> MediaStats:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("a bug")
        if self.looks == 3:
            self.again.set()
        return self.stats_


async def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.observe.metrics.SAMPLING", 0.001)
    metrics, plain = made(), call()
    it = Flaky(plain.plan, plain.state, stats(received=9))
    it.again = asyncio.Event()
    metrics.began(it, 0.0)
    with structlog.testing.capture_logs() as logs:
        watch = asyncio.create_task(metrics.watch())
        async with asyncio.timeout(30):
            await it.again.wait()
        watch.cancel()
    assert [log["event"] for log in logs] == ["metrics.sample_failed"]
    assert await one(metrics, "trunkbridge_rtp_jitter_seconds_count") >= 1


async def test_a_reload_resets_no_counter_and_opens_the_new_trunk() -> None:
    metrics = made("exotel", "desk")
    it = call(answered_at=1.0)
    metrics.began(it, 0.0)
    it.stats_ = stats(received=50)
    metrics.sample()
    metrics.reload([trunk("desk"), trunk("new")])
    it.stats_ = stats(received=60)
    metrics.told(it.plan, ended())
    metrics.gone(it)
    found = await rows(metrics, "trunkbridge_rtp_packets_total", kind="received")
    assert list(found.values()) == [60]
    assert await one(metrics, "trunkbridge_calls_ended_total", trunk="exotel") == 1
    page = await text(metrics)
    assert 'trunkbridge_trunk_max_calls{trunk="new"} 30.0' in page
    assert 'trunkbridge_trunk_max_calls{trunk="exotel"}' not in page
    assert 'trunkbridge_calls_started_total{direction="inbound",trunk="new"} 0.0' in page


async def test_a_call_of_a_trunk_that_was_never_configured_has_one_label_for_all() -> None:
    metrics = made()
    metrics.ended_after_crash({"trunk": "old", "direction": "outbound"}, ended("dropped", "crash"))
    metrics.ended_after_crash({"trunk": None}, ended("dropped", "crash"))
    metrics.ended_after_crash(
        {"trunk": "exotel", "direction": "inbound"}, ended("dropped", "crash")
    )
    assert (
        await one(metrics, "trunkbridge_calls_ended_total", trunk="_removed", direction="outbound")
        == 1
    )
    assert (
        await one(metrics, "trunkbridge_calls_ended_total", trunk="_removed", direction="inbound")
        == 1
    )
    assert await one(metrics, "trunkbridge_calls_ended_total", trunk="exotel") == 1
    metrics.began(call(trunk="stranger"), 0.0)
    assert metrics.running() == {("_removed", "outbound"): 1}


@pytest.mark.parametrize(
    ("why", "word"),
    [
        (BadRequest("trunk", "no"), "bad_request"),
        (OverLimit("full", retry_after=1), "over_limit"),
        (Unavailable("draining"), "unavailable"),
    ],
)
async def test_a_refused_request_is_counted_by_its_kind(why: Exception, word: str) -> None:
    metrics = made()
    metrics.dial_refused(why)
    assert await rows(metrics, "trunkbridge_dials_refused_total") == {(word,): 1}


async def test_joins_writes_lags_and_reloads_are_counted() -> None:
    metrics = made()
    metrics.joined(seconds=0.2, again=False, ok=True)
    metrics.joined(seconds=9.0, again=True, ok=False)
    metrics.journalled(0.0007, ok=True)
    metrics.journalled(0.2, ok=False)
    metrics.lagged(0.06)
    metrics.reloaded(ok=True)
    metrics.reloaded(ok=False)
    assert await one(metrics, "trunkbridge_room_joins_total", kind="first", result="ok") == 1
    assert await one(metrics, "trunkbridge_room_joins_total", kind="again", result="failed") == 1
    assert await one(metrics, "trunkbridge_room_connect_seconds_sum") == 0.2
    assert await one(metrics, "trunkbridge_journal_write_seconds_count") == 2
    assert await one(metrics, "trunkbridge_journal_failures_total") == 1
    assert await one(metrics, "trunkbridge_loop_lag_seconds_bucket", le="0.05") == 0
    assert await one(metrics, "trunkbridge_loop_lag_seconds_bucket", le="0.1") == 1
    assert await rows(metrics, "trunkbridge_reloads_total") == {("ok",): 1, ("refused",): 1}


async def test_a_trunk_has_a_sample_once_something_is_known_of_it() -> None:
    metrics = made(wall=lambda: 1234.0)
    assert "trunkbridge_trunk_up{" not in await text(metrics)
    metrics.probed("exotel", 200, 0.03)
    assert await rows(metrics, "trunkbridge_trunk_up") == {("exotel",): 1}
    assert await one(metrics, "trunkbridge_trunk_last_success_timestamp_seconds") == 1234
    assert await one(metrics, "trunkbridge_trunk_probe_seconds_sum") == 0.03
    metrics.probed("exotel", None, 32.0)
    metrics.probed("exotel", 503, 0.01)
    assert 'trunkbridge_trunk_up{trunk="exotel"} 0.0' in await text(metrics)
    assert await one(metrics, "trunkbridge_trunk_failures_total", by="probe") == 2
    assert await one(metrics, "trunkbridge_trunk_probe_seconds_count") == 2
    metrics.probed("gone-since-the-question", 200, 0.01)


async def test_calls_that_nobody_takes_count_as_failures_of_the_trunk() -> None:
    metrics = made()
    for _ in range(2):
        metrics.told(call().plan, ended("failed", "carrier_unreachable", sip_status=None))
    assert await one(metrics, "trunkbridge_trunk_failures_total", by="call") == 2
    assert (await metrics.report())[0]["status"] == "down"


async def test_the_daemons_gauges_are_looked_up_at_each_scrape() -> None:
    daemon = Daemon()
    metrics = Metrics([trunk()], version="1", gauges=daemon.look)
    assert await one(metrics, "trunkbridge_livekit_up") == 1
    daemon.gauges = replace(daemon.gauges, livekit_up=False, draining=True, journal_waiting=9)
    assert await one(metrics, "trunkbridge_livekit_up") == 0
    assert await one(metrics, "trunkbridge_draining") == 1
    assert await one(metrics, "trunkbridge_journal_waiting") == 9
    assert await one(metrics, "trunkbridge_store_up") == 1
    assert await one(metrics, "trunkbridge_store_lag") == 5
    assert await one(metrics, "trunkbridge_store_refused_total") == 1
    assert await rows(metrics, "trunkbridge_media_ports") == {
        ("free",): 4000,
        ("resting",): 1,
        ("used",): 3,
    }


async def test_a_page_can_be_written_in_another_thread_while_calls_come_and_go() -> None:
    metrics = made()
    stop = asyncio.Event()

    async def busy() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            it = call(number)
            metrics.began(it, 0.0)
            metrics.told(it.plan, ended("failed", f"reason_{number % 40}"))
            metrics.gone(it)
            await asyncio.sleep(0)

    work = asyncio.create_task(busy())
    before = 0.0
    for _ in range(20):
        page = await metrics.take()
        body, _kind = await asyncio.to_thread(page.text, "")
        started = [
            row.value
            for family in text_string_to_metric_families(body.decode())
            for row in family.samples
            if row.name == "trunkbridge_calls_started_total"
        ]
        assert sum(started) >= before
        before = sum(started)
    stop.set()
    await work
    assert before > 0


def test_the_fixed_words_are_those_of_the_product() -> None:
    assert set(catalogue.OUTCOMES) == {result.value for result in Result}
    assert set(catalogue.DIRECTIONS) == {direction.value for direction in Direction}
    assert len(EVENT_TYPES) == 7
