"""The lane of what is sent into a room, over connections that come and go."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

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


async def test_what_waits_fails_when_the_connection_is_lost() -> None:
    outbox: Outbox[Line] = Outbox()
    stuck, fresh = Line(), Line()
    stuck.open.clear()
    outbox.open(stuck)
    waiting = [asyncio.ensure_future(outbox.send(put(text))) for text in "ab"]
    await stuck.started.wait()
    outbox.lose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["the room is away"] * 2
    later = asyncio.ensure_future(outbox.send(put("c")))
    await asyncio.sleep(0)
    outbox.open(fresh, put("restored"))
    await later
    assert (stuck.sent, fresh.sent) == ([], ["restored", "c"])
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


def put_at_once(text: str, line: Line, done: asyncio.Future[None]) -> Callable[[Line], Any]:
    """An effect that sends before it returns, and whose end is *done*."""

    def effect(_line: Line) -> asyncio.Future[None]:
        line.sent.append(text)
        return done

    return effect


async def test_what_is_alone_begins_before_send_returns() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    outbox.open(line)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sending = outbox.send(put_at_once("a", line, done))
    assert line.sent == ["a"]
    second = outbox.send(put_at_once("b", line, done))
    assert line.sent == ["a"]  # its turn comes when the first is done
    done.set_result(None)
    await asyncio.gather(sending, second)
    assert line.sent == ["a", "b"]
    outbox.close(RoomError("end"))


async def test_what_began_on_a_connection_that_is_gone_begins_anew() -> None:
    outbox: Outbox[Line] = Outbox()
    gone, fresh = Line(), Line()
    gone.open.clear()
    outbox.open(gone)
    sending = outbox.send(put("a"))
    outbox.pause()  # before the pump had its turn
    outbox.open(fresh)
    await sending
    assert (gone.sent, fresh.sent) == ([], ["a"])
    outbox.close(RoomError("end"))


async def test_an_effect_that_fails_at_once_is_tried_again() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    outbox.open(line)
    tries: list[int] = []

    def effect(_line: Line) -> asyncio.Future[None]:
        tries.append(1)
        raise ValueError("not now")

    with pytest.raises(RoomError, match=r"^not sent: ValueError$"):
        await outbox.send(effect)
    assert len(tries) == 2
    outbox.close(RoomError("end"))


async def test_closing_lets_go_of_what_has_begun() -> None:
    outbox: Outbox[Line] = Outbox()
    line = Line()
    outbox.open(line)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sending = outbox.send(put_at_once("a", line, done))
    coroutine = outbox.send(put("b"))
    outbox.close(RoomError("the room was left"))
    results = await asyncio.gather(sending, coroutine, return_exceptions=True)
    assert [str(result) for result in results] == ["the room was left"] * 2
    assert done.cancelled()


@pytest.mark.parametrize("turns", range(4))
async def test_what_is_lost_before_its_first_turn_is_closed(turns: int) -> None:
    line = Line()
    line.open.clear()
    outbox: Outbox[Line] = Outbox()
    outbox.open(line)
    await asyncio.sleep(0)
    sending = outbox.send(lambda line: line.take("a"))
    for _ in range(turns):
        await asyncio.sleep(0)
    outbox.lose()
    with pytest.raises(RoomError):
        await sending
    await asyncio.sleep(0)
    gc.collect()  # a coroutine that was never awaited is told of now
    assert line.sent == []
    outbox.close(RoomError("over"))
