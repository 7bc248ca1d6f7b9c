"""LiveKit's webhooks: verified, and read as news of a session's room."""

from __future__ import annotations

from typing import Final

from google.protobuf.json_format import ParseError
from jwt import PyJWTError
from livekit import api

from bridge.room.dispatch import person_of
from bridge.room.tokens import LiveKitKeys
from bridge.sessions.requests import Forged, RoomNews
from bridge.sessions.state import (
    Came,
    Leaving,
    Participant,
    RoomEnd,
    RoomFinished,
    Went,
)

_WANTED: Final = (
    api.DisconnectReason.CLIENT_INITIATED,
    api.DisconnectReason.DUPLICATE_IDENTITY,
    api.DisconnectReason.PARTICIPANT_REMOVED,
    api.DisconnectReason.USER_REJECTED,
    api.DisconnectReason.USER_UNAVAILABLE,
    api.DisconnectReason.UNKNOWN_REASON,
    api.DisconnectReason.MIGRATION,
)
_REMOVED: Final = (api.DisconnectReason.ROOM_DELETED, api.DisconnectReason.ROOM_CLOSED)

# livekit.RoomEndReason; servers before it say nothing.
_ROOM_ENDS: Final = {
    1: RoomEnd.DELETED,
    2: RoomEnd.EMPTY,
    3: RoomEnd.SERVER,
    4: RoomEnd.SERVER,
    5: RoomEnd.SERVER,
}


class Webhooks:
    """Reads what one LiveKit server posts. From any thread."""

    def __init__(self, keys: LiveKitKeys) -> None:
        verifier = api.TokenVerifier(keys.api_key, keys.api_secret)
        self._receiver = api.WebhookReceiver(verifier)

    def read(self, body: bytes, authorization: str) -> RoomNews:
        """Return what *body* tells. Raises `Forged`."""
        token = authorization.removeprefix("Bearer ").strip()
        try:
            event = self._receiver.receive(body.decode(), token)
        except (PyJWTError, ParseError, UnicodeDecodeError, ValueError, TypeError) as failure:
            raise Forged("no webhook of this LiveKit server") from failure
        except Exception as failure:  # the library raises bare ones for a wrong digest
            if type(failure) is not Exception:
                raise
            raise Forged("no webhook of this LiveKit server") from failure
        return news_of(event)


def news_of(event: api.WebhookEvent) -> RoomNews:
    """Return what a webhook says of its room."""
    room = event.room.name
    match event.event:
        case "room_started":
            return RoomNews(room=room, what=None, began=True)
        case "participant_joined":
            who = _participant(event.participant)
            return RoomNews(room=room, what=None if who is None else Came(who=who), began=True)
        case "participant_left" | "participant_connection_aborted":
            who = _participant(event.participant)
            # Who never got as far as being in the room was not there.
            if event.event == "participant_connection_aborted" or who is None:
                return RoomNews(room=room, what=None)
            return RoomNews(room=room, what=Went(who=who, how=_leaving(event.participant)))
        case "room_finished":
            how = _ROOM_ENDS.get(event.room_end_reason, RoomEnd.UNKNOWN)
            return RoomNews(room=room, what=RoomFinished(room_sid=event.room.sid, how=how))
        case _:
            return RoomNews(room=room, what=None)


def _participant(info: api.ParticipantInfo) -> Participant | None:
    """Return who it is; None for one that nobody sees."""
    person = person_of(info)
    if not person.sid or (person.helper and not person.agent):
        return None
    return Participant(sid=person.sid, agent=person.agent, joined_at=person.joined_at)


def _leaving(info: api.ParticipantInfo) -> Leaving:
    if info.disconnect_reason in _WANTED:
        return Leaving.WANTED
    return Leaving.REMOVED if info.disconnect_reason in _REMOVED else Leaving.FAILED
