"""A person in a real browser calls a phone (seed 001, ``/call/outbound_passthrough``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, until
from tests.system.room_peers import BrowserPeer, browser_peer

pytestmark = pytest.mark.system

RINGBACK = 425  # hertz, of the carrier's early media
NEAR = 12  # hertz an analyser is off


async def hears(peer: BrowserPeer, hertz: int) -> None:
    """Wait until the person hears a tone."""

    async def heard() -> bool:
        return bool(abs((await peer.report())["hertz"] - hertz) < NEAR)

    await peer.measure()
    await until(heard, f"the person hears {hertz} Hz", 20)


async def data(http: httpx.AsyncClient, path: str, **params: Any) -> Any:
    reply = await http.get(path, params=params)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["success"] is True
    return body["data"]


async def test_a_person_hears_it_ring_speaks_after_the_answer_and_ends_the_call_by_leaving(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_gone_timeout": 1, "agent_timeout": 2})
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        asked = await http.post(
            "/call/outbound_passthrough",
            json={"trunk_id": "carrier", "to_number": "+919000000042", "metadata": {"desk": 4}},
        )
        assert asked.status_code == 202, asked.text
        made = asked.json()["data"]
        assert made["status"] == "queued"
        leg = await carrier.incoming()
        async with browser_peer(
            desk.server, made["room_name"], tmp_path, given_token=made["room_token"]
        ) as peer:
            await leg.run(f"early media {RINGBACK}")
            await hears(peer, RINGBACK)
            queued = await data(http, f"/call/queue/{made['queue_id']}")
            assert (queued["status"], queued["to_number"]) == ("dispatched", "+919000000042")
            # Nothing of the person until here: the carrier counts RTP before its 200 as a fault.
            assert leg.report.violations == []
            await leg.run(f"answer; talk; expect audio {AGENT_HERTZ} within 15s")
            fine(leg)
            await hears(peer, CALLER_HERTZ)
            ringing = await bridge.seen(made["queue_id"], "call_ringing")
            assert ringing["early_media"] is True
            await peer.leave()
        await leg.run("expect hangup within 20s")
        fine(leg)
        ended = await bridge.ended(made["queue_id"])
        assert (ended["outcome"], ended["reason"]) == ("completed", "agent_gone")
        records = await data(http, "/call/records", passthrough_only=True)
        (record,) = records["records"]
        assert record["is_passthrough"] is True
        assert (record["queue_id"], record["call_type"]) == (made["queue_id"], "outbound")
        assert (record["assistant_id"], record["billable_duration_minutes"]) == (None, 1)
        assert (record["call_status"], record["sip_status_code"]) == ("completed", 200)
        # A passthrough call nobody joins is not "no_agent": it lives until one end leaves.
        assert leg.report.violations == []


async def test_a_person_who_leaves_while_it_rings_takes_the_call_back(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_gone_timeout": 1})
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        asked = await http.post(
            "/call/outbound_passthrough",
            json={"trunk_id": "carrier", "to_number": "+919000000043"},
        )
    made = asked.json()["data"]
    leg = await carrier.incoming()
    async with browser_peer(
        desk.server, made["room_name"], tmp_path, given_token=made["room_token"]
    ) as peer:
        await leg.run(f"early media {RINGBACK}")
        await hears(peer, RINGBACK)
        await peer.leave()
    ended = await bridge.ended(made["queue_id"], 25)
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "agent_gone")
    assert leg.report.cancelled
