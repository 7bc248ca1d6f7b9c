"""The lane of what is sent into a room, over connections that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.room import outbox as module
from bridge.room.outbox import Outbox
from bridge.room.seam import RoomError

pytestmark = pytest.mark.unit


class Line:
    """A connection that records, and may block or refuse."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.started = asyncio.Event()
        self.refusals = 0

    async def take(self, text: str) -> None:
        self.started.set()
        await self.open.wait()
        if self.refusals:
            self.refusals -= 1
            raise ValueError(text)
        self.sent.append(text)


def put(text: str) -> Callable[[Line], Awaitable[None]]:
    return lambda line: line.take(text)


async def test_messages_leave_in_order_and_the_first_one_first() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    waiting = [asyncio.ensure_future(outbox.send(put(text))) for text in "abc"]
    await asyncio.sleep(0)
    outbox.open(line, put("first"))
    await asyncio.gather(*waiting)
    assert line.sent == ["first", "a", "b", "c"]
    outbox.close(RoomError("end"))


async def test_what_was_under_way_is_sent_again_before_the_rest() -> None:
    outbox: Outbox[Line] = Outbox()
    stuck, fresh = Line(), Line()
    stuck.open.clear()
    outbox.open(stuck)
    waiting = [asyncio.ensure_future(outbox.send(put(text))) for text in "ab"]
    await stuck.started.wait()
    outbox.pause()
    outbox.open(fresh, put("restored"))
    await asyncio.gather(*waiting)
    assert stuck.sent == []
    assert fresh.sent == ["restored", "a", "b"]
    outbox.close(RoomError("end"))


@pytest.mark.parametrize("lands_after_the_repair", [True, False])
async def test_what_was_under_way_is_left_to_a_connection_that_is_repaired(
    lands_after_the_repair: bool,
) -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    line.open.clear()
    outbox.open(line)
    waiting = [asyncio.ensure_future(outbox.send(put(text))) for text in "ab"]
    await line.started.wait()
    outbox.pause()
    if lands_after_the_repair:
        outbox.open(line, put("restored"))
        line.open.set()
    else:
        line.open.set()
        await waiting[0]
        outbox.open(line, put("restored"))
    await asyncio.gather(*waiting)
    assert line.sent == ["a", "restored", "b"]
    outbox.close(RoomError("end"))


async def test_what_fails_while_a_connection_is_repaired_is_sent_after_it() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    line.open.clear()
    outbox.open(line)
    waiting = asyncio.ensure_future(outbox.send(put("a")))
    await line.started.wait()
    outbox.pause()
    line.refusals = 1
    line.open.set()
    while line.refusals:  # noqa: ASYNC110 (the outbox takes some turns)
        await asyncio.sleep(0)
    outbox.open(line, put("restored"))
    await waiting
    assert line.sent == ["restored", "a"]
    outbox.close(RoomError("end"))


async def test_a_send_takes_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_TIMEOUT", 0.01)
    outbox: Outbox[Line] = Outbox()
    line = Line()
    line.open.clear()
    outbox.open(line)
    with pytest.raises(RoomError, match=r"^not sent: TimeoutError$"):
        await outbox.send(put("a"))
    line.open.set()
    await outbox.send(put("b"))
    assert line.sent == ["b"]
    outbox.close(RoomError("end"))


async def test_a_refusal_is_tried_once_more_and_then_told() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    outbox.open(line)
    line.refusals = 1
    await outbox.send(put("a"))
    line.refusals = 2
    with pytest.raises(RoomError, match=r"^not sent: ValueError$"):
        await outbox.send(put("b"))
    await outbox.send(put("c"))
    assert line.sent == ["a", "c"]
    outbox.close(RoomError("end"))


async def test_no_more_than_the_limit_waits() -> None:
    outbox: Outbox[Line] = Outbox(limit=2)
    waiting = [asyncio.ensure_future(outbox.send(put(text))) for text in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(RoomError, match="too much waits"):
        await outbox.send(put("c"))
    outbox.close(RoomError("the room was left"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["the room was left"] * 2


async def test_a_cancelled_caller_does_not_withdraw_its_message() -> None:
    outbox: Outbox[Line] = Outbox()
    caller = asyncio.ensure_future(outbox.send(put("a")))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    line = Line()
    outbox.open(line)
    await outbox.send(put("b"))
    assert line.sent == ["a", "b"]
    outbox.close(RoomError("end"))


async def test_a_closed_outbox_refuses_at_once_and_opens_again() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    outbox.open(line)
    outbox.close(RoomError("end"))
    with pytest.raises(RoomError, match="end"):
        await outbox.send(put("refused"))
    outbox.open(line)
    await outbox.send(put("a"))
    assert line.sent == ["a"]
    outbox.close(RoomError("end"))
