"""What the call service needs of SIP, media, rooms and the journal; `bridge.adapters` has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.call.idempotency import Claim
from bridge.call.plan import CallPlan
from bridge.call.ports import JournalPort, RoomPort, SipPort
from bridge.call.record import CallRecord
from bridge.config.trunk import TrunkConfig
from bridge.events import CallEvent
from bridge.media.seam import CallMedia, Lease, MediaNotice
from bridge.room.seam import RoomHandlers
from bridge.sip.events import IncomingInvite, SessionId
from sdp.negotiate import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class SipFacts:
    """What a session's dialog is called."""

    call_id: str
    remote_tag: str
    remote_headers: tuple[tuple[str, str], ...]


class Legs(Protocol):
    """The SIP and media sides of calls, as the service needs them made."""

    def lease(self, trunk: TrunkConfig, invite: IncomingInvite | None = None) -> Lease:
        """Bind a pair of media ports for a call to *trunk*, or for *invite*. Raises `NoPorts`."""

    def release(self, lease: Lease) -> None:
        """Give the ports back when no media was opened on them."""

    def incoming(
        self, invite: IncomingInvite, trunk: TrunkConfig, lease: Lease
    ) -> SipPort | Rejected:
        """Take an INVITE on: run its offer. `Rejected`: nothing was sent yet."""

    def outgoing(
        self, plan: CallPlan, trunk: TrunkConfig, lease: Lease, begun: Callable[[SessionId], None]
    ) -> SipPort:
        """Prepare an INVITE; *begun* is told its session when it is dialled."""

    def refuse(self, session: SessionId, status: int, *, retry_after: int | None = None) -> None:
        """Refuse an INVITE that was not taken on."""

    def facts(self, session: SessionId) -> SipFacts:
        """Return what the session's dialog is called."""

    def open_media(
        self,
        plan: CallPlan,
        trunk: TrunkConfig,
        lease: Lease,
        peer: str,
        handlers: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Open both sides of a call's media on *lease*; closing them frees it."""


class NoPorts(Exception):
    """No media port is free."""


class Archive(Protocol):
    """What is read back of calls: events of all, records of those that are over."""

    @property
    def writable(self) -> bool:
        """Whether the last write worked."""

    def record(self, call_id: str) -> dict[str, Any] | None:
        """Return the resource of a call, or None."""

    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the events of a call with a seq above *after*, in order."""

    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return who used an idempotency key after *since* (wall seconds), or None."""


class Rooms(RoomPort, Protocol):
    """LiveKit's server API as the service needs it."""

    async def alive(self) -> bool:
        """Whether the server answers."""

    def visitor_token(self, room: str, identity: str) -> str:
        """Return a plain participant's token for the API's caller."""

    def check_job(self, plan: CallPlan) -> None:
        """Raise ``ValueError`` when the job metadata of *plan* is too large."""


class Ledger(JournalPort, Protocol):
    """The journal, for calls and for what the service writes itself."""

    def append_record(
        self,
        record: CallRecord,
        event: CallEvent | None,
        claim: Claim | None = None,
        snapshot: Mapping[str, Any] | None = None,
    ) -> asyncio.Future[None]:
        """Write a record that no running call writes, with the claim it was made by.

        *snapshot*: what a restart needs of a call that waits.
        """
