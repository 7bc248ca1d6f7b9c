"""The agent kit against a real livekit-server: a stand-in phone of kind SIP, real participants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from livekit import rtc

from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token
from tests.system.conftest import LiveKitServer
from trunkbridge.agent import TOPIC, CallEnded, PhoneCall

pytestmark = pytest.mark.system

CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
NUMBER = "+919876543210"
OURS = {
    "sip.callID": CALL,
    "sip.callStatus": "dialing",
    "sip.phoneNumber": NUMBER,
    "bridge.hold": "false",
    "bridge.seq": "0",
}
THEIRS = {"sip.callID": "SCL_abc", "sip.callStatus": "ringing", "sip.phoneNumber": NUMBER}


class Phone:
    """What the bridge is in a room: a participant of kind SIP with attributes and events."""

    def __init__(self, room: rtc.Room) -> None:
        self.room = room
        self.ready: asyncio.Queue[str] = asyncio.Queue()
        self.seq = 0

    def answer_rpcs(self) -> None:
        @self.room.local_participant.register_rpc_method("bridge.Ready")
        async def ready(data: rtc.RpcInvocationData) -> str:
            self.ready.put_nowait(data.caller_identity)
            return "{}"

    async def say(self, event: str, *, to: list[str] | None = None, **fields: Any) -> None:
        self.seq += 1
        document = {"event": event, "version": 1, "call_id": CALL, "seq": self.seq, **fields}
        await self.room.local_participant.publish_data(
            json.dumps(document), reliable=True, topic=TOPIC, destination_identities=to or []
        )

    async def show(self, **attributes: str) -> None:
        given = {name.replace("__", "."): value for name, value in attributes.items()}
        await self.room.local_participant.set_attributes(given)


class House:
    """One room, and everyone who was let into it."""

    def __init__(self, server: LiveKitServer) -> None:
        self._server = server
        self._keys = LiveKitKeys(api_key=server.api_key, api_secret=server.api_secret)
        self._name = server.room_name("kit")
        self._rooms: list[rtc.Room] = []

    async def phone(self, attributes: Mapping[str, str] = OURS) -> Phone:
        token = bridge_token(
            self._keys,
            room=self._name,
            identity=f"sip-{NUMBER}",
            name="Phone",
            metadata=json.dumps({"source": "trunkbridge", "call_id": CALL}),
            attributes=attributes,
        )
        phone = Phone(await self._join(token))
        if "bridge.seq" in attributes:
            phone.answer_rpcs()
        return phone

    async def guest(self, identity: str = "agent-1") -> rtc.Room:
        return await self._join(caller_token(self._keys, room=self._name, identity=identity))

    async def _join(self, token: str) -> rtc.Room:
        room = rtc.Room()
        await room.connect(self._server.url, token)
        self._rooms.append(room)
        return room

    async def aclose(self) -> None:
        for room in self._rooms:
            await room.disconnect()


@pytest.fixture
async def house(livekit: LiveKitServer) -> AsyncIterator[House]:
    opened = House(livekit)
    yield opened
    await opened.aclose()


async def attach(room: rtc.Room) -> PhoneCall:
    phone = await PhoneCall.attach(room, timeout=10)
    assert phone is not None
    return phone


def heard(call: PhoneCall) -> Callable[[str], Awaitable[Mapping[str, Any]]]:
    """Return what waits for the next event told to a handler and checks its name."""
    told: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue()
    for name in ("answered", "hold", "resume", "dtmf", "ended"):
        call.on(name, lambda event, name=name: told.put_nowait((name, event)))

    async def next_is(wanted: str) -> Mapping[str, Any]:
        async with asyncio.timeout(10):
            name, event = await told.get()
        assert name == wanted
        return event

    return next_is


async def test_an_early_agent_hears_the_whole_call_in_order(house: House) -> None:
    phone = await house.phone()
    call = await attach(await house.guest())
    async with asyncio.timeout(10):
        assert await phone.ready.get() == "agent-1"
    assert (call.call_id, call.number, call.metadata["call_id"]) == (CALL, NUMBER, CALL)
    next_is = heard(call)
    waiting = asyncio.ensure_future(call.answered(timeout=10))
    await phone.say("call_ringing", early_media=False)
    await phone.say("call_answered", codec="PCMA", ring_ms=1)
    await phone.show(**{"sip.callStatus": "active", "bridge.seq": "2"})
    await waiting
    assert (await next_is("answered"))["codec"] == "PCMA"
    await phone.say("call_hold", direction="sendonly")
    await phone.show(**{"bridge.hold": "true", "bridge.seq": "3"})
    assert (await next_is("hold"))["direction"] == "sendonly"
    assert call.held
    await phone.say("call_resume", held_ms=5)
    await phone.show(**{"bridge.hold": "false", "bridge.seq": "4"})
    assert (await next_is("resume"))["held_ms"] == 5
    await phone.say("call_dtmf", digit="7", duration_ms=100)
    assert (await next_is("dtmf"))["digit"] == "7"
    await phone.say("call_ended", outcome="completed", reason="remote_hangup")
    await phone.room.disconnect()
    assert (await next_is("ended"))["outcome"] == "completed"
    with pytest.raises(CallEnded, match="completed"):
        await call.answered()
    await call.aclose()


async def test_an_agent_that_waits_finds_the_phone_that_joins_later(house: House) -> None:
    room = await house.guest()
    waiting = asyncio.ensure_future(PhoneCall.attach(room, timeout=20))
    phone = await house.phone()
    call = await waiting
    assert call is not None
    async with asyncio.timeout(10):
        await phone.ready.get()
    await call.aclose()


async def test_a_late_agent_knows_everything_from_attributes_alone(house: House) -> None:
    state = {"sip.callStatus": "active", "bridge.hold": "true", "bridge.seq": "3"}
    phone = await house.phone({**OURS, **state})
    call = await attach(await house.guest())
    await call.answered(timeout=0)
    assert call.held
    next_is = heard(call)
    await phone.show(**{"bridge.hold": "false", "bridge.seq": "4"})
    await next_is("resume")
    assert not call.held
    await phone.show(**{"sip.callStatus": "hangup", "bridge.seq": "5"})
    await next_is("ended")
    await call.aclose()


async def test_what_is_sent_again_to_a_late_agent_is_not_told_twice(house: House) -> None:
    phone = await house.phone({**OURS, "sip.callStatus": "active", "bridge.seq": "1"})
    call = await attach(await house.guest())
    next_is = heard(call)
    await phone.say("call_answered", to=["agent-1"], codec="PCMA", ring_ms=1)
    await phone.say("call_hold", direction="inactive")
    await next_is("hold")
    await call.aclose()


async def test_livekit_sip_is_understood_by_its_attributes_without_waiting(house: House) -> None:
    phone = await house.phone(THEIRS)
    room = await house.guest()
    async with asyncio.timeout(1):
        call = await attach(room)
    next_is = heard(call)
    waiting = asyncio.ensure_future(call.answered(timeout=10))
    await phone.show(**{"sip.callStatus": "active"})
    await waiting
    await next_is("answered")
    await phone.show(**{"sip.callStatus": "hangup"})
    await phone.room.disconnect()
    await next_is("ended")
    await call.aclose()


async def test_events_of_another_participant_are_ignored(house: House) -> None:
    phone = await house.phone()
    call = await attach(await house.guest())
    next_is = heard(call)
    impostor = Phone(await house.guest("impostor"))
    await impostor.say("call_answered", codec="PCMA", ring_ms=1)
    await impostor.say("call_hold", direction="sendonly")
    await impostor.say("call_ended", outcome="failed")
    # A reliable message through the same server, after theirs: theirs have come.
    seen = asyncio.Event()
    call._room.on("data_received", lambda packet: packet.topic == "fence" and seen.set())
    await impostor.room.local_participant.publish_data("x", reliable=True, topic="fence")
    async with asyncio.timeout(10):
        await seen.wait()
    assert not call.held
    with pytest.raises(TimeoutError):
        await call.answered(timeout=0)
    await phone.say("call_answered", codec="PCMU", ring_ms=1)
    assert (await next_is("answered"))["codec"] == "PCMU"
    await call.aclose()


async def test_a_call_that_ends_before_its_answer_says_how(house: House) -> None:
    phone = await house.phone()
    call = await attach(await house.guest())
    waiting = asyncio.ensure_future(call.answered(timeout=10))
    await phone.say("call_ended", outcome="busy", reason="busy")
    with pytest.raises(CallEnded) as ended:
        await waiting
    assert ended.value.outcome == "busy"
    await call.aclose()


async def test_a_web_call_has_no_phone(house: House) -> None:
    await house.guest("visitor")
    room = await house.guest()
    async with asyncio.timeout(10):
        assert await PhoneCall.attach(room, timeout=30) is None
