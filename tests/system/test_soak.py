"""A short soak (`make soak` is the long one): after many calls everything is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import Plan, run

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

SECONDS = 20
CALLS = 3


async def test_after_a_soak_everything_is_back_where_it_began(tmp_path: Path) -> None:
    told: list[str] = []
    plan = Plan(seconds=SECONDS, calls=CALLS, seed=4, restarts=0, say=told.append)
    wrong = await run(plan, tmp_path)
    assert not wrong, "\n".join([*wrong, *told])
    done = next(line for line in told if "conversation " in line)
    assert "unanswered" in done  # calls both ways were among them
