"""The demo: a server, the bridge, an agent and a carrier, and two phone calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from bridge.carrier.carrier import Carrier
from bridge.carrier.speech import write_greeting
from bridge.demo.processes import (
    API_KEY,
    API_SECRET,
    PortFinder,
    Programs,
    answers,
    livekit_config,
    livekit_server,
    python,
)
from bridge.demo.show import Seen
from bridge.errors import BridgeError
from trunkbridge.client import ApiError, Client

AGENT = "demo"
CALLEE = "+919876500001"
CALLER = "+919876543210"
NUMBER = "+918047361000"
GREETING = "Hello, this is trunk bridge. I will now repeat what I hear."
INBOUND = (
    "talk; expect audio within 10s; expect audio 440 within 10s; hold sendonly 3s; resume; "
    "expect audio 440 within 5s; hangup"
)
OUTBOUND = (
    "ring; answer after 2s; talk; expect audio within 10s; expect audio 440 within 10s; "
    "hold inactive 3s; resume; expect audio 440 within 5s; hangup"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything listens, all on loopback."""

    livekit: int
    livekit_tcp: int
    livekit_udp: int
    sip: int
    http: int
    carrier: int

    @property
    def livekit_url(self) -> str:
        """The server's WebSocket address."""
        return f"ws://127.0.0.1:{self.livekit}"

    @property
    def http_url(self) -> str:
        """The bridge's HTTP address."""
        return f"http://127.0.0.1:{self.http}"


def choose_addresses(*, once: bool) -> Addresses:
    """Free ports with *once*, else the documented ones or the next free."""
    ports = PortFinder(lambda line: typer.echo(line, err=True))
    if once:
        return Addresses(
            livekit=ports.any(),
            livekit_tcp=ports.any(),
            livekit_udp=ports.any(),
            sip=ports.any(),
            http=ports.any(),
            carrier=ports.any(),
        )
    return Addresses(
        livekit=ports.wanted(7880, "livekit-server"),
        livekit_tcp=ports.wanted(7881, "livekit-server's TCP media"),
        livekit_udp=ports.wanted(7882, "livekit-server's UDP media"),
        sip=ports.wanted(5070, "the bridge's SIP"),
        http=ports.wanted(8080, "the page"),
        carrier=ports.wanted(5090, "the carrier"),
    )


def bridge_config(at: Addresses) -> str:
    """Return the bridge's configuration: one trunk to the carrier, one route to the agent."""
    return f"""\
[livekit]
url = "{at.livekit_url}"
api_key = "{API_KEY}"
api_secret = "{API_SECRET}"

[sip]
listen = ["tcp:127.0.0.1:{at.sip}", "udp:127.0.0.1:{at.sip}"]

[media]
listen = "127.0.0.1"

[http]
listen = "127.0.0.1:{at.http}"

[[trunk]]
name = "carrier"
profile = "exotel"
host = "127.0.0.1"
port = {at.carrier}
caller_id = "{NUMBER}"
allow = ["127.0.0.0/8"]
media_allow = ["127.0.0.0/8"]

[[route]]
agent = "{AGENT}"

[[workflow]]
slug = "demo"
agent = "{AGENT}"
trunk = "carrier"
"""


class Play:
    """Runs the demo in *folder*; `run` returns whether both calls did what they should.

    With *as_json* the timelines are JSON lines on standard output.
    """

    def __init__(self, at: Addresses, folder: Path, *, as_json: bool = False) -> None:
        self._at = at
        self._folder = folder
        self._as_json = as_json
        self._programs = Programs(folder)
        self._agent_ready = asyncio.Event()
        self._calls: dict[str, Seen] = {}
        self._early: dict[str, list[Mapping[str, Any]]] = {}

    async def run(self, *, once: bool) -> bool:
        """Start everything, place both calls, then stay up unless *once*."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob("journal.db*"):
            stale.unlink()
        try:
            await self._start_programs()
            scripts = {CALLEE: OUTBOUND, CALLEE.lstrip("+"): OUTBOUND}
            carrier = Carrier(port=self._at.carrier, scripts=scripts, default="busy")
            async with carrier, Client(self._at.http_url) as client:
                worked = await self._both_calls(carrier, client)
                if not once:
                    await self._stay(client)
            return worked
        finally:
            await self._programs.stop()

    def _say(self, text: str) -> None:
        """Print *text* for a person; with JSON on standard output, beside it."""
        typer.echo(text, err=self._as_json)

    async def _start_programs(self) -> None:
        at = self._at
        greeting = self._folder / "greeting.wav"
        await asyncio.to_thread(write_greeting, greeting, GREETING)
        self._say(f"livekit-server on {at.livekit_url}")
        config = livekit_config(at.livekit, at.livekit_tcp, at.livekit_udp)
        await self._programs.start("livekit", [livekit_server(), "--config-body", config])
        await answers(f"http://127.0.0.1:{at.livekit}/", self._programs)
        path = self._folder / "trunkbridge.toml"
        path.write_text(bridge_config(at), "utf-8")
        await self._programs.start(
            "bridge", [python(), "-m", "bridge", "run", "--config", str(path)]
        )
        await self._programs.start(
            "agent",
            [
                *(python(), "-m", "bridge.demo.agent", "--url", at.livekit_url),
                *("--name", AGENT, "--greeting", str(greeting)),
            ],
            env={"LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET},
            on_line=self._on_agent_line,
        )
        await answers(f"{at.http_url}/readyz", self._programs)
        self._say(f"bridge on {at.http_url}, SIP on 127.0.0.1:{at.sip} (TCP and UDP)")
        try:
            await asyncio.wait_for(self._agent_ready.wait(), 40)
        except TimeoutError:
            raise BridgeError(f"the agent did not register, see {self._folder}/agent.log") from None
        self._say(f"agent {AGENT!r} registered; carrier on 127.0.0.1:{at.carrier}")

    def _on_agent_line(self, line: str) -> None:
        try:
            note = json.loads(line)
        except ValueError:
            return
        if not isinstance(note, dict) or "agent" not in note:
            return
        if note["agent"] == "ready":
            self._agent_ready.set()
            return
        call_id = str(note.get("call_id", ""))
        if call_id in self._calls:
            self._calls[call_id].agent_says(note)
        else:
            self._early.setdefault(call_id, []).append(note)

    async def _both_calls(self, carrier: Carrier, client: Client) -> bool:
        self._say("\nInbound: the carrier calls the bridge.")
        inbound = await self._inbound(carrier, client)
        self._say("\nOutbound: the API dials, the carrier answers.")
        outbound = await self._outbound(carrier, client)
        self._say("")
        worked = True
        for seen in (inbound, outbound):
            faults = seen.faults()
            worked = worked and not faults
            seen.conclude()
        return worked

    async def _inbound(self, carrier: Carrier, client: Client) -> Seen:
        seen = Seen(label="inbound", as_json=self._as_json)
        known = set(self._calls)
        target = f"sip:{NUMBER}@127.0.0.1:{self._at.sip};transport=tcp"
        call = asyncio.create_task(carrier.call(target, INBOUND, from_=CALLER))
        follow = asyncio.create_task(self._follow_new(client, known, seen))
        report = await call
        seen.carrier = report.failed
        await _at_most(follow, 10)
        return seen

    async def _outbound(self, carrier: Carrier, client: Client) -> Seen:
        seen = Seen(label="outbound", as_json=self._as_json)
        before = len(carrier.reports)
        call = await client.dial(CALLEE, workflow_slug="demo")
        follow = asyncio.create_task(self._follow(client, call.id, seen))
        await _at_most(follow, 60)
        for report in carrier.reports[before:]:
            seen.carrier = report.failed
        if len(carrier.reports) == before:
            seen.carrier = "no call came"
        return seen

    async def _follow_new(self, client: Client, known: set[str], seen: Seen) -> None:
        """Find the call that just came in and follow it."""
        while True:
            for call in await client.active():
                if call["id"] not in known and call["direction"] == "inbound":
                    await self._follow(client, call["id"], seen)
                    return
            await asyncio.sleep(0.05)

    async def _follow(self, client: Client, call_id: str, seen: Seen) -> None:
        self._calls[call_id] = seen
        for note in self._early.pop(call_id, []):
            seen.agent_says(note)
        async for event in client.call(call_id).events():
            seen.bridge_says(event.data)

    async def _stay(self, client: Client) -> None:
        """Stay up until Ctrl-C; show calls that come in."""
        at = self._at
        self._say(
            f"\nStaying up. Page: {at.http_url}/\n"
            f"Call the agent from a softphone: sip:{NUMBER}@127.0.0.1:{at.sip} (TCP or UDP)\n"
            f"Dial through the API: trunkbridge dial --url {at.http_url} --to {CALLEE} "
            f"--agent {AGENT} --wait\nCtrl-C ends."
        )
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.set)
        watching: set[asyncio.Task[None]] = set()
        while not told.is_set():
            self._programs.check()
            with contextlib.suppress(ApiError):
                for call in await client.active():
                    if call["id"] not in self._calls:
                        seen = Seen(label=call["direction"], as_json=self._as_json)
                        watching.add(asyncio.create_task(self._follow(client, call["id"], seen)))
                        await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), 0.5)
        for task in watching:
            task.cancel()


async def _at_most(task: asyncio.Task[None], seconds: float) -> None:
    """Wait for *task*; end it after *seconds*. What is missing then shows in the faults."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(task, seconds)
