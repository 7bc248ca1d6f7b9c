"""The built-in carrier's session timers: against itself, and against far ends that do it wrong."""

from __future__ import annotations

import pytest

from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour

pytestmark = pytest.mark.unit

HASTY = Behaviour(step_timeout=0.3)


async def called(callee: str, caller: str, behaviour: Behaviour | None = None) -> list[str | None]:
    """Return what failed on the side of the caller, and of the callee, which is as *behaviour*."""
    answers = Carrier(scripts={"100": callee}, behaviour=behaviour)
    async with answers as answering, Carrier() as dialling:
        address = f"sip:100@127.0.0.1:{answering.port};transport=tcp"
        report = await dialling.call(address, caller)
        await answering.settled(5)
        return [report.failed, *(report.failed for report in answering.reports)]


async def test_a_session_is_refreshed_both_ways() -> None:
    refreshes = "refresh; refresh update; refresh on new connection"
    failed = await called(
        "session-expires 90; answer; expect update within 5s; expect reinvite within 5s; stay",
        f"session-expires 90 refresher uac; expect status 200; {refreshes}; hangup",
    )
    assert failed == [None, None]


async def test_a_refresh_needs_a_timer() -> None:
    failed = await called("answer; stay", "refresh")
    assert failed[0] == (
        'step 1 "refresh": there is no session timer: the script needs a session-expires'
    )


async def test_a_far_end_that_grants_no_timer_is_noticed() -> None:
    failed = await called("answer; stay", "session-expires 90; refresh update")
    assert failed[0] == (
        'step 2 "refresh update": the 200 says "nothing", "90;refresher=uac" expected'
    )


async def test_a_far_end_that_gives_up_after_422_is_noticed() -> None:
    failed = await called("too-brief 600; answer", "session-expires 90; stay", HASTY)
    assert failed[1] == 'step 1 "too-brief 600": no INVITE came after the 422'
