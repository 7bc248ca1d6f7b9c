"""Calls as rows, and SIP messages as arrows, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

HEADINGS: Final = ("CALL", "NUMBER", "DIRECTION", "TRUNK", "STATUS", "TALKING", "BEGAN")
_NARROW: Final = ("CALL", "NUMBER", "STATUS", "TALKING")
_WIDE: Final = 130  # columns that all headings need
_STYLES: Final[Mapping[str, str]] = {
    "active": "green",
    "pending": "cyan",
    "connecting": "cyan",
    "completed": "dim",
}
_SPAN: Final = 56  # columns between the two lines of the ladder


def row_of(call: Mapping[str, Any], now: datetime | None = None) -> tuple[str, ...]:
    """Return what a table says of a call; times are UTC."""
    return (
        str(call["id"]),
        str(call["phone_number"] or "withheld"),
        str(call["direction"]),
        str(call["trunk"]),
        word_of(call),
        talking(call, now or datetime.now(UTC)),
        str(call["created_at"])[:19].replace("T", " "),
    )


def word_of(call: Mapping[str, Any]) -> str:
    """Return how a call is, or how it ended, in a few words."""
    if call["outcome"] is None:
        return "on hold" if call["hold"] else str(call["status"])
    outcome, reason = str(call["outcome"]), call["reason"]
    return outcome if reason in (None, outcome) else f"{outcome} ({reason})"


def talking(call: Mapping[str, Any], now: datetime) -> str:
    """Return how long both sides were connected, as M:SS; nothing before the answer."""
    if call["started_at"] is None:
        return ""
    seconds = call["duration_seconds"]
    if seconds is None:
        seconds = max(0, int((now - datetime.fromisoformat(call["started_at"])).total_seconds()))
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain(calls: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table's lines, nothing cut."""
    rows = [HEADINGS, *(row_of(call) for call in calls)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def pretty(calls: Sequence[Mapping[str, Any]], width: int, title: str | None = None) -> Table:
    """Return a table for a terminal of *width* columns; a narrow one gets the least."""
    headings = HEADINGS if width >= _WIDE else _NARROW
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for call in calls:
        row = dict(zip(HEADINGS, row_of(call), strict=True))
        if headings is _NARROW:
            row["STATUS"] = row["STATUS"].partition(" (")[0]
        # As text: a number may be whatever a caller wrote, and rich reads [tags] in a str.
        table.add_row(*(Text(row[heading]) for heading in headings), style=_style(call))
    return table


def _style(call: Mapping[str, Any]) -> str:
    if call["hold"]:
        return "yellow"
    return _STYLES.get(str(call["status"]), "red")


def ladder_lines(rungs: Sequence[Mapping[str, Any]], *, fancy: bool) -> Iterator[str]:
    """Yield the SIP messages as arrows between the carrier and the bridge; *fancy*: no ASCII."""
    bar, dash, left, right = ("│", "─", "◀", "▶") if fancy else ("|", "-", "<", ">")
    peers = dict.fromkeys(f"{rung['transport']} {rung['peer']}" for rung in rungs)
    margin = " " * 12
    yield f"{margin}  {'carrier':<{_SPAN - 4}}bridge"
    yield f"{margin}  {', '.join(peers)}"
    for rung in rungs:
        label = f" {_label(rung)} "[:_SPAN]
        if rung["direction"] == "in":
            arrow = f"{bar}{label.center(_SPAN, dash)}{dash}{right}{bar}"
        else:
            arrow = f"{bar}{left}{dash}{label.center(_SPAN, dash)}{bar}"
        yield f"{str(rung['at'])[11:23]}  {arrow}"


def _label(rung: Mapping[str, Any]) -> str:
    text = str(rung["first_line"]).removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")
    room = _SPAN - 4
    sdp = rung["sdp_direction"]
    if sdp is None:
        return text if len(text) <= room else f"{text[: room - 1]}…"
    room -= len(sdp) + 3
    return f"{text if len(text) <= room else text[: room - 1] + '…'} [{sdp}]"
