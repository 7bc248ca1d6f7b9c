"""``trunkbridge carrier``"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.carrier.manual import LANGUAGE
from bridge.cli.options import JsonOption

HELP = """A carrier to develop against: answers or dials by a script, prints what it saw as
JSON lines, exits 1 when an expectation fails. Without --calls it answers until Ctrl-C or SIGTERM,
which end the calls that run.

\b
Script: answer after 2s; talk 5s; hold sendonly 3s; resume; dtmf 12#; hangup

\b
Example:
  trunkbridge carrier --dial sip:+918047361000@127.0.0.1:5070 --script "talk 5s; hangup"

""" + "\n\n".join(f"\b\n{paragraph}" for paragraph in LANGUAGE.split("\n\n"))


def carrier(
    listen: Annotated[str, typer.Option(help="HOST:PORT for TCP and UDP.")] = "127.0.0.1:5090",
    dial: Annotated[str | None, typer.Option(metavar="URI", help="Dial this SIP URI.")] = None,
    script: Annotated[str | None, typer.Option(help="What each call does.")] = None,
    from_: Annotated[str, typer.Option("--from", help="The caller's number.")] = "+919876543210",
    wav: Annotated[Path | None, typer.Option(help="What talk says: a WAV file.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write what was heard: a WAV file.")] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, help="How many calls to dial, or to answer.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Calls dialled a second.")] = 1.0,
    called: Annotated[
        str,
        typer.Option(
            metavar="NUMBER",
            help="Wait until the URI of --dial has registered here, then call NUMBER there.",
        ),
    ] = "",
    user: Annotated[str | None, typer.Option(help="Challenge with this USER:PASSWORD.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Calls from elsewhere get 403. May be repeated."),
    ] = None,
    srtp: Annotated[
        str, typer.Option(help="off, optional (RTP/AVP with keys) or required (RTP/SAVP).")
    ] = "off",
    as_json: JsonOption = False,  # noqa: ARG001 (it always prints JSON lines)
) -> None:
    credentials = None
    if user is not None:
        name, _, password = user.partition(":")
        credentials = (name, password)
    raise typer.Exit(
        asyncio.run(
            _run(
                listen=listen,
                dial=dial,
                script=script,
                from_=from_,
                wav=wav,
                record=record,
                calls=calls,
                rate=rate,
                called=called,
                credentials=credentials,
                allow=allow or (),
                srtp=srtp,
            )
        )
    )


async def _run(**given: Any) -> int:
    """Run the carrier until it is done, or SIGINT or SIGTERM: then it ends its calls first."""
    from bridge.carrier.command import run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await run(stop=stop, **given)
