"""Lists of calls, each along an index: which one, and in what order.

A tenant's key sees the tenant's calls and those of nobody, several statuses are several
lists: each is read along its own index and the database merges them, so that a page costs
what it shows and not what there is. Totals are counted in the index alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, or_, select, union_all

from bridge.store.tables import KEY, calls, transcripts

SortBy = Literal["created_at", "started_at"]
SHOWN: Final = ("id", "record", "private", "instance", "tenant_id", "erased_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls, in which order; what is None or empty does not matter.

    ``tenant``: that tenant's calls and those without one; None: everybody's. Times are
    seconds since the epoch, their ends excluded. ``passthrough``: a person in the room
    speaks. ``only_sessions``: voice sessions. Without ``sort_by`` the newest come first, by
    their start where starts are asked for.
    """

    tenant: str | None = None
    status: str | None = None
    statuses: Sequence[str] = ()
    workflow_id: str | None = None
    user_id: str | None = None
    call_type: str | None = None
    direction: str | None = None
    to_number: str | None = None
    passthrough: bool | None = None
    started_after: float | None = None
    started_before: float | None = None
    created_after: float | None = None
    created_before: float | None = None
    only_sessions: bool = False
    sort_by: SortBy | None = None
    ascending: bool = False

    @property
    def order(self) -> SortBy:
        """What the list is sorted by."""
        if self.sort_by is not None:
            return self.sort_by
        by_start = self.started_after is not None or self.started_before is not None
        return "started_at" if by_start else "created_at"


def page_of(wanted: CallFilter, *, limit: int, offset: int) -> Select[Any]:
    """Return the question for a page of `SHOWN`.

    Building it costs more than asking it: the same page is built once.
    """
    return _page_of(replace(wanted, statuses=tuple(wanted.statuses)), limit, offset)


@lru_cache(maxsize=256)
def _page_of(wanted: CallFilter, limit: int, offset: int) -> Select[Any]:
    place = calls.c[wanted.order]
    shown = (*(calls.c[name] for name in SHOWN), place.label("place"))
    branches = [
        select(*shown).where(*one).order_by(*_along(wanted, place, calls.c.id))
        for one in _branches(wanted)
    ]
    if len(branches) == 1:
        return branches[0].limit(limit).offset(offset)
    # Of each no more than the page can show: what is left to sort is a handful.
    heads = [select(one.limit(offset + limit).subquery()) for one in branches]
    merged = union_all(*heads).subquery()
    return (
        select(merged)
        .order_by(*_along(wanted, merged.c.place, merged.c.id))
        .limit(limit)
        .offset(offset)
    )


def _along(wanted: CallFilter, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return list(columns) if wanted.ascending else [one.desc() for one in columns]


def total_of(wanted: CallFilter) -> Select[Any]:
    """Return the question for how many there are."""
    counts = [
        select(func.count()).select_from(calls).where(*one).scalar_subquery()
        for one in _branches(wanted)
    ]
    total = counts[0]
    result: ColumnElement[Any] = total
    for one in counts[1:]:
        result = result + one
    return select(result)


def _branches(wanted: CallFilter) -> list[list[ColumnElement[bool]]]:
    shared = _conditions(wanted)
    statuses = list(dict.fromkeys(wanted.statuses or ((wanted.status,) if wanted.status else ())))
    tenants: list[ColumnElement[bool] | None] = [None]
    if wanted.tenant is not None:
        tenants = [calls.c.tenant_id == key(wanted.tenant), calls.c.tenant_id.is_(None)]
    by_status: list[ColumnElement[bool] | None] = [None]
    if statuses:
        by_status = [calls.c.status == one for one in statuses]
    return [
        [one for one in (tenant, status) if one is not None] + shared
        for tenant, status in product(tenants, by_status)
    ]


def _conditions(wanted: CallFilter) -> list[ColumnElement[bool]]:
    column = calls.c
    found: list[ColumnElement[bool]] = []
    for name, value in (
        ("workflow_id", wanted.workflow_id),
        ("user_id", wanted.user_id),
        ("call_type", wanted.call_type),
        ("direction", wanted.direction),
        ("phone_number", wanted.to_number),
    ):
        if value is not None:
            found.append(column[name] == key(value))
    if wanted.passthrough is not None:  # literally: so stands it in the index
        found.append(literal_column(f"is_passthrough = {int(wanted.passthrough)}"))
    if wanted.only_sessions:
        found.append(literal_column("is_session = 1"))
    for edge, where in (
        (wanted.started_after, column.started_at.__gt__),
        (wanted.started_before, column.started_at.__lt__),
        (wanted.created_after, column.created_at.__gt__),
        (wanted.created_before, column.created_at.__lt__),
    ):
        if edge is not None:
            found.append(where(edge))
    return found


def turns_of(call_ids: Sequence[str]) -> Select[Any]:
    """Return the question for how many turns the transcripts of *call_ids* have.

    A turn begins with the first words of all, and where the user speaks after the agent.
    """
    column = transcripts.c
    before = func.lag(column.speaker).over(
        partition_by=column.call_id, order_by=(column.at, column.place)
    )
    lines = (
        select(column.call_id, column.speaker, before.label("before"))
        .where(column.call_id.in_(call_ids), column.speaker.in_(("USER", "AGENT")))
        .subquery()
    )
    begins = or_(
        lines.c.before.is_(None), and_(lines.c.speaker == "USER", lines.c.before == "AGENT")
    )
    return (
        select(lines.c.call_id, func.count().label("turns")).where(begins).group_by(lines.c.call_id)
    )


def key(value: str) -> str:
    """Return *value* as the columns have it that are searched by."""
    return value[:KEY].replace("\x00", "\ufffd")
