"""A call service with SIP, media and LiveKit faked; the journal is a real one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.adapters import Ledger
from bridge.call.desks import NoPorts, SipFacts
from bridge.call.plan import CallPlan
from bridge.call.ports import PreparedRoom, Recorder, SipPort
from bridge.call.service import CallService
from bridge.config.config import Config
from bridge.config.sections import SipConfig
from bridge.config.trunk import RouteConfig, TrunkConfig
from bridge.events import CallEvent
from bridge.journal.journal import Journal
from bridge.media.seam import CallMedia, Lease, MediaLevels, MediaNotice, MediaStats, Recording
from bridge.room.seam import JoinSpec, LeaveReason, RoomHandlers
from bridge.sip.events import Failed, FailureCause, IncomingInvite, SessionId
from bridge.sip.flow import Flow
from bridge.sip.headers import Reason
from bridge.sip.message import Request, parse
from sdp.negotiate import Rejected
from sdp.negotiated import Negotiated

INVITE = (
    b"INVITE sip:%b@192.0.2.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK1\r\n"
    b"From: <sip:+919876543210@192.0.2.9>;tag=a\r\n"
    b"To: <sip:%b@192.0.2.1>\r\n"
    b"Call-ID: abc\r\nCSeq: 1 INVITE\r\nContact: <sip:192.0.2.9>\r\n"
    b"Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


def trunk(**changes: Any) -> TrunkConfig:
    values = {"name": "exotel", "host": "192.0.2.9", "allow": ["192.0.2.0/24"]}
    return TrunkConfig(**{**values, **changes})


def config(*trunks: TrunkConfig, routes: bool = True, max_calls: int = 1000) -> Config:
    return Config(
        trunk=list(trunks) or [trunk()],
        route=[RouteConfig(number="+918047361000", agent="support")] if routes else [],
        workflow=[{"slug": "daily", "agent": "nurse", "trunk": "exotel", "metadata": {"a": 1}}],
        sip=SipConfig(max_calls=max_calls),
    )


class FakeLeg:
    """The SIP session of one call."""

    def __init__(self, desk: Desk, session: SessionId | None, begun: Any = None) -> None:
        self.desk = desk
        self.session = session
        self.begun = begun
        self.done: list[str] = []
        self.reasons: list[Reason | None] = []  # of our BYE

    def dial(self) -> None:
        self.done.append("dial")
        session = self.desk.new_session()
        if self.desk.dial_fails_at_once:
            self.desk.tell(failed(session))
        self.session = session
        self.begun(session)
        self.desk.dialled.set()

    def ring(self) -> None:
        self.done.append("ring")

    def answer(self) -> None:
        self.done.append("answer")

    def reject(self, status: int) -> None:
        self.done.append(f"reject {status}")

    def cancel(self) -> None:
        self.done.append("cancel")
        assert self.session is not None
        self.desk.tell(failed(self.session, cause=FailureCause.CANCELLED, status=487))

    def bye(self, reason: Reason | None = None) -> None:
        self.done.append("bye")
        self.reasons.append(reason)


class FakeMedia:
    """Both media sides of one call; closing frees the lease."""

    def __init__(self, desk: Desk, lease: Lease) -> None:
        self.desk = desk
        self.lease = lease

    def connect(self, negotiated: Negotiated) -> None: ...
    def apply(self, levels: MediaLevels) -> None: ...
    def send_dtmf(self, digits: str) -> None: ...
    def stats(self) -> MediaStats:
        raise NotImplementedError

    def record(self, recording: Recording) -> None:
        self.desk.recorded.append(recording)

    async def close(self) -> None:
        self.desk.release(self.lease)

    async def join(self, spec: JoinSpec) -> None: ...
    async def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> None: ...
    async def publish_dtmf(self, digit: str) -> None: ...
    async def set_attributes(self, attributes: Mapping[str, str]) -> None: ...
    def mute(self, muted: bool) -> None: ...
    def subscribe(self, wanted: bool) -> None: ...
    def others(self) -> Sequence[str]:
        return ()

    async def leave(self, reason: LeaveReason) -> None: ...


class Desk:
    """Legs, rooms, journal and the service on them; ``leases`` are those not given back."""

    def __init__(self, path: Path, settings: Config, recorder: Recorder | None = None) -> None:
        self.journal = Journal(path, instance="test")
        self.ledger = SlowLedger(self.journal)
        self.now = 1000.0
        self.leases: list[Any] = []
        self.refused: list[tuple[int, int | None]] = []
        self.published: list[CallEvent] = []
        self.legs: dict[str, FakeLeg] = {}
        self.recorded: list[Recording] = []
        self.rejects: Rejected | None = None
        self.no_ports = False
        self.dial_fails_at_once = False
        self.remote_headers: tuple[tuple[str, str], ...] = (("X-A", "1"),)
        self.media_fails = False
        self.adopt_fails = False
        self.dialled = asyncio.Event()
        self._sessions = itertools.count(1)
        self.service = CallService(
            settings,
            legs=self,
            rooms=self,
            ledger=self.ledger,
            archive=self.journal,
            publish=self.published.append,
            recorder=recorder,
            clock=lambda: self.now,
        )

    def new_session(self) -> SessionId:
        return SessionId(next(self._sessions))

    def tell(self, event: Any) -> None:
        self.service.on_sip(event)

    # Legs
    def lease(self, trunk: Any, invite: Any = None) -> Any:
        if self.no_ports:
            raise NoPorts("no free pair of media ports")
        lease = object()
        self.leases.append(lease)
        return lease

    def release(self, lease: Any) -> None:
        if lease in self.leases:
            self.leases.remove(lease)

    def incoming(
        self, invite: IncomingInvite, the_trunk: TrunkConfig, lease: Lease
    ) -> SipPort | Rejected:
        if self.adopt_fails:
            raise RuntimeError("a bug")
        if self.rejects is not None:
            return self.rejects
        leg = FakeLeg(self, invite.session)
        self.legs["inbound"] = leg
        return leg

    def outgoing(
        self,
        plan: CallPlan,
        the_trunk: TrunkConfig,
        lease: Lease,
        begun: Callable[[SessionId], None],
    ) -> SipPort:
        leg = FakeLeg(self, None, begun)
        self.legs[plan.call_id] = leg
        return leg

    def refuse(self, session: SessionId, status: int, *, retry_after: int | None = None) -> None:
        self.refused.append((status, retry_after))

    def facts(self, session: SessionId) -> SipFacts:
        return SipFacts(call_id="abc", remote_tag="t", remote_headers=self.remote_headers)

    def open_media(
        self,
        plan: CallPlan,
        the_trunk: TrunkConfig,
        lease: Lease,
        peer: str,
        handlers: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        if self.media_fails:
            raise ValueError("a bug")
        media = FakeMedia(self, lease)
        return CallMedia(carrier=media, room=media)

    # Rooms
    async def alive(self) -> bool:
        return True

    def visitor_token(self, room: str, identity: str) -> str:
        return f"token of {identity} for {room}"

    def check_job(self, plan: CallPlan) -> None:
        if "huge" in plan.metadata:
            raise ValueError("more than 60000 bytes")

    async def prepare(
        self, plan: CallPlan, attributes: Mapping[str, str], identity: str | None
    ) -> PreparedRoom:
        spec = JoinSpec(url="ws://x", room=plan.room, identity="sip-1", token="t")
        return PreparedRoom(spec=spec, made=True)

    async def dispatch(self, plan: CallPlan, *, instead_of: str = "") -> str:
        return "AD_1"

    async def recall(self, plan: CallPlan, dispatch: str) -> None: ...
    def delete_later(self, room: str, delay: float) -> None: ...

    # What tests ask.

    def invite(self, number: bytes = b"+918047361000") -> IncomingInvite:
        flow = Flow(
            id=1,
            transport="tcp",
            local=("192.0.2.1", 5070),
            remote=("192.0.2.9", 5060),
            trunks=frozenset(("exotel",)),
            new_call_trunks=frozenset(("exotel",)),
        )
        request = _parse(INVITE % (number, number))
        return IncomingInvite(session=self.new_session(), request=request, flow=flow)

    async def records(self) -> list[dict[str, Any]]:
        """Everything in the journal, once all that was handed over is written."""
        await self.ledger.written()
        await self.journal.append([])
        rows = self.journal._read("select call_id from calls order by created_at", ())
        found = [self.journal.record(row[0]) for row in rows]
        return [record for record in found if record is not None]

    async def idle(self) -> None:
        assert await self.service.until_idle(5), "calls are left"


class SlowLedger(Ledger):
    """The real one, whose record writes a test may hold back or fail."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.asked = asyncio.Event()
        self.writes: set[asyncio.Future[None]] = set()
        self.failure: Exception | None = None

    def append_record(self, *args: Any) -> asyncio.Future[None]:
        self.asked.set()
        write = asyncio.ensure_future(self._append(*args))
        self.writes.add(write)
        return write

    async def written(self) -> None:
        """Wait for all that was asked for so far."""
        await asyncio.gather(*self.writes, return_exceptions=True)

    async def _append(self, *args: Any) -> None:
        await self.may_write.wait()
        if self.failure is not None:
            raise self.failure
        await super().append_record(*args)


def failed(
    session: SessionId,
    *,
    cause: FailureCause = FailureCause.UNREACHABLE,
    status: int | None = None,
) -> Failed:
    return Failed(session=session, cause=cause, status=status, phrase="", q850=None, rang=False)


def _parse(raw: bytes) -> Request:
    message = parse(raw)
    assert isinstance(message, Request)
    return message


@asynccontextmanager
async def a_desk(
    path: Path, settings: Config | None = None, recorder: Recorder | None = None
) -> AsyncIterator[Desk]:
    """A running desk, whose calls are ended in the end."""
    desk = Desk(path, settings or config(), recorder)
    try:
        yield desk
    finally:
        desk.ledger.may_write.set()
        desk.service.shut_down()
        await desk.service.until_idle(5)
        desk.journal.close()
