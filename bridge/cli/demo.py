"""``trunkbridge demo``"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.options import JsonOption, fail
from bridge.errors import BridgeError

HELP = """Start a livekit-server, the bridge, a demo agent and the built-in carrier, place one
inbound and one outbound call with a hold and a resume, print both timelines, and stay up.

\b
Example: trunkbridge demo --once
"""


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Free ports; end after the calls, 0 if both worked.")
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="Where configuration, journal and logs of the demo go.")
    ] = Path(".cache/demo"),
    as_json: JsonOption = False,
) -> None:
    from bridge.demo.play import Play, choose_addresses  # late: slow to import

    async def play() -> bool:
        return await Play(choose_addresses(once=once), folder, as_json=as_json).run(once=once)

    try:
        worked = asyncio.run(play())
    except BridgeError as failure:
        fail(f"demo: {failure}")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not worked:
        raise typer.Exit(1)
