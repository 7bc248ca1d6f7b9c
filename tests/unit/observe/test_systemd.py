"""What systemd is told, read from a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.observe import systemd
from bridge.observe.systemd import ClockSign, Notifier, Unit

pytestmark = pytest.mark.unit


class Supervisor:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def environ(self, watchdog_usec: int = 0) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(watchdog_usec)}

    def heard(self) -> list[list[str]]:
        """Return the datagrams that came since the last look, as lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(65536).decode().split("\n"))
            except BlockingIOError:
                return found

    async def hears(self, wanted: str) -> list[str]:
        """Wait for a datagram with the line *wanted*; return it."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            while True:
                datagram = (await loop.sock_recv(self.socket, 65536)).decode().split("\n")
                if wanted in datagram:
                    return datagram


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisor]:
    kind = request.param
    address = f"@{uuid.uuid4().hex}" if kind == "abstract" else str(tmp_path / "notify")
    made = Supervisor(address)
    yield made
    made.socket.close()


async def nothing_dead() -> list[str]:
    return []


async def started(
    supervisor: Supervisor,
    dead: Callable[[], Awaitable[list[str]]] = nothing_dead,
    *,
    status: Callable[[], str] = lambda: "calls: 0",
    watchdog_usec: int = 0,
) -> Unit:
    unit = Unit.from_environment(supervisor.environ(watchdog_usec))
    unit.start(dead=dead, status=status)
    return unit


async def test_ready_is_said_with_the_status(supervisor: Supervisor) -> None:
    unit = await started(supervisor)
    assert supervisor.heard() == [["READY=1", "STATUS=calls: 0"]]
    await unit.stop()


async def test_a_reload_is_said_with_its_moment_and_ended_by_ready(supervisor: Supervisor) -> None:
    unit = await started(supervisor)
    supervisor.heard()
    with unit.reload():
        (reloading,) = supervisor.heard()
    assert reloading[0] == "RELOADING=1"
    name, _, moment = reloading[1].partition("=")
    assert name == "MONOTONIC_USEC"
    now = asyncio.get_running_loop().time() * 1e6
    assert now - 5e6 < int(moment) <= now
    assert supervisor.heard() == [["READY=1", "STATUS=calls: 0"]]
    await unit.stop()


async def test_a_reload_during_the_start_does_not_say_that_we_are_ready(
    supervisor: Supervisor,
) -> None:
    unit = Unit.from_environment(supervisor.environ())
    with unit.reload():
        pass
    assert supervisor.heard() == []
    unit.start(dead=nothing_dead, status=lambda: "calls: 0")
    assert supervisor.heard() == [["READY=1", "STATUS=calls: 0"]]
    await unit.stop()


async def test_a_refused_reload_stays_in_the_status_until_one_works(supervisor: Supervisor) -> None:
    unit = await started(supervisor)

    class Refused(Exception):
        pass

    with pytest.raises(Refused), unit.reload():
        raise Refused
    refused = "STATUS=calls: 0; the last reload was refused, see the log"
    assert supervisor.heard()[-1] == ["READY=1", refused]
    with unit.reload():
        pass
    assert supervisor.heard()[-1] == ["READY=1", "STATUS=calls: 0"]
    await unit.stop()


async def test_a_drain_asks_for_more_time_again_and_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "TURN", 0.01)
    unit = await started(supervisor)
    unit.draining()
    first = await supervisor.hears("STOPPING=1")
    assert first == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=15000000", "STATUS=draining; calls: 0"]
    await supervisor.hears("EXTEND_TIMEOUT_USEC=15000000")
    await supervisor.hears("EXTEND_TIMEOUT_USEC=15000000")
    await unit.stop()


async def test_an_end_without_a_drain_says_stopping_too(supervisor: Supervisor) -> None:
    unit = await started(supervisor)
    unit.ending()
    assert supervisor.heard()[-1][0] == "STOPPING=1"
    await unit.stop()


async def test_the_status_follows_the_calls_and_is_one_line(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "TURN", 0.01)
    calls = 0
    unit = await started(supervisor, status=lambda: f"calls:\n{calls}" + " " * 900 + "x" * 900)
    calls = 2
    while True:
        datagram = await supervisor.hears(f"STATUS=calls: 2 {'x' * 391}")
        assert len(datagram) == 1
        break
    await unit.stop()


async def test_the_watchdog_is_fed_while_nothing_is_dead(supervisor: Supervisor) -> None:
    unit = await started(supervisor, watchdog_usec=40_000)
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        await supervisor.hears("WATCHDOG=1")
    assert asyncio.get_running_loop().time() - began >= 4 * 0.02 - 0.002  # in halves, no faster
    await unit.stop()


async def test_the_watchdog_starves_while_a_part_is_dead_and_is_fed_soon_after(
    supervisor: Supervisor,
) -> None:
    dead = ["media clock"]
    looks = asyncio.Queue[None]()

    async def look() -> list[str]:
        looks.put_nowait(None)
        return list(dead)

    unit = await started(supervisor, look, watchdog_usec=100_000)
    for _ in range(4):
        await looks.get()
    assert all("WATCHDOG=1" not in datagram for datagram in supervisor.heard())
    dead.clear()
    await supervisor.hears("WATCHDOG=1")
    await unit.stop()


async def test_a_look_that_does_not_end_starves_the_watchdog(supervisor: Supervisor) -> None:
    looks = asyncio.Queue[None]()

    async def look() -> list[str]:
        looks.put_nowait(None)
        await asyncio.Event().wait()
        return []

    unit = await started(supervisor, look, watchdog_usec=20_000)
    for _ in range(3):
        await looks.get()
    assert all("WATCHDOG=1" not in datagram for datagram in supervisor.heard())
    await unit.stop()


async def test_while_the_listeners_are_being_closed_only_the_loop_has_to_turn(
    supervisor: Supervisor,
) -> None:
    async def look() -> list[str]:
        return ["sip listeners"]

    unit = await started(supervisor, look, watchdog_usec=20_000)
    unit.ending()
    await supervisor.hears("WATCHDOG=1")
    await unit.stop()


async def test_what_could_not_be_said_is_said_when_somebody_listens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "TURN", 0.01)
    address = tmp_path / "notify"
    unit = Unit.from_environment({"NOTIFY_SOCKET": str(address)})
    unit.start(dead=nothing_dead, status=lambda: "calls: 0")  # nobody there: READY is kept
    supervisor = Supervisor(str(address))
    assert (await supervisor.hears("READY=1")) == ["READY=1", "STATUS=calls: 0"]
    await unit.stop()
    supervisor.socket.close()


def test_a_full_socket_never_blocks_or_raises(tmp_path: Path) -> None:
    supervisor = Supervisor(str(tmp_path / "notify"))
    notifier = Notifier(supervisor.address)
    told = [notifier.tell("STATUS=" + "x" * 1000) for _ in range(2000)]
    assert told[0] is True
    assert told[-1] is False
    notifier.close()
    supervisor.socket.close()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
async def test_without_a_socket_we_know_nothing_is_sent(address: str) -> None:
    unit = Unit.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    unit.start(dead=nothing_dead, status=lambda: "")
    with unit.reload():
        pass
    unit.draining()
    unit.ending()
    assert len(asyncio.all_tasks()) == 1  # the test's own
    await unit.stop()


async def test_the_watchdog_of_another_process_is_not_ours(supervisor: Supervisor) -> None:
    environ = {**supervisor.environ(20_000), "WATCHDOG_PID": str(os.getpid() + 1)}
    unit = Unit.from_environment(environ)
    unit.start(dead=nothing_dead, status=lambda: "")
    assert len(asyncio.all_tasks()) == 2  # the test's own, and the status
    await unit.stop()


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("", None), ("/var/lib/one", Path("/var/lib/one")), ("/a:/b", Path("/a"))],
)
def test_the_state_folder_is_the_units_first(variable: str, folder: Path | None) -> None:
    assert Unit.from_environment({"STATE_DIRECTORY": variable}).state == folder


@dataclass(frozen=True)
class Reading:
    turns: int
    ought_to_turn: bool


def test_a_clock_that_ought_to_turn_and_does_not_is_dead() -> None:
    turns, ought = 5, True
    sign = ClockSign(lambda: Reading(turns, ought))
    assert sign.alive()  # the first look
    assert not sign.alive()
    turns = 6
    assert sign.alive()
    ought = False
    assert sign.alive()  # nobody wants it to turn
    ought = True
    assert sign.alive()  # it has only just got something to do
    assert not sign.alive()
