"""No packet takes a hop over a thread."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridge.media
import rtp

pytestmark = pytest.mark.unit

HOPS = ("to_thread", "run_in_executor", "ThreadPoolExecutor")


def test_neither_rtp_nor_media_hands_work_to_a_thread() -> None:
    """R1 7.1.25. Opening a call's media may wait for the system; its packets never do."""
    folders = [Path(module.__path__[0]) for module in (rtp, bridge.media)]
    files = [path for folder in folders for path in folder.glob("*.py")]
    assert len(files) > 10
    found = [(path.name, hop) for path in files for hop in HOPS if hop in path.read_text("utf-8")]
    assert found == []
