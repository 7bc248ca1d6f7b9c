"""What a reload changed: one line per setting, secrets never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from bridge.config.config import Config

_NAMES: Final[Mapping[str, str]] = {
    "trunk": "name",
    "workflow": "slug",
    "plan": "name",
    "http.key": "name",
}
"""Arrays of tables whose entries are told apart by a key; others by their place."""
_RELOADED: Final = ("trunk", "route", "workflow", "plan", "http.key")
"""What is in force at once; everything else needs a restart (contract 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """``changed`` is in force, ``restart`` waits for a restart; one line per setting."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]

    def as_dict(self) -> dict[str, list[str]]:
        """Return the JSON object of ``POST /api/v1/reload``."""
        return {"changed": list(self.changed), "restart": list(self.restart)}


def changes(old: Config, new: Config) -> Changes:
    """Return what differs between the settings in force and those just read."""
    changed: list[str] = []
    restart: list[str] = []
    for key, line in _table("", old.model_dump(by_alias=True), new.model_dump(by_alias=True)):
        (changed if key.startswith(_RELOADED) else restart).append(f"{key}: {line}")
    return Changes(changed=tuple(changed), restart=tuple(restart))


def _table(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in dict.fromkeys((*old, *new)):
        where = f"{path}.{key}" if path else key
        yield from _value(where, old.get(key), new.get(key))


def _value(where: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _table(where, old, new)
    elif _is_tables(old) and _is_tables(new):
        yield from _entries(where, _named(where, old), _named(where, new))
    else:
        yield where, f"{_shown(old)} -> {_shown(new)}" if not _is_secret(new) else "changed"


def _entries(
    where: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*old, *new)):
        entry = f"{where}[{name}]"
        if name not in new:
            yield entry, "removed"
        elif name not in old:
            yield entry, "added"
        else:
            yield from _value(entry, old[name], new[name])
    if [n for n in old if n in new] != [n for n in new if n in old]:
        yield where, "another order"


def _named(where: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    key = _NAMES.get(where)
    return {str(entry[key] if key else index): entry for index, entry in enumerate(entries)}


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


def _is_secret(value: Any) -> bool:
    return isinstance(value, SecretStr)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "nothing"
        case str():
            return f'"{value}"'
        case _:
            return str(value)
