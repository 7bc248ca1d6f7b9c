"""A real PostgreSQL for tests: a cluster in a folder of its own, on a free loopback port.

The server dies with the process that started it. PostgreSQL refuses to run as root; then it
runs as the user ``postgres``.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.ports import free_port

PASSWORD = "pg-s3cret"  # of the test's own server
_USER = "trunkbridge"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "full_page_writes": "off",
}
_PR_SET_PDEATHSIG = 1


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL here, or None."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    return places[-1].parent if places else None


class Postgres:
    """A server that can be stopped and started again, with its data."""

    def __init__(self) -> None:
        folder = binaries()
        assert folder is not None
        self._binaries = folder
        memory = "/dev/shm"
        place = memory if os.access(memory, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix="trunkbridge-pg-", dir=place))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self.port = 0
        self._initdb()

    def _initdb(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        subprocess.run(
            [
                self._binaries / "initdb", "--pgdata", self._folder / "data", "--no-sync",
                "--username", _USER, "--pwfile", secret, "--auth", "scram-sha-256",
                "--encoding", "UTF8", "--locale", "C",
            ],
            check=True, capture_output=True, cwd="/", **self._as,
        )  # fmt: skip

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database on this server."""
        return f"postgresql://{_USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, on the port it had; wait until it answers.

        It ends with the thread that calls this.
        """
        for _ in range(5):
            port = self.port or free_port()
            if self._started(port):
                self.port = port
                return
            self._reap()
        raise AssertionError((self._folder / "log").read_text()[-2000:])

    def _started(self, port: int) -> bool:
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binaries / "postgres", "-D", self._folder / "data",
                    "-p", str(port), *settings,
                ],
                stdout=log, stderr=log, cwd="/", start_new_session=True,
                preexec_fn=_die_with_parent, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                address = f"host=127.0.0.1 port={port} user={_USER} password={PASSWORD}"
                psycopg.connect(f"{address} dbname=postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False

    def freeze(self) -> None:
        """Let the server stand still, with every process of it: no answer, and no error."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, which: signal.Signals) -> None:
        assert self._process is not None
        parent = self._process.pid
        os.kill(parent, which)  # first: a server that is stopped makes no more of them
        for child in _children(parent):
            with suppress(ProcessLookupError):
                os.kill(child, which)

    def stop(self) -> None:
        """End the server at once, as a crash would; its data stay."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
        self._reap()

    def _reap(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def new_database(self, template: str = "template1") -> str:
        """Make a database, empty or like *template*; return its URL."""
        name = f"test{next(self._names)}"
        self.run(f"create database {name} template {template}")
        return self.url(name)

    def run(self, statement: str, url: str | None = None) -> None:
        """Run a statement by itself."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """End the server and delete its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after_name = status.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextmanager
def server() -> Iterator[Postgres]:
    """Run a server; skip the test where there is none to run, unless CI says there must be."""
    if binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed, and CI must test with it")
        pytest.skip("PostgreSQL is not installed")
    postgres = Postgres()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.close()
