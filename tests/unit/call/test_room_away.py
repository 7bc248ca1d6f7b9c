"""A room that its server lost: whose it is, who is told what, and the agent that stays away."""

from __future__ import annotations

import pytest

from bridge.call.commands import (
    CatchUp,
    DeleteRoom,
    Dial,
    DispatchAgent,
    LeaveRoom,
    RecallAgent,
    RepeatTo,
    RestoreRoom,
)
from bridge.call.inputs import (
    Begun,
    Dispatched,
    DispatchFailed,
    Joined,
    JoinFailed,
    Published,
    RoomLeft,
    RoomPrepared,
)
from bridge.call.state import Phase, RoomPhase
from bridge.room.seam import (
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
)
from sdp.negotiated import Hold
from tests.unit.call.kit import Bench, bye, changed, inbound, plan, progressed

pytestmark = pytest.mark.unit

LOST = RoomClosed(why=RoomGone.LOST)


def prepared(sid: str, *, made: bool = True) -> RoomPrepared:
    return RoomPrepared(identity="sip-1", made=made, sid=sid)


def agent(identity: str = "agent-1", *, at_join: bool = False) -> ParticipantJoined:
    return ParticipantJoined(identity=identity, kind="agent", at_join=at_join)


def joined(*others: str) -> Joined:
    return Joined(others=frozenset(others))


def talking() -> Bench:
    """A call with a dispatched agent, both of whose sides talk."""
    bench = Bench(plan(agent_gone_timeout=60)).talking()
    return bench.feed(prepared(""), agent())


def published(bench: Bench) -> Published:
    return Published(seq=bench.state.seq)


# Whose the room is.


@pytest.mark.parametrize(("ours", "again"), [(True, False), (False, True)])
def test_whose_the_room_is_was_decided_at_the_first_time(ours: bool, again: bool) -> None:
    bench = Bench(plan(agent=""))
    bench.feed(Begun(), prepared("RM_1", made=ours), joined())
    bench.feed(LOST, prepared("RM_2", made=again), joined("a"))
    bench.feed(ParticipantLeft(identity="a", others=0)).wait(120)
    bench.leave()
    assert bench.has(DeleteRoom) is ours


# The agent that does not come back.


def test_forgotten_agent_is_dispatched_again_after_two_seconds() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(1.9)
    assert len(bench.of(DispatchAgent)) == 1
    bench.wait(0.2)
    assert len(bench.of(DispatchAgent)) == 2
    bench.feed(Dispatched(dispatch="AD_2"), agent("agent-2")).wait(50)
    assert bench.state.phase is Phase.ANSWERED
    assert not bench.has(RecallAgent)


def test_dispatch_that_no_worker_took_is_made_again_with_growing_pauses() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(2.1)
    bench.feed(Dispatched(dispatch="AD_2")).wait(1.9)
    assert len(bench.of(DispatchAgent)) == 2
    bench.wait(0.2)
    assert bench.of(DispatchAgent)[2:] == [DispatchAgent(instead_of="AD_2")]
    bench.feed(DispatchFailed())
    for count in (4, 5, 6):
        assert len(bench.wait(2.1).of(DispatchAgent)) == count
        bench.feed(Dispatched(dispatch="AD_3"))
    assert len(bench.wait(2.1).of(DispatchAgent)) == 7
    assert len(bench.feed(Dispatched(dispatch="AD_7")).wait(3.9).of(DispatchAgent)) == 7
    bench.feed(agent("agent-2")).wait(40)
    assert len(bench.of(DispatchAgent)) == 7


def test_agent_that_comes_back_in_time_is_not_dispatched_again() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(1.5).feed(agent()).wait(5)
    assert len(bench.of(DispatchAgent)) == 1


@pytest.mark.parametrize("notice_first", [True, False])
def test_agent_that_was_back_before_us_is_not_dispatched_again(notice_first: bool) -> None:
    bench = talking().feed(LOST, prepared("RM_2", made=False))
    there = agent(at_join=True)
    bench.feed(*((there, joined("agent-1")) if notice_first else (joined("agent-1"), there)))
    assert len(bench.wait(5).of(DispatchAgent)) == 1


def test_room_that_the_server_still_has_needs_no_new_dispatch() -> None:
    bench = talking().feed(LOST, prepared(""), joined()).wait(5)
    assert len(bench.of(DispatchAgent)) == 1


def test_human_who_is_back_does_not_stand_for_the_agent() -> None:
    human = ParticipantJoined(identity="human", kind="standard", at_join=True)
    bench = talking().feed(LOST, prepared("RM_2", made=False), joined("human"), human).wait(3)
    assert len(bench.of(DispatchAgent)) == 2


def test_agent_that_comes_back_late_has_the_second_one_recalled() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(2.1)
    bench.feed(Dispatched(dispatch="AD_2"), agent("agent-2"), agent())
    assert [one.dispatch for one in bench.of(RecallAgent)] == ["AD_2"]
    bench.feed(ParticipantLeft(identity="agent-2", others=1), agent()).wait(50)
    assert len(bench.of(RecallAgent)) == 1
    assert bench.state.phase is Phase.ANSWERED


def test_agent_back_while_another_is_being_asked_has_it_recalled() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(2.1).feed(agent())
    assert not bench.has(RecallAgent)
    bench.feed(Dispatched(dispatch="AD_2"))
    assert [one.dispatch for one in bench.of(RecallAgent)] == ["AD_2"]


def test_agent_never_seen_is_dispatched_again_and_not_recalled() -> None:
    bench = Bench(inbound()).in_room()
    bench.feed(Dispatched(dispatch="AD_1"), LOST, prepared("RM_2"), joined()).wait(2.1)
    assert len(bench.of(DispatchAgent)) == 2
    bench.feed(Dispatched(dispatch="AD_2"), agent("agent-2"))
    assert not bench.has(RecallAgent)


def test_dispatch_that_fails_because_the_room_went_away_is_made_after_the_rejoin() -> None:
    bench = Bench().in_room().feed(RoomReconnecting(), DispatchFailed())
    assert bench.state.phase is Phase.PREPARING
    bench.feed(LOST, prepared("RM_2"), joined()).wait(2.1)
    assert len(bench.of(DispatchAgent)) == 2
    assert bench.feed(Dispatched(dispatch="AD_2")).has(Dial)


def test_call_that_was_not_dialled_ends_when_its_agent_cannot_be_asked_again() -> None:
    bench = Bench().in_room().feed(RoomReconnecting(), DispatchFailed())
    bench.feed(LOST, prepared("RM_2"), joined()).wait(2.1).feed(DispatchFailed())
    assert bench.end.reason == "no_agent"
    assert not bench.has(Dial)


def test_room_that_reconnects_after_a_rejoin_still_waits_for_its_agent() -> None:
    bench = talking().feed(LOST, prepared("RM_2"), joined()).wait(1)
    bench.feed(RoomReconnecting()).wait(3)
    assert len(bench.of(DispatchAgent)) == 1
    bench.feed(RoomReconnected()).wait(2.1)
    assert len(bench.of(DispatchAgent)) == 2


# Who is told what.


def caught_up(bench: Bench) -> list[tuple[str, int, int]]:
    sent = [
        repeat
        for command in bench.commands
        for repeat in (command.repeats if isinstance(command, RestoreRoom) else (command,))
    ]
    assert not [one for one in sent if isinstance(one, RepeatTo) and one.identity == "agent-1"][1:]
    return [(one.identity, one.after, one.upto) for one in sent if isinstance(one, CatchUp)]


def test_those_back_before_us_hear_what_waited_and_nothing_twice() -> None:
    bench = talking().feed(LOST, changed(Hold.SENDONLY), prepared("RM_2"), joined("agent-1"))
    bench.feed(agent(at_join=True), published(bench))
    assert caught_up(bench) == []


def test_one_back_after_us_is_sent_what_it_missed_once() -> None:
    bench = talking()
    before = bench.state.seq
    bench.feed(LOST, changed(Hold.SENDONLY), changed(), prepared("RM_2"), joined())
    bench.feed(Published(seq=before + 1), Published(seq=before + 2))
    bench.feed(agent(), agent())
    assert caught_up(bench) == [("agent-1", before, before + 2)]


def test_one_back_after_a_second_loss_is_sent_what_it_missed_of_both() -> None:
    bench = talking()
    before = bench.state.seq
    bench.feed(LOST, changed(Hold.SENDONLY), prepared("RM_2"), joined(), published(bench))
    bench.feed(Published(seq=before + 1))
    bench.feed(LOST, prepared("RM_3"), joined("agent-1"))
    assert caught_up(bench) == [("agent-1", before, before + 1)]


def test_one_who_left_by_itself_is_a_newcomer_when_it_returns() -> None:
    bench = talking().feed(ParticipantLeft(identity="agent-1", others=0))
    count = len(bench.of(RepeatTo))
    bench.feed(agent())
    assert [one.event.name for one in bench.of(RepeatTo)[count:]] == ["call_answered"]


def test_repeats_of_a_rejoin_come_before_what_waits() -> None:
    bench = talking().feed(LOST, changed(Hold.SENDONLY), prepared("RM_2"), joined("new"))
    (restore,) = bench.of(RestoreRoom)[1:]
    assert [(one.identity, one.event.name) for one in restore.repeats if isinstance(one, RepeatTo)]
    assert restore.muted


# The end meanwhile.


def test_call_that_ends_during_a_rejoin_waits_two_seconds_for_it() -> None:
    bench = talking().feed(LOST, bye()).wait(1.9)
    assert bench.state.room is RoomPhase.REJOINING
    bench.wait(0.2)
    assert bench.done


def test_rejoin_that_works_in_that_time_brings_the_end_to_the_room() -> None:
    bench = talking().feed(LOST, bye()).wait(1).feed(prepared("RM_2"), joined("agent-1"))
    assert bench.of(RestoreRoom)[-1].attributes["sip.callStatus"] == "hangup"
    assert bench.leave().done


def test_rejoin_that_fails_after_the_end_leaves_at_once() -> None:
    bench = talking().feed(LOST, bye(), JoinFailed())
    assert bench.has(LeaveRoom)
    assert bench.feed(RoomLeft()).done


def test_ringing_call_whose_room_is_lost_goes_on() -> None:
    bench = Bench().dialing().feed(progressed(), LOST, prepared("RM_2"), joined())
    assert bench.state.phase is Phase.RINGING
    assert bench.of(RestoreRoom)[-1].attributes["sip.callStatus"] == "ringing"
