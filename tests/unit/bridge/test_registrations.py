"""When trunks are registered, and what an operator is shown of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bridge import registrations as module
from bridge.adapters import next_hop_of, registration_of
from bridge.config.trunk import TrunkConfig
from bridge.observe.trunks import TrunkBoard
from bridge.registrations import Registrations
from bridge.sip.events import RegistrationChanged
from bridge.sip.registration import RegistrationSettings
from bridge.trunk.numbers import called_number
from tests.unit.trunk.test_numbers import invite

pytestmark = pytest.mark.unit


def trunk(name: str = "t", **changes: object) -> TrunkConfig:
    wanted = {"name": name, "host": "sip.example.com", "register": True, "username": "line1"}
    return TrunkConfig(**{**wanted, **changes})


def changed(what: str, name: str = "t", *, status: int | None = 200) -> RegistrationChanged:
    return RegistrationChanged(
        trunk=name,
        registered=what == "registered",
        what=what,
        status=status,
        expires=3600.0 if what == "registered" else 0.0,
        again=60.0,
    )


class Agent:
    """Writes down what is wanted; ``answers`` tells of removals at once."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, str]] = []
        self.tell: Callable[[RegistrationChanged], None] | None = None
        self.has_moved = asyncio.Event()

    def register(self, settings: RegistrationSettings) -> None:
        self.wanted.append(("register", settings.trunk))

    def unregister(self, trunk: str) -> None:
        self.wanted.append(("unregister", trunk))
        if self.tell is not None:
            self.tell(changed("removed", trunk))

    def moved(self, trunk: str) -> None:
        self.wanted.append(("moved", trunk))
        self.has_moved.set()


async def test_trunks_that_want_it_are_registered_and_a_reload_takes_others_back() -> None:
    """Row 99."""
    agent = Agent()
    registrations = Registrations(agent, registration_of)
    agent.tell = registrations.heard
    registrations.start([trunk("a"), trunk("b"), trunk("c", register=False)])
    registrations.start([trunk("b")])
    await registrations.stop(5)
    assert agent.wanted == [
        ("register", "a"),
        ("register", "b"),
        ("unregister", "a"),
        ("register", "b"),
        ("unregister", "b"),
    ]


async def test_the_stop_waits_for_the_answer_and_not_for_ever() -> None:
    """Row 99."""
    agent = Agent()
    registrations = Registrations(agent, registration_of)
    registrations.start([trunk()])
    stopping = asyncio.ensure_future(registrations.stop(15))
    await asyncio.sleep(0)
    registrations.heard(changed("registered"))
    await asyncio.sleep(0)
    assert not stopping.done()
    registrations.heard(changed("removed"))
    await asyncio.wait_for(stopping, 15)
    registrations.start([trunk()])
    await asyncio.wait_for(registrations.stop(0.01), 15)


async def test_a_trunk_that_cannot_be_written_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 99."""
    agent = Agent()

    def write(one: TrunkConfig) -> RegistrationSettings:
        if one.name == "a":
            raise ValueError("no")
        return registration_of(one)

    registrations = Registrations(agent, write)
    agent.tell = registrations.heard
    registrations.start([trunk("a"), trunk("b")])
    assert agent.wanted == [("register", "b")]
    await registrations.stop(5)


async def test_another_address_towards_the_registrar_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 99."""
    monkeypatch.setattr(module, "LOOK", 0.001)
    agent, here = Agent(), ["192.0.2.1"]
    registrations = Registrations(agent, registration_of, address=lambda _: here[0])
    agent.tell = registrations.heard
    registrations.start([trunk()])
    here[0] = "192.0.2.2"
    await asyncio.wait_for(agent.has_moved.wait(), 15)
    await registrations.stop(5)
    assert agent.wanted.count(("moved", "t")) == 1


def test_what_is_registered_is_the_user_at_the_domain_by_the_way_of_calls() -> None:
    """Row 99. RFC 3261 10.2."""
    settings = registration_of(
        trunk(domain="ours.example.com", outbound_proxy="proxy.example.com", password="s3cret")
    )
    assert settings.registrar == "sip:ours.example.com"
    assert settings.address_of_record == "<sip:line1@ours.example.com>"
    assert settings.contact_user == "line1"
    assert settings.next_hop == ("tcp", "proxy.example.com", None)
    assert settings.credentials is not None
    assert "s3cret" not in repr(settings)
    assert next_hop_of(trunk(port=5070)) == ("sip.example.com", 5070, "tcp")


def test_two_failed_registrations_say_down_and_a_good_one_up() -> None:
    """Row 99. Reported on the trunk's health."""
    board = TrunkBoard([trunk()])
    row = board.report({})[0]
    assert row["registration"] == {"state": "registering", "until": None, "sip_status": None}
    assert not board.registration(changed("refused", status=403), 1.0)
    assert not board.registration(changed("no_answer", status=None), 2.0)
    row = board.report({})[0]
    assert (row["status"], row["registration"]["state"]) == ("down", "no_answer")
    assert [(f["by"], f["sip_status"], f["reason"]) for f in row["last_failures"]] == [
        ("register", None, "register_no_answer"),
        ("register", 403, "register_refused"),
    ]
    assert board.registration(changed("registered"), 10.0)
    row = board.report({})[0]
    assert row["status"] == "up"
    assert row["registration"]["until"] == "1970-01-01T01:00:10.000Z"
    assert board.is_registered("t", 3609.0)
    assert not board.is_registered("t", 3610.0)
    assert board.registration(changed("removed"), 20.0)
    assert not board.is_registered("t", 20.0)
    assert board.registration(changed("refused", "unheard-of"), 20.0)
    board.replace([trunk(register=False)])
    assert board.report({})[0]["registration"] is None


def test_the_user_of_our_contact_is_no_number_that_was_dialled() -> None:
    """Row 99. Its P-Called-Party-ID or To is; with neither, better that than nothing."""
    plan = trunk()
    there = invite("sip:line1@192.0.2.1", To="<sip:+912233445566@h>")
    assert called_number(there, plan, own="line1").number == "+912233445566"
    bare = invite("sip:line1@192.0.2.1", To="<sip:h>")
    assert called_number(bare, plan, own="line1").number == "line1"
    other = invite("sip:+919999999999@192.0.2.1", To="<sip:+912233445566@h>")
    assert called_number(other, plan, own="line1").number == "+919999999999"
