"""What an operator's Prometheus gets from a daemon with calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bridge.observe import catalogue
from tests.system.calls import fine
from tests.system.conftest import PrivateLiveKit
from tests.system.harness import (
    AGENT_HERTZ,
    AgentHost,
    Bridge,
    Desk,
    agent_number,
    room_of,
    until,
)

pytestmark = pytest.mark.system

PROMISED = {
    "trunkbridge_calls": "gauge",
    "trunkbridge_calls_ended": "counter",
    "trunkbridge_setup_seconds": "histogram",
    "trunkbridge_rtp_lost": "counter",
    "trunkbridge_rtp_jitter_seconds": "histogram",
    "trunkbridge_hold_publish_seconds": "histogram",
    "trunkbridge_trunk_up": "gauge",
    "trunkbridge_loop_lag_seconds": "histogram",
    "trunkbridge_build_info": "gauge",
}
"""Contract 6; the parser takes ``_total`` off a counter's family."""


@pytest.fixture
async def own_desk(
    private_livekit: PrivateLiveKit, agent_host: AgentHost, tmp_path: Path
) -> AsyncIterator[Desk]:
    async with Desk(private_livekit.server, agent_host, tmp_path) as made:
        yield made


async def scrape(bridge: Bridge) -> dict[str, Metric]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{bridge.url}/metrics")
    assert answer.status_code == 200, answer.text
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float | None:
    """Return the one value of *sample* with *labels*, summed over all others."""
    found = [
        row.value
        for family in families.values()
        for row in family.samples
        if row.name == sample and labels.items() <= row.labels.items()
    ]
    return sum(found) if found else None


async def trunks(bridge: Bridge) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{bridge.url}/api/v1/trunks")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def test_a_call_a_hold_and_an_end_are_all_in_the_metrics(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    before = await scrape(bridge)
    assert value(before, "trunkbridge_calls") == 0
    assert value(before, "trunkbridge_trunk_up") is None, "nothing was asked of it yet"
    called = agent_number()
    agent = await desk.agent(room_of(called))
    leg = await carrier.dial(bridge.sip_uri(called))
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    during = await scrape(bridge)
    here = {"trunk": "carrier", "direction": "inbound"}
    assert value(during, "trunkbridge_calls", **here, state="active") == 1
    assert value(during, "trunkbridge_media_ports", state="used") == 1
    assert value(during, "trunkbridge_sip_sessions") == 1
    received = value(during, "trunkbridge_rtp_packets_total", **here, kind="received")
    assert received
    await leg.run("hold sendonly without rtp")
    await agent.event("call_hold")
    held = await scrape(bridge)
    assert value(held, "trunkbridge_calls", **here, state="held") == 1
    assert value(held, "trunkbridge_hold_publish_seconds_count") == 1
    assert value(held, "trunkbridge_hold_publish_seconds_sum") < 2  # type: ignore[operator]
    await leg.run("resume; hangup")
    fine(leg)
    await agent.event("call_ended")

    async def idle() -> bool:
        return value(await scrape(bridge), "trunkbridge_calls") == 0

    await until(idle, "the call is gone")
    after = await scrape(bridge)
    assert value(after, "trunkbridge_calls_ended_total", **here, outcome="completed") == 1
    assert value(after, "trunkbridge_calls_ended_total") == 1
    assert value(after, "trunkbridge_call_end_reasons_total", reason="remote_hangup") == 1
    assert value(after, "trunkbridge_calls_answered_total", **here) == 1
    assert value(after, "trunkbridge_setup_seconds_count") == 1
    assert value(after, "trunkbridge_room_joins_total", kind="first", result="ok") == 1
    assert value(after, "trunkbridge_sip_requests_total", way="in", method="INVITE") == 3
    assert value(after, "trunkbridge_sip_responses_total", method="BYE", **{"class": "2xx"}) == 1
    assert value(after, "trunkbridge_events_total", event="call_hold") == 1
    assert value(after, "trunkbridge_journal_write_seconds_count") >= 5  # type: ignore[operator]
    total = value(after, "trunkbridge_rtp_packets_total", **here, kind="received")
    assert total is not None
    assert total >= received, "a call that has ended takes its packets with it"
    assert value(after, "trunkbridge_livekit_up") == 1


async def test_the_page_has_what_the_contract_promises_and_nothing_undocumented(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    call = await bridge.dial("+919000000001", room=desk.room())
    leg = await carrier.incoming()
    await leg.run("reject 486")
    await bridge.ended(call.id)
    families = await scrape(bridge)
    assert {name: families[name].type for name in PROMISED} == PROMISED
    named = {figure.name.removesuffix("_total"): figure for figure in catalogue.ALL}
    ours = {name: family for name, family in families.items() if name.startswith("trunkbridge_")}
    assert set(ours) == set(named)
    for name, family in ours.items():
        labels = {key for row in family.samples for key in row.labels} - {"le"}
        assert labels <= set(named[name].labels), name
    assert "process_open_fds" in families
    assert value(families, "trunkbridge_calls_ended_total", outcome="busy") == 1
    assert value(families, "trunkbridge_trunk_up", trunk="carrier") == 1, "busy is an answer"


async def test_a_trunk_goes_down_and_up_by_its_probes_alone(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"options_interval": 0.5})

    async def is_up() -> bool:
        return (await trunks(bridge))[0]["status"] == "up"

    async def is_down() -> bool:
        return (await trunks(bridge))[0]["status"] == "down"

    await until(is_up, "a probe is answered")
    assert value(await scrape(bridge), "trunkbridge_trunk_up", trunk="carrier") == 1
    await carrier.stop()
    await until(is_down, "two probes failed")
    page = await scrape(bridge)
    assert value(page, "trunkbridge_trunk_up", trunk="carrier") == 0
    assert value(page, "trunkbridge_trunk_failures_total", by="probe") >= 2  # type: ignore[operator]
    (row,) = await trunks(bridge)
    assert row["last_failures"][0]["by"] == "probe"
    assert row["last_failures"][0]["sip_status"] is None


async def test_what_a_crash_left_open_is_counted_by_the_next_process(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    called = agent_number()
    await desk.agent(room_of(called))
    leg = await carrier.dial(bridge.sip_uri(called))
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    await bridge.kill()
    await bridge.start()
    page = await scrape(bridge)
    here = {"trunk": "carrier", "direction": "inbound"}
    assert value(page, "trunkbridge_calls_ended_total", **here, outcome="dropped") == 1
    assert value(page, "trunkbridge_call_end_reasons_total", **here, reason="crash") == 1
    assert value(page, "trunkbridge_calls") == 0
    await leg.run("hangup")
    fine(leg)


async def test_livekit_gone_and_back_is_seen_and_so_is_what_it_costs(
    own_desk: Desk, private_livekit: PrivateLiveKit
) -> None:
    carrier = await own_desk.carrier()
    bridge = await own_desk.bridge(carrier)

    async def livekit_is(up: float) -> bool:
        return value(await scrape(bridge), "trunkbridge_livekit_up") == up

    assert await livekit_is(1)
    private_livekit.kill()
    await until(lambda: livekit_is(0), "LiveKit is seen to be gone")
    leg = await carrier.dial(bridge.sip_uri(agent_number()))
    await leg.run("expect status 503 within 3s")
    fine(leg)
    page = await scrape(bridge)
    assert value(page, "trunkbridge_call_end_reasons_total", reason="room_unavailable") == 1
    assert private_livekit.start()
    await until(lambda: livekit_is(1), "LiveKit is back")
