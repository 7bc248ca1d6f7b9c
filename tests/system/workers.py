"""livekit-agents workers as processes: agents of ours, or of somebody else, on real calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system.harness import DEADLINE, ROOT, Server, until

Line = dict[str, Any]


class Worker:
    """One worker: what it printed as JSON lines, and the rest of its output for a failure."""

    def __init__(
        self,
        server: Server,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.lines: list[Line] = []
        self.output: list[str] = []
        self._command = [sys.executable, *command]
        self._cwd = cwd
        self._env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRUNKBRIDGE_", "LIVEKIT_")) and "proxy" not in name.lower()
        }
        self._env |= {
            "LIVEKIT_URL": server.url,
            "LIVEKIT_API_KEY": server.api_key,
            "LIVEKIT_API_SECRET": server.api_secret,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process; `ready` waits until it takes jobs."""
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    async def ready(self, said: str = "", within: float = 60.0) -> None:
        """Wait until it says that it is ready, or prints *said*."""
        process = self._process
        assert process is not None

        def is_ready() -> bool:
            assert process.poll() is None, "the worker ended"
            if said:
                return any(said in text for text in self.output)
            return bool(self.saw("ready"))

        try:
            await until(is_ready, "the worker is registered", within)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.story()}") from None

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            text = raw.decode("utf-8", "replace").rstrip()
            self.output.append(text)
            if text.startswith("{") and '"saw"' in text:
                self.lines.append(json.loads(text))
        process.stdout.close()

    def kill(self) -> None:
        """End the worker as a crash does; with the executor `THREAD` its jobs too."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the worker and the processes of its jobs; they are asked first."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._reader is not None:
            self._reader.join(5)
        sys.stdout.write(f"--- the worker\n{self.story()}\n")  # pytest shows it on failure

    def story(self, count: int = 120) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.output[-count:])

    def saw(self, what: str, since: float = 0.0, **fields: Any) -> list[Line]:
        """Return the lines of a kind, from *since* on, with these values."""
        return [
            line
            for line in self.lines
            if line["saw"] == what
            and line["at"] >= since
            and all(line.get(key) == value for key, value in fields.items())
        ]

    async def sees(
        self, what: str, *, since: float = 0.0, within: float = DEADLINE, **fields: Any
    ) -> Line:
        """Wait for a line and return it."""
        try:
            found = await until(lambda: self.saw(what, since, **fields), f"{what} {fields}", within)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.story()}") from None
        line: Line = found[0]
        return line


@contextmanager
def working(server: Server, agent: str) -> Iterator[Worker]:
    """Run the worker of one of `tests.agents`."""
    made = Worker(server, ["-m", f"tests.agents.{agent}", "start"])
    made.start()
    try:
        yield made
    finally:
        made.stop()


def now() -> float:
    """Return the clock of the lines."""
    return time.monotonic()
