"""A machine to install on, and a unit that runs on it.

As root it is a mount namespace of its own: this machine's root below an overlay in memory, so
that `make install` writes where it always does and nothing of the real machine changes. Where
that is not allowed it is a folder, installed to with DESTDIR.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.confine import Confinement
from tests.system.harness import ROOT, missing, until
from tests.system.notified import NotifySocket

CURRENT = "/opt/trunkbridge/current"
CONFIG = "/etc/trunkbridge/trunkbridge.toml"
UNIT = "/etc/systemd/system/trunkbridge.service"
STATE = "/var/lib/trunkbridge"
SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = re.compile(r"PIP_|HTTPS?_PROXY$|NO_PROXY$|SSL_|REQUESTS_|https?_proxy$|no_proxy$")

OVERLAY = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for folder in proc dev sys; do mount --rbind "/$folder" "$1/root/$folder"; done
[ -e "$1/root$2/Makefile" ] || { mkdir -p "$1/root$2"; mount --bind "$2" "$1/root$2"; }
cd "$1/root"
mkdir -p real-root
pivot_root . real-root
cd /
umount -l /real-root
rmdir /real-root
touch /fresh-root
echo ready
exec cat
"""
"""$1 is an empty folder, $2 the project. Nothing in there leads to the real root any more.
`cat` ends with our end of its standard input, and the machine with it."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended, as the operator saw it."""

    status: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """Return what it printed."""
        return self.out.splitlines()


class FreshRoot:
    """The machine. Use `fresh_root`."""

    def __init__(self, folder: Path, holder: subprocess.Popen[bytes] | None) -> None:
        self._folder = folder
        self._holder = holder

    @property
    def isolated(self) -> bool:
        """Whether it is a machine of its own rather than a folder."""
        return self._holder is not None

    def path(self, inside: str) -> Path:
        """Return where a file of the machine is for us."""
        if self._holder is None:
            return Path(f"{self._folder}{inside}")
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    def inside(self, *command: str, folder: str = "/") -> list[str]:
        """Return the command line that runs *command* on the machine."""
        if self._holder is None:
            program, *arguments = command
            if program == "trunkbridge":
                python = self.path(f"{CURRENT}/bin/python")
                return [str(python), "-m", "bridge", *arguments]
            return list(command)
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount", "--"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', folder, *command]

    def environment(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of the operator's shell."""
        passed = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
        shell = {"PATH": SHELL_PATH, "HOME": "/root", "LANG": "C.UTF-8", "COLUMNS": "200"}
        if not self.isolated:
            shell = {**shell, "PATH": os.environ["PATH"], "DESTDIR": str(self._folder)}
            shell |= {"HOME": str(self._folder), "TRUNKBRIDGE_CONFIG": str(self.path(CONFIG))}
        return {**passed, **shell, **(given or {})}

    async def run(
        self,
        *command: str,
        status: int | None = 0,
        folder: str = "/",
        given: Mapping[str, str] | None = None,
        within: float = 60.0,
    ) -> Done:
        """Run what the operator types; it must end with *status*."""
        process = await asyncio.create_subprocess_exec(
            *self.inside(*command, folder=folder),
            env=self.environment(given),
            cwd=None if self.isolated else self._folder if folder == "/" else folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), within)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        done = Done(status=process.returncode or 0, out=out.decode(), err=err.decode())
        print(f"# {shlex.join(command)}\n{done.out}{done.err}[{done.status}]")  # noqa: T201
        if status is not None:
            assert done.status == status, f"{shlex.join(command)}\n{done.out}\n{done.err}"
        return done

    def close(self) -> None:
        """Give the machine back; its memory with it."""
        if self._holder is not None:
            assert self._holder.stdin is not None
            self._holder.stdin.close()
            self._holder.wait(10)


@contextlib.asynccontextmanager
async def fresh_root(folder: Path) -> AsyncIterator[FreshRoot]:
    """Make a machine in *folder*, an empty one that is nobody else's."""
    root = FreshRoot(folder, await asyncio.to_thread(_overlay, folder))
    try:
        yield root
    finally:
        root.close()


def _overlay(folder: Path) -> subprocess.Popen[bytes] | None:
    if os.environ.get("TRUNKBRIDGE_STAGED") or os.geteuid() != 0:
        return None
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return None
    holder = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", OVERLAY, "fresh-root", str(folder), str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    ready = holder.stdout.readline() == b"ready\n"
    holder.stdout.close()
    if ready:
        assert Path(f"/proc/{holder.pid}/root/fresh-root").exists()
        assert not Path("/fresh-root").exists(), "this is the real machine"
        return holder
    assert holder.stdin is not None
    holder.stdin.close()
    holder.wait()
    return None


# --- the unit ----------------------------------------------------------------------------


class Unit:
    """The installed unit, started and stopped as systemd would, without systemd."""

    def __init__(self, root: FreshRoot, log: Path) -> None:
        self._root = root
        self.log = log
        self.settings = _read_unit(root.path(UNIT).read_text("utf-8"))
        self._process: subprocess.Popen[bytes] | None = None

    def _environment(self, manager: NotifySocket) -> dict[str, str]:
        state = STATE if self._root.isolated else str(self._root.path(STATE))
        user = self.settings["User"][0]
        made = {"PATH": SHELL_PATH, "LANG": "C.UTF-8", "USER": user, "LOGNAME": user}
        made |= {"HOME": state, "STATE_DIRECTORY": state}
        for assignments in self.settings.get("Environment", []):
            made |= dict(pair.split("=", 1) for pair in shlex.split(assignments))
        for name in self.settings.get("EnvironmentFile", []):
            file = self._root.path(name.removeprefix("-"))
            if file.exists():
                lines = file.read_text("utf-8").splitlines()
                made |= dict(line.split("=", 1) for line in lines if line and line[0] != "#")
        return {**made, **manager.environ(float(self.settings["WatchdogSec"][0]))}

    def _command(self) -> list[str]:
        command = shlex.split(self.settings["ExecStart"][0])
        if self._root.isolated:
            return command
        return [
            str(self._root.path(f"{CURRENT}/bin/python")), "-m", "bridge", "run",
            "--config", str(self._root.path(command[-1])),
        ]  # fmt: skip

    def _confinement(self, manager: NotifySocket) -> Confinement:
        limits = {
            "RLIMIT_" + key.removeprefix("Limit"): int(values[0])
            for key, values in self.settings.items()
            if key.startswith("Limit")
        }
        return {
            "user": self.settings["User"][0],
            "group": self.settings["Group"][0],
            "environment": self._environment(manager),
            "working_directory": self.settings["WorkingDirectory"][0],
            "state": f"/var/lib/{self.settings['StateDirectory'][0]}",
            "umask": int(self.settings["UMask"][0], 8),
            "limits": limits,
            "families": self.settings["RestrictAddressFamilies"][0].split(),
            "system_calls": _system_calls(self.settings["SystemCallFilter"]),
        }

    def start(self, manager: NotifySocket) -> None:
        """Start; the manager hears when it is ready."""
        command, environment = self._command(), self._environment(manager)
        if self._root.isolated:
            settings = json.dumps(self._confinement(manager))
            confine = str(Path(__file__).with_name("confine.py"))
            python = f"{CURRENT}/bin/python"
            command = self._root.inside(python, confine, settings, *command)
            environment = self._root.environment()
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=None if self._root.isolated else self._root.path(STATE),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, within: float = 30.0) -> int:
        """Wait for the end; return the exit status."""
        process = self._process
        assert process is not None
        await until(lambda: process.poll() is not None, "the daemon ends", within)
        return int(process.returncode)

    def kill(self) -> None:
        """End it when a test failed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def logged(self) -> list[dict[str, object]]:
        """Return the daemon's log lines so far."""
        found = []
        for line in self.log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


def _read_unit(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def _system_calls(filters: list[str]) -> list[str]:
    """Return the names that ``SystemCallFilter=`` lines allow, as systemd itself expands them.

    None where systemd is not installed: then nothing is filtered. With CI set that is a failure.
    """
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            missing("systemd-analyze")
        return []
    allowed: set[str] = set()
    for line in filters:
        names = set(_expand(line.removeprefix("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return sorted(allowed)


def _expand(names: list[str]) -> list[str]:
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", *names],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    ).stdout
    members = [line.strip() for line in told.splitlines() if line.startswith(" ")]
    found = [name for name in members if name[:1] not in ("#", "@")]
    groups = [name for name in members if name.startswith("@")]
    return found + (_expand(groups) if groups else [])


def manager_name() -> str:
    """Return a NOTIFY_SOCKET that is there in every mount namespace of this machine."""
    return f"@trunkbridge-test-{uuid.uuid4().hex}"


def now() -> float:
    """Return the moment, for `NotifySocket.hears`."""
    return time.monotonic()
