"""The events of one call and of all: as JSON so far, as a stream from there on.

What a client saw last is ``Last-Event-ID``, or ``?last_event_id=`` where it cannot send
headers; a header wins, because a browser that reconnects sends it beside the old address.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response

from bridge.api import examples
from bridge.api.access import access_of
from bridge.api.auth import Gatekeeper
from bridge.api.lean import Json, Lean
from bridge.api.reading import Reading
from bridge.api.stream import EventStream, messages, wants_stream
from bridge.call.requests import BadRequest
from bridge.feed import Feed

_LATEST: Final = "latest"
_DIGITS: Final = 18  # fits SQLite, whatever they are


def _header(pattern: str) -> Any:
    text = "The id of the last event that was seen."
    schema = {"pattern": pattern}
    return Header(alias="Last-Event-ID", description=text, json_schema_extra=schema)


def _query(pattern: str) -> Any:
    text = "The same, for who cannot send headers."
    schema = {"pattern": pattern}
    return Query(alias="last_event_id", description=text, json_schema_extra=schema)


_POSITION: Final = "^([0-9]{1,18}|latest)?$"
_SEQ: Final = "^[0-9]{0,18}$"


def router(
    reading: Reading, feed: Feed, gatekeeper: Gatekeeper, everywhere: Feed | None = None
) -> APIRouter:
    """Return the two routes; a stream ends when its key is taken away.

    *feed* has the calls of this instance, *everywhere* those of all that share a store.
    """
    everything = everywhere or feed
    routes = APIRouter(prefix="/api/v1", tags=["events"], route_class=Lean)

    @routes.get("/events", response_model=None, responses=examples.ALL_EVENTS)
    async def all_events(
        request: Request,
        header: Annotated[str, _header(_POSITION)] = "",
        query: Annotated[str, _query(_POSITION)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The events of all calls, in the order they were written down.

        Of all instances that share a PostgreSQL, in the store's order; else of this instance, in
        its journal's. With ``Accept: text/event-stream`` everything after *last_event_id* and
        then what happens, live; an id is a position there, ``latest`` is the end, and
        without one it begins at the first. Otherwise a page of at most *limit*: its
        ``Last-Event-ID`` header is what the next page is asked with.
        """
        who = access_of(request)
        after = await _position(everything, header, query)
        if wants_stream(request.headers.get("accept", "")):
            await everything.last_position()  # 503 as long as that can be said
            return EventStream(
                everything,
                messages(
                    everything.everything(after),
                    after,
                    lambda one: one.position,
                    lambda: gatekeeper.still_admits(request),
                    lambda one: reading.sees(one.call_id, who),
                ),
            )
        page = await everything.page(after, limit)
        last = page[-1].position if page else after
        headers = {"Last-Event-ID": str(last)}
        if len(page) == limit:
            headers["Link"] = f'</api/v1/events?last_event_id={last}&limit={limit}>; rel="next"'
        shown = [one for one in page if await reading.sees(one.call_id, who)]
        return Json([json.loads(one.body) for one in shown], headers=headers)

    @routes.get("/calls/{call_id}/events", response_model=None, responses=examples.EVENTS)
    async def events_of_call(
        call_id: examples.CallIdPath,
        request: Request,
        header: Annotated[str, _header(_SEQ)] = "",
        query: Annotated[str, _query(_SEQ)] = "",
    ) -> Response:
        """The journal of one call, in order; an id is an event's seq.

        With ``Accept: text/event-stream`` what there is after *last_event_id* and then what
        happens, live; ends after ``call_ended``, and 204 when that was seen already.
        """
        who = access_of(request)
        after = _last(_number(header), _number(query))
        if not wants_stream(request.headers.get("accept", "")):
            events = await reading.events(call_id, who)
            return Json([event for event in events if event["seq"] > after])
        call = await reading.call(call_id, who)
        if call["ended_at"] is not None and after >= call["seq"]:
            return Response(status_code=204)  # HTML 9.2: a browser stops reconnecting
        wanted = call["id"]
        here = await reading.is_here(wanted)
        return EventStream(
            feed,
            messages(
                feed.of_call(wanted, after) if here else reading.follow(wanted, after),
                after,
                lambda one: one.seq,
                lambda: gatekeeper.still_admits(request),
            ),
        )

    return routes


async def _position(feed: Feed, header: str, query: str) -> int:
    # A header wins, but what does not count must be an id all the same.
    last = _last(*(None if one == _LATEST else _number(one) for one in (header, query)))
    return await feed.last_position() if (header or query) == _LATEST else last


def _last(header: int | None, query: int | None) -> int:
    return next((one for one in (header, query) if one is not None), 0)


def _number(given: str) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= _DIGITS):
        raise BadRequest("last_event_id", "must be the id of an event")
    return int(given)
