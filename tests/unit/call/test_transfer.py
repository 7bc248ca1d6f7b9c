"""A transfer of the far end: who is answered what, what is told, how the call ends."""

from __future__ import annotations

import json

import pytest

from bridge.call.commands import Bye, Refer, ReplyTo, TransferReply, TransferResult
from bridge.call.inputs import By, HangUp, Input, TransferAsked
from bridge.call.machine import restore, snapshot
from bridge.call.saved import dump, load
from bridge.call.transfer import BYE_PATIENCE, REFER_PATIENCE, UNTOLD_PATIENCE
from bridge.events import CallTransfer
from bridge.media.seam import MediaTimedOut
from bridge.room.seam import ParticipantLeft
from bridge.sip.events import EndCause, Ended, ReferAnswered, ReferProgressed
from tests.unit.call.kit import SID, Bench, bye, changed, inbound, plan

pytestmark = pytest.mark.unit

TO = "+918045678900"
ASKED = TransferAsked(to=TO, by=By.AGENT, ticket=1)
R = TransferResult


def refer(status: int) -> ReferAnswered:
    return ReferAnswered(session=SID, status=status)


def told(status: int | None, *, over: bool = False) -> ReferProgressed:
    return ReferProgressed(session=SID, status=status, over=over)


def replies(bench: Bench) -> list[tuple[int, TransferResult, int | None]]:
    found = []
    for command in bench.of(ReplyTo):
        assert isinstance(command.result, TransferReply)
        found.append((command.ticket, command.result.result, command.result.status))
    return found


def statuses(bench: Bench) -> list[int]:
    assert all(event.to == TO for event in bench.of(CallTransfer))
    return [event.status for event in bench.of(CallTransfer)]


def test_who_asked_is_answered_when_the_far_end_agrees_and_progress_is_told() -> None:
    """Row 96. RFC 3515 2.4.2: the 202 says that it tries, the NOTIFYs how it goes."""
    bench = Bench().talking().feed(ASKED)
    assert [command.to for command in bench.of(Refer)] == [TO]
    assert replies(bench) == []
    bench.feed(refer(202))
    assert replies(bench) == [(1, R.ACCEPTED, None)]
    bench.feed(told(100), told(180), told(200, over=True))
    assert statuses(bench) == [100, 180, 200]
    bench.feed(bye())
    assert bench.verdict() == ("completed", "transferred", "agent")
    assert not bench.has(Bye)
    assert replies(bench) == [(1, R.ACCEPTED, None)]


def test_a_far_end_that_does_not_hang_up_after_the_transfer_is_hung_up() -> None:
    """Row 96. BYE rules: RFC 5589 6.1, the transferor ends the call."""
    bench = Bench(inbound()).talking()
    bench.feed(TransferAsked(to=TO, by=By.API, ticket=1), refer(202), told(200, over=True))
    bench.wait(BYE_PATIENCE - 0.1)
    assert not bench.has(Bye)
    bench.wait(0.2)
    assert bench.has(Bye)
    assert bench.verdict() == ("completed", "transferred", "api")


@pytest.mark.parametrize("status", [405, 420, 481, 503, 603])
def test_a_refused_transfer_leaves_the_call(status: int) -> None:
    """Row 96. The agent hears it twice: the RPC fails, and an event says why."""
    bench = Bench().talking()
    before = bench.state
    bench.feed(ASKED, refer(status))
    assert replies(bench) == [(1, R.REFUSED, status)]
    assert statuses(bench) == [status]
    assert bench.state.transfer is None
    assert bench.state.deadlines == before.deadlines
    bench.feed(TransferAsked(to=TO, by=By.AGENT, ticket=2), refer(202))
    assert replies(bench)[-1] == (2, R.ACCEPTED, None)


def test_a_transfer_that_fails_leaves_the_call() -> None:
    """Row 96. RFC 5589 6.4."""
    bench = Bench().talking()
    before = bench.state
    bench.feed(ASKED, refer(202), told(180), told(486, over=True))
    assert statuses(bench) == [180, 486]
    assert (bench.state.transfer, bench.state.deadlines) == (None, before.deadlines)
    assert bench.state.media_levels == before.media_levels
    bench.feed(bye())
    assert bench.verdict() == ("completed", "remote_hangup", "callee")


def test_a_notify_before_the_202_answers_who_asked() -> None:
    bench = Bench().talking().feed(ASKED, told(100), refer(202), told(200, over=True))
    assert replies(bench) == [(1, R.ACCEPTED, None)]
    assert statuses(bench) == [100, 200]


def test_a_bye_after_the_202_alone_is_the_transfer() -> None:
    """Row 96. Carriers that notify little take the call and hang up."""
    bench = Bench().talking().feed(ASKED, refer(202), bye())
    assert bench.verdict() == ("completed", "transferred", "agent")


def test_a_bye_before_the_202_is_a_bye() -> None:
    bench = Bench().talking().feed(ASKED, bye())
    assert bench.verdict() == ("completed", "remote_hangup", "callee")
    assert replies(bench) == [(1, R.ENDED, None)]


def test_a_session_that_breaks_during_a_transfer_was_dropped() -> None:
    lost = Ended(session=SID, cause=EndCause.PEER_GONE, status=481, q850=None)
    bench = Bench().talking().feed(ASKED, refer(202), lost)
    assert bench.verdict() == ("dropped", "peer_gone", "carrier")
    late = Bench().talking().feed(ASKED, refer(202), told(200, over=True), lost)
    assert late.verdict() == ("completed", "transferred", "agent")


@pytest.mark.parametrize("last", [HangUp(by=By.API), ParticipantLeft(identity="agent", others=0)])
def test_whoever_hangs_up_first_after_the_transfer_it_was_transferred(last: Input) -> None:
    bench = Bench().talking().feed(ASKED, refer(202), told(200, over=True), last).wait(11)
    assert bench.verdict() == ("completed", "transferred", "agent")


def test_our_hang_up_while_the_transfer_is_pending_is_a_hang_up() -> None:
    """Row 96. BYE while the transfer is pending."""
    bench = Bench().talking().feed(ASKED, refer(202), told(180), HangUp(by=By.AGENT))
    assert bench.has(Bye)
    assert bench.verdict() == ("completed", "agent_hangup", "agent")


def test_a_transfer_without_a_last_word_is_told_as_408_unless_they_hang_up() -> None:
    """Row 96. Unknown: the call goes on."""
    bench = Bench().talking().feed(ASKED, refer(202), told(100), told(None, over=True))
    assert statuses(bench) == [100]
    bench.wait(BYE_PATIENCE + 0.1)
    assert statuses(bench) == [100, 408]
    assert bench.state.transfer is None
    assert not bench.has(Bye)
    bench.feed(bye())
    assert bench.verdict() == ("completed", "remote_hangup", "callee")
    other = Bench().talking().feed(ASKED, refer(202), told(None, over=True), bye())
    assert other.verdict() == ("completed", "transferred", "agent")
    assert statuses(other) == []


def test_a_far_end_that_will_tell_nothing_has_a_minute_to_hang_up() -> None:
    """Row 95. RFC 4488: Refer-Sub: false."""
    asked = (ASKED, refer(202), told(202, over=True))
    bench = Bench().talking().feed(*asked)
    assert statuses(bench) == [202]
    bench.wait(UNTOLD_PATIENCE - 1).feed(bye())
    assert bench.verdict() == ("completed", "transferred", "agent")
    late = Bench().talking().feed(*asked).wait(UNTOLD_PATIENCE + 1).feed(bye())
    assert late.verdict() == ("completed", "remote_hangup", "callee")
    again = Bench().talking().feed(*asked, TransferAsked(to=TO, by=By.AGENT, ticket=2))
    assert len(again.of(Refer)) == 2, "nobody need wait for what is not told"


def test_who_asked_waits_seconds_only_and_a_late_202_counts_all_the_same() -> None:
    bench = Bench().talking().feed(ASKED).wait(REFER_PATIENCE)
    assert replies(bench) == [(1, R.TIMED_OUT, None)]
    bench.feed(refer(202), told(200, over=True), bye())
    assert len(replies(bench)) == 1
    assert bench.verdict() == ("completed", "transferred", "agent")


def test_no_answer_at_all_is_told_and_the_call_goes_on() -> None:
    bench = Bench().talking().feed(ASKED).wait(REFER_PATIENCE + 25).feed(refer(408))
    assert replies(bench) == [(1, R.TIMED_OUT, None)]
    assert statuses(bench) == [408]
    assert bench.state.transfer is None


@pytest.mark.parametrize(
    ("bench", "result"),
    [
        (Bench().dialing(), R.NOT_ANSWERED),
        (Bench(inbound()).in_room(), R.NOT_ANSWERED),
        (Bench().talking().feed(bye()), R.ENDED),
        (Bench().talking().feed(ASKED), R.UNDER_WAY),
        (Bench().talking().feed(ASKED, refer(202)), R.UNDER_WAY),
        (Bench().talking().feed(ASKED, refer(202), told(200, over=True)), R.UNDER_WAY),
    ],
    ids=["dialing", "ringing", "over", "asked", "accepted", "answered"],
)
def test_what_the_state_forbids_is_refused_at_once(bench: Bench, result: TransferResult) -> None:
    sent = len(bench.of(Refer))
    bench.feed(TransferAsked(to=TO, by=By.AGENT, ticket=9))
    assert replies(bench)[-1] == (9, result, None)
    assert len(bench.of(Refer)) == sent


def test_what_comes_after_the_last_word_changes_nothing() -> None:
    bench = Bench().talking().feed(ASKED, refer(202), told(200, over=True))
    before = bench.state
    assert bench.feed(told(603, over=True), refer(603), told(None, over=True)).state == before
    stray = Bench().talking()
    before = stray.state
    assert stray.feed(told(200, over=True), refer(202), refer(603)).state == before


def test_the_media_timeout_is_suspended_while_the_far_end_is_transferred() -> None:
    bench = Bench().talking().feed(ASKED)
    assert bench.state.media_levels.watchdog is not None
    bench.feed(refer(202))
    assert bench.state.media_levels.watchdog is None
    bench.feed(MediaTimedOut(ever=True))
    assert bench.names()[-1] != "call_ended"
    bench.feed(told(603, over=True))
    assert bench.state.media_levels.watchdog is not None


def test_who_holds_us_may_be_transferred_and_who_we_hold() -> None:
    bench = Bench().talking().feed(changed(send=False, receive=False), ASKED, refer(202))
    assert replies(bench) == [(1, R.ACCEPTED, None)]


def test_a_transfer_survives_a_restart() -> None:
    bench = Bench(plan(transfer_allow=("+91*",))).talking().feed(ASKED, refer(202), told(180))
    saved = load(json.loads(json.dumps(dump(snapshot(bench.state, bench.now, bench.wall)))))
    wall = bench.wall
    bench.now += 5000
    bench.state = restore(saved, bench.now, wall)
    bench.feed(told(200, over=True)).wait(BYE_PATIENCE + 0.1)
    assert statuses(bench) == [180, 200]
    assert bench.verdict() == ("completed", "transferred", "agent")
