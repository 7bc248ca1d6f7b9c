"""Ten times the admitted rate from a raw blaster while calls run: none of them may suffer.

The daemon runs on one core with its own limits of new calls and a fake room; the live calls
have RTP both ways. Counted: live calls that were lost or had a hole of RTP, what the blaster
was answered, and the goodput: calls answered, as a share of what the rate admits.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import local
from bench.accepted import ROUTES
from bench.caller import Caller
from bench.table import Row, percentile, row
from bench.usage import cpu_seconds
from bridge.trunk.gate import SOURCE_BURST, SOURCE_RATE

PTIME = 0.020
GAP = "|gap - 20 ms| of RTP of live calls"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much: live calls, times the admitted rate, seconds of the blast and of its calls."""

    live: int = 20
    times: float = 10.0
    seconds: float = 10.0
    hold: float = 0.1


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Return the rows of this bench."""
    with (
        local.bridge(
            folder / "blaster", trunk={"max_calls": 2000}, routes=ROUTES, options={}, max_calls=4000
        ) as (port, pid),
        local.elsewhere(),
        _media(scale.live) as media,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
    ):
        sink.bind(("127.0.0.1", 0))
        live = [Caller(port, f"live{n}", media_port=one) for n, one in enumerate(media.ports)]
        for one in live:
            if len(one.run(100, 0.01).of(200)) != 1:
                raise RuntimeError("a live call was not answered")
        time.sleep(1.0)
        before = media.mark()
        blaster = Caller(port, "blaster", media_port=sink.getsockname()[1])
        used, since = cpu_seconds(pid), time.monotonic()
        rate = SOURCE_RATE * scale.times
        tally = blaster.run(rate, scale.seconds, hold=scale.hold)
        share = 100 * (cpu_seconds(pid) - used) / (time.monotonic() - since)
        quiet, blast = before, media.mark()
        alive = [one for one in live if one.running == 1]
        lost = scale.live - sum(one.hang_up().byes == {200: 1} for one in alive)
        admitted = SOURCE_RATE * tally.seconds + SOURCE_BURST
        answered = len(tally.of(200))
        print(
            f"blaster: {tally.sent} INVITEs at {rate:g}/s, answers {tally.finals()},"
            f" none {tally.unanswered}, BYE {dict(tally.byes)}, calls left {blaster.running};"
            f" goodput {answered} of {admitted:g} admitted = {100 * answered / admitted:.0f} %;"
            f" live calls lost: {lost} of {scale.live};"
            f" the daemon used {share:.0f} % of its core;"
            f" the blaster was late by p99 {percentile(tally.late, 0.99) * 1000:.2f} ms;"
            f" {local.load()}"
        )
    beside = f"{scale.live} live calls, {rate:g} INVITEs/s for {scale.seconds:g} s"
    return [
        row("INVITE -> 200 of the admitted", tally.of(200), beside=beside),
        row("INVITE -> 503 of the others", tally.of(503), beside=beside),
        row(f"{GAP}, blasted", blast, beside=beside, floor=f"{GAP}, quiet"),
        row(f"{GAP}, quiet", quiet, beside="the second before"),
    ]


@dataclass
class _Media:
    """Sockets of the live calls: each answers RTP with RTP and notes when it came."""

    ports: list[int]
    arrivals: dict[int, float] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def mark(self) -> list[float]:
        """Return the gaps since the last mark."""
        with self.lock:
            gaps, self.gaps = self.gaps, []
        return [abs(gap - PTIME) for gap in gaps]


@contextmanager
def _media(count: int) -> Iterator[_Media]:
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    media = _Media(ports=[sock.getsockname()[1] for sock in sockets])
    stop = threading.Event()
    thread = threading.Thread(target=_talk, args=(sockets, media, stop), daemon=True)
    thread.start()
    try:
        yield media
    finally:
        stop.set()
        thread.join()
        for sock in sockets:
            sock.close()


def _talk(sockets: list[socket.socket], media: _Media, stop: threading.Event) -> None:
    """Answer each packet with one of our own: both ways then have the daemon's pace."""
    poll = select.epoll()
    known = {sock.fileno(): sock for sock in sockets}
    counts = dict.fromkeys(known, 0)
    for number in known:
        poll.register(number, select.EPOLLIN)
    while not stop.is_set():
        for number, _ in poll.poll(0.1):
            _, peer = known[number].recvfrom(2048)
            now = time.monotonic()
            with media.lock:
                last = media.arrivals.get(number)
                if last is not None:
                    media.gaps.append(now - last)
                media.arrivals[number] = now
            counts[number] += 1
            count = counts[number]
            head = struct.pack("!BBHII", 0x80, 8, count & 0xFFFF, count * 160 & 0xFFFFFFFF, number)
            known[number].sendto(head + b"\xd5" * 160, peer)
    poll.close()
