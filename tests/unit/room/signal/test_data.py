"""Packets of a room's data channels, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from bridge.room.seam import RoomError
from bridge.room.signal.data import (
    LOSSY,
    RECEIVE_LIMIT,
    RELIABLE,
    SENDER_LIMIT,
    DataFailed,
    DataSent,
    DtmfReceived,
    Output,
    RoomData,
    SendData,
    UserReceived,
)
from bridge.room.signal.rpc import RpcAsked, RpcExpired
from bridge.room.signal.streams import TextReceived

pytestmark = pytest.mark.unit

METHOD = "bridge.Hold"


def data(**kwargs: object) -> RoomData:
    made = RoomData(methods={METHOD}, **kwargs)  # type: ignore[arg-type]
    made.joined("sip-1")
    made.channel_opened()
    return made


def user(payload: bytes = b"x", sequence: int = 0, sid: str = "PA_a") -> bytes:
    packet = models.DataPacket(
        user=models.UserPacket(payload=payload, topic="t"),
        participant_identity="agent",
        participant_sid=sid,
        sequence=sequence,
    )
    return packet.SerializeToString()


def rpc(identifier: str = "1", method: str = METHOD) -> bytes:
    request = models.RpcRequest(id=identifier, method=method, version=1, response_timeout_ms=5000)
    return models.DataPacket(rpc_request=request, participant_identity="agent").SerializeToString()


def sent(outputs: list[Output]) -> list[models.DataPacket]:
    return [models.DataPacket.FromString(one.data) for one in outputs if isinstance(one, SendData)]


def of(outputs: list[Output], kind: type) -> list[object]:
    return [one for one in outputs if isinstance(one, kind)]


def test_a_message_leaves_at_once_with_topic_destinations_and_our_identity() -> None:
    room = data()
    ticket = room.publish(b"{}", "sip_bridge_events", ["agent"])
    outputs = room.poll(0.0)
    [packet] = sent(outputs)
    assert packet.kind == models.DataPacket.RELIABLE
    assert packet.user.payload == b"{}"
    assert packet.user.topic == "sip_bridge_events"
    assert list(packet.destination_identities) == ["agent"]
    assert packet.participant_identity == "sip-1"
    assert packet.sequence == 1
    assert outputs[-1] == DataSent(ticket=ticket)
    assert isinstance(outputs[0], SendData)
    assert outputs[0].label == RELIABLE


@pytest.mark.parametrize(
    ("digit", "code", "written"), [("5", 5, "5"), ("*", 10, "*"), ("#", 11, "#"), ("a", 12, "A")]
)
def test_a_key_leaves_with_livekits_code(digit: str, code: int, written: str) -> None:
    room = data()
    room.publish_dtmf(digit)
    [packet] = sent(room.poll(0.0))
    assert (packet.sip_dtmf.code, packet.sip_dtmf.digit) == (code, written)
    assert list(packet.destination_identities) == []


@pytest.mark.parametrize("digit", ["", "12", "x", "w"])
def test_what_is_no_key_is_refused(digit: str) -> None:
    with pytest.raises(RoomError, match="no such key"):
        data().publish_dtmf(digit)


@pytest.mark.parametrize(
    ("code", "digit", "heard"),
    [(5, "5", "5"), (0, "9", "9"), (11, "", "#"), (12, "a", "A"), (10, "xyz", "*")],
)
def test_keys_of_others_come_by_digit_or_else_by_code(code: int, digit: str, heard: str) -> None:
    room = data()
    packet = models.DataPacket(
        sip_dtmf=models.SipDTMF(code=code, digit=digit), participant_identity="agent"
    )
    room.receive(RELIABLE, packet.SerializeToString(), 0.0)
    assert room.poll(0.0) == [DtmfReceived(identity="agent", digit=heard)]


def test_a_key_that_is_none_is_passed_over() -> None:
    room = data()
    packet = models.DataPacket(sip_dtmf=models.SipDTMF(code=2**32 - 1, digit="?"))
    room.receive(RELIABLE, packet.SerializeToString(), 0.0)
    assert room.poll(0.0) == []


@pytest.mark.parametrize(("label", "reliable"), [(RELIABLE, True), (LOSSY, False)])
def test_data_of_others_is_passed_on(label: str, reliable: bool) -> None:
    room = data()
    room.receive(label, user(b"hello"), 0.0)
    expected = UserReceived(identity="agent", topic="t", payload=b"hello", reliable=reliable)
    assert room.poll(0.0) == [expected]


def test_a_repeated_number_of_one_sender_is_taken_once() -> None:
    room = data()
    for sequence in (1, 2, 2, 1, 5, 3):
        room.receive(RELIABLE, user(str(sequence).encode(), sequence), 0.0)
    assert [one.payload for one in of(room.poll(0.0), UserReceived)] == [b"1", b"2", b"5"]  # type: ignore[attr-defined]
    assert room.ignored == 3
    room.receive(RELIABLE, user(b"other", 1, sid="PA_b"), 0.0)
    assert len(room.poll(0.0)) == 1
    assert room.receive_states() == [("PA_a", 5), ("PA_b", 1)]


def test_packets_without_a_number_are_never_repetitions() -> None:
    room = data()
    room.receive(RELIABLE, user(), 0.0)
    room.receive(RELIABLE, user(), 0.0)
    room.receive(RELIABLE, user(sequence=1, sid=""), 0.0)
    room.receive(RELIABLE, user(sequence=1, sid=""), 0.0)
    assert len(room.poll(0.0)) == 4


def test_a_rejoin_forgets_the_numbers_of_the_others() -> None:
    room = data()
    room.receive(RELIABLE, user(sequence=9), 0.0)
    room.poll(0.0)
    room.joined("sip-1")
    room.receive(RELIABLE, user(sequence=1), 0.0)
    assert len(room.poll(0.0)) == 1


def test_senders_are_remembered_within_a_bound() -> None:
    room = data()
    for number in range(SENDER_LIMIT + 50):
        room.receive(RELIABLE, user(sequence=7, sid=f"PA_{number}"), 0.0)
    assert len(room.receive_states()) == SENDER_LIMIT


def test_an_rpc_is_acknowledged_run_and_answered() -> None:
    room = data()
    room.receive(RELIABLE, rpc("abc"), 0.0)
    outputs = room.poll(0.0)
    [packet] = sent(outputs)
    assert packet.rpc_ack.request_id == "abc"
    assert packet.participant_identity == "sip-1"
    [asked] = of(outputs, RpcAsked)
    assert isinstance(asked, RpcAsked)
    room.answer(asked.key, "held")
    [packet] = sent(room.poll(0.0))
    assert packet.rpc_response.payload == "held"
    assert packet.sequence == 2


def test_an_rpc_is_answered_while_messages_wait_for_the_reconnect() -> None:
    room = data()
    room.hold()
    room.publish(b"event", "t")
    room.receive(RELIABLE, rpc("abc"), 0.0)
    [packet] = sent(room.poll(0.0))
    assert packet.rpc_ack.request_id == "abc"
    room.release()
    [packet] = sent(room.poll(0.0))
    assert packet.user.payload == b"event"


def test_an_rpc_that_is_late_is_told_when_its_time_comes() -> None:
    room = data()
    room.receive(RELIABLE, rpc(), 3.0)
    [asked] = of(room.poll(3.0), RpcAsked)
    assert isinstance(asked, RpcAsked)
    assert room.next_deadline() == pytest.approx(8.0)
    outputs = room.poll(8.0)
    assert RpcExpired(key=asked.key) in outputs
    assert sent(outputs)[0].rpc_response.error.code == 1502
    room.answer(asked.key, "late")
    assert room.poll(8.0) == []


def test_a_rejoin_ends_the_rpcs_and_a_leave_answers_them() -> None:
    room = data()
    room.receive(RELIABLE, rpc(), 0.0)
    [asked] = of(room.poll(0.0), RpcAsked)
    assert isinstance(asked, RpcAsked)
    room.joined("sip-1")
    assert room.poll(0.0) == [RpcExpired(key=asked.key)]
    room.channel_opened()
    room.receive(RELIABLE, rpc("2"), 0.0)
    room.poll(0.0)
    room.leave()
    assert sent(room.poll(0.0))[0].rpc_response.error.code == 1503


def test_an_rpc_of_version_2_is_refused_as_such() -> None:
    room = data()
    header = models.DataStream.Header(
        stream_id="s",
        topic="lk.rpc_request",
        attributes={"lk.rpc_request_id": "7", "lk.rpc_request_version": "2"},
        text_header=models.DataStream.TextHeader(),
    )
    packet = models.DataPacket(stream_header=header, participant_identity="agent")
    room.receive(RELIABLE, packet.SerializeToString(), 0.0)
    packets = sent(room.poll(0.0))
    assert packets[0].rpc_ack.request_id == "7"
    assert packets[1].rpc_response.error.code == 1404


def test_a_wanted_text_stream_comes_out_whole_and_a_transcript_does_not() -> None:
    room = data(topics={"lk.chat"})
    for topic in ("lk.chat", "lk.transcription"):
        header = models.DataStream.Header(
            stream_id=topic, topic=topic, text_header=models.DataStream.TextHeader()
        )
        chunk = models.DataStream.Chunk(stream_id=topic, content=b"hi")
        trailer = models.DataStream.Trailer(stream_id=topic)
        for value in (
            models.DataPacket(stream_header=header),
            models.DataPacket(stream_chunk=chunk),
            models.DataPacket(stream_trailer=trailer),
        ):
            value.participant_identity = "agent"
            room.receive(RELIABLE, value.SerializeToString(), 0.0)
    assert room.poll(0.0) == [TextReceived(topic="lk.chat", identity="agent", text="hi")]


def test_waiting_messages_leave_in_order_when_the_channel_opens() -> None:
    room = RoomData()
    room.joined("sip-1")
    for number in range(5):
        room.publish(str(number).encode(), "t")
    assert room.poll(0.0) == []
    assert room.waiting == 5
    room.channel_opened()
    assert [one.user.payload for one in sent(room.poll(0.0))] == [b"0", b"1", b"2", b"3", b"4"]


def test_what_waits_is_given_up_by_name_when_the_room_is_lost() -> None:
    room = RoomData()
    tickets = [room.publish(b"", "t"), room.publish_dtmf("1")]
    room.fail_waiting()
    assert room.poll(0.0) == [DataFailed(ticket=one) for one in tickets]


def test_a_resume_sends_again_what_the_server_missed() -> None:
    room = data()
    room.publish(b"a", "t")
    room.publish(b"b", "t")
    room.poll(0.0)
    room.hold()
    room.publish(b"c", "t")
    assert room.poll(1.0) == []
    room.resumed(1)
    room.release()
    packets = sent(room.poll(1.0))
    assert [(one.sequence, one.user.payload) for one in packets] == [(2, b"b"), (3, b"c")]
    assert room.lost == 0


def test_a_message_above_64_kb_is_refused() -> None:
    with pytest.raises(RoomError, match="too large"):
        data().publish(bytes(64_001), "t")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (RELIABLE, b"\xff"),
        (RELIABLE, b"\x0a"),
        (RELIABLE, user()[:-3]),
        (RELIABLE, user(bytes(RECEIVE_LIMIT))),
        ("_data_track", user()),
        ("", b""),
        (RELIABLE, b""),
        (RELIABLE, models.DataPacket(rpc_ack=models.RpcAck(request_id="1")).SerializeToString()),
        (RELIABLE, models.DataPacket(encrypted_packet={}).SerializeToString()),
    ],
)
def test_what_is_not_understood_is_counted_and_dropped(label: str, message: bytes) -> None:
    room = data()
    room.receive(label, message, 0.0)
    assert room.poll(0.0) == []
    assert room.ignored == 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=10), st.sampled_from([RELIABLE, LOSSY]))
def test_garbage_never_raises(messages: list[bytes], label: str) -> None:
    room = data(topics={"lk.chat"})
    for message in messages:
        room.receive(label, message, 0.0)
    room.poll(0.0)


TEXT = st.text(max_size=300)
VALUES = st.one_of(
    st.builds(models.UserPacket, payload=st.binary(max_size=100), topic=TEXT),
    st.builds(models.SipDTMF, code=st.integers(0, 2**32 - 1), digit=TEXT),
    st.builds(
        models.RpcRequest,
        id=TEXT,
        method=st.sampled_from([METHOD, "x"]),
        payload=TEXT,
        version=st.integers(0, 2),
        response_timeout_ms=st.integers(0, 2**32 - 1),
    ),
    st.builds(
        models.DataStream.Chunk,
        stream_id=TEXT,
        chunk_index=st.integers(0, 2**64 - 1),
        content=st.binary(max_size=50),
    ),
    st.builds(models.DataStream.Trailer, stream_id=TEXT, reason=TEXT),
    st.builds(
        models.DataStream.Header,
        stream_id=TEXT,
        topic=st.sampled_from(["lk.chat", "lk.rpc_request", ""]),
        total_length=st.integers(0, 2**64 - 1),
        text_header=st.just(models.DataStream.TextHeader()),
        attributes=st.dictionaries(st.sampled_from(["lk.rpc_request_id"]), TEXT),
    ),
)
FIELDS = {
    models.UserPacket: "user",
    models.SipDTMF: "sip_dtmf",
    models.RpcRequest: "rpc_request",
    models.DataStream.Chunk: "stream_chunk",
    models.DataStream.Trailer: "stream_trailer",
    models.DataStream.Header: "stream_header",
}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(VALUES, TEXT, TEXT, st.integers(0, 2**32 - 1)), max_size=12),
    st.integers(0, 400),
)
def test_whatever_others_send_never_raises_and_never_goes_to_all(
    packets: list[tuple[object, str, str, int]], cut: int
) -> None:
    room = data(topics={"lk.chat"})
    for now, (value, identity, sid, sequence) in enumerate(packets):
        packet = models.DataPacket(
            participant_identity=identity,
            participant_sid=sid,
            sequence=sequence,
            **{FIELDS[type(value)]: value},  # type: ignore[arg-type]
        )
        message = packet.SerializeToString()
        room.receive(RELIABLE, message, float(now))
        room.receive(RELIABLE, message[:cut], float(now))
        for answer in sent(room.poll(float(now))):
            assert [one for one in answer.destination_identities if one]
    assert room.next_deadline() is None or room.next_deadline() >= 0  # type: ignore[operator]
    room.poll(1e9)


def test_a_flood_of_requests_stays_within_bounds_also_when_nothing_leaves() -> None:
    room = data()
    room.channel_closed()
    for number in range(3000):
        room.receive(RELIABLE, rpc(str(number)), 0.0)
    outputs = room.poll(0.0)
    assert len(of(outputs, RpcAsked)) == 16
    assert len(room._lane._replies) <= 256
