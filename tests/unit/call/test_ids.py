"""Ids of calls."""

from __future__ import annotations

import uuid

import pytest

from bridge.call.ids import CallIds

pytestmark = pytest.mark.unit


def test_every_id_is_a_random_uuid_and_randomness_is_drawn_for_many() -> None:
    drawn: list[int] = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return bytes((n * 7 + len(drawn)) % 256 if n % 16 else n // 16 for n in range(size))

    ids = CallIds(random)
    given = [ids() for _ in range(300)]
    assert len(set(given)) == 300
    assert {uuid.UUID(text).version for text in given} == {4}
    assert drawn == [4096, 4096]
