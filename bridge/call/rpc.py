"""The RPCs on our participant (contract 4): parse, allow, post."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from bridge.call.commands import HoldResult, TransferReply, TransferResult
from bridge.call.inputs import (
    AgentReady,
    By,
    DigitsAsked,
    HangUp,
    HoldAsked,
    Input,
    TransferAsked,
)
from bridge.call.phone import is_playable
from bridge.call.plan import CallPlan, Control
from bridge.call.ports import Beside
from bridge.call.requests import BadRequest, NotAllowed, WrongState
from bridge.call.state import CallState, Phase
from bridge.call.target import Target, read
from bridge.room import convention
from bridge.room.seam import RpcHandler, RpcRefused
from bridge.sip.events import Answered

# 1001 to 1999 are LiveKit's own; these mean what HTTP says.
BAD_PAYLOAD: Final = 400
NOT_ALLOWED: Final = 403
WRONG_STATE: Final = 409
NOT_DONE: Final = 502

_PAYLOAD_LIMIT: Final = 16_384
_LAST_RESORT: Final = 12.0  # seconds; the machine answers before

HOLD_REFUSALS: Final[Mapping[HoldResult, tuple[int, str]]] = MappingProxyType(
    {
        HoldResult.NOT_ANSWERED: (WRONG_STATE, "the call is not answered"),
        HoldResult.UNDER_WAY: (WRONG_STATE, "a re-INVITE is under way"),
        HoldResult.ENDED: (WRONG_STATE, "the call has ended"),
        HoldResult.REFUSED: (NOT_DONE, "the far end did not agree, nothing changed"),
        HoldResult.TIMED_OUT: (NOT_DONE, "the far end did not answer in time"),
    }
)


TRANSFER_REFUSALS: Final[Mapping[TransferResult, tuple[int, str]]] = MappingProxyType(
    {
        TransferResult.NOT_ANSWERED: (WRONG_STATE, "the call is not answered"),
        TransferResult.UNDER_WAY: (WRONG_STATE, "a transfer is under way"),
        TransferResult.ENDED: (WRONG_STATE, "the call has ended"),
        TransferResult.REFUSED: (NOT_DONE, "the far end refused the transfer"),
        TransferResult.TIMED_OUT: (NOT_DONE, "the far end did not answer in time"),
    }
)


class _None(Enum):
    OVER = "over"  # the call ended meanwhile
    TOO_LATE = "too_late"


_OVER: Final = _None.OVER
_TOO_LATE: Final = _None.TOO_LATE
Answer = HoldResult | TransferReply | _None


class CallRpcs:
    """The handlers of one call: they post inputs. Hold and transfer wait for their `ReplyTo`."""

    def __init__(
        self,
        plan: CallPlan,
        state: Callable[[], CallState],
        post: Callable[[Input], None],
        beside: Beside,
    ) -> None:
        self._plan = plan
        self._beside = beside
        self._state = state
        self._post = post
        self._remote = plan.remote_headers
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    def hear(self, event: Input) -> None:
        """Of a call we made, the far end's headers are those of its answer, as in livekit/sip."""
        if isinstance(event, Answered):
            self._remote = event.headers

    def handlers(self) -> Mapping[str, RpcHandler]:
        """Return the handlers by method."""
        return {
            convention.RPC_END_CALL: self._end_call,
            convention.RPC_REMOTE_HEADERS: self._remote_headers,
            convention.RPC_READY: self._ready,
            convention.RPC_SEND_DTMF: self._send_dtmf,
            convention.RPC_HOLD: self._hold,
            convention.RPC_RESUME: self._resume,
            convention.RPC_TRANSFER: self._transfer,
        }

    async def _end_call(self, _identity: str, _kind: str, _payload: str) -> str:
        self._post(HangUp(by=By.AGENT))
        return "{}"

    async def _remote_headers(self, _identity: str, _kind: str, payload: str) -> str:
        wanted = _document(payload)
        include = _names(wanted, "include")
        exclude = _names(wanted, "exclude") or frozenset()
        headers = {
            name: value
            for name, value in self._remote
            if (include is None or name.lower() in include) and name.lower() not in exclude
        }
        return json.dumps({"headers": headers})

    async def _ready(self, identity: str, _kind: str, _payload: str) -> str:
        self._post(AgentReady(identity=identity))
        return "{}"

    async def _send_dtmf(self, identity: str, kind: str, payload: str) -> str:
        self._allow(identity, kind)
        digits = _document(payload).get("digits")
        if not isinstance(digits, str) or not is_playable(digits):
            raise RpcRefused(BAD_PAYLOAD, "digits must be 1 to 64 of 0-9 * # A-D w")
        refusal = why_no_digits(self._state())
        if refusal is not None:
            raise RpcRefused(WRONG_STATE, refusal)
        self._post(DigitsAsked(digits=digits))
        return "{}"

    async def _hold(self, identity: str, kind: str, _payload: str) -> str:
        self._allow(identity, kind)
        return _reply(await self.set_hold(hold=True), "the call is on our hold already")

    async def _resume(self, identity: str, kind: str, _payload: str) -> str:
        self._allow(identity, kind)
        return _reply(await self.set_hold(hold=False), "the call is not on our hold")

    async def _transfer(self, identity: str, kind: str, payload: str) -> str:
        self._allow(identity, kind)
        try:
            target = read(_document(payload).get("to"), self._plan, self._beside)
        except BadRequest as refusal:
            raise RpcRefused(BAD_PAYLOAD, str(refusal)) from None
        except NotAllowed as refusal:
            raise RpcRefused(NOT_ALLOWED, str(refusal)) from None
        except WrongState as refusal:
            raise RpcRefused(WRONG_STATE, str(refusal)) from None
        reply = await self.transfer(target, By.AGENT)
        if reply.result is not TransferResult.ACCEPTED:
            raise RpcRefused(*why_not_transferred(reply))
        return "{}"

    async def set_hold(self, *, hold: bool) -> HoldResult:
        """Hold the far end, or end our hold; return when that is settled, or failed."""
        result = await self._ask(lambda ticket: HoldAsked(hold=hold, ticket=ticket))
        if isinstance(result, HoldResult):
            return result
        return HoldResult.TIMED_OUT if result is _TOO_LATE else HoldResult.ENDED

    async def transfer(self, target: Target, by: By) -> TransferReply:
        """Ask the far end to call *target*; return when it has agreed to try, or has not."""
        result = await self._ask(
            lambda ticket: TransferAsked(to=target.to, other=target.other, by=by, ticket=ticket)
        )
        if isinstance(result, TransferReply):
            return result
        late = result is _TOO_LATE
        return TransferReply(result=TransferResult.TIMED_OUT if late else TransferResult.ENDED)

    async def _ask(self, wish: Callable[[int], Input]) -> Answer:
        """Post a wish with a ticket; return its `ReplyTo`, or that none came."""
        if self._state().phase is Phase.DONE:
            return _OVER
        ticket = next(self._tickets)
        settled: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = settled
        try:
            self._post(wish(ticket))
            async with asyncio.timeout(_LAST_RESORT):
                return await settled
        except TimeoutError:
            return _TOO_LATE
        finally:
            del self._waiting[ticket]

    def settle(self, ticket: int, result: Answer) -> None:
        """Answer who waits with *ticket*; after a restart that is nobody."""
        waiting = self._waiting.get(ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def close(self) -> None:
        """Answer whoever still waits: the call is over."""
        for ticket in list(self._waiting):
            self.settle(ticket, _OVER)

    def _allow(self, identity: str, kind: str) -> None:
        plan = self._plan
        if plan.control is Control.ANYONE or kind == "agent" or identity in plan.controllers:
            return
        raise RpcRefused(NOT_ALLOWED, "only agents and configured controllers may do this")


def why_no_digits(state: CallState) -> str | None:
    """Return why no keys can be played to the far end now, None when they can."""
    if not state.media_levels.transmit:
        return "the call is not answered, or on hold"
    if state.negotiated is None or state.negotiated.dtmf_payload_type is None:
        return "the far end takes no telephone-events"
    return None


def why_not_transferred(reply: TransferReply) -> tuple[int, str]:
    """Return code and text of a transfer that was not accepted."""
    code, text = TRANSFER_REFUSALS[reply.result]
    return (code, text) if reply.status is None else (code, f"{text} ({reply.status})")


def _reply(result: HoldResult, already: str) -> str:
    match result:
        case HoldResult.DONE:
            return "{}"
        case HoldResult.ALREADY:
            raise RpcRefused(WRONG_STATE, already)
        case _:
            raise RpcRefused(*HOLD_REFUSALS[result])


def _document(payload: str) -> dict[str, Any]:
    if len(payload) > _PAYLOAD_LIMIT:
        raise RpcRefused(BAD_PAYLOAD, "payload is too long")
    if not payload.strip():
        return {}
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise RpcRefused(BAD_PAYLOAD, "payload is not JSON") from None
    if not isinstance(document, dict):
        raise RpcRefused(BAD_PAYLOAD, "payload is not a JSON object")
    return document


def _names(document: Mapping[str, Any], key: str) -> frozenset[str] | None:
    """Return the header names under *key* in lower case, None when absent or empty."""
    names = document.get(key)
    if names is None or names == []:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RpcRefused(BAD_PAYLOAD, f"{key} must be a list of header names")
    return frozenset(name.lower() for name in names)
