"""The room lane: order, waiting, and what happens to a send that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.call import lane as lane_module
from bridge.call.lane import Entry, RoomLane
from bridge.room.seam import RoomError

pytestmark = pytest.mark.unit


class Log:
    """What was sent and what was dropped; ``until`` waits for a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def note(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def until(self, line: str) -> None:
        async with asyncio.timeout(30):
            while line not in self.lines:
                self._changed.clear()
                await self._changed.wait()

    def entry(self, name: str, *, level: bool = False) -> Entry:
        async def send() -> None:
            self.note(f"send {name}")

        return self._entry(name, send, level=level)

    def hopeless(self, name: str) -> Entry:
        """An entry whose every send fails."""

        async def send() -> None:
            self.note(f"send {name}")
            raise RoomError("no")

        return self._entry(name, send)

    def failing(self, name: str, started: asyncio.Event, fail: asyncio.Event) -> Entry:
        """An entry whose first send fails once *fail* is set."""

        async def send() -> None:
            self.note(f"send {name}")
            if not fail.is_set():
                started.set()
                await fail.wait()
                raise RoomError("gone")

        return self._entry(name, send)

    def _entry(self, name: str, send: object, *, level: bool = False) -> Entry:
        return Entry(
            send=send,  # type: ignore[arg-type]
            sent=lambda: self.note(f"sent {name}"),
            dropped=lambda: self.note(f"dropped {name}"),
            level=level,
        )


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "RETRY_PAUSE", 0)


@asynccontextmanager
async def running(lane: RoomLane) -> AsyncIterator[None]:
    task = asyncio.create_task(lane.run())
    try:
        yield
    finally:
        lane.stop()
        async with asyncio.timeout(30):
            await task


async def test_queue_waits_until_the_room_is_there_and_goes_in_order() -> None:
    lane, log = RoomLane("c"), Log()
    async with running(lane):
        lane.put(log.entry("1"))
        lane.put(log.entry("old level", level=True))
        lane.put(log.entry("2"))
        lane.restore(log.entry("levels", level=True))
        await log.until("sent 2")
    sends = [line for line in log.lines if line.startswith("send")]
    assert sends == ["send levels", "send 1", "send 2"]
    assert "dropped old level" in log.lines


async def test_what_is_restored_comes_before_what_waited_in_its_order() -> None:
    lane, log = RoomLane("c"), Log()
    async with running(lane):
        lane.put(log.entry("waited"))
        lane.restore(log.entry("levels", level=True), log.entry("first"), log.entry("second"))
        await log.until("sent waited")
    sends = [line for line in log.lines if line.startswith("send")]
    assert sends == ["send levels", "send first", "send second", "send waited"]
    lane.restore(log.entry("late", level=True), log.entry("later"))
    assert log.lines[-2:] == ["dropped late", "dropped later"]


async def test_suspended_lane_sends_nothing() -> None:
    lane, log = RoomLane("c"), Log()
    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        await log.until("sent levels")
        lane.suspend()
        lane.put(log.entry("1"))
        await asyncio.sleep(0)
        assert "send 1" not in log.lines
        lane.restore(log.entry("again", level=True))
        await log.until("sent 1")


async def test_send_that_fails_while_the_room_is_there_is_given_up() -> None:
    lane, log = RoomLane("c"), Log()
    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        lane.put(log.hopeless("1"))
        lane.put(log.entry("2"))
        await log.until("sent 2")
    assert log.lines[2:] == ["send 1", "dropped 1", "send 2", "sent 2"]


async def test_send_that_times_out_is_never_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "SEND_TIMEOUT", 0.01)
    lane, log = RoomLane("c"), Log()
    started = asyncio.Event()
    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        lane.put(log.failing("1", started, asyncio.Event()))
        await started.wait()
        lane.suspend()
        await log.until("dropped 1")
        lane.restore(log.entry("again", level=True))
        await log.until("sent again")
    assert log.lines.count("send 1") == 1


async def test_send_in_hand_is_left_to_the_session_while_the_room_is_away() -> None:
    lane, log = RoomLane("c"), Log()
    started, back = asyncio.Event(), asyncio.Event()

    async def send() -> None:
        started.set()
        await back.wait()

    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        lane.put(Entry(send=send, sent=lambda: log.note("sent 1")))
        await started.wait()
        lane.suspend()
        lane.restore(log.entry("again", level=True))
        back.set()
        await log.until("sent again")
    assert log.lines.index("sent 1") < log.lines.index("send again")


async def test_send_that_fails_because_the_room_went_is_sent_first_when_it_is_back() -> None:
    lane, log = RoomLane("c"), Log()
    started, fail = asyncio.Event(), asyncio.Event()
    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        lane.put(log.failing("1", started, fail))
        lane.put(log.entry("2"))
        await started.wait()
        lane.suspend()
        fail.set()
        async with asyncio.timeout(30):
            while len(lane) < 2:  # noqa: ASYNC110 (the failure is taken while the room is away)
                await asyncio.sleep(0)
        lane.restore(log.entry("again", level=True))
        await log.until("sent 2")
    assert log.lines[-6:] == ["send again", "sent again", "send 1", "sent 1", "send 2", "sent 2"]


async def test_send_that_fails_after_the_room_is_back_comes_after_the_levels() -> None:
    lane, log = RoomLane("c"), Log()
    started, fail = asyncio.Event(), asyncio.Event()
    async with running(lane):
        lane.restore(log.entry("levels", level=True))
        lane.put(log.failing("1", started, fail))
        lane.put(log.entry("2"))
        await started.wait()
        lane.suspend()
        lane.restore(log.entry("again", level=True))
        fail.set()
        await log.until("sent 2")
    assert log.lines[-6:] == ["send again", "sent again", "send 1", "sent 1", "send 2", "sent 2"]


async def test_stopped_lane_drops_everything() -> None:
    lane, log = RoomLane("c"), Log()
    lane.put(log.entry("1"))
    lane.stop()
    lane.put(log.entry("2"))
    lane.restore(log.entry("3", level=True))
    assert log.lines == ["dropped 1", "dropped 2", "dropped 3"]


async def test_full_lane_says_so() -> None:
    lane, log = RoomLane("c"), Log()
    for number in range(lane_module.QUEUE_LIMIT):
        assert not lane.is_full
        lane.put(log.entry(str(number)))
    assert lane.is_full


class Beginner:
    """Makes entries that can begin at once, and remembers which did."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.begun: list[str] = []
        self.ends: dict[str, asyncio.Future[None]] = {}

    def entry(self, name: str, *, able: bool = True) -> Entry:
        made = self.log.entry(name)

        def begin() -> asyncio.Future[None] | None:
            if not able:
                return None
            self.begun.append(name)
            self.ends[name] = asyncio.get_running_loop().create_future()
            return self.ends[name]

        made.begin = begin
        return made


async def test_what_is_alone_begins_when_it_is_put() -> None:
    log, lane = Log(), RoomLane("c1")
    beginner = Beginner(log)
    async with running(lane):
        lane.restore(log.entry("levels"))
        await log.until("sent levels")
        await asyncio.sleep(0)
        lane.put(beginner.entry("a"))
        assert beginner.begun == ["a"]
        lane.put(beginner.entry("b"))  # something waits
        assert beginner.begun == ["a"]
        beginner.ends["a"].set_result(None)
        await log.until("sent b")
    assert log.lines == ["send levels", "sent levels", "sent a", "send b", "sent b"]


async def test_nothing_begins_while_something_is_being_sent() -> None:
    log, lane = Log(), RoomLane("c1")
    beginner = Beginner(log)
    started, fail = asyncio.Event(), asyncio.Event()
    async with running(lane):
        lane.restore(log.failing("slow", started, fail))
        await started.wait()
        lane.put(beginner.entry("a"))
        assert beginner.begun == []
        fail.set()
        await log.until("sent a")


async def test_nothing_begins_while_the_room_is_away_or_it_cannot() -> None:
    log, lane = Log(), RoomLane("c1")
    beginner = Beginner(log)
    async with running(lane):
        lane.put(beginner.entry("early"))
        lane.restore(log.entry("levels"))
        await log.until("sent early")
        await asyncio.sleep(0)
        lane.put(beginner.entry("unable", able=False))
        await log.until("sent unable")
        assert beginner.begun == []
    assert "send unable" in log.lines


async def test_what_began_and_failed_while_the_room_went_away_is_sent_again() -> None:
    log, lane = Log(), RoomLane("c1")
    beginner = Beginner(log)
    async with running(lane):
        lane.restore(log.entry("levels"))
        await log.until("sent levels")
        await asyncio.sleep(0)
        lane.put(beginner.entry("a"))
        await asyncio.sleep(0)
        lane.suspend()
        beginner.ends["a"].set_exception(RoomError("gone"))
        await asyncio.sleep(0)
        lane.restore(log.entry("levels again"))
        await log.until("sent a")
    assert log.lines[-4:] == ["send levels again", "sent levels again", "send a", "sent a"]


async def test_stopping_drops_what_has_begun() -> None:
    log, lane = Log(), RoomLane("c1")
    beginner = Beginner(log)
    async with running(lane):
        lane.restore(log.entry("levels"))
        await log.until("sent levels")
        await asyncio.sleep(0)
        lane.put(beginner.entry("a"))
        lane.stop()
    assert log.lines[-1] == "dropped a"
    assert beginner.ends["a"].cancelled()
