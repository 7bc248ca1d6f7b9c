"""The lane of reliable packets: order, numbers, what waits and what goes again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from bridge.room.seam import RoomError
from bridge.room.signal import lane as lane_module
from bridge.room.signal.lane import (
    BURST_PACKETS,
    KEPT_BYTES,
    KEPT_PACKETS,
    PACE,
    PACKET_LIMIT,
    WAITING_BYTES,
    WAITING_PACKETS,
    Lane,
)

pytestmark = pytest.mark.unit


def packet(text: bytes = b"") -> models.DataPacket:
    return models.DataPacket(user=models.UserPacket(payload=text))


def drain(lane: Lane, now: float = 0.0) -> list[models.DataPacket]:
    """Return all that leaves from *now* on, however long the pace takes."""
    found = []
    while True:
        found += [models.DataPacket.FromString(one.data) for one in lane.take(now)]
        later = lane.next_deadline()
        if later is None:
            return found
        assert later > now  # a deadline that brings nothing would spin
        now = later


def numbers(packets: list[models.DataPacket]) -> list[int]:
    return [one.sequence for one in packets]


def payloads(packets: list[models.DataPacket]) -> list[bytes]:
    return [one.user.payload for one in packets]


def opened() -> Lane:
    lane = Lane()
    lane.open()
    return lane


def test_packets_are_numbered_from_one_in_their_order() -> None:
    lane = opened()
    for text in (b"a", b"b", b"c"):
        lane.put(packet(text))
    sent = drain(lane)
    assert payloads(sent) == [b"a", b"b", b"c"]
    assert numbers(sent) == [1, 2, 3]


def test_each_message_leaves_with_its_ticket() -> None:
    lane = opened()
    tickets = [lane.put(packet()) for _ in range(3)]
    assert [one.ticket for one in lane.take(0.0)] == tickets
    assert len(set(tickets)) == 3


def test_nothing_leaves_before_the_channel_opens() -> None:
    lane = Lane()
    lane.put(packet(b"a"))
    lane.reply(packet(b"r"))
    assert lane.take(0.0) == []
    assert lane.next_deadline() is None
    lane.open()
    assert payloads(drain(lane)) == [b"r", b"a"]


def test_a_held_lane_sends_replies_but_no_messages() -> None:
    lane = opened()
    lane.hold()
    lane.put(packet(b"message"))
    lane.reply(packet(b"reply"))
    assert payloads(drain(lane)) == [b"reply"]
    lane.release()
    sent = drain(lane)
    assert payloads(sent) == [b"message"]
    assert numbers(sent) == [2]


def test_a_flood_of_replies_does_not_keep_messages_from_leaving() -> None:
    lane = opened()
    for number in range(BURST_PACKETS * 2):
        lane.reply(packet(b"r%d" % number))
    for number in range(3):
        lane.put(packet(b"m%d" % number))
    first = [models.DataPacket.FromString(one.data) for one in lane.take(0.0)]
    assert payloads(first)[:6] == [b"r0", b"m0", b"r1", b"m1", b"r2", b"m2"]
    assert numbers(first) == list(range(1, BURST_PACKETS + 1))


def test_a_packet_just_small_enough_is_sent_and_a_larger_one_refused() -> None:
    lane = opened()
    with pytest.raises(RoomError, match="too large, 64000 are allowed"):
        lane.put(packet(bytes(PACKET_LIMIT)))
    lane.put(packet(bytes(PACKET_LIMIT - 30)))
    [sent] = lane.take(0.0)
    assert PACKET_LIMIT - 30 < len(sent.data) <= PACKET_LIMIT


def test_the_size_of_a_packet_counts_its_largest_number() -> None:
    largest = models.DataPacket(sequence=2**32 - 1)
    assert largest.ByteSize() <= lane_module._SEQUENCE_ROOM


def test_too_many_waiting_messages_are_refused_and_those_before_stay() -> None:
    lane = Lane()
    for number in range(WAITING_PACKETS):
        lane.put(packet(str(number).encode()))
    with pytest.raises(RoomError, match="too much waits"):
        lane.put(packet())
    lane.open()
    assert payloads(drain(lane)) == [str(number).encode() for number in range(WAITING_PACKETS)]


def test_too_many_waiting_bytes_are_refused_until_some_have_left() -> None:
    lane = Lane()
    large = 60_000
    for _ in range(WAITING_BYTES // (large + 50)):
        lane.put(packet(bytes(large)))
    with pytest.raises(RoomError, match="too much waits"):
        lane.put(packet(bytes(large)))
    lane.open()
    drain(lane)
    lane.put(packet(bytes(large)))
    assert lane.waiting == 1


def test_replies_beyond_the_limit_are_dropped_not_kept() -> None:
    lane = Lane()
    for _ in range(WAITING_PACKETS + 5):
        lane.reply(packet())
    assert lane.dropped_replies == 5
    lane.reply(packet(bytes(PACKET_LIMIT)))
    assert lane.dropped_replies == 6


def test_a_backlog_leaves_in_bursts() -> None:
    lane = Lane()
    for _ in range(BURST_PACKETS + 10):
        lane.put(packet())
    lane.open()
    assert len(lane.take(5.0)) == BURST_PACKETS
    assert lane.take(5.0) == []
    assert lane.next_deadline() == pytest.approx(5.0 + PACE)
    assert len(lane.take(5.0 + PACE)) == 10
    assert lane.next_deadline() is None


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1e7))
def test_a_deadline_of_the_pace_always_brings_something(now: float) -> None:
    lane = opened()
    for _ in range(BURST_PACKETS + 1):
        lane.put(packet())
    lane.take(now)
    later = lane.next_deadline()
    assert later is not None
    assert len(lane.take(later)) == 1


def test_a_resume_sends_again_what_the_server_has_not_seen_before_all_that_waits() -> None:
    lane = opened()
    for text in (b"a", b"b", b"c"):
        lane.put(packet(text))
    drain(lane)
    lane.hold()
    lane.put(packet(b"d"))
    lane.resumed(1)
    lane.release()
    sent = drain(lane, 1.0)
    assert payloads(sent) == [b"b", b"c", b"d"]
    assert numbers(sent) == [2, 3, 4]


def test_what_goes_again_has_no_ticket() -> None:
    lane = opened()
    lane.put(packet(b"a"))
    lane.put(packet(b"b"))
    lane.take(0.0)
    lane.resumed(1)
    assert [one.ticket for one in lane.take(0.0)] == [None]


def test_a_second_cut_before_the_first_was_made_good_loses_nothing() -> None:
    lane = opened()
    for text in (b"a", b"b", b"c"):
        lane.put(packet(text))
    drain(lane)
    lane.resumed(1)  # nothing is taken: the socket is cut again
    lane.resumed(2)
    assert payloads(drain(lane, 1.0)) == [b"c"]


def test_a_server_that_does_not_count_is_not_told_twice_over_the_same_transport() -> None:
    lane = opened()
    lane.put(packet(b"a"))
    drain(lane)
    lane.resumed(0)
    assert drain(lane, 1.0) == []


def test_what_a_lost_transport_may_not_have_delivered_goes_again_without_a_count() -> None:
    lane = opened()
    lane.put(packet(b"a"))
    drain(lane)
    lane.shut()
    lane.open()
    lane.put(packet(b"b"))
    lane.resumed(0)
    assert payloads(drain(lane, 1.0)) == [b"a", b"b"]


@pytest.mark.parametrize("last", [3, 4, 2**32 - 1])
def test_nothing_goes_again_when_the_server_has_seen_all(last: int) -> None:
    lane = opened()
    for _ in range(3):
        lane.put(packet())
    drain(lane)
    lane.resumed(last)
    assert drain(lane, 1.0) == []
    assert lane.lost == 0


def test_what_is_kept_is_bounded_and_a_hole_is_counted() -> None:
    lane = opened()
    for number in range(KEPT_PACKETS + 44):
        lane.put(packet(str(number).encode()))
        drain(lane, float(number))
    lane.resumed(4)
    sent = drain(lane, 1e6)
    assert numbers(sent) == list(range(45, KEPT_PACKETS + 45))
    assert lane.lost == 40


def test_large_packets_are_kept_by_their_bytes() -> None:
    lane = opened()
    for number in range(20):
        lane.put(packet(bytes(60_000)))
        drain(lane, float(number))
    lane.resumed(1)
    again = drain(lane, 1e6)
    assert 0 < sum(one.ByteSize() for one in again) <= KEPT_BYTES


def surely(lane: Lane, *texts: bytes) -> None:
    for text in texts:
        lane.put(packet(text), surely=True)


def test_what_left_and_is_not_known_to_be_there_is_missed_in_order() -> None:
    lane = opened()
    surely(lane, b"a", b"b")
    lane.reply(packet(b"reply"))
    lane.put(packet(b"key"))
    surely(lane, b"c", b"d")
    drain(lane)
    lane.delivered(2)  # a reply takes its turn with messages: a and the reply
    surely(lane, b"waits")
    lane.shut()
    lane.delivered(9)  # of a transport that is gone: it says nothing any more
    assert payloads(lane.missed()) == [b"b", b"c", b"d"]
    assert lane.missed() == []
    assert lane.waiting == 1


def test_everything_that_was_delivered_is_missed_by_nobody() -> None:
    lane = opened()
    surely(lane, b"a", b"b")
    drain(lane)
    lane.delivered(2)
    lane.delivered(1)  # more than there were
    surely(lane, b"c")
    drain(lane, 1.0)
    assert payloads(lane.missed()) == [b"c"]


def test_what_a_resumed_server_has_counted_is_not_missed_and_the_rest_is() -> None:
    lane = opened()
    surely(lane, b"a", b"b", b"c")
    drain(lane)
    lane.shut()
    lane.open()
    lane.resumed(1)
    assert payloads(drain(lane, 1.0)) == [b"b", b"c"]
    lane.delivered(1)
    assert payloads(lane.missed()) == [b"c"]


def test_what_was_missed_goes_before_all_that_waits_and_not_while_the_lane_is_held() -> None:
    lane = opened()
    lane.hold()
    surely(lane, b"waited")
    for text in (b"a", b"b"):
        lane.put_first(packet(text))
    assert drain(lane) == []
    assert lane.fail_waiting() == [1], "only what somebody waits for"
    surely(lane, b"new")
    lane.release()
    sent = lane.take(1.0)
    assert [models.DataPacket.FromString(one.data).user.payload for one in sent] == [
        b"a",
        b"b",
        b"new",
    ]
    assert [one.ticket for one in sent] == [None, None, 2]
    assert payloads(lane.missed()) == [b"a", b"b", b"new"], "nothing of it was delivered either"


def test_what_may_be_missed_is_bounded_by_number_and_bytes() -> None:
    lane = opened()
    for number in range(KEPT_PACKETS + 5):
        surely(lane, b"%d" % number)
        drain(lane, float(number))
    assert payloads(lane.missed()) == [b"%d" % n for n in range(5, KEPT_PACKETS + 5)]
    for number in range(20):
        surely(lane, bytes(60_000))
        drain(lane, 1e4 + number)
    assert 0 < sum(one.ByteSize() for one in lane.missed()) <= KEPT_BYTES
    for _ in range(KEPT_PACKETS + 3):
        lane.put_first(packet(b"x"))
    lane.put_first(packet(bytes(PACKET_LIMIT)))
    assert lane.lost == 4
    assert len(lane.missed()) == KEPT_PACKETS


def test_a_new_participant_counts_from_one_and_gets_what_waited() -> None:
    lane = opened()
    lane.put(packet(b"sent"))
    drain(lane)
    lane.hold()
    lane.put(packet(b"waited"))
    lane.reply(packet(b"reply"))
    lane.renew()
    lane.release()
    lane.open()
    sent = drain(lane, 1.0)
    assert payloads(sent) == [b"waited"]
    assert numbers(sent) == [1]


def test_given_up_messages_are_named_and_gone() -> None:
    lane = Lane()
    tickets = [lane.put(packet()) for _ in range(3)]
    assert lane.fail_waiting() == tickets
    lane.open()
    assert drain(lane) == []
    assert lane.waiting == 0


class Server:
    """What the server does with numbers: forwards each once, rising."""

    def __init__(self) -> None:
        self.last = 0
        self.forwarded: list[bytes] = []

    def take(self, sent: models.DataPacket) -> None:
        if sent.sequence > self.last:
            self.last = sent.sequence
            self.forwarded.append(sent.user.payload)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["put", "reply", "carry", "lose", "cut", "resume"]), max_size=60))
def test_whatever_is_cut_the_server_forwards_all_messages_once_in_order(steps: list[str]) -> None:
    lane, server = opened(), Server()
    on_the_way: list[models.DataPacket] = []
    put = 0
    for now, step in enumerate(steps):
        if step == "put":
            lane.put(packet(f"m{put}".encode()))
            put += 1
        elif step == "reply":
            lane.reply(packet(b"r"))
        elif step == "lose":  # the transport was replaced behind the server
            on_the_way.clear()
            lane.hold()
            lane.resumed(server.last) if server.last else lane.shut()
            lane.open()
            if not server.last:
                lane.resumed(0)
            lane.release()
        elif step == "cut":
            lane.hold()
        elif step == "resume":
            lane.resumed(server.last)
            lane.release()
        else:
            for one in on_the_way:
                server.take(one)
            on_the_way.clear()
        on_the_way += drain(lane, float(now))
    lane.release()
    for one in on_the_way + drain(lane, 1e6):
        server.take(one)
    messages = [one for one in server.forwarded if one != b"r"]
    assert messages == [f"m{number}".encode() for number in range(put)]
