"""``trunkbridge show``"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from bridge.cli.options import ConfigOption, JsonOption, UrlOption, client_of, fail, show_json
from bridge.cli.table import ladder_lines, row_of
from bridge.cli.timeline import line_of
from trunkbridge.client import ApiError, Client

HELP = """Show one call: what it is, its timeline, and its SIP messages as arrows.

Times are UTC. The messages are kept in the daemon's memory for the last calls only.

\b
Example: trunkbridge show 5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11
"""

_FACTS = ("room_name", "agent", "trunk_number", "workflow_slug", "user_id")
_ENDS = ("ended_by", "sip_status", "q850", "duration_ms")


def show(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    try:
        call, events, ladder = asyncio.run(_ask(client_of(url, config), call_id))
    except ApiError as failure:
        fail(f"show: {failure}")
    if as_json:
        show_json({"call": call, "events": events, "ladder": ladder})
        return
    for line in story(call, events, ladder, fancy=_can_draw()):
        typer.echo(line)


async def _ask(
    client: Client, call_id: str
) -> tuple[dict[str, Any], list[Mapping[str, Any]], list[dict[str, Any]]]:
    async with client:
        call = client.call(call_id)
        resource = await call.status()
        events = [event.data for event in await call.history()]
        return resource, events, await call.ladder()


def story(
    call: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    ladder: Sequence[Mapping[str, Any]],
    *,
    fancy: bool,
) -> Iterator[str]:
    """Yield a call's story, line by line."""
    _, number, direction, trunk, word, talking, began = row_of(call)
    yield f"{direction} {number} on {trunk}, began {began}: {word}" + (
        f", talking {talking}" if talking else ""
    )
    for key in (*_FACTS, *_ENDS):
        if call.get(key) not in (None, ""):
            yield f"  {key}: {call[key]}"
    yield ""
    yield "Timeline"
    yield from (line_of(event) for event in events)
    yield ""
    if ladder:
        yield "SIP"
        yield from ladder_lines(ladder, fancy=fancy)
    else:
        yield "SIP: the messages of this call are kept no longer"


def _can_draw() -> bool:
    try:
        "│◀─▶…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
