"""One phone call as an agent sees it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from livekit import rtc

from trunkbridge.agent.find import SIP, find_phone, is_phone, job_call_id
from trunkbridge.agent.follow import Following
from trunkbridge.agent.report import Reporter

if TYPE_CHECKING:
    from livekit.agents import AgentSession

TOPIC: Final = "sip_bridge_events"
# Seconds that an attribute waits for the event that belongs to it and says more.
_GRACE: Final = 0.3
# Seconds in which a phone whose connection broke may be back; the bridge tries for 30.
_REJOIN: Final = 35.0
# Leaves that are meant; whoever goes for another reason may come back.
_FINAL: Final = frozenset(
    (
        rtc.DisconnectReason.CLIENT_INITIATED,
        rtc.DisconnectReason.PARTICIPANT_REMOVED,
        rtc.DisconnectReason.ROOM_DELETED,
        rtc.DisconnectReason.ROOM_CLOSED,
        rtc.DisconnectReason.USER_REJECTED,
        rtc.DisconnectReason.USER_UNAVAILABLE,
        rtc.DisconnectReason.SIP_TRUNK_FAILURE,
    )
)
_READY_TRIES: Final = 3
_PASSING: Final = frozenset(
    (
        rtc.RpcError.ErrorCode.CONNECTION_TIMEOUT,
        rtc.RpcError.ErrorCode.RESPONSE_TIMEOUT,
        rtc.RpcError.ErrorCode.SEND_FAILED,
    )
)
# The phone is not there any more: what was asked of it has happened, or cannot.
_GONE: Final = frozenset(
    (rtc.RpcError.ErrorCode.RECIPIENT_NOT_FOUND, rtc.RpcError.ErrorCode.RECIPIENT_DISCONNECTED)
)
_KEYS: Final = "0123456789*#ABCD"
_KEY_SPACING: Final = 0.3  # seconds between keys that livekit/sip is sent
_PAUSE: Final = 0.5  # seconds of a "w"
_NAMES: Final = ("answered", "hold", "resume", "dtmf", "transfer", "ended")

Handler = Callable[[Mapping[str, Any]], Awaitable[None] | None]
H = TypeVar("H", bound=Handler)

_log = logging.getLogger(__name__)


class CallEnded(Exception):
    """The call is over: nobody is there to speak to. ``outcome`` as in the bridge's records.

    Empty when nobody said why (livekit/sip).
    """

    def __init__(self, outcome: str) -> None:
        super().__init__(f"the call ended: {outcome or 'no reason given'}")
        self.outcome = outcome


class Refused(Exception):
    """The phone did not do what was asked: ``code`` and ``reason`` are the RPC's.

    400 bad payload, 403 not allowed, 409 not in this state, 1400 unknown to whoever is the
    phone, 1500 and others LiveKit's.
    """

    def __init__(self, method: str, code: int, reason: str) -> None:
        super().__init__(f"{method}: {reason}")
        self.code = code
        self.reason = reason


class PhoneCall:
    """The phone in a room: one participant of kind SIP that carries ``sip.callID``.

    Events count only when they come from that participant. Make it by `attach`.
    """

    def __init__(self, room: rtc.Room, participant: rtc.RemoteParticipant) -> None:
        self._room = room
        self._identity = participant.identity
        self._attributes: dict[str, str] = dict(participant.attributes)
        self._metadata = participant.metadata
        self._handlers: dict[str, list[Handler]] = {name: [] for name in _NAMES}
        self._answered = asyncio.Event()
        self._ended: asyncio.Event = asyncio.Event()
        self._outcome = ""
        self._held = False
        self._seq = 0  # of the last event
        self._hold_seq = 0  # of what ``held`` was taken from, event or attribute
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._leaves = 0  # of the phone: a later one has a time of its own
        self._following: list[Following] = []
        self._reporters: list[Reporter] = []
        self._on_shutdown: Callable[[Callable[[], Awaitable[None]]], object] | None = None
        room.on("data_received", self._on_data)
        room.on("participant_attributes_changed", self._on_attributes)
        room.on("participant_connected", self._on_joined)
        room.on("participant_disconnected", self._on_left)
        room.on("disconnected", self._on_disconnected)
        self._apply_attributes()

    @classmethod
    async def attach(cls, ctx: Any, timeout: float = 30) -> PhoneCall | None:
        """Find the phone in *ctx*'s room and tell the bridge that the agent is ready.

        *ctx* is a JobContext of livekit-agents (connected here if it is not yet) or an
        ``rtc.Room`` that is connected. In a room with several phones it is the one of the
        job. Returns None when there is no phone: no participant of kind SIP within *timeout*
        seconds, or somebody else is there alone, as in a web call. Handlers of `on` hear
        what happens from now on; what was before is in `held` and `answered`.
        """
        room: rtc.Room = getattr(ctx, "room", ctx)
        if not room.isconnected():
            await ctx.connect()
        participant = await find_phone(room, timeout, job_call_id(ctx))
        if participant is None:
            return None
        phone = cls(room, participant)
        phone._on_shutdown = getattr(ctx, "add_shutdown_callback", None)
        try:
            await phone._say_ready()
        except BaseException:
            await phone.aclose()
            raise
        return phone

    # What is known.

    @property
    def call_id(self) -> str:
        """The bridge's id of the call."""
        return self._attributes.get("sip.callID", "")

    @property
    def number(self) -> str:
        """The far party's number, E.164 where it could be understood."""
        return self._attributes.get("sip.phoneNumber", "")

    @property
    def identity(self) -> str:
        """The participant's identity in the room."""
        return self._identity

    @property
    def held(self) -> bool:
        """Whether the far end holds the call now."""
        return self._held

    @property
    def metadata(self) -> dict[str, Any]:
        """The participant's metadata: source, call_id, trunk, direction."""
        try:
            value = json.loads(self._metadata or "{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    async def answered(self, timeout: float | None = None) -> None:
        """Return when the far end has answered; at once when it has already.

        Raises `CallEnded` when the call is over, and ``TimeoutError``.
        """
        waits = [asyncio.ensure_future(event.wait()) for event in (self._answered, self._ended)]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        if self._ended.is_set():
            raise CallEnded(self._outcome)
        if not done:
            raise TimeoutError

    @overload
    def on(self, name: str, handler: H) -> H: ...

    @overload
    def on(self, name: str) -> Callable[[H], H]: ...

    def on(self, name: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Call *handler* with the event's JSON object on each ``answered``, ``hold``,
        ``resume``, ``dtmf``, ``transfer`` or ``ended``. A plain function or a coroutine
        function; also usable as a decorator. What an attribute alone told has only ``event``
        and ``call_id``.
        """
        if name not in self._handlers:
            raise ValueError(f"{name!r} is no event of a call, allowed: {', '.join(_NAMES)}")
        if handler is not None:
            self._handlers[name].append(handler)
            return handler

        def register(decorated: H) -> H:
            self._handlers[name].append(decorated)
            return decorated

        return register

    # What can be done.

    def follow(self, session: AgentSession[Any]) -> None:
        """Make *session* follow the hold, until the call ends; before or after its start.

        On hold the agent's speech is interrupted, and so is at once all that is asked for
        meanwhile (`say`, `generate_reply`, fillers, a realtime model's own turns): it is
        dropped, not kept for later. The session hears nothing, so that hold music makes no
        transcript and no turn, and an unfinished turn is dropped; the countdown to the user
        state ``away`` stops. On resume everything is as it was and the countdown starts
        anew. It happens before the handlers of `on` are called: one of ``resume`` may speak.
        A second call for the same session changes nothing.
        """
        if self._ended.is_set() or any(one.session is session for one in self._following):
            return
        following = Following(session)
        self._following.append(following)
        if self._held:
            following.hold()

    def report(
        self, session: AgentSession[Any], *, url: str | None = None, key: str | None = None
    ) -> None:
        """Send what *session* measures, and its agents, to the bridge's record of the call.

        *url* and *key* are those of the bridge's HTTP API, else ``$TRUNKBRIDGE_URL`` and
        ``$TRUNKBRIDGE_API_KEY``; without a URL nothing is sent, which is logged. Sent are
        latencies, tokens and handoffs, no words: after each turn, at each handoff and when the
        session closes. A second call for the same session changes nothing.
        """
        url = url or os.environ.get("TRUNKBRIDGE_URL", "")
        if not url:
            _log.warning("no report is sent: TRUNKBRIDGE_URL is not set")
            return
        if any(one.session is session for one in self._reporters):
            return
        reporter = Reporter(
            session,
            call_id=self.call_id,
            room=self._room.name,
            url=url,
            key=key or os.environ.get("TRUNKBRIDGE_API_KEY", ""),
        )
        self._reporters.append(reporter)
        if self._on_shutdown is not None:  # the job waits for the last one
            self._on_shutdown(reporter.aclose)

    async def hangup(self) -> None:
        """End the call (BYE, or CANCEL before the answer); nothing to do when it is over."""
        if self._ended.is_set():
            return
        try:
            await self._ask("lk.sip.EndCall", {})
        except Refused as refused:
            if refused.code not in _GONE:
                raise

    async def send_dtmf(self, digits: str) -> None:
        """Play *digits* (``0-9*#A-D``, ``w`` waits half a second) to the far end.

        Raises `Refused` for other signs, before the answer and on hold.
        """
        if "bridge.seq" in self._attributes:
            await self._ask("bridge.SendDTMF", {"digits": digits})
        else:
            await self._press(digits)

    async def transfer(self, to: str) -> None:
        """Ask the far end to call *to* instead; returns when it has agreed to try.

        *to* is a number, a ``tel:`` or a ``sip:`` URI that the trunk's ``transfer_allow``
        names. How it goes comes as ``transfer`` events with the ``status`` of the new call:
        from 200 to 299 it is answered and this call ends, above that this call goes on.
        Raises `Refused`: 400 no target, 403 not allowed, 409 not now, 502 the far end will not.
        """
        await self._ask("bridge.Transfer", {"to": to})

    async def aclose(self) -> None:
        """Stop listening to the room."""
        self._room.off("data_received", self._on_data)
        self._room.off("participant_attributes_changed", self._on_attributes)
        self._room.off("participant_connected", self._on_joined)
        self._room.off("participant_disconnected", self._on_left)
        self._room.off("disconnected", self._on_disconnected)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for task in self._tasks:
            task.cancel()
        self._stop_following()
        for reporter in self._reporters:
            await reporter.aclose()

    async def _ask(self, method: str, payload: Mapping[str, Any]) -> None:
        try:
            await self._call(method, payload)
        except rtc.RpcError as error:
            unknown = error.code == rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD
            foreign = "bridge.seq" not in self._attributes
            reason = "this phone is not trunkbridge's" if unknown and foreign else error.message
            raise Refused(method, error.code, reason) from error

    async def _call(self, method: str, payload: Mapping[str, Any]) -> None:
        await self._room.local_participant.perform_rpc(
            destination_identity=self._identity, method=method, payload=json.dumps(payload)
        )

    async def _press(self, digits: str) -> None:
        """Send keys as livekit/sip takes them."""
        keys = digits.upper().replace("W", "w")
        if not keys or not set(keys) <= set(_KEYS + "w"):
            raise Refused("SipDTMF", 400, "digits must be of 0-9 * # A-D w")
        for key in keys:
            if key == "w":
                await asyncio.sleep(_PAUSE)
                continue
            await self._room.local_participant.publish_dtmf(code=_KEYS.index(key), digit=key)
            await asyncio.sleep(_KEY_SPACING)

    async def _say_ready(self) -> None:
        if "bridge.seq" not in self._attributes:
            return  # livekit/sip answers no RPC of ours; waiting for it would cost seconds
        for _ in range(_READY_TRIES):
            try:
                await self._call("bridge.Ready", {})
            except rtc.RpcError as error:
                _log.warning("bridge.Ready: %s", error.message)
                if error.code not in _PASSING or self._ended.is_set():
                    return
            else:
                return

    # What the room tells.

    def _on_data(self, packet: rtc.DataPacket) -> None:
        sender = packet.participant
        if packet.topic != TOPIC or sender is None or sender.identity != self._identity:
            return
        if sender.kind != SIP:
            return
        try:
            event = json.loads(packet.data)
            name = event["event"]
        except (ValueError, TypeError, KeyError):
            return
        seq = event.get("seq")
        if isinstance(seq, int):  # the older bridge sends no seq
            if seq <= self._seq:
                return
            self._seq = seq
        self._apply(str(name), event)

    def _apply(self, name: str, event: Mapping[str, Any]) -> None:
        match name:
            case "call_answered":
                self._set_answered(event)
            case "call_hold" | "call_resume":
                if self._seq == 0 or self._seq > self._hold_seq:
                    self._hold_seq = self._seq
                    self._set_held(event, held=name == "call_hold")
            case "call_dtmf":
                self._fire("dtmf", event)
            case "call_transfer":
                self._fire("transfer", event)
            case "call_ended":
                self._set_ended(str(event.get("outcome") or ""), event)

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        if participant.identity != self._identity:
            return
        self._attributes = dict(participant.attributes)
        if "bridge.seq" not in self._attributes:
            self._apply_attributes()
        elif "sip.callStatus" in changed or "bridge.hold" in changed:
            # The event that belongs to this change says more and is on its way.
            self._after(_GRACE, self._apply_attributes)

    def _apply_attributes(self) -> None:
        attributes = self._attributes
        status = attributes.get("sip.callStatus")
        if status == "active":
            self._set_answered({"event": "call_answered", "call_id": self.call_id})
        text = attributes.get("bridge.seq", "")
        seq = int(text) if text.isdecimal() else self._seq
        # Attributes that are older than the last event of a hold say nothing new; and at its
        # end a call is no longer held, which is no resume.
        known = "bridge.hold" in attributes and status != "hangup"
        if known and seq >= max(self._seq, self._hold_seq):
            self._hold_seq = seq
            held = attributes["bridge.hold"] == "true"
            name = "call_hold" if held else "call_resume"
            self._set_held({"event": name, "call_id": self.call_id}, held=held)
        if status == "hangup":
            # The event, or the reason of the leave, says how the call ended.
            self._after(_GRACE, self._end_unexplained)

    def _end_unexplained(self) -> None:
        outcome = "completed" if self._answered.is_set() else ""
        self._set_ended(outcome, {"event": "call_ended", "call_id": self.call_id})

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            act()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        """The phone is back: it has restored its attributes before anything else."""
        if participant.identity == self._identity and is_phone(participant):
            self._attributes = dict(participant.attributes)
            self._apply_attributes()

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self._identity:
            return
        outcome = _outcome_of_leaving(participant, answered=self._answered.is_set())
        self._leaves += 1
        this = self._leaves

        def end() -> None:
            if this == self._leaves and self._identity not in self._room.remote_participants:
                self._set_ended(outcome, {"event": "call_ended", "call_id": self.call_id})

        if participant.disconnect_reason in _FINAL or "bridge.seq" not in self._attributes:
            self._set_ended(outcome, {"event": "call_ended", "call_id": self.call_id})
        else:
            self._after(_REJOIN, end)

    def _on_disconnected(self, *_: Any) -> None:
        self._set_ended("", {"event": "call_ended", "call_id": self.call_id})

    def _set_answered(self, event: Mapping[str, Any]) -> None:
        if not self._answered.is_set():
            self._answered.set()
            self._fire("answered", event)

    def _set_held(self, event: Mapping[str, Any], *, held: bool) -> None:
        if held != self._held and not self._ended.is_set():
            self._held = held
            for following in self._following:
                if held:
                    following.hold()
                else:
                    following.resume()
            self._fire("hold" if held else "resume", event)

    def _set_ended(self, outcome: str, event: Mapping[str, Any]) -> None:
        if not self._ended.is_set():
            self._outcome = outcome
            self._held = False
            self._ended.set()
            self._stop_following()
            self._fire("ended", event)

    def _stop_following(self) -> None:
        for following in self._following:
            following.close()
        self._following.clear()

    def _fire(self, name: str, event: Mapping[str, Any]) -> None:
        for handler in self._handlers[name]:
            try:
                result = handler(event)
            except Exception:
                _log.exception("a handler of %s failed", name)
                continue
            if inspect.isawaitable(result):
                task = asyncio.ensure_future(_guard(name, result))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


async def _guard(name: str, result: Awaitable[None]) -> None:
    try:
        await result
    except Exception:
        _log.exception("a handler of %s failed", name)


def _outcome_of_leaving(participant: rtc.RemoteParticipant, *, answered: bool) -> str:
    """What the reason of a leave says when no event did (livekit/sip)."""
    reason = participant.disconnect_reason
    if reason == rtc.DisconnectReason.USER_REJECTED:
        return "rejected"
    if reason == rtc.DisconnectReason.USER_UNAVAILABLE:
        return "no_answer"
    return "completed" if answered else ""
