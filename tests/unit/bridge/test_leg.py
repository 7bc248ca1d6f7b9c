"""The SIP side of a call as the daemon plugs it in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bridge.adapters import Leg, LegDesk
from bridge.call.plan import CallPlan
from bridge.call.plan import Direction as CallDirection
from bridge.config.config import Config
from bridge.config.trunk import TrunkConfig
from bridge.sip.events import SessionId
from bridge.sip.headers import Reason
from bridge.sip.parameters import OutgoingInvite
from sdp.model import Direction

pytestmark = pytest.mark.unit

TRUNK = TrunkConfig(name="carrier", host="h.example")


class Recorder:
    """Notes each verb with its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, verb: str) -> Any:
        return lambda *arguments: self.calls.append((verb, *arguments))


def test_what_a_call_asks_of_its_session_reaches_the_user_agent() -> None:
    recorder = Recorder()
    agent: Any = recorder
    leg = Leg(agent, TRUNK, SessionId(7))
    leg.reoffer(Direction.SENDONLY)
    leg.probe()
    leg.bye()
    assert recorder.calls == [("reoffer", 7, Direction.SENDONLY), ("probe", 7), ("bye", 7, ())]


def test_a_number_is_referred_to_as_the_trunk_writes_numbers() -> None:
    """Row 96. Contract 3: number_format, domain, user_phone."""
    recorder = Recorder()
    agent: Any = recorder
    writes = {"number_format": "national-0", "domain": "d.example", "user_phone": True}
    leg = Leg(agent, TRUNK.model_copy(update=writes), SessionId(7))
    leg.refer("+918045678900", None)
    leg.refer("sip:a@b;transport=tcp", SessionId(8))
    assert recorder.calls == [
        ("refer", 7, "sip:08045678900@d.example;user=phone", None),
        ("refer", 7, "sip:a@b;transport=tcp", 8),
    ]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_far_end_may_refer_us_only_where_the_trunk_says_so(allowed: bool) -> None:
    """Row 95. refer_in, both ways of a call."""
    recorder = Recorder()
    agent: Any = recorder
    trunk = TRUNK.model_copy(update={"refer_in": allowed})
    leg = Leg(agent, trunk, SessionId(7))
    leg.answer_refer(202)
    leg.tell_referred(200)
    told = [("allow_refer", 7)] if allowed else []
    assert recorder.calls == [*told, ("answer_refer", 7, 202), ("tell_referred", 7, 200)]
    recorder.calls.clear()
    invite: Any = object
    outgoing = Leg(agent, trunk, None, invite)
    outgoing.dial()
    assert [call[0] for call in recorder.calls] == ["dial", *(["allow_refer"] if allowed else [])]


def test_the_reason_of_an_end_becomes_a_header_of_the_bye() -> None:
    recorder = Recorder()
    agent: Any = recorder
    Leg(agent, TRUNK, SessionId(7)).bye(Reason(protocol="Q.850", cause=102, text="media_timeout"))
    (call,) = recorder.calls
    assert call == ("bye", 7, (("Reason", 'Q.850;cause=102;text="media_timeout"'),))


class Line:
    """What a leg desk needs of the user agent, the engine and the ports, for an INVITE."""

    def local_address_for(self, _host: str, _port: int, _transport: str) -> str:
        return "192.0.2.1"

    def is_own(self, _port: int) -> bool:
        return False


def invite_of(number: str, **settings: Any) -> OutgoingInvite:
    line: Any = Line()
    values = {"name": "t", "host": "pstn.example.com", "caller_id": "+918047361000", **settings}
    trunk = TrunkConfig(**values)
    plan = CallPlan(
        call_id="c",
        direction=CallDirection.OUTBOUND,
        trunk="t",
        room="r",
        created_at=0.0,
        phone_number="+919876543210",
        trunk_number=number,
    )
    desk = LegDesk(Config(trunk=[trunk]), line, line, line, line)
    lease: Any = SimpleNamespace(address="127.0.0.1", port=20000)
    return desk._invite(plan, trunk, lease)


def test_an_invite_names_both_ends_as_the_trunk_wants_it() -> None:
    """Row 43. `domain`, `number_format` and `user_phone` in Request-URI, From and To."""
    invite = invite_of(
        "+918047361000", domain="acc.example.com", number_format="national-0", user_phone=True
    )
    assert invite.request_uri == "sip:09876543210@pstn.example.com;user=phone"
    assert invite.from_ == "<sip:08047361000@acc.example.com;user=phone>"
    assert invite.to == "<sip:09876543210@acc.example.com;user=phone>"
    assert (invite.headers, invite.reliable) == ((), False)


def test_an_invite_of_a_withheld_call_asserts_the_trunks_number_to_the_carrier() -> None:
    """Row 43. RFC 3325 9.3: nobody but the carrier learns who calls."""
    invite = invite_of("anonymous")
    assert "anonymous.invalid" in invite.from_
    assert dict(invite.headers)["Privacy"] == "id"
    assert "+918047361000" in dict(invite.headers)["P-Asserted-Identity"]
    assert "8047361000" not in f"{invite.from_} {invite.to} {invite.contact_user}"
