"""Every way a carrier holds, on calls in and out, on the call's connection and on a new one.

Twenty-four rows through one daemon, as many at a time as the engine lets the machine bear. The
carrier checks each answer on its raw bytes (direction, a real address) and that no RTP at all
comes while it holds; the stock participant in the room checks what the agent is told and hears.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

HELD_FOR = 40  # seconds without RTP from either side
MEDIA_TIMEOUT = 10  # would end the call four times over
BACK_WITHIN = 3.0  # seconds from the resume to audio

# dialect -> the hold, the resume, the direction of call_hold
DIALECTS = {
    "sendonly": ("hold sendonly", "resume", "sendonly"),
    "inactive": ("hold inactive", "resume", "inactive"),
    "zero-address": ("hold zero-address", "resume", "zero-address"),
    "all-ports-0": ("hold no-media", "resume", "no-media"),
    "offerless": ("hold offerless-sendonly", "resume offerless", "sendonly"),
    "update": ("hold update-sendonly", "resume update", "sendonly"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of the matrix."""

    dialect: str
    direction: str
    connection: str

    def __str__(self) -> str:
        return f"{self.dialect} {self.direction} {self.connection} connection"

    def hold(self) -> str:
        """Return the carrier's statement that holds."""
        return f"{DIALECTS[self.dialect][0]}{self._on} without rtp"

    def resume(self) -> str:
        """Return the carrier's statement that resumes."""
        return f"{DIALECTS[self.dialect][1]}{self._on}"

    def hold_version(self) -> str:
        """Return how our ``o=`` version moves with the answer.

        RFC 3264 8: a description that does not change keeps its version. An offerless
        re-INVITE is given a full offer: new after our answer of one codec, the same
        again after our own offer.
        """
        return "same" if self.dialect == "offerless" and self.direction == "outbound" else "+1"

    def resume_version(self) -> str:
        """Return the same for the resume: the full offer again is no change."""
        return "same" if self.dialect == "offerless" else "+1"

    @property
    def published(self) -> str:
        """The direction of the call_hold event."""
        return DIALECTS[self.dialect][2]

    @property
    def _on(self) -> str:
        return " on new connection" if self.connection == "new" else ""


ROWS = [
    Row(dialect=dialect, direction=direction, connection=connection)
    for direction, connection, dialect in itertools.product(
        ("inbound", "outbound"), ("same", "new"), DIALECTS
    )
]
AT_A_TIME = {"direct": 12, "sdk": 8}
BATCHES = [
    pytest.param(engine, ROWS[at : at + count], id=f"{engine} rows {at + 1}-{at + count}")
    for engine, count in AT_A_TIME.items()
    for at in range(0, len(ROWS), count)
]


@pytest.mark.parametrize(("engine", "rows"), BATCHES, indirect=["engine"])
async def test_every_hold_dialect_is_answered_published_once_and_resumed(
    desk: Desk, rows: list[Row]
) -> None:
    carrier = await desk.carrier()
    timeouts = {"media_timeout": MEDIA_TIMEOUT, "media_timeout_initial": MEDIA_TIMEOUT}
    bridge = await desk.bridge(carrier, trunk=timeouts)
    calls = [await _connected(desk, bridge, carrier, row) for row in rows]
    results = await asyncio.gather(
        *(_hold_and_resume(row, *call) for row, call in zip(rows, calls, strict=True)),
        return_exceptions=True,
    )
    failures = [
        f"{row}: {result}" for row, result in zip(rows, results, strict=True) if result is not None
    ]
    assert not failures, "\n\n".join(failures)


async def _connected(
    desk: Desk, bridge: Bridge, carrier: Carrier, row: Row
) -> tuple[Leg, RoomAgent]:
    """Return a call that is up, heard at both ends."""
    if row.direction == "inbound":
        number = agent_number()
        agent = await desk.agent(room_of(number), rate=8000)
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    else:
        room = desk.room()
        agent = await desk.agent(room, rate=8000)
        await bridge.dial("+919000000005", room=room)
        leg = await carrier.incoming()
        await leg.run("ring; answer")
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    _fine(leg)
    await agent.hears(CALLER_HERTZ)
    return leg, agent


async def _hold_and_resume(row: Row, leg: Leg, agent: RoomAgent) -> None:
    await leg.run(f"{row.hold()}; expect version {row.hold_version()}")
    _fine(leg)
    held = await agent.event("call_hold")
    assert held["direction"] == row.published
    await agent.is_muted(True)
    await agent.attribute("bridge.hold", "true")
    quiet_since = time.monotonic() + 0.3
    await leg.run(f"expect silence {HELD_FOR}s; options")
    _fine(leg)
    assert not agent.heard(quiet_since, time.monotonic()), "sound in the room while held"
    resumed_at = time.monotonic()
    await leg.run(
        f"{row.resume()}; expect version {row.resume_version()}; "
        f"expect audio {AGENT_HERTZ} within 3s"
    )
    _fine(leg)
    heard_at = await agent.hears(CALLER_HERTZ, since=resumed_at)
    resume = await agent.event("call_resume")
    assert heard_at - resumed_at < BACK_WITHIN, (
        f"the caller came back after {heard_at - resumed_at}"
    )
    assert resume["held_ms"] >= HELD_FOR * 1000
    await agent.is_muted(False)
    await agent.attribute("bridge.hold", "false")
    await leg.run("hangup")
    _fine(leg)
    ended = await agent.event("call_ended")
    assert ended["outcome"] == "completed"
    names = [event["event"] for event in agent.events]
    assert names == ["call_ringing", "call_answered", "call_hold", "call_resume", "call_ended"]
    assert [event["seq"] for event in agent.events] == [1, 2, 3, 4, 5]


def _fine(leg: Leg) -> None:
    assert leg.report.failed is None, leg.report.failed
