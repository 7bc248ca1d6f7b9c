"""The figures of the process, also where /proc is bare."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from bridge.observe.process import ThisProcess

pytestmark = pytest.mark.unit


def figures(kind: type[ProcessCollector], proc: str) -> dict[str, float]:
    registry = CollectorRegistry()
    kind(proc=proc, registry=registry)
    return {family.name: family.samples[0].value for family in registry.collect()}


def test_without_proc_stat_the_library_is_blind_and_ours_is_not(tmp_path: Path) -> None:
    """As under ``ProcSubset=pid`` of our systemd unit."""
    (tmp_path / "self").symlink_to("/proc/self")
    assert figures(ProcessCollector, str(tmp_path)) == {}
    ours, usual = figures(ThisProcess, str(tmp_path)), figures(ProcessCollector, "/proc")
    assert ours.keys() == usual.keys()
    started = ours["process_start_time_seconds"]
    assert started == pytest.approx(usual["process_start_time_seconds"], abs=2)
    assert started < time.time()
