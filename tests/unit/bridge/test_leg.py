"""The SIP side of a call as the daemon plugs it in."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.adapters import Leg
from bridge.config import TrunkConfig
from bridge.sip.events import SessionId
from bridge.sip.headers import Reason
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
