"""The state of a call: changed as `dataclasses.replace` would, only faster."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from bridge.call.state import CallState, Phase, renewed

pytestmark = pytest.mark.unit

PLAN: Any = object()  # a state only carries it


def test_a_renewed_state_is_what_replace_makes() -> None:
    state = CallState(plan=PLAN, seq=3)
    changes: dict[str, Any] = {
        "phase": Phase.ANSWERED,
        "answered_at": 4.0,
        "others": frozenset({"agent"}),
    }
    new = renewed(state, changes)
    assert new == replace(state, **changes)
    assert all(hasattr(new, item.name) for item in fields(CallState))
    assert state == CallState(plan=PLAN, seq=3)


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="fase"):
        renewed(CallState(plan=PLAN), {"fase": Phase.ANSWERED})
