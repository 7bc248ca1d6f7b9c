"""What every door may ask, and what the states of a call forbid."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.call.call import Call
from bridge.call.commands import HoldResult
from bridge.call.control import send_digits, set_hold
from bridge.call.inputs import DigitsAsked
from bridge.call.requests import (
    BadConfiguration,
    BadRequest,
    DialRequest,
    NotAllowed,
    NotDone,
    Unavailable,
    WrongState,
)
from bridge.call.switchboard import Switchboard
from bridge.config.loading import ConfigError
from bridge.ua.tap import Ladder
from tests.unit.call.desk import Desk, a_desk
from tests.unit.call.kit import Bench
from tests.unit.call.test_service import take

pytestmark = pytest.mark.unit

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NUMBER = "+919876543210"


class House:
    """A daemon that notes what it is asked."""

    def __init__(self) -> None:
        self.drained = 0
        self.errors: list[str] = []

    def drain(self) -> None:
        self.drained += 1

    async def reread(self) -> dict[str, list[str]]:
        if self.errors:
            raise ConfigError(self.errors)
        return {"changed": [], "restart": []}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def board(desk: Desk, house: House | None = None, ladder: Ladder | None = None) -> Switchboard:
    return Switchboard(desk.service, desk.journal, house or House(), (ladder or Ladder()).of)


async def dialled(desk: Desk, switchboard: Switchboard) -> str:
    desk.dialled.clear()
    accepted = await switchboard.dial(DialRequest(phone_number=NUMBER, agent="support"))
    await desk.dialled.wait()
    return accepted.call_id


async def test_calls_are_listed_newest_first_running_ones_as_they_are_now(path: Path) -> None:
    async with a_desk(path) as desk:
        switchboard = board(desk)
        refused = await take(desk, b"1000")
        first = await dialled(desk, switchboard)
        second = await dialled(desk, switchboard)
        found, total = await switchboard.calls()
        assert ([call["id"] for call in found], total) == ([second, first, refused["id"]], 3)
        assert [call["status"] for call in found] == ["connecting", "connecting", "failed"]
        page, total = await switchboard.calls(limit=1, offset=1)
        assert ([call["id"] for call in page], total) == ([first], 3)
        live, total = await switchboard.calls(status="connecting", limit=1)
        assert ([call["id"] for call in live], total) == ([second], 2)
        assert await switchboard.calls(status="pending") == ([], 0)
        over, total = await switchboard.calls(status="failed")
        assert ([call["id"] for call in over], total) == ([refused["id"]], 1)


async def test_a_journal_that_cannot_be_read_is_unavailable(path: Path) -> None:
    async with a_desk(path) as desk:
        await dialled(desk, board(desk))
        desk.journal.path = path / "nowhere"
        with pytest.raises(Unavailable):
            await board(desk).calls()
        desk.journal.path = path


async def test_a_ladder_is_found_by_the_calls_own_id_also_after_its_end(path: Path) -> None:
    async with a_desk(path) as desk:
        ladder = Ladder()
        switchboard = board(desk, ladder=ladder)
        invite = desk.invite(b"1000")
        raw = b"INVITE sip:1000@192.0.2.1 SIP/2.0\r\nCall-ID: abc\r\n\r\n"
        ladder.received(raw, invite.flow)
        refused = await take(desk, b"1000")
        (rung,) = await switchboard.ladder(refused["id"]) or []
        assert rung["first_line"] == "INVITE sip:***@192.0.2.1 SIP/2.0"
        assert (rung["direction"], rung["sdp_direction"]) == ("in", None)
        assert (rung["transport"], rung["peer"]) == ("tcp", "192.0.2.9")
        assert rung["at"].endswith("Z")
        call_id = await dialled(desk, switchboard)
        assert len(await switchboard.ladder(call_id) or []) == 1
        await desk.service.hang_up(call_id)
        await desk.idle()
        assert len(await switchboard.ladder(call_id) or []) == 1
        assert await switchboard.ladder(UNKNOWN) is None
        assert await board(desk).ladder(call_id) == []  # evicted


async def test_the_ids_of_dialogs_are_kept_for_the_last_calls_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.call.service.DIALOGS_KEPT", 2)
    async with a_desk(path) as desk:
        calls = [(await take(desk, b"1000"))["id"] for _ in range(3)]
        assert [desk.service.sip_call_id(one) for one in calls] == [None, "abc", "abc"]
        assert await board(desk).ladder(calls[0]) == []


VERBS: list[tuple[str, Callable[[Switchboard, str], Awaitable[bool]]]] = [
    ("hold", lambda switchboard, call: switchboard.hold(call)),
    ("resume", lambda switchboard, call: switchboard.resume(call)),
    ("dtmf", lambda switchboard, call: switchboard.send_dtmf(call, "1")),
]


@pytest.mark.parametrize("verb", [verb for _, verb in VERBS], ids=[name for name, _ in VERBS])
async def test_a_call_that_is_not_answered_or_over_forbids_it(
    path: Path, verb: Callable[[Switchboard, str], Awaitable[bool]]
) -> None:
    async with a_desk(path) as desk:
        switchboard = board(desk)
        assert not await verb(switchboard, UNKNOWN)
        call_id = await dialled(desk, switchboard)
        with pytest.raises(WrongState, match="not answered"):
            await verb(switchboard, call_id)
        await switchboard.hang_up(call_id)
        await desk.idle()
        with pytest.raises(WrongState, match="has ended"):
            await verb(switchboard, call_id)


async def test_a_transfer_is_forbidden_unless_the_trunk_allows_it(path: Path) -> None:
    to = "+918045678900"
    async with a_desk(path) as desk:
        switchboard = board(desk)
        assert not await switchboard.transfer(UNKNOWN, to)
        call_id = await dialled(desk, switchboard)
        with pytest.raises(NotAllowed):
            await switchboard.transfer(call_id, to)
        with pytest.raises(BadRequest):
            await switchboard.transfer(call_id, "bob")
        await switchboard.hang_up(call_id)
        await desk.idle()
        with pytest.raises(WrongState, match="has ended"):
            await switchboard.transfer(call_id, to)


def fake_call(result: HoldResult = HoldResult.DONE, state: Any = None) -> tuple[Call, list[Any]]:
    posted: list[Any] = []

    async def answer(*, hold: bool) -> HoldResult:
        posted.append(hold)
        return result

    return cast(Call, SimpleNamespace(set_hold=answer, state=state, post=posted.append)), posted


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("result", HoldResult)
async def test_every_end_of_a_hold_is_told(result: HoldResult, hold: bool) -> None:
    call, posted = fake_call(result)
    if result is HoldResult.DONE:
        await set_hold(call, hold=hold)
    elif result in (HoldResult.REFUSED, HoldResult.TIMED_OUT):
        with pytest.raises(NotDone):
            await set_hold(call, hold=hold)
    else:
        with pytest.raises(WrongState):
            await set_hold(call, hold=hold)
    assert posted == [hold]


def test_keys_are_played_to_who_talks_and_takes_them() -> None:
    call, posted = fake_call(state=Bench().talking().state)
    send_digits(call, "12w#")
    assert posted == [DigitsAsked(digits="12w#")]
    for digits in ("", "x", "1" * 65, "1 2"):
        with pytest.raises(BadRequest, match="digits"):
            send_digits(call, digits)


async def test_draining_and_reloading_are_the_houses(path: Path) -> None:
    async with a_desk(path) as desk:
        house = House()
        switchboard = board(desk, house)
        await dialled(desk, switchboard)
        assert await switchboard.drain() == 1
        assert house.drained == 1
        assert await switchboard.reload() == {"changed": [], "restart": []}
        house.errors = ["t.toml:a: x", "t.toml:b: y"]
        with pytest.raises(BadConfiguration) as refused:
            await switchboard.reload()
        assert refused.value.lines == ("t.toml:a: x", "t.toml:b: y")


class Others:
    """Other instances, one of which runs the call ``theirs``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    async def pass_on(self, call_id: str, verb: str, **body: Any) -> bool | None:
        self.asked.append((call_id, verb, body))
        return True if call_id == "theirs" else None


async def test_what_another_instance_runs_is_done_there_and_ours_here(path: Path) -> None:
    async with a_desk(path) as desk:
        asked = board(desk)
        asked.elsewhere = others = Others()
        assert await asked.hold("theirs")
        assert await asked.resume("theirs")
        assert await asked.send_dtmf("theirs", "1")
        assert await asked.transfer("theirs", "+918045678900")
        assert await asked.hang_up("theirs")
        assert others.asked == [
            ("theirs", "hold", {}),
            ("theirs", "resume", {}),
            ("theirs", "dtmf", {"digits": "1"}),
            ("theirs", "transfer", {"to": "+918045678900"}),
            ("theirs", "hang_up", {}),
        ]
        others.asked.clear()
        accepted = await desk.service.dial(DialRequest(phone_number=NUMBER, agent="support"))
        assert await asked.hang_up(accepted.call_id)
        assert others.asked == []
        assert not await asked.hold(UNKNOWN)
        with pytest.raises(NotDone, match="knows no"):
            await asked.do_here((await take(desk))["id"], "sing", {})
