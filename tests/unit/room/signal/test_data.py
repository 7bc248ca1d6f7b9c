"""Packets of a room's data channels, both ways."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from bridge.room.seam import RoomError
from bridge.room.signal.data import (
    CREDITOR_LIMIT,
    LOSSY,
    OWED_LIMIT,
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


# A server that dies with what we sent.


def owed(room: RoomData, others: list[str]) -> None:
    """Lose the room with *others* in it, and join it again."""
    room.channel_closed()
    room.hold()
    room.lose(others)
    room.fail_waiting()
    room.joined("sip-1")
    room.channel_opened()


def addressed(outputs: list[Output]) -> list[tuple[list[str], bytes]]:
    return [(list(one.destination_identities), one.user.payload) for one in sent(outputs)]


def test_what_may_have_died_with_the_server_goes_to_each_who_was_there_when_he_is_back() -> None:
    room = data()
    room.publish(b"1", "t")
    room.poll(0.0)
    room.delivered(RELIABLE, 1)
    room.publish(b"2", "t")
    room.publish(b"3", "t", ["agent"])
    room.poll(1.0)
    room.delivered(LOSSY, 2)  # says nothing of these
    owed(room, ["agent", "other"])
    room.publish(b"4", "t")
    room.present("agent")
    room.present("stranger")
    room.present("agent")
    assert sent(room.poll(2.0)) == [], "it is held"
    room.release()
    packets = sent(outputs := room.poll(2.0))
    assert addressed(outputs) == [(["agent"], b"2"), (["agent"], b"3"), ([], b"4")]
    assert [one.sequence for one in packets] == [1, 2, 3]
    assert packets[0].participant_identity == "sip-1"
    assert list(packets[0].user.destination_identities) == ["agent"]
    room.present("other")
    assert addressed(room.poll(3.0)) == [(["other"], b"2")]


def test_a_key_is_not_sent_twice_and_who_left_is_owed_nothing() -> None:
    room = data()
    room.publish_dtmf("5")
    room.publish(b"1", "t")
    room.poll(0.0)
    owed(room, ["agent"])
    room.forget()
    room.present("agent")
    room.release()
    assert sent(room.poll(1.0)) == []
    room.publish(b"2", "t")
    room.poll(2.0)
    room.forget()
    owed(room, ["agent"])
    room.present("agent")
    room.release()
    assert sent(room.poll(3.0)) == []


def test_what_is_owed_stays_within_bounds() -> None:
    room = data()
    for turn in range(3):
        for number in range(200):
            room.publish(b"%d %d" % (turn, number), "t")
            room.poll(turn * 1e4 + number)
        owed(room, [f"agent-{turn}-{n}" for n in range(CREDITOR_LIMIT)] + ["first"])
        room.release()
    assert len(room._owed) == CREDITOR_LIMIT
    assert "first" in room._owed
    assert all(len(one) <= OWED_LIMIT for one in room._owed.values())


class World:
    """A call and its agent, on a server that dies with what it has; the call is played.

    It publishes to an agent that is there, sends again what failed, and what an agent missed
    that comes back later than we do (`bridge.call.presence`).
    """

    def __init__(self) -> None:
        self.room = data()
        self.now = 0.0
        self.seq = self.told = 0
        self.tickets: dict[int, int] = {}
        self.failed: list[int] = []
        self.wire: list[models.DataPacket] = []
        self.carried = 0
        self.agent_is_there = True
        self.heard: list[int] = []

    def publish(self, number: int) -> None:
        if self.agent_is_there:
            self.tickets[self.room.publish(b"%d" % number, "t")] = number

    def run(self) -> None:
        self.now += 1.0
        for output in self.room.poll(self.now):
            match output:
                case SendData():
                    self.wire.append(models.DataPacket.FromString(output.data))
                case DataSent():
                    self.told = max(self.told, self.tickets.pop(output.ticket))
                case DataFailed():
                    self.failed.append(self.tickets.pop(output.ticket))

    def carry(self, count: int) -> None:
        for packet in self.wire[:count]:
            assert self.agent_is_there
            self.heard.append(int(packet.user.payload))
        del self.wire[:count]
        self.carried += count

    def kill(self) -> None:
        owed(self.room, ["agent"] if self.agent_is_there else [])
        self.agent_is_there = False
        self.wire.clear()
        self.carried = 0
        self.run()
        self.room.release()

    def come(self) -> None:
        if not self.agent_is_there:
            self.agent_is_there = True
            self.room.present("agent")
            self.failed.clear()  # they are among what follows
            for number in range(self.told + 1, self.seq + 1):
                self.publish(number)

    def step(self, what: str, chance: random.Random) -> None:
        match what:
            case "publish":
                self.seq += 1
                self.publish(self.seq)
            case "carry":
                self.carry(chance.randint(0, len(self.wire)))
            case "tell":
                self.room.delivered(RELIABLE, self.carried)
                self.carried = 0
            case "hold":
                self.room.hold()
            case "kill":
                self.kill()
            case "come":
                self.room.release()
                self.come()
        self.run()


STEPS = ["publish", "publish", "carry", "tell", "hold", "kill", "come"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.randoms(use_true_random=False))
def test_whenever_the_server_dies_everything_arrives_and_at_first_in_order(
    steps: list[str], chance: random.Random
) -> None:
    world = World()
    for what in [*steps, "kill", "come"]:
        world.step(what, chance)
    world.carry(len(world.wire))
    assert list(dict.fromkeys(world.heard)) == list(range(1, world.seq + 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["publish", "kill", "come"]), max_size=40))
def test_what_was_told_to_be_delivered_arrives_once_whenever_the_server_dies(
    steps: list[str],
) -> None:
    world, chance = World(), random.Random(1)
    for what in [*steps, "come"]:
        world.step(what, chance)
        world.carry(len(world.wire))
        world.step("tell", chance)
    assert world.heard == list(range(1, world.seq + 1))
