"""The small parts of the signalling: paths, candidates, offers, addresses, and the roster."""

from __future__ import annotations

import hashlib
import socket

import pytest
from livekit.protocol import models

from bridge.room.seam import AudioPublished, ParticipantJoined, ParticipantLeft, RoomError
from bridge.room.signal.address import local_address, route_from
from bridge.room.signal.candidates import Paths
from bridge.room.signal.messages import PATH_LIMIT, Law, OwnTrack, Way, join_path
from bridge.room.signal.negotiation import Offers
from bridge.room.signal.outputs import AddReceivers, RestartIce
from bridge.room.signal.roster import LIMIT, TRACKS_LIMIT, Roster, kind_name
from bridge.room.signal.socket import SocketRefused, websocket_url
from tests.unit.room.signal.wire import GONE, JOINED, audio, join_request, person

pytestmark = pytest.mark.unit

TRACK = OwnTrack(cid="c", name="sip_audio", law=Law.PCMA)


# Paths.


@pytest.mark.parametrize("way", list(Way))
def test_attributes_that_would_make_the_request_line_too_long_stay_behind(way: Way) -> None:
    noise = {str(one): hashlib.sha512(bytes([one])).hexdigest() for one in range(200)}
    path, rode = join_path(way, TRACK, "offer", noise, muted=False)
    assert not rode
    assert len(path) < PATH_LIMIT
    path, rode = join_path(way, TRACK, "offer", {"a": "1"}, muted=False)
    assert rode


def test_a_long_join_request_is_compressed() -> None:
    offer = "a=candidate: the same line again\r\n" * 500
    path, rode = join_path(Way.V1, TRACK, offer, {"a": "1"}, muted=True)
    assert rode
    assert len(path) < 2000
    request = join_request(path)
    assert request.publisher_offer.sdp == offer
    assert request.add_track_requests[0].simulcast_codecs[0].codec == "pcma"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://host:7880", "ws://host:7880"),
        ("wss://host/", "wss://host"),
        ("http://host:7880/", "ws://host:7880"),
        ("https://host/livekit", "wss://host/livekit"),
    ],
)
def test_a_server_may_be_named_by_any_scheme(url: str, expected: str) -> None:
    assert websocket_url(url) == expected


@pytest.mark.parametrize(
    ("status", "otherwise", "final"),
    [
        (404, True, True),
        (405, True, True),
        (400, False, True),
        (401, False, True),
        (403, False, True),
        (408, False, False),
        (429, False, False),
        (500, False, False),
        (503, False, False),
        (301, False, False),
    ],
)
def test_a_refusal_is_final_or_not(status: int, otherwise: bool, final: bool) -> None:
    refusal = SocketRefused(status)
    assert (refusal.speaks_otherwise, refusal.is_final) == (otherwise, final)
    assert not SocketRefused(404, about_room=True).speaks_otherwise


# Candidates.

UDP = "candidate:1 1 udp 2130706431 192.0.2.7 7882 typ host"
TCP = "candidate:2 1 tcp 1671430143 192.0.2.7 7881 typ host tcptype passive"
RELAY = "candidate:3 1 udp 1 192.0.2.8 3478 typ relay raddr 0.0.0.0 rport 0"


@pytest.mark.parametrize(
    ("candidates", "relayed_only"),
    [
        ([], False),
        ([UDP], False),
        ([TCP], True),
        ([RELAY], True),
        ([TCP, RELAY, UDP], False),
        ([UDP.replace(" 1 udp", " 2 udp"), TCP], True),  # a second component is no path
        (["candidate:", "", "candidate:1 1 udp"], False),
    ],
)
def test_a_server_without_plain_udp_is_recognized(
    candidates: list[str], relayed_only: bool
) -> None:
    one_by_one, at_once = Paths(), Paths()
    for candidate in candidates:
        one_by_one.learn(candidate)
    at_once.learn_description("\r\n".join(f"a={candidate}" for candidate in candidates))
    assert one_by_one.relayed_only is relayed_only
    assert at_once.relayed_only is relayed_only


# Offers.


def test_one_offer_at_a_time_and_none_forgotten() -> None:
    offers = Offers()
    offers.want_receivers(0)
    assert offers.next() is None  # the first is being made
    assert offers.made("1") == 1
    offers.want_receivers(2)
    offers.want_restart()
    assert offers.next() is None
    assert not offers.answered(9)
    assert offers.answered(1)
    assert offers.next() == RestartIce()
    assert offers.next() is None
    assert offers.made("2") == 2
    assert offers.sent_again() == 3
    assert not offers.answered(2)
    assert offers.answered(0)  # an older server gives no numbers
    assert offers.next() == AddReceivers(count=2)
    offers.made("3")
    assert offers.answered(4)
    assert offers.next() is None


# The roster.


def met(*others: models.ParticipantInfo) -> Roster:
    roster = Roster()
    roster.meet(person("me"), others, 0.0)
    return roster


def test_one_that_comes_again_under_its_identity_has_left_first() -> None:
    roster = met(person("a", sid="PA_1"))
    roster.notices.clear()
    roster.update(person("a", audio("TR_a"), sid="PA_2"), 1.0)
    roster.update(person("a", sid="PA_1", state=GONE), 1.0)  # late
    assert roster.notices == [
        ParticipantLeft(identity="a", others=0),
        ParticipantJoined(identity="a", kind="agent", at_join=False),
        AudioPublished(identity="a"),
    ]
    assert roster.others() == ["a"]


def test_older_news_is_no_news() -> None:
    roster = met(person("a", audio("TR_a"), version=5))
    roster.notices.clear()
    roster.update(person("a", version=4), 1.0)
    assert roster.audio() == ["TR_a"]
    roster.update(person("a", version=5), 1.0)
    assert roster.audio() == []
    assert roster.notices == []


def test_one_that_publishes_before_it_is_active_is_told_of_at_once() -> None:
    roster = met()
    roster.update(person("a", state=JOINED), 1.0)
    assert roster.notices == []
    assert roster.kind_of("a") is None
    roster.update(person("a", audio("TR_a"), state=JOINED), 1.1)
    assert roster.notices[0] == ParticipantJoined(identity="a", kind="agent", at_join=False)
    assert roster.kind_of("a") == "agent"
    assert roster.next_deadline() is None


def test_one_that_goes_before_it_was_told_of_is_never_told_of() -> None:
    roster = met()
    roster.update(person("a", state=JOINED), 1.0)
    roster.update(person("a", state=GONE), 1.1)
    roster.tick(9.0)
    assert roster.notices == []


def test_the_roster_is_bounded() -> None:
    roster = met(*(person(f"p-{number}") for number in range(LIMIT + 50)))
    assert len(roster.others()) == LIMIT
    roster.update(person("p-0", *(audio(f"TR_{number}") for number in range(1000))), 1.0)
    assert len(roster.audio()) == TRACKS_LIMIT


def test_kinds_have_names() -> None:
    assert kind_name(models.ParticipantInfo.SIP) == "sip"
    assert kind_name(models.ParticipantInfo.STANDARD) == "standard"
    assert kind_name(4711) == "unknown"


# Addresses.


async def test_the_way_to_a_server_on_this_machine_starts_at_the_outward_address() -> None:
    outward = route_from(socket.AF_INET, ("198.51.100.1", 9))
    assert await local_address("ws://127.0.0.1:7880") == (outward or "127.0.0.1")


async def test_a_name_that_is_unknown_is_a_room_error() -> None:
    with pytest.raises(RoomError, match="name is unknown"):
        await local_address("ws://no-such-host.invalid:7880")
