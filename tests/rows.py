"""The index of the tests by behaviour: the rows of `docs/carrier-rows.md` and their tests.

A test says in the first words of its docstring what it proves: ``Row 64.``, ``Rows 20, 21.``,
``R1 7.1.9.``, ``Status 486.``, ``Failure 7.2: title.``, ``Hold rule 2.3: title.``,
``Threat 5.1: title.`` (those are rows of `docs/security.md`); several may follow each other.
Nothing is imported, only read.

``python -m tests.rows`` writes the last column of the pages anew.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "carrier-rows.md"
SECURITY = TESTS.parent / "docs" / "security.md"
PENDING = "pending"

_NUMBERS = r"\d+(?:(?:, | and )\d+)*"
_POINTS = r"7\.1\.\d+(?:(?:, | and )7\.1\.\d+)*"
_LABEL = re.compile(
    rf"\s*(?:(?P<row>Rows? (?P<rows>{_NUMBERS}))"
    rf"|(?P<r1>R1 (?P<points>{_POINTS}))"
    r"|(?P<failure>Failure (?P<where>7\.[234]): (?P<what>[^.]+))"
    r"|(?P<status>Status(?:es)? (?P<statuses>[^.]+))"
    r"|(?P<hold>Hold rules? 2\.3: (?P<rule>[^.]+))"
    r"|(?P<threat>Threat (?P<part>5\.[12]): (?P<name>[^.]+)))\.(?=\s|$)"
)
_SEPARATOR = re.compile(r", | and ")
_LINE = re.compile(r"^\| (?P<key>[^|]+) \| (?P<rest>.*) \| (?P<tests>[^|]*) \|$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the page. ``level``: M must, S should, N refuse, empty where none is given."""

    key: str
    level: str
    tests: tuple[str, ...]
    pending: bool


def labels(docstring: str) -> list[str]:
    """Return the keys that *docstring* begins with: ``Row 20``, ``R1 7.1.9``, ..."""
    text = " ".join(docstring.split())
    found: list[str] = []
    at = 0
    while (match := _LABEL.match(text, at)) is not None:
        at = match.end()
        found.extend(_keys(match))
    return found


def _keys(match: re.Match[str]) -> Iterator[str]:
    if match["row"]:
        yield from (f"Row {number}" for number in _SEPARATOR.split(match["rows"]))
    elif match["r1"]:
        yield from (f"R1 {point}" for point in _SEPARATOR.split(match["points"]))
    elif match["failure"]:
        yield f"Failure {match['where']}: {match['what']}"
    elif match["status"]:
        yield from (f"Status {status}" for status in match["statuses"].split(", "))
    elif match["hold"]:
        yield f"Hold rule 2.3: {match['rule']}"
    else:
        yield f"Threat {match['part']}: {match['name']}"


@cache
def collect(folder: Path = TESTS) -> dict[str, set[str]]:
    """Return the tests of every key, as ``unit/sip/test_hold.py::test_name``."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not node.name.startswith("test_"):
                continue
            for key in labels(ast.get_docstring(node) or ""):
                name = f"{path.relative_to(folder).as_posix()}::{node.name}"
                found.setdefault(key.casefold(), set()).add(name)
    return found


def read_page(text: str) -> list[Row]:
    """Return the rows of the page in order."""
    rows = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["key"].strip() in ("row", "---"):
            continue
        cells = [cell.strip() for cell in match["rest"].split(" | ")]
        tests = re.findall(r"`([^`]+)`", match["tests"])
        rows.append(
            Row(
                key=match["key"].strip(),
                level=cells[0] if len(cells) > 1 else "",
                tests=tuple(tests),
                pending=match["tests"].strip() == PENDING,
            )
        )
    return rows


def renewed(text: str, found: dict[str, set[str]]) -> str:
    """Return the page with the tests that were *found*."""
    lines = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and match["key"].strip() not in ("row", "---"):
            tests = sorted(found.get(match["key"].strip().casefold(), ()))
            cell = ", ".join(f"`{test}`" for test in tests) or PENDING
            line = f"| {match['key']} | {match['rest']} | {cell} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in (PAGE, SECURITY):
        page.write_text(renewed(page.read_text("utf-8"), collect()), "utf-8")
    waiting = [row.key for row in read_page(PAGE.read_text("utf-8")) if row.pending]
    sys.stdout.write(f"{len(waiting)} pending: {', '.join(waiting)}\n")
