"""Webhooks to send, as the projection hands them to the outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One POST to be made. ``id`` is the same whenever it is made out of the same event.

    Those of a call go out in the order of ``seq``; ``body`` is what is sent, byte for byte.
    """

    id: str
    call_id: str
    seq: int
    event: str
    url: str
    body: str
    tenant_id: str | None = None


Deliveries = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Sequence[Delivery]]
"""(event, record, private) -> what is to be sent. Called on the projection's thread."""
