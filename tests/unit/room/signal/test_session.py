"""`SignalRoom` against a scripted server: sockets cut, refused, resumed; nothing left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from livekit.protocol import models, rtc

from bridge.errors import MisuseError
from bridge.room.joining import settle
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    JoinSpec,
    LeaveReason,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RoomReconnected,
    RoomReconnecting,
    RoomUnsuitable,
    RpcHandler,
    RpcRefused,
    Unsuitable,
)
from bridge.room.signal import link, session, socket
from bridge.room.signal.port import (
    DataDelivered,
    DataReceived,
    PeerClosed,
    PeerConnected,
    PeerDisconnected,
    PeerEvent,
    PeerPort,
    Side,
)
from bridge.room.signal.session import SignalRoom
from tests.authority import Authority
from tests.unit.room.signal.server import (
    DEADLINE,
    AirPeer,
    Notices,
    Script,
    ScriptedServer,
    scripted,
)
from tests.unit.room.signal.wire import (
    answer,
    audio,
    join,
    join_request,
    leave,
    person,
    published,
    reconnect,
    response,
    sections,
    update,
)

pytestmark = pytest.mark.unit

TOKEN = "a.secret.token"
TAKEN = (answer(), published())


class Phone:
    """A session, its transports and what it told."""

    def __init__(self, server: ScriptedServer, rpc: dict[str, RpcHandler] | None = None) -> None:
        self.server = server
        self.notices = Notices()
        self.peers: list[AirPeer] = []
        handlers = RoomHandlers(notify=self.notices, rpc=rpc or {})
        self.room = SignalRoom(handlers, self._peer, codec="PCMU", address="192.0.2.1")

    def _peer(self, notify: Callable[[PeerEvent], None]) -> PeerPort:
        self.peers.append(AirPeer(notify))
        return self.peers[-1]

    @property
    def peer(self) -> AirPeer:
        (peer,) = self.peers
        return peer

    def spec(self) -> JoinSpec:
        return JoinSpec(url=self.server.url, room="r", identity="me", token=TOKEN)

    async def join(self) -> Phone:
        await asyncio.wait_for(self.room.join(self.spec()), DEADLINE)
        return self

    def packets(self) -> list[models.DataPacket]:
        return [models.DataPacket.FromString(data) for data in self.peer.sent]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends everything, and nothing of ours may be left then."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        yield stack
    await settle()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:  # the watch on the server ends with its next probe
        _, left = await asyncio.wait(left, timeout=DEADLINE)
    assert left == set()


async def phone(
    stack: AsyncExitStack, script: Script | None = None, rpc: dict[str, RpcHandler] | None = None
) -> Phone:
    server = await stack.enter_async_context(scripted(script))
    phone = Phone(server, rpc)
    stack.push_async_callback(phone.room.leave, LeaveReason.CLIENT_INITIATED)
    return phone


# Joining.


async def test_a_join_is_one_message_with_the_token_in_its_header(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.room.set_attributes({"sip.callStatus": "dialing"})
    caller.room.mute(True)
    await caller.join()
    (path,) = caller.server.paths
    assert caller.server.tokens == [f"Bearer {TOKEN}"]
    assert TOKEN not in path
    request = join_request(path)
    assert request.participant_attributes == {"sip.callStatus": "dialing"}
    assert request.add_track_requests[0].muted
    opened = caller.peer.calls[1]
    assert (opened[0], opened[1], opened[2], opened[4]) == ("open", Side.PUBLISHER, "192.0.2.1", 1)
    assert opened[3] == request.add_track_requests[0].cid


async def test_notices_come_after_the_join(stack: AsyncExitStack) -> None:
    greeting = [join(person("a", audio("TR_a"))), answer(), published()]
    caller = await phone(stack, Script(greeting=greeting))
    await caller.room.join(caller.spec())
    assert caller.notices.seen == []
    assert await caller.notices.of(AudioPublished) == AudioPublished(identity="a")
    assert caller.room.others() == ["a"]


async def test_a_server_that_only_knows_the_old_way_is_joined_so(stack: AsyncExitStack) -> None:
    greeting = [
        join(),
        answer(),
        published(),
        response(offer=rtc.SessionDescription(type="offer", sdp="theirs", id=5)),
    ]
    caller = await phone(stack, Script(unknown=("/rtc/v1",), greeting=greeting))
    await caller.join()
    assert [path.partition("?")[0] for path in caller.server.paths] == ["/rtc"]
    assert caller.peer.sides == {Side.PUBLISHER, Side.SUBSCRIBER}
    assert (await caller.server.told("answer")).id == 5


async def test_a_server_that_knows_neither_way_is_unsuitable(stack: AsyncExitStack) -> None:
    caller = await phone(stack, Script(unknown=("/rtc/v1", "/rtc")))
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await caller.join()
    assert unsuitable.value.why is Unsuitable.SIGNALLING
    assert caller.peer.sides == set()


async def test_a_room_that_may_not_be_made_is_no_fault_of_the_engine(
    stack: AsyncExitStack,
) -> None:
    script = Script(unknown=("/rtc/v1",), body="requested room does not exist")
    caller = await phone(stack, script)
    with pytest.raises(RoomError, match="HTTP 404") as error:
        await caller.join()
    assert not isinstance(error.value, RoomUnsuitable)
    assert len(caller.server.attempts) == 1


async def test_a_refused_token_is_asked_once(stack: AsyncExitStack) -> None:
    caller = await phone(stack, Script(statuses=[401]))
    with pytest.raises(RoomError, match="could not be joined: HTTP 401"):
        await caller.join()
    assert len(caller.server.attempts) == 1
    await caller.join()


async def test_a_server_that_is_busy_is_asked_again(stack: AsyncExitStack) -> None:
    caller = await phone(stack, Script(statuses=[503, 502]))
    await caller.join()
    assert len(caller.server.attempts) == 3


async def test_a_server_that_stays_busy_or_away_is_a_room_error(stack: AsyncExitStack) -> None:
    caller = await phone(stack, Script(statuses=[503] * 9))
    with pytest.raises(RoomError, match="HTTP 503"):
        await caller.join()
    await caller.server.stop()
    with pytest.raises(RoomError, match="not reached"):
        await caller.join()
    assert caller.notices.seen == []


async def test_a_path_that_does_not_come_about_is_unsuitable(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RELAY_PATIENCE", 0.05)
    monkeypatch.setattr(link, "PATH_PATIENCE", 0.1)
    caller = await phone(stack)
    caller.peer.connecting = False
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await caller.join()
    assert unsuitable.value.why is Unsuitable.UDP_BLOCKED
    assert (await caller.server.told("leave")).reason == models.AGENT_ERROR


async def test_candidates_of_another_kind_only_are_unsuitable(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RELAY_PATIENCE", 0.05)
    sdp = "a=candidate:1 1 tcp 1 192.0.2.7 7881 typ host tcptype passive\r\n"
    script = Script(greeting=[join(), answer(sdp=sdp), published()])
    caller = await phone(stack, script)
    caller.peer.connecting = False
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await caller.join()
    assert unsuitable.value.why is Unsuitable.RELAY_ONLY


async def test_an_offer_that_is_not_answered_is_no_question_of_the_path(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RELAY_PATIENCE", 0.05)
    monkeypatch.setattr(link, "PATH_PATIENCE", 0.1)
    caller = await phone(stack, Script(greeting=[join(), published()]))
    with pytest.raises(RoomError, match="not answered") as error:
        await caller.join()
    assert not isinstance(error.value, RoomUnsuitable)


async def test_a_codec_that_is_not_ours_is_unsuitable(stack: AsyncExitStack) -> None:
    caller = await phone(stack, Script(greeting=[join(), answer(), published("audio/opus")]))
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await caller.join()
    assert unsuitable.value.why is Unsuitable.CODEC_DISABLED


async def test_encrypted_audio_is_unsuitable_although_all_else_is_well(
    stack: AsyncExitStack,
) -> None:
    agent = person("a", audio("TR_a", models.Encryption.GCM))
    caller = await phone(stack, Script(greeting=[join(agent), answer(), published()]))
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await caller.join()
    assert unsuitable.value.why is Unsuitable.ENCRYPTED
    assert caller.notices.seen == []


@pytest.mark.parametrize(
    ("greeting", "text"),
    [
        ([leave(models.JOIN_FAILURE)], "sent us away"),
        ([join(), leave(models.DUPLICATE_IDENTITY)], "sent us away"),
        ([join(), answer()], "could not be published"),
        ([], "says nothing"),
    ],
)
async def test_a_join_that_stops_halfway_is_a_room_error(
    stack: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
    greeting: list[bytes],
    text: str,
) -> None:
    monkeypatch.setattr(link, "FIRST_TIMEOUT", 0.2)
    monkeypatch.setattr(link, "GOODBYE", 0.1)
    caller = await phone(stack, Script(greeting=greeting))
    with pytest.raises(RoomError, match=text):
        await caller.join()
    assert caller.peer.sides == set()


async def test_a_transport_that_makes_no_offer_is_a_room_error(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "OFFER_TIMEOUT", 0.05)
    caller = await phone(stack)
    caller.peer.offering = False
    with pytest.raises(RoomError, match="no offer"):
        await caller.join()


async def test_joining_twice_is_misuse(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    with pytest.raises(MisuseError):
        await caller.room.join(caller.spec())


async def test_a_proxy_in_the_environment_is_not_asked(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    caller = await phone(stack)
    await caller.join()


async def test_the_token_stays_out_of_every_log(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    caller = await phone(stack)
    await caller.room.set_attributes({"sip.phoneNumber": "+4911"})
    await caller.join()
    await caller.room.leave(LeaveReason.CLIENT_INITIATED)
    output = capsys.readouterr()
    ours = [one for one in caplog.records if one.name != "websockets.server"]
    text = "".join(one.getMessage() for one in ours) + output.out + output.err
    assert TOKEN not in text
    assert "+4911" not in text


async def test_a_certificate_is_checked(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(ca=trustme.CA(), folder=tmp_path)
    server = await stack.enter_async_context(scripted(tls=authority.server("127.0.0.1")))
    caller = Phone(server)
    stack.push_async_callback(caller.room.leave, LeaveReason.CLIENT_INITIATED)
    assert server.url.startswith("wss://")
    with pytest.raises(RoomError, match="not reached"):
        await caller.join()
    monkeypatch.setattr(socket, "_tls", lambda: authority.client())
    await caller.join()


# Leaving.


async def test_a_leave_says_why_and_frees_everything(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    await caller.room.leave(LeaveReason.USER_REJECTED)
    assert (await caller.server.told("leave")).reason == models.USER_REJECTED
    assert caller.peer.sides == set()
    assert caller.room.others() == []
    await caller.room.leave(LeaveReason.USER_REJECTED)
    with pytest.raises(RoomError, match="was left"):
        await caller.room.publish(b"late", "t")
    assert caller.notices.seen == []


async def test_a_leave_waits_until_the_server_has_the_last_event(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "GOODBYE", DEADLINE)
    caller = await phone(stack)
    await caller.join()
    caller.peer.delivering = False
    await asyncio.wait_for(caller.room.publish(b"call_ended", "t"), DEADLINE)
    leaving = asyncio.ensure_future(caller.room.leave(LeaveReason.CLIENT_INITIATED))
    goodbye = asyncio.ensure_future(caller.server.told("leave"))
    await asyncio.wait({goodbye}, timeout=3 * link.DATA_GRACE)
    assert not goodbye.done()
    caller.peer.tell(DataDelivered(side=Side.PUBLISHER, label="_reliable", count=1))
    await goodbye
    await asyncio.wait_for(leaving, DEADLINE)


async def test_a_leave_does_not_wait_for_ever(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    caller.peer.delivering = False
    await asyncio.wait_for(caller.room.publish(b"call_ended", "t"), DEADLINE)
    await asyncio.wait_for(caller.room.leave(LeaveReason.CLIENT_INITIATED), DEADLINE)
    await caller.server.told("leave")


async def test_a_leave_while_joining_ends_the_join_and_tells_the_server(
    stack: AsyncExitStack,
) -> None:
    caller = await phone(stack, Script(greeting=[join()]))
    joining = asyncio.ensure_future(caller.room.join(caller.spec()))
    await caller.server.connection()
    await caller.room.leave(LeaveReason.USER_UNAVAILABLE)
    with pytest.raises(RoomError, match="left while joining"):
        await joining
    await settle()
    assert (await caller.server.told("leave")).reason == models.USER_UNAVAILABLE
    assert caller.peer.sides == set()


async def test_a_new_join_waits_for_the_end_of_the_one_before(stack: AsyncExitStack) -> None:
    caller = await phone(
        stack, Script(greeting=[join()], resumption=[join(), answer(), published()])
    )
    joining = asyncio.ensure_future(caller.room.join(caller.spec()))
    await caller.server.connection()
    joining.cancel()
    await asyncio.wait({joining})
    await caller.join()
    assert (await caller.server.told("leave")).reason == models.CLIENT_INITIATED
    assert len(caller.server.paths) == 2
    assert caller.peer.sides == {Side.PUBLISHER}


# Messages, keys, RPC.


async def test_messages_go_out_in_order_and_at_once(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    early = caller.room.publish(b"0", "t")
    await caller.join()
    await early
    later = [caller.room.publish(b"1", "t", ["a"]), caller.room.publish_dtmf("#")]
    await asyncio.gather(*(asyncio.ensure_future(one) for one in later))
    packets = caller.packets()
    assert [one.sequence for one in packets] == [1, 2, 3]
    assert [one.user.payload for one in packets[:2]] == [b"0", b"1"]
    assert list(packets[1].destination_identities) == ["a"]
    assert packets[2].sip_dtmf.digit == "#"
    assert {one.participant_identity for one in packets[1:]} == {"me"}
    with pytest.raises(RoomError, match="no such key"):
        await caller.room.publish_dtmf("w")


async def test_keys_of_others_are_told(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    packet = models.DataPacket(
        participant_identity="a", sip_dtmf=models.SipDTMF(code=10, digit="*")
    )
    received(caller, packet)
    assert await caller.notices.of(DtmfRequested) == DtmfRequested(digit="*")


def received(caller: Phone, packet: models.DataPacket) -> None:
    data = packet.SerializeToString()
    caller.peer.tell(DataReceived(side=Side.PUBLISHER, label="_reliable", data=data))


def asked(method: str, number: str = "1", caller: str = "a") -> models.DataPacket:
    request = models.RpcRequest(
        id=number, method=method, payload="hello", response_timeout_ms=5000, version=1
    )
    return models.DataPacket(participant_identity=caller, rpc_request=request)


async def responses(caller: Phone, count: int) -> list[models.RpcResponse]:
    async with asyncio.timeout(DEADLINE):
        while True:
            found = [
                one.rpc_response
                for one in caller.packets()
                if one.WhichOneof("value") == "rpc_response"
            ]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.001)


async def test_rpcs_are_answered_or_refused(stack: AsyncExitStack) -> None:
    async def greet(identity: str, kind: str, payload: str) -> str:
        return f"{identity} {kind} {payload}"

    async def refuse(_identity: str, _kind: str, _payload: str) -> str:
        raise RpcRefused(403, "not yours")

    async def break_down(_identity: str, _kind: str, _payload: str) -> str:
        raise ZeroDivisionError

    script = Script(greeting=[join(person("a")), answer(), published()])
    rpc = {"greet": greet, "refuse": refuse, "break": break_down}
    caller = await phone(stack, script, rpc)
    await caller.join()
    for number, method in enumerate(["greet", "refuse", "break", "unknown"]):
        received(caller, asked(method, str(number)))
    found = {one.request_id: one for one in await responses(caller, 4)}
    assert found["0"].payload == "a agent hello"
    assert (found["1"].error.code, found["1"].error.message) == (403, "not yours")
    assert (found["2"].error.code, found["2"].error.message) == (1500, "internal error")
    assert found["3"].error.code == 1400


async def test_an_rpc_of_one_that_we_have_not_heard_of_waits_a_little(
    stack: AsyncExitStack,
) -> None:
    async def greet(identity: str, kind: str, payload: str) -> str:
        return kind

    caller = await phone(stack, None, {"greet": greet})
    await caller.join()
    server = await caller.server.connection()
    received(caller, asked("greet"))
    await server.send(update(person("a")))
    (reply,) = await responses(caller, 1)
    assert reply.payload == "agent"


async def test_an_rpc_under_way_when_we_leave_is_told_so(stack: AsyncExitStack) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def never(_identity: str, _kind: str, _payload: str) -> str:
        begun.set()
        await over.wait()
        return "late"

    script = Script(greeting=[join(person("a")), answer(), published()])
    caller = await phone(stack, script, {"never": never})
    await caller.join()
    received(caller, asked("never"))
    await asyncio.wait_for(begun.wait(), DEADLINE)
    await caller.room.leave(LeaveReason.CLIENT_INITIATED)
    (reply,) = await responses(caller, 1)
    assert reply.error.code == 1503
    over.set()


# Levels.


async def test_attributes_are_written_and_confirmed(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    await caller.room.set_attributes({"a": "1"})
    written = await caller.server.told("update_metadata")
    assert dict(written.attributes) == {"a": "1"}
    await caller.room.set_attributes({"b": "2"})
    confirmed = rtc.RequestResponse(request_id=written.request_id)
    await server.send(response(request_response=confirmed))
    assert dict((await caller.server.told("update_metadata")).attributes) == {"b": "2"}


async def test_a_deleted_attribute_is_written_after_the_join(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.room.set_attributes({"a": "1", "b": ""})
    await caller.join()
    assert dict((await caller.server.told("update_metadata")).attributes) == {"a": "1", "b": ""}


async def test_the_mute_reaches_the_transport_and_the_server(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    caller.room.mute(True)
    assert caller.peer.calls[-1] == ("mute", True)
    assert (await caller.server.told("mute")).muted


async def test_sections_are_offered_as_asked_for(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    caller.room.subscribe(True)
    await server.send(update(person("a", audio("TR_a"))))
    assert list((await caller.server.told("subscription")).track_sids) == ["TR_a"]
    await server.send(sections(1))
    assert (await caller.server.told("offer")).sdp == "offer 2"
    assert ("receivers", Side.PUBLISHER, 1) in caller.peer.calls
    await server.send(sections(0))  # before the answer
    await server.send(answer(2))
    assert (await caller.server.told("offer")).sdp == "offer 3"


# Sockets lost.


async def test_a_cut_socket_is_resumed_and_what_waited_goes_out(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    await server.send(response(refresh_token="newer"))
    await server.send(update(person("a")))
    await caller.notices.of(ParticipantJoined)
    server.transport.abort()
    await caller.notices.of(RoomReconnecting)
    waiting = [asyncio.ensure_future(caller.room.publish(b"%d" % n, "t")) for n in range(3)]
    await caller.room.set_attributes({"a": "1"})
    caller.room.mute(True)
    await caller.notices.of(RoomReconnected)
    assert (await caller.server.told("sync_state")).publish_tracks[0].track.sid == "TR_sid"
    assert (await caller.server.told("mute")).muted
    assert dict((await caller.server.told("update_metadata")).attributes) == {"a": "1"}
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*waiting)
    assert [one.user.payload for one in caller.packets()] == [b"0", b"1", b"2"]
    request = join_request(caller.server.paths[1])
    assert request.reconnect
    assert request.participant_sid == "PA_me"
    assert caller.server.tokens[1] == "Bearer newer"
    assert not [call for call in caller.peer.calls if call[0] in ("restart", "close")][1:]
    kinds = [type(one) for one in caller.notices.seen]
    assert kinds == [ParticipantJoined, RoomReconnecting, RoomReconnected]


async def test_a_resume_takes_as_many_tries_as_it_needs(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    caller.server.script.statuses = [503, 500]
    (await caller.server.connection()).transport.abort()
    await caller.notices.of(RoomReconnected)
    upgrades = [one for one in caller.server.attempts if "Upgrade" in one.headers]
    assert len(upgrades) == 4


async def test_a_long_absence_restarts_ice(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "SHORT", 0.0)
    caller = await phone(stack)
    await caller.join()
    (await caller.server.connection()).transport.abort()
    await caller.notices.of(RoomReconnected)
    assert (await caller.server.told("offer")).sdp == "offer 2"
    assert ("restart", Side.PUBLISHER) in caller.peer.calls


@pytest.mark.parametrize(
    "refusal",
    [
        Script(resumption=[leave(models.STATE_MISMATCH, rtc.LeaveRequest.RECONNECT)]),
        Script(resumption=[join(), answer(), published()]),
    ],
)
async def test_a_refused_resume_is_a_lost_room_that_is_joined_anew(
    stack: AsyncExitStack, refusal: Script
) -> None:
    caller = await phone(stack, refusal)
    await caller.room.set_attributes({"a": "1"})
    caller.room.mute(True)
    await caller.join()
    server = await caller.server.connection()
    server.transport.abort()
    await caller.notices.of(RoomReconnecting)
    waiting = caller.room.publish(b"early", "t")
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    with pytest.raises(RoomError, match="the room is away"):
        await waiting
    late = asyncio.ensure_future(caller.room.publish(b"late", "t"))
    caller.server.script.resumption = [join(), answer(), published(muted=True)]
    await caller.join()
    await asyncio.wait_for(late, DEADLINE)
    assert [one.user.payload for one in caller.packets()] == [b"late"]
    request = join_request(caller.server.paths[-1])
    assert not request.reconnect
    assert request.participant_attributes == {"a": "1"}
    assert request.add_track_requests[0].muted


async def test_what_may_have_died_with_a_server_goes_again_to_those_who_come_back(
    stack: AsyncExitStack,
) -> None:
    """Docs, engines: nothing is lost, and what was delivered is not sent twice."""
    caller = await phone(stack, Script(greeting=[join(person("early"), person("late")), *TAKEN]))
    caller.peer.delivering = False
    await caller.join()
    for text in (b"1", b"2", b"3"):
        await asyncio.wait_for(caller.room.publish(text, "t"), DEADLINE)
    caller.peer.tell(DataDelivered(side=Side.PUBLISHER, label="_reliable", count=1))
    await caller.room.publish_dtmf("5")
    server = await caller.server.connection()
    caller.server.script.resumption = [join()]  # as a new one: we are lost
    server.transport.abort()
    await caller.notices.of(RoomReconnecting)
    waiting = caller.room.publish(b"4", "t")
    await caller.notices.of(RoomClosed)
    with pytest.raises(RoomError):
        await waiting
    caller.peer.delivering = True
    caller.peer.sent.clear()
    caller.server.script.resumption = [join(person("early")), *TAKEN]
    await caller.join()
    await asyncio.wait_for(caller.room.publish(b"4", "t"), DEADLINE)
    caller.notices.seen.clear()
    assert caller.server.last is not None
    await caller.server.last.send(update(person("late")))
    await caller.notices.of(ParticipantJoined)
    await asyncio.wait_for(caller.room.publish(b"5", "t"), DEADLINE)
    assert [
        (list(one.destination_identities), one.user.payload, one.sequence)
        for one in caller.packets()
    ] == [
        (["early"], b"2", 1),
        (["early"], b"3", 2),
        ([], b"4", 3),
        (["late"], b"2", 4),
        (["late"], b"3", 5),
        ([], b"5", 6),
    ]


async def test_a_token_that_no_longer_counts_is_a_lost_room(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    caller.server.script.statuses = [401]
    (await caller.server.connection()).transport.abort()
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)


async def test_a_server_that_was_gone_is_joined_anew_as_soon_as_it_is_back(
    stack: AsyncExitStack,
) -> None:
    caller = await phone(stack)
    caller.server.script.resumption = [leave(models.STATE_MISMATCH, rtc.LeaveRequest.RECONNECT)]
    await caller.join()
    await caller.server.connection()
    await caller.server.stop()
    await caller.notices.of(RoomReconnecting)
    await asyncio.sleep(0.2)  # some tries at nobody
    assert not [one for one in caller.notices.seen if isinstance(one, RoomClosed)]
    await caller.server.start()
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    caller.server.script.resumption = [join(), answer(), published()]
    await caller.join()


async def test_a_dismissal_to_resume_is_resumed(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    await server.send(leave(models.MIGRATION, rtc.LeaveRequest.RESUME))
    await caller.notices.of(RoomReconnected)
    assert len(caller.server.paths) == 2


async def test_a_leave_while_away_ends_the_resuming(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    await caller.server.connection()
    await caller.server.stop()
    await caller.notices.of(RoomReconnecting)
    await asyncio.wait_for(caller.room.leave(LeaveReason.CLIENT_INITIATED), DEADLINE)
    assert caller.peer.sides == set()
    assert [type(one) for one in caller.notices.seen] == [RoomReconnecting]


# Sent away, transports lost.


@pytest.mark.parametrize(
    ("message", "gone"),
    [
        (leave(models.ROOM_DELETED), RoomGone.DELETED),
        (leave(models.PARTICIPANT_REMOVED), RoomGone.REMOVED),
        (leave(models.DUPLICATE_IDENTITY), RoomGone.REMOVED),
        (leave(models.SERVER_SHUTDOWN), RoomGone.LOST),
        (leave(models.ROOM_DELETED, rtc.LeaveRequest.RECONNECT), RoomGone.LOST),
    ],
)
async def test_being_sent_away_is_told_once_with_its_reason(
    stack: AsyncExitStack, message: bytes, gone: RoomGone
) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    caller.peer.tell(PeerClosed(side=Side.PUBLISHER, why="remote"))  # it is often faster
    await asyncio.sleep(0)
    await server.send(message)
    await server.close()
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=gone)
    await settle()
    assert caller.notices.seen == [RoomClosed(why=gone)]
    assert caller.peer.sides == set()
    if gone is not RoomGone.LOST:
        with pytest.raises(RoomError, match="gone"):
            await caller.room.publish(b"late", "t")


async def test_a_transport_that_ends_without_a_word_is_a_lost_room(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LEAVE_GRACE", 0.05)
    caller = await phone(stack)
    caller.server.script.resumption = [join(), answer(), published()]
    await caller.join()
    caller.peer.tell(PeerClosed(side=Side.PUBLISHER, why="fault"))
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    await caller.join()


async def test_a_lost_path_is_repaired_under_the_call(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    await caller.server.connection()
    caller.peer.connecting = False
    caller.peer.tell(PeerDisconnected(side=Side.PUBLISHER))
    await caller.notices.of(RoomReconnecting)
    assert (await caller.server.told("offer")).sdp == "offer 2"
    assert not [one for one in caller.notices.seen if isinstance(one, RoomReconnected)]
    caller.peer.tell(PeerConnected(side=Side.PUBLISHER))
    await caller.notices.of(RoomReconnected)


async def test_a_path_that_is_not_repaired_is_a_lost_room(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "REPAIR_PATIENCE", 0.1)
    caller = await phone(stack)
    await caller.join()
    caller.peer.tell(PeerDisconnected(side=Side.PUBLISHER))
    assert await caller.notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)


async def test_a_path_repaired_before_its_socket_is_not_lost_with_it(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "REPAIR_PATIENCE", 0.2)
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    caller.server.script.statuses = [503] * 3
    server.transport.abort()
    await caller.notices.of(RoomReconnecting)
    caller.peer.tell(PeerDisconnected(side=Side.PUBLISHER))
    caller.peer.tell(PeerConnected(side=Side.PUBLISHER))
    await caller.notices.of(RoomReconnected)
    await asyncio.sleep(0.25)
    assert [type(one) for one in caller.notices.seen] == [RoomReconnecting, RoomReconnected]


async def test_one_who_leaves_is_told(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    gone = person("a", state=models.ParticipantInfo.DISCONNECTED)
    await server.send(update(person("a"), person("b")))
    await server.send(update(gone))
    assert await caller.notices.of(ParticipantLeft) == ParticipantLeft(identity="a", others=1)


async def test_a_message_that_is_too_large_ends_the_socket_only(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "MESSAGE_LIMIT", 2000)
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    await server.send(bytes(3000))
    await caller.notices.of(RoomReconnected)


async def test_text_and_garbage_on_the_socket_are_ignored(stack: AsyncExitStack) -> None:
    caller = await phone(stack)
    await caller.join()
    server = await caller.server.connection()
    messages: list[Any] = ["text", b"\xff\xff", b"", update(person("a"))]
    for message in messages:
        await server.send(message)
    assert await caller.notices.of(ParticipantJoined)


async def test_a_resume_counts_from_the_message_that_the_server_has(
    stack: AsyncExitStack,
) -> None:
    caller = await phone(stack, Script(resumption=[reconnect(last_message=1)]))
    await caller.join()
    for number in range(3):
        await caller.room.publish(b"%d" % number, "t")
    (await caller.server.connection()).transport.abort()
    await caller.notices.of(RoomReconnected)
    await caller.room.publish(b"3", "t")
    sent = [(one.sequence, one.user.payload) for one in caller.packets()]
    assert sent == [(1, b"0"), (2, b"1"), (3, b"2"), (2, b"1"), (3, b"2"), (4, b"3")]
