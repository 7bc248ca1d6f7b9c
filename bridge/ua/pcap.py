"""One pcap file per call, for Wireshark and sngrep: its SIP messages as they passed.

The classic format (draft-ietf-opsawg-pcap), link type RAW: every message stands in an IP and
UDP header of our making, also one that came on a stream, because what was captured are
messages and not segments. Files are written by a thread of their own; what it cannot take
is dropped and counted.
"""

from __future__ import annotations

import queue
import re
import struct
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

import structlog

from bridge.ua.capture import Captured

log = structlog.get_logger(__name__)

_RAW: Final = 101  # LINKTYPE_RAW: the packet begins with the IP header
_SNAPLEN: Final = 262_144
_UDP: Final = 17
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _SNAPLEN, _RAW)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9@._-]")

QUEUE: Final = 10_000
FILE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one file; what comes later in that call is dropped."""


def packet(captured: Captured) -> bytes:
    """Return *captured* as an IP packet, cut at 65,535 bytes."""
    source, destination = captured.source, captured.destination
    room = 65_535 - 8 - (20 if source[0].version == 4 else 0)
    payload = captured.message[:room]
    ports = struct.pack("!HH", source[1], destination[1])
    length = 8 + len(payload)
    if source[0].version == 4:
        datagram = ports + struct.pack("!HH", length, 0) + payload
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0)
        head += source[0].packed + destination[0].packed
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + datagram
    pseudo = source[0].packed + destination[0].packed + struct.pack("!II", length, _UDP)
    unchecked = ports + struct.pack("!HH", length, 0) + payload
    # RFC 8200 8.1: over IPv6 the checksum is not optional; 0 is sent as 0xFFFF.
    datagram = ports + struct.pack("!HH", length, checksum(pseudo + unchecked) or 0xFFFF) + payload
    head = struct.pack("!IHBB", 0x60000000, length, _UDP, 64)
    return head + source[0].packed + destination[0].packed + datagram


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def record(captured: Captured) -> bytes:
    """Return *captured* as one record of a pcap file."""
    data = packet(captured)
    seconds = int(captured.at)
    micros = int((captured.at - seconds) * 1_000_000)
    return struct.pack("<IIII", seconds, micros, len(data), len(data)) + data


def file_name(call_id: str) -> str:
    """Return the name of the file of a SIP Call-ID: what is no plain character is ``_``."""
    return f"{_UNSAFE.sub('_', call_id).lstrip('.')[:200] or '_'}.pcap"


class PcapFolder:
    """The files of the newest *calls* calls in one folder; older ones are deleted."""

    def __init__(self, folder: Path, *, calls: int) -> None:
        self._folder = folder
        self._calls = calls
        self._files: OrderedDict[str, int] = OrderedDict()  # name -> bytes
        self._queue: queue.Queue[Captured | None] = queue.Queue(QUEUE)
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Messages that were not written."""

    def start(self) -> None:
        """Take over what is in the folder. Raises `OSError` when it cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = sorted(self._folder.glob("*.pcap"), key=lambda path: path.stat().st_mtime)
        self._files = OrderedDict((path.name, path.stat().st_size) for path in known)
        probe = self._folder / ".writable"
        probe.touch()
        probe.unlink()
        self._thread = threading.Thread(target=self._run, name="pcap", daemon=True)
        self._thread.start()

    def take(self, captured: Captured) -> None:
        """Have *captured* written; messages without a Call-ID belong to no call."""
        if not captured.call_id:
            return
        try:
            self._queue.put_nowait(captured)
        except queue.Full:
            self.dropped += 1

    def stop(self) -> None:
        """Write what was taken, and end; blocks for it."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (captured := self._queue.get()) is not None:
            try:
                self._write(captured)
            except OSError as failure:
                self.dropped += 1
                log.warning("pcap.write_failed", error=failure.strerror)

    def _write(self, captured: Captured) -> None:
        name, data = file_name(captured.call_id), record(captured)
        written = self._files.get(name)
        if written is None:
            self._make_room()
            data, written = _HEADER + data, 0
        if written + len(data) > FILE_LIMIT:
            self.dropped += 1
            return
        with (self._folder / name).open("ab") as file:
            file.write(data)
        self._files[name] = written + len(data)
        self._files.move_to_end(name)

    def _make_room(self) -> None:
        while len(self._files) >= self._calls:
            oldest, _ = self._files.popitem(last=False)
            (self._folder / oldest).unlink(missing_ok=True)
