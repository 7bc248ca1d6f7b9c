"""The signalling machine, message by message."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models, rtc

from bridge.room.seam import (
    AudioPublished,
    LeaveReason,
    ParticipantJoined,
    ParticipantLeft,
    RoomGone,
    Unsuitable,
)
from bridge.room.signal.messages import Law, Way
from bridge.room.signal.outputs import (
    AcceptAnswer,
    AcceptOffer,
    Action,
    AddCandidate,
    AddReceivers,
    Confirmed,
    Dismissed,
    FoundUnsuitable,
    Ignored,
    JoinedRoom,
    RestartIce,
    Resumed,
    ResumeRefused,
    SocketSilent,
    TokenRefreshed,
    TrackTaken,
)
from bridge.room.signal.port import Side
from tests.unit.room.signal.wire import (
    ANSWER,
    CID,
    GONE,
    JOINED,
    TRACK_SID,
    Client,
    answer,
    audio,
    join,
    join_request,
    kinds,
    leave,
    notices,
    of,
    person,
    published,
    reconnect,
    requests,
    response,
    sections,
    update,
)

pytestmark = pytest.mark.unit

# The join.


def test_everything_a_join_needs_rides_in_its_first_message() -> None:
    client = Client(muted=True).opened(one="1")
    assert urlsplit(client.path).path == "/rtc/v1"
    request = join_request(client.path)
    assert request.publisher_offer.sdp == "offer 1"
    assert (request.publisher_offer.type, request.publisher_offer.id) == ("offer", 1)
    assert request.participant_attributes == {"one": "1"}
    assert not request.connection_settings.auto_subscribe
    assert request.client_info.sdk == models.ClientInfo.UNKNOWN
    assert request.client_info.protocol == 16
    (track,) = request.add_track_requests
    assert (track.cid, track.name, track.source) == (CID, "sip_audio", models.MICROPHONE)
    assert track.muted
    assert track.disable_dtx
    assert track.disable_red
    assert [codec.codec for codec in track.simulcast_codecs] == ["pcmu"]
    assert not request.reconnect


def test_a_join_is_told_with_those_who_are_there() -> None:
    client = Client().opened()
    outputs = client.feed(join(person("a", audio("TR_a")), person("b", state=JOINED)))
    assert of(outputs, JoinedRoom) == [JoinedRoom(identity="me", sid="PA_me")]
    assert notices(outputs) == [
        ParticipantJoined(identity="a", kind="agent", at_join=True),
        AudioPublished(identity="a"),
    ]
    assert client.machine.others() == ["a"]


def test_the_answer_goes_to_the_publisher_and_the_published_track_is_taken() -> None:
    client = Client().opened()
    outputs = client.feed(join(), answer(), published())
    assert of(outputs, AcceptAnswer) == [AcceptAnswer(sdp=ANSWER)]
    assert len(of(outputs, TrackTaken)) == 1
    assert kinds(outputs) == []


@pytest.mark.parametrize("law", list(Law))
@pytest.mark.parametrize("mime", ["audio/PCMU", "audio/PCMA", "audio/opus", ""])
def test_a_track_published_as_another_codec_makes_the_server_unsuitable(
    law: Law, mime: str
) -> None:
    client = Client(law=law).opened()
    outputs = client.feed(join(), answer(), published(mime))
    suits = mime.lower() in ("", law.mime)
    assert bool(of(outputs, TrackTaken)) is suits
    expected = [] if suits else [FoundUnsuitable(why=Unsuitable.CODEC_DISABLED)]
    assert of(outputs, FoundUnsuitable) == expected


def test_a_codec_that_shows_later_counts_as_well() -> None:
    client = Client().joined()
    client.machine.take()
    track = models.TrackInfo(sid=TRACK_SID, type=models.AUDIO, mime_type="audio/opus")
    outputs = client.feed(update(person("me", track, sid="PA_me")))
    assert of(outputs, FoundUnsuitable) == [FoundUnsuitable(why=Unsuitable.CODEC_DISABLED)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"enabled_publish_codecs": [models.Codec(mime="audio/opus")]}, Unsuitable.CODEC_DISABLED),
        ({"enabled_publish_codecs": [models.Codec(mime="audio/PCMU")]}, None),
        ({"enabled_publish_codecs": []}, None),
        (
            {"client_configuration": models.ClientConfiguration(force_relay=models.ENABLED)},
            Unsuitable.RELAY_ONLY,
        ),
        (
            {"client_configuration": models.ClientConfiguration(force_relay=models.DISABLED)},
            None,
        ),
    ],
)
def test_what_the_join_shows_to_be_unsuitable_is_told_at_once(
    fields: dict[str, Any], why: Unsuitable | None
) -> None:
    outputs = Client().opened().feed(join(**fields))
    expected = [] if why is None else [FoundUnsuitable(why=why)]
    assert of(outputs, FoundUnsuitable) == expected


def test_encrypted_audio_makes_a_room_unsuitable_at_the_join_and_is_left_alone_later() -> None:
    encrypted = audio("TR_e", models.Encryption.GCM)
    outputs = Client().opened().feed(join(person("a", encrypted)))
    assert of(outputs, FoundUnsuitable) == [FoundUnsuitable(why=Unsuitable.ENCRYPTED)]
    client = Client(wanted=True).joined()
    outputs = client.feed(update(person("a", encrypted)))
    assert of(outputs, FoundUnsuitable) == []
    assert kinds(outputs) == []


def test_a_refused_join_is_a_dismissal() -> None:
    outputs = Client().opened().feed(leave(models.JOIN_FAILURE))
    assert of(outputs, Dismissed) == [
        Dismissed(action=Action.DISCONNECT, gone=RoomGone.LOST, replaced=False)
    ]


# The way of two PeerConnections.


def test_the_old_way_asks_for_its_track_and_offers_after_the_join() -> None:
    client = Client(way=Way.V0).opened(one="1")
    parts = urlsplit(client.path)
    query = parse_qs(parts.query)
    assert parts.path == "/rtc"
    assert (query["auto_subscribe"], query["protocol"]) == (["0"], ["16"])
    assert "attributes" in query
    outputs = client.feed(join())
    assert kinds(outputs) == ["add_track", "offer"]
    assert requests(outputs)[1].offer.sdp == "offer 1"


def test_the_old_way_answers_each_offer_under_its_number() -> None:
    client = Client(way=Way.V0).joined()
    for number in (7, 8):
        offer = rtc.SessionDescription(type="offer", sdp=f"theirs {number}", id=number)
        outputs = client.feed(response(offer=offer))
        assert of(outputs, AcceptOffer) == [
            AcceptOffer(side=Side.SUBSCRIBER, sdp=f"theirs {number}")
        ]
    client.machine.answer_made(Side.SUBSCRIBER, "a 7")
    client.machine.answer_made(Side.SUBSCRIBER, "a 8")
    sent = [(one.answer.sdp, one.answer.id) for one in requests(client.machine.take())]
    assert sent == [("a 7", 7), ("a 8", 8)]


def test_the_old_way_needs_no_sections() -> None:
    client = Client(way=Way.V0).joined()
    assert of(client.feed(sections(2)), AddReceivers) == []


# Offers.


def test_a_request_for_sections_is_an_offer_at_once_even_for_none() -> None:
    client = Client().joined()
    for count in (0, 2):
        assert of(client.feed(sections(count)), AddReceivers) == [AddReceivers(count=count)]
        client.machine.offer_made(f"offer for {count}", client.now)
        (request,) = requests(client.machine.take())
        assert request.offer.sdp == f"offer for {count}"
        client.feed(answer(request.offer.id))


def test_requests_while_an_offer_is_under_way_add_up_and_follow_its_answer() -> None:
    client = Client().joined()
    assert of(client.feed(sections(1)), AddReceivers) == [AddReceivers(count=1)]
    assert of(client.feed(sections(1), sections(0)), AddReceivers) == []  # it is being made
    client.machine.offer_made("offer 2", client.now)
    client.machine.take()
    assert of(client.feed(sections(2)), AddReceivers) == []  # it is under way
    outputs = client.feed(answer(2))
    assert of(outputs, AcceptAnswer) == [AcceptAnswer(sdp=ANSWER)]
    assert of(outputs, AddReceivers) == [AddReceivers(count=3)]
    client.machine.offer_made("offer 3", client.now)
    client.machine.take()
    assert of(client.feed(answer(3)), AddReceivers) == []


def test_a_request_before_the_first_answer_waits_for_it() -> None:
    client = Client().opened()
    assert of(client.feed(join(), sections(1)), AddReceivers) == []
    assert of(client.feed(answer()), AddReceivers) == [AddReceivers(count=1)]


def test_an_ice_restart_comes_before_more_sections() -> None:
    client = Client().joined()
    client.feed(sections(0))
    client.machine.restart_ice()
    client.feed(sections(1))
    client.machine.offer_made("offer 2", client.now)
    client.machine.take()
    outputs = client.feed(answer(2))
    assert of(outputs, RestartIce) == [RestartIce()]
    assert of(outputs, AddReceivers) == []
    client.machine.offer_made("offer 3", client.now)
    client.machine.take()
    assert of(client.feed(answer(3)), AddReceivers) == [AddReceivers(count=1)]


@pytest.mark.parametrize("number", [2, 99])
def test_an_answer_to_no_offer_of_ours_is_ignored(number: int) -> None:
    client = Client().opened()
    outputs = client.feed(join(), answer(number))
    assert of(outputs, AcceptAnswer) == []
    assert of(client.feed(answer(1)), AcceptAnswer) == [AcceptAnswer(sdp=ANSWER)]
    assert of(client.feed(answer(1)), AcceptAnswer) == []


def test_an_offer_that_is_never_answered_is_a_lost_room() -> None:
    client = Client().opened()
    client.feed(join())
    heard = [client.feed(update()) or client.passes(1) for _ in range(11)]
    assert [of(outputs, Dismissed) for outputs in heard if of(outputs, Dismissed)] == [
        [Dismissed(action=Action.RECONNECT, gone=RoomGone.LOST, replaced=False)]
    ]


def test_an_offer_of_the_server_waits_for_the_answer_to_ours() -> None:
    client = Client().opened()
    client.feed(join())
    offer = rtc.SessionDescription(type="offer", sdp="theirs", id=3)
    assert of(client.feed(response(offer=offer)), AcceptOffer) == []
    outputs = client.feed(answer())
    assert of(outputs, AcceptOffer) == [AcceptOffer(side=Side.PUBLISHER, sdp="theirs")]
    client.machine.answer_made(Side.PUBLISHER, "ours")
    (request,) = requests(client.machine.take())
    assert (request.answer.sdp, request.answer.id) == ("ours", 3)


def test_a_flood_of_offers_is_bounded() -> None:
    client = Client(way=Way.V0).joined()
    offer = response(offer=rtc.SessionDescription(type="offer", sdp="theirs", id=1))
    assert len(of(client.feed(*[offer] * 100), AcceptOffer)) == 16


# Candidates.


def trickle(candidate: object, target: rtc.SignalTarget = rtc.PUBLISHER) -> bytes:
    text = json.dumps({"candidate": candidate, "sdpMid": "0"})
    return response(trickle=rtc.TrickleRequest(candidateInit=text, target=target))


HOST = "candidate:1 1 udp 2130706431 192.0.2.7 7882 typ host"


def test_candidates_wait_for_the_description_that_they_belong_to() -> None:
    client = Client().opened()
    assert of(client.feed(join(), trickle(HOST)), AddCandidate) == []
    outputs = client.feed(answer())
    assert outputs.index(AddCandidate(side=Side.PUBLISHER, candidate=HOST)) > outputs.index(
        AcceptAnswer(sdp=ANSWER)
    )
    assert of(client.feed(trickle(HOST)), AddCandidate) == [
        AddCandidate(side=Side.PUBLISHER, candidate=HOST)
    ]


def test_the_old_way_has_candidates_for_each_side() -> None:
    client = Client(way=Way.V0).joined()
    assert of(client.feed(trickle(HOST, rtc.SUBSCRIBER)), AddCandidate) == []
    offer = rtc.SessionDescription(type="offer", sdp="theirs", id=1)
    assert of(client.feed(response(offer=offer)), AddCandidate) == [
        AddCandidate(side=Side.SUBSCRIBER, candidate=HOST)
    ]
    assert of(client.feed(trickle(HOST)), AddCandidate) == [
        AddCandidate(side=Side.PUBLISHER, candidate=HOST)
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"candidate": 7}', "{}", "[" * 5000])
def test_a_candidate_that_is_none_is_ignored(text: str) -> None:
    client = Client().joined()
    client.machine.take()
    assert client.feed(response(trickle=rtc.TrickleRequest(candidateInit=text))) == []


def test_early_candidates_are_bounded() -> None:
    client = Client().opened()
    client.feed(join(), *[trickle(HOST)] * 1000)
    assert len(of(client.feed(answer()), AddCandidate)) == 32


# Subscriptions.


def test_all_audio_is_subscribed_to_while_it_is_wanted() -> None:
    client = Client().joined(person("a", audio("TR_a")))
    client.machine.take()
    client.machine.subscribe(True)
    (request,) = requests(client.machine.take())
    assert list(request.subscription.track_sids) == ["TR_a"]
    assert request.subscription.subscribe
    video = models.TrackInfo(sid="TR_v", type=models.VIDEO)
    (request,) = requests(client.feed(update(person("b", audio("TR_b"), video))))
    assert list(request.subscription.track_sids) == ["TR_b"]
    assert kinds(client.feed(update(person("b", audio("TR_b"), video, version=2)))) == []
    client.machine.subscribe(False)
    (request,) = requests(client.machine.take())
    assert set(request.subscription.track_sids) == {"TR_a", "TR_b"}
    assert not request.subscription.subscribe
    assert kinds(client.feed(update(person("c", audio("TR_c"))))) == []


def test_a_wish_from_before_the_join_is_told_right_after_it() -> None:
    client = Client(wanted=True).opened()
    outputs = client.feed(join(person("a", audio("TR_a"))))
    (request,) = requests(outputs)
    assert list(request.subscription.track_sids) == ["TR_a"]


def test_a_track_published_anew_is_subscribed_to_anew() -> None:
    client = Client(wanted=True).joined()
    for number in range(10):
        outputs = client.feed(update(person("a", audio(f"TR_{number}"), version=2 * number)))
        (request,) = requests(outputs)
        assert list(request.subscription.track_sids) == [f"TR_{number}"]
        assert notices(outputs)[-1] == AudioPublished(identity="a")
        assert kinds(client.feed(update(person("a", version=2 * number + 1)))) == []


def test_the_answer_names_the_track_of_each_section() -> None:
    client = Client().opened()
    client.feed(
        join(),
        response(
            answer=rtc.SessionDescription(
                type="answer", sdp=ANSWER, id=1, mid_to_track_id={"1": "TR_a"}
            )
        ),
    )
    assert client.machine.track_of("1") == "TR_a"
    assert client.machine.track_of("2") is None


def test_a_failed_subscription_is_for_the_log() -> None:
    client = Client().joined()
    failed = rtc.SubscriptionResponse(track_sid="TR_a", err=models.SE_CODEC_UNSUPPORTED)
    assert client.feed(response(subscription_response=failed))[-1] == Ignored(
        what="subscription_failed", detail="se_codec_unsupported"
    )


# Mute and attributes.


def test_the_mute_is_sent_when_it_changes() -> None:
    client = Client().joined()
    client.machine.take()
    client.machine.mute(False)
    assert kinds(client.machine.take()) == []
    client.machine.mute(True)
    client.machine.mute(True)
    (request,) = requests(client.machine.take())
    assert (request.mute.sid, request.mute.muted) == (TRACK_SID, True)


def test_a_mute_from_before_the_track_was_published_follows_it() -> None:
    client = Client().opened()
    client.feed(join(), answer())
    client.machine.mute(True)
    assert kinds(client.machine.take()) == []
    (request,) = requests(client.feed(published()))
    assert request.mute.muted


def test_the_track_of_one_that_joins_muted_needs_no_more() -> None:
    client = Client(muted=True).opened()
    assert kinds(client.feed(join(), answer(), published(muted=True))) == []


def test_a_mute_by_the_server_is_lifted_by_our_next_change() -> None:
    client = Client().joined()
    by_server = rtc.MuteTrackRequest(sid=TRACK_SID, muted=True)
    client.feed(response(mute=by_server))
    client.machine.mute(False)
    (request,) = requests(client.machine.take())
    assert not request.mute.muted


def test_attributes_are_numbered_and_confirmed() -> None:
    client = Client().joined()
    client.machine.take()
    first = client.machine.set_attributes({"a": "1"})
    second = client.machine.set_attributes({"b": ""})
    sent = requests(client.machine.take())
    assert [one.update_metadata.request_id for one in sent] == [first, second]
    assert dict(sent[0].update_metadata.attributes) == {"a": "1"}
    refused = rtc.RequestResponse(request_id=second, reason=rtc.RequestResponse.NOT_ALLOWED)
    outputs = client.feed(
        response(request_response=rtc.RequestResponse(request_id=first)),
        response(request_response=refused),
    )
    assert of(outputs, Confirmed) == [
        Confirmed(request=first, accepted=True),
        Confirmed(request=second, accepted=False),
    ]


# Leaving, sent away.


@pytest.mark.parametrize(
    ("reason", "number"),
    [
        (LeaveReason.CLIENT_INITIATED, models.CLIENT_INITIATED),
        (LeaveReason.USER_REJECTED, models.USER_REJECTED),
        (LeaveReason.USER_UNAVAILABLE, models.USER_UNAVAILABLE),
        (None, models.AGENT_ERROR),
    ],
)
def test_our_goodbye_has_its_reason(reason: LeaveReason | None, number: int) -> None:
    client = Client().joined()
    client.machine.take()
    client.machine.leave(reason)
    (request,) = requests(client.machine.take())
    assert request.leave.reason == number
    assert request.leave.action == rtc.LeaveRequest.DISCONNECT
    assert client.feed(leave(models.CLIENT_INITIATED)) == []


@pytest.mark.parametrize(
    ("reason", "gone", "replaced"),
    [
        (models.ROOM_DELETED, RoomGone.DELETED, False),
        (models.ROOM_CLOSED, RoomGone.DELETED, False),
        (models.PARTICIPANT_REMOVED, RoomGone.REMOVED, False),
        (models.DUPLICATE_IDENTITY, RoomGone.REMOVED, True),
        (models.SERVER_SHUTDOWN, RoomGone.LOST, False),
        (models.STATE_MISMATCH, RoomGone.LOST, False),
        (models.UNKNOWN_REASON, RoomGone.LOST, False),
        (models.CONNECTION_TIMEOUT, RoomGone.LOST, False),
    ],
)
def test_the_reason_of_a_dismissal_is_told(
    reason: models.DisconnectReason, gone: RoomGone, replaced: bool
) -> None:
    client = Client().joined()
    assert of(client.feed(leave(reason)), Dismissed) == [
        Dismissed(action=Action.DISCONNECT, gone=gone, replaced=replaced)
    ]
    assert client.feed(leave(reason), update(person("a"))) == []


def test_a_dismissal_may_ask_for_a_resume_or_a_new_participant() -> None:
    client = Client().joined()
    outputs = client.feed(leave(models.MIGRATION, rtc.LeaveRequest.RESUME))
    assert of(outputs, Dismissed) == [
        Dismissed(action=Action.RESUME, gone=RoomGone.LOST, replaced=False)
    ]
    outputs = client.resuming().feed(reconnect())
    assert of(outputs, Resumed)
    lost = Dismissed(action=Action.RECONNECT, gone=RoomGone.LOST, replaced=False)
    outputs = client.feed(leave(models.ROOM_DELETED, rtc.LeaveRequest.RECONNECT))
    assert of(outputs, Dismissed) == [lost]
    older = Client().joined().feed(leave(models.MIGRATION, can_reconnect=True))
    assert of(older, Dismissed) == [lost]


def test_a_newer_token_is_passed_on() -> None:
    outputs = Client().joined().feed(response(refresh_token="newer"))
    assert outputs == [TokenRefreshed(token="newer")]


def test_a_move_to_another_room_brings_other_others() -> None:
    client = Client(wanted=True).joined(person("a", audio("TR_a")))
    client.machine.take()
    moved = rtc.RoomMovedResponse(
        participant=person("me", sid="PA_new"),
        other_participants=[person("b", audio("TR_b"))],
        token="other",
    )
    outputs = client.feed(response(room_moved=moved))
    assert notices(outputs) == [
        ParticipantLeft(identity="a", others=0),
        ParticipantJoined(identity="b", kind="agent", at_join=True),
        AudioPublished(identity="b"),
    ]
    assert of(outputs, TokenRefreshed) == [TokenRefreshed(token="other")]
    assert list(requests(outputs)[0].subscription.track_sids) == ["TR_b"]
    assert client.machine.sid == "PA_new"


# Resuming.


def test_a_resume_names_the_participant_and_says_everything_again() -> None:
    client = Client(wanted=True).joined(person("a", audio("TR_a")))
    client.machine.channel_opened(Side.PUBLISHER, "_reliable", 0)
    client.machine.channel_opened(Side.PUBLISHER, "_lossy", 2)
    client.machine.take()
    client.resuming()
    request = join_request(client.path)
    assert request.reconnect
    assert request.participant_sid == "PA_me"
    assert request.reconnect_reason == models.RR_SIGNAL_DISCONNECTED
    assert not request.add_track_requests
    outputs = client.feed(reconnect(last_message=9))
    assert outputs[0] == Resumed(last_message=9)
    sent = requests(outputs)
    state = sent[0].sync_state
    assert (state.offer.sdp, state.answer.sdp) == ("offer 1", ANSWER)
    assert list(state.subscription.track_sids) == ["TR_a"]
    assert state.subscription.subscribe
    assert [one.track.sid for one in state.publish_tracks] == [TRACK_SID]
    assert {(one.label, one.id) for one in state.data_channels} == {("_reliable", 0), ("_lossy", 2)}
    (received,) = state.datachannel_receive_states
    assert (received.publisher_sid, received.last_seq) == ("PA_a", 4)
    assert sent[1].mute.sid == TRACK_SID


def test_the_old_way_resumes_by_its_query() -> None:
    client = Client(way=Way.V0).joined().resuming()
    query = parse_qs(urlsplit(client.path).query)
    assert (query["reconnect"], query["sid"]) == (["1"], ["PA_me"])
    assert "sync_state" in kinds(client.feed(reconnect()))


def test_a_resume_after_a_lost_path_says_so() -> None:
    client = Client().joined()
    client.machine.closed()
    request = join_request(client.machine.resume_path(media_lost=True))
    assert request.reconnect_reason == models.RR_PUBLISHER_FAILED


def test_an_offer_that_went_down_with_the_socket_is_sent_again() -> None:
    client = Client().joined()
    client.feed(sections(1))
    client.machine.offer_made("offer 2", client.now)
    client.machine.take()
    outputs = client.resuming().feed(reconnect())
    offers = [one.offer for one in requests(outputs) if one.WhichOneof("message") == "offer"]
    assert [(one.sdp, one.id) for one in offers] == [("offer 2", 3)]
    assert of(client.feed(answer(2)), AcceptAnswer) == []
    assert of(client.feed(answer(3)), AcceptAnswer) == [AcceptAnswer(sdp=ANSWER)]


def test_an_offer_made_while_the_socket_is_away_goes_out_with_the_resume() -> None:
    client = Client().joined()
    client.feed(sections(1))
    client.resuming()
    client.machine.offer_made("offer 2", client.now)
    assert kinds(client.machine.take()) == []
    sent = requests(client.feed(reconnect()))
    assert [one.offer.sdp for one in sent if one.WhichOneof("message") == "offer"] == ["offer 2"]


def test_a_request_for_sections_that_was_lost_is_made_good() -> None:
    client = Client(wanted=True).joined(person("a", audio("TR_a")))
    client.machine.take()
    assert of(client.resuming().feed(reconnect()), AddReceivers) == [AddReceivers(count=1)]
    client.machine.offer_made("offer 2", client.now)
    (request,) = requests(client.machine.take())
    client.feed(
        response(
            answer=rtc.SessionDescription(
                type="answer", sdp=ANSWER, id=request.offer.id, mid_to_track_id={"1": "TR_a"}
            )
        )
    )
    assert of(client.resuming().feed(reconnect()), AddReceivers) == []


def test_a_subscription_ended_while_away_is_ended_by_the_resume() -> None:
    client = Client(wanted=True).joined(person("a", audio("TR_a")))
    client.resuming()
    client.machine.subscribe(False)
    sent = requests(client.feed(reconnect()))
    last = [one.subscription for one in sent if one.WhichOneof("message") == "subscription"]
    assert [(list(one.track_sids), one.subscribe) for one in last] == [(["TR_a"], False)]


@pytest.mark.parametrize(
    "message",
    [
        leave(models.STATE_MISMATCH, rtc.LeaveRequest.RECONNECT),
        leave(),
        join(),
    ],
)
def test_a_refused_resume_is_told(message: bytes) -> None:
    client = Client().joined()
    client.machine.take()
    client.resuming()
    assert client.feed(message) == [ResumeRefused()]
    assert client.feed(reconnect()) == []


def test_a_resume_into_a_deleted_room_tells_why() -> None:
    client = Client().joined()
    client.machine.take()
    assert client.resuming().feed(leave(models.ROOM_DELETED)) == [
        Dismissed(action=Action.DISCONNECT, gone=RoomGone.DELETED, replaced=False)
    ]


def test_a_resume_into_somebody_elses_place_is_refused() -> None:
    client = Client().joined()
    client.machine.take()
    outputs = client.resuming().feed(reconnect(), update(person("me", sid="PA_other")))
    assert of(outputs, ResumeRefused) == [ResumeRefused()]
    client = Client().joined().resuming()
    outputs = client.feed(
        reconnect(), update(person("me", sid="PA_me")), update(person("me", sid="PA_other"))
    )
    assert of(outputs, ResumeRefused) == []


def test_one_who_left_while_the_socket_was_away_is_told_of_by_the_resume() -> None:
    """The server tells of all who are there, of us too, and never of those who went meanwhile."""
    client = Client().joined(person("a"), person("b"))
    client.machine.take()
    client.resuming()
    outputs = client.feed(reconnect(), update(person("a"), person("me", sid="PA_me")))
    assert notices(outputs) == [ParticipantLeft(identity="b", others=1)]
    assert client.machine.others() == ["a"]
    # What comes later is news of some, and nobody is missed in it.
    assert notices(client.feed(update(person("me", sid="PA_me")))) == []
    assert client.machine.others() == ["a"]


def test_one_who_came_in_the_place_of_another_while_the_socket_was_away_leaves_nobody_alone() -> (
    None
):
    client = Client().joined(person("a"))
    client.machine.take()
    client.resuming()
    outputs = client.feed(reconnect(), update(person("me", sid="PA_me"), person("c")))
    assert notices(outputs) == [
        ParticipantJoined(identity="c", kind="agent", at_join=False),
        ParticipantLeft(identity="a", others=1),
    ]


# Time.


def test_a_ping_goes_out_every_interval_and_silence_ends_the_socket() -> None:
    client = Client().joined()
    outputs = client.passes(60)
    pings = [one for one in requests(outputs) if one.WhichOneof("message") == "ping_req"]
    assert len(pings) == 2  # at 5 and 10; at 15 it is dead
    assert outputs[-1] == SocketSilent()
    assert client.machine.next_deadline() is None


def test_a_socket_on_which_something_comes_lives_on() -> None:
    client = Client().joined()
    for _ in range(20):
        outputs = client.passes(5)
        assert kinds(outputs).count("ping_req") == 1
        assert of(outputs, SocketSilent) == []
        client.feed(response(pong_resp=rtc.Pong(last_ping_timestamp=1)))


def test_a_probe_finds_a_dead_socket_soon() -> None:
    client = Client().joined()
    client.machine.take()
    client.machine.probe(client.now)
    assert kinds(client.machine.take()) == ["ping_req"]
    assert SocketSilent() in client.passes(2)
    client = Client().joined()
    client.machine.probe(client.now)
    client.feed(response(pong_resp=rtc.Pong()))
    assert SocketSilent() not in client.passes(4)


def test_one_that_is_never_called_active_counts_after_a_moment() -> None:
    client = Client().joined(person("a", state=JOINED))
    assert notices(client.passes(0.4)) == []
    assert notices(client.passes(0.2)) == [
        ParticipantJoined(identity="a", kind="agent", at_join=False)
    ]
    assert notices(client.feed(update(person("a", version=1)))) == []


def test_times_of_zero_are_replaced() -> None:
    client = Client().joined(ping_interval=0, ping_timeout=0)
    assert kinds(client.passes(6)) == ["ping_req"]


# What nobody asked for.


@pytest.mark.parametrize(
    "message",
    [
        response(speakers_changed=rtc.SpeakersChanged()),
        response(room_update=rtc.RoomUpdate()),
        response(connection_quality=rtc.ConnectionQualityUpdate()),
        response(stream_state_update=rtc.StreamStateUpdate()),
        response(subscribed_quality_update=rtc.SubscribedQualityUpdate()),
        response(subscription_permission_update=rtc.SubscriptionPermissionUpdate()),
        response(subscribed_audio_codec_update=rtc.SubscribedAudioCodecUpdate()),
        response(track_subscribed=rtc.TrackSubscribed(track_sid=TRACK_SID)),
        response(pong=1),
        response(refresh_token=""),
        response(reconnect=rtc.ReconnectResponse()),
        response(mute=rtc.MuteTrackRequest(sid="TR_other", muted=True)),
        response(track_unpublished=rtc.TrackUnpublishedResponse(track_sid="TR_other")),
        published(cid="another"),
        join(),
        update(),
        update(person("a", state=GONE)),
        update(person("me", sid="PA_me", state=GONE)),
        b"",
        b"\xfa\x3f\x00",  # a field of the future
    ],
)
def test_messages_that_change_nothing_change_nothing(message: bytes) -> None:
    client = Client().joined()
    client.machine.take()
    assert client.feed(message) == []


@given(st.binary(max_size=64))
@settings(max_examples=100)
def test_garbage_never_raises(data: bytes) -> None:
    client = Client().joined()
    client.feed(data, b"\x0a\xff" + data, b"\xff" * 8)
    assert client.machine.others() is not None


MESSAGES = [
    join(person("a", audio("TR_a"))),
    answer(1),
    answer(2),
    answer(3),
    published(),
    published("audio/opus"),
    update(person("a", audio("TR_b"))),
    update(person("a", state=GONE), person("a", sid="PA_2")),
    update(person("me", sid="PA_x")),
    leave(models.MIGRATION, rtc.LeaveRequest.RESUME),
    leave(models.ROOM_DELETED),
    sections(0),
    sections(2**32 - 1),
    reconnect(),
    trickle(HOST),
    response(offer=rtc.SessionDescription(type="offer", sdp="x", id=2)),
    response(room_moved=rtc.RoomMovedResponse()),
]


@given(st.lists(st.integers(0, len(MESSAGES) + 4), max_size=40), st.sampled_from(list(Way)))
@settings(max_examples=150)
def test_any_order_of_anything_never_raises_and_never_sends_while_out(
    steps: list[int], way: Way
) -> None:
    client = Client(way=way, wanted=True).opened()
    out = False
    for step in steps:
        if step < len(MESSAGES):
            outputs = client.feed(MESSAGES[step])
        elif step == len(MESSAGES):
            client.resuming()
            out = False
            outputs = client.machine.take()
        elif step == len(MESSAGES) + 1:
            client.machine.offer_made("offer", client.now)
            outputs = client.machine.take()
        elif step == len(MESSAGES) + 2:
            client.machine.answer_made(Side.PUBLISHER, "answer")
            outputs = client.machine.take()
        elif step == len(MESSAGES) + 3:
            client.machine.restart_ice()
            outputs = client.machine.take()
        else:
            outputs = client.passes(6)
        if out:
            assert kinds(outputs) == [] or kinds(outputs) == ["ping_req"]
        final = [one for one in of(outputs, Dismissed) if one.action is not Action.RESUME]
        out = out or bool(final) or bool(of(outputs, ResumeRefused))
        bounded = [one.count for one in of(outputs, AddReceivers)]
        assert all(count <= 256 for count in bounded)
