"""The captures that are switched on: to a server, into files, to both or nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.ua.capture import Capture, Captured
from bridge.ua.hep import HepSender
from bridge.ua.pcap import PcapFolder
from bridge.ua.tap import Tap


class Captures:
    """Takes every message and hands it to those who want it."""

    def __init__(self, *, hep: HepSender | None = None, pcap: PcapFolder | None = None) -> None:
        self._hep = hep
        self._pcap = pcap

    @property
    def taps(self) -> tuple[Tap, ...]:
        """What the driver taps: nothing when nothing is switched on."""
        return (Capture(self._take),) if self._hep or self._pcap else ()

    def dropped(self) -> int:
        """Return how many messages were not captured."""
        return sum(one.dropped for one in (self._hep, self._pcap) if one is not None)

    def start(self) -> None:
        """Begin. Raises `OSError` when the folder cannot be written."""
        if self._pcap is not None:
            self._pcap.start()
        if self._hep is not None:
            self._hep.start()

    async def stop(self) -> None:
        """Finish what was taken."""
        if self._hep is not None:
            await self._hep.stop()
        if self._pcap is not None:
            await asyncio.to_thread(self._pcap.stop)

    def _take(self, captured: Captured) -> None:
        if self._hep is not None:
            self._hep.take(captured)
        if self._pcap is not None:
            self._pcap.take(captured)


def captures(
    *, hep: tuple[str, int] | None, agent: int, password: str, pcap: Path | None, calls: int
) -> Captures:
    """Return the captures as configured; *hep* a host and port, *pcap* a folder."""
    return Captures(
        hep=HepSender(*hep, agent=agent, password=password) if hep else None,
        pcap=PcapFolder(pcap, calls=calls) if pcap else None,
    )
