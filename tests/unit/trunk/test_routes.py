"""Which trunk and route an inbound call belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.config.trunk import RouteConfig, TrunkConfig
from bridge.sip.message import Headers, Request
from bridge.trunk.numbers import called_number
from bridge.trunk.routes import choose_trunk, find_route

pytestmark = pytest.mark.unit

CALLED = Request("INVITE", "sip:09876543210@h", Headers())


def trunk(name: str, **settings: Any) -> TrunkConfig:
    return TrunkConfig(**{"name": name, "host": "h.example.com", **settings})


A, B, C = trunk("a"), trunk("b"), trunk("c")


def test_the_first_matching_route_wins() -> None:
    first = RouteConfig(number="+919876543210", agent="first")
    routes = [RouteConfig(number="1000"), first, RouteConfig(number="*")]
    assert find_route(routes, A, called_number(CALLED, A)) is first


def test_a_route_of_another_trunk_does_not_count() -> None:
    mine = RouteConfig(trunk="b", number="*")
    routes = [RouteConfig(trunk="a", number="*"), mine]
    assert find_route(routes, B, called_number(CALLED, B)) is mine
    assert find_route(routes[:1], B, called_number(CALLED, B)) is None


def test_of_several_trunks_the_first_with_a_route_is_chosen() -> None:
    route = RouteConfig(trunk="b", number="9876543210")
    chosen = choose_trunk([A, B, C], [route, RouteConfig(trunk="c")], {"a", "b", "c"}, CALLED)
    assert chosen is not None
    assert (chosen[0], chosen[1].number, chosen[2]) == (B, "+919876543210", route)


def test_without_a_route_the_first_matching_trunk_of_the_file_is_chosen() -> None:
    chosen = choose_trunk([A, B, C], [RouteConfig(trunk="a")], {"c", "b"}, CALLED)
    assert chosen is not None
    assert (chosen[0], chosen[2]) == (B, None)


def test_a_number_is_read_with_the_country_of_each_trunk() -> None:
    """Failure 7.3: trunk number matched exactly."""
    called = Request("INVITE", "sip:02079460000@h", Headers())
    british = trunk("gb", country="GB")
    chosen = choose_trunk([A, british], [RouteConfig(number="+442079460000")], {"a", "gb"}, called)
    assert chosen is not None
    assert chosen[0] is british


def test_no_matching_trunk_is_no_trunk() -> None:
    assert choose_trunk([A], [RouteConfig()], set(), CALLED) is None
