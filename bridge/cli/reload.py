"""``trunkbridge reload``"""

from __future__ import annotations

import asyncio
from typing import NoReturn

import typer

from bridge.cli.options import (
    FAILED,
    ConfigOption,
    JsonOption,
    UrlOption,
    complain,
    fail,
    reach,
    show_json,
)
from bridge.config.loading import ConfigError
from trunkbridge.client import ApiError, Client

HELP = """Have a running daemon re-read its trunks, routes, workflows, plans and keys.

Prints what changed, and what waits for a restart. A bad configuration changes nothing:
one line per error, exit status 1.

\b
Example: trunkbridge reload
"""


def reload(
    url: UrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    try:
        changes = asyncio.run(_reload(reach(url, config)))
    except ConfigError as failure:  # where the daemon is stands in the very same file
        for line in failure.lines:
            complain(line)
        raise typer.Exit(FAILED) from None
    except ApiError as failure:
        _refused(failure, as_json=as_json)
    if as_json:
        show_json(changes)
        return
    for line in changes["changed"]:
        typer.echo(line)
    for line in changes["restart"]:
        typer.echo(f"{line} (needs a restart)")
    if not any(changes.values()):
        typer.echo("nothing changed")


async def _reload(client: Client) -> dict[str, list[str]]:
    async with client:
        return await client.reload()


def _refused(failure: ApiError, *, as_json: bool) -> NoReturn:
    errors = failure.problem.get("errors")
    if not errors:
        fail(f"reload: {failure}")
    if as_json:
        show_json(failure.problem)
    for error in errors:
        complain(str(error["message"]))
    raise typer.Exit(FAILED)
