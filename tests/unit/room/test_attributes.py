"""Attributes go out in order, merged, and never wait for a confirmation that got lost."""

import asyncio

import pytest

from bridge.room import attributes
from bridge.room.attributes import AttributeWriter

pytestmark = pytest.mark.unit


class Participant:
    """Confirms a request when told to."""

    def __init__(self, *, confirms: bool = True) -> None:
        self.requests: list[dict[str, str]] = []
        self._confirm = asyncio.Event()
        if confirms:
            self._confirm.set()

    async def set_attributes(self, values: dict[str, str]) -> None:
        self.requests.append(values)
        await self._confirm.wait()


async def test_changes_before_the_connection_go_out_with_it() -> None:
    writer, participant = AttributeWriter(), Participant()
    writer.put({"a": "1"})
    writer.put({"a": "2", "b": "1"})
    await writer.restore(participant)
    assert participant.requests == [{"a": "2", "b": "1"}]


async def test_changes_during_a_request_are_merged_into_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attributes, "PATIENCE", 0.01)
    writer, participant = AttributeWriter(), Participant(confirms=False)
    await writer.restore(participant)
    writer.put({"a": "1"})
    await asyncio.sleep(0)
    writer.put({"a": "2"})
    writer.put({"b": "3"})
    await writer.settled(2)
    assert participant.requests == [{"a": "1"}, {"a": "2", "b": "3"}]


async def test_a_new_connection_gets_everything_again() -> None:
    writer = AttributeWriter()
    first, second = Participant(), Participant()
    await writer.restore(first)
    writer.put({"a": "1"})
    await writer.settled(2)
    writer.pause()
    writer.put({"b": "2"})
    await writer.restore(second)
    assert second.requests == [{"a": "1", "b": "2"}]
    assert first.requests == [{"a": "1"}]
