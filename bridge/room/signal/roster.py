"""The other participants of the room, as the server tells of them. PURE."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final

from livekit.protocol import models

from bridge.room.seam import AudioPublished, ParticipantJoined, ParticipantLeft, RoomNotice

ACTIVE_DELAY: Final = 0.5
"""Seconds after which one that is there counts although it was never called active."""

LIMIT: Final = 5000
"""Participants that are kept; nobody dials into a larger room."""

GONE_LIMIT: Final = 64
"""Participants that are remembered after they left: what they said last comes then."""

TRACKS_LIMIT: Final = 64
"""Audio tracks of one participant that are kept."""


@dataclass(slots=True)
class _Person:
    sid: str
    identity: str
    kind: str
    version: int = 0
    told: bool = False
    counts_at: float = 0.0  # when it is told of, active or not
    audio: dict[str, bool] = field(default_factory=dict)  # sid of a track -> encrypted


class Roster:
    """Who is there besides us. Every method adds to ``notices`` what the call is to hear."""

    def __init__(self) -> None:
        self.notices: list[RoomNotice] = []
        self._own_sid = ""
        self._own_identity = ""
        self._persons: dict[str, _Person] = {}  # by sid
        self._by_identity: dict[str, str] = {}
        self._gone: dict[str, str] = {}  # identity -> kind

    def meet(
        self,
        own: models.ParticipantInfo,
        others: Iterable[models.ParticipantInfo],
        now: float,
    ) -> None:
        """We are *own*, and *others* were there before us."""
        for person in list(self._persons.values()):
            self._part(person)
        self._own_sid, self._own_identity = own.sid, own.identity
        for info in others:
            self._update(info, now, at_join=True)

    def update(self, info: models.ParticipantInfo, now: float) -> None:
        """Take what the server says of one other participant."""
        self._update(info, now, at_join=False)

    def keep(self, sids: Container[str]) -> None:
        """Only these are there now; others have left."""
        for person in list(self._persons.values()):
            if person.sid not in sids:
                self._part(person)

    def tick(self, now: float) -> None:
        """Tell of those that have been there long enough, active or not."""
        for person in list(self._persons.values()):
            if not person.told and now >= person.counts_at:
                self._welcome(person, at_join=False)

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        waiting = [person.counts_at for person in self._persons.values() if not person.told]
        return min(waiting, default=None)

    def others(self) -> list[str]:
        """Return the identities of those told of."""
        return [person.identity for person in self._persons.values() if person.told]

    def kind_of(self, identity: str) -> str | None:
        """Return the kind of one told of."""
        sid = self._by_identity.get(identity)
        person = self._persons.get(sid) if sid is not None else None
        return person.kind if person is not None and person.told else None

    def kind_known(self, identity: str) -> str:
        """Return the kind of one that is there, told of or not, or was there until lately."""
        sid = self._by_identity.get(identity)
        if sid is not None:
            return self._persons[sid].kind
        return self._gone.get(identity, "unknown")

    def kind_of_track(self, sid: str) -> str | None:
        """Return the kind of the one whose audio track that is."""
        owners = (person.kind for person in self._persons.values() if sid in person.audio)
        return next(owners, None)

    def audio(self) -> list[str]:
        """Return the sids of all audio tracks that we can play."""
        return [
            sid
            for person in self._persons.values()
            for sid, encrypted in person.audio.items()
            if not encrypted
        ]

    @property
    def encrypted(self) -> bool:
        """Whether somebody's audio is encrypted end to end."""
        return any(any(person.audio.values()) for person in self._persons.values())

    def _update(self, info: models.ParticipantInfo, now: float, *, at_join: bool) -> None:
        if info.sid == self._own_sid or info.identity == self._own_identity or not info.sid:
            return
        person = self._persons.get(info.sid)
        if info.state == models.ParticipantInfo.DISCONNECTED:
            if person is not None:
                self._part(person)
            return
        if person is None:
            person = self._appear(info, now)
            if person is None:
                return
        elif info.version < person.version:  # an older word that came later
            return
        person.version = info.version
        appeared = self._take_tracks(person, info.tracks)
        if not person.told and (info.state == models.ParticipantInfo.ACTIVE or appeared):
            active = info.state == models.ParticipantInfo.ACTIVE
            self._welcome(person, at_join=at_join and active)
        elif person.told:
            self._tell_audio(person, appeared)

    def _appear(self, info: models.ParticipantInfo, now: float) -> _Person | None:
        earlier = self._by_identity.get(info.identity)
        if earlier is not None:  # it came anew before its going was told
            self._part(self._persons[earlier])
        if len(self._persons) >= LIMIT:
            return None
        person = _Person(
            sid=info.sid,
            identity=info.identity,
            kind=kind_name(info.kind),
            counts_at=now + ACTIVE_DELAY,
        )
        self._persons[info.sid] = person
        self._by_identity[info.identity] = info.sid
        return person

    def _take_tracks(self, person: _Person, tracks: Iterable[models.TrackInfo]) -> int:
        """Keep the audio of *tracks*; return how many are new."""
        audio = {
            track.sid: track.encryption != models.Encryption.NONE
            for track in tracks
            if track.type == models.AUDIO and track.sid
        }
        kept = dict(list(audio.items())[:TRACKS_LIMIT])
        new = len(kept.keys() - person.audio.keys())
        person.audio = kept
        return new

    def _welcome(self, person: _Person, *, at_join: bool) -> None:
        person.told = True
        self.notices.append(
            ParticipantJoined(identity=person.identity, kind=person.kind, at_join=at_join)
        )
        self._tell_audio(person, len(person.audio))

    def _tell_audio(self, person: _Person, count: int) -> None:
        self.notices.extend(AudioPublished(identity=person.identity) for _ in range(count))

    def _part(self, person: _Person) -> None:
        del self._persons[person.sid]
        self._by_identity.pop(person.identity, None)
        self._gone[person.identity] = person.kind
        if len(self._gone) > GONE_LIMIT:
            del self._gone[next(iter(self._gone))]
        if person.told:
            others = len(self.others())
            self.notices.append(ParticipantLeft(identity=person.identity, others=others))


def kind_name(kind: int) -> str:
    """Return the lower-case name of a participant's kind."""
    try:
        return str(models.ParticipantInfo.Kind.Name(kind)).lower()
    except ValueError:
        return "unknown"
