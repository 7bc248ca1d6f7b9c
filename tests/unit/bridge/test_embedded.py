"""`bridge.Bridge`: what it leaves behind in the process of somebody else."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from bridge.embedded import Bridge

pytestmark = pytest.mark.unit


async def test_a_stopped_bridge_is_garbage_and_nothing_of_its_host_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("structlog.is_configured", lambda: True)  # logging is the tests' own
    frozen = gc.get_freeze_count()
    bridge = Bridge(
        {
            "livekit": {"url": "ws://127.0.0.1:1", "api_key": "k", "api_secret": "s" * 32},
            "sip": {"listen": ["tcp:127.0.0.1:0"]},
            "store": {"journal": str(tmp_path / "journal.db")},
            "log": {"level": "error"},
        }
    )
    await bridge.start()
    assert gc.get_freeze_count() == frozen
    daemon = weakref.ref(bridge._running)
    await bridge.stop()
    await bridge.stop()  # again: nothing more
    del bridge
    gc.collect()
    assert daemon() is None
