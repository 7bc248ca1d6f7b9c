"""Which trunk and which route an inbound call belongs to. Pure.

Contract 3, "Sources" and ``[[route]]``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from bridge.sip.message import Request
from bridge.trunk.numbers import Number, NumberPlan, called_number, is_number_of


class RouteRule(Protocol):
    """What is read of a route's configuration."""

    @property
    def trunk(self) -> str: ...
    @property
    def number(self) -> str: ...


class TrunkRule(NumberPlan, Protocol):
    """What is read of a trunk's configuration."""

    @property
    def name(self) -> str: ...
    @property
    def registered_user(self) -> str: ...


Route = TypeVar("Route", bound=RouteRule)
Trunk = TypeVar("Trunk", bound=TrunkRule)


def find_route(routes: Sequence[Route], trunk: TrunkRule, called: Number) -> Route | None:
    """Return the first route of *trunk* for the *called* number, or None."""
    for route in routes:
        if route.trunk in ("", trunk.name) and is_number_of(route.number, called, trunk):
            return route
    return None


def choose_trunk(
    trunks: Sequence[Trunk],
    routes: Sequence[Route],
    matching: Collection[str],
    request: Request,
) -> tuple[Trunk, Number, Route | None] | None:
    """Return the trunk of an inbound INVITE, the called number and its route.

    *trunks* in the order of the file, *matching* the names of those whose
    ``allow`` includes the source. Of several: the first that has a route for the
    number, else the first in the file, without a route. None when none matches.
    """
    fallback: tuple[Trunk, Number, Route | None] | None = None
    for trunk in trunks:
        if trunk.name not in matching:
            continue
        called = called_number(request, trunk, own=trunk.registered_user)
        route = find_route(routes, trunk, called)
        if route is not None:
            return trunk, called, route
        fallback = fallback or (trunk, called, None)
    return fallback
