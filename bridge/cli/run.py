"""``trunkbridge run``"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import signal
from pathlib import Path

import structlog
import uvloop

from bridge.cli.options import WRONG_USAGE, ConfigOption, JsonOption, fail, load_or_exit
from bridge.config.advice import cannot_start
from bridge.config.config import Config
from bridge.config.loading import ConfigError
from bridge.daemon import Daemon
from bridge.errors import BridgeError
from bridge.observe import logs
from bridge.observe.systemd import Unit

HELP = """Run the daemon.

SIGTERM drains (no new calls, running ones go on up to drain_timeout), then hangs up; a
second signal hangs up at once. SIGHUP re-reads the configuration. --json logs JSON lines,
whatever [log] says.

\b
Example: trunkbridge run --config /etc/trunkbridge/trunkbridge.toml
"""

_log = structlog.get_logger(__name__)


def run(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    settings, path = load_or_exit(config)
    blockers = cannot_start(settings)
    if blockers:
        fail("\n".join(f"{path or 'environment'}:{line}" for line in blockers), WRONG_USAGE)
    logs.configure(settings.log.level, "json" if as_json else settings.log.format)
    faulthandler.enable()  # the watchdog's SIGABRT then says where every thread stood
    uvloop.install()
    try:
        asyncio.run(_run(settings, path))
    except BridgeError as failure:
        fail(f"run: {failure}")


async def _run(settings: Config, path: Path | None) -> None:
    unit = Unit.from_environment()
    daemon = Daemon(settings, path=path, unit=unit)
    signals = Signals(daemon)
    signals.install()  # before the start, so that a signal during it stops in order
    gc.collect()
    gc.disable()  # a collection takes a tenth of a second while everything is being made
    await daemon.start()
    gc.freeze()  # a later full collection then costs nothing of what stays for ever
    gc.enable()
    await signals.until_told_to_stop()
    daemon.drain()
    unit.draining()  # a drain by the API is no stop: systemd hears of this one only
    await signals.until_drained(settings.daemon.drain_timeout)
    await daemon.stop()


class Signals:
    """What the operator's signals mean (contract 2)."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._told = asyncio.Event()
        self._twice = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()

    def install(self) -> None:
        """Listen for SIGTERM, SIGINT and SIGHUP on the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _on_stop(self) -> None:
        (self._twice if self._told.is_set() else self._told).set()

    def _on_reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        try:
            await self._daemon.reread()
        except ConfigError as failure:
            for line in failure.lines:
                _log.error("config.reload_refused", setting=line)

    async def until_told_to_stop(self) -> None:
        """Wait for the first SIGTERM or SIGINT."""
        await self._told.wait()

    async def until_drained(self, timeout: float) -> None:
        """Wait for the last call, the second signal, or *timeout* seconds."""
        waits = [
            asyncio.ensure_future(self._daemon.until_idle(timeout)),
            asyncio.ensure_future(self._twice.wait()),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
