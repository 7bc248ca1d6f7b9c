"""``trunkbridge drain``"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bridge.cli.options import ConfigOption, JsonOption, UrlOption, client_of, fail, show_json
from trunkbridge.client import ApiError, Client

HELP = """Have a running daemon take no new calls; running ones go on.

It stays up, and drained until it is restarted. With --wait this returns when the last call
has ended.

\b
Example: trunkbridge drain --wait
"""

_PAUSE = 1.0  # seconds between two looks


def drain(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the last call ended.")] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    try:
        asyncio.run(_drain(client_of(url, config), wait=wait, as_json=as_json))
    except ApiError as failure:
        fail(f"drain: {failure}")
    except KeyboardInterrupt:
        fail("drain: not waited for; the daemon takes no new calls")


async def _drain(client: Client, *, wait: bool, as_json: bool) -> None:
    async with client:
        said = None
        while True:
            calls = await client.drain()
            if calls != said:
                said = calls
                _say(calls, as_json=as_json)
            if not wait or not calls:
                return
            await asyncio.sleep(_PAUSE)


def _say(calls: int, *, as_json: bool) -> None:
    if as_json:
        show_json({"status": "draining", "calls": calls})
    elif calls:
        typer.echo(f"draining, {calls} call{'' if calls == 1 else 's'} left")
    else:
        typer.echo("drained, no call is left")
