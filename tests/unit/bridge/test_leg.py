"""The SIP side of a call as the daemon plugs it in."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.adapters import Leg
from bridge.sip.events import SessionId
from bridge.sip.headers import Reason
from sdp.model import Direction

pytestmark = pytest.mark.unit


class Recorder:
    """Notes each verb with its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, verb: str) -> Any:
        return lambda *arguments: self.calls.append((verb, *arguments))


def test_what_a_call_asks_of_its_session_reaches_the_user_agent() -> None:
    recorder = Recorder()
    agent: Any = recorder
    leg = Leg(agent, SessionId(7))
    leg.reoffer(Direction.SENDONLY)
    leg.probe()
    leg.bye()
    assert recorder.calls == [("reoffer", 7, Direction.SENDONLY), ("probe", 7), ("bye", 7, ())]


def test_the_reason_of_an_end_becomes_a_header_of_the_bye() -> None:
    recorder = Recorder()
    agent: Any = recorder
    Leg(agent, SessionId(7)).bye(Reason(protocol="Q.850", cause=102, text="media_timeout"))
    (call,) = recorder.calls
    assert call == ("bye", 7, (("Reason", 'Q.850;cause=102;text="media_timeout"'),))
