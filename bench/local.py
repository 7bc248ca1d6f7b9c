"""Processes of the benches that need no livekit-server: the daemon with a fake room, the floor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.system.harness import toml

ROOT = Path(__file__).parents[1]
CORE = min(os.sched_getaffinity(0))
"""The core of the process that is measured; everything of ours beside it goes elsewhere."""


@contextmanager
def bridge(
    folder: Path,
    *,
    trunk: Mapping[str, Any],
    routes: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    max_calls: int = 1000,
) -> Iterator[tuple[int, int]]:
    """Run a daemon with a fake room; give its SIP port and its process."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    tables = {
        "livekit": {"url": "ws://127.0.0.1:9", "api_key": "devkey", "api_secret": "s" * 32},
        "sip": {
            "listen": [f"tcp:127.0.0.1:{port}"],
            "advertise": "127.0.0.1",
            "max_calls": max_calls,
        },
        # The fake room is one of the SDK engine.
        "media": {"listen": "127.0.0.1", "ports": "20000-31999", "engine": "sdk"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "store": {"journal": str(folder / "journal.db"), "instance": "bench"},
        "trunk": [
            {
                "name": "carrier",
                "host": "127.0.0.1",
                "allow": ["127.0.0.0/8"],
                "media_allow": ["127.0.0.0/8"],
                **trunk,
            }
        ],
        "route": list(routes),
    }
    given = {"core": CORE, "config": toml(tables), **options}
    command = [sys.executable, "-m", "bench.bridge_process", str(folder), json.dumps(given)]
    with (folder / "stderr.log").open("wb") as log, _started(command, stderr=log) as process:
        _ready(process)
        yield port, process.pid


@contextmanager
def echo(status: int) -> Iterator[tuple[int, int]]:
    """Run the floor on the same core; give its port and its process."""
    command = [sys.executable, str(ROOT / "bench" / "echo.py"), str(CORE), str(status)]
    with _started(command, stderr=None) as process:
        yield int(_ready(process)), process.pid


@contextmanager
def elsewhere() -> Iterator[None]:
    """Keep this process off the measured core, where there is another."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {CORE} or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def load() -> str:
    """Return one line on how busy the machine is."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


@contextmanager
def _started(command: list[str], stderr: Any) -> Iterator[subprocess.Popen[bytes]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRUNKBRIDGE_")}
    environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the process did not start; see its stderr.log")
    return line
