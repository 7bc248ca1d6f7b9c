"""Messages of a LiveKit server for tests, and a machine to feed them to."""

from __future__ import annotations

import base64
import gzip
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from livekit.protocol import models, rtc

from bridge.room.seam import RoomNotice
from bridge.room.signal.messages import Law, OwnTrack, Way
from bridge.room.signal.outputs import Output, Told, Transmit
from bridge.room.signal.protocol import Signalling

T = TypeVar("T")

CID = "TR_ours"
TRACK_SID = "TR_sid"
ACTIVE = models.ParticipantInfo.ACTIVE
JOINED = models.ParticipantInfo.JOINED
GONE = models.ParticipantInfo.DISCONNECTED
ANSWER = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=candidate:1 1 udp 1 192.0.2.7 7000 typ host\r\n"


def response(**message: Any) -> bytes:
    """Return one message of the server."""
    return rtc.SignalResponse(**message).SerializeToString()


def person(
    identity: str,
    *tracks: models.TrackInfo,
    sid: str = "",
    state: models.ParticipantInfo.State = ACTIVE,
    kind: models.ParticipantInfo.Kind = models.ParticipantInfo.AGENT,
    version: int = 0,
) -> models.ParticipantInfo:
    """Return a participant."""
    return models.ParticipantInfo(
        sid=sid or f"PA_{identity}",
        identity=identity,
        state=state,
        tracks=tracks,
        kind=kind,
        version=version,
    )


def audio(
    sid: str, encryption: models.Encryption.Type = models.Encryption.NONE
) -> models.TrackInfo:
    """Return an audio track of somebody else."""
    return models.TrackInfo(sid=sid, type=models.AUDIO, encryption=encryption)


def join(*others: models.ParticipantInfo, **fields: Any) -> bytes:
    """Return the message that takes us in."""
    own = person("me", sid="PA_me", state=JOINED, kind=models.ParticipantInfo.SIP)
    fields = {"ping_interval": 5, "ping_timeout": 15} | fields
    return response(join=rtc.JoinResponse(participant=own, other_participants=others, **fields))


def answer(number: int = 1, sdp: str = ANSWER, **mids: str) -> bytes:
    """Return the answer to our offer of this number."""
    return response(
        answer=rtc.SessionDescription(type="answer", sdp=sdp, id=number, mid_to_track_id=mids)
    )


def published(mime: str = "audio/PCMU", cid: str = CID, *, muted: bool = False) -> bytes:
    """Return what the server says once it has our track."""
    track = models.TrackInfo(sid=TRACK_SID, type=models.AUDIO, mime_type=mime, muted=muted)
    return response(track_published=rtc.TrackPublishedResponse(cid=cid, track=track))


def update(*people: models.ParticipantInfo) -> bytes:
    """Return news of participants."""
    return response(update=rtc.ParticipantUpdate(participants=people))


def leave(
    reason: models.DisconnectReason = models.UNKNOWN_REASON,
    action: rtc.LeaveRequest.Action = rtc.LeaveRequest.DISCONNECT,
    *,
    can_reconnect: bool = False,
) -> bytes:
    """Return what sends us away."""
    return response(
        leave=rtc.LeaveRequest(reason=reason, action=action, can_reconnect=can_reconnect)
    )


def sections(count: int) -> bytes:
    """Return the request for an offer with *count* more receiving sections."""
    return response(media_sections_requirement=rtc.MediaSectionsRequirement(num_audios=count))


def reconnect(last_message: int = 0) -> bytes:
    """Return the message that takes us back."""
    return response(reconnect=rtc.ReconnectResponse(last_message_seq=last_message))


def join_request(path: str) -> rtc.JoinRequest:
    """Return the join request in a path of signalling v1."""
    (value,) = parse_qs(urlsplit(path).query)["join_request"]
    wrapped = rtc.WrappedJoinRequest.FromString(base64.urlsafe_b64decode(value))
    data = wrapped.join_request
    if wrapped.compression == rtc.WrappedJoinRequest.GZIP:
        data = gzip.decompress(data)
    return rtc.JoinRequest.FromString(data)


class Client:
    """A machine, its clock, and what it wanted done since the last look."""

    def __init__(
        self, *, way: Way = Way.V1, law: Law = Law.PCMU, muted: bool = False, wanted: bool = False
    ) -> None:
        track = OwnTrack(cid=CID, name="sip_audio", law=law)
        self.machine = Signalling(way=way, track=track, muted=muted, wanted=wanted)
        self.now = 100.0
        self.path = ""

    def opened(self, **attributes: str) -> Client:
        """Have the first socket open."""
        self.path, _ = self.machine.join_path("offer 1", attributes)
        self.machine.opened(self.now)
        return self

    def joined(self, *others: models.ParticipantInfo, **fields: Any) -> Client:
        """Be in the room, published and answered."""
        self.opened()
        self.feed(join(*others, **fields), answer(), published())
        return self

    def resuming(self) -> Client:
        """Lose the socket and have another one open."""
        self.machine.closed()
        self.path = self.machine.resume_path(media_lost=False, received=[("PA_a", 4)])
        self.machine.opened(self.now)
        return self

    def feed(self, *messages: bytes) -> list[Output]:
        """Take messages of the server; return what is to be done."""
        for message in messages:
            self.machine.receive(message, self.now)
        return self.machine.take()

    def passes(self, seconds: float) -> list[Output]:
        """Let time pass as an event loop does; return what is to be done."""
        end = self.now + seconds
        done: list[Output] = []
        while (due := self.machine.next_deadline()) is not None and due <= end:
            self.now = due
            self.machine.tick(due)
            done += self.machine.take()
        self.now = end
        return done


def requests(outputs: list[Output]) -> list[rtc.SignalRequest]:
    """Return what is sent to the server."""
    return [rtc.SignalRequest.FromString(one.data) for one in outputs if isinstance(one, Transmit)]


def kinds(outputs: list[Output]) -> list[str]:
    """Return the kinds of what is sent to the server."""
    return [one.WhichOneof("message") or "" for one in requests(outputs)]


def notices(outputs: list[Output]) -> list[RoomNotice]:
    """Return what the call is told."""
    return [one.notice for one in outputs if isinstance(one, Told)]


def of(outputs: list[Output], kind: type[T]) -> list[T]:
    """Return the outputs of one kind."""
    return [one for one in outputs if isinstance(one, kind)]
