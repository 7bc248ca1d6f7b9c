"""A session of the SDK's room that is left or cancelled while it joins: nothing stays behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.room import sdk
from bridge.room.joining import settle
from bridge.room.seam import JoinSpec, LeaveReason, RoomError, RoomHandlers

pytestmark = pytest.mark.unit

SPEC = JoinSpec(url="ws://192.0.2.1:7880", room="r", identity="sip-1", token="t")


class FakeLink:
    """A connection that is up as soon as ``answer`` is set."""

    def __init__(self, *_: Any) -> None:
        self.answer = asyncio.Event()
        self.closed: list[LeaveReason] = []

    async def connect(self, *_: Any, **__: Any) -> None:
        await self.answer.wait()

    async def close(self, reason: LeaveReason) -> None:
        self.closed.append(reason)


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[FakeLink]:
    made: list[FakeLink] = []

    def make(*_: Any) -> FakeLink:
        made.append(FakeLink())
        return made[-1]

    monkeypatch.setattr(sdk, "Link", make)
    monkeypatch.setattr(sdk, "quiet_native_logs", lambda: True)
    return made


@pytest.mark.parametrize("turns", range(4))  # after that it has joined
async def test_a_join_that_is_left_at_any_turn_leaves_nobody_in_the_room(
    links: list[FakeLink], turns: int
) -> None:
    session = sdk.SdkRoom(RoomHandlers(notify=lambda _: None, rpc={}))
    joining = asyncio.ensure_future(session.join(SPEC))
    await asyncio.sleep(0)
    (link,) = links
    for turn in range(turns):
        if turn == 1:
            link.answer.set()
        await asyncio.sleep(0)
    await session.leave(LeaveReason.USER_REJECTED)
    link.answer.set()
    with pytest.raises(RoomError, match="left while joining"):
        await joining
    await settle()
    assert link.closed == [LeaveReason.USER_REJECTED]


@pytest.mark.parametrize("turns", range(4))  # after that it has joined
async def test_a_join_that_is_cancelled_at_any_turn_leaves_nobody_in_the_room(
    links: list[FakeLink], turns: int
) -> None:
    session = sdk.SdkRoom(RoomHandlers(notify=lambda _: None, rpc={}))
    joining = asyncio.ensure_future(session.join(SPEC))
    await asyncio.sleep(0)
    (link,) = links
    for turn in range(turns):
        if turn == 1:
            link.answer.set()
        await asyncio.sleep(0)
    joining.cancel()
    link.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await settle()
    assert link.closed == [LeaveReason.CLIENT_INITIATED]
