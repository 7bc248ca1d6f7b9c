"""Telephone-events: sending, and receiving what was sent over a bad line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtp.dtmf import (
    EVENT,
    KEYS,
    LOST_END_AFTER,
    MAX_QUEUED,
    PAUSE_SAMPLES,
    WAIT_SAMPLES,
    DtmfReceiver,
    DtmfSender,
    EventFrame,
    Pause,
)

pytestmark = pytest.mark.unit


def play(sender: DtmfSender, samples: int = 160) -> list[tuple[int, EventFrame | Pause]]:
    """Return everything *sender* plays, with the stream's timestamp of each."""
    played = []
    timestamp = 0
    while (frame := sender.next_frame(timestamp, samples)) is not None:
        played.append((timestamp, frame))
        timestamp += samples
    return played


def events(played: list[tuple[int, EventFrame | Pause]]) -> list[EventFrame]:
    return [frame for _, frame in played if isinstance(frame, EventFrame)]


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
def test_a_digit_is_updates_and_three_end_packets_with_one_timestamp(ptime: int) -> None:
    sender = DtmfSender()
    sender.send("7")
    frames = events(play(sender, ptime * 8))
    fields = [EVENT.unpack(frame.payload) for frame in frames]
    assert {frame.timestamp for frame in frames} == {0}
    assert [frame.marker for frame in frames] == [True] + [False] * (len(frames) - 1)
    assert {code for code, _, _ in fields} == {7}
    ends = [bool(flags & 0x80) for _, flags, _ in fields]
    assert ends == [False] * (len(frames) - 3) + [True] * 3
    durations = [duration for _, _, duration in fields]
    assert durations[:-2] == [ptime * 8 * n for n in range(1, len(frames) - 1)]
    assert len(set(durations[-3:])) == 1
    assert durations[-1] >= 160 * 8


def test_digits_are_apart_and_w_waits_half_a_second() -> None:
    sender = DtmfSender()
    sender.send("1w2")
    played = play(sender)
    starts = sorted({frame.timestamp for frame in events(played)})
    first_end = 10 * 160
    assert starts == [0, first_end + PAUSE_SAMPLES + WAIT_SAMPLES]
    assert not sender.busy


def test_unknown_characters_are_passed_over_and_the_queue_is_bounded() -> None:
    sender = DtmfSender()
    sender.send("x, é")
    assert play(sender) == []
    sender.send("5" * (MAX_QUEUED + 50))
    starts = {frame.timestamp for frame in events(play(sender))}
    assert len(starts) == MAX_QUEUED


def test_clearing_stops_in_the_middle() -> None:
    sender = DtmfSender()
    sender.send("12")
    sender.next_frame(0, 160)
    sender.clear()
    assert not sender.busy
    assert sender.next_frame(160, 160) is None


@given(
    st.text(alphabet=KEYS, min_size=1, max_size=6),
    st.sampled_from([10, 20, 30, 60]),
    st.randoms(use_true_random=False),
)
def test_every_key_is_told_once_when_one_packet_of_each_survives(
    digits: str, ptime: int, chance: object
) -> None:
    """Row 85. RFC 4733 2.5: told apart by timestamp, never by the marker."""
    sender, receiver = DtmfSender(), DtmfReceiver()
    sender.send(digits)
    by_key: dict[int, list[EventFrame]] = {}
    for frame in events(play(sender, ptime * 8)):
        by_key.setdefault(frame.timestamp, []).append(frame)
    told = []
    now = 0.0
    for frames in by_key.values():
        kept = [f for f in frames if chance.random() < 0.4] or [chance.choice(frames)]  # type: ignore[attr-defined]
        for frame in kept:
            now += 0.001
            receiver.receive(ssrc=1, timestamp=frame.timestamp, payload=frame.payload, now=now)
    receiver.poll(now + LOST_END_AFTER + 0.01)
    told = [key.digit for key in receiver.keys]
    assert told == list(digits)


def test_the_same_timestamp_of_another_source_is_another_key() -> None:
    receiver = DtmfReceiver()
    payload = EVENT.pack(5, 0x8A, 800)
    for ssrc in (1, 1, 2, 1):
        receiver.receive(ssrc=ssrc, timestamp=99, payload=payload, now=0.0)
    assert [key.digit for key in receiver.keys] == ["5", "5"]


def test_an_event_ends_when_nothing_was_heard_of_it_for_long_enough() -> None:
    receiver = DtmfReceiver()
    receiver.receive(ssrc=1, timestamp=9, payload=EVENT.pack(5, 10, 160), now=4.0)
    receiver.poll(4.0 + LOST_END_AFTER / 2)
    assert list(receiver.keys) == []
    receiver.poll(4.0 + LOST_END_AFTER + 0.001)
    assert [tuple(key) for key in receiver.keys] == [("5", 20)]
    receiver.poll(9.0)
    assert len(receiver.keys) == 1
