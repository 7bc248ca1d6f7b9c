"""A room as the SDK shows it, without a server: the same event names and objects' shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from livekit import rtc

SIP = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
STANDARD = rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD
CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"


class FakeParticipant:
    """A remote participant."""

    def __init__(self, identity: str, kind: Any = STANDARD, **attributes: str) -> None:
        self.identity = identity
        self.kind = kind
        self.attributes = attributes
        self.metadata = ""
        self.disconnect_reason: Any = None


class FakeRoom:
    """Emits what a test makes happen; ``rpcs`` are the calls made."""

    def __init__(self, *participants: FakeParticipant) -> None:
        self.remote_participants = {who.identity: who for who in participants}
        self.local_participant = self
        self.name = "room"
        self.rpcs: list[tuple[str, str, Any]] = []
        self.keys: list[tuple[int, str]] = []
        self.rpc_failures: list[rtc.RpcError] = []
        self.connected = True
        self._handlers: dict[str, list[Callable[..., Any]]] = {}

    def isconnected(self) -> bool:
        return self.connected

    def on(self, name: str, handler: Callable[..., Any]) -> None:
        self._handlers.setdefault(name, []).append(handler)

    def off(self, name: str, handler: Callable[..., Any]) -> None:
        self._handlers[name].remove(handler)

    @property
    def listeners(self) -> int:
        return sum(len(handlers) for handlers in self._handlers.values())

    def emit(self, name: str, *args: Any) -> None:
        for handler in list(self._handlers.get(name, ())):
            handler(*args)

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        self.rpcs.append((destination_identity, method, json.loads(payload)))
        if self.rpc_failures:
            raise self.rpc_failures.pop(0)
        return "{}"

    async def publish_dtmf(self, *, code: int, digit: str) -> None:
        self.keys.append((code, digit))

    # What happens.

    def join(self, who: FakeParticipant) -> None:
        self.remote_participants[who.identity] = who
        self.emit("participant_connected", who)

    def leave(self, who: FakeParticipant, reason: Any) -> None:
        del self.remote_participants[who.identity]
        who.disconnect_reason = reason
        self.emit("participant_disconnected", who)

    def change(self, who: FakeParticipant, **attributes: str) -> None:
        changed = {name.replace("__", "."): value for name, value in attributes.items()}
        who.attributes.update(changed)
        self.emit("participant_attributes_changed", changed, who)

    def send(
        self,
        who: FakeParticipant | None,
        event: str,
        seq: int | None = None,
        *,
        topic: str = "sip_bridge_events",
        **fields: Any,
    ) -> None:
        document = {"event": event, "version": 1, "call_id": CALL, **fields}
        if seq is not None:
            document["seq"] = seq
        self.send_raw(who, json.dumps(document).encode(), topic=topic)

    def send_raw(
        self, who: FakeParticipant | None, data: bytes, *, topic: str = "sip_bridge_events"
    ) -> None:
        self.emit("data_received", SimpleNamespace(participant=who, topic=topic, data=data))


def phone(*, bridge: bool = True, call_id: str = CALL, **attributes: str) -> FakeParticipant:
    """Return a phone of our bridge, or of livekit/sip; attributes with ``__`` for the dot."""
    given = {name.replace("__", "."): value for name, value in attributes.items()}
    ours = {"bridge.hold": "false", "bridge.seq": "0"} if bridge else {}
    base = {
        "sip.callID": call_id,
        "sip.callStatus": "dialing",
        "sip.phoneNumber": "+919876543210",
    }
    return FakeParticipant(f"sip-{call_id[:4]}", SIP, **{**base, **ours, **given})
