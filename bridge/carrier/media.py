"""The RTP socket of one leg: plays at a steady 20 ms, hears, sends keys, loses and delays.

Arrival times come from the kernel (SO_TIMESTAMPNS), so that a busy event loop of ours is not
measured as jitter of the peer.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from bridge.carrier import sound
from bridge.carrier.heard import DIGITS, Heard, MediaReport
from bridge.carrier.secure import Sdes

PTIME = 0.020  # seconds
KEY_PACKETS = 8  # 160 ms
KEY_ENDS = 3  # RFC 4733 2.5.1.4: the last packet is sent three times
KEY_GAP = 4  # packets of audio between two keys
_TIMESTAMPNS = 35 if sys.platform == "linux" else None
_ANCILLARY = 64

Frames = Callable[[str], tuple[bytes, ...]]  # law -> frames


@dataclass(slots=True)
class Source:
    """What is played: frames in the law of the moment, once or again and again."""

    frames: Frames
    repeat: bool
    at: int = 0

    def take(self, law: str) -> bytes | None:
        """Return the next frame, None at the end."""
        frames = self.frames(law)
        if not frames or (self.at >= len(frames) and not self.repeat):
            return None
        frame = frames[self.at % len(frames)]
        self.at += 1
        return frame


@dataclass(slots=True)
class Key:
    """A key being sent; ``packets`` sent so far."""

    event: int
    timestamp: int = 0
    packets: int = 0


def tone_source(hertz: int) -> Source:
    """Return an endless tone."""
    return Source(lambda law: sound.tone_frames(hertz, law), repeat=True)


def clip_source(samples: array[int], *, repeat: bool) -> Source:
    """Return a clip."""
    made: dict[str, tuple[bytes, ...]] = {}

    def frames(law: str) -> tuple[bytes, ...]:
        if law not in made:
            made[law] = sound.frames(sound.encode(samples, law), law)
        return made[law]

    return Source(frames, repeat=repeat)


class Media:
    """One RTP session. ``open`` binds; ``start`` begins to send once a remote is known."""

    def __init__(self, address: str, *, on_packet: Callable[[], None] = lambda: None) -> None:
        self.address = address
        self.port = 0
        self.heard = Heard()
        self.law = "PCMA"
        self.telephone_event: int | None = 96
        self.remote: tuple[str, int] | None = None
        self.sending = False
        self.loss = 0.0  # percent
        self.jitter = 0.0  # seconds
        self.sent = 0
        self.rtcp = 0
        self.old_port = 0
        self.secure: Sdes | None = None
        self._on_packet = on_packet
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        self._moved_at = 0.0
        self.source: Source | None = None
        self._keys: deque[Key] = deque()
        self._key_gap = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._talking = False
        self._random = random.Random()
        self._ssrc = self._random.getrandbits(32)
        self._sequence = self._random.getrandbits(16)
        self._timestamp = self._random.getrandbits(32)

    def open(self) -> int:
        """Bind an even port and the RTCP port after it; return the RTP port."""
        rtp, rtcp = _bind_pair(self.address)
        index = len(self._sockets)
        self._sockets.append((rtp, rtcp))
        loop = asyncio.get_running_loop()
        loop.add_reader(rtp.fileno(), self._readable, rtp, index)
        loop.add_reader(rtcp.fileno(), self._rtcp_readable, rtcp)
        self.port = rtp.getsockname()[1]
        return self.port

    def move(self) -> int:
        """Bind another port and send from it; the old one keeps counting what comes late."""
        port = self.open()
        self._moved_at = time.time()
        return port

    def connect(self, remote: tuple[str, int], law: str, telephone_event: int | None) -> None:
        """Send to *remote* from now on, in *law*."""
        self.remote = remote
        self.law = law
        self.telephone_event = telephone_event

    def start(self) -> None:
        """Begin to send, one packet each 20 ms, silence when nothing is played."""
        self.sending = True
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._next_at = loop.time()
            self._tick()

    def stop(self) -> None:
        """Send nothing; the clock of the timestamps goes on."""
        self.sending = False
        self._talking = False

    def play(self, source: Source | None) -> None:
        """Play *source* instead of what is played now."""
        self.source = source

    def press(self, digits: str) -> None:
        """Queue *digits* as RFC 4733 events."""
        self._keys.extend(Key(DIGITS.index(digit)) for digit in digits)

    @property
    def pressing(self) -> bool:
        """Whether keys are still to be sent."""
        return bool(self._keys)

    def close(self) -> None:
        """Stop everything and release the ports."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        for pair in self._sockets:
            for sock in pair:
                loop.remove_reader(sock.fileno())
                sock.close()
        self._sockets.clear()

    def report(self) -> MediaReport:
        """Return the measurements so far."""
        report = self.heard.report(sent=self.sent, rtcp=self.rtcp, old_port=self.old_port)
        if self.secure is None:
            return report
        return replace(report, unauthentic=self.secure.unauthentic, srtp=self.secure.active or "")

    # sending

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._next_at <= now + 0.0005:
            self._slot()
            self._next_at += PTIME
            if now - self._next_at > 0.2:  # we were stopped: leave a gap, no burst
                skipped = int((now - self._next_at) / PTIME)
                self._next_at += skipped * PTIME
                self._timestamp = (self._timestamp + skipped * sound.FRAME) & 0xFFFFFFFF
        self._timer = loop.call_at(self._next_at, self._tick)

    def _slot(self) -> None:
        if self.sending and self.remote is not None and not self._send_key():
            self._send_audio()
        self._timestamp = (self._timestamp + sound.FRAME) & 0xFFFFFFFF

    def _send_audio(self) -> None:
        frame = None
        if self.source is not None:
            frame = self.source.take(self.law)
            if frame is None:
                self.source = None
        self._key_gap = max(0, self._key_gap - 1)
        payload_type = 8 if self.law == "PCMA" else 0
        payload = frame or sound.SILENCE[self.law] * sound.FRAME
        self._send(payload_type, payload, self._timestamp, marker=not self._talking)
        self._talking = True

    def _send_key(self) -> bool:
        if not self._keys or self._key_gap or self.telephone_event is None:
            return False
        key = self._keys[0]
        if key.packets == 0:
            key.timestamp = self._timestamp
        key.packets += 1
        ending = key.packets > KEY_PACKETS
        duration = min(key.packets, KEY_PACKETS) * sound.FRAME
        payload = struct.pack("!BBH", key.event, (0x80 if ending else 0) | 10, duration)
        self._send(self.telephone_event, payload, key.timestamp, marker=key.packets == 1)
        self._talking = False
        if key.packets == KEY_PACKETS + KEY_ENDS:
            self._keys.popleft()
            self._key_gap = KEY_GAP
            self._on_packet()
        return True

    def _send(self, payload_type: int, payload: bytes, timestamp: int, *, marker: bool) -> None:
        head = struct.pack(
            "!BBHII",
            0x80,
            payload_type | (0x80 if marker else 0),
            self._sequence,
            timestamp,
            self._ssrc,
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        packet = head + payload
        if self.secure is not None:
            packet = self.secure.protect(packet)
        if self.loss and self._random.uniform(0, 100) < self.loss:
            return
        if self.jitter:
            delay = self._random.uniform(0, self.jitter)
            asyncio.get_running_loop().call_later(delay, self._put, packet)
            return
        self._put(packet)

    def _put(self, data: bytes) -> None:
        if not self._sockets or self.remote is None:
            return
        try:
            self._sockets[-1][0].sendto(data, self.remote)
        except OSError:  # nobody listens (ICMP), or the buffer is full: lost, as on a wire
            return
        self.sent += 1

    # receiving

    def _readable(self, sock: socket.socket, index: int) -> None:
        heard = False
        for _ in range(32):
            try:
                data, ancillary, _, _ = sock.recvmsg(2048, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                continue
            if index < len(self._sockets) - 1 and time.time() - self._moved_at > 0.5:
                self.old_port += 1
            packet = data if self.secure is None else self.secure.open(data)
            if packet is not None:
                self.heard.receive(packet, _arrival(ancillary))
                heard = True
        if heard:
            self._on_packet()

    def _rtcp_readable(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(2048)
        except OSError:
            return
        if self.secure is None or self.secure.open(data, rtcp=True) is not None:
            self.rtcp += 1


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("@qq", data[:16])
            return float(seconds + nanoseconds * 1e-9)
    return time.time()


def _bind_pair(address: str) -> tuple[socket.socket, socket.socket]:
    """Return two sockets on an even port and the next one. RFC 3550 11."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(64):
        rtp = socket.socket(family, socket.SOCK_DGRAM)
        rtcp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((address, 0))
            port = rtp.getsockname()[1]
            if port % 2:
                raise OSError("odd port")
            rtcp.bind((address, port + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        for sock in (rtp, rtcp):
            sock.settimeout(0)
        if _TIMESTAMPNS is not None:
            rtp.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        return rtp, rtcp
    raise OSError(f"no pair of RTP ports is free on {address}")
