"""One connection to a LiveKit room through the livekit SDK, from connect to close.

A rejoin makes a new one; nothing here outlives its connection. What must
(levels, the order of messages) is kept by ``room.sdk``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import structlog
from livekit import rtc
from livekit.rtc.participant import PublishTrackError

from bridge.room import convention
from bridge.room.joining import INTRODUCTION_TIMEOUT
from bridge.room.mix import SAMPLE_WIDTH, mix
from bridge.room.sdk_audio import TrackFeeder, TrackListener
from bridge.room.sdk_dispatch import own_events
from bridge.room.sdk_streams import StreamReaders
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    JoinSpec,
    LeaveReason,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RpcHandler,
    RpcRefused,
)

log = structlog.get_logger(__name__)

OPUS_BITRATE = 24_000
DISCONNECT_TIMEOUT = 5.0
PUBLISH_TIMEOUT = 12.0
"""Seconds; the SDK's own is 10, but its answer is lost when the room ends meanwhile."""
ANSWER_GRACE = 0.15
"""Seconds an RPC's answer has to reach its caller before we leave; the SDK does not confirm it."""
PARTING_DELAY = 0.1
"""Seconds between a participant's going and our telling it."""

_REASONS = {
    LeaveReason.CLIENT_INITIATED: rtc.DisconnectReason.CLIENT_INITIATED,
    LeaveReason.USER_REJECTED: rtc.DisconnectReason.USER_REJECTED,
    LeaveReason.USER_UNAVAILABLE: rtc.DisconnectReason.USER_UNAVAILABLE,
}
ACTIVE_DELAY = 0.5
"""Seconds in which the SDK tells that a participant it names is active, if it does."""

_COMING_BACK = rtc.DisconnectReason.AGENT_ERROR
"""The one reason that the server passes on and after which no agent closes its session."""

_GONE: dict[int, RoomGone] = {
    rtc.DisconnectReason.ROOM_DELETED: RoomGone.DELETED,
    rtc.DisconnectReason.ROOM_CLOSED: RoomGone.DELETED,
    rtc.DisconnectReason.PARTICIPANT_REMOVED: RoomGone.REMOVED,
    rtc.DisconnectReason.DUPLICATE_IDENTITY: RoomGone.REMOVED,
}


class LinkOwner(Protocol):
    """Whom a link reports to, always outside of the link's own methods."""

    def link_notice(self, link: Link, notice: RoomNotice) -> None:
        """Something happened in the room; after ``RoomClosed`` nothing more does."""


class Link:
    """One `rtc.Room`, our track in it, and the tracks of the others."""

    def __init__(self, owner: LinkOwner, handlers: RoomHandlers) -> None:
        self._owner = owner
        self._rpc = handlers.rpc
        self._room = rtc.Room()
        self._streams: StreamReaders | None = None
        if handlers.stream is not None:
            self._streams = StreamReaders(self._room, handlers.topics, handlers.stream, kind_name)
        self._feeder: TrackFeeder | None = None
        self._tracks: dict[str, rtc.Track] = {}  # sid -> an audio track we are subscribed to
        self._listeners: dict[str, TrackListener] = {}
        self._present: dict[str, str] = {}  # identity -> kind, as we told it
        self._audio: dict[str, str] = {}  # sid of a published audio track -> identity
        self._missing: set[str] = set()  # gone, or only dropped by a reconnect
        self._arrival = asyncio.Event()  # of the next one to join
        self._parting: asyncio.TimerHandle | None = None
        self._cleanups: set[asyncio.Task[None]] = set()
        self._reconnecting = False
        self._closed = False
        self.replaced = False  # another participant with our identity came
        self._down = asyncio.Event()  # the connection was lost since the connect
        self._disconnected = asyncio.Event()
        self._muted = False
        self._wanted = False
        self._answering = 0.0  # of the loop's clock: until then an answer may be on its way
        self._register()

    @property
    def local(self) -> rtc.LocalParticipant:
        """Our participant, once connected."""
        return self._room.local_participant

    async def connect(self, spec: JoinSpec, *, timeout: float, muted: bool) -> None:
        """Connect and publish. Never to be cancelled. Raises `RoomError`.

        A cancelled ``Room.connect`` makes the SDK end the process some seconds
        later (rust-sdks#1340): whoever loses interest lets it finish.
        """
        options = rtc.RoomOptions(
            auto_subscribe=False, single_peer_connection=False, connect_timeout=timeout
        )
        try:
            await self._room.connect(spec.url, spec.token, options)
        except rtc.ConnectError as error:
            msg = "the room could not be joined"
            raise RoomError(msg) from error
        own_events(self._room)
        self._walk()
        for method, handler in self._rpc.items():
            self.local.register_rpc_method(method, self._answerer(method, handler))
        await self._publish(spec.track_name, muted=muted)

    async def close(self, reason: LeaveReason) -> None:
        """Leave the room and free everything."""
        await asyncio.sleep(self._answering - asyncio.get_running_loop().time())
        await self._close(_REASONS[reason])

    async def give_up(self) -> None:
        """Free everything, and end the SDK's repair, because another link takes our place."""
        await self._close(_COMING_BACK)

    async def _close(self, reason: rtc.DisconnectReason.ValueType) -> None:
        self._closed = True
        try:
            async with asyncio.timeout(DISCONNECT_TIMEOUT):
                await self._room.disconnect(reason=reason)
        except TimeoutError:
            log.warning("room.disconnect_timeout")
        finally:
            self._disconnected.set()
        await self.free()

    async def disconnected(self) -> None:
        """Wait until one that is closed or given up no longer uses our identity."""
        await self._disconnected.wait()

    async def free(self) -> None:
        """Free streams and track; the connection is gone already."""
        self._closed = True
        if self._parting is not None:
            self._parting.cancel()
        if self._streams is not None:
            await self._streams.close()
        listeners = list(self._listeners.values())
        self._listeners.clear()
        for listener in listeners:
            await listener.close()
        if self._cleanups:
            await asyncio.wait(self._cleanups)
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            await feeder.close()

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Mute or unmute our track."""
        self._muted = muted
        if self._feeder is None or self._closed:
            return
        if muted:
            self._feeder.track.mute()
        else:
            self._feeder.track.unmute()

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001 (a level)
        """Listen to all audio of the others, or to none.

        The first time this subscribes; afterwards it only stops and starts to
        read. With two peer connections the SDK (1.1.21) does not report a track
        that is subscribed to again: its audio would be lost for good.
        """
        self._wanted = wanted
        if not wanted:
            for sid in list(self._listeners):
                self._drop_listener(sid)
            return
        for participant in self._room.remote_participants.values():
            for publication in participant.track_publications.values():
                self._want(publication)

    def others(self) -> list[str]:
        """Return the identities of the others."""
        return list(self._present)

    def push(self, pcm: bytes) -> None:
        """Publish *pcm*; a muted track sends nothing, so neither do we."""
        if self._feeder is not None and not self._muted and not self._reconnecting:
            self._feeder.push(pcm)

    def pull(self, frames: int) -> bytes | None:
        """Return the next *frames* samples of all subscribed tracks."""
        return mix(
            [listener.buffer for listener in self._listeners.values()], frames * SAMPLE_WIDTH
        )

    def discard(self) -> None:
        """Drop what was not pulled."""
        for listener in self._listeners.values():
            listener.buffer.clear()

    # Setting up.

    def _register(self) -> None:
        """Register before connecting: events may follow the connect at once."""
        handlers: dict[Any, Callable[..., None]] = {
            "participant_connected": self._on_participant_connected,
            "participant_active": self._on_participant_active,
            "participant_disconnected": self._on_participant_disconnected,
            "track_published": self._on_track_published,
            "track_unpublished": self._on_track_unpublished,
            "track_subscribed": self._on_track_subscribed,
            "track_unsubscribed": self._on_track_unsubscribed,
            "local_track_republished": self._on_local_track_republished,
            "active_speakers_changed": self._on_active_speakers_changed,
            "sip_dtmf_received": self._on_sip_dtmf_received,
            "reconnecting": self._on_reconnecting,
            "reconnected": self._on_reconnected,
            "disconnected": self._on_disconnected,
        }
        for event, handler in handlers.items():
            self._room.on(event, handler)
        if self._streams is None:  # without a handler the SDK logs each stream of a transcript
            self._room.register_text_stream_handler(
                convention.TRANSCRIPTION_TOPIC, lambda reader, _identity: reader.close()
            )

    def _walk(self) -> None:
        """Tell of those who were there before us; no event does."""
        for participant in list(self._room.remote_participants.values()):
            self._welcome_active(participant, at_join=True)

    def _welcome_active(self, participant: rtc.RemoteParticipant, *, at_join: bool) -> None:
        """Tell of a participant that data reaches.

        One that is still joining gets none yet, and `participant_active` will tell of it.
        The SDK can miss that, so whoever is there a moment later counts as well.
        """
        if participant.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE:
            self._welcome(participant, at_join=at_join)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(ACTIVE_DELAY, self._welcome_late, participant.identity)

    def _welcome_late(self, identity: str) -> None:
        participant = self._room.remote_participants.get(identity)
        if participant is not None and identity not in self._present and not self._closed:
            self._welcome(participant, at_join=False)

    def _welcome(self, participant: rtc.RemoteParticipant, *, at_join: bool) -> None:
        kind = kind_name(participant.kind)
        self._present[participant.identity] = kind
        self._arrival.set()
        self._arrival = asyncio.Event()
        self._notify(ParticipantJoined(identity=participant.identity, kind=kind, at_join=at_join))
        for publication in participant.track_publications.values():
            self._on_track_published(publication, participant)

    async def _publish(self, name: str, *, muted: bool) -> None:
        feeder = TrackFeeder(name)  # made after the connect: before it costs a WebRTC factory
        self._feeder = feeder
        self.mute(muted)
        options = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_MICROPHONE,
            dtx=False,
            red=False,
        )
        options.audio_encoding.max_bitrate = OPUS_BITRATE
        publishing = asyncio.ensure_future(self.local.publish_track(feeder.track, options))
        down = asyncio.ensure_future(self._down.wait())
        try:
            # A connection that is lost now is joined anew: its publishing may never end.
            await asyncio.wait(
                {publishing, down}, timeout=PUBLISH_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            if publishing.done():
                publishing.result()
                return
        except PublishTrackError as error:
            msg = "the track could not be published"
            raise RoomError(msg) from error
        finally:
            publishing.cancel()
            down.cancel()
        msg = "the connection was lost while publishing"
        raise RoomError(msg)

    def _answerer(self, method: str, handler: RpcHandler) -> Callable[..., Any]:
        async def answer(call: rtc.RpcInvocationData) -> str:
            kind = await self._kind_of(call.caller_identity)
            try:
                return await handler(call.caller_identity, kind, call.payload)
            except RpcRefused as refusal:
                raise rtc.RpcError(refusal.code, str(refusal)) from None
            except Exception as error:
                log.exception("room.rpc_failed", method=method)
                code = rtc.RpcError.ErrorCode.APPLICATION_ERROR
                raise rtc.RpcError(code, "internal error") from error
            finally:
                self._answering = asyncio.get_running_loop().time() + ANSWER_GRACE

        return answer

    async def _kind_of(self, identity: str) -> str:
        """Return a caller's kind; wait a little for one we have not been told of yet.

        The server tells of those who publish nothing up to 3 s late.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(INTRODUCTION_TIMEOUT):
                while identity not in self._present:
                    await self._arrival.wait()
        return self._present.get(identity, "unknown")

    # What the SDK tells.

    def _notify(self, notice: RoomNotice) -> None:
        if not self._closed:
            self._owner.link_notice(self, notice)

    def _on_participant_connected(self, participant: rtc.RemoteParticipant) -> None:
        identity = participant.identity
        if identity in self._missing and self._reconnecting:
            self._missing.discard(identity)
            self._present[identity] = kind_name(participant.kind)
            return
        if identity in self._missing:
            self._part(identity)
        self._welcome_active(participant, at_join=False)

    def _on_participant_active(self, participant: rtc.RemoteParticipant) -> None:
        """Tell of a newcomer only when it can receive data: it is sent some at once."""
        if participant.identity not in self._present:
            self._welcome(participant, at_join=False)

    def _on_participant_disconnected(self, participant: rtc.RemoteParticipant) -> None:
        """Note who is gone, and tell it a moment later.

        A full reconnect drops all others first, says that it reconnects a
        millisecond later, and brings them back: they never left.
        """
        if participant.identity not in self._present:
            return
        self._missing.add(participant.identity)
        if not self._reconnecting and self._parting is None:
            loop = asyncio.get_running_loop()
            self._parting = loop.call_later(PARTING_DELAY, self._part_missing)

    def _part_missing(self) -> None:
        self._parting = None
        if self._reconnecting:
            return
        for identity in list(self._missing):
            if identity in self._room.remote_participants:
                self._missing.discard(identity)
            else:
                self._part(identity)

    def _part(self, identity: str) -> None:
        self._missing.discard(identity)
        self._present.pop(identity, None)
        for sid in [sid for sid, owner in self._audio.items() if owner == identity]:
            del self._audio[sid]
            self._forget_track(sid)
        self._notify(ParticipantLeft(identity=identity, others=len(self._present)))

    def _on_track_published(
        self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if publication.kind != rtc.TrackKind.KIND_AUDIO:
            return
        if participant.identity not in self._present:
            self._welcome(participant, at_join=False)
        if publication.sid not in self._audio:
            self._audio[publication.sid] = participant.identity
            self._notify(AudioPublished(identity=participant.identity))
        if self._wanted:
            self._want(publication)

    def _on_track_unpublished(
        self, publication: rtc.RemoteTrackPublication, _participant: rtc.RemoteParticipant
    ) -> None:
        self._audio.pop(publication.sid, None)
        self._forget_track(publication.sid)

    def _on_track_subscribed(
        self,
        track: rtc.Track,
        publication: rtc.RemoteTrackPublication,
        _participant: rtc.RemoteParticipant,
    ) -> None:
        if publication.kind != rtc.TrackKind.KIND_AUDIO or self._closed:
            return
        self._forget_track(publication.sid)
        self._tracks[publication.sid] = track
        if self._wanted:
            self._listen(publication.sid, track)

    def _on_track_unsubscribed(
        self,
        _track: rtc.Track | None,
        publication: rtc.RemoteTrackPublication,
        _participant: rtc.RemoteParticipant,
    ) -> None:
        self._forget_track(publication.sid)

    def _on_local_track_republished(self) -> None:
        self.mute(self._muted)

    def _on_active_speakers_changed(self, speakers: list[rtc.Participant]) -> None:
        for speaker in speakers:
            for sid, identity in self._audio.items():
                if identity == speaker.identity and sid in self._listeners:
                    self._listeners[sid].suspect()

    def _on_sip_dtmf_received(self, dtmf: rtc.SipDTMF) -> None:
        digit = convention.dtmf_digit(dtmf.code, dtmf.digit)
        if digit is not None:
            self._notify(DtmfRequested(digit=digit))

    def _on_reconnecting(self) -> None:
        self._down.set()
        if not self._reconnecting:
            self._reconnecting = True
            self._notify(RoomReconnecting())

    def _on_reconnected(self) -> None:
        if not self._reconnecting:
            return
        self._reconnecting = False
        self.mute(self._muted)
        self.subscribe(self._wanted)
        self._notify(RoomReconnected())
        self._part_missing()

    def _on_disconnected(self, reason: int) -> None:
        self._down.set()
        self.replaced = reason == rtc.DisconnectReason.DUPLICATE_IDENTITY
        gone = _GONE.get(reason, RoomGone.LOST)
        self._notify(RoomClosed(why=gone))
        self._closed = True

    # Subscriptions.

    def _want(self, publication: rtc.RemoteTrackPublication) -> None:
        """Subscribe to an audio track, or read it when we are subscribed already."""
        if publication.kind != rtc.TrackKind.KIND_AUDIO or self._closed:
            return
        track = self._tracks.get(publication.sid)
        if track is None:
            publication.set_subscribed(True)
        elif publication.sid not in self._listeners:
            self._listen(publication.sid, track)

    def _listen(self, sid: str, track: rtc.Track) -> None:
        self._listeners[sid] = TrackListener(track)

    def _forget_track(self, sid: str) -> None:
        self._tracks.pop(sid, None)
        self._drop_listener(sid)

    def _drop_listener(self, sid: str) -> None:
        listener = self._listeners.pop(sid, None)
        if listener is None:
            return
        cleanup = asyncio.get_running_loop().create_task(listener.close())
        self._cleanups.add(cleanup)
        cleanup.add_done_callback(self._cleanups.discard)


def kind_name(kind: int) -> str:
    """Return the lower-case name of a participant's kind."""
    try:
        name: str = rtc.ParticipantKind.Name(kind)  # type: ignore[arg-type]
    except ValueError:
        return "unknown"
    return name.removeprefix("PARTICIPANT_KIND_").lower()
