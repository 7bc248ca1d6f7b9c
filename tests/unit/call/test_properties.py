"""What holds for every call, whatever comes in whatever order."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.call.commands import (
    ApplyLevels,
    Bye,
    Cancel,
    CloseMedia,
    ConnectMedia,
    Dial,
    Finish,
    LeaveRoom,
    Probe,
    PublishKey,
    Reject,
    Reoffer,
    RepeatTo,
    ReplyTo,
    RestoreRoom,
    SetAttributes,
    SetMute,
)
from bridge.call.inputs import (
    AgentReady,
    Begun,
    By,
    DeadlineReached,
    DialogFormed,
    DigitsAsked,
    Dispatched,
    DispatchFailed,
    EffectFailed,
    EndRecorded,
    Flushed,
    HangUp,
    HoldAsked,
    Input,
    Joined,
    JoinFailed,
    Published,
    RoomLeft,
    RoomPrepared,
    Shutdown,
)
from bridge.call.levels import attributes
from bridge.call.machine import TIMERS, TRANSITIONS, initial, next_deadline, restore, snapshot, step
from bridge.call.plan import AnswerMode, CallPlan, Direction
from bridge.call.record import record_of
from bridge.call.saved import dump, load
from bridge.call.state import CLOSED, CallState, MachineSnapshot, Phase, RoomPhase, Timer
from bridge.errors import MisuseError
from bridge.events import CallEnded, from_dict
from bridge.media.seam import KeyPressed, MediaTimedOut
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
)
from bridge.sip.events import (
    Cancelled,
    EndCause,
    Ended,
    FailureCause,
    KeyReported,
    Probed,
    Reoffered,
)
from sdp.model import Direction as Wanted
from sdp.negotiated import Hold
from tests.unit.call.kit import (
    SID,
    WALL,
    Bench,
    answered,
    changed,
    confirmed,
    negotiated,
    plan,
    progressed,
    refused,
)

pytestmark = pytest.mark.unit

identities = st.sampled_from(["a", "b", "c"])
holds = st.sampled_from([None, *Hold])
causes = st.sampled_from([None, 0, 16, 17, 38, 127])

peaceful: st.SearchStrategy[Input] = st.one_of(
    st.just(Joined()),
    st.builds(Joined, others=st.frozensets(identities)),
    st.just(Dispatched()),
    st.builds(AgentReady, identity=identities),
    st.builds(progressed, st.sampled_from([180, 183]), st.sampled_from([None, negotiated()])),
    st.builds(answered, holds),
    st.builds(confirmed, holds),
    st.builds(changed, holds),
    st.builds(changed, holds, receive=st.booleans()),
    st.builds(Published, seq=st.integers(1, 12)),
    st.builds(RoomPrepared, identity=identities, made=st.booleans()),
    st.builds(
        ParticipantJoined,
        identity=identities,
        kind=st.sampled_from(["agent", "standard"]),
        at_join=st.booleans(),
    ),
    st.builds(AudioPublished, identity=identities),
    st.builds(DialogFormed, sip_call_id=st.text(max_size=5), sip_tag=st.text(max_size=5)),
    st.builds(DigitsAsked, digits=st.text("0123#wx", max_size=4)),
    st.builds(DtmfRequested, digit=st.sampled_from("1#Az")),
    st.builds(KeyPressed, digit=st.sampled_from("1#Az"), duration_ms=st.integers(-1, 500)),
    st.builds(
        KeyReported, session=st.just(SID), digit=st.sampled_from("1#"), duration_ms=st.just(9)
    ),
    st.builds(Probed, session=st.just(SID), alive=st.booleans()),
    st.builds(HoldAsked, hold=st.booleans(), ticket=st.sampled_from([None, 1, 2])),
    st.builds(Reoffered, session=st.just(SID), ok=st.booleans()),
    st.just(RoomReconnecting()),
    st.just(RoomReconnected()),
    st.just(RoomClosed(why=RoomGone.LOST)),
    st.just(DeadlineReached()),
)
hostile: st.SearchStrategy[Input] = st.one_of(
    st.just(JoinFailed()),
    st.just(DispatchFailed()),
    st.just(EndRecorded()),
    st.just(Flushed()),
    st.just(RoomLeft()),
    st.just(Shutdown()),
    st.builds(HangUp, by=st.sampled_from(By)),
    st.builds(EffectFailed, sip_lost=st.booleans()),
    st.builds(ParticipantLeft, identity=identities, others=st.integers(0, 2)),
    st.builds(MediaTimedOut, ever=st.booleans()),
    st.builds(RoomClosed, why=st.sampled_from(RoomGone)),
    st.builds(
        refused,
        st.integers(300, 699),
        causes,
        cause=st.sampled_from(FailureCause),
        rang=st.booleans(),
    ),
    st.builds(Cancelled, session=st.just(SID), q850=causes),
    st.builds(
        Ended,
        session=st.just(SID),
        cause=st.sampled_from(EndCause),
        status=st.sampled_from([None, 481]),
        q850=causes,
    ),
)
pauses = st.sampled_from([0.0, 0.25, 0.5, 1.0, 5.0, 12.0, 40.0])
moves = st.lists(st.tuples(st.one_of(peaceful, peaceful, peaceful, hostile), pauses), max_size=40)
plans = st.builds(
    plan,
    direction=st.sampled_from(Direction),
    answer_mode=st.sampled_from(AnswerMode),
    agent=st.sampled_from(["", "support"]),
    hold_music=st.booleans(),
    early_media=st.booleans(),
    agent_gone_timeout=st.sampled_from([0.0, 10.0]),
    max_duration=st.sampled_from([60.0, 14400.0]),
    media_timeout=st.sampled_from([5.0, 30.0]),
)
bounded = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def opened(the_plan: CallPlan, *, far: bool) -> list[Input]:
    """Inputs that bring a call somewhere interesting before chance takes over."""
    if not far:
        return [Begun()]
    inputs: list[Input] = [Begun(), Joined(), Dispatched(), AgentReady(identity="a")]
    return [*inputs, confirmed() if the_plan.inbound else answered()]


def check_state(bench: Bench) -> None:
    state = bench.state
    levels = state.media_levels
    applied = bench.of(ApplyLevels)
    assert (applied[-1].levels if applied else CLOSED) == levels
    flowing = state.phase is Phase.ANSWERED and not state.held
    assert flowing or not (levels.transmit or levels.agent_audio)
    assert flowing or levels.watchdog is None
    if state.own_hold:
        assert (levels.agent_audio, levels.caller_audio) == (False, False)
        assert levels.watchdog is None
    quiet = state.phase is Phase.ANSWERED and (state.held or state.own_hold)
    assert (Timer.PROBE in state.deadlines) is quiet
    assert state.missed_probes < 2 or state.over
    if Timer.REOFFER in state.deadlines:
        assert state.reoffer is not None
        assert state.reoffer.ticket is not None
    if levels.caller_audio and not flowing:
        music = state.phase is Phase.ANSWERED and state.plan.hold_music
        assert music or (state.plan.early_media and state.early)
    if levels.agent_audio:
        assert state.gate_open
        assert state.resuming is None
    if state.over:
        assert levels == CLOSED
    if state.room is RoomPhase.JOINED and state.phase is not Phase.DONE:
        shown = state.room_levels
        assert shown is not None
        assert shown.attributes == attributes(state)
        assert shown.muted is (state.held and not state.plan.hold_music)


def check_story(bench: Bench) -> None:
    assert [event.seq for event in bench.events] == list(range(1, len(bench.events) + 1))
    names = bench.names()
    assert names.count("call_answered") <= 1
    assert names.count("call_ringing") <= 1
    assert names.count("call_ended") <= 1
    assert "call_ended" not in names[:-1]
    turns = [name for name in names if name in ("call_hold", "call_resume")]
    assert turns == [("call_hold", "call_resume")[n % 2] for n in range(len(turns))]
    for name in ("call_hold", "call_resume", "call_dtmf"):
        assert name not in names or names.index("call_answered") < names.index(name)
    for once in (Dial, Cancel, Bye, Reject, LeaveRoom, CloseMedia, Finish):
        assert len(bench.of(once)) <= 1, once
    if bench.has(Reoffer) or bench.has(Probe):
        kinds = [type(command) for command in bench.commands]
        answered_at = kinds.index(ConnectMedia)
        for kind in (Reoffer, Probe):
            assert kind not in kinds[:answered_at]
    directions = [command.direction for command in bench.of(Reoffer)]
    assert not directions or directions[0] is Wanted.SENDONLY
    if bench.has(LeaveRoom):
        kinds = [type(command) for command in bench.commands]
        after = kinds[kinds.index(LeaveRoom) + 1 :]
        assert not {RepeatTo, PublishKey, SetAttributes, SetMute, RestoreRoom} & set(after)


@bounded
@given(plans, st.booleans(), moves)
def test_every_call_keeps_its_promises_and_ends_once(
    the_plan: CallPlan, far: bool, steps: list[tuple[Input, float]]
) -> None:
    bench = Bench(the_plan).feed(*opened(the_plan, far=far))
    asked: list[int] = []
    for item, pause in steps:
        if isinstance(item, HoldAsked) and item.ticket and not bench.done:
            asked.append(item.ticket)
        bench.feed(item)
        check_state(bench)
        bench.wait(pause)
        check_state(bench)
    bench.feed(HangUp(by=By.API)).wait(200)
    check_state(bench)
    check_story(bench)
    assert sorted(reply.ticket for reply in bench.of(ReplyTo)) == sorted(asked)
    assert bench.done
    assert bench.has(Finish)
    assert next_deadline(bench.state) is None
    end = bench.end
    answered_once = "call_answered" in bench.names()
    assert answered_once or (end.outcome != "completed" and end.duration_ms == 0)
    record = record_of(the_plan, bench.events)
    assert record.outcome == end.outcome
    assert (record.started_at is None) is not answered_once
    assert record_of(the_plan, [from_dict(e.as_dict()) for e in bench.events]) == record


@bounded
@given(plans, st.booleans(), moves, st.integers(0, 40), st.sampled_from([-512.0, 0.0, 4096.0]))
def test_restored_call_goes_on_as_if_nothing_had_happened(
    the_plan: CallPlan, far: bool, steps: list[tuple[Input, float]], cut: int, shift: float
) -> None:
    first = Bench(the_plan).feed(*opened(the_plan, far=far))
    for item, pause in steps[:cut]:
        first.feed(item).wait(pause)
    saved = load(json.loads(json.dumps(dump(snapshot(first.state, first.now, first.wall)))))
    second = _Shifted(the_plan, shift)
    second.now = first.now + shift
    second.state = restore(saved, second.now, second.wall)
    seen = len(first.commands), len(first.events)
    for item, pause in [*steps[cut:], (HangUp(by=By.API), 200.0)]:
        first.feed(item).wait(pause)
        second.feed(item).wait(pause)
    assert second.commands == first.commands[seen[0] :]
    assert second.events == first.events[seen[1] :]


class _Shifted(Bench):
    """A bench on another monotonic clock and the same wall clock."""

    def __init__(self, the_plan: CallPlan, shift: float) -> None:
        self.shift = shift
        super().__init__(the_plan)

    @property
    def wall(self) -> float:
        return WALL + self.now - self.shift - 1000.0


def test_snapshot_of_another_version_is_refused() -> None:
    state: CallState = initial(plan(), 0.0, WALL)
    with pytest.raises(MisuseError, match="version"):
        restore(MachineSnapshot(version=99, state=state), 0.0, WALL)


def test_every_timer_has_its_handler() -> None:
    assert set(TIMERS) == set(Timer)


def test_table_has_rows_for_every_phase_but_the_last() -> None:
    assert {phase for phase, _ in TRANSITIONS} == set(Phase) - {Phase.DONE}


def test_input_without_a_row_changes_nothing() -> None:
    state = initial(plan(), 0.0, WALL)
    taken = step(state, answered(), 1.0, WALL)
    assert taken.state is state
    assert (taken.commands, taken.events) == ((), ())


def test_event_of_the_end_is_the_last() -> None:
    assert isinstance(Bench().talking().feed(HangUp(by=By.API)).events[-1], CallEnded)
