"""A day in the life of a bridge, with what its operator types and sees.

Install on a fresh machine, first trunk by the README, calls, a hold, a reload with a bad file
and with a good one, a livekit-server that dies in mid-call, an upgrade by drain, and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.speech import write_greeting
from tests.ports import free_port
from tests.system.conftest import PrivateLiveKit
from tests.system.fresh_root import (
    CONFIG,
    CURRENT,
    STATE,
    UNIT,
    Done,
    FreshRoot,
    Unit,
    fresh_root,
    manager_name,
    now,
)
from tests.system.harness import ROOT, media_ports, until
from tests.system.notified import NotifySocket

pytestmark = pytest.mark.system

NUMBER = "+918047361000"  # of the README
SECOND_NUMBER = "+918047361001"
CALLEE = "+919876543210"
NEXT_VERSION = "0.1.1"
_TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r'(?m)^version = "(.+)"$')


class Day:
    """What the steps share: the machine, the unit, the operator's ports and eyes."""

    def __init__(
        self, root: FreshRoot, manager: NotifySocket, server: PrivateLiveKit, folder: Path
    ) -> None:
        self.root = root
        self.manager = manager
        self.livekit = server
        self.folder = folder
        self.sip_port = free_port()
        self.http_port = free_port()
        self.carrier_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.media = media_ports()
        self.unit: Unit | None = None
        self.agent: SupportAgent | None = None

    async def types(self, *command: str, **options: Any) -> Done:
        """Run a command of the operator on the machine."""
        return await self.root.run(*command, **options)

    @property
    def service(self) -> Unit:
        """The unit as it is installed now."""
        assert self.unit is not None
        return self.unit

    async def start(self) -> float:
        """``systemctl start trunkbridge``; return when it was ready."""
        began = now()
        self.unit = Unit(self.root, self.folder / "journal.log")
        self.unit.start(self.manager)
        waiting = asyncio.create_task(self.manager.hears("READY=1", since=began, within=60))
        while not waiting.done():
            await asyncio.wait([waiting], timeout=0.2)
            assert self.unit.runs, self.unit.log.read_text("utf-8")[-4000:]
        return (await waiting).at

    async def stop(self) -> None:
        """``systemctl stop trunkbridge``."""
        began = now()
        self.service.signal(signal.SIGTERM)
        await self.manager.hears("STOPPING=1", since=began)
        assert await self.service.ended() == 0

    async def ready(self) -> int:
        """Return the status of ``/readyz``."""
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{self.url}/readyz")).status_code

    async def is_ready(self) -> bool:
        """Whether new calls are taken."""
        return await self.ready() == 200

    async def is_not_ready(self) -> bool:
        """Whether it answers, and takes no new calls."""
        return await self.ready() == 503

    async def events(self, call_id: str) -> list[dict[str, Any]]:
        """Return a call's events as the API has them."""
        async with httpx.AsyncClient() as http:
            reply = await http.get(f"{self.url}/api/v1/calls/{call_id}/events")
        reply.raise_for_status()
        return list(reply.json())

    async def ended(self, call_id: str) -> list[dict[str, Any]]:
        """Wait for a call's end; return its events."""

        async def over() -> list[dict[str, Any]]:
            events = await self.events(call_id)
            return events if events[-1]["event"] == "call_ended" else []

        events: list[dict[str, Any]] = await until(over, "the call's end")
        return events

    async def active(self) -> list[str]:
        """Return the ids of the calls that run."""
        async with httpx.AsyncClient() as http:
            reply = await http.get(f"{self.url}/api/v1/calls/active")
        return [call["id"] for call in reply.json()]

    def write_config(self, text: str) -> None:
        """Save the file in the operator's editor, which keeps its owner and mode."""
        self.root.path(CONFIG).write_text(text, "utf-8")

    def readmes_config(self) -> str:
        """Return both blocks of the README; only ports, keys and the server are this test's."""
        blocks = _TOML.findall((ROOT / "README.md").read_text("utf-8"))
        server = self.livekit.server
        text = "\n".join(blocks)
        for old, new in (
            ('url = "ws://127.0.0.1:7880"', f'url = "{server.url}"'),
            ('api_key = "devkey"', f'api_key = "{server.api_key}"'),
            ('api_secret = "secret"', f'api_secret = "{server.api_secret}"'),
            ("port = 5090", f"port = {self.carrier_port}"),
            ('host = "pstn.in1.exotel.com"', 'host = "192.0.2.10"'),  # no question to anybody's DNS
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text + (
            f'\n[sip]\nlisten = ["tcp:127.0.0.1:{self.sip_port}"]\n'
            f'[media]\nlisten = "127.0.0.1"\nports = "{self.media}"\n'
            f'[http]\nlisten = "127.0.0.1:{self.http_port}"\n'
        )

    async def built_in_carrier(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run ``trunkbridge carrier``; return its report of the one call."""
        listen = f"127.0.0.1:{free_port() if '--dial' in arguments else self.carrier_port}"
        done = await self.types(
            "trunkbridge", "carrier", "--listen", listen, *arguments, status=status
        )
        reports = [json.loads(line) for line in done.lines() if '"report"' in line]
        assert len(reports) == 1, done.out
        report: dict[str, Any] = reports[0]["report"]
        return report

    def sip_uri(self, number: str) -> str:
        """Return where the bridge is called."""
        return f"sip:{number}@127.0.0.1:{self.sip_port}"


class SupportAgent:
    """The agent ``support``: a livekit-agents worker of the operator's, a process of its own."""

    def __init__(self, day: Day) -> None:
        greeting = day.folder / "greeting.wav"
        write_greeting(greeting)
        self.seen: list[dict[str, Any]] = []
        self._file = day.folder / "agent.jsonl"
        server = day.livekit.server
        command = [sys.executable, "-m", "bridge.demo.agent", "--url", server.url]
        with self._file.open("wb") as out, (day.folder / "agent.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--name", "support", "--greeting", str(greeting)],
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "LIVEKIT_API_KEY": server.api_key,
                    "LIVEKIT_API_SECRET": server.api_secret,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def noticed(self, what: str) -> int:
        """Return how often it has said so."""
        lines = self._file.read_text("utf-8").splitlines()
        return sum(json.loads(line)["agent"] == what for line in lines)

    async def notices(self, what: str, times: int = 1, within: float = 30.0) -> None:
        """Wait until it has said so that often."""
        await until(lambda: self.noticed(what) >= times, f"the agent: {what}", within)

    def stop(self) -> None:
        """End it and what it started."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
async def day(private_livekit: PrivateLiveKit, tmp_path: Path) -> AsyncIterator[Day]:
    folder = tmp_path / "root"
    folder.mkdir()
    async with fresh_root(folder) as root, NotifySocket(manager_name()) as manager:
        made = Day(root, manager, private_livekit, tmp_path)
        try:
            yield made
        finally:
            if made.unit is not None:
                made.unit.kill()
                log = made.unit.log.read_text("utf-8", "replace")
                print(f"--- the service's log\n{log[-6000:]}")  # noqa: T201 (pytest shows it)
            if made.agent is not None:
                made.agent.stop()


async def test_a_day_in_the_life(day: Day) -> None:
    await install(day)
    await configure(day)
    await first_start(day)
    first = await an_inbound_call_with_a_hold(day)
    await an_outbound_call(day)
    await a_reload_with_a_bad_file_and_with_a_good_one(day)
    await livekit_dies_in_mid_call(day)
    await an_upgrade_by_drain(day)
    await yesterdays_calls_are_still_there(day, first)
    await goodbye(day)


async def install(day: Day) -> None:
    done = await day.types("make", "install", folder=str(ROOT), within=240)
    version = _VERSION.search((ROOT / "pyproject.toml").read_text("utf-8"))
    assert version is not None
    assert re.search(rf"(?m)^trunkbridge {version[1]}-[0-9a-f]{{8}} is installed\.$", done.out)
    assert "  1. edit /etc/trunkbridge/trunkbridge.toml" in done.lines()
    assert "  3. systemctl enable --now trunkbridge" in done.lines()
    assert day.root.path(UNIT).read_text("utf-8") == (
        ROOT / "systemd" / "trunkbridge.service"
    ).read_text("utf-8")
    if not day.root.isolated:
        return
    assert "install: made the system user trunkbridge" in done.lines()
    listed = await day.types("stat", "-c", "%A %U:%G", "/etc/trunkbridge", CONFIG, STATE)
    assert listed.lines() == [
        "drwxr-x--- root:trunkbridge",
        "-rw-r----- root:trunkbridge",
        "drwxr-x--- trunkbridge:trunkbridge",
    ]
    if shutil.which("systemd-analyze") is not None:
        verified = await day.types("systemd-analyze", "verify", "--man=no", UNIT)
        assert "trunkbridge" not in verified.err


async def configure(day: Day) -> None:
    text = day.readmes_config()
    day.write_config(text.replace('profile = "exotel"', 'profil = "exotel"'))
    wrong = await day.types("trunkbridge", "check", status=2)
    file = CONFIG if day.root.isolated else str(day.root.path(CONFIG))
    where = f"{file}:trunk[0].profil: unknown key, allowed: "
    assert [line for line in wrong.err.splitlines() if line.startswith(where)]
    day.write_config(text)
    right = await day.types("trunkbridge", "check")
    assert right.lines()[0] == f"# {file}"
    assert 'name = "exotel"' in right.lines()
    assert day.livekit.server.api_secret not in right.out
    assert right.err == ""


async def first_start(day: Day) -> None:
    await day.start()
    assert await day.ready() == 200
    if day.root.isolated:
        seen = await day.types(
            "stat", "-c", "%A %U", f"{STATE}/journal.db", f"/proc/{day.service.pid}"
        )
        assert seen.lines() == ["-rw------- trunkbridge", "dr-xr-xr-x trunkbridge"]
        status = (await day.types("cat", f"/proc/{day.service.pid}/status")).lines()
        assert {"CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} <= set(status)
        assert "Seccomp:\t2" in status or shutil.which("systemd-analyze") is None
    else:
        assert day.root.path(f"{STATE}/journal.db").exists()
    day.agent = SupportAgent(day)
    await day.agent.notices("ready", within=60)


async def an_inbound_call_with_a_hold(day: Day) -> str:
    """The README's own call; return its id."""
    assert day.agent is not None
    calling = asyncio.create_task(
        day.built_in_carrier(
            *("--dial", day.sip_uri(NUMBER), "--script"),
            "expect audio within 15s; talk 2s; hold sendonly 2s; resume;"
            " expect audio within 5s; talk 1s; hangup",
        )
    )
    call_id = str((await until(day.active, "a call", 10))[0])
    told = await day.manager.hears("STATUS=calls: 1")
    report = await calling
    assert report["failed"] is None
    assert report["violations"] == []
    await day.manager.hears("STATUS=calls: 0", since=told.at)
    events = await day.events(call_id)
    assert [event["event"] for event in events] == [
        "call_ringing",
        "call_answered",
        "call_hold",
        "call_resume",
        "call_ended",
    ]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert (events[-1]["outcome"], events[-1]["ended_by"]) == ("completed", "caller")
    for noticed in ("joined", "greeting", "quiet", "talking again", "ended"):
        await day.agent.notices(noticed)
    listed = await day.types("trunkbridge", "calls")
    assert any(line.startswith(call_id) and "completed" in line for line in listed.lines())
    shown = (await day.types("trunkbridge", "show", call_id)).out
    for word in ("call_hold", "call_resume", "INVITE", "BYE"):
        assert word in shown
    return call_id


async def an_outbound_call(day: Day) -> None:
    answering = asyncio.create_task(
        day.built_in_carrier(
            "--script", "ring 1s; answer; expect audio within 15s; talk 1s; hangup", "--calls", "1"
        )
    )
    await until(lambda: _listens(day.carrier_port), "the carrier listens")
    dialled = await day.types(
        *("trunkbridge", "dial", "--to", CALLEE, "--trunk", "desk", "--agent", "support"),
        "--wait",
    )
    assert (await answering)["failed"] is None
    assert [name for name in ("call_ringing", "call_answered", "call_ended") if name in dialled.out]
    assert "outcome=completed" in dialled.out


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def a_reload_with_a_bad_file_and_with_a_good_one(day: Day) -> None:
    good = day.readmes_config()
    route = f'\n[[route]]\nnumber = "{SECOND_NUMBER}"\nagent = "support"\n'
    day.write_config(good + route.replace("agent", "agnet"))
    began = now()
    refused = await day.types("trunkbridge", "reload", status=1)
    assert "route[1].agnet: unknown key" in refused.err
    told = await day.manager.hears("READY=1", since=began)
    assert "STATUS=calls: 0; the last reload was refused, see the log" in told.lines
    assert await day.ready() == 200
    no_route = "expect status 404 within 5s"
    report = await day.built_in_carrier("--dial", day.sip_uri(SECOND_NUMBER), "--script", no_route)
    assert report["failed"] is None  # nothing changed
    report = await day.built_in_carrier(
        *("--dial", day.sip_uri(NUMBER), "--script", "expect audio within 15s; hangup")
    )
    assert report["failed"] is None  # and what worked works
    day.write_config(good + route)
    again = now()
    await day.types("trunkbridge", "reload")
    assert "STATUS=calls: 0" in (await day.manager.hears("READY=1", since=again)).lines
    report = await day.built_in_carrier(
        *("--dial", day.sip_uri(SECOND_NUMBER), "--script", "expect audio within 15s; hangup")
    )
    assert report["failed"] is None


async def answered(day: Day, carrier: Carrier, number: str) -> Leg:
    """Return a call to *number* that the agent has answered."""
    leg = await carrier.dial(day.sip_uri(number), fresh=True)
    await leg.run("talk; expect audio within 15s")
    assert leg.report.failed is None, leg.report.failed
    return leg


async def livekit_dies_in_mid_call(day: Day) -> None:
    assert day.agent is not None
    async with Carrier() as carrier:
        leg = await answered(day, carrier, NUMBER)
        (call_id,) = await day.active()
        await asyncio.to_thread(day.livekit.kill)
        await until(day.is_not_ready, "not ready without LiveKit", 10)
        await leg.run("wait 1s; expect quiet 1s")  # the call is up, with nobody in it
        assert leg.report.failed is None, leg.report.failed
        assert await asyncio.to_thread(day.livekit.start)
        back = now()
        await leg.run("expect audio within 30s")  # the agent is back, or another one
        print(f"audio {now() - back:.1f} s after LiveKit")  # noqa: T201
        await leg.run("hangup")
        assert leg.report.failed is None, leg.report.failed
        events = await day.ended(call_id)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["outcome"] == "completed"
    await until(day.is_ready, "ready with LiveKit", 10)
    await day.agent.notices("ready", 2)  # the worker, registered at the new server


async def an_upgrade_by_drain(day: Day) -> None:
    source = await next_version(day)
    async with Carrier() as carrier:
        leg = await answered(day, carrier, NUMBER)
        draining = asyncio.create_task(day.types("trunkbridge", "drain", "--wait"))
        await until(day.is_not_ready, "not ready while draining", 10)
        newcomer = await carrier.dial(day.sip_uri(NUMBER), fresh=True)
        await newcomer.run("expect status 503 within 5s")
        assert newcomer.report.failed is None, newcomer.report.failed
        before = day.root.path(CONFIG).read_text("utf-8")
        process, old = day.service.pid, os.readlink(day.root.path(CURRENT))
        installed = await day.types("make", "install", folder=source, within=240)
        assert f"install: kept {CONFIG}" in installed.lines()
        assert day.root.path(CONFIG).read_text("utf-8") == before
        assert os.readlink(day.root.path(CURRENT)) != old
        assert day.service.runs
        assert day.service.pid == process
        await leg.run("expect audio within 5s; talk 1s; hangup")  # the call heard nothing of it
        assert leg.report.failed is None, leg.report.failed
        drained = await draining
        assert drained.lines()[-1] == "drained, no call is left"
    await day.stop()
    await day.start()
    assert await day.ready() == 200
    async with httpx.AsyncClient() as http:
        about = (await http.get(f"{day.url}/openapi.json")).json()["info"]
    assert about["version"] == NEXT_VERSION
    report = await day.built_in_carrier(
        *("--dial", day.sip_uri(NUMBER), "--script", "expect audio within 15s; hangup")
    )
    assert report["failed"] is None


async def next_version(day: Day) -> str:
    """Return the source of the next version, as the operator unpacked it."""
    source = day.folder / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests")
    await asyncio.to_thread(shutil.copytree, ROOT, source, ignore=ignored)
    project = source / "pyproject.toml"
    text = _VERSION.sub(f'version = "{NEXT_VERSION}"', project.read_text("utf-8"), count=1)
    project.write_text(text, "utf-8")
    wheels = ROOT / ".cache" / "wheels"
    if wheels.is_dir():
        (source / ".cache").mkdir()
        (source / ".cache" / "wheels").symlink_to(wheels)
    return str(source)


async def yesterdays_calls_are_still_there(day: Day, call_id: str) -> None:
    events = await day.events(call_id)
    assert events[-1]["event"] == "call_ended"
    listed = await day.types("trunkbridge", "calls")
    assert any(line.startswith(call_id) for line in listed.lines())
    complaints = [
        line
        for line in day.service.logged()
        if line.get("level") in ("error", "critical")
        and line.get("event") != "config.reload_refused"
    ]
    assert complaints == []


async def goodbye(day: Day) -> None:
    await day.stop()
    removed = await day.types("bash", "scripts/uninstall.sh", folder=str(ROOT))
    assert f"uninstall: kept /etc/trunkbridge and {STATE} (PURGE=1 removes them)" in removed.lines()
    assert not day.root.path(UNIT).exists()
    assert not day.root.path("/opt/trunkbridge").exists()
    assert not day.root.path("/usr/local/bin/trunkbridge").is_symlink()
    assert day.root.path(CONFIG).exists()
    assert day.root.path(f"{STATE}/journal.db").exists()
    await day.types("bash", "scripts/uninstall.sh", folder=str(ROOT), given={"PURGE": "1"})
    assert not day.root.path("/etc/trunkbridge").exists()
    assert not day.root.path(STATE).exists()
    if day.root.isolated:
        await day.types("getent", "passwd", "trunkbridge", status=2)
