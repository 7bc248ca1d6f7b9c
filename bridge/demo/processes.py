"""The processes of the demo: found ports, started programs, always stopped ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from bridge.errors import BridgeError

LIVEKIT = Path(".cache/bin/livekit-server")
API_KEY = "devkey"
API_SECRET = "devsecret-devsecret-devsecret-devsecret"  # noqa: S105 (loopback, for the demo)


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class PortFinder:
    """Hands out loopback ports that are free for TCP and UDP, each once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._given: set[int] = set()

    def wanted(self, port: int, what: str) -> int:
        """Return *port*, or the next free one and a line that says so."""
        for candidate in range(port, port + 200):
            if candidate not in self._given and _is_free(candidate):
                if candidate != port:
                    self._say(f"port {port} for {what} is taken, using {candidate}")
                self._given.add(candidate)
                return candidate
        raise BridgeError(f"no free port for {what} from {port} to {port + 199}")

    def any(self) -> int:
        """Return a free port."""
        for _ in range(100):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in self._given and _is_free(port):
                self._given.add(port)
                return port
        raise BridgeError("no free port")


class Programs:
    """Starts programs and stops all of them in the end, the last one first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, Process]] = []
        self._readers: set[asyncio.Task[None]] = set()

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Process:
        """Start a program; its standard error goes to ``<folder>/<name>.log``."""
        with (self._folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE if on_line is not None else log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
            )
        self._running.append((name, process))
        if on_line is not None and process.stdout is not None:
            reader = asyncio.create_task(_lines(process.stdout, on_line))
            self._readers.add(reader)
        return process

    def check(self) -> None:
        """Raise `BridgeError` when a program has ended by itself."""
        for name, process in self._running:
            if process.returncode is not None:
                log = self._folder / f"{name}.log"
                raise BridgeError(f"{name} ended with {process.returncode}, see {log}")

    async def stop(self) -> None:
        """Stop everything: SIGTERM, and SIGKILL ten seconds later."""
        for _, process in reversed(self._running):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it started is in its group
            await process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._running.clear()


async def _lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    while line := await stream.readline():
        on_line(line.decode(errors="replace").rstrip("\n"))


async def answers(url: str, programs: Programs, *, timeout: float = 20) -> None:
    """Wait until *url* answers 200. Raises `BridgeError`."""
    async with httpx.AsyncClient(timeout=2) as client:
        for _ in range(int(timeout / 0.1)):
            programs.check()
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)
    raise BridgeError(f"{url} did not answer within {timeout:g} s")


def livekit_server() -> str:
    """Return the path of livekit-server. Raises `BridgeError` when there is none."""
    if LIVEKIT.exists():
        return str(LIVEKIT)
    found = shutil.which("livekit-server")
    if found is None:
        raise BridgeError(f"no livekit-server: neither {LIVEKIT} nor on PATH (make setup)")
    return found


def livekit_config(port: int, tcp_port: int, udp_port: int) -> str:
    """Return the server's configuration: loopback only, dev keys, no STUN."""
    return f"""\
port: {port}
bind_addresses: ["127.0.0.1"]
keys: {{{API_KEY}: {API_SECRET}}}
rtc:
  tcp_port: {tcp_port}
  udp_port: {udp_port}
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  stun_servers: ["127.0.0.1:3478"]
room: {{auto_create: true, empty_timeout: 60, departure_timeout: 5}}
logging: {{level: warn}}
"""


def python() -> str:
    """Return this interpreter."""
    return sys.executable
