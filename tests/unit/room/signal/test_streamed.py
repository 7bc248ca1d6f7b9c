"""Streams of others, from the packets of a real server to the one who hears them."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models

from bridge.room.signal.data import RELIABLE, RoomData
from bridge.room.signal.roster import GONE_LIMIT, Roster
from bridge.room.signal.streams import ATTRIBUTES_LIMIT, IDLE_TIMEOUT, TextReceived, TextStreams

pytestmark = pytest.mark.unit

TOPIC = "lk.transcription"
USER, AGENT = "sip-in-+911", "agent-AJ_1"
DataStream = models.DataStream


def packet(identity: str, sid: str = "PA_agent", **value: object) -> bytes:
    """A packet as livekit-server 1.13.5 forwards it: only a header keeps whom it was sent as."""
    return models.DataPacket(
        participant_identity=identity,
        participant_sid=sid,
        **value,  # type: ignore[arg-type]
    ).SerializeToString()


def header(stream: str = "s", **attributes: str) -> models.DataStream.Header:
    return DataStream.Header(
        stream_id=stream,
        topic=TOPIC,
        text_header=DataStream.TextHeader(generated=True),
        attributes=attributes,
    )


def chunk(content: bytes, index: int = 0) -> models.DataStream.Chunk:
    return DataStream.Chunk(stream_id="s", chunk_index=index, content=content)


def streamed(*packets: tuple[float, bytes], topics: tuple[str, ...] = (TOPIC,)) -> RoomData:
    data = RoomData(topics=topics)
    for now, one in packets:
        data.receive(RELIABLE, one, now)
    return data


def told(data: RoomData, now: float) -> list[TextReceived]:
    return [one for one in data.poll(now) if isinstance(one, TextReceived)]


def test_a_users_words_that_an_agent_streams_come_under_the_users_name() -> None:
    data = streamed(
        (1.0, packet(USER, stream_header=header(final="false"))),
        (1.5, packet(AGENT, stream_chunk=chunk(b"hello"))),
        (
            2.5,
            packet(
                AGENT,
                stream_trailer=DataStream.Trailer(stream_id="s", attributes={"final": "true"}),
            ),
        ),
    )
    (text,) = told(data, 2.5)
    assert text == TextReceived(
        topic=TOPIC, identity=USER, text="hello", attributes={"final": "true"}, lasted=1.5
    )


def test_nobody_adds_to_the_words_of_another() -> None:
    data = streamed(
        (1.0, packet(USER, stream_header=header())),
        (1.1, packet("other", "PA_other", stream_chunk=chunk(b"lies"))),
        (1.2, packet(AGENT, stream_chunk=chunk(b"truth"))),
        (
            1.3,
            packet("other", "PA_other", stream_trailer=DataStream.Trailer(stream_id="s")),
        ),
        (1.4, packet(AGENT, stream_trailer=DataStream.Trailer(stream_id="s"))),
    )
    assert [one.text for one in told(data, 1.4)] == ["truth"]


@pytest.mark.parametrize("end", ["leave", "rejoin", "reason", "silence"])
def test_what_is_broken_off_is_told_as_far_as_it_came(end: str) -> None:
    data = streamed(
        (1.0, packet(AGENT, stream_header=header())),
        (3.0, packet(AGENT, stream_chunk=chunk("grü".encode()[:-1]))),
    )
    now = 3.5
    match end:
        case "leave":
            data.leave()
        case "rejoin":
            data.joined("us")
        case "reason":
            trailer = DataStream.Trailer(stream_id="s", reason="cancelled")
            data.receive(RELIABLE, packet(AGENT, stream_trailer=trailer), now)
        case _:
            now = 3.0 + IDLE_TIMEOUT
    (text,) = told(data, now)
    assert (text.text, text.whole, text.lasted) == ("gr", False, 2.0)


def test_a_stream_of_bytes_comes_as_bytes() -> None:
    streams = TextStreams({TOPIC})
    begin = DataStream.Header(stream_id="s", topic=TOPIC, byte_header=DataStream.ByteHeader())
    streams.header("PA", begin, 0.0, identity=AGENT)
    streams.chunk("PA", chunk(b"\xff\x00"), 0.0)
    received = streams.trailer("PA", DataStream.Trailer(stream_id="s"))
    assert received is not None
    assert (received.text, received.data) == ("", b"\xff\x00")


def test_attributes_that_are_too_long_are_not_kept() -> None:
    streams = TextStreams({TOPIC})
    streams.header("PA", header(long="x" * ATTRIBUTES_LIMIT), 0.0)
    end = DataStream.Trailer(stream_id="s", attributes={"y": "x" * ATTRIBUTES_LIMIT})
    received = streams.trailer("PA", end)
    assert received is not None
    assert received.attributes == {}


def test_topics_that_nobody_wants_cost_nothing() -> None:
    data = streamed((1.0, packet(AGENT, stream_header=header())), topics=())
    data.receive(RELIABLE, packet(AGENT, stream_chunk=chunk(b"x")), 1.1)
    assert data._streams.size == 0
    assert told(data, 1.2) == []


def person(number: int, kind: Any) -> models.ParticipantInfo:
    return models.ParticipantInfo(
        sid=f"PA_{number}",
        identity=f"p{number}",
        kind=kind,
        state=models.ParticipantInfo.ACTIVE,
        tracks=[models.TrackInfo(sid=f"TR_{number}", type=models.AUDIO)],
    )


def test_whose_words_they_are_is_known_also_when_the_speaker_has_just_left() -> None:
    roster = Roster()
    roster.meet(models.ParticipantInfo(sid="PA_us", identity="us"), [], 0.0)
    agent = person(1, models.ParticipantInfo.AGENT)
    roster.update(agent, 0.0)
    assert roster.kind_known("p1") == "agent"
    assert roster.kind_of_track("TR_1") == "agent"
    agent.state = models.ParticipantInfo.DISCONNECTED
    roster.update(agent, 1.0)
    assert roster.kind_known("p1") == "agent"
    assert roster.kind_of_track("TR_1") is None
    assert roster.kind_known("p2") == "unknown"


def test_only_some_of_those_who_left_are_remembered() -> None:
    roster = Roster()
    roster.meet(models.ParticipantInfo(sid="PA_us", identity="us"), [], 0.0)
    for number in range(GONE_LIMIT + 20):
        other = person(number, models.ParticipantInfo.STANDARD)
        roster.update(other, 0.0)
        other.state = models.ParticipantInfo.DISCONNECTED
        roster.update(other, 0.0)
    assert len(roster._gone) == GONE_LIMIT
