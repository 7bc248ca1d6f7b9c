"""The agent kit over a fake room: order, repeats, late joins, livekit/sip and impostors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from tests.unit.trunkbridge.fake_room import (
    AGENT,
    CALL,
    SIP,
    STANDARD,
    FakeParticipant,
    FakeRoom,
    phone,
)
from trunkbridge.agent import CallEnded, PhoneCall, Refused, find
from trunkbridge.agent import phone as phone_module

pytestmark = pytest.mark.unit

Reason = rtc.DisconnectReason


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_PATIENCE", 0.01)
    for name in ("_GRACE", "_REJOIN", "_PAUSE", "_KEY_SPACING"):
        monkeypatch.setattr(phone_module, name, 0.01)


async def attached(room: FakeRoom, **options: Any) -> PhoneCall:
    call = await PhoneCall.attach(room, **options)
    assert call is not None
    return call


def heard(call: PhoneCall) -> list[str]:
    """Return a list that fills with the names of what handlers are told."""
    names: list[str] = []
    for name in ("answered", "hold", "resume", "dtmf", "transfer", "ended"):
        call.on(name, lambda event, name=name: names.append(name))
    return names


async def past_grace() -> None:
    """Let every timer of the kit that is due run."""
    await asyncio.sleep(0.03)


# Finding the phone.


async def test_attach_finds_the_phone_and_says_ready() -> None:
    who = phone()
    who.metadata = '{"source": "trunkbridge", "direction": "outbound"}'
    room = FakeRoom(who)
    call = await attached(room)
    assert (call.call_id, call.number, call.identity) == (CALL, "+919876543210", who.identity)
    assert call.metadata["direction"] == "outbound"
    assert room.rpcs == [(who.identity, "bridge.Ready", {})]
    assert not call.held


async def test_attach_waits_for_a_phone_that_joins_later() -> None:
    room = FakeRoom(FakeParticipant("other-agent", AGENT))
    waiting = asyncio.ensure_future(PhoneCall.attach(room, timeout=5))
    await asyncio.sleep(0)
    room.join(FakeParticipant("sip-without-call", SIP))
    await asyncio.sleep(0)
    who = phone()
    room.join(who)
    call = await waiting
    assert call is not None
    assert call.identity == who.identity


async def test_attach_connects_a_context_that_is_not_connected() -> None:
    room = FakeRoom(phone())
    room.connected = False

    async def connect() -> None:
        room.connected = True

    ctx = SimpleNamespace(room=room, connect=connect, job=SimpleNamespace(metadata=""))
    assert await PhoneCall.attach(ctx) is not None


@pytest.mark.parametrize("others", [[], [FakeParticipant("web", STANDARD)]])
async def test_without_a_phone_attach_is_none_and_listens_no_more(
    others: list[FakeParticipant],
) -> None:
    room = FakeRoom(*others)
    timeout = 0.01 if not others else 30
    assert await PhoneCall.attach(room, timeout=timeout) is None
    assert room.listeners == 0


async def test_a_room_that_closes_ends_the_search() -> None:
    room = FakeRoom()
    waiting = asyncio.ensure_future(PhoneCall.attach(room, timeout=30))
    await asyncio.sleep(0)
    room.connected = False
    room.emit("disconnected", "x")
    assert await asyncio.wait_for(waiting, 20) is None


async def test_of_several_phones_it_is_the_one_of_the_job() -> None:
    other = phone(call_id="aaaa0000-0000-4000-8000-000000000000")
    room = FakeRoom(other, phone())
    ctx = SimpleNamespace(room=room, job=SimpleNamespace(metadata=f'{{"call_id": "{CALL}"}}'))
    call = await PhoneCall.attach(ctx)
    assert call is not None
    assert call.call_id == CALL
    alone = SimpleNamespace(room=FakeRoom(other), job=ctx.job)
    assert await PhoneCall.attach(alone, timeout=0.01) is None


@pytest.mark.parametrize("metadata", ['{"call_id": "of the user"}', "no JSON", "[1]", ""])
async def test_job_metadata_of_others_hides_no_phone_of_livekit_sip(metadata: str) -> None:
    room = FakeRoom(phone(bridge=False))
    ctx = SimpleNamespace(room=room, job=SimpleNamespace(metadata=metadata))
    assert await PhoneCall.attach(ctx) is not None


async def test_ready_is_said_again_when_it_was_lost_but_not_when_refused() -> None:
    room = FakeRoom(phone())
    room.rpc_failures = [rtc.RpcError(rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT, "late")]
    await attached(room)
    assert len(room.rpcs) == 2
    room = FakeRoom(phone())
    room.rpc_failures = [rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, "no")]
    await attached(room)
    assert len(room.rpcs) == 1


async def test_a_cancelled_attach_listens_no_more() -> None:
    room = FakeRoom(phone())
    room.rpc_failures = [asyncio.CancelledError()]  # type: ignore[list-item]
    with pytest.raises(asyncio.CancelledError):
        await PhoneCall.attach(room)
    assert room.listeners == 0


# Events.


async def test_events_in_order_are_told_once_each() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.send(who, "call_ringing", 1)
    room.send(who, "call_answered", 2, codec="PCMA")
    room.send(who, "call_answered", 2, codec="PCMA")
    room.send(who, "call_hold", 3, direction="sendonly")
    assert call.held
    room.send(who, "call_hold", 3, direction="sendonly")
    room.send(who, "call_answered", 2)
    room.send(who, "call_dtmf", 4, digit="1")
    room.send(who, "call_resume", 5, held_ms=10)
    room.send(who, "call_hold", 3)
    assert not call.held
    room.send(who, "call_ended", 6, outcome="completed")
    room.leave(who, Reason.CLIENT_INITIATED)
    assert names == ["answered", "hold", "dtmf", "resume", "ended"]


async def test_waiting_ends_with_the_answer() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    waiting = asyncio.ensure_future(call.answered(timeout=5))
    await asyncio.sleep(0)
    assert not waiting.done()
    room.send(who, "call_answered", 1)
    await waiting
    await call.answered()


async def test_waiting_ends_with_the_outcome_or_in_time() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    with pytest.raises(TimeoutError):
        await call.answered(timeout=0.01)
    waiting = asyncio.ensure_future(call.answered())
    await asyncio.sleep(0)
    room.send(who, "call_ended", 1, outcome="busy")
    with pytest.raises(CallEnded) as ended:
        await waiting
    assert ended.value.outcome == "busy"


async def test_a_call_that_was_answered_and_is_over_has_nobody_to_speak_to() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    room.send(who, "call_answered", 1)
    room.send(who, "call_ended", 2, outcome="completed")
    with pytest.raises(CallEnded, match="completed"):
        await call.answered()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"1",
        b'"text"',
        b"{}",
        b'{"event": 1}',
        b'{"event": "call_new", "seq": 9}',
        b'{"event": "call_hold", "seq": "x"}',
    ],
)
async def test_what_is_no_event_changes_nothing_that_matters(data: bytes) -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.send_raw(who, data)
    assert [name for name in names if name != "hold"] == []


async def test_events_of_anybody_else_are_ignored() -> None:
    """Threat 5.2: Forged events."""
    who = phone()
    room = FakeRoom(who)
    impostors = [
        FakeParticipant("web", STANDARD),
        FakeParticipant("another", SIP),
        FakeParticipant(who.identity, STANDARD),
        None,
    ]
    call = await attached(room)
    names = heard(call)
    for impostor in impostors:
        room.send(impostor, "call_answered", 1)
        room.send(impostor, "call_ended", 2, outcome="failed")
    room.send(who, "call_answered", 1, topic="chat")
    other = FakeParticipant("web", STANDARD)
    room.change(other, sip__callStatus="hangup", bridge__hold="true", bridge__seq="9")
    room.emit("participant_disconnected", other)
    await past_grace()
    assert names == []


async def test_a_handler_that_fails_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    seen: list[str] = []

    @call.on("hold")
    def bad(_: Mapping[str, Any]) -> None:
        raise RuntimeError("a bug")

    @call.on("hold")
    async def worse(_: Mapping[str, Any]) -> None:
        raise RuntimeError("another bug")

    @call.on("hold")
    async def good(event: Mapping[str, Any]) -> None:
        seen.append(event["direction"])

    room.send(who, "call_hold", 1, direction="inactive")
    await past_grace()
    assert seen == ["inactive"]
    assert caplog.text.count("a handler of hold failed") == 2


async def test_an_unknown_name_is_refused() -> None:
    call = await attached(FakeRoom(phone()))
    with pytest.raises(ValueError, match="allowed: answered, hold"):
        call.on("holding", lambda _: None)


# Attributes alone, and with events.


async def test_a_late_joiner_reads_everything_from_attributes() -> None:
    who = phone(sip__callStatus="active", bridge__hold="true", bridge__seq="3")
    room = FakeRoom(who)
    call = await attached(room)
    assert call.held
    await call.answered(timeout=0)
    names = heard(call)
    room.send(who, "call_answered", 2)  # sent again, to it alone
    room.send(who, "call_hold", 3)
    assert names == []
    room.change(who, bridge__hold="false", bridge__seq="4")
    await past_grace()
    assert names == ["resume"]
    assert not call.held


async def test_an_event_is_told_rather_than_the_attribute_that_overtakes_it() -> None:
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    told: list[Mapping[str, Any]] = []
    call.on("hold", told.append)
    room.change(who, bridge__hold="true", bridge__seq="2")
    assert told == []
    room.send(who, "call_hold", 2, direction="sendonly")
    await past_grace()
    assert [event.get("direction") for event in told] == ["sendonly"]


async def test_events_that_come_after_their_attributes_never_turn_the_hold_back() -> None:
    who = phone(sip__callStatus="active", bridge__seq="1")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.change(who, bridge__hold="true", bridge__seq="4")
    await past_grace()
    room.send(who, "call_hold", 2)
    room.send(who, "call_resume", 3)
    assert call.held
    room.send(who, "call_hold", 4)
    assert names == ["hold"]
    room.send(who, "call_resume", 5)
    assert names == ["hold", "resume"]


async def test_attributes_that_are_older_than_an_event_say_nothing() -> None:
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.send(who, "call_hold", 2)
    room.send(who, "call_resume", 3)
    room.change(who, bridge__hold="true", bridge__seq="2")
    await past_grace()
    assert names == ["hold", "resume"]
    assert not call.held


async def test_the_answer_and_the_end_are_known_from_attributes_alone() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.change(who, sip__callStatus="active", bridge__seq="2")
    await call.answered(timeout=20)
    room.change(who, sip__callStatus="hangup", bridge__seq="3")
    await past_grace()
    await past_grace()
    assert names == ["answered", "ended"]


async def test_timers_do_not_pile_up() -> None:
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    for seq in range(100):
        room.change(who, bridge__hold="true" if seq % 2 else "false", bridge__seq=str(seq))
    await past_grace()
    assert call._timers == set()
    await call.aclose()
    assert room.listeners == 0


# livekit/sip: no events, no RPC, sip.callStatus only.


async def test_livekit_sip_is_asked_nothing_and_understood_by_its_status() -> None:
    who = phone(bridge=False, sip__callStatus="ringing")
    room = FakeRoom(who)
    call = await attached(room)
    assert room.rpcs == []
    names = heard(call)
    room.change(who, sip__callStatus="active")
    assert names == ["answered"]
    room.change(who, sip__callStatus="hangup")
    room.leave(who, Reason.CLIENT_INITIATED)
    assert names == ["answered", "ended"]
    assert call._outcome == "completed"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.USER_REJECTED, "rejected"),
        (Reason.USER_UNAVAILABLE, "no_answer"),
        (Reason.UNKNOWN_REASON, ""),
    ],
)
async def test_livekit_sip_tells_the_outcome_by_the_reason_of_the_leave(
    reason: Any, outcome: str
) -> None:
    who = phone(bridge=False, sip__callStatus="ringing")
    room = FakeRoom(who)
    call = await attached(room)
    room.change(who, sip__callStatus="hangup")
    room.leave(who, reason)
    with pytest.raises(CallEnded) as ended:
        await call.answered()
    assert ended.value.outcome == outcome


# Leaving and coming back.


@pytest.mark.parametrize("reason", [Reason.CLIENT_INITIATED, Reason.PARTICIPANT_REMOVED])
async def test_a_phone_that_leaves_ends_the_call(reason: Any) -> None:
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    room.leave(who, reason)
    with pytest.raises(CallEnded):
        await call.answered(timeout=20)
    await call.hangup()
    assert [method for _, method, _ in room.rpcs] == ["bridge.Ready"]


async def test_a_phone_whose_connection_broke_may_come_back() -> None:
    who = phone(sip__callStatus="active", bridge__seq="2")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.leave(who, Reason.CONNECTION_TIMEOUT)
    room.join(phone(sip__callStatus="active", bridge__hold="true", bridge__seq="3"))
    await past_grace()
    assert names == ["hold"]
    await call.answered(timeout=20)


async def test_a_phone_that_does_not_come_back_has_ended() -> None:
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.leave(who, Reason.CONNECTION_TIMEOUT)
    assert names == []
    await past_grace()
    assert names == ["ended"]


async def test_a_room_that_closes_ends_the_call() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    room.emit("disconnected", Reason.ROOM_DELETED)
    with pytest.raises(CallEnded):
        await call.answered()


async def test_verbs_are_rpcs_on_the_phone() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    await call.send_dtmf("12#")
    await call.transfer("+911")
    await call.hangup()
    assert room.rpcs[1:] == [
        (who.identity, "bridge.SendDTMF", {"digits": "12#"}),
        (who.identity, "bridge.Transfer", {"to": "+911"}),
        (who.identity, "lk.sip.EndCall", {}),
    ]


async def test_the_progress_of_a_transfer_is_heard() -> None:
    who = phone()
    room = FakeRoom(who)
    call = await attached(room)
    statuses: list[int] = []
    call.on("transfer", lambda event: statuses.append(event["status"]))
    for seq, status in ((3, 100), (4, 180), (4, 180), (5, 486)):
        room.send(who, "call_transfer", seq, to="+918045678900", status=status)
    assert statuses == [100, 180, 486]


async def test_a_refusal_says_what_was_refused_and_why() -> None:
    room = FakeRoom(phone())
    call = await attached(room)
    room.rpc_failures.append(rtc.RpcError(1400, "not available yet"))
    with pytest.raises(Refused, match=r"bridge\.Transfer: not available yet") as refused:
        await call.transfer("+911")
    assert refused.value.code == 1400
    room.rpc_failures.append(rtc.RpcError(409, "the call is not answered, or on hold"))
    with pytest.raises(Refused, match="on hold"):
        await call.send_dtmf("1")


async def test_to_hang_up_a_phone_that_has_just_left_is_no_failure() -> None:
    room = FakeRoom(phone())
    call = await attached(room)
    room.rpc_failures.append(rtc.RpcError(rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED, "left"))
    await call.hangup()
    room.rpc_failures.append(rtc.RpcError(rtc.RpcError.ErrorCode.SEND_FAILED, "no room"))
    with pytest.raises(Refused):
        await call.hangup()


async def test_livekit_sip_is_sent_keys_as_it_takes_them_and_asked_for_no_transfer() -> None:
    room = FakeRoom(phone(bridge=False, sip__callStatus="active"))
    call = await attached(room)
    await call.send_dtmf("1wb#")
    assert room.keys == [(1, "1"), (13, "B"), (11, "#")]
    with pytest.raises(Refused, match="digits"):
        await call.send_dtmf("1x")
    room.rpc_failures.append(rtc.RpcError(1400, "Method not supported at destination"))
    with pytest.raises(Refused, match="not trunkbridge's"):
        await call.transfer("+911")


@pytest.mark.parametrize(
    ("module", "absent"),
    [("trunkbridge", "livekit"), ("trunkbridge.agent", "livekit.agents")],
)
def test_importing_costs_no_more_than_is_used(module: str, absent: str) -> None:
    script = f"import sys, {module}; print(sorted(n for n in sys.modules if n == {absent!r}))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout.strip() == b"[]"


async def test_a_phone_that_goes_twice_has_its_time_to_come_back_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phone_module, "_REJOIN", 0.1)
    who = phone(sip__callStatus="active")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    room.leave(who, Reason.CONNECTION_TIMEOUT)
    room.join(who)
    await asyncio.sleep(0.06)
    room.leave(who, Reason.CONNECTION_TIMEOUT)
    await asyncio.sleep(0.06)  # past the time of the first leave
    room.join(who)
    await asyncio.sleep(0.06)
    assert names == []


@pytest.mark.parametrize("told", [True, False])
async def test_a_call_that_ends_on_hold_is_not_resumed_first_or_afterwards(told: bool) -> None:
    who = phone(sip__callStatus="active", bridge__hold="true", bridge__seq="3")
    room = FakeRoom(who)
    call = await attached(room)
    names = heard(call)
    if told:
        room.send(who, "call_ended", 4, outcome="completed")
    room.change(who, sip__callStatus="hangup", bridge__hold="false", bridge__seq="4")
    await past_grace()
    await past_grace()
    assert names == ["ended"]
    assert not call.held
