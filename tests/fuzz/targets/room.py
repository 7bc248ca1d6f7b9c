"""A room's data channels: whatever participants send, over cuts, resumes and rejoins."""

from __future__ import annotations

from contextlib import suppress

from livekit.protocol import models

from bridge.room.seam import RoomError
from bridge.room.signal.data import (
    CREDITOR_LIMIT,
    LOSSY,
    RELIABLE,
    SENDER_LIMIT,
    DataFailed,
    DataSent,
    DtmfReceived,
    RoomData,
    SendData,
)
from bridge.room.signal.lane import (
    KEPT_BYTES,
    KEPT_PACKETS,
    PACKET_LIMIT,
    WAITING_BYTES,
    WAITING_PACKETS,
)
from bridge.room.signal.rpc import RUNNING_LIMIT, SEEN_LIMIT, RpcAsked, RpcExpired, RpcKey
from bridge.room.signal.streams import TOTAL_LIMIT
from rtp.dtmf import KEYS
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz.mutate import BINARY, Script, mutated

MOST_STEPS = 120
METHODS = ("lk.sip.EndCall", "bridge.Hold")
TOPIC = "lk.chat"
IDENTITIES = ("agent", "other", "agent", "")
SIDS = ("PA_a", "PA_b", "PA_a", "")
PAUSES = (0.0, 0.0, 0.01, 0.02, 1.0, 16.0, 31.0, 4000.0)


def _packets() -> list[models.DataPacket]:
    stream = models.DataStream
    return [
        models.DataPacket(user=models.UserPacket(payload=b"{}", topic="t")),
        models.DataPacket(sip_dtmf=models.SipDTMF(code=10, digit="*")),
        models.DataPacket(
            rpc_request=models.RpcRequest(
                id="1", method=METHODS[0], payload="{}", version=1, response_timeout_ms=9000
            )
        ),
        models.DataPacket(rpc_request=models.RpcRequest(id="2", method="nope", version=1)),
        models.DataPacket(rpc_ack=models.RpcAck(request_id="1")),
        models.DataPacket(rpc_response=models.RpcResponse(request_id="1", payload="x")),
        models.DataPacket(
            stream_header=stream.Header(
                stream_id="s",
                topic=TOPIC,
                total_length=4,
                attributes={"lk.rpc_request_id": "7"},
                text_header=stream.TextHeader(),
            )
        ),
        models.DataPacket(stream_chunk=stream.Chunk(stream_id="s", content=b"text")),
        models.DataPacket(stream_trailer=stream.Trailer(stream_id="s")),
        models.DataPacket(encrypted_packet=models.EncryptedPacket(iv=b"iv")),
    ]


PACKETS = _packets()
WIRE = [one.SerializeToString() for one in PACKETS]


def room_data(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: packets, damage, answers, cuts, pauses."""
    script = Script(data)
    room = RoomData(methods=METHODS, topics={TOPIC})
    running: set[RpcKey] = set()
    waiting: set[int] = set()
    now, sequence = 100.0, 0
    room.joined("sip-1")
    for _ in range(MOST_STEPS):
        if script.at >= len(data):
            break
        now += script.one_of(PAUSES)
        message = said(script)
        with meter:
            room.receive(script.one_of((RELIABLE, RELIABLE, LOSSY, "")), message, now)
        connect(script, room)
        with suppress(RoomError):
            waiting.add(talk(script, room))
        if running and script.below(2):
            answer(script, room, running)
        with meter:
            outputs = room.poll(now)
        for output in outputs:
            match output:
                case RpcAsked():
                    assert output.method in METHODS
                    assert output.caller
                    running.add(output.key)
                case RpcExpired():
                    running.discard(output.key)
                case SendData():
                    sequence = sent(output, sequence)
                case DataSent() | DataFailed():
                    waiting.remove(output.ticket)
                case DtmfReceived():
                    assert output.digit in KEYS
        due = room.next_deadline()
        assert due is None or due > now, "a deadline that brings nothing"
        assert room.waiting == len(waiting)
        bounded(room)


def said(script: Script) -> bytes:
    packet = models.DataPacket()
    packet.CopyFrom(script.one_of(PACKETS))
    packet.participant_identity = script.one_of(IDENTITIES)
    packet.participant_sid = script.one_of(SIDS)
    packet.sequence = script.one_of((0, 1, 2, 3, 2**32 - 1))
    if packet.HasField("rpc_request"):
        packet.rpc_request.id = str(script.below(40))
        packet.rpc_request.payload = "x" * script.one_of((0, 1, 15_360, 15_361))
    return mutated(packet.SerializeToString(), script, WIRE, kinds=BINARY)


def connect(script: Script, room: RoomData) -> None:
    match script.below(16):
        case 1 | 2:
            room.channel_opened()
        case 3:
            room.channel_closed()
        case 4:
            room.hold()
        case 5:
            room.resumed(script.one_of((0, 1, 2, 5, 2**32 - 1)))
            room.release()
        case 6:
            room.joined("sip-1")
        case 7:
            room.fail_waiting()
        case 8:
            room.leave()
        case 9:
            room.delivered(RELIABLE, script.below(5))
        case 10:
            room.lose(IDENTITIES)
        case 11:
            room.present(script.one_of(IDENTITIES))
        case 12:
            room.forget()
        case _:
            pass


def talk(script: Script, room: RoomData) -> int:
    if script.below(4) == 1:
        return room.publish_dtmf(script.one_of(("1", "#", "d", "?", "")))
    return room.publish(bytes(script.one_of((0, 10, 60_000, 64_000))), "t", ["agent"])


def answer(script: Script, room: RoomData, running: set[RpcKey]) -> None:
    key = sorted(running)[script.below(len(running))]
    running.discard(key)
    if script.below(2):
        room.answer(key, "x" * script.one_of((0, 1, 15_360, 15_361)))
    else:
        room.refuse(key, script.one_of((0, 1500, -1, 2**32)), "\ud800" * script.below(300))


def sent(output: SendData, last: int) -> int:
    """Check one packet of ours; return its number."""
    packet = models.DataPacket.FromString(output.data)
    assert len(output.data) <= PACKET_LIMIT
    assert packet.participant_identity == "sip-1"
    assert packet.sequence >= 1
    if packet.WhichOneof("value") in {"rpc_ack", "rpc_response"}:
        assert [one for one in packet.destination_identities if one], "it would go to everyone"
    return int(packet.sequence)


def bounded(room: RoomData) -> None:
    assert len(room.receive_states()) <= SENDER_LIMIT
    lane, rpc, streams = room._lane, room._rpc, room._streams
    assert len(lane._messages) <= WAITING_PACKETS
    assert len(lane._replies) <= WAITING_PACKETS
    assert len(lane._first) <= KEPT_PACKETS
    assert len(lane._unsure) <= KEPT_PACKETS
    assert 0 <= lane._unsure_bytes <= KEPT_BYTES
    assert len(room._owed) <= CREDITOR_LIMIT
    assert 0 <= lane._message_bytes <= WAITING_BYTES
    assert 0 <= lane._reply_bytes <= WAITING_BYTES
    assert len(lane._kept) <= KEPT_PACKETS
    assert len(rpc._running) <= RUNNING_LIMIT
    assert len(rpc._seen) <= SEEN_LIMIT
    assert 0 <= streams.size <= TOTAL_LIMIT


TARGETS = (
    Target(
        name="room-data",
        run=room_data,
        seeds=lambda: [bytes(range(start, start + 120)) for start in (0, 40, 80, 120)],
        longest=1200,
    ),
)
