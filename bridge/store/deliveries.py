"""Webhooks to send, as the projection hands them to the outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One POST to be made. ``id`` is the same whenever it is made out of the same event.

    Those of a call to one URL go out in the order of ``seq``; ``body`` is what is sent, byte for
    byte. ``receiver`` is whom the URL asks (scheme, host, port), ``lifetime`` for how many
    seconds it is tried.
    """

    id: str
    call_id: str
    seq: int
    event: str
    url: str
    body: str
    tenant_id: str | None = None
    receiver: str = ""
    lifetime: float = 24 * 3600.0


Deliveries = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Sequence[Delivery]]
"""(event, record, private) -> what is to be sent. Called on the projection's thread."""

SessionDeliveries = Callable[[Connection, Mapping[str, Any], Mapping[str, Any]], Sequence[Delivery]]
"""(connection, record, private) of a session that changed -> what should have been sent by now.

Asked once the batch with the change is written, on its connection; what is there is kept.
"""
