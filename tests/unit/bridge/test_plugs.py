"""What the plug board does besides the SIP session of a call: questions, and write times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.adapters import Ledger, trunk_question
from bridge.call.plan import CallPlan, Direction
from bridge.call.record import new_record
from bridge.config.trunk import TrunkConfig
from bridge.journal.entries import JournalError
from bridge.journal.journal import Journal
from bridge.sip.probe import TrunkQuestion

pytestmark = pytest.mark.unit


def question(**changes: object) -> TrunkQuestion:
    return trunk_question(TrunkConfig(**{"name": "t", "host": "sip.example.com", **changes}))


def test_a_trunk_is_asked_the_way_an_invite_would_go() -> None:
    plain = question(transport="udp", port=5080)
    assert plain.next_hop == ("udp", "sip.example.com", 5080)
    assert plain.request_uri == "sip:sip.example.com:5080"
    assert plain.to == "<sip:sip.example.com:5080>"
    behind = question(outbound_proxy="proxy.example.com:5065", domain="ours.example.com")
    assert behind.next_hop == ("tcp", "proxy.example.com", 5065)
    assert behind.request_uri == "sip:sip.example.com"
    assert behind.from_ == "<sip:ping@ours.example.com>"
    # RFC 3263 4.2: without a port DNS decides.
    assert question(outbound_proxy="proxy.example.com").next_hop[2] is None
    assert question().next_hop[2] is None
    assert question(port=5060).next_hop[2] == 5060
    assert question(host="[2001:db8::1]").request_uri == "sip:[2001:db8::1]"


async def test_every_write_is_told_with_its_time_and_whether_it_is_safe(tmp_path: Path) -> None:
    told: list[tuple[bool, bool]] = []
    journal = Journal(tmp_path / "journal.db", instance="test")
    ledger = Ledger(journal, lambda seconds, ok: told.append((0 < seconds < 5, ok)))
    plan = CallPlan(call_id="c", direction=Direction.INBOUND, trunk="t", room="r", created_at=0.0)
    await ledger.append_record(new_record(plan), None)
    assert told == [(True, True)]
    unwritable = CallPlan(
        call_id="d",
        direction=Direction.INBOUND,
        trunk="t",
        room="r",
        created_at=0.0,
        metadata={"no": object()},
    )
    with pytest.raises(JournalError):
        await ledger.append_record(new_record(unwritable), None)
    await asyncio.sleep(0)  # what is told of a write that failed at once is told in the next turn
    assert told == [(True, True), (True, False)]
    assert journal.waiting == 0
    journal.close()
