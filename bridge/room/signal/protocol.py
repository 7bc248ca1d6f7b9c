"""LiveKit's signalling for one participant of ours, from its join over every resume. PURE.

Bytes, the transports' descriptions and `now` (monotonic seconds) go in; `take` gives what
is to be done. A machine is one participant: a rejoin makes a new one. Nothing that a
server sends raises.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

from google.protobuf.message import DecodeError
from livekit.protocol import models, rtc

from bridge.room.seam import LeaveReason, RoomGone, Unsuitable
from bridge.room.signal import messages
from bridge.room.signal.candidates import Paths
from bridge.room.signal.messages import OwnTrack, Way
from bridge.room.signal.negotiation import ANSWER_TIMEOUT, Offers
from bridge.room.signal.outputs import (
    AcceptAnswer,
    AcceptOffer,
    Action,
    AddCandidate,
    Confirmed,
    Dismissed,
    FoundUnsuitable,
    Ignored,
    JoinedRoom,
    Output,
    Resumed,
    ResumeRefused,
    SocketSilent,
    TokenRefreshed,
    Told,
    TrackTaken,
    Transmit,
)
from bridge.room.signal.port import Side
from bridge.room.signal.roster import Roster

PING_INTERVAL: Final = 5.0
PING_TIMEOUT: Final = 15.0
"""Seconds, where the server names none."""

PROBE_TIMEOUT: Final = 2.0
"""Seconds a socket has to show that it is alive once something else failed."""

EARLY_LIMIT: Final = 32
"""Candidates kept until there is a description that they belong to."""

OFFERS_LIMIT: Final = 16
"""Offers of the server that may wait for our answers."""

_GONE: Final[dict[int, RoomGone]] = {
    models.ROOM_DELETED: RoomGone.DELETED,
    models.ROOM_CLOSED: RoomGone.DELETED,
    models.PARTICIPANT_REMOVED: RoomGone.REMOVED,
    models.DUPLICATE_IDENTITY: RoomGone.REMOVED,
}

_ACTIONS: Final[dict[int, Action]] = {
    rtc.LeaveRequest.DISCONNECT: Action.DISCONNECT,
    rtc.LeaveRequest.RESUME: Action.RESUME,
    rtc.LeaveRequest.RECONNECT: Action.RECONNECT,
}


class _Phase(Enum):
    JOINING = "joining"
    IN = "in"
    RESUMING = "resuming"
    OUT = "out"  # told to leave, or refused


OWN_KIND: Final = "sip"
AGENT_KIND: Final = "agent"


class Signalling:
    """One participant of ours at one server."""

    def __init__(self, *, way: Way, track: OwnTrack, muted: bool, wanted: bool) -> None:
        self._way = way
        self._track = track
        self._muted = muted
        self._wanted = wanted
        self._phase = _Phase.JOINING
        self._out: list[Output] = []
        self._roster = Roster()
        self._offers = Offers()
        self._paths = Paths()
        self._sid = ""
        self._identity = ""
        self._sid_is_doubted = False
        self._published: rtc.TrackPublishedResponse | None = None
        self._asked_muted = muted
        self._subscribed: dict[str, None] = {}
        self._mids: dict[str, str] = {}
        self._answer: rtc.SessionDescription | None = None  # the last, from either end
        self._to_answer: dict[Side, deque[int]] = {side: deque() for side in Side}
        self._held_offer: rtc.SessionDescription | None = None
        self._described: set[Side] = set()
        self._early: dict[Side, list[str]] = {side: [] for side in Side}
        self._channels: dict[tuple[Side, str], int] = {}
        self._received: tuple[tuple[str, int], ...] = ()
        self._request = 0
        self._socket_open = False
        self._ping_interval = PING_INTERVAL
        self._ping_timeout = PING_TIMEOUT
        self._ping_at = 0.0
        self._silent_at = 0.0
        self._now = 0.0

    # What the session asks.

    def take(self) -> list[Output]:
        """Return what is to be done, in order, and forget it."""
        for notice in self._roster.notices:
            self._out.append(Told(notice=notice))
        self._roster.notices.clear()
        out, self._out = self._out, []
        return out

    def others(self) -> list[str]:
        """Return the identities of the other participants."""
        return self._roster.others()

    def kind_of(self, identity: str) -> str | None:
        """Return the kind of another participant, None while it has not been told of."""
        return self._roster.kind_of(identity)

    def speaker(self, identity: str, track: str) -> str:
        """Return the kind of whom words are: of the one who sent them, as far as is known.

        The track that was transcribed may be named; then they are its owner's: ours whoever says
        so, and another's when an agent does.
        """
        kind = OWN_KIND if identity == self._identity else self._roster.kind_known(identity)
        if self._published is not None and track == self._published.track.sid:
            return OWN_KIND
        if kind != AGENT_KIND or not track:
            return kind
        return self._roster.kind_of_track(track) or kind

    def track_of(self, mid: str) -> str | None:
        """Return the sid of the track that the server sends in the section *mid*."""
        return self._mids.get(mid)

    @property
    def sid(self) -> str:
        """Our participant's sid, once joined."""
        return self._sid

    @property
    def paths(self) -> Paths:
        """What kinds of candidates the server has named."""
        return self._paths

    # Ways in.

    def join_path(self, offer: str, attributes: Mapping[str, str]) -> tuple[str, bool]:
        """Return the path of the first socket, and whether *attributes* ride in it."""
        number = self._offers.made(offer)
        assert number == 1
        return messages.join_path(self._way, self._track, offer, attributes, muted=self._muted)

    def resume_path(self, *, media_lost: bool, received: Sequence[tuple[str, int]] = ()) -> str:
        """Return the path of a socket on which this participant goes on.

        *received*: participant SIDs and the number of the last reliable message of each.
        """
        self._received = tuple(received)
        self._phase = _Phase.RESUMING
        return messages.resume_path(self._way, self._sid, media_lost=media_lost)

    def opened(self, now: float) -> None:
        """A socket is open; its first message has yet to come."""
        self._now = now
        self._socket_open = True
        self._heard(now)
        self._ping_at = now + self._ping_interval

    def closed(self) -> None:
        """The socket is gone."""
        self._socket_open = False
        self._offers.overdue_at = None

    def receive(self, data: bytes, now: float) -> None:
        """Take one message of the server."""
        self._now = now
        self._heard(now)
        try:
            response = rtc.SignalResponse.FromString(data)
        except DecodeError:
            self._out.append(Ignored(what="garbage"))
            return
        kind = response.WhichOneof("message")
        handler = _HANDLERS.get(kind or "")
        if handler is not None and self._phase is not _Phase.OUT:
            handler(self, getattr(response, kind or ""))
        self._follow()

    # From the transports.

    def offer_made(self, sdp: str, now: float) -> None:
        """The publisher has made another offer."""
        self._now = now
        self._offers.made(sdp)
        if self._phase is _Phase.IN:
            self._send_offer()

    def answer_made(self, side: Side, sdp: str) -> None:
        """The transport of *side* has answered the oldest offer that it was given."""
        waiting = self._to_answer[side]
        answer = messages.description("answer", sdp, waiting.popleft() if waiting else 0)
        self._answer = answer
        self._send(answer=answer)

    def channel_opened(self, side: Side, label: str, stream: int) -> None:
        """A data channel stands; a resume names it."""
        self._channels[side, label] = stream

    # Levels and requests.

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001 (a level)
        """Have all audio of all others sent to us, now and later, or none."""
        self._wanted = wanted
        if not wanted and self._subscribed:
            self._send(subscription=messages.subscription(self._subscribed, wanted=False))
            self._subscribed.clear()
        self._subscribe_new()

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Have our track shown as muted, or not."""
        self._muted = muted
        self._show_mute()

    def set_attributes(self, attributes: Mapping[str, str]) -> int:
        """Ask for these attributes; return the number that `Confirmed` will name."""
        self._request += 1
        self._send(
            update_metadata=rtc.UpdateParticipantMetadata(
                attributes=dict(attributes), request_id=self._request
            )
        )
        return self._request

    def restart_ice(self) -> None:
        """Have ICE restarted as soon as no other offer is under way."""
        self._offers.want_restart()
        self._follow()

    def leave(self, reason: LeaveReason | None) -> None:
        """Say goodbye. None: we come back at once."""
        if self._phase in (_Phase.IN, _Phase.RESUMING):
            self._out.append(Transmit(data=messages.leave(reason).SerializeToString()))
        self._phase = _Phase.OUT

    def probe(self, now: float) -> None:
        """Something else failed: find out soon whether the socket is alive."""
        self._now = now
        if self._socket_open:
            self._ping(now)
            self._silent_at = min(self._silent_at, now + PROBE_TIMEOUT)

    # Time.

    def tick(self, now: float) -> None:
        """Do what is due at *now*."""
        self._now = now
        if self._phase is _Phase.OUT:
            return
        self._roster.tick(now)
        self._subscribe_new()
        if not self._socket_open:
            return
        if now >= self._silent_at:
            self._socket_open = False
            self._out.append(SocketSilent())
            return
        if now >= self._ping_at:
            self._ping(now)
        if self._offers.overdue_at is not None and now >= self._offers.overdue_at:
            self._out.append(Ignored(what="offer_unanswered"))
            self._dismiss(Action.RECONNECT, RoomGone.LOST)

    def next_deadline(self) -> float | None:
        """Return when `tick` is due next."""
        if self._phase is _Phase.OUT:
            return None
        due = [self._roster.next_deadline()]
        if self._socket_open:
            due += [self._silent_at, self._ping_at, self._offers.overdue_at]
        return min((at for at in due if at is not None), default=None)

    def _heard(self, now: float) -> None:
        self._silent_at = now + self._ping_timeout

    def _ping(self, now: float) -> None:
        self._ping_at = now + self._ping_interval
        self._send(ping_req=rtc.Ping(timestamp=int(now * 1000)))

    # What the server says.

    def _on_join(self, join: rtc.JoinResponse) -> None:
        if self._phase is _Phase.RESUMING:  # a server that knows no resume: this is another one
            self._refuse()
            return
        if self._phase is not _Phase.JOINING:
            return
        self._phase = _Phase.IN
        self._sid, self._identity = join.participant.sid, join.participant.identity
        if join.ping_interval > 0 and join.ping_timeout > 0:
            self._ping_interval = float(join.ping_interval)
            self._ping_timeout = max(float(join.ping_timeout), self._ping_interval + 1)
        self._ping_at = self._now + self._ping_interval
        self._heard(self._now)
        self._out.append(JoinedRoom(identity=self._identity, sid=self._sid))
        self._roster.meet(join.participant, join.other_participants, self._now)
        unsuitable = self._unsuitable(join)
        if unsuitable is not None:
            self._out.append(FoundUnsuitable(why=unsuitable))
            return
        if self._way is Way.V0:
            self._send(add_track=messages.add_track(self._track, muted=self._muted))
            self._send(offer=messages.description("offer", self._offers.sdp, self._offers.number))
        self._offers.overdue_at = self._now + ANSWER_TIMEOUT

    def _unsuitable(self, join: rtc.JoinResponse) -> Unsuitable | None:
        enabled = {codec.mime.lower() for codec in join.enabled_publish_codecs}
        if enabled and self._track.law.mime not in enabled:
            return Unsuitable.CODEC_DISABLED
        if join.client_configuration.force_relay == models.ENABLED:
            return Unsuitable.RELAY_ONLY
        if self._roster.encrypted:
            return Unsuitable.ENCRYPTED
        return None

    def _on_reconnect(self, reconnect: rtc.ReconnectResponse) -> None:
        if self._phase is not _Phase.RESUMING:
            return
        self._phase = _Phase.IN
        self._sid_is_doubted = True
        for waiting in self._to_answer.values():  # v0 is sent another offer
            waiting.clear()
        self._out.append(Resumed(last_message=reconnect.last_message_seq))
        offer = None
        if self._offers.sdp:
            offer = messages.description("offer", self._offers.sdp, self._offers.number)
        state = messages.sync_state(
            offer=offer,
            answer=self._answer,
            subscribed=self._subscribed,
            published=self._published,
            channels=self._channels,
            received=self._received,
        )
        self._out.append(Transmit(data=state.SerializeToString()))
        if self._published is not None:
            self._asked_muted = not self._muted
            self._show_mute()
        if not self._wanted and self._roster.audio():  # perhaps decided while we were away
            unwanted = messages.subscription(self._roster.audio(), wanted=False)
            self._send(subscription=unwanted)
        if self._offers.waiting:  # it, or its answer, went down with the socket
            self._offers.sent_again()
            self._send_offer()
        elif self._way is Way.V1 and self._unbound():
            # The server counts what it has asked for, not what reached us.
            self._offers.want_receivers(self._unbound())

    def _unbound(self) -> int:
        """Return how many tracks we are subscribed to without a section that carries them."""
        return len(self._subscribed.keys() - set(self._mids.values()))

    def _on_answer(self, answer: rtc.SessionDescription) -> None:
        if not self._offers.answered(answer.id):
            self._out.append(Ignored(what="answer_unexpected"))
            return
        self._mids.update(_bounded(answer.mid_to_track_id))
        if self._way is Way.V1:
            self._answer = messages.description("answer", answer.sdp, answer.id)
        self._paths.learn_description(answer.sdp)
        self._out.append(AcceptAnswer(sdp=answer.sdp))
        self._describe(Side.PUBLISHER)
        held, self._held_offer = self._held_offer, None
        if held is not None:
            self._on_offer(held)

    def _on_offer(self, offer: rtc.SessionDescription) -> None:
        side = Side.SUBSCRIBER if self._way is Way.V0 else Side.PUBLISHER
        if side is Side.PUBLISHER and self._offers.waiting:
            self._held_offer = offer  # ours first: the server answers it all the same
            return
        waiting = self._to_answer[side]
        if len(waiting) >= OFFERS_LIMIT:
            self._out.append(Ignored(what="offer_flood"))
            return
        waiting.append(offer.id)
        self._mids.update(_bounded(offer.mid_to_track_id))
        self._paths.learn_description(offer.sdp)
        self._out.append(AcceptOffer(side=side, sdp=offer.sdp))
        self._describe(side)

    def _on_trickle(self, trickle: rtc.TrickleRequest) -> None:
        candidate = _candidate(trickle.candidateInit)
        if not candidate:
            return
        subscriber = self._way is Way.V0 and trickle.target == rtc.SUBSCRIBER
        side = Side.SUBSCRIBER if subscriber else Side.PUBLISHER
        self._paths.learn(candidate)
        if side in self._described:
            self._out.append(AddCandidate(side=side, candidate=candidate))
        elif len(self._early[side]) < EARLY_LIMIT:
            self._early[side].append(candidate)

    def _describe(self, side: Side) -> None:
        self._described.add(side)
        for candidate in self._early[side]:
            self._out.append(AddCandidate(side=side, candidate=candidate))
        self._early[side].clear()

    def _on_track_published(self, published: rtc.TrackPublishedResponse) -> None:
        if published.cid != self._track.cid or self._published is not None:
            return
        if not self._is_ours(published.track):
            self._out.append(FoundUnsuitable(why=Unsuitable.CODEC_DISABLED))
            return
        self._published = rtc.TrackPublishedResponse()
        self._published.CopyFrom(published)
        self._asked_muted = published.track.muted
        self._out.append(TrackTaken())
        self._show_mute()

    def _is_ours(self, track: models.TrackInfo) -> bool:
        """Tell whether the server carries our track as our G.711, as far as it says."""
        mimes = {track.mime_type, *(codec.mime_type for codec in track.codecs)} - {""}
        return all(mime.lower() == self._track.law.mime for mime in mimes)

    def _on_update(self, update: rtc.ParticipantUpdate) -> None:
        told_of = {info.sid for info in update.participants}
        # The first after a resume that tells of us tells of all: who left meanwhile is not in it.
        whole = self._sid_is_doubted and self._sid in told_of
        for info in update.participants:
            if info.identity == self._identity:
                self._update_own(info)
            else:
                self._roster.update(info, self._now)
        if whole:
            self._roster.keep(told_of)

    def _update_own(self, info: models.ParticipantInfo) -> None:
        if info.state == models.ParticipantInfo.DISCONNECTED:
            return
        if info.sid != self._sid:
            if self._sid_is_doubted:  # a resume goes by identity: this is somebody else's place
                self._refuse()
            return
        self._sid_is_doubted = False
        for track in info.tracks:
            published = self._published
            if published is not None and track.sid == published.track.sid:
                if not self._is_ours(track):
                    self._out.append(FoundUnsuitable(why=Unsuitable.CODEC_DISABLED))
                published.track.CopyFrom(track)

    def _on_leave(self, leave: rtc.LeaveRequest) -> None:
        if self._phase is _Phase.RESUMING:
            self._refuse(leave)
            return
        action = _ACTIONS.get(leave.action, Action.DISCONNECT)
        if action is Action.DISCONNECT and leave.can_reconnect:  # as older servers say it
            action = Action.RECONNECT
        gone = _GONE.get(leave.reason, RoomGone.LOST)
        if action is Action.RESUME:
            self._out.append(Dismissed(action=action, gone=RoomGone.LOST, replaced=False))
            return
        replaced = leave.reason == models.DUPLICATE_IDENTITY
        self._dismiss(action, gone, replaced=replaced)

    def _refuse(self, leave: rtc.LeaveRequest | None = None) -> None:
        """Our place is gone; perhaps for a reason that ends the call."""
        gone = _GONE.get(leave.reason) if leave is not None else None
        if gone is not None and leave is not None:
            replaced = leave.reason == models.DUPLICATE_IDENTITY
            self._dismiss(Action.DISCONNECT, gone, replaced=replaced)
            return
        self._phase = _Phase.OUT
        self._out.append(ResumeRefused())

    def _dismiss(self, action: Action, gone: RoomGone, *, replaced: bool = False) -> None:
        self._phase = _Phase.OUT
        if action is Action.RECONNECT:
            gone = RoomGone.LOST
        self._out.append(Dismissed(action=action, gone=gone, replaced=replaced))

    def _on_sections(self, requirement: rtc.MediaSectionsRequirement) -> None:
        if self._way is Way.V1:
            self._offers.want_receivers(requirement.num_audios)

    def _on_refresh_token(self, token: str) -> None:
        if token:
            self._out.append(TokenRefreshed(token=token))

    def _on_request_response(self, response: rtc.RequestResponse) -> None:
        if response.request_id:
            accepted = response.reason == rtc.RequestResponse.OK
            self._out.append(Confirmed(request=response.request_id, accepted=accepted))
        if response.reason not in (rtc.RequestResponse.OK, rtc.RequestResponse.QUEUED):
            self._ignore("request_refused", rtc.RequestResponse.Reason, response.reason)

    def _on_subscription_response(self, response: rtc.SubscriptionResponse) -> None:
        self._ignore("subscription_failed", models.SubscriptionError, response.err)

    def _on_track_unpublished(self, unpublished: rtc.TrackUnpublishedResponse) -> None:
        if self._published is not None and unpublished.track_sid == self._published.track.sid:
            self._out.append(Ignored(what="track_unpublished"))

    def _on_mute(self, mute: rtc.MuteTrackRequest) -> None:
        if self._published is not None and mute.sid == self._published.track.sid:
            self._asked_muted = mute.muted
            self._out.append(Ignored(what="muted_by_server"))

    def _on_room_moved(self, moved: rtc.RoomMovedResponse) -> None:
        if moved.token:
            self._out.append(TokenRefreshed(token=moved.token))
        self._sid = moved.participant.sid or self._sid
        self._subscribed.clear()
        own = models.ParticipantInfo(sid=self._sid, identity=self._identity)
        self._roster.meet(own, moved.other_participants, self._now)

    def _ignore(self, what: str, enum: Any, value: int) -> None:
        try:
            detail = str(enum.Name(value)).lower()
        except ValueError:
            detail = "unknown"
        self._out.append(Ignored(what=what, detail=detail))

    # What follows from it.

    def _follow(self) -> None:
        self._subscribe_new()
        if self._phase is not _Phase.IN:
            return
        wanted = self._offers.next()
        if wanted is not None:
            self._out.append(wanted)

    def _subscribe_new(self) -> None:
        audio = self._roster.audio()
        present = set(audio)
        for sid in [sid for sid in self._subscribed if sid not in present]:
            del self._subscribed[sid]
        if not self._wanted or self._phase is not _Phase.IN:
            return
        new = [sid for sid in audio if sid not in self._subscribed]
        if new:
            self._subscribed.update(dict.fromkeys(new))
            self._send(subscription=messages.subscription(new, wanted=True))

    def _show_mute(self) -> None:
        if self._published is None or self._asked_muted == self._muted:
            return
        if self._phase is _Phase.IN:
            self._asked_muted = self._muted
            sid = self._published.track.sid
            self._send(mute=rtc.MuteTrackRequest(sid=sid, muted=self._muted))

    def _send_offer(self) -> None:
        self._offers.overdue_at = self._now + ANSWER_TIMEOUT
        self._send(offer=messages.description("offer", self._offers.sdp, self._offers.number))

    def _send(self, **message: Any) -> None:
        """Send one request. While we are not in, it is not sent: the resume says it all again."""
        if self._phase is _Phase.IN:
            request = rtc.SignalRequest(**message)
            self._out.append(Transmit(data=request.SerializeToString()))


_HANDLERS: Final[dict[str, Any]] = {
    "join": Signalling._on_join,
    "reconnect": Signalling._on_reconnect,
    "answer": Signalling._on_answer,
    "offer": Signalling._on_offer,
    "trickle": Signalling._on_trickle,
    "track_published": Signalling._on_track_published,
    "track_unpublished": Signalling._on_track_unpublished,
    "update": Signalling._on_update,
    "leave": Signalling._on_leave,
    "mute": Signalling._on_mute,
    "media_sections_requirement": Signalling._on_sections,
    "refresh_token": Signalling._on_refresh_token,
    "request_response": Signalling._on_request_response,
    "subscription_response": Signalling._on_subscription_response,
    "room_moved": Signalling._on_room_moved,
}
"""All other messages tell of video, of quality or of who speaks: nothing follows from them."""


def _candidate(text: str) -> str:
    """Return the candidate in a trickled JSON object; empty when there is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    candidate = document.get("candidate") if isinstance(document, dict) else None
    return candidate if isinstance(candidate, str) else ""


def _bounded(mids: Mapping[str, str]) -> dict[str, str]:
    return dict(list(mids.items())[:512])
