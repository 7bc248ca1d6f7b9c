"""PJSIP (the wheel of the extra `interop`) as a peer; it runs in tests/system/pjsua_peer.py."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.system.baresip import seconds_of
from tests.system.harness import CALLER_HERTZ, missing, until

DEADLINE = 20.0
TURNS = 5
AGAIN = 3.0  # seconds after a 503, as its Retry-After says


@dataclass(kw_only=True)
class Pjsua:
    """One PJSIP process. ``timer``: seconds of the session timer it insists on, 0 for none.

    ``srtp``: nothing but SDES SRTP. ``reliable``: it requires 100rel, as caller and as callee.
    ``ring``: it answers a call with 180 by itself, and with 200 when told (`do`).
    ``tls``: the files of its certificate and of the key.
    """

    folder: Path
    number: str
    transport: str = "tcp"
    srtp: bool = False
    timer: int = 0
    reliable: bool = False
    ring: bool = True
    tls: tuple[str, str] | None = None
    port: int = field(default_factory=free_port)
    events: list[dict[str, Any]] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Start it and wait until it listens."""
        if importlib.util.find_spec("pjsua2") is None:
            missing("pjsua2")
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "number": self.number,
            "port": self.port,
            "transport": self.transport,
            "srtp": self.srtp,
            "timer": self.timer,
            "reliable": self.reliable,
            "ring": self.ring,
            "tls": self.tls,
            "rtp": 10000 + 40 * (self.port % 60),  # below the ports that the system gives
            "hertz": CALLER_HERTZ,
            "recording": str(self.folder / "heard.wav"),
            "log": str(self.folder / "pjsip.log"),
        }
        with (self.folder / "output.log").open("wb") as sink:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("pjsua_peer.py")),
                json.dumps(options),
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
            )
        self._reading = asyncio.create_task(self._read())
        await self.event("ready")

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = json.loads(raw)
            if "id" in line:
                self._answers.pop(line["id"]).set_result(line)
            else:
                self.events.append({**line, "at": time.monotonic()})
                self._changed.set()

    async def do(self, what: str, **given: Any) -> None:
        """Have it do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": what, "given": given})
        self._process.stdin.write(line.encode() + b"\n")
        said = await asyncio.wait_for(answer, DEADLINE)
        assert said["ok"], f"{what}: {said['error']}\n{self.story()}"

    async def event(self, kind: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for the *count*-th event of a kind with these values."""
        deadline = time.monotonic() + DEADLINE
        while True:
            self._changed.clear()
            found = [
                event
                for event in self.events
                if event["event"] == kind and fields.items() <= event.items()
            ]
            if len(found) >= count:
                return found[count - 1]
            assert self._process is not None
            left = deadline - time.monotonic()
            if left <= 0 or self._process.returncode is not None:
                raise AssertionError(f"no {kind} {fields} in {self.events}\n{self.story()}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.5))

    async def dial(self, uri: str) -> None:
        """Call until it is answered: a bridge that is behind with its work says 503 and when."""

        def states(name: str) -> list[dict[str, Any]]:
            return [one for one in self.events if one.get("state") == name]

        for turn in range(1, TURNS + 1):
            await self.do("dial", uri=uri)
            await until(
                lambda turn=turn: states("CONFIRMED") or len(states("DISCONNECTED")) == turn,
                "an answer or a refusal",
                2 * DEADLINE,
            )
            if states("CONFIRMED"):
                return
            assert states("DISCONNECTED")[-1]["status"] == 503, self.story()
            await asyncio.sleep(AGAIN)
        raise AssertionError(f"always refused\n{self.story()}")

    async def talking(self) -> None:
        """Wait until the call is confirmed."""
        await self.event("state", state="CONFIRMED")

    async def over(self) -> None:
        """Wait until a call has ended."""
        await self.event("state", state="DISCONNECTED")

    @property
    def keys(self) -> str:
        """The keys that it heard so far."""
        return "".join(event["digit"] for event in self.events if event["event"] == "key")

    async def hears(self, hertz: int, seconds: float = 0.5) -> None:
        """Wait until it has written down *seconds* more of a tone."""
        file = self.folder / "heard.wav"
        before = seconds_of(file, hertz)
        await until(
            lambda: seconds_of(file, hertz) >= before + seconds, f"{hertz} Hz at PJSIP", DEADLINE
        )

    @property
    def log(self) -> str:
        """What PJSIP wrote down: every message among others."""
        file = self.folder / "pjsip.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def faults(self) -> list[str]:
        """Return the exceptions of its callbacks."""
        return [event["text"] for event in self.events if event["event"] == "fault"]

    async def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    def story(self) -> str:
        """Return what it wrote, for a failure."""
        return self.log[-8000:] + (self.folder / "output.log").read_text("utf-8", "replace")[-2000:]
