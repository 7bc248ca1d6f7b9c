"""``trunkbridge hangup``"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bridge.cli.options import ConfigOption, JsonOption, UrlOption, client_of, fail, show_json
from trunkbridge.client import ApiError, Client

HELP = """Hang up a call of a running daemon (CANCEL before its answer).

\b
Example: trunkbridge hangup 5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11
"""


def hangup(
    call_id: Annotated[str, typer.Argument(metavar="CALL_ID")],
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    try:
        asyncio.run(_hangup(client_of(url, config), call_id))
    except ApiError as failure:
        fail(f"hangup: {failure}")
    if as_json:
        show_json({"call_id": call_id})


async def _hangup(client: Client, call_id: str) -> None:
    async with client:
        await client.call(call_id).hangup()
