"""`bridge.Bridge`: what it leaves behind in the process of somebody else."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import Bridge
from trunkbridge import ApiError

pytestmark = pytest.mark.unit

CONFIG: dict[str, Any] = {
    "livekit": {"url": "ws://127.0.0.1:1", "api_key": "k", "api_secret": "s" * 32},
    "sip": {"listen": ["tcp:127.0.0.1:0"]},
    "log": {"level": "error"},
}


async def test_a_stopped_bridge_is_garbage_and_nothing_of_its_host_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("structlog.is_configured", lambda: True)  # logging is the tests' own
    frozen = gc.get_freeze_count()
    bridge = Bridge({**CONFIG, "store": {"journal": str(tmp_path / "journal.db")}})
    await bridge.start()
    assert gc.get_freeze_count() == frozen
    daemon = weakref.ref(bridge._running)
    await bridge.stop()
    await bridge.stop()  # again: nothing more
    del bridge
    gc.collect()
    assert daemon() is None


@pytest.mark.parametrize(
    "value", [datetime(2026, 1, 1, tzinfo=UTC), b"bytes", {1, 2}, [object()], ({"a": set()},)]
)
async def test_metadata_that_is_no_json_is_refused_as_over_http(value: Any) -> None:
    with pytest.raises(ApiError, match="metadata") as refused:
        await Bridge(CONFIG).dial("+919876543210", agent="a", metadata={"x": value})
    assert refused.value.status == 422
