"""One real livekit-server for the whole session, on loopback and free ports."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system import engines, preflight
from tests.system.harness import AgentHost, Bridge, Desk

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
  use_ice_lite: {lite}
room: {{auto_create: true, empty_timeout: 30, departure_timeout: 2{room}}}
logging: {{level: info}}
"""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", engines.MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    engines.ask(metafunc)


@dataclass(frozen=True, kw_only=True)
class LiveKitServer:
    """A running server: where it is, its key, and rooms that no other test uses."""

    url: str
    http_url: str
    udp_port: int
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


@dataclass(kw_only=True)
class PrivateLiveKit:
    """A server for one test, which may kill it and start it again at the same place."""

    binary: str
    server: LiveKitServer
    config: str = field(repr=False)
    lite: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Start and wait until it answers; False when a port was taken meanwhile."""
        for _ in range(6):
            if not self._start():
                return False
            server = self.server
            if not self.lite or preflight.answers(server.url, server.api_key, server.api_secret):
                return True
            self.kill()  # `preflight` says why
        return False

    def _start(self) -> bool:
        with self.server.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [self.binary, "--config-body", self.config], stdout=sink, stderr=subprocess.STDOUT
            )
        if _answers(self.process, self.server.http_url):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it stand still; its sockets stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again after `pause`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it for good; it would wait for those in its rooms, so not for long."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
        self.kill()


@pytest.fixture(scope="session")
def livekit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """Start a livekit-server, wait until it answers, and stop it at the end."""
    private = started_server(tmp_path_factory.mktemp("livekit"))
    try:
        yield private.server
    finally:
        private.stop()


@pytest.fixture
def private_livekit(tmp_path: Path) -> Iterator[PrivateLiveKit]:
    """A server of the test's own, to kill and to start again."""
    private = started_server(tmp_path)
    try:
        yield private
    finally:
        private.stop()


@pytest.fixture
def lite_livekit(tmp_path: Path) -> Iterator[PrivateLiveKit]:
    """A server of the test's own that answers connectivity checks and makes none.

    It reaches a participant only by the way that the participant chose. RFC 8445 2.5.
    """
    private = started_server(tmp_path, lite=True)
    try:
        yield private
    finally:
        private.stop()


def started_server(folder: Path, *, lite: bool = False, room: str = "") -> PrivateLiveKit:
    """Start one on free ports; *room* is added to the settings of rooms."""
    binary = livekit_server_binary()
    if binary is None:
        reason = "no livekit-server (make sets it up in .cache/bin)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    for attempt in range(3):
        private = _on_free_ports(binary, folder / f"server-{attempt}.log", lite=lite, room=room)
        if private.start():
            return private
    pytest.fail(f"livekit-server did not start: see {folder}")


def _on_free_ports(binary: str, log: Path, *, lite: bool, room: str) -> PrivateLiveKit:
    http, tcp = free_port(), free_port()
    udp, stun = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    key, secret = "testkey", uuid.uuid4().hex + uuid.uuid4().hex
    server = LiveKitServer(
        url=f"ws://127.0.0.1:{http}",
        http_url=f"http://127.0.0.1:{http}",
        udp_port=udp,
        api_key=key,
        api_secret=secret,
        log=log,
    )
    config = CONFIG.format(
        http=http,
        tcp=tcp,
        udp=udp,
        stun=stun,
        lite=str(lite).lower(),
        room=room,
        key=key,
        secret=secret,
    )
    return PrivateLiveKit(binary=binary, server=server, config=config, lite=lite)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1) as reply:
                return bool(reply.status == 200)
        except OSError:
            time.sleep(0.05)  # polling another process: there is nothing to wait on
    return False


@pytest.fixture(scope="session")
def agent_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    """The process in which the stock participants of all tests live."""
    host = AgentHost(tmp_path_factory.mktemp("agents") / "stderr.log")
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The media engine of the test's daemons (`engines`)."""
    name = engines.need(getattr(request, "param", "auto"))
    monkeypatch.setattr(Bridge, "engine", name)
    return name


@pytest.fixture
async def desk(
    livekit: LiveKitServer, agent_host: AgentHost, engine: str, tmp_path: Path
) -> AsyncIterator[Desk]:
    """Daemons, carriers, agents and SIPp for one test, all ended with it."""
    async with Desk(livekit, agent_host, tmp_path) as made:
        yield made


@pytest.fixture
async def lite_desk(
    lite_livekit: PrivateLiveKit, agent_host: AgentHost, engine: str, tmp_path: Path
) -> AsyncIterator[Desk]:
    """The same on `lite_livekit`."""
    folder = tmp_path / "desk"
    folder.mkdir()
    async with Desk(lite_livekit.server, agent_host, folder) as made:
        yield made


@pytest.fixture
async def private_desk(
    private_livekit: PrivateLiveKit, agent_host: AgentHost, engine: str, tmp_path: Path
) -> AsyncIterator[Desk]:
    """The same on a server of the test's own (`private_livekit`)."""
    folder = tmp_path / "desk"
    folder.mkdir()
    async with Desk(private_livekit.server, agent_host, folder) as made:
        yield made
