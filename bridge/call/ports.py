"""What a call needs of the rest: the daemon implements these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.call.plan import CallPlan
from bridge.call.record import CallRecord
from bridge.call.state import CallState, MachineSnapshot
from bridge.events import CallEvent
from bridge.media.seam import CallMedia, MediaNotice, Recording
from bridge.room.seam import JoinSpec, RoomHandlers
from bridge.sip.events import SessionId
from bridge.sip.headers import Reason
from sdp.model import Direction

OpenMedia = Callable[[RoomHandlers, Callable[[MediaNotice], None]], CallMedia]
"""Opens the media of one call; what it reports goes to the two arguments."""


class SipPort(Protocol):
    """The SIP session of one call. All methods are synchronous and do not block.

    ``session`` is None until `dial` (outbound); events of that session go to
    `Call.post`.
    """

    session: SessionId | None

    def dial(self) -> None:
        """Send the INVITE."""

    def ring(self) -> None:
        """Send 180."""

    def answer(self) -> None:
        """Send 200 with our answer (or offer)."""

    def reject(self, status: int) -> None:
        """Refuse the INVITE."""

    def cancel(self) -> None:
        """Send CANCEL; the final event still comes."""

    def bye(self, reason: Reason | None = None) -> None:
        """End the session, after the ACK when one is still to come; *reason* goes into the BYE."""

    def reoffer(self, direction: Direction) -> None:
        """Send a re-INVITE; `Reoffered` follows."""

    def refer(self, to: str, replaces: SessionId | None) -> None:
        """Send a REFER to *to*, a number or a URI; `ReferAnswered` follows.

        *replaces*: another session of ours with *to*, for the far end to take over.
        """

    def answer_refer(self, status: int) -> None:
        """Answer the far end's REFER."""

    def tell_referred(self, status: int) -> None:
        """Notify the far end of the call that it has asked for."""

    def probe(self) -> None:
        """Send an OPTIONS in the dialog; `Probed` follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRoom:
    """A room to join. ``made``: we created it just now. ``sid``: the server's id of it."""

    spec: JoinSpec
    made: bool
    sid: str = ""


class RoomPort(Protocol):
    """LiveKit's server API as one call needs it. Failures raise `RoomError`."""

    async def prepare(
        self, plan: CallPlan, attributes: Mapping[str, str], identity: str | None
    ) -> PreparedRoom:
        """Create the room unless it exists, choose an identity, make a token.

        *identity* is None at first (the identity-taken rule of contract 4
        applies), and the earlier one for a rejoin, which first waits for the server
        to answer. *attributes* belong in the
        token, so that they are there when others hear of us.
        """

    async def dispatch(self, plan: CallPlan, *, instead_of: str = "") -> str:
        """Ask for ``plan.agent``, with the job metadata of contract 4; return the dispatch's id.

        *instead_of* is an earlier dispatch: it stands, and its id is returned, when a
        worker has taken it; else it is taken back.
        """

    async def recall(self, plan: CallPlan, dispatch: str) -> None:
        """Take a dispatch back, and the agent it has brought."""

    def delete_later(self, room: str, delay: float) -> None:
        """Delete *room* in *delay* seconds, also when the call is over by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRecord:
    """One event, with the call as it is after it and what restores it."""

    event: CallEvent
    record: CallRecord
    snapshot: MachineSnapshot


class JournalPort(Protocol):
    """The local journal."""

    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[object]:
        """Queue *records* now, in order of calls; the result is when they are safe."""


class CallRecording(Recording, Protocol):
    """One call on its way into a file. Nothing of it blocks."""

    def end(self, seconds: float | None) -> None:
        """Nothing more comes; it is *seconds* long, None: up to now. Once."""


class Recorder(Protocol):
    """Keeps what is heard and sent on calls."""

    def begin(self, call_id: str) -> CallRecording:
        """Record a call from now on. Does not block."""


class Watched(Protocol):
    """A running call as an observer sees it."""

    @property
    def plan(self) -> CallPlan:
        """What the call was begun with."""

    @property
    def state(self) -> CallState:
        """The machine's state now."""

    @property
    def media(self) -> CallMedia:
        """Both sides of its media; the counters can be read also after it was closed."""


class Beside:
    """The other calls of this instance, as one call needs them; here there are none."""

    def begin(self, call_id: str, to: str) -> None:
        """Call *to* into the room of the call *call_id*; it is told `ReferredTold`."""

    def other(self, call_id: str) -> Watched | None:
        """Return a call that runs, or None."""
        del call_id
        return None

    def session_of(self, call_id: str) -> SessionId | None:
        """Return the SIP session of a call that runs, or None."""
        del call_id
        return None


ALONE = Beside()


class CallObserver:
    """Hears what happens to calls, and here does nothing with it: for figures.

    All of it is called on the loop and must not block. Times are seconds of the calls'
    clock. What it raises is logged and costs the call nothing.
    """

    def began(self, call: Watched, now: float) -> None:
        """A call was taken on."""

    def gone(self, call: Watched) -> None:
        """Everything of the call is done; it is not looked at again."""

    def told(self, plan: CallPlan, event: CallEvent) -> None:
        """Journal and room have *event*; also of a call that was refused."""

    def cause_at(self, now: float) -> float:
        """Return when that arrived which a call takes *now*; *now* when it came from nowhere."""
        return now

    def published(self, event: CallEvent, seconds: float) -> None:
        """The room has *event*, *seconds* after what caused it arrived."""

    def joined(self, *, seconds: float, again: bool, ok: bool) -> None:
        """An attempt to get into the room ended."""

    def dial_refused(self, why: Exception) -> None:
        """A request for a call became none."""


UNOBSERVED = CallObserver()
