"""The way to the main loop: what is seen there, what is raised there, and when it is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from bridge.api.door import Doors
from bridge.call.requests import Unavailable, WrongState
from tests.unit.api.door import FakeService

pytestmark = pytest.mark.unit


@pytest.fixture
def main() -> Iterator[asyncio.AbstractEventLoop]:
    """The calls' loop, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_look_sees_what_is_there_on_the_main_loop(main: asyncio.AbstractEventLoop) -> None:
    doors = Doors(FakeService(), main)
    assert await doors.look(asyncio.get_running_loop) is main
    assert await doors.look(threading.get_ident) != threading.get_ident()


async def test_what_a_look_raises_is_raised_here(main: asyncio.AbstractEventLoop) -> None:
    def look() -> None:
        raise WrongState("no")

    with pytest.raises(WrongState, match="no"):
        await Doors(FakeService(), main).look(look)


async def test_who_looks_may_go_away(main: asyncio.AbstractEventLoop) -> None:
    doors = Doors(FakeService(), main)
    may, looked = threading.Event(), threading.Event()
    main.call_soon_threadsafe(may.wait)
    looking = asyncio.ensure_future(doors.look(looked.set))
    await asyncio.sleep(0)
    looking.cancel()
    may.set()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await asyncio.to_thread(looked.wait, 10)
    assert await doors.look(lambda: 7) == 7  # the answer to nobody has arrived before


async def test_without_the_main_loop_the_bridge_has_stopped() -> None:
    gone = asyncio.new_event_loop()
    gone.close()
    with pytest.raises(Unavailable, match="stopped"):
        await Doors(FakeService(), gone).look(lambda: 7)
