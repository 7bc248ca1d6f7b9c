"""Transitions of the phone's side: SIP, media, keys."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from bridge.call.commands import Bye, ConnectMedia, Dial, PlayDigits, PublishKey
from bridge.call.inputs import DialogFormed, DigitsAsked
from bridge.call.outcome import (
    TRANSFERRED,
    LocalEnd,
    Outcome,
    cancelled_outcome,
    failure_outcome,
    far_end_outcome,
    local_outcome,
    transferred_outcome,
)
from bridge.call.state import CallState, LastKey, Phase, Timer
from bridge.call.turn import Turn, end, finish, hang_up, ms
from bridge.events import CallAnswered, CallDtmf, CallHold, CallResume, CallRinging
from bridge.media.seam import KeyPressed, MediaTimedOut
from bridge.room.seam import DtmfRequested
from bridge.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    Headers,
    KeyReported,
    Progressed,
    SessionChanged,
)
from bridge.sip.headers import sip_cause
from bridge.trunk.headers import carrier_ids
from sdp.negotiated import Hold, Negotiated

GATE_PATIENCE: Final = 0.5  # seconds an opening waits for its event to reach the room
KEYS: Final = frozenset("0123456789*#ABCD")
PLAYABLE: Final = KEYS | {"w"}
DIGITS_LIMIT: Final = 64
KEYS_PER_SECOND: Final = 20  # more than a phone can send; a flood ends here
DOUBLE_KEY: Final = 1.0  # seconds in which the same key by the other way is the same key


def note_carrier_ids(turn: Turn, headers: Headers) -> None:
    """Remember what the carrier calls this call, and why it refused it; the last word counts."""
    found = carrier_ids(headers, turn.state.plan.carrier_headers)
    if found:
        turn.set(carrier_ids=MappingProxyType({**turn.state.carrier_ids, **found}))


def dial(turn: Turn) -> None:
    """Send the INVITE."""
    turn.do(Dial())
    turn.set(phase=Phase.DIALING, dialed_at=turn.now, settled=False)
    turn.arm(Timer.RING, turn.state.plan.ring_timeout)


def progressed(turn: Turn, event: Progressed) -> None:
    """Tell the first 18x; connect early media when it is wanted."""
    if turn.state.rang_at is None:
        turn.set(phase=Phase.RINGING, rang_at=turn.now)
        turn.tell(CallRinging, early_media=event.early is not None)
    if event.early is not None and turn.state.plan.early_media:
        turn.set(negotiated=event.early, early=True)
        turn.do(ConnectMedia(negotiated=event.early))


def answered(turn: Turn, event: Answered) -> None:
    """The far end took our call; the ACK is on its way."""
    _establish(turn, event.negotiated, event.status)


def confirmed(turn: Turn, event: Confirmed) -> None:
    """The ACK of our 200 came: now the call is answered."""
    _establish(turn, event.negotiated, 200)


def _establish(turn: Turn, negotiated: Negotiated, status: int) -> None:
    plan = turn.state.plan
    rang_at = turn.state.rang_at
    turn.set(
        phase=Phase.ANSWERED,
        negotiated=negotiated,
        sip_status=status,
        answered_at=turn.now,
    )
    turn.do(ConnectMedia(negotiated=negotiated))
    ring_ms = 0 if rang_at is None else ms(turn.now - rang_at)
    event = turn.tell(CallAnswered, codec=negotiated.codec, ring_ms=ring_ms)
    turn.set(answered_event=event)
    turn.arm(Timer.GATE, GATE_PATIENCE)
    if negotiated.hold is not None:
        _hold(turn, negotiated.hold)
    turn.disarm(Timer.RING, Timer.AGENT)
    turn.arm(Timer.MAX_DURATION, plan.max_duration)
    if plan.wants_agent and not turn.state.agent_seen:
        turn.arm(Timer.AGENT, plan.agent_timeout)


def answered_too_late(turn: Turn, event: Answered) -> None:
    """A 2xx crossed our CANCEL: the dialog exists and is ended (RFC 3261 9.1)."""
    turn.do(Bye())
    turn.set(settled=True, sip_status=event.status)
    _conclude(turn)


def failed_after_cancel(turn: Turn, event: Failed) -> None:
    """The final response to our CANCEL: who cancelled decides, not its code or cause."""
    turn.set(settled=True, sip_status=event.status, q850=event.q850)
    _conclude(turn)


def ended_after_cancel(turn: Turn, _event: Ended) -> None:
    """The session ended a 2xx that crossed our CANCEL by itself."""
    turn.set(settled=True)
    _conclude(turn)


def cancel_unanswered(turn: Turn) -> None:
    """Nothing came for our CANCEL in time."""
    _conclude(turn)


def _conclude(turn: Turn) -> None:
    verdict = turn.state.verdict
    if turn.state.phase is Phase.CANCELLING and verdict is not None:
        end(turn, verdict)
    else:
        finish(turn)


def session_lost(turn: Turn) -> None:
    """There is no session to wait for: it could not be opened, or not be closed."""
    state = turn.state
    turn.set(settled=True)
    if state.over or state.phase is Phase.CANCELLING:
        _conclude(turn)
    else:
        why = LocalEnd.INTERNAL_ERROR
        end(turn, local_outcome(why, state.plan.direction, answered=state.answered))


def answered_after_end(turn: Turn, _event: Answered) -> None:
    """A 2xx came after call_ended."""
    if turn.state.settled:
        return
    turn.do(Bye())
    turn.set(settled=True)
    finish(turn)


def settled_after_end(turn: Turn, _event: Failed | Ended | Cancelled) -> None:
    """The session is closed; the call had ended before."""
    turn.set(settled=True)
    finish(turn)


def failed(turn: Turn, event: Failed) -> None:
    """Our INVITE got no dialog."""
    state = turn.state
    dialed_at = turn.now if state.dialed_at is None else state.dialed_at
    verdict = failure_outcome(
        event.cause,
        event.status,
        event.q850,
        sip_cause=sip_cause(event.headers),
        phrase=event.phrase,
        rang=event.rang or state.rang_at is not None,
        elapsed=turn.now - dialed_at,
        retry_after=event.retry_after,
    )
    turn.set(settled=True, sip_status=event.status, q850=event.q850)
    end(turn, verdict)


def cancelled(turn: Turn, event: Cancelled) -> None:
    """The caller gave up."""
    turn.set(settled=True, sip_status=487, q850=event.q850)
    end(turn, cancelled_outcome())


def ended(turn: Turn, event: Ended) -> None:
    """The session ended without our asking."""
    state = turn.state
    verdict = far_end_outcome(
        event.cause, event.q850, state.plan.direction, answered=state.answered
    )
    verdict = _of_transfer(state, event.cause, verdict)
    status = state.sip_status
    if event.cause is not EndCause.BYE and event.status is not None:
        status = event.status
    turn.set(settled=True, q850=event.q850, sip_status=status)
    end(turn, verdict)


def _of_transfer(state: CallState, cause: EndCause, verdict: Outcome) -> Outcome:
    """A far end that was transferred, or had us call another, ends what it has left."""
    transfer = state.transfer
    hung_up = cause is EndCause.BYE
    if transfer is not None and (transfer.done or (transfer.accepted and hung_up)):
        return transferred_outcome(transfer.by)
    if state.referred is not None and hung_up:
        return replace(verdict, reason=TRANSFERRED)
    return verdict


def changed_early(turn: Turn, event: SessionChanged) -> None:
    """An UPDATE moved early media."""
    if turn.state.early:
        turn.set(negotiated=event.negotiated)
        turn.do(ConnectMedia(negotiated=event.negotiated))


def changed(turn: Turn, event: SessionChanged) -> None:
    """A re-INVITE or UPDATE changed the session: perhaps a hold or a resume."""
    negotiated = event.negotiated
    if negotiated == turn.state.negotiated:
        return
    turn.set(negotiated=negotiated)
    turn.do(ConnectMedia(negotiated=negotiated))
    if negotiated.hold is not None and not turn.state.held:
        _hold(turn, negotiated.hold)
    elif negotiated.hold is None and turn.state.held:
        _resume(turn)


def _hold(turn: Turn, hold: Hold) -> None:
    event = turn.tell(CallHold, direction=hold.value)
    turn.set(held_at=turn.now, hold_event=event, resuming=None)
    turn.disarm(Timer.RESUME)


def _resume(turn: Turn) -> None:
    held_at = turn.now if turn.state.held_at is None else turn.state.held_at
    event = turn.tell(CallResume, held_ms=ms(turn.now - held_at))
    turn.set(held_at=None, hold_event=None, resuming=event.seq)
    turn.arm(Timer.RESUME, GATE_PATIENCE)


def open_gate(turn: Turn) -> None:
    """Let audio pass: call_answered reached the room, or had its time."""
    turn.disarm(Timer.GATE)
    turn.set(gate_open=True)


def open_after_resume(turn: Turn) -> None:
    """Let audio pass again: call_resume reached the room, or had its time."""
    turn.disarm(Timer.RESUME)
    turn.set(resuming=None)


def media_timed_out(turn: Turn, event: MediaTimedOut) -> None:
    """The far end has gone silent on the wire."""
    if turn.state.media_levels.watchdog is None:
        return  # suspended in the meantime
    hang_up(turn, LocalEnd.MEDIA_TIMEOUT if event.ever else LocalEnd.NO_MEDIA)


def key_pressed(turn: Turn, event: KeyPressed) -> None:
    """A key by RFC 4733."""
    _key(turn, LastKey(digit=event.digit.upper(), in_band=True, at=turn.now), event.duration_ms)


def key_reported(turn: Turn, event: KeyReported) -> None:
    """A key by INFO."""
    _key(turn, LastKey(digit=event.digit.upper(), in_band=False, at=turn.now), event.duration_ms)


def _key(turn: Turn, key: LastKey, duration_ms: int) -> None:
    if key.digit not in KEYS or _is_double(turn.state.last_key, key) or _is_flood(turn):
        return
    turn.set(last_key=key)
    turn.tell(CallDtmf, digit=key.digit, duration_ms=max(0, duration_ms))
    turn.do(PublishKey(digit=key.digit))


def _is_double(last: LastKey | None, key: LastKey) -> bool:
    """Some carriers send a key both ways; contract 4: one `SipDTMF` per key."""
    return (
        last is not None
        and last.digit == key.digit
        and last.in_band is not key.in_band
        and key.at - last.at < DOUBLE_KEY
    )


def _is_flood(turn: Turn) -> bool:
    if turn.now - turn.state.keys_since >= 1.0:
        turn.set(keys_since=turn.now, keys=0)
    turn.set(keys=turn.state.keys + 1)
    return turn.state.keys > KEYS_PER_SECOND


def play_key(turn: Turn, event: DtmfRequested) -> None:
    """A participant sent SipDTMF."""
    _play(turn, event.digit)


def play_digits(turn: Turn, event: DigitsAsked) -> None:
    """The API or an agent wants keys played."""
    _play(turn, event.digits)


def _play(turn: Turn, digits: str) -> None:
    if digits and turn.state.media_levels.transmit and is_playable(digits):
        turn.do(PlayDigits(digits=digits))


def is_playable(digits: str) -> bool:
    """Return whether *digits* can be played: ``0-9*#A-D`` and ``w``, at most 64."""
    return 0 < len(digits) <= DIGITS_LIMIT and PLAYABLE.issuperset(digits)


def dialog_formed(turn: Turn, event: DialogFormed) -> None:
    """Note the dialog's identifiers for the attributes."""
    turn.set(sip_call_id=event.sip_call_id, sip_tag=event.sip_tag)
