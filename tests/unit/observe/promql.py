"""Just enough of PromQL to know which series an expression asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d[\w.]*)
    | (?P<name>[A-Za-z_:][\w:]*)
    | (?P<mark>=~|!~|!=|==|>=|<=|[-+*/%^(){},<>=@])
    """,
    re.VERBOSE,
)
_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
_AGGREGATIONS = frozenset(
    {"sum", "min", "max", "avg", "count", "stddev", "topk", "bottomk", "quantile", "group"}
)
_FUNCTIONS = frozenset(
    {"rate", "increase", "irate", "changes", "histogram_quantile", "time", "absent", "clamp_min"}
)


@dataclass
class Asked:
    """The selectors of an expression, as (metric, labels matched on), and labels grouped by."""

    selectors: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)

    @property
    def metrics(self) -> set[str]:
        return {metric for metric, _ in self.selectors}


def tokens(expression: str) -> list[tuple[str, str]]:
    """Return kind and text of every token; an unknown character is an error."""
    found, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ValueError(f"no PromQL at {expression[at : at + 20]!r}")
        at = match.end()
        kind = match.lastgroup or ""
        if kind != "space":
            found.append((kind, match[0]))
    return found


def asked(expression: str) -> Asked:
    """Return what *expression* asks for."""
    result, rest = Asked(), tokens(expression)
    while rest:
        kind, text = rest.pop(0)
        if kind != "name" or text in _WORDS:
            continue
        if text in _LISTS:
            result.grouped |= set(_names_within(rest, "(", ")"))
        elif text in _AGGREGATIONS | _FUNCTIONS:
            continue
        else:
            labels = _names_within(rest, "{", "}") if rest and rest[0][1] == "{" else []
            result.selectors.append((text, frozenset(labels)))
    return result


def _names_within(rest: list[tuple[str, str]], first: str, last: str) -> list[str]:
    if rest.pop(0)[1] != first:
        raise ValueError(f"{first} expected")
    names = []
    while (token := rest.pop(0))[1] != last:
        if token[0] == "name":
            names.append(token[1])
    return names
