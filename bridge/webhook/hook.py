"""What the projection asks, for each event and each session it writes, what is to be sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from bridge.errors import BridgeError
from bridge.privacy import masked_event, masked_record
from bridge.store.deliveries import Delivery
from bridge.store.fold import folded, shown
from bridge.webhook.delivery import (
    Receivers,
    event_deliveries,
    is_voice_session,
    session_deliveries,
)
from bridge.webhook.retry import LIFETIME

T = TypeVar("T")
Resource = Mapping[str, Any]
SessionShape = Callable[[Connection, Resource, Resource], Resource]
"""The public session (seed 004's VoiceSessionOut) of a record and what is private of it."""


class Hook:
    """Makes deliveries on the projection's thread.

    *events_of* returns a call's events from the journal, *report* what agents have reported of
    it (either may raise `BridgeError`: then a body says less), *session* a session as it is
    shown. What happened longer ago than a delivery is tried is not told any more: a store that
    is filled anew from an old journal sends no old news. With *mask_numbers* bodies are masked
    from the start, as they lie in the store.
    """

    def __init__(
        self,
        receivers: Receivers,
        *,
        events_of: Callable[[str], Sequence[Resource]],
        report: Callable[[str], Resource | None],
        session: SessionShape,
        mask_numbers: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._receivers = receivers
        self._events_of = events_of
        self._report = report
        self._session = session
        self._mask_numbers = mask_numbers
        self._clock = clock
        self.made = 0
        """How many deliveries were made."""

    def of_event(self, event: Resource, record: Resource, private: Resource) -> Sequence[Delivery]:
        """Return the deliveries of *event* (`bridge.store.deliveries.Deliveries`)."""
        if not self._wanted(private) or "seq" not in event or self._late(event["at"]):
            return []
        call_id = str(record["id"])
        earlier: list[Resource] = []
        if int(record.get("seq") or 0) > event["seq"]:  # the projection is behind
            known: Sequence[Resource] = _or_else(lambda: self._events_of(call_id), ())
            earlier = [one for one in known if one["seq"] < event["seq"]]
        record = shown(folded(record, _or_else(lambda: self._report(call_id), None)))
        if self._mask_numbers:
            event, record = masked_event(event), masked_record(record)
        found = event_deliveries(event, record, private, self._receivers, earlier=earlier)
        self.made += len(found)
        return found

    def of_session(
        self, connection: Connection, record: Resource, private: Resource
    ) -> Sequence[Delivery]:
        """Return the deliveries of a session (`bridge.store.deliveries.SessionDeliveries`)."""
        if not is_voice_session(private) or not self._wanted(private):
            return []
        if self._late(record.get("ended_at") or record["created_at"]):
            return []
        session = self._session(connection, record, private)
        found = session_deliveries(record, private, self._receivers, session=session)
        self.made += len(found)
        return found

    def _wanted(self, private: Resource) -> bool:
        return bool(self._receivers.url or private.get("webhook_url"))

    def _late(self, at: str) -> bool:
        return datetime.fromisoformat(at).timestamp() < self._clock() - LIFETIME


def _or_else(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except BridgeError:
        return otherwise
