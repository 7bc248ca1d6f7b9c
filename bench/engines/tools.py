"""Processes that take orders by lines and answer by lines of JSON: our load tools, and what is
measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
RELEASE = NATIVE / "target" / "release"
NAMES = ("phones", "sfu", "floor", "pack")
PATIENCE = 20.0  # seconds for an answer
_MOST = 8 << 20  # bytes of a line: statistics with their marks

Answer = dict[str, Any]

CORES = sorted(os.sched_getaffinity(0))
MEASURED = CORES[0]
"""The core of the process that is measured."""
LOAD = set(CORES[1:]) or {MEASURED}
"""Where everything else of ours runs."""


class NoTools(Exception):
    """The load tools cannot be built here."""


def build() -> None:
    """Build the load tools if need be. Raises `NoTools`."""
    for name in ("cargo", "cmake", "cc"):
        if shutil.which(name) is None:
            raise NoTools(f"no {name}: the load tools of the bench are not built")
    command = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "trunkbridge-bench"]
    done = subprocess.run(["nice", *command], cwd=NATIVE, check=False)
    if done.returncode:
        raise NoTools("the load tools of the bench could not be built")


class Tool:
    """One process. Answers come by `ask`; what it tells unasked goes to `told`, by first key."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self.told: dict[str, Callable[[Answer], None]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        cores: set[int],
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start *command* on *cores*; its stderr goes to *log*."""
        with contextlib.ExitStack() as stack:
            sink = None if log is None else stack.enter_context(log.open("ab"))
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                limit=_MOST,
                env={**os.environ, "PYTHONPATH": python_path(), **(environment or {})},
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )
        return cls(process, Path(command[-1] if command[0] == sys.executable else command[0]).name)

    @classmethod
    async def native(cls, name: str, *, cores: set[int] = LOAD, **options: object) -> Self:
        """Start one of `NAMES`."""
        words = [f"{key}={value}" for key, value in options.items()]
        return await cls.start([str(RELEASE / name), *words], cores=cores)

    @property
    def pid(self) -> int:
        """Return its process."""
        return self._process.pid

    def order(self, text: str) -> None:
        """Have it do something that is not answered."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    async def answer(self, within: float = PATIENCE) -> Answer:
        """Return the next answer."""
        async with asyncio.timeout(within):
            found = await self._answers.get()
        if found is None:
            raise RuntimeError(f"{self._name} ended ({await self._process.wait()})")
        if "error" in found:
            raise RuntimeError(f"{self._name}: {found['error']}")
        return found

    async def ask(self, text: str, within: float = PATIENCE) -> Answer:
        """Order, and return the answer."""
        self.order(text)
        return await self.answer(within)

    async def stop(self) -> None:
        """End it, by the end of its input, or else by force."""
        if self._process.returncode is None:
            with contextlib.suppress(ConnectionError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            try:
                async with asyncio.timeout(10):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            try:
                found: Answer = json.loads(line)
            except ValueError:
                found = {"error": f"said {line[:200]!r}"}
            wanted = self.told.get(next(iter(found), ""))
            if wanted is not None:
                wanted(found)
            else:
                self._answers.put_nowait(found)
        self._answers.put_nowait(None)


def python_path() -> str:
    """Return where our modules are: this tree, and its own build of the native one if there is."""
    return os.pathsep.join([str(ROOT), str(NATIVE / "target" / "python")])


async def module(
    name: str, given: Mapping[str, Any], *, cores: set[int], log: Path | None = None
) -> Tool:
    """Start ``python -m name`` with *given* as JSON; its first answer says that it is ready."""
    return await Tool.start([sys.executable, "-m", name, json.dumps(given)], cores=cores, log=log)
