"""A machine under virtual time, and the words its tests are written in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from bridge.call.commands import Command
from bridge.call.inputs import (
    AgentReady,
    Begun,
    DeadlineReached,
    Dispatched,
    Flushed,
    Input,
    Joined,
    Published,
    RoomLeft,
    RoomPrepared,
)
from bridge.call.machine import initial, next_deadline, step
from bridge.call.plan import AnswerMode, CallPlan, Direction
from bridge.call.state import CallState, Phase
from bridge.events import CallEnded, CallEvent
from bridge.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    Progressed,
    SessionChanged,
    SessionId,
)
from sdp.negotiated import Hold, Negotiated

SID = SessionId(1)
WALL = 1_700_000_000.0
T = TypeVar("T")


def plan(**changes: Any) -> CallPlan:
    base = CallPlan(
        call_id="11112222-0000-4000-8000-000000000000",
        direction=Direction.OUTBOUND,
        trunk="exotel",
        room="call-1",
        created_at=WALL,
        phone_number="+919876543210",
        trunk_number="+918012345678",
        agent="support",
    )
    return replace(base, **changes)


def inbound(**changes: Any) -> CallPlan:
    return plan(direction=Direction.INBOUND, **changes)


def negotiated(hold: Hold | None = None, **changes: Any) -> Negotiated:
    away = hold is not None
    base = Negotiated(
        remote_address="192.0.2.1",
        remote_port=4000,
        remote_rtcp_port=4001,
        codec="PCMA",
        payload_type=8,
        receive_codecs=((8, "PCMA"),),
        dtmf_payload_type=101,
        receive_dtmf_payload_type=101,
        ptime=20,
        send=not away,
        receive=hold is not Hold.INACTIVE,
        hold=hold,
    )
    return replace(base, **changes)


def progressed(status: int = 180, early: Negotiated | None = None) -> Progressed:
    return Progressed(session=SID, status=status, early=early)


def answered(hold: Hold | None = None) -> Answered:
    return Answered(session=SID, negotiated=negotiated(hold), status=200)


def confirmed(hold: Hold | None = None) -> Confirmed:
    return Confirmed(session=SID, negotiated=negotiated(hold))


def changed(hold: Hold | None = None, **changes: Any) -> SessionChanged:
    return SessionChanged(session=SID, negotiated=negotiated(hold, **changes))


def bye(q850: int | None = None) -> Ended:
    return Ended(session=SID, cause=EndCause.BYE, status=None, q850=q850)


def refused(status: int, q850: int | None = None, **changes: Any) -> Failed:
    base = Failed(
        session=SID,
        cause=FailureCause.REFUSED,
        status=status,
        phrase="",
        q850=q850,
        rang=False,
    )
    return replace(base, **changes)


class Bench:
    """One machine; ``feed`` posts inputs, ``wait`` lets virtual time pass."""

    def __init__(self, the_plan: CallPlan | None = None) -> None:
        self.now = 1000.0
        self.state: CallState = initial(the_plan or plan(), self.now, self.wall)
        self.commands: list[Command] = []
        self.events: list[CallEvent] = []
        self.last: tuple[Command | CallEvent, ...] = ()

    @property
    def wall(self) -> float:
        return WALL + self.now - 1000.0

    def feed(self, *inputs: Input) -> Bench:
        for item in inputs:
            taken = step(self.state, item, self.now, self.wall)
            self.state = taken.state
            self.commands += taken.commands
            self.events += taken.events
            self.last = (*taken.commands, *taken.events)
        return self

    def wait(self, seconds: float) -> Bench:
        end = self.now + seconds
        while (at := next_deadline(self.state)) is not None and at <= end:
            self.now = max(self.now, at)
            self.feed(DeadlineReached())
        self.now = end
        return self

    def of(self, kind: type[T]) -> list[T]:
        return [item for item in (*self.commands, *self.events) if isinstance(item, kind)]

    def has(self, kind: type) -> bool:
        return bool(self.of(kind))

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def end(self) -> CallEnded:
        found = self.of(CallEnded)
        assert len(found) == 1, f"{len(found)} call_ended"
        return found[0]

    def verdict(self) -> tuple[str, str, str]:
        return self.end.outcome, self.end.reason, self.end.ended_by

    # Roads that many tests take.

    def in_room(self, *others: str) -> Bench:
        self.feed(Begun(), RoomPrepared(identity="sip-1", made=True))
        return self.feed(Joined(others=frozenset(others)))

    def dialing(self) -> Bench:
        self.in_room()
        return self.feed(Dispatched()) if self.state.plan.agent else self

    def talking(self, hold: Hold | None = None) -> Bench:
        """Answered, and call_answered has reached the room."""
        if self.state.plan.inbound:
            self.in_room()
            if self.state.plan.answer_mode is AnswerMode.AGENT:
                self.feed(AgentReady(identity="agent"))
            self.feed(confirmed(hold))
        else:
            self.dialing().feed(AgentReady(identity="agent"), progressed(), answered(hold))
        return self.feed(Published(seq=self.state.seq))

    def leave(self) -> Bench:
        """The room's side of an ending."""
        return self.feed(Flushed(), RoomLeft())

    @property
    def done(self) -> bool:
        return self.state.phase is Phase.DONE
