"""The RPCs on our participant (contract 4): parse, allow, post."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from bridge.call.inputs import AgentReady, By, DigitsAsked, HangUp, Input
from bridge.call.phone import is_playable
from bridge.call.plan import CallPlan, Control
from bridge.call.state import CallState, Phase
from bridge.room.seam import RpcHandler, RpcRefused

# Codes of LiveKit's RPC: 1400 unsupported method; 1500 and above are the application's.
UNSUPPORTED: Final = 1400
NOT_ALLOWED: Final = 1503
BAD_PAYLOAD: Final = 1504
WRONG_STATE: Final = 1509

_PAYLOAD_LIMIT: Final = 16_384


class CallRpcs:
    """The handlers of one call; they post inputs and never wait for what follows."""

    def __init__(
        self, plan: CallPlan, state: Callable[[], CallState], post: Callable[[Input], None]
    ) -> None:
        self._plan = plan
        self._state = state
        self._post = post

    def handlers(self) -> Mapping[str, RpcHandler]:
        """Return the handlers by method."""
        return {
            "lk.sip.EndCall": self._end_call,
            "lk.sip.GetRemoteHeaders": self._remote_headers,
            "bridge.Ready": self._ready,
            "bridge.SendDTMF": self._send_dtmf,
            "bridge.Hold": self._not_yet,
            "bridge.Resume": self._not_yet,
            "bridge.Transfer": self._not_yet,
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
            for name, value in self._plan.remote_headers
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
        state = self._state()
        if state.phase is not Phase.ANSWERED or state.held:
            raise RpcRefused(WRONG_STATE, "the call is not answered, or on hold")
        self._post(DigitsAsked(digits=digits))
        return "{}"

    async def _not_yet(self, identity: str, kind: str, _payload: str) -> str:
        self._allow(identity, kind)
        raise RpcRefused(UNSUPPORTED, "not available yet")

    def _allow(self, identity: str, kind: str) -> None:
        plan = self._plan
        if plan.control is Control.ANYONE or kind == "agent" or identity in plan.controllers:
            return
        raise RpcRefused(NOT_ALLOWED, "only agents and configured controllers may do this")


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
