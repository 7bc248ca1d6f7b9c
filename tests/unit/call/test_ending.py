"""Who may end a call, how it is told, and how the room is left (contract 4, Ending)."""

from __future__ import annotations

import pytest

from bridge.call.commands import (
    ApplyLevels,
    Bye,
    Cancel,
    CloseMedia,
    DeleteRoom,
    Dial,
    Finish,
    FlushRoom,
    JoinRoom,
    LeaveRoom,
    Reject,
    RepeatTo,
    RestoreRoom,
    SetAttributes,
    SuspendRoom,
)
from bridge.call.inputs import (
    AgentReady,
    Begun,
    By,
    EffectFailed,
    EndRecorded,
    Flushed,
    HangUp,
    Input,
    Joined,
    JoinFailed,
    Published,
    RoomLeft,
    RoomPrepared,
    Shutdown,
)
from bridge.call.plan import AnswerMode
from bridge.call.state import Phase, RoomPhase, Timer
from bridge.room.seam import (
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
)
from bridge.sip.events import EndCause, Ended
from sdp.negotiated import Hold
from tests.unit.call.kit import (
    SID,
    Bench,
    answered,
    bye,
    changed,
    confirmed,
    inbound,
    plan,
    progressed,
    refused,
)

pytestmark = pytest.mark.unit

LOST = RoomClosed(why=RoomGone.LOST)


def came(identity: str, *, at_join: bool = False) -> ParticipantJoined:
    return ParticipantJoined(identity=identity, kind="standard", at_join=at_join)


def left(identity: str, others: int = 0) -> ParticipantLeft:
    return ParticipantLeft(identity=identity, others=others)


ENDINGS: list[tuple[Input, str, str]] = [
    (HangUp(by=By.API), "api_hangup", "api"),
    (HangUp(by=By.AGENT), "agent_hangup", "agent"),
    (RoomClosed(why=RoomGone.DELETED), "room_deleted", "agent"),
    (RoomClosed(why=RoomGone.REMOVED), "participant_removed", "agent"),
    (Shutdown(), "shutdown", "bridge"),
    (EffectFailed(), "internal_error", "bridge"),
]


@pytest.mark.parametrize(("ending", "reason", "by"), ENDINGS)
def test_our_end_of_an_answered_call_is_a_bye(ending: Input, reason: str, by: str) -> None:
    bench = Bench().talking().feed(ending)
    (goodbye,) = bench.of(Bye)
    assert goodbye.reason is not None
    cause = {"shutdown": 41, "internal_error": 41}.get(reason, 16)
    assert (goodbye.reason.protocol, goodbye.reason.cause) == ("Q.850", cause)
    assert goodbye.reason.text == reason
    assert (bench.end.reason, bench.end.ended_by) == (reason, by)
    expected = {"shutdown": "dropped", "internal_error": "failed"}.get(reason, "completed")
    assert bench.end.outcome == expected


@pytest.mark.parametrize(("ending", "reason", "by"), ENDINGS)
def test_our_end_of_a_ringing_outbound_call_is_a_cancel(
    ending: Input, reason: str, by: str
) -> None:
    bench = Bench().dialing().feed(progressed(), ending)
    assert bench.has(Cancel)
    assert not bench.has(Bye)
    bench.feed(refused(487))
    assert (bench.end.reason, bench.end.ended_by) == (reason, by)
    assert bench.end.outcome == ("failed" if reason == "internal_error" else "cancelled")


@pytest.mark.parametrize(("ending", "reason", "by"), ENDINGS)
def test_our_end_of_a_ringing_inbound_call_is_a_refusal(
    ending: Input, reason: str, by: str
) -> None:
    bench = Bench(inbound()).in_room().feed(ending)
    statuses = {"shutdown": 503, "internal_error": 500}
    assert bench.of(Reject)[0].status == statuses.get(reason, 603)
    assert bench.end.outcome == ("failed" if reason in statuses else "rejected")


@pytest.mark.parametrize(("ending", "reason", "by"), ENDINGS)
def test_our_end_between_200_and_ack_is_a_bye_and_not_completed(
    ending: Input, reason: str, by: str
) -> None:
    bench = Bench(inbound()).in_room().feed(AgentReady(identity="a"), ending)
    assert bench.has(Bye)
    assert bench.end.outcome != "completed"
    assert bench.end.duration_ms == 0


def test_first_cause_of_an_end_stands() -> None:
    bench = Bench().dialing().feed(HangUp(by=By.API), Shutdown(), RoomClosed(why=RoomGone.DELETED))
    bench.feed(refused(486))
    assert bench.verdict() == ("cancelled", "api_hangup", "api")
    assert len(bench.of(Cancel)) == 1


def test_hang_up_while_joining_dials_nothing_and_leaves_after_the_join() -> None:
    bench = Bench().feed(Begun(), HangUp(by=By.API))
    assert bench.verdict()[0] == "cancelled"
    assert not bench.has(LeaveRoom)
    bench.wait(15).feed(RoomPrepared(identity="i", made=True), Joined())
    assert bench.has(RestoreRoom)
    bench.leave()
    assert bench.done
    assert bench.of(DeleteRoom)[0].delay == 0.0
    assert not bench.has(Dial)


def test_join_that_fails_after_the_end_is_cleaned_up() -> None:
    bench = Bench().feed(Begun(), HangUp(by=By.API), JoinFailed())
    assert bench.has(LeaveRoom)
    assert bench.feed(RoomLeft()).done


def test_join_that_never_ends_is_abandoned() -> None:
    bench = Bench().feed(Begun(), HangUp(by=By.API)).wait(61)
    assert bench.done
    assert bench.has(Finish)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_bye_of_the_far_end_completes(direction: str) -> None:
    bench = Bench(plan() if direction == "outbound" else inbound()).talking()
    bench.now += 60.4
    bench.feed(bye(16))
    far = "callee" if direction == "outbound" else "caller"
    assert bench.verdict() == ("completed", "remote_hangup", far)
    assert (bench.end.sip_status, bench.end.q850, bench.end.duration_ms) == (200, 16, 60400)
    assert not bench.has(Bye)


def test_peer_that_is_gone_is_dropped() -> None:
    bench = Bench().talking()
    bench.feed(Ended(session=SID, cause=EndCause.PEER_GONE, status=481, q850=None))
    assert bench.verdict()[:2] == ("dropped", "peer_gone")
    assert bench.end.sip_status == 481


@pytest.mark.parametrize("status", [None, 481])
def test_session_that_expires_is_dropped(status: int | None) -> None:
    """Row 64. Contract 5: ``dropped``, by the timer; the status is that of the refresh."""
    bench = Bench().talking()
    bench.feed(Ended(session=SID, cause=EndCause.SESSION_EXPIRED, status=status, q850=None))
    assert bench.verdict() == ("dropped", "session_expired", "timer")
    assert bench.end.sip_status == (status or 200)
    assert not bench.has(Bye)


def test_max_duration_completes_and_runs_from_the_answer() -> None:
    bench = Bench(plan(max_duration=100, media_timeout_initial=1e6)).dialing().wait(20)
    bench.feed(AgentReady(identity="a"), answered()).wait(99)
    assert not bench.has(Bye)
    bench.wait(2)
    assert bench.verdict() == ("completed", "max_duration", "timer")
    assert bench.end.duration_ms == 100_000


def test_end_is_told_then_shown_then_flushed_then_left() -> None:
    bench = Bench().talking().feed(bye())
    kinds = [type(item) for item in bench.last]
    assert bench.of(SetAttributes)[-1].attributes["sip.callStatus"] == "hangup"
    assert kinds.index(SetAttributes) < kinds.index(FlushRoom)
    assert kinds.index(ApplyLevels) < kinds.index(CloseMedia)
    assert not bench.has(LeaveRoom)
    bench.feed(Flushed())
    assert bench.has(LeaveRoom)
    bench.feed(RoomLeft())
    assert bench.done
    assert bench.of(DeleteRoom)[0].delay == 5.0


def test_no_timer_of_the_call_outlives_it() -> None:
    bench = Bench().talking().feed(came("a"), left("a"), bye())
    assert set(bench.state.deadlines) == {Timer.FLUSH}


def test_flush_takes_half_a_second_at_most_and_leaving_five() -> None:
    bench = Bench().talking().feed(bye(), EndRecorded()).wait(0.51)
    assert bench.has(LeaveRoom)
    assert bench.wait(5).done
    assert bench.of(DeleteRoom)[0].delay == 0.0


def test_the_half_second_begins_when_the_journal_has_the_end() -> None:
    bench = Bench().talking().feed(bye()).wait(3)  # a slow disk
    assert not bench.has(LeaveRoom)
    bench.feed(EndRecorded()).wait(0.49)
    assert not bench.has(LeaveRoom)
    assert bench.wait(0.02).has(LeaveRoom)


def test_a_journal_that_never_answers_keeps_nobody_in_the_room() -> None:
    bench = Bench().talking().feed(bye()).wait(5.51)
    assert bench.has(LeaveRoom)


def test_room_that_others_made_is_not_deleted() -> None:
    bench = Bench().feed(Begun(), RoomPrepared(identity="i", made=False), Joined(), bye())
    bench.feed(HangUp(by=By.API)).leave()
    assert bench.done
    assert not bench.has(DeleteRoom)


def test_deleted_room_is_left_at_once_and_not_deleted_again() -> None:
    bench = Bench().talking().feed(RoomClosed(why=RoomGone.DELETED))
    assert bench.has(LeaveRoom)
    assert bench.feed(RoomLeft()).done
    assert not bench.has(DeleteRoom)


def test_last_one_gone_ends_the_call_in_time() -> None:
    bench = Bench().talking().feed(came("a"), came("b"), left("a", 1)).wait(11)
    assert bench.state.phase is Phase.ANSWERED
    bench.feed(left("b")).wait(9)
    assert bench.state.phase is Phase.ANSWERED
    bench.wait(1.1)
    assert bench.verdict() == ("completed", "agent_gone", "agent")
    assert bench.has(Bye)


def test_last_one_gone_before_the_answer_cancels() -> None:
    bench = Bench().dialing().feed(came("a"), left("a")).wait(11)
    assert bench.has(Cancel)


def test_one_who_comes_back_in_time_keeps_the_call() -> None:
    bench = Bench().talking().feed(came("a"), left("a")).wait(5).feed(came("a")).wait(8)
    assert bench.state.phase is Phase.ANSWERED


def test_zero_never_ends_an_empty_room() -> None:
    quiet = plan(agent_gone_timeout=0, media_timeout_initial=1e6)
    bench = Bench(quiet).talking().feed(came("a"), left("a")).wait(3600)
    assert bench.state.phase is Phase.ANSWERED


def test_empty_room_does_not_count_while_reconnecting() -> None:
    bench = Bench().talking().feed(came("a"), left("a")).wait(5).feed(RoomReconnecting()).wait(20)
    assert bench.state.phase is Phase.ANSWERED
    bench.feed(RoomReconnected()).wait(9)
    assert bench.state.phase is Phase.ANSWERED
    bench.wait(2)
    assert bench.end.reason == "agent_gone"


def test_lost_room_is_rejoined_with_pauses_and_restored() -> None:
    bench = Bench().talking().feed(LOST)
    assert bench.has(SuspendRoom)
    assert [join.again for join in bench.of(JoinRoom)] == [False, True]
    bench.feed(JoinFailed()).wait(0.24)
    assert len(bench.of(JoinRoom)) == 2
    bench.wait(0.02)
    assert len(bench.of(JoinRoom)) == 3
    bench.feed(JoinFailed()).wait(0.49)
    assert len(bench.of(JoinRoom)) == 3
    bench.wait(0.02).feed(Joined(others=frozenset({"a"})))
    assert bench.of(RestoreRoom)[-1].attributes["sip.callStatus"] == "active"
    bench.wait(20)
    assert bench.state.room is RoomPhase.JOINED
    assert bench.state.phase is Phase.ANSWERED


@pytest.mark.parametrize("away", [LOST, RoomReconnecting()])
def test_room_that_stays_away_for_30_s_drops_the_call(away: Input) -> None:
    """Failure 7.2: lost room parks the caller."""
    bench = Bench().talking().feed(away)
    for _ in range(29):
        bench.wait(1)
        if bench.state.room is RoomPhase.REJOINING:
            bench.feed(JoinFailed())
    assert bench.state.phase is Phase.ANSWERED
    bench.wait(1.5)
    assert bench.verdict() == ("dropped", "room_lost", "bridge")
    assert bench.has(Bye)


def test_thirty_seconds_run_through_reconnecting_and_rejoining() -> None:
    bench = Bench().talking().feed(RoomReconnecting()).wait(20).feed(LOST).wait(10.1)
    assert bench.end.reason == "room_lost"


def test_room_lost_before_the_join_was_taken_is_rejoined() -> None:
    bench = Bench().feed(Begun(), LOST, Joined())
    assert len(bench.of(JoinRoom)) == 2
    assert not bench.has(RestoreRoom)
    assert bench.feed(Joined()).has(RestoreRoom)


def test_empty_room_after_a_rejoin_counts() -> None:
    bench = Bench().talking().feed(came("a"), LOST, Joined()).wait(11)
    assert bench.end.reason == "agent_gone"


# Late joiners.


def repeats(bench: Bench) -> list[tuple[str, str]]:
    sent = [
        repeat
        for command in bench.commands
        for repeat in (command.repeats if isinstance(command, RestoreRoom) else (command,))
    ]
    return [(one.identity, one.event.name) for one in sent if isinstance(one, RepeatTo)]


def test_late_joiner_is_sent_call_answered_again_unchanged() -> None:
    bench = Bench().talking().feed(came("late"))
    assert repeats(bench) == [("late", "call_answered")]
    assert bench.of(RepeatTo)[0].event is bench.events[1]
    assert bench.names() == ["call_ringing", "call_answered"]


def test_late_joiner_while_held_is_sent_the_hold_too() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), came("late"))
    assert repeats(bench) == [("late", "call_answered"), ("late", "call_hold")]
    bench.feed(changed(), came("later"))
    assert repeats(bench)[2:] == [("later", "call_answered")]


def test_joiner_before_the_answer_is_sent_nothing_again() -> None:
    bench = Bench().dialing().feed(came("early"), progressed(), answered())
    assert not repeats(bench)


def test_those_found_at_the_first_join_hear_the_queued_events_only() -> None:
    bench = Bench(inbound(answer_mode=AnswerMode.NOW)).feed(Begun(), confirmed())
    bench.feed(came("x", at_join=True), Joined(others=frozenset({"x"})))
    bench.feed(came("x", at_join=True))
    assert not repeats(bench), "the notice may come after the join"


def test_those_who_came_while_we_were_away_are_told_what_had_been_sent() -> None:
    bench = Bench().talking().feed(came("old"))
    count = len(repeats(bench))
    bench.feed(LOST, changed(Hold.INACTIVE), Joined(others=frozenset({"old", "new"})))
    assert repeats(bench)[count:] == [("new", "call_answered")], "the hold is still queued"


def test_nobody_is_told_anything_after_the_end() -> None:
    bench = Bench().talking().feed(bye(), came("late"))
    assert not repeats(bench)


def test_published_of_an_older_event_opens_nothing() -> None:
    bench = Bench().dialing().feed(progressed(), answered(), Published(seq=1))
    assert not bench.state.gate_open
