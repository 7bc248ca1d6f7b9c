"""The runner with everything around it faked: order, and what gets through."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.call import ports, turn
from bridge.call.call import Call
from bridge.call.control import transfer
from bridge.call.inputs import By, HangUp, Input
from bridge.call.plan import AnswerMode, CallPlan
from bridge.call.ports import JournalRecord, PreparedRoom
from bridge.call.requests import BadRequest, NotAllowed, NotDone, WrongState
from bridge.call.state import Phase
from bridge.call.turn import FLUSH_PATIENCE
from bridge.events import CallEvent
from bridge.media.seam import CallMedia, MediaLevels, MediaNotice, MediaStats
from bridge.room.seam import (
    AudioPublished,
    JoinSpec,
    LeaveReason,
    ParticipantJoined,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RpcRefused,
)
from bridge.sip.events import (
    FailureCause,
    ReferAnswered,
    ReferProgressed,
    Reoffered,
    SessionId,
)
from bridge.sip.headers import Reason
from sdp.model import Direction
from sdp.negotiated import Hold, Negotiated
from tests.unit.call.kit import (
    SID,
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


class World:
    """Everything around one call; ``log`` has all that was done, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.session: SessionId | None = SID
        self.handlers: RoomHandlers | None = None
        self.may_join = asyncio.Event()
        self.may_join.set()
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.may_publish = asyncio.Event()
        self.may_publish.set()
        self.may_record = asyncio.Event()
        self.may_record.set()
        self.journal_fails = False
        self.join_failures = 0
        self.publish_failures = 0
        self.attribute_failures = 0
        self.dial_fails = False
        self.listener_fails = False
        self.levels: MediaLevels | None = None
        self.attributes: dict[str, str] = {}
        self.records: list[JournalRecord] = []
        self.carrier = self
        self.ended: list[Call] = []
        self._changed = asyncio.Event()

    def note(self, what: str) -> None:
        self.log.append(what)
        self._changed.set()

    async def until(self, *wanted: str) -> None:
        async with asyncio.timeout(30):
            while not set(wanted) <= set(self.log):
                self._changed.clear()
                await self._changed.wait()

    # SipPort
    def dial(self) -> None:
        self.note("sip dial")
        if self.dial_fails:
            raise RuntimeError("no")

    def ring(self) -> None:
        self.note("sip ring")

    def answer(self) -> None:
        self.note("sip answer")

    def reject(self, status: int) -> None:
        self.note(f"sip reject {status}")

    def cancel(self) -> None:
        self.note("sip cancel")
        assert self.handlers is not None
        notify: Any = self.handlers.notify
        notify(refused(487, cause=FailureCause.CANCELLED))

    def bye(self, reason: Reason | None = None) -> None:
        del reason
        self.note("sip bye")

    def reoffer(self, direction: Direction) -> None:
        self.note(f"sip reoffer {direction.value}")

    def refer(self, to: str, replaces: SessionId | None) -> None:
        self.note(f"sip refer {to}" if replaces is None else f"sip refer {to} for {replaces}")

    def answer_refer(self, status: int) -> None:
        self.note(f"sip refer answered {status}")

    def tell_referred(self, status: int) -> None:
        self.note(f"sip referred {status}")

    def probe(self) -> None:
        self.note("sip probe")

    # CarrierMedia
    def connect(self, negotiated: Negotiated) -> None:
        self.note("media connect")

    def apply(self, levels: MediaLevels) -> None:
        self.levels = levels
        self.note(f"media gate {levels.agent_audio}")

    def send_dtmf(self, digits: str) -> None:
        self.note(f"media dtmf {digits}")

    def stats(self) -> MediaStats:
        raise NotImplementedError

    async def close(self) -> None:
        self.note("media close")

    # JournalPort
    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[object]:
        self.records += records
        return self._append([record.event.name for record in records])

    async def _append(self, names: list[str]) -> None:
        await asyncio.sleep(0)
        await self.may_record.wait()
        if self.journal_fails:
            raise OSError("disk full")
        for name in names:
            self.note(f"journal {name}")

    def room(self) -> Room:
        return Room(self)

    # RoomPort
    async def prepare(
        self, the_plan: CallPlan, attributes: Mapping[str, str], identity: str | None
    ) -> PreparedRoom:
        self.note(f"rooms prepare {identity}")
        try:
            await self.may_prepare.wait()
        except asyncio.CancelledError:
            self.note("rooms prepare given up")
            raise
        spec = JoinSpec(url="ws://x", room=the_plan.room, identity="sip-1", token="t")
        return PreparedRoom(spec=spec, made=identity is None)

    async def dispatch(self, the_plan: CallPlan, *, instead_of: str = "") -> str:
        self.note("rooms dispatch")
        return "AD_1"

    async def recall(self, the_plan: CallPlan, dispatch: str) -> None:
        self.note(f"rooms recall {dispatch}")

    def delete_later(self, room: str, delay: float) -> None:
        self.note("rooms delete")


class Room:
    """RoomSession of a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def join(self, spec: JoinSpec) -> None:
        self.world.note("room joining")
        await self.world.may_join.wait()
        if self.world.join_failures:
            self.world.join_failures -= 1
            raise RoomError("no")
        self.world.note("room joined")

    async def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> None:
        await self.world.may_publish.wait()
        if self.world.publish_failures:
            self.world.publish_failures -= 1
            self.world.note("room refuses")
            raise RoomError("gone")
        name = payload.decode().split('"')[3]
        self.world.note(f"room {name}{' to ' + to[0] if to else ''}")

    async def publish_dtmf(self, digit: str) -> None:
        self.world.note(f"room key {digit}")

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        if self.world.attribute_failures:
            self.world.attribute_failures -= 1
            raise RoomError("no")
        self.world.attributes.update(attributes)
        self.world.note(f"room status {self.world.attributes['sip.callStatus']}")

    def mute(self, muted: bool) -> None:
        self.world.note(f"room mute {muted}")

    def subscribe(self, wanted: bool) -> None:
        self.world.note(f"room subscribe {wanted}")

    def others(self) -> Sequence[str]:
        return ()

    async def leave(self, reason: LeaveReason) -> None:
        self.world.note(f"room leave {reason.value}")


class QuickWorld(World):
    """A journal and a room that do what they are asked before they return."""

    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[object]:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.journal_fails:
            done.set_exception(OSError("disk full"))
        else:
            for record in records:
                self.note(f"journal {record.event.name}")
            done.set_result(None)
        return done

    def room(self) -> Room:
        return QuickRoom(self)


class QuickRoom(Room):
    """The room of a `QuickWorld`."""

    def publish(  # type: ignore[override]
        self, payload: bytes, topic: str, to: Sequence[str] = ()
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        self.world.note(f"room {payload.decode().split(chr(34))[3]}")
        return done


@asynccontextmanager
async def running(
    world: World, the_plan: CallPlan, beside: ports.Beside = ports.ALONE
) -> AsyncIterator[Call]:
    def open_media(handlers: RoomHandlers, notify: Callable[[MediaNotice], None]) -> CallMedia:
        world.handlers = handlers
        return CallMedia(carrier=world, room=world.room())

    def publish(event: CallEvent) -> None:
        world.note(f"listener {event.name}")
        if world.listener_fails:
            raise ValueError("listener")

    clock = asyncio.get_running_loop().time
    call = Call(
        the_plan,
        sip=world,
        open_media=open_media,
        rooms=world,
        journal=world,
        publish=publish,
        clock=clock,
        wall=lambda: 1_700_000_000.0 + clock(),
        on_end=world.ended.append,
        beside=beside,
    )
    call.start()
    try:
        yield call
    finally:
        world.may_join.set()
        world.may_publish.set()
        if not call.record.ended_at:
            call.post(HangUp(by=By.API))
        async with asyncio.timeout(8):
            await call.wait_ended()


def post(call: Call, *inputs: Input) -> None:
    for item in inputs:
        call.post(item)


def order(world: World, *wanted: str) -> None:
    places = [world.log.index(item) for item in wanted]
    assert places == sorted(places), world.log


async def test_outbound_call_joins_and_dispatches_before_it_dials() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered", "media gate True")
        post(call, changed(Hold.SENDONLY))
        await world.until("room call_hold")
        post(call, changed())
        await world.until("room call_resume")
        post(call, bye())
        await world.until("rooms delete")
    order(world, "room joined", "rooms dispatch", "sip dial")
    order(world, "media gate False", "journal call_hold", "room call_hold")
    order(world, "room call_ended", "room status hangup", "room leave client_initiated")
    assert world.ended == [call]
    assert call.record.status == "completed"


async def test_inbound_call_rings_then_answers_when_the_agent_publishes() -> None:
    world = World()
    async with running(world, inbound()) as call:
        await world.until("sip ring", "rooms dispatch")
        assert "sip answer" not in world.log
        post(call, ParticipantJoined(identity="a", kind="agent", at_join=False))
        post(call, AudioPublished(identity="a"))
        await world.until("sip answer")
        post(call, confirmed())
        await world.until("room call_answered", "room status active")
        post(call, bye())
    assert call.record.as_dict()["outcome"] == "completed"


async def test_events_pass_the_journal_then_the_room_then_the_listeners() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered(), changed(Hold.INACTIVE), changed(), bye())
    for name in ("call_ringing", "call_answered", "call_hold", "call_resume", "call_ended"):
        order(world, f"journal {name}", f"room {name}", f"listener {name}")
    listened = [item for item in world.log if item.startswith("listener")]
    assert listened == [
        f"listener call_{name}" for name in ("ringing", "answered", "hold", "resume", "ended")
    ]


async def test_hold_and_bye_get_through_while_the_join_hangs() -> None:
    world = World()
    world.may_join.clear()
    async with running(world, inbound(answer_mode=AnswerMode.NOW)) as call:
        post(call, confirmed())
        await world.until("listener call_answered")
        post(call, changed(Hold.SENDONLY))
        await world.until("listener call_hold")
        assert world.levels is not None
        assert not world.levels.transmit
        post(call, bye())
        await world.until("listener call_ended", "media close")
        assert "room joined" not in world.log
        world.may_join.set()
        await world.until("room leave client_initiated")
    order(world, "room joined", "room call_answered", "room call_hold", "room call_ended")


async def test_api_hang_up_gets_through_while_the_join_hangs() -> None:
    world = World()
    world.may_join.clear()
    async with running(world, plan()) as call:
        await world.until("room joining")
        post(call, HangUp(by=By.API))
        await world.until("listener call_ended")
        assert call.state.phase is Phase.ENDED
    assert "sip dial" not in world.log
    order(world, "room joined", "room leave client_initiated")


async def test_a_journal_failure_does_not_stop_the_call() -> None:
    world = World()
    world.journal_fails = True
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered", "listener call_answered", "media gate True")
        post(call, bye())
    assert "listener call_ended" in world.log


async def test_a_slow_disk_does_not_keep_the_end_from_the_room() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered")
        world.may_record.clear()
        post(call, bye())
        await asyncio.sleep(FLUSH_PATIENCE + 0.1)
        assert "room leave client_initiated" not in world.log
        world.may_record.set()
        await world.until("room leave client_initiated")
    order(world, "journal call_ended", "room call_ended", "room leave client_initiated")


async def test_a_failing_listener_does_not_stop_the_call() -> None:
    world = World()
    world.listener_fails = True
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, answered(), bye())
    assert "listener call_ended" in world.log


async def test_a_failing_dial_ends_the_call_as_internal_error() -> None:
    world = World()
    world.dial_fails = True
    async with running(world, plan()) as call:
        await world.until("listener call_ended")
    assert call.record.reason == "internal_error"


async def test_a_failed_join_dials_nothing() -> None:
    world = World()
    world.join_failures = 1
    async with running(world, plan()) as call:
        await world.until("listener call_ended")
    assert "sip dial" not in world.log
    assert (call.record.outcome, call.record.reason) == ("failed", "room_unavailable")


async def test_after_a_rejoin_attributes_come_before_what_waited() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered", "room status active")
        world.may_join.clear()
        post(call, RoomClosed(why=RoomGone.LOST))
        await world.until("rooms prepare sip-1")
        post(call, changed(Hold.SENDONLY))
        await world.until("listener call_hold")
        world.log.clear()
        world.may_join.set()
        await world.until("room call_hold")
        assert world.attributes["bridge.hold"] == "true"
    order(world, "room joined", "room mute True", "room status active", "room call_hold")


async def test_one_who_comes_back_after_us_is_sent_what_it_missed_in_order() -> None:
    world = World()
    there = ParticipantJoined(identity="agent", kind="agent", at_join=False)
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, there, progressed(), answered())
        await world.until("room call_answered")
        world.may_join.clear()
        post(call, RoomClosed(why=RoomGone.LOST))
        await world.until("rooms prepare sip-1")
        post(call, changed(Hold.SENDONLY), changed())
        world.log.clear()
        world.may_join.set()
        await world.until("listener call_resume", "room joined")
        stranger = ParticipantJoined(identity="new", kind="standard", at_join=False)
        post(call, stranger, changed(Hold.INACTIVE))
        await world.until("room call_hold to new")
        post(call, there, changed())
        await world.until("room call_resume to agent")
    order(
        world,
        "room call_answered to new",
        "room call_hold to agent",
        "room call_resume to agent",
    )
    sent = [line.removeprefix("room ") for line in world.log if line.endswith(" to agent")]
    assert sent[:3] == ["call_hold to agent", "call_resume to agent", "call_hold to agent"]
    assert "room call_answered to agent" not in world.log
    assert "room call_hold" not in world.log, "nobody is told before it is known to be there"


async def test_a_rejoin_that_waits_for_the_server_does_not_outlive_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn, "REJOIN_PATIENCE", 0.01)
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        world.may_prepare.clear()
        post(call, RoomClosed(why=RoomGone.LOST))
        await world.until("rooms prepare sip-1")
        post(call, HangUp(by=By.API))
        await world.until("rooms prepare given up")
        assert call.state.phase is Phase.DONE


async def test_a_rejoin_that_was_given_up_is_left_also_while_sip_is_not_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent(World):
        def cancel(self) -> None:
            self.note("sip cancel")

    monkeypatch.setattr(turn, "CANCEL_PATIENCE", 0.01)
    monkeypatch.setattr(turn, "REJOIN_PATIENCE", 0.01)
    world = Silent()
    async with running(world, plan(agent="")) as call:
        await world.until("sip dial")
        world.may_join.clear()
        post(call, RoomClosed(why=RoomGone.LOST))
        await world.until("rooms prepare sip-1")
        post(call, HangUp(by=By.API))
        await world.until("rooms delete")  # given up: nobody waits for the rejoin
        assert "room leave client_initiated" not in world.log
        world.may_join.set()
        await world.until("room leave client_initiated")
        post(call, refused(487))


async def test_a_send_that_fails_while_the_room_goes_away_is_sent_after_the_rejoin() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        world.may_publish.clear()
        post(call, progressed())
        await world.until("listener call_ringing")
        world.publish_failures = 1
        world.may_join.clear()
        post(call, RoomClosed(why=RoomGone.LOST))
        await world.until("rooms prepare sip-1")
        world.may_publish.set()
        await world.until("room refuses")
        world.may_join.set()
        await world.until("room call_ringing")


async def test_attributes_that_got_lost_are_sent_again() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        world.attribute_failures = 2
        post(call, progressed())
        await world.until("room status ringing")
    assert call.record.outcome == "cancelled"


async def rpc(world: World, method: str, payload: str = "", kind: str = "agent") -> str:
    assert world.handlers is not None
    return await world.handlers.rpc[method]("someone", kind, payload)


async def test_rpcs_do_what_they_say() -> None:
    world = World()
    headers = (("X-Exotel-CallSid", "abc"), ("X-Other", "y"))
    async with running(world, plan()) as call:
        await world.until("sip dial")
        assert await rpc(world, "lk.sip.GetRemoteHeaders") == '{"headers": {}}'
        with pytest.raises(RpcRefused, match="not answered"):
            await rpc(world, "bridge.SendDTMF", '{"digits": "1"}')
        assert await rpc(world, "bridge.Ready") == "{}"
        post(call, replace(answered(), headers=headers))
        await world.until("room call_answered")
        assert await rpc(world, "bridge.SendDTMF", '{"digits": "12w#"}') == "{}"
        await world.until("media dtmf 12w#")
        post(call, changed(Hold.SENDONLY))
        await world.until("room call_hold")
        with pytest.raises(RpcRefused, match="on hold"):
            await rpc(world, "bridge.SendDTMF", '{"digits": "1"}')
        post(call, changed(dtmf_payload_type=None))
        await world.until("room call_resume")
        with pytest.raises(RpcRefused, match="no telephone-events"):
            await rpc(world, "bridge.SendDTMF", '{"digits": "1"}')
        reply = await rpc(world, "lk.sip.GetRemoteHeaders", '{"include": ["x-other"]}')
        assert reply == '{"headers": {"X-Other": "y"}}'
        assert await rpc(world, "lk.sip.EndCall") == "{}"
        await world.until("sip bye", "listener call_ended")
    assert (call.record.outcome, call.record.ended_by) == ("completed", "agent")


async def test_of_a_call_that_came_in_the_remote_headers_are_those_of_its_invite() -> None:
    world = World()
    async with running(world, inbound(remote_headers=(("X-Exotel-CallSid", "abc"),))):
        reply = await rpc(world, "lk.sip.GetRemoteHeaders", '{"exclude": ["via"]}')
        assert reply == '{"headers": {"X-Exotel-CallSid": "abc"}}'


@pytest.mark.parametrize("payload", ["", "[]", "{", '{"digits": 5}', '{"digits": "x"}', "[" * 9999])
async def test_send_dtmf_refuses_a_bad_payload(payload: str) -> None:
    world = World()
    async with running(world, plan()):
        with pytest.raises(RpcRefused):
            await rpc(world, "bridge.SendDTMF", payload)


async def test_control_rpcs_are_for_agents_and_controllers() -> None:
    world = World()
    async with running(world, plan(controllers=frozenset({"boss"}))):
        with pytest.raises(RpcRefused, match="only agents"):
            await rpc(world, "bridge.SendDTMF", '{"digits": "1"}', kind="standard")
        assert world.handlers is not None
        for method in ("bridge.Hold", "bridge.Resume", "bridge.Transfer"):
            with pytest.raises(RpcRefused, match="only agents"):
                await rpc(world, method, kind="standard")
        asked: Any = world.handlers.rpc["bridge.Transfer"]
        with pytest.raises(RpcRefused, match="transfer_allow"):
            await asked("boss", "standard", '{"to": "+918045678900"}')


async def test_hold_rpc_is_answered_when_the_reinvite_is() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        with pytest.raises(RpcRefused, match="not answered") as refusal:
            await rpc(world, "bridge.Hold")
        assert refusal.value.code == 409
        post(call, answered())
        await world.until("room call_answered")
        with pytest.raises(RpcRefused, match="not on our hold"):
            await rpc(world, "bridge.Resume")
        holding = asyncio.create_task(rpc(world, "bridge.Hold"))
        await world.until("sip reoffer sendonly")
        assert not holding.done()
        with pytest.raises(RpcRefused, match="under way"):
            await rpc(world, "bridge.Hold")
        post(call, changed(receive=False), Reoffered(session=SID, ok=True))
        assert await holding == "{}"
        assert world.levels is not None
        assert not world.levels.agent_audio
        with pytest.raises(RpcRefused, match="on our hold already"):
            await rpc(world, "bridge.Hold")
        resuming = asyncio.create_task(rpc(world, "bridge.Resume"))
        await world.until("sip reoffer sendrecv")
        post(call, Reoffered(session=SID, ok=False))
        with pytest.raises(RpcRefused, match="nothing changed") as refusal:
            await resuming
        assert refusal.value.code == 502
        last = asyncio.create_task(rpc(world, "bridge.Resume"))
        await asyncio.sleep(0)
        post(call, bye())
        with pytest.raises(RpcRefused, match="has ended"):
            await last
    with pytest.raises(RpcRefused, match="has ended"):
        await rpc(world, "bridge.Hold")
    assert not {"room call_hold", "room call_resume"} & set(world.log)


async def test_inputs_after_the_end_are_ignored() -> None:
    world = World()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, bye(), HangUp(by=By.API), answered())
    before = list(world.log)
    post(call, changed(Hold.SENDONLY), HangUp(by=By.API))
    await asyncio.sleep(0)
    assert world.log == before


async def test_a_hold_that_is_journalled_at_once_is_sent_in_the_turn_that_heard_it() -> None:
    world = QuickWorld()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered", "media gate True", "room status active")
        await asyncio.sleep(0)  # the lane has seen that it is sent
        before = len(world.log)
        call.post(changed(Hold.SENDONLY))
        told = world.log[before:]
        assert told == ["media gate False", "media connect", "journal call_hold", "room call_hold"]
        post(call, bye())
    order(world, "room call_hold", "listener call_hold", "listener call_ended")
    assert world.log.count("room call_hold") == 1


async def test_a_hold_that_the_journal_refuses_is_told_all_the_same() -> None:
    world = QuickWorld()
    async with running(world, plan()) as call:
        await world.until("sip dial")
        post(call, progressed(), answered())
        await world.until("room call_answered", "media gate True")
        world.journal_fails = True
        call.post(changed(Hold.SENDONLY))
        await world.until("room call_hold", "listener call_hold")
        post(call, bye())


async def test_transfer_rpc_is_answered_when_the_far_end_has_agreed() -> None:
    world = World()
    async with running(world, plan(transfer_allow=("+9180*", "sip:*@pbx.example.com"))) as call:
        await world.until("sip dial")
        wanted = '{"to": "080 4567 8900"}'
        for payload, text, code in (
            (wanted, "not answered", 409),
            ('{"to": "+912245678900"}', "transfer_allow", 403),
            ('{"to": "sip:a@evil.example"}', "transfer_allow", 403),
            ('{"to": "bob"}', "phone number", 400),
            ('{"to": 5}', "phone number", 400),
            ("{}", "phone number", 400),
        ):
            with pytest.raises(RpcRefused, match=text) as refusal:
                await rpc(world, "bridge.Transfer", payload)
            assert refusal.value.code == code
        post(call, answered())
        await world.until("room call_answered")
        asking = asyncio.create_task(rpc(world, "bridge.Transfer", wanted))
        await world.until("sip refer +918045678900")
        assert not asking.done()
        post(call, ReferAnswered(session=SID, status=603))
        with pytest.raises(RpcRefused, match=r"refused the transfer \(603\)") as refusal:
            await asking
        assert refusal.value.code == 502
        again = asyncio.create_task(rpc(world, "bridge.Transfer", wanted))
        await asyncio.sleep(0)
        post(call, ReferAnswered(session=SID, status=202))
        assert await again == "{}"
        post(call, ReferProgressed(session=SID, status=200, over=True), bye())
    order(world, "journal call_transfer", "room call_transfer", "listener call_transfer")
    assert (call.record.outcome, call.record.reason) == ("completed", "transferred")


async def test_transfer_by_the_api_says_why_not() -> None:
    world = World()
    async with running(world, plan(transfer_allow=("+9180*",))) as call:
        await world.until("sip dial")
        with pytest.raises(BadRequest, match="phone number"):
            await transfer(call, "bob")
        with pytest.raises(NotAllowed):
            await transfer(call, "+912245678900")
        with pytest.raises(WrongState, match="not answered"):
            await transfer(call, "+918045678900")
        post(call, answered())
        asking = asyncio.create_task(transfer(call, "+918045678900"))
        await world.until("sip refer +918045678900")
        post(call, ReferAnswered(session=SID, status=405))
        with pytest.raises(NotDone, match="405"):
            await asking
        asking = asyncio.create_task(transfer(call, "+918045678900"))
        await asyncio.sleep(0)
        post(call, ReferAnswered(session=SID, status=202))
        await asking
        post(call, bye())
    with pytest.raises(WrongState, match="ended"):
        await transfer(call, "+918045678900")
    assert (call.record.reason, call.record.ended_by) == ("transferred", "api")


class Beside(ports.Beside):
    """One other call."""

    def __init__(self, phase: Phase, **changes: Any) -> None:
        there = plan(call_id="other", phone_number="+918045678900", **changes)
        self.call: Any = SimpleNamespace(plan=there, state=SimpleNamespace(phase=phase))

    def other(self, call_id: str) -> Any:
        return self.call if call_id == "other" else None

    def session_of(self, call_id: str) -> SessionId | None:
        return SessionId(42) if call_id == "other" else None


async def test_an_attended_transfer_names_the_call_that_is_to_be_taken_over() -> None:
    world = World()
    beside = Beside(Phase.ANSWERED)
    async with running(world, plan(transfer_allow=("+9180*",)), beside) as call:
        await world.until("sip dial")
        post(call, answered())
        asking = asyncio.create_task(rpc(world, "bridge.Transfer", '{"to": "call:other"}'))
        await world.until("sip refer +918045678900 for 42")
        post(call, ReferAnswered(session=SID, status=202))
        assert await asking == "{}"
        post(call, bye())
    assert call.record.reason == "transferred"


@pytest.mark.parametrize(
    ("to", "beside", "allow", "code"),
    [
        ("call:nobody", Beside(Phase.ANSWERED), "*", 409),
        ("call:", Beside(Phase.ANSWERED), "*", 409),
        ("call:11112222-0000-4000-8000-000000000000", Beside(Phase.ANSWERED), "*", 409),
        ("call:other", Beside(Phase.RINGING), "*", 409),
        ("call:other", Beside(Phase.ANSWERED, trunk="plivo"), "*", 409),
        ("call:other", Beside(Phase.ANSWERED), "+9122*", 403),
        ("call:other", ports.ALONE, "*", 409),
    ],
)
async def test_an_attended_transfer_needs_an_answered_call_of_the_trunk_that_is_allowed(
    to: str, beside: ports.Beside, allow: str, code: int
) -> None:
    world = World()
    async with running(world, plan(transfer_allow=(allow,)), beside) as call:
        await world.until("sip dial")
        post(call, answered())
        with pytest.raises(RpcRefused) as refusal:
            await rpc(world, "bridge.Transfer", json.dumps({"to": to}))
        assert refusal.value.code == code
        post(call, bye())
    assert not [line for line in world.log if line.startswith("sip refer")]
