"""One real livekit-server for the whole session, on loopback and free ports."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.harness import AgentHost, Desk

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 30.0

CONFIG = """\
port: {http}
bind_addresses: ["127.0.0.1"]
keys: {{{key}: {secret}}}
rtc:
  udp_port: {udp}
  tcp_port: {tcp}
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  stun_servers: ["127.0.0.1:{stun}"]
room: {{auto_create: true, empty_timeout: 30, departure_timeout: 2}}
logging: {{level: info}}
"""


@dataclass(frozen=True, kw_only=True)
class LiveKitServer:
    """A running server: where it is, its key, and rooms that no other test uses."""

    url: str
    http_url: str
    api_key: str
    api_secret: str = field(repr=False)
    log: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def room_name(self, prefix: str = "test") -> str:
        """Return a room name used by nobody else."""
        return f"{prefix}-{next(self._numbers)}-{uuid.uuid4().hex[:8]}"


def livekit_server_binary() -> str | None:
    """Return the server to run: named by the environment, built by us, or on PATH."""
    named = os.environ.get("TRUNKBRIDGE_LIVEKIT_SERVER")
    if named:
        return named if os.access(named, os.X_OK) else None
    built = ROOT / ".cache" / "bin" / "livekit-server"
    if os.access(built, os.X_OK):
        return str(built)
    return shutil.which("livekit-server")


@pytest.fixture(scope="session")
def livekit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """Start a livekit-server, wait until it answers, and stop it at the end."""
    binary = livekit_server_binary()
    if binary is None:
        reason = "no livekit-server (make sets it up in .cache/bin)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("livekit")
    for attempt in (1, 2, 3):
        started = _start(binary, folder / f"server-{attempt}.log")
        if started is not None:
            break
    else:
        pytest.fail(f"livekit-server did not start: see {folder}")
    process, server = started
    try:
        yield server
    finally:
        _stop(process)


def _start(binary: str, log: Path) -> tuple[subprocess.Popen[bytes], LiveKitServer] | None:
    """Start on ports that are free now; None when one was taken meanwhile."""
    http, tcp = _free_port(socket.SOCK_STREAM), _free_port(socket.SOCK_STREAM)
    udp, stun = _free_port(socket.SOCK_DGRAM), _free_port(socket.SOCK_DGRAM)
    key, secret = "testkey", uuid.uuid4().hex + uuid.uuid4().hex
    config = CONFIG.format(http=http, tcp=tcp, udp=udp, stun=stun, key=key, secret=secret)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [binary, "--config-body", config], stdout=sink, stderr=subprocess.STDOUT
        )
    http_url = f"http://127.0.0.1:{http}"
    if not _answers(process, http_url):
        _stop(process)
        return None
    return process, LiveKitServer(
        url=f"ws://127.0.0.1:{http}",
        http_url=http_url,
        api_key=key,
        api_secret=secret,
        log=log,
    )


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            time.sleep(0.05)  # polling another process: there is nothing to wait on
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def agent_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    """The process in which the stock participants of all tests live."""
    host = AgentHost(tmp_path_factory.mktemp("agents") / "stderr.log")
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture
async def desk(
    livekit: LiveKitServer, agent_host: AgentHost, tmp_path: Path
) -> AsyncIterator[Desk]:
    """Daemons, carriers, agents and SIPp for one test, all ended with it."""
    async with Desk(livekit, agent_host, tmp_path) as made:
        yield made
