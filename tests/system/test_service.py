"""The daemon as a service manager sees it: ready, fed, reloaded, drained, hung up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.system.calls import inbound
from tests.system.harness import (
    AGENT_HERTZ,
    ROOT,
    Bridge,
    Desk,
    Server,
    now_number,
    until,
)
from tests.system.notified import NotifySocket

pytestmark = pytest.mark.system

WATCHDOG = 2.0  # seconds; the unit has 20


@pytest.fixture
async def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NotifySocket]:
    """A service manager that every daemon of the test belongs to."""
    async with NotifySocket(tmp_path / "notify") as made:
        for name, value in made.environ(WATCHDOG).items():
            monkeypatch.setenv(name, value)
        yield made


async def status_of(url: str) -> int:
    async with httpx.AsyncClient(timeout=2) as http:
        return (await http.get(url)).status_code


async def options(bridge: Bridge) -> str:
    """Return the first line of the answer to an OPTIONS over UDP."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(0)
        port = probe.getsockname()[1]
        request = (
            f"OPTIONS sip:127.0.0.1:{bridge.sip_port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{os.urandom(6).hex()};rport\r\n"
            f"Max-Forwards: 70\r\nTo: <sip:127.0.0.1>\r\n"
            f"From: <sip:probe@127.0.0.1>;tag={os.urandom(4).hex()}\r\n"
            f"Call-ID: {os.urandom(8).hex()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        await loop.sock_sendto(probe, request.encode(), ("127.0.0.1", bridge.sip_port))
        answer = await asyncio.wait_for(loop.sock_recv(probe, 65536), 5)
    return answer.decode().splitlines()[0]


# --- ready -------------------------------------------------------------------------------


async def test_ready_is_said_once_and_not_before_sip_and_http_answer(
    desk: Desk, manager: NotifySocket, tmp_path: Path
) -> None:
    bridge = Bridge(tmp_path, desk.server)
    desk.bridges.append(bridge)
    refused: list[float] = []

    async def knock() -> None:
        """Note when nobody was there yet."""
        while not manager.saying("READY=1"):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", bridge.sip_port)
                writer.close()
            except OSError:
                refused.append(time.monotonic())
            await asyncio.sleep(0.02)

    knocking = asyncio.create_task(knock())
    await bridge.start()
    ready = await manager.hears("READY=1", within=10)
    await knocking
    assert refused
    assert max(refused) < ready.at
    assert "STATUS=calls: 0" in ready.lines
    assert await status_of(f"{bridge.url}/readyz") == 200
    assert await options(bridge) == "SIP/2.0 200 OK"
    assert manager.saying("READY=1") == [ready]


async def test_a_daemon_that_cannot_start_is_never_ready(
    desk: Desk, manager: NotifySocket, tmp_path: Path
) -> None:
    bridge = Bridge(tmp_path, desk.server)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", bridge.http_port))
        taken.listen()
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "bridge", "run", "--config", str(bridge.config)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 1
    assert f"http.listen: 127.0.0.1:{bridge.http_port}" in ended.stderr
    assert manager.saying("READY=1") == []
    await bridge.stop()


# --- the watchdog ------------------------------------------------------------------------


async def test_the_watchdog_is_fed_in_a_call_and_not_by_a_stopped_process(
    desk: Desk, manager: NotifySocket
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, _ = await inbound(desk, bridge.sip_uri, carrier)
    await manager.hears("STATUS=calls: 1")
    for _ in range(3):
        await manager.hears("WATCHDOG=1", since=time.monotonic(), within=WATCHDOG)
    bridge.expect_lag()
    bridge.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    await asyncio.sleep(WATCHDOG)  # what systemd would wait for in vain
    assert manager.saying("WATCHDOG=1", stopped + 0.1) == []
    bridge.signal(signal.SIGCONT)
    await manager.hears("WATCHDOG=1", since=stopped + WATCHDOG, within=WATCHDOG)
    await leg.run("hangup")
    await manager.hears("STATUS=calls: 0", since=stopped)


async def test_a_stuck_loop_starves_the_watchdog_and_its_abort_says_where_it_is(
    livekit: Server, manager: NotifySocket, tmp_path: Path
) -> None:
    bridge = Bridge(tmp_path, livekit)
    log = (tmp_path / "stderr.log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 (a fork, no wait)
        [sys.executable, str(Path(__file__).with_name("stuck_loop.py")), "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRUNKBRIDGE_CONFIG": str(bridge.config)},
        stdout=log,
        stderr=log,
    )
    try:
        await manager.hears("WATCHDOG=1", within=30)
        process.send_signal(signal.SIGUSR1)
        stuck = time.monotonic()
        await asyncio.sleep(WATCHDOG)
        assert manager.saying("WATCHDOG=1", stuck + 0.2) == []
        # Nothing else would tell: the HTTP thread still lives.
        assert await status_of(f"{bridge.url}/healthz") == 200
        process.send_signal(signal.SIGABRT)  # what systemd sends then
        await until(lambda: process.poll() is not None, "the daemon dies")
        assert process.returncode == -signal.SIGABRT
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        log.close()
        await bridge.stop()
    traces = (tmp_path / "stderr.log").read_text("utf-8")
    assert "Fatal Python error: Aborted" in traces
    assert "in never_return" in traces


# --- reload ------------------------------------------------------------------------------


async def test_a_reload_is_announced_and_a_bad_file_shows_in_the_status(
    desk: Desk, manager: NotifySocket
) -> None:
    bridge = await desk.bridge()
    good = bridge.config.read_text("utf-8")
    bridge.expect_log("config.reload_refused")
    began = time.monotonic()
    bridge.config.write_text(good + '\n[[route]]\nnumber = "*"\nanswer = "never"\n', "utf-8")
    bridge.signal(signal.SIGHUP)
    reloading = await manager.hears("RELOADING=1", since=began)
    assert any(line.startswith("MONOTONIC_USEC=") for line in reloading.lines)
    ready = await manager.hears("READY=1", since=began)
    assert ready.at >= reloading.at
    assert "STATUS=calls: 0; the last reload was refused, see the log" in ready.lines
    bridge.config.write_text(good, "utf-8")
    again = time.monotonic()
    bridge.signal(signal.SIGHUP)
    assert "STATUS=calls: 0" in (await manager.hears("READY=1", since=again)).lines


# --- drain -------------------------------------------------------------------------------


async def test_sigterm_drains_and_a_second_one_hangs_up(desk: Desk, manager: NotifySocket) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"daemon": {"drain_timeout": 120}})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call_id = str((await agent.phone())["attributes"]["sip.callID"])
    assert await options(bridge) == "SIP/2.0 200 OK"

    bridge.signal(signal.SIGTERM)
    stopping = await manager.hears("STOPPING=1")
    assert "STATUS=draining; takes no new calls; calls: 1" in stopping.lines
    await manager.hears("EXTEND_TIMEOUT_USEC=15000000", since=stopping.at + 0.5)
    assert (await options(bridge)).startswith("SIP/2.0 503")
    assert await status_of(f"{bridge.url}/readyz") == 503
    assert await status_of(f"{bridge.url}/healthz") == 200
    refused = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
    await refused.run("expect status 503 within 2s")
    assert refused.report.failed is None, refused.report.failed
    async with httpx.AsyncClient() as http:
        dialled = await http.post(
            f"{bridge.url}/api/v1/calls",
            json={"phone_number": "+919000000001", "trunk": "carrier"},
        )
    assert dialled.status_code == 503
    await leg.run(f"expect audio {AGENT_HERTZ} within 2s")  # the call goes on

    told = time.monotonic()
    bridge.signal(signal.SIGTERM)
    await leg.run("expect hangup within 5s")
    assert leg.report.failed is None, leg.report.failed
    assert leg.report.ended_by == "them"
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["reason"]) == ("dropped", "shutdown")
    assert await bridge.exited() == 0
    assert time.monotonic() - told < 60  # not the two minutes of the drain
    assert manager.saying("WATCHDOG=1", stopping.at)  # fed until the end
    await bridge.start()  # the record is on disk
    record = await bridge.resource(call_id)
    assert (record["outcome"], record["reason"]) == ("dropped", "shutdown")
