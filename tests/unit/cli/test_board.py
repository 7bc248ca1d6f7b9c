"""``calls --watch``: rows that are never stale for good, and text of callers that stays text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from bridge.cli.calls import Board
from bridge.cli.table import pretty
from trunkbridge.client import ApiError, Client

pytestmark = pytest.mark.unit

CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"


def resource(**values: Any) -> dict[str, Any]:
    return {
        "id": CALL,
        "phone_number": "+919876543210",
        "direction": "inbound",
        "trunk": "t",
        "status": "active",
        "hold": False,
        "outcome": None,
        "reason": None,
        "duration_seconds": None,
        "created_at": "2026-11-21T12:00:00.000Z",
        "started_at": None,
        **values,
    }


class Daemon:
    """A client whose call ends while its status is being asked for."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked = asyncio.Event()
        self.told = asyncio.Event()

    async def position(self) -> int:
        return 7

    async def active(self) -> list[dict[str, Any]]:
        return [resource()]

    async def events(self, *, after: int) -> AsyncIterator[Any]:
        assert after == 7
        yield SimpleNamespace(call_id=CALL)
        await self.asked.wait()
        yield SimpleNamespace(call_id=CALL)
        self.told.set()
        await asyncio.Event().wait()

    def call(self, _: str) -> Daemon:
        return self

    async def status(self) -> dict[str, Any]:
        answer = self.answers.pop(0)
        self.asked.set()
        await self.told.wait()
        if isinstance(answer, Exception):
            raise answer
        return cast("dict[str, Any]", answer)


@pytest.mark.parametrize("first", [resource(hold=True), ApiError(503, "starting")])
async def test_an_event_that_comes_while_its_call_is_asked_for_is_asked_for_again(
    first: Any,
) -> None:
    daemon = Daemon()
    daemon.answers = [first, resource(status="completed", outcome="completed")]
    board = Board(cast("Client", daemon), Console(file=StringIO()))
    listener = asyncio.create_task(board._listen())
    try:
        await asyncio.sleep(0)
        await board._ask()
        await board._ask()
    finally:
        listener.cancel()
    assert [call["status"] for call in board.rows] == ["completed"]


@pytest.mark.parametrize("number", ["[/x]", "[red]1000[/red]", ":phone:", "[link=x]1"])
def test_what_a_caller_calls_itself_is_shown_as_it_is(number: str) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=160)
    console.print(pretty([resource(phone_number=number)], 160))
    assert number in cast("StringIO", console.file).getvalue()
