"""``trunkbridge dial``"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bridge.cli.options import ConfigOption, JsonOption, UrlOption, client_of, fail, show_json
from bridge.cli.timeline import line_of
from trunkbridge.client import ApiError, Client
from trunkbridge.options import DialOptions

HELP = """Dial a number through a running daemon.

Exits 0 when the call was accepted (with --wait: when it was answered and completed).

\b
Example:
  trunkbridge dial --to +919876543210 --trunk exotel-mumbai --agent support --wait
"""


def dial(
    to: Annotated[str, typer.Option("--to", metavar="N", help="The number to dial, E.164.")],
    trunk: Annotated[str | None, typer.Option(help="The trunk; default: the only one.")] = None,
    room: Annotated[str | None, typer.Option(help="The room; default: a new one.")] = None,
    agent: Annotated[str | None, typer.Option(help="The LiveKit agent to dispatch.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the call until it ends.")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    client = client_of(url, config)
    if trunk is None and agent is None:
        agent = ""  # none is dispatched; the API wants one of the two said
    fields: DialOptions = {"trunk": trunk, "room": room, "agent": agent}
    try:
        completed = asyncio.run(_dial(client, to, fields, wait=wait, as_json=as_json))
    except ApiError as failure:
        fail(f"dial: {failure}")
    if not completed:
        raise typer.Exit(1)


async def _dial(client: Client, to: str, fields: DialOptions, *, wait: bool, as_json: bool) -> bool:
    async with client:
        call = await client.dial(to, **fields)
        if as_json:
            show_json(call.accepted)
        else:
            typer.echo(f"{call.id} {call.accepted['status']} room={call.accepted['room_name']}")
        if not wait:
            return True
        async for event in call.events():
            if as_json:
                show_json(event.data)
            else:
                typer.echo(line_of(event.data))
        return bool((await call.status())["outcome"] == "completed")
