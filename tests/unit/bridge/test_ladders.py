"""The ladders of calls that have ended: written once, a moment later or when the daemon stops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from bridge.events import CallEnded, CallRinging
from bridge.ladders import Ladders

pytestmark = pytest.mark.unit


class Journal:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, Mapping[str, Any]]] = []
        self.written = asyncio.Event()

    def note(
        self, call_id: str, kind: str, body: Mapping[str, Any], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        assert not lasting
        self.notes.append((call_id, kind, body))
        self.written.set()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_exception(OSError("the disk is full"))  # is nobody's unseen failure
        return done


def ended(call_id: str) -> CallEnded:
    return CallEnded(
        call_id=call_id, seq=3, at=1.0, outcome="completed", reason="hangup",
        ended_by="caller", sip_status=None, q850=None, duration_ms=5,
    )  # fmt: skip


async def test_a_ladder_has_what_came_shortly_after_the_end() -> None:
    journal = Journal()
    messages = [{"first_line": "BYE"}]
    ladders = Ladders(journal, lambda _: messages, delay=0.01)
    ladders.tell(CallRinging(call_id="a", seq=1, at=0.0, early_media=False))
    ladders.tell(ended("a"))
    ladders.tell(ended("a"))
    messages.append({"first_line": "200"})
    await journal.written.wait()
    ladders.flush()
    assert journal.notes == [("a", "ladder", {"rungs": messages})]


async def test_a_stop_writes_what_is_due_and_a_call_without_messages_nothing() -> None:
    journal = Journal()
    rungs = {"a": [{"first_line": "BYE"}], "b": []}
    ladders = Ladders(journal, rungs.__getitem__, delay=60)
    for call_id in rungs:
        ladders.tell(ended(call_id))
    ladders.flush()
    assert [call_id for call_id, _, _ in journal.notes] == ["a"]
