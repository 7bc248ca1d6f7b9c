"""What an observer of calls is told, and that it costs no call anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.call.observed import Guarded
from bridge.call.plan import CallPlan
from bridge.call.ports import CallObserver, Watched
from bridge.call.requests import BadRequest, DialRequest
from bridge.events import CallEnded, CallEvent
from tests.unit.call.desk import Desk, config

pytestmark = pytest.mark.unit


class Heard(CallObserver):
    """Notes everything."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def began(self, call: Watched, now: float) -> None:
        self.notes.append(("began", call.plan.trunk, now))

    def gone(self, call: Watched) -> None:
        self.notes.append(("gone", call.plan.trunk))

    def told(self, plan: CallPlan, event: CallEvent) -> None:
        self.notes.append(("told", plan.trunk, event.name))

    def dial_refused(self, why: Exception) -> None:
        self.notes.append(("dial_refused", type(why)))

    def published(self, event: CallEvent, seconds: float) -> None:
        self.notes.append(("published", event.name, seconds))

    def joined(self, *, seconds: float, again: bool, ok: bool) -> None:
        self.notes.append(("joined", seconds, again, ok))


def desk(tmp_path: Path, observer: CallObserver) -> Desk:
    made = Desk(tmp_path / "journal.db", config())
    made.service._observer = Guarded(observer)
    return made


async def test_an_outbound_call_is_told_from_beginning_to_end(tmp_path: Path) -> None:
    heard = Heard()
    made = desk(tmp_path, heard)
    made.dial_fails_at_once = True
    await made.service.dial(DialRequest(phone_number="+919876543210", trunk="exotel"))
    await made.idle()
    assert heard.notes[0] == ("began", "exotel", 1000.0)
    assert ("joined", 0.0, False, True) in heard.notes
    assert ("published", "call_ended", 0.0) in heard.notes
    assert heard.notes[-2:] == [("told", "exotel", "call_ended"), ("gone", "exotel")]
    made.journal.close()


async def test_a_refused_call_is_told_although_it_never_began(tmp_path: Path) -> None:
    heard = Heard()
    made = desk(tmp_path, heard)
    made.service.drain()
    made.tell(made.invite())
    assert heard.notes == [("told", "exotel", "call_ended")]
    assert isinstance(made.published[0], CallEnded)
    made.journal.close()


async def test_a_request_that_becomes_no_call_is_told(tmp_path: Path) -> None:
    heard = Heard()
    made = desk(tmp_path, heard)
    with pytest.raises(BadRequest):
        await made.service.dial(DialRequest(phone_number="+919876543210", trunk="nowhere"))
    assert heard.notes == [("dial_refused", BadRequest)]
    made.journal.close()


async def test_an_observer_that_raises_is_logged_and_the_call_goes_on(tmp_path: Path) -> None:
    class Failing(CallObserver):
        def told(self, plan: CallPlan, event: CallEvent) -> None:
            raise RuntimeError("a bug")

        def began(self, call: Watched, now: float) -> None:
            raise RuntimeError("a bug")

        def cause_at(self, now: float) -> float:
            raise RuntimeError("a bug")

    made = desk(tmp_path, Failing())
    made.dial_fails_at_once = True
    with structlog.testing.capture_logs() as logs:
        await made.service.dial(DialRequest(phone_number="+919876543210", trunk="exotel"))
        await made.idle()
    assert [event.name for event in made.published] == ["call_ended"]
    assert {log["heard"] for log in logs if log["event"] == "call.observer_failed"} == {
        "began",
        "told",
        "cause_at",
    }
    made.journal.close()
