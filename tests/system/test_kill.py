"""A daemon that is killed again and again keeps what it promised (`make kill` is the long one)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import postgres
from tests.kill.run import Plan, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

KILLS = 10


async def test_a_daemon_that_is_killed_again_and_again_keeps_its_promises(tmp_path: Path) -> None:
    """Contract 6: a call accepted has a record with an outcome, whatever crashes afterwards."""
    await killed(tmp_path, seed=20)


async def test_so_it_does_with_its_records_in_postgresql(tmp_path: Path) -> None:
    with postgres.server() as server:
        await killed(tmp_path, seed=21, store=server.new_database())


async def killed(folder: Path, *, seed: int, store: str = "") -> None:
    told: list[str] = []
    wrong = await run(Plan(kills=KILLS, seed=seed, store=store, say=told.append), folder)
    assert not wrong, "\n".join([*wrong, *told])
    assert any("dropped/crash" in line and "completed/" in line for line in told), told
