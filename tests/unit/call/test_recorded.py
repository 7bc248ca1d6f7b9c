"""Which calls are recorded, from when to when; what breaks in it breaks nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.call.call import Call
from bridge.call.requests import BadRequest, DialRequest
from bridge.media.seam import Tap
from bridge.sip.events import Answered, EndCause, Ended
from tests.unit.call.desk import Desk, a_desk
from tests.unit.call.kit import negotiated

pytestmark = pytest.mark.unit

NUMBER = "+919876543210"


class Written:
    """A recording, as the call writes it."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.ends: list[float | None] = []

    def follow(self, tap: Tap) -> None: ...
    def end(self, seconds: float | None) -> None:
        self.ends.append(seconds)


class Recorder:
    def __init__(self) -> None:
        self.begun: list[Written] = []
        self.failure: Exception | None = None

    def begin(self, call_id: str) -> Written:
        if self.failure is not None:
            raise self.failure
        self.begun.append(Written(call_id))
        return self.begun[-1]


def request(**changes: Any) -> DialRequest:
    return DialRequest(**{"phone_number": NUMBER, "agent": "support", **changes})


async def answered(desk: Desk, **fields: Any) -> Call:
    """Dial and have the far end answer."""
    accepted = await desk.service.dial(request(**fields))
    await desk.dialled.wait()
    call = desk.service.call(accepted.call_id)
    assert call is not None
    session = call.sip.session
    assert session is not None
    desk.service.on_sip(Answered(session=session, negotiated=negotiated(), status=200))
    return call


async def hung_up(desk: Desk, call: Call) -> None:
    session = call.sip.session
    assert session is not None
    desk.service.on_sip(Ended(session=session, cause=EndCause.BYE, status=None, q850=None))
    await desk.idle()


async def test_a_call_is_recorded_from_its_answer_to_its_end(tmp_path: Path) -> None:
    recorder = Recorder()
    async with a_desk(tmp_path / "journal.db", recorder=recorder) as desk:
        call = await answered(desk, record=True)
        (written,) = recorder.begun
        assert (written.call_id, desk.recorded) == (call.call_id, [written])
        desk.now += 12.5
        await hung_up(desk, call)
        assert written.ends == [12.5]
        assert call.record.private == {"record": True}


@pytest.mark.parametrize(("asked", "recorded"), [(True, 1), (False, 0), (None, 1)])
async def test_where_a_request_has_no_word_for_it_the_configuration_decides(
    tmp_path: Path, asked: bool | None, recorded: int
) -> None:
    recorder = Recorder()
    async with a_desk(tmp_path / "journal.db", recorder=recorder) as desk:
        call = await answered(desk, record=asked)
        await hung_up(desk, call)
    assert len(recorder.begun) == recorded


async def test_without_a_place_for_recordings_nobody_is_promised_one(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "journal.db") as desk:
        with pytest.raises(BadRequest) as refused:
            await desk.service.dial(request(record=True))
        call = await answered(desk, record=None)
        await hung_up(desk, call)
        assert call.record.private == {}
    assert refused.value.field == "record"


@pytest.mark.parametrize("recorder", [None, Recorder()])
async def test_a_call_that_comes_in_is_recorded_where_recordings_are_on(
    tmp_path: Path, recorder: Recorder | None
) -> None:
    async with a_desk(tmp_path / "journal.db", recorder=recorder) as desk:
        desk.tell(desk.invite())
        (call_id,) = desk.service.running
        call = desk.service.call(call_id)
        assert call is not None
        assert call.plan.record is (recorder is not None)


async def test_a_call_that_nobody_answered_has_no_recording(tmp_path: Path) -> None:
    recorder = Recorder()
    async with a_desk(tmp_path / "journal.db", recorder=recorder) as desk:
        accepted = await desk.service.dial(request(record=True))
        await desk.dialled.wait()
        await desk.service.hang_up(accepted.call_id)
        await desk.idle()
    assert recorder.begun == []


async def test_a_recorder_that_fails_costs_no_call(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.failure = RuntimeError("a bug")
    async with a_desk(tmp_path / "journal.db", recorder=recorder) as desk:
        call = await answered(desk, record=True)
        assert call.record.status == "active"
        await hung_up(desk, call)
        assert call.record.outcome == "completed"
