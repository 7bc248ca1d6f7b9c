"""Calls beside a call: those a far end has had us make, and those it may take over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bridge.call.call import Call
from bridge.call.inputs import ReferredTold
from bridge.call.ports import Beside
from bridge.call.requests import Accepted, BadRequest, DialRequest, OverLimit, Unavailable
from bridge.events import CallAnswered, CallEnded, CallEvent, CallRinging
from bridge.sip.events import SessionId

_log = structlog.get_logger(__name__)

UNAVAILABLE: Final = 503
GIVEN_UP: Final = 487


class Referrals(Beside):
    """Dials for calls that run (*dial*), into their rooms; *call* finds one by its id."""

    def __init__(
        self,
        dial: Callable[[DialRequest], Awaitable[Accepted]],
        call: Callable[[str], Call | None],
    ) -> None:
        self._dial = dial
        self._call = call
        self._for: dict[str, str] = {}  # the new call -> the one that was referred
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, call_id: str, to: str) -> None:
        """Call *to* into the room of a call that runs."""
        task = asyncio.get_running_loop().create_task(self._begin(call_id, to))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, call_id: str, to: str) -> None:
        call = self._call(call_id)
        if call is None:
            return
        plan = call.plan
        request = DialRequest(
            phone_number=to,
            trunk=plan.trunk,
            room=plan.room,
            agent="",
            user_id=plan.user_id,
            record=plan.record,
            metadata={"referred_by": call_id},
        )
        try:
            accepted = await self._dial(request)
        except (BadRequest, OverLimit, Unavailable) as refusal:
            _log.info("call.referral_refused", call_id=call_id, why=type(refusal).__name__)
            call.post(ReferredTold(status=UNAVAILABLE))
            return
        self._for[accepted.call_id] = call_id
        _log.info("call.referred", call_id=call_id, new_call_id=accepted.call_id)

    def other(self, call_id: str) -> Call | None:
        """Return a call that runs, or None."""
        return self._call(call_id)

    def session_of(self, call_id: str) -> SessionId | None:
        """Return the SIP session of a call that runs, or None."""
        call = self._call(call_id)
        return None if call is None else call.sip.session

    def heard(self, event: CallEvent) -> None:
        """Tell the call that was referred how the new one goes."""
        if event.call_id not in self._for:
            return
        call = self._call(self._for[event.call_id])
        status = _status(event)
        if status is None:
            return
        if status >= 200:
            del self._for[event.call_id]
        if call is not None:
            call.post(ReferredTold(status=status))


def _status(event: CallEvent) -> int | None:
    match event:
        case CallRinging():
            return 180
        case CallAnswered():
            return 200
        case CallEnded():
            refused = event.sip_status is not None and event.sip_status >= 300
            return event.sip_status if refused else GIVEN_UP
        case _:
            return None
