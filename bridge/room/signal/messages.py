"""LiveKit's signalling messages as we write them. PURE.

Fields and order by livekit-protocol (``livekit_rtc.proto``) and by what
livekit-server 1.13 does with them.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlencode

from livekit.protocol import models, rtc

from bridge.room.seam import LeaveReason
from bridge.room.signal.port import Side

PROTOCOL: Final = 16
"""Of LiveKit's client protocol: the server confirms attributes from 15 on."""

PLAIN_LIMIT: Final = 2048
"""Bytes of a join request above which it is compressed: it travels in the request line."""

PATH_LIMIT: Final = 7168
"""Bytes of a path that still fits the 8 KiB of a common proxy's request line."""


class Way(Enum):
    """The two signalling versions; the value is the path."""

    V1 = "/rtc/v1"  # one PeerConnection, our offer rides in the join
    V0 = "/rtc"  # two of them


class Law(Enum):
    """What our track carries; the value is LiveKit's name of the codec."""

    PCMU = "pcmu"
    PCMA = "pcma"

    @property
    def mime(self) -> str:
        """The MIME type, in lower case as it is compared."""
        return f"audio/{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTrack:
    """Our one track. ``cid`` is also the track id in our offer."""

    cid: str
    name: str
    law: Law


_REASONS: Final = {
    LeaveReason.CLIENT_INITIATED: models.CLIENT_INITIATED,
    LeaveReason.USER_REJECTED: models.USER_REJECTED,
    LeaveReason.USER_UNAVAILABLE: models.USER_UNAVAILABLE,
    None: models.AGENT_ERROR,
}


def client() -> models.ClientInfo:
    """Return what we say we are: no SDK, so that no SDK's peculiarities are met."""
    return models.ClientInfo(
        sdk=models.ClientInfo.UNKNOWN, version="1", protocol=PROTOCOL, os="linux"
    )


def add_track(track: OwnTrack, *, muted: bool) -> rtc.AddTrackRequest:
    """Return the request to publish *track*: no DTX, no RED, its law the only codec."""
    return rtc.AddTrackRequest(
        cid=track.cid,
        name=track.name,
        type=models.AUDIO,
        source=models.MICROPHONE,
        muted=muted,
        disable_dtx=True,
        disable_red=True,
        simulcast_codecs=[rtc.SimulcastCodec(codec=track.law.value, cid=track.cid)],
    )


def join_path(
    way: Way, track: OwnTrack, offer: str, attributes: Mapping[str, str], *, muted: bool
) -> tuple[str, bool]:
    """Return the path of a first join; and whether *attributes* ride in it.

    They do not when they would make it too long for the proxies on its way.
    """
    path = _join_path(way, track, offer, attributes, muted=muted)
    if len(path) <= PATH_LIMIT or not attributes:
        return path, True
    return _join_path(way, track, offer, {}, muted=muted), False


def _join_path(
    way: Way, track: OwnTrack, offer: str, attributes: Mapping[str, str], *, muted: bool
) -> str:
    if way is Way.V0:
        query = _v0_query()
        if attributes:
            text = json.dumps(dict(attributes)).encode()
            query["attributes"] = base64.urlsafe_b64encode(text).decode()
        return f"{way.value}?{urlencode(query)}"
    return _v1_path(
        rtc.JoinRequest(
            client_info=client(),
            connection_settings=rtc.ConnectionSettings(auto_subscribe=False),
            participant_attributes=dict(attributes),
            add_track_requests=[add_track(track, muted=muted)],
            publisher_offer=rtc.SessionDescription(type="offer", sdp=offer, id=1),
        )
    )


def resume_path(way: Way, sid: str, *, media_lost: bool) -> str:
    """Return the path on which the participant *sid* resumes on a new socket."""
    reason = models.RR_PUBLISHER_FAILED if media_lost else models.RR_SIGNAL_DISCONNECTED
    if way is Way.V0:
        query = _v0_query() | {"reconnect": "1", "sid": sid, "reconnect_reason": str(int(reason))}
        return f"{way.value}?{urlencode(query)}"
    return _v1_path(
        rtc.JoinRequest(
            client_info=client(),
            connection_settings=rtc.ConnectionSettings(auto_subscribe=False),
            reconnect=True,
            reconnect_reason=reason,
            participant_sid=sid,
        )
    )


def _v0_query() -> dict[str, str]:
    return {
        "protocol": str(PROTOCOL),
        "sdk": "unknown",
        "version": "1",
        "os": "linux",
        "auto_subscribe": "0",
    }


def _v1_path(join: rtc.JoinRequest) -> str:
    plain = join.SerializeToString()
    if len(plain) > PLAIN_LIMIT:
        wrapped = rtc.WrappedJoinRequest(
            compression=rtc.WrappedJoinRequest.GZIP,
            join_request=gzip.compress(plain, 6, mtime=0),
        )
    else:
        wrapped = rtc.WrappedJoinRequest(
            compression=rtc.WrappedJoinRequest.NONE, join_request=plain
        )
    value = base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()
    return f"{Way.V1.value}?{urlencode({'join_request': value})}"


def description(kind: str, sdp: str, number: int) -> rtc.SessionDescription:
    """Return a description, *kind* ``offer`` or ``answer``."""
    return rtc.SessionDescription(type=kind, sdp=sdp, id=number)


def subscription(sids: Iterable[str], *, wanted: bool) -> rtc.UpdateSubscription:
    """Return the wish for these tracks, or against them."""
    return rtc.UpdateSubscription(track_sids=list(sids), subscribe=wanted)


def leave(reason: LeaveReason | None) -> rtc.SignalRequest:
    """Return our goodbye; None: we come back at once, and no agent should give up over it.

    ``AGENT_ERROR`` is the one reason that the server passes on and at which no agent
    ends its session.
    """
    return rtc.SignalRequest(
        leave=rtc.LeaveRequest(
            reason=_REASONS[reason],
            action=rtc.LeaveRequest.DISCONNECT,
        )
    )


def sync_state(
    *,
    offer: rtc.SessionDescription | None,
    answer: rtc.SessionDescription | None,
    subscribed: Iterable[str],
    published: rtc.TrackPublishedResponse | None,
    channels: Mapping[tuple[Side, str], int],
    received: Iterable[tuple[str, int]],
) -> rtc.SignalRequest:
    """Return what the server needs to take a participant back."""
    state = rtc.SyncState(
        offer=offer,
        answer=answer,
        subscription=subscription(subscribed, wanted=True),
        data_channels=[
            rtc.DataChannelInfo(label=label, id=stream, target=target(side))
            for (side, label), stream in channels.items()
        ],
        datachannel_receive_states=[
            rtc.DataChannelReceiveState(publisher_sid=sid, last_seq=number)
            for sid, number in received
        ],
    )
    if published is not None:
        state.publish_tracks.append(published)
    return rtc.SignalRequest(sync_state=state)


def target(side: Side) -> rtc.SignalTarget:
    """Return the server's word for *side*."""
    return rtc.SUBSCRIBER if side is Side.SUBSCRIBER else rtc.PUBLISHER
