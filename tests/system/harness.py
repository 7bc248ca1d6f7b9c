"""What the system tests are made of: the daemon as a process, stock agents, SIPp, deadlines.

Everything is looked at from outside, as docs/contract.md promises it. Moments are seconds of
``time.monotonic()``, one clock for all processes of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
import pytest
from livekit import api

from bridge.carrier.carrier import Carrier
from bridge.carrier.media import Media, tone_source
from tests.ports import free_port
from trunkbridge import Client
from trunkbridge.client import Call

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = Path(__file__).with_name("sipp")
TOPIC = "sip_bridge_events"
DEADLINE = 15.0  # seconds, for what usually takes well under one
POLL = 0.05
LATE = 0.05  # seconds that a loop may be late by its own doing

AGENT_HERTZ = 1000  # what agents say
CALLER_HERTZ = 440  # what the carrier's side says


class Server(Protocol):
    """The livekit-server of the session."""

    @property
    def url(self) -> str: ...
    @property
    def http_url(self) -> str: ...
    @property
    def udp_port(self) -> int: ...
    @property
    def api_key(self) -> str: ...
    @property
    def api_secret(self) -> str: ...


_media_blocks = itertools.count(20000 + (os.getpid() * 400) % 12000, 400)


def media_ports() -> str:
    """Return a range of ports for one bridge; neighbours in time get other ones."""
    first = 20000 + (next(_media_blocks) - 20000) % 12000
    return f"{first}-{first + 399}"


def missing(what: str) -> None:
    """Skip because *what* is not installed; a failure where everything must be."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


async def until(
    done: Callable[[], Any], what: str, within: float = DEADLINE, poll: float = POLL
) -> Any:
    """Wait until *done* returns something true, and return it; for other processes' states."""
    deadline = time.monotonic() + within
    while True:
        result = done()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(poll)


# --- the daemon ---------------------------------------------------------------------------


def toml(tables: Mapping[str, Any]) -> str:
    """Return *tables* as TOML: sections are mappings, arrays of tables are lists of them."""
    lines: list[str] = []
    for name, table in tables.items():
        for one in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {_toml_value(value)}" for key, value in one.items()]
            lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{_toml_value(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
        )
    return json.dumps(value)


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of the daemon's standard error; ``text`` for what is no JSON."""

    at: float
    level: str
    event: str
    text: str
    ours: float = 0.0  # seconds of a late loop that the machine did not take from it


class Bridge:
    """One daemon process with a folder, ports and a configuration of its own.

    ``trunk`` and ``sections`` override what is generated. `stop` fails when the daemon logged
    an error or a blocked loop that the test did not expect (`expect_log`).
    """

    program: tuple[str, ...] = ("-m", "bridge")
    engine = "auto"  # of ``[media]``; the fixture `engine` sets it for a test

    def __init__(
        self,
        folder: Path,
        server: Server,
        *,
        carrier_port: int = 9,
        trunk: Mapping[str, Any] | None = None,
        trunks: Iterable[Mapping[str, Any]] = (),
        routes: Iterable[Mapping[str, Any]] | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = folder
        self.server = server
        self.sip_port = free_port()
        self.http_port = free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.started = False
        self.logs: list[LogLine] = []
        self.client = Client(self.url)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._expected: set[str] = set()
        self._lag_expected = False
        self.config = folder / "trunkbridge.toml"
        self.config.write_text(
            toml(self._tables(carrier_port, trunk or {}, trunks, routes, sections or {}))
        )

    def _tables(
        self,
        carrier_port: int,
        trunk: Mapping[str, Any],
        trunks: Iterable[Mapping[str, Any]],
        routes: Iterable[Mapping[str, Any]] | None,
        sections: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        tables: dict[str, Any] = {
            "livekit": {
                "url": self.server.url,
                "api_key": self.server.api_key,
                "api_secret": self.server.api_secret,
            },
            "sip": {
                "listen": [f"tcp:127.0.0.1:{self.sip_port}", f"udp:127.0.0.1:{self.sip_port}"],
                "advertise": "127.0.0.1",
            },
            "media": {"listen": "127.0.0.1", "ports": media_ports(), "engine": self.engine},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "store": {
                "url": f"sqlite:///{self.folder}/trunkbridge.db",
                "journal": str(self.folder / "journal.db"),
                "instance": "under-test",
            },
            "daemon": {"drain_timeout": 1},
        }
        for name, values in sections.items():
            tables[name] = {**tables.get(name, {}), **values}
        first = {
            "name": "carrier",
            "host": "127.0.0.1",
            "port": carrier_port,
            "allow": ["127.0.0.0/8"],
            "media_allow": ["127.0.0.0/8"],
            "caller_id": "+912240000000",
            "calls_per_second": 50,
            "agent_timeout": 20,
            **trunk,
        }
        tables["trunk"] = [first, *trunks]
        tables["route"] = list(routes) if routes is not None else STANDARD_ROUTES
        return tables

    async def start(self, within: float = 30.0) -> None:
        """Start the daemon and wait until it is ready for calls."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRUNKBRIDGE_")}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment["PYTHONUNBUFFERED"] = "1"
        command = [sys.executable, *self.program, "run", "--config", str(self.config)]
        with (self.folder / "stdout.log").open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: ASYNC220 (a fork, no wait)
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.PIPE,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        async with httpx.AsyncClient() as http:

            async def ready() -> bool:
                if not self.alive:
                    raise AssertionError(f"the daemon ended:\n{self.tail()}")
                try:
                    return (await http.get(f"{self.url}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(ready, "the daemon is ready", within)
        self.started = True

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with (self.folder / "stderr.log").open("ab") as sink:
            for raw in process.stderr:
                sink.write(raw)
                sink.flush()
                self.logs.append(_log_line(raw.decode("utf-8", "replace").rstrip()))
        process.stderr.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the daemon."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        assert self._process is not None
        self._process.send_signal(number)

    async def exited(self, within: float = DEADLINE) -> int:
        """Wait for the end of the process; return its status."""
        process = self._process
        assert process is not None
        await until(lambda: process.poll() is not None, "the daemon ends", within)
        self._joined()
        return int(process.returncode)

    def _joined(self) -> None:
        if self._reader is not None:
            self._reader.join(5)
            self._reader = None

    async def kill(self) -> None:
        """End the daemon as a crash does."""
        self.signal(signal.SIGKILL)
        await self.exited()

    async def stop(self, *, check: bool = True) -> None:
        """SIGTERM, SIGKILL when that does not help; then judge the log."""
        stubborn = False
        if self.alive:
            self.signal(signal.SIGTERM)
            try:
                await self.exited(20)
            except AssertionError:
                stubborn = True
                await self.kill()
        self._joined()
        await self.client.aclose()
        sys.stdout.write(f"--- the daemon's log\n{self.tail()}\n")  # pytest shows it on failure
        if check and self.started:
            assert not stubborn, f"SIGTERM did not end the daemon\n{self.tail()}"
            assert not self.complaints(), "\n".join(self.complaints())

    def expect_log(self, *events: str) -> None:
        """Errors or lag lines with these event names are the test's own doing."""
        self._expected.update(events)

    def expect_lag(self) -> None:
        """The test itself stops the process: a blocked loop is no complaint."""
        self._lag_expected = True

    def complaints(self) -> list[str]:
        """Return the lines that a healthy daemon does not write."""
        return [line.text for line in self.logs if self._unwanted(line)]

    def _unwanted(self, line: LogLine) -> bool:
        if line.event in self._expected:
            return False
        if line.event == "loop.late":
            return not self._lag_expected and line.ours > LATE
        return line.level in ("error", "critical")

    def tail(self, count: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(line.text for line in self.logs[-count:])

    # what it says by HTTP

    async def dial(self, phone_number: str, **fields: Any) -> Call:
        """Dial by the API, over the trunk ``carrier``."""
        return await self.client.dial(phone_number, **{"trunk": "carrier", **fields})

    async def resource(self, call_id: str) -> dict[str, Any]:
        """Return the call as the API shows it."""
        return await self.client.call(call_id).status()

    async def events(self, call_id: str) -> list[dict[str, Any]]:
        """Return the call's events so far."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            reply = await http.get(f"/api/v1/calls/{call_id}/events")
        reply.raise_for_status()
        return list(reply.json())

    async def ended(self, call_id: str, within: float = DEADLINE) -> dict[str, Any]:
        """Wait for the call's ``call_ended`` and return it."""

        async def last() -> dict[str, Any] | None:
            events = await self.events(call_id)
            return events[-1] if events and events[-1]["event"] == "call_ended" else None

        result: dict[str, Any] = await until(last, f"call {call_id} ends", within)
        return result

    async def seen(self, call_id: str, event: str, within: float = DEADLINE) -> dict[str, Any]:
        """Wait for an event of the call and return it."""

        async def first() -> dict[str, Any] | None:
            return next((e for e in await self.events(call_id) if e["event"] == event), None)

        result: dict[str, Any] = await until(first, f"{event} of {call_id}", within)
        return result

    def sip_uri(self, number: str, transport: str = "tcp") -> str:
        """Return where the bridge is called."""
        return f"sip:{number}@127.0.0.1:{self.sip_port};transport={transport}"


AGENT_NUMBERS = [f"+9180100{index:05d}" for index in range(1, 41)]
"""Called, these wait for the agent; every other number is answered at once."""

STANDARD_ROUTES: list[Mapping[str, Any]] = [
    *({"number": one, "room": "in-{number}", "answer": "agent"} for one in AGENT_NUMBERS),
    {"number": "*", "room": "in-{number}", "answer": "now"},
]

_numbers = itertools.count(1)
_agent_numbers = itertools.cycle(AGENT_NUMBERS)


def now_number() -> str:
    """Return a number that nobody else dials and that is answered at once."""
    return f"+9180{next(_numbers):08d}"


def agent_number() -> str:
    """Return a number that is answered when an agent is there."""
    return next(_agent_numbers)


def room_of(number: str) -> str:
    """Return the room that the standard routes give a number."""
    return f"in-{number}"


def _log_line(text: str) -> LogLine:
    at = time.monotonic()
    try:
        document = json.loads(text)
    except ValueError:
        level = "error" if text.startswith(("Traceback", "Exception", "Fatal")) else ""
        return LogLine(at=at, level=level, event="", text=text)
    if not isinstance(document, dict):
        return LogLine(at=at, level="", event="", text=text)
    return LogLine(
        at=at,
        level=str(document.get("level", "")).lower(),
        event=str(document.get("event", "")),
        text=text,
        ours=(document.get("ms", 0) - document.get("waited_ms", 0)) / 1000,
    )


# --- agents -------------------------------------------------------------------------------


class AgentHost:
    """The process in which stock SDK participants live (`agent_host`)."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.agent_host"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._answers: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._agents: dict[str, tuple[asyncio.AbstractEventLoop, RoomAgent]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id of the host."""
        return self._process.pid

    def kill(self) -> None:
        """End the process as a crash does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    async def ask(self, do: str, agent: str, within: float = DEADLINE, **given: Any) -> Any:
        """Have the host do something; raises RuntimeError with its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        line = {"id": next(self._ids), "do": do, "agent": agent, **given}
        self._answers[line["id"]] = loop, future
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        self._process.stdin.flush()
        answer = await asyncio.wait_for(future, within)
        if not answer["ok"]:
            raise RuntimeError(f"{do} of {agent}: {answer['error']}")
        return answer.get("result")

    def adopt(self, agent: RoomAgent) -> None:
        """Deliver what *agent* sees to it, on the running loop."""
        with self._lock:
            self._agents[agent.name] = asyncio.get_running_loop(), agent

    def forget(self, agent: RoomAgent) -> None:
        """Deliver nothing any more."""
        with self._lock:
            self._agents.pop(agent.name, None)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = json.loads(raw)
            with contextlib.suppress(RuntimeError):  # the test's loop is closed
                if "id" in line:
                    loop, future = self._answers.pop(line["id"])
                    loop.call_soon_threadsafe(_settle, future, line)
                    continue
                with self._lock:
                    known = self._agents.get(line["agent"])
                if known is not None:
                    known[0].call_soon_threadsafe(known[1].take, line)


def _settle(future: asyncio.Future[Any], line: dict[str, Any]) -> None:
    if not future.done():
        future.set_result(line)


Seen = dict[str, Any]


class RoomAgent:
    """A stock participant: what it saw, in order, and ways to wait for more."""

    def __init__(self, host: AgentHost, server: Server, room: str, identity: str) -> None:
        self.name = f"{identity}/{room}/{uuid.uuid4().hex[:6]}"
        self.room = room
        self.identity = identity
        self.seen: list[Seen] = []
        self.host = host
        self._server = server
        self._changed = asyncio.Event()

    async def join(
        self,
        *,
        hertz: int | None = AGENT_HERTZ,
        rate: int = 48000,
        kind: str = "standard",
        listen: Iterable[int] = (CALLER_HERTZ, AGENT_HERTZ),
        when_up: bool = False,
        queue_ms: int = 100,
    ) -> None:
        """Join the room; publish a tone of *hertz* unless that is None.

        *when_up*: the server is away, and is watched until it answers. *queue_ms*: how far
        the voice may be ahead, for a machine that is busy.
        """
        token = (
            api.AccessToken(self._server.api_key, self._server.api_secret)
            .with_identity(self.identity)
            .with_name(self.identity)
            .with_kind(kind)  # type: ignore[arg-type]
            .with_grants(api.VideoGrants(room_join=True, room=self.room, agent=kind == "agent"))
            .to_jwt()
        )
        self.host.adopt(self)
        await self.host.ask(
            "join",
            self.name,
            within=60.0 if when_up else DEADLINE,
            when_up=self._server.http_url if when_up else "",
            url=self._server.url,
            token=token,
            listen=list(listen),
            hertz=hertz,
            rate=rate,
            queue_ms=queue_ms,
        )

    async def talk(self, hertz: int = AGENT_HERTZ, rate: int = 48000) -> None:
        """Publish a tone, or change it."""
        await self.host.ask("talk", self.name, hertz=hertz, rate=rate)

    async def press(self, digits: str) -> None:
        """Send keys, one after another."""
        for digit in digits:
            await self.host.ask("press", self.name, digit=digit)

    async def rpc(self, method: str, payload: str = "") -> str:
        """Call a method of the phone."""
        phone = (await self.phone())["identity"]
        result = await self.host.ask(
            "rpc", self.name, identity=phone, method=method, payload=payload
        )
        return str(result)

    async def send(self, text: str, topic: str) -> float:
        """Send a reliable data message to everyone; return when."""
        return float(await self.host.ask("send", self.name, text=text, topic=topic))

    async def counts(self) -> dict[str, int]:
        """Return the frames heard so far and the interruptions of a tone."""
        result: dict[str, int] = await self.host.ask("counts", self.name)
        return result

    async def keep(self) -> None:
        """Have what is heard from now on kept, for `kept`."""
        await self.host.ask("keep", self.name)

    async def kept(self, path: Path | None = None) -> dict[str, float]:
        """Return what `meter.judge` says of it; *path* gets the samples, 16 bits at 8 kHz."""
        result: dict[str, float] = await self.host.ask(
            "kept", self.name, path="" if path is None else str(path)
        )
        return result

    async def say_file(self, path: Path) -> None:
        """Say a file of 16-bit samples once, at the rate of the voice, instead of the tone."""
        await self.host.ask("say file", self.name, path=str(path))

    async def publish_anew(self, hertz: int = AGENT_HERTZ, rate: int = 48000) -> None:
        """Unpublish the voice and publish another."""
        await self.host.ask("publish anew", self.name, hertz=hertz, rate=rate)

    async def leave(self) -> None:
        """Leave the room."""
        await self.host.ask("leave", self.name)
        self.host.forget(self)

    def take(self, line: Seen) -> None:
        """Note what the participant saw."""
        self.seen.append(line)
        self._changed.set()

    def saw(self, what: str, since: float = 0.0, **fields: Any) -> list[Seen]:
        """Return what was seen of a kind, at or after *since*, with these values."""
        return [
            line
            for line in self.seen
            if line["saw"] == what
            and line["at"] >= since
            and all(line.get(key) == value for key, value in fields.items())
        ]

    async def until(self, wanted: Callable[[], Any], what: str, within: float = DEADLINE) -> Any:
        """Wait until *wanted* is true of what has been seen, and return it."""
        deadline = time.monotonic() + within
        while True:
            self._changed.clear()
            result = wanted()
            if result:
                return result
            left = deadline - time.monotonic()
            if left <= 0:
                story = "\n".join(json.dumps(line) for line in self.seen[-30:])
                raise AssertionError(f"{self.name}: not within {within:g} s: {what}\n{story}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    # the phone's events

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of the phone that came as data messages, each as its JSON object."""
        return [json.loads(line["text"]) for line in self.saw("data", topic=TOPIC)]

    def named(self, *names: str) -> list[dict[str, Any]]:
        """Return the events with these names."""
        return [event for event in self.events if event["event"] in names]

    async def event(self, name: str, count: int = 1, within: float = DEADLINE) -> dict[str, Any]:
        """Wait for the *count*-th event *name*; return it with ``received`` added."""

        def found() -> dict[str, Any] | None:
            seen = 0
            for line in self.saw("data", topic=TOPIC):
                event = json.loads(line["text"])
                seen += event["event"] == name
                if seen == count and event["event"] == name:
                    return {**event, "received": line["at"]}
            return None

        result: dict[str, Any] = await self.until(found, f"{name} number {count}", within)
        return result

    async def phone(self, within: float = DEADLINE) -> Seen:
        """Wait for the participant of kind SIP; return it as it was when first seen."""
        result: Seen = await self.until(
            lambda: next((p for p in self.saw("participant") if p["kind"].endswith("_SIP")), None),
            "a phone",
            within,
        )
        return result

    @property
    def attributes(self) -> dict[str, str]:
        """The phone's attributes as last seen."""
        latest: dict[str, str] = {}
        phones = {p["identity"] for p in self.saw("participant") if p["kind"].endswith("_SIP")}
        for line in self.seen:
            if line["saw"] in ("participant", "attributes") and line["identity"] in phones:
                latest = line["attributes"]
        return latest

    async def attribute(self, name: str, value: str, within: float = DEADLINE) -> None:
        """Wait until the phone's attribute has *value*."""
        await self.until(
            lambda: self.attributes.get(name) == value, f"attribute {name} = {value}", within
        )

    @property
    def muted(self) -> bool | None:
        """Whether the phone's track is muted; None while there is none."""
        state: bool | None = None
        for line in self.seen:
            if line["saw"] == "track":
                state = line["muted"] if line["name"] == "sip_audio" else state
            elif line["saw"] in ("muted", "unmuted") and state is not None:
                state = line["saw"] == "muted"
        return state

    async def is_muted(self, wanted: bool, within: float = DEADLINE) -> None:
        """Wait until the phone's track is muted, or not."""
        await self.until(lambda: self.muted is wanted, f"muted is {wanted}", within)

    async def hears(
        self, hertz: int = CALLER_HERTZ, *, since: float = 0.0, within: float = DEADLINE
    ) -> float:
        """Wait until a tone of *hertz* begins at or after *since*; return when it began.

        A tone that began earlier and still sounds does not count: `silent` comes first.
        """
        line = await self.until(
            lambda: self.saw("heard", since, hertz=hertz), f"{hertz} Hz since {since}", within
        )
        return float(line[0]["at"])

    def heard(self, since: float, before: float) -> list[Seen]:
        """Return the sound that began in an interval; silence is no sound."""
        return [line for line in self.saw("heard", since) if line["hertz"] and line["at"] < before]


# --- SIPp ---------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Sipp:
    """One run of Debian's unmodified SIPp with a scenario of ours.

    The scenario's ``sendCmd`` tells the test where it is, its ``recvCmd`` waits for the test
    (SIPp's own 3PCC channel), so that nobody waits by the clock.
    """

    folder: Path
    scenario: str
    target: str  # HOST:PORT, or "" for a scenario that is called
    port: int
    host: str = "127.0.0.1"
    transport: str = "t1"
    keys: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    rtp_port: int = 0  # what its SDP says; 0: SIPp's own, which only sends back what it gets
    _process: asyncio.subprocess.Process | None = None
    _server: asyncio.Server | None = None
    _said: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _writer: asyncio.StreamWriter | None = None
    _call_id: str = ""

    async def start(self) -> None:
        """Start SIPp; for a called scenario, wait until it listens."""
        binary = shutil.which("sipp")
        if binary is None:
            missing("sipp")
        assert binary is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        own = free_port(socket.SOCK_DGRAM)
        self._server = await asyncio.start_server(self._channel, "127.0.0.1", 0)
        channel = self._server.sockets[0].getsockname()[1]
        command = [binary, *([self.target] if self.target else [])]
        command += ["-sf", str(SCENARIOS / f"{self.scenario}.xml"), "-t", self.transport]
        command += ["-i", self.host, "-p", str(self.port), "-m", "1", "-nostdin"]
        command += ["-mi", self.host, "-mp", str(own), "-cp", str(free_port())]
        command += ["-timeout", "90", "-timeout_error"]
        if "<sendCmd>" in (SCENARIOS / f"{self.scenario}.xml").read_text():
            command += ["-3pcc", f"127.0.0.1:{channel}"]
        command += ["-trace_msg", "-message_file", str(self.folder / "messages.log")]
        command += ["-trace_err", "-error_file", str(self.folder / "errors.log")]
        keys = {"number": "callee", "rtp_port": str(self.rtp_port or own), **self.keys}
        for name, value in keys.items():
            command += ["-key", name, value]
        with (self.folder / "screen.log").open("wb") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *self.arguments,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    async def _channel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                text = (await reader.readuntil(b"\x1b"))[:-1].decode()
                for line in text.splitlines():
                    name, _, value = line.partition(":")
                    if name.strip().lower() == "call-id":
                        self._call_id = value.strip()
                    elif name.strip().lower() == "reached":
                        self._said.append(value.strip())
                self._changed.set()
        writer.close()

    async def reached(self, what: str, within: float = DEADLINE) -> None:
        """Wait until the scenario says that it has reached *what*."""
        deadline = time.monotonic() + within
        while what not in self._said:
            self._changed.clear()
            process = self._process
            assert process is not None
            if process.returncode is not None:
                raise AssertionError(f"SIPp ended before {what}\n{self.story()}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"SIPp: {what} not within {within:g} s\n{self.story()}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.5))

    async def go_on(self) -> None:
        """Let the scenario leave its next ``recvCmd``."""
        assert self._writer is not None
        self._writer.write(f"Call-ID: {self._call_id}\r\nFrom: test\r\n\r\n\x1b".encode())
        await self._writer.drain()

    async def ended(self, within: float = DEADLINE) -> int:
        """Wait for the end of SIPp, whatever it thinks of it; return its status."""
        assert self._process is not None
        try:
            return await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            raise AssertionError(f"SIPp did not end\n{self.story()}") from None

    async def passed(self, within: float = DEADLINE) -> None:
        """Wait for the end of the scenario; it must have gone as written."""
        status = await self.ended(within)
        assert status == 0, f"SIPp failed with {status}\n{self.story()}"

    async def stop(self) -> None:
        """End SIPp when it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        if self._server is not None:
            self._server.close()

    @property
    def messages(self) -> str:
        """What SIPp sent and received, as it wrote it down."""
        file = self.folder / "messages.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def story(self) -> str:
        """Return SIPp's own account, for a failure."""
        parts = []
        for name in ("errors.log", "messages.log"):
            file = self.folder / name
            if file.exists():
                parts.append(f"--- {name}\n{file.read_text('utf-8', 'replace')[-4000:]}")
        return "\n".join(parts)


# --- all of it, for one test --------------------------------------------------------------


class Desk:
    """Makes the parts of one test and ends them all; the daemons last, with their judgement."""

    def __init__(self, server: Server, host: AgentHost, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.bridges: list[Bridge] = []
        self.host = host
        self._stack = contextlib.AsyncExitStack()
        self._agents: list[RoomAgent] = []

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._stack.aclose()
            for agent in self._agents:
                with contextlib.suppress(RuntimeError):
                    await agent.leave()
        finally:
            for bridge in self.bridges:
                await bridge.stop(check=error is None)

    async def carrier(self, **options: Any) -> Carrier:
        """Start a carrier."""
        return await self._stack.enter_async_context(Carrier(**options))

    async def bridge(self, carrier: Carrier | int = 9, **options: Any) -> Bridge:
        """Start a daemon whose trunk ``carrier`` is *carrier* (or what listens on a port)."""
        port = carrier if isinstance(carrier, int) else carrier.port
        folder = self.folder / f"bridge-{len(self.bridges) + 1}"
        folder.mkdir()
        bridge = Bridge(folder, self.server, carrier_port=port, **options)
        self.bridges.append(bridge)
        await bridge.start()
        return bridge

    def room(self) -> str:
        """Return a room that nobody else uses."""
        return f"out-{uuid.uuid4().hex[:10]}"

    def waiting_agent(self, room: str, identity: str = "agent") -> RoomAgent:
        """Return an agent that has not joined yet."""
        agent = RoomAgent(self.host, self.server, room, identity)
        self._agents.append(agent)
        return agent

    async def agent(self, room: str, identity: str = "agent", **options: Any) -> RoomAgent:
        """Return an agent in the room."""
        agent = self.waiting_agent(room, identity)
        await agent.join(**options)
        return agent

    def sipp(self, scenario: str, **options: Any) -> Sipp:
        """Return a SIPp that has not started yet."""
        count = len(list(self.folder.glob("sipp-*"))) + 1
        folder = self.folder / f"sipp-{count}-{scenario}"
        folder.mkdir()
        sipp = Sipp(folder=folder, scenario=scenario, **options)
        self._stack.push_async_callback(sipp.stop)
        return sipp

    async def sip_peer(self) -> RtpPeer:
        """Return an RTP peer on a free port."""
        peer = RtpPeer()
        self._stack.callback(peer.close)
        return peer


class RtpPeer:
    """RTP at a port that somebody else's SDP names: plays a tone, judges what it hears."""

    def __init__(self) -> None:
        self.media = Media("127.0.0.1")
        self.port = self.media.open()

    def play(self, port: int, hertz: int = CALLER_HERTZ) -> None:
        """Send a tone in A-law to *port* of loopback from now on."""
        self.media.connect(("127.0.0.1", port), "PCMA", None)
        self.media.play(tone_source(hertz))
        self.media.start()

    def pause(self) -> None:
        """Send nothing."""
        self.media.stop()

    async def hears(self, hertz: int = AGENT_HERTZ, within: float = DEADLINE) -> None:
        """Wait for a tone that sounds after now."""
        since = time.time()
        await until(
            lambda: self.media.heard.sounding(since, hertz), f"{hertz} Hz by RTP", within, 0.02
        )

    @property
    def packets(self) -> int:
        """Return how many packets came so far."""
        return self.media.heard.packets

    def close(self) -> None:
        """Release the port."""
        self.media.close()


# --- rooms --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def room_service(server: Server) -> AsyncIterator[api.LiveKitAPI]:
    """Open the server's own API."""
    service = api.LiveKitAPI(server.http_url, server.api_key, server.api_secret)
    try:
        yield service
    finally:
        await service.aclose()


async def answers(http_url: str) -> bool:
    """Tell whether the server answers by HTTP now."""
    port = int(http_url.rpartition(":")[2])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    with contextlib.closing(writer), contextlib.suppress(OSError):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return b" 200 " in await reader.readline()
    return False


async def room_exists(server: Server, room: str) -> bool:
    """Tell whether the room exists now."""
    async with room_service(server) as service:
        rooms = await service.room.list_rooms(api.ListRoomsRequest(names=[room]))
    return any(one.name == room for one in rooms.rooms)


async def delete_room(server: Server, room: str) -> None:
    """Delete the room."""
    async with room_service(server) as service:
        await service.room.delete_room(api.DeleteRoomRequest(room=room))
