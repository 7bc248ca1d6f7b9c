"""The command line: one module per verb, gathered here."""

from __future__ import annotations

import typer

from bridge.cli import calls, carrier, check, demo, dial, drain, hangup, reload, run, show

app = typer.Typer(
    name="trunkbridge",
    help="A SIP/RTP bridge between carrier trunks and LiveKit rooms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run", help=run.HELP)(run.run)
app.command("check", help=check.HELP)(check.check)
app.command("demo", help=demo.HELP)(demo.demo)
app.command("dial", help=dial.HELP)(dial.dial)
app.command("calls", help=calls.HELP)(calls.calls)
app.command("show", help=show.HELP)(show.show)
app.command("hangup", help=hangup.HELP)(hangup.hangup)
app.command("drain", help=drain.HELP)(drain.drain)
app.command("reload", help=reload.HELP)(reload.reload)
app.command("carrier", help=carrier.HELP)(carrier.carrier)
