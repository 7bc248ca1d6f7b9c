"""The older bridge's routes for phone calls (seed 001), in its words and its envelope."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from bridge.api.access import Access, access_of, own_key
from bridge.api.asking import asked
from bridge.api.door import Doors
from bridge.api.envelope import Enveloped, envelope, refusal
from bridge.api.making import IdempotencyKey
from bridge.api.older_bodies import (
    NO_ASSISTANT,
    NO_TRUNK,
    NOT_YET,
    QUEUED,
    RECORDS,
    STATUS,
    WRONG_SERVICE,
    Outbound,
    Passthrough,
    Wanted,
)
from bridge.api.reading import Reading
from bridge.api.sessions import asker_of
from bridge.call.requests import Accepted, Admit, DialRequest, Names
from bridge.events import rfc3339
from bridge.sessions.requests import Asker
from bridge.store.store import StoredCall
from bridge.transcript.segment import Segment
from bridge.transcript.shapes import older_entries


class OlderDoor(Protocol):
    """What these routes ask of the bridge besides; on the main loop."""

    async def names(self) -> Names:
        """What the configuration calls things."""


class Plans(Protocol):
    """Who knows what the plans of keys allow."""

    def admission_of(self, asker: Asker) -> Admit:
        """Return what has a word before a phone call is made for *asker*, and counts it."""


class OlderStore(Protocol):
    """What they read of the store. Every method blocks and raises `BridgeError`."""

    def call(self, call_id: str) -> StoredCall | None: ...
    def transcript(self, call_id: str) -> list[Segment]: ...
    def recording_path(self, call_id: str) -> str | None: ...


PlaceOf = Callable[[str], tuple[bool, float | None]]
"""Whether a call waits for its trunk, and when one that had waited was dialled (wall seconds).

Blocks, raises `BridgeError`.
"""


def router(
    doors: Doors,
    reading: Reading,
    older: OlderDoor,
    store: OlderStore,
    place_of: PlaceOf,
    plans: Plans,
) -> APIRouter:
    """Return the routes below ``/call``."""
    routes = APIRouter(prefix="/call", tags=["older API"], route_class=Enveloped)
    _making(routes, doors, older, plans)
    _looking(routes, doors, reading, older, store, place_of)
    return routes


def _making(routes: APIRouter, doors: Doors, older: OlderDoor, plans: Plans) -> None:
    @routes.post("/outbound", status_code=202, response_model=None, responses={**QUEUED, **NOT_YET})
    async def outbound(
        body: Outbound, request: Request, idempotency_key: IdempotencyKey = None
    ) -> dict[str, Any] | JSONResponse:
        """Dial a phone number for an assistant (a workflow); it may wait for its trunk."""
        names = await doors.ask(older.names())
        slug = names.workflows.get(body.assistant_id)
        if slug is None:
            raise HTTPException(404, NO_ASSISTANT)
        profile = _profile(names, body.trunk_id)
        if body.call_service != profile:
            return refusal(400, WRONG_SERVICE)
        if profile == "twilio":
            return refusal(501, "the Twilio flow is not served by this version")
        accepted = await _dial(
            doors,
            plans,
            request,
            idempotency_key,
            DialRequest(
                phone_number=body.to_number,
                workflow_slug=slug,
                trunk=body.trunk_id,
                record=None,
                metadata=body.metadata or {},
                tenant=access_of(request).tenant,
            ),
        )
        return envelope("call queued", {"queue_id": accepted.call_id, "status": "queued"})

    @routes.post("/outbound_passthrough", status_code=202, response_model=None, responses=QUEUED)
    async def passthrough(
        body: Passthrough, request: Request, idempotency_key: IdempotencyKey = None
    ) -> dict[str, Any]:
        """Dial a phone number for a person in the browser: no agent, early media is heard."""
        _profile(await doors.ask(older.names()), body.trunk_id)
        accepted = await _dial(
            doors,
            plans,
            request,
            idempotency_key,
            DialRequest(
                phone_number=body.to_number,
                trunk=body.trunk_id,
                passthrough=True,
                record=None,
                metadata=body.metadata or {},
                tenant=access_of(request).tenant,
            ),
        )
        data = {
            "queue_id": accepted.call_id,
            "room_name": accepted.room_name,
            "room_token": accepted.token,
            "room_url": accepted.url,
            "status": "queued",
        }
        return envelope("call queued", data)


async def _dial(
    doors: Doors, plans: Plans, request: Request, key: str | None, wanted: DialRequest
) -> Accepted:
    who = access_of(request)
    admit = plans.admission_of(asker_of(who))
    return await doors.ask(doors.service.dial(wanted, key=own_key(who, key), admit=admit))


def _profile(names: Names, trunk: str) -> str:
    profile = names.profiles.get(trunk)
    if profile is None:
        raise HTTPException(404, NO_TRUNK)
    return profile


def _looking(
    routes: APIRouter,
    doors: Doors,
    reading: Reading,
    older: OlderDoor,
    store: OlderStore,
    place_of: PlaceOf,
) -> None:
    @routes.get("/queue/{queue_id}", response_model=None, responses=STATUS)
    async def queued(queue_id: str, request: Request) -> dict[str, Any]:
        """How far a call is on its way to its trunk."""
        call = await reading.call(queue_id, access_of(request))
        names = await doors.ask(older.names())
        waits, at = await asked(place_of, call["id"])
        status = queue_status(call, waits=waits)
        data = {
            "queue_id": call["id"],
            "status": status,
            "to_number": _to_number(call),
            "call_service": _service(call, names),
            "queued_at": call["created_at"],
            "dispatched_at": _dispatched_at(call, at) if status == "dispatched" else None,
            "retry_count": 0,  # nobody is rung twice
            "last_error": call["reason"] if status == "failed" else None,
        }
        return envelope("queue status", data)

    @routes.get("/records", response_model=None, responses=RECORDS)
    async def records(wanted: Annotated[Wanted, Query()], request: Request) -> dict[str, Any]:
        """Calls as the older bridge tells of them, with their transcripts."""
        who: Access = access_of(request)
        found, total = await reading.page(
            wanted.filter(who.scope),
            limit=wanted.limit,
            offset=(wanted.page - 1) * wanted.limit,
        )
        names = await doors.ask(older.names())
        more = await asked(lambda: [_more(store, call["id"]) for call in found])
        data = {
            "records": [
                record_of(
                    call, names, passthrough=passthrough, transcript=transcript, recording=recording
                )
                for call, (passthrough, transcript, recording) in zip(found, more, strict=True)
            ],
            "pagination": {
                "total": total,
                "page": wanted.page,
                "limit": wanted.limit,
                "total_pages": math.ceil(total / wanted.limit),
            },
        }
        return envelope("call records", data)


def _more(store: OlderStore, call_id: str) -> tuple[bool, Sequence[Segment], str | None]:
    stored = store.call(call_id)
    private = stored.private if stored is not None else {}
    recording = store.recording_path(call_id) if private.get("record") else None
    return bool(private.get("passthrough")), store.transcript(call_id), recording


def queue_status(call: Mapping[str, Any], *, waits: bool) -> str:
    """Return how far a call is: ``pending``, ``dispatching``, ``dispatched``, ``failed``."""
    if call["ended_at"] is None:
        if call["status"] != "pending":
            return "dispatched"
        return "pending" if waits else "dispatching"
    # Without an answer of any kind it never got as far as the carrier.
    asked = call["started_at"] is not None or call["sip_status"] is not None
    return "dispatched" if asked or call["direction"] == "inbound" else "failed"


def _dispatched_at(call: Mapping[str, Any], at: float | None) -> str:
    return str(call["created_at"]) if at is None else rfc3339(at)


def record_of(
    call: Mapping[str, Any],
    names: Names,
    *,
    passthrough: bool,
    transcript: Sequence[Segment],
    recording: str | None = None,
) -> dict[str, Any]:
    """Return a call's resource as the older bridge's record. What is unknown is null."""
    web = call["call_type"] == "voip"
    duration_ms = call["duration_ms"] if call["started_at"] is not None else None
    return {
        "room_name": call["room_name"],
        "queue_id": call["id"],
        "assistant_id": call["workflow_id"],
        "assistant_name": call["workflow_slug"] or call["agent"],
        "is_passthrough": passthrough,
        "to_number": _to_number(call),
        "call_status": call["status"],
        "call_status_reason": call["reason"],
        "sip_status_code": call["sip_status"],
        "sip_status_text": names.phrases.get(call["sip_status"] or 0),
        "answered_at": call["started_at"],
        "agent_ready_at": None,
        "call_end_reason": call["reason"],
        "recording_path": recording,
        "transcripts": older_entries(transcript),
        "started_at": call["created_at"],
        "ended_at": call["ended_at"],
        "call_duration_minutes": None if duration_ms is None else round(duration_ms / 60_000, 2),
        "billable_duration_minutes": 0 if duration_ms is None else math.ceil(duration_ms / 60_000),
        "call_type": "web" if web else call["direction"],
        "call_service": _service(call, names),
        "platform_number": call["trunk_number"],
    }


def _to_number(call: Mapping[str, Any]) -> str | None:
    inbound = call["direction"] == "inbound" and call["call_type"] != "voip"
    number: str | None = call["trunk_number"] if inbound else call["phone_number"]
    return number


def _service(call: Mapping[str, Any], names: Names) -> str | None:
    """Return the older name for whose trunk it is; a web call has none."""
    return names.profiles.get(call["trunk"] or "")
