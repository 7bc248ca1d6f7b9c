"""A UDP relay in a process of its own, told what to do by JSON lines: `relayed`.

Media goes through it between a client (the daemon, or its carrier) and what it is told to
relay to. RTP has the weather of its path; STUN, DTLS and RTCP pass untouched. Every client
address has a socket of its own towards the target, as livekit-server's port is shared by
all and tells them apart by their address.

One line in is one command: ``open`` (a target's port; answered by ours), ``weather`` (for
clients that come from now on), ``begin`` (the weather begins, by a seed), ``block`` and ``unblock``
(nothing passes), ``hop`` (every client comes from another port from now on, as behind a NAT
that forgot), ``counts``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from tests.ports import free_port
from tests.system.harness import ROOT
from tests.system.weather import Path, Weather

DIRECTIONS = ("up", "down")  # from the client to the target, and back
Address = tuple[str, int]


def is_rtp(data: bytes) -> bool:
    """Tell RTP from RTCP, STUN and DTLS. RFC 5761 4, RFC 7983."""
    return len(data) >= 12 and 128 <= data[0] < 192 and not 192 <= data[1] < 224


class Client:
    """One address and its way to the target."""

    def __init__(self, door: Door, address: Address, weather: dict[str, Weather]) -> None:
        self._door = door
        self._address = address
        self._weather = weather
        self._paths: dict[str, Path] = {}
        self._socket: socket.socket | None = None
        self.hop()

    def begin(self, seed: int) -> None:
        """Let the weather begin, or begin anew."""
        self._paths = {
            name: Path(self._weather[name], 2 * seed + index)
            for index, name in enumerate(DIRECTIONS)
        }

    def hop(self) -> None:
        """Reach the target from another port."""
        self.close()
        self._socket = _bound(0)
        asyncio.get_running_loop().add_reader(self._socket, self._from_target, self._socket)

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def up(self, data: bytes) -> None:
        """Pass what the client sent."""
        self._pass("up", data, lambda: _send(self._socket, data, self._door.target))

    def _from_target(self, sock: socket.socket) -> None:
        for data, _ in _received(sock):
            self._pass("down", data, lambda sent=data: self._door.send(sent, self._address))

    def _pass(self, direction: str, data: bytes, send: Callable[[], None]) -> None:
        if self._door.blocked:
            return
        path = self._paths.get(direction) if is_rtp(data) else None
        loop = asyncio.get_running_loop()
        now = loop.time()
        arrivals = [now] if path is None else path.passes(now)
        if is_rtp(data):
            self._door.count(direction, len(arrivals))
        for at in arrivals:
            if at <= now:
                send()
            else:
                loop.call_at(at, send)


class Door:
    """One port of ours, and who comes by it."""

    def __init__(self, target: int) -> None:
        self.target = ("127.0.0.1", target)
        self.blocked = False
        self.weather = {name: Weather() for name in DIRECTIONS}
        self.seed: int | None = None
        self.clients: dict[Address, Client] = {}
        self.counts = {f"{name} {what}": 0 for name in DIRECTIONS for what in ("in", "out")}
        # Five digits, as in the addresses that `Cable` writes anew.
        self._socket = _bound(free_port(socket.SOCK_DGRAM))
        self.port = int(self._socket.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def count(self, direction: str, copies: int) -> None:
        """Count a packet of RTP."""
        self.counts[f"{direction} in"] += 1
        self.counts[f"{direction} out"] += copies

    def send(self, data: bytes, to: Address) -> None:
        """Send from our port."""
        _send(self._socket, data, to)

    def _readable(self) -> None:
        for data, address in _received(self._socket):
            client = self.clients.get(address)
            if client is None:
                client = Client(self, address, self.weather)
                self.clients[address] = client
                if self.seed is not None:
                    client.begin(self.seed)
            client.up(data)


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))  # answers come from there, whichever interface asked
    sock.setblocking(False)
    return sock


def _received(sock: socket.socket) -> list[tuple[bytes, Address]]:
    found: list[tuple[bytes, Address]] = []
    while len(found) < 64:
        try:
            found.append(sock.recvfrom(65536))
        except BlockingIOError:
            break
        except OSError:
            continue  # ICMP: nobody listens there now
    return found


def _send(sock: socket.socket | None, data: bytes, to: Address) -> None:
    try:
        if sock is not None:
            sock.sendto(data, to)
    except OSError:
        return  # lost, as on a wire


class House:
    """All doors of one process."""

    def __init__(self) -> None:
        self._doors: dict[int, Door] = {}

    def do(self, verb: str, *, port: int = 0, **given: Any) -> Any:
        """Do one command; *port* names one door, 0 all of them."""
        doors = [self._doors[port]] if port else list(self._doors.values())
        match verb:
            case "open":
                door = Door(given["target"])
                self._doors[door.port] = door
                return door.port
            case "weather":
                for door in doors:
                    door.weather = {name: Weather(**given[name]) for name in DIRECTIONS}
            case "begin":
                for door in doors:
                    door.seed = given["seed"]
                    for client in door.clients.values():
                        client.begin(given["seed"])
            case "block" | "unblock":
                for door in doors:
                    door.blocked = verb == "block"
            case "hop":
                for door in doors:
                    for client in door.clients.values():
                        client.hop()
            case "counts":
                return [door.counts for door in doors]
            case _:
                raise ValueError(f"no such command: {verb}")
        return None

    async def serve(self) -> None:
        """Do what the lines of standard input say, until it ends."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            sys.stdout.write(json.dumps(self.do(command.pop("do"), **command)) + "\n")
            sys.stdout.flush()


class Relay:
    """The test's end of the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    async def ask(self, do: str, **given: Any) -> Any:
        """Have something done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
            return json.loads(await self._process.stdout.readline())

    async def open(self, target: int) -> int:
        """Relay to *target* of loopback; return the port to send to."""
        return int(await self.ask("open", target=target))

    async def weather(self, up: Weather, down: Weather | None = None, *, port: int = 0) -> None:
        """Set the weather of clients that are to come; *down* is as *up* by default."""
        paths = {"up": asdict(up), "down": asdict(down or up)}
        await self.ask("weather", port=port, **paths)


@asynccontextmanager
async def relayed() -> AsyncIterator[Relay]:
    """Run a relay."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.system.relay"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Relay(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(House().serve())
