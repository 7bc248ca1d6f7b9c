"""A machine's snapshot as JSON, for the journal, and back.

Written from the types of the dataclasses, so a new field needs no line here. A field whose
metadata says ``secret`` is left out and has its default when read: keys of SRTP are never
on the disk, and a call whose process is gone only has to be ended.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from bridge.call.plan import CallPlan
from bridge.call.state import MachineSnapshot


def dump(saved: MachineSnapshot) -> dict[str, Any]:
    """Return the JSON object of *saved*."""
    document: dict[str, Any] = _dump(saved)
    return document


def load(document: Mapping[str, Any]) -> MachineSnapshot:
    """Return the snapshot that *document* (as made by `dump`) describes.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for another shape.
    """
    saved: MachineSnapshot = _load(MachineSnapshot, document)
    return saved


def dump_plan(plan: CallPlan) -> dict[str, Any]:
    """Return the JSON object of a plan, for a call that has not begun."""
    document: dict[str, Any] = _dump(plan)
    return document


def load_plan(document: Mapping[str, Any]) -> CallPlan:
    """Return the plan that *document* describes. Raises what `load` does.

    What an older version did not write has its default.
    """
    hints = _hints(CallPlan)
    names = [item.name for item in _written(CallPlan) if item.name in document]
    return CallPlan(**{name: _load(hints[name], document[name]) for name in names})


def _dump(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    names = _field_names(kind)  # type: ignore[arg-type]  # a type is hashable
    if names is not None:
        return {name: _dump(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_dump(key): _dump(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(_dump(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [_dump(item) for item in value]
    return value


_PLAIN: Final = frozenset((str, int, float, bool, type(None)))


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Return the names of a dataclass's fields, None for any other type."""
    return tuple(item.name for item in _written(kind)) if is_dataclass(kind) else None


@cache
def _written(kind: type) -> tuple[Field[Any], ...]:
    return tuple(item for item in fields(kind) if not item.metadata.get("secret"))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _load(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _load(next(arm for arm in typing.get_args(kind) if arm is not type(None)), value)
    if origin is not None:
        return _load_container(origin, typing.get_args(kind), value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(
            **{item.name: _load(hints[item.name], value[item.name]) for item in _written(kind)}
        )
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value


def _load_container(origin: Any, args: tuple[Any, ...], value: Any) -> Any:
    if origin is frozenset:
        return frozenset(_load(args[0], item) for item in value)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(_load(args[0], item) for item in value)
        return tuple(_load(arm, item) for arm, item in zip(args, value, strict=True))
    if issubclass(origin, Mapping):
        loaded = {_load(args[0], key): _load(args[1], item) for key, item in value.items()}
        return MappingProxyType(loaded)
    raise TypeError(origin)
