"""The media core alone, without SIP and LiveKit's signalling, driven by a stand-in SFU.

``python -m bench.engines.core_process JSON``: ``calls`` (the phones' ports), ``priority``.
It tells ``{"offer": n, "sdp": ...}``, takes ``answer n SDP`` (0x1f for CRLF), and tells
``{"ready": seconds of CPU, "ports": []}`` when all calls stand. Orders besides: ``join N RATE
SECONDS`` brings up N more calls, RATE a second, each closed SECONDS after it stands, and tells
``{"joined": n, "cpu": seconds, "wall": seconds, "slowest": seconds}`` when the last is up.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import uvloop
from trunkbridge_native import Core

from bench.engines import process
from rtp import g711
from rtp.net.socket import open_udp

HERE = "127.0.0.1"
PATIENCE = 60.0


class Calls:
    """All calls of one core, by the numbers that the SFU knows them by."""

    def __init__(self, priority: int) -> None:
        self.core = Core(threads=1, priority=priority)
        self._numbers: dict[int, int] = {}  # of the core's calls
        self._calls: dict[int, int] = {}  # the core's, of numbers
        self._up: dict[int, asyncio.Future[None]] = {}
        asyncio.get_running_loop().add_reader(self.core.fileno(), self._drain)

    def open(self, number: int, phone: int) -> int:
        """Begin a call with the phone on a port; return ours."""
        rtp, rtcp = open_udp(HERE, 0), open_udp(HERE, 0)
        call = self.core.open(
            rtp.fileno(),
            rtcp.fileno(),
            ssrc=number + 1,
            sequence=1,
            timestamp=1,
            track=g711.PCMU,
            signalling=HERE,
            allow=["127.0.0.0/8"],
            cname="bench",
        )
        port = int(rtp.getsockname()[1])
        _closed(rtp, rtcp)  # the core has its own descriptors of them
        self._numbers[call], self._calls[number] = number, call
        self._up[number] = asyncio.get_running_loop().create_future()
        self.core.peer_open(call, 0, address=HERE, track="sip_audio", receivers=1)
        self.core.connect(
            call,
            remote=(HERE, phone),
            remote_rtcp_port=0,
            codec=g711.PCMU,
            payload_type=0,
            receive_codecs=[(0, g711.PCMU)],
            dtmf_payload_type=None,
            receive_dtmf_payload_type=None,
            ptime=20,
            crypto=None,
        )
        self.core.apply(
            call,
            transmit=True,
            agent_audio=True,
            caller_audio=True,
            watchdog=None,
            watchdog_initial=None,
        )
        return port

    async def stands(self, number: int) -> None:
        """Wait until the call's media is up."""
        async with asyncio.timeout(PATIENCE):
            await self._up[number]

    def answer(self, text: str) -> None:
        """Take ``n SDP``."""
        number, _, sdp = text.partition(" ")
        call = self._calls.get(int(number))
        if call is not None:
            self.core.peer_answer(call, 0, sdp.replace("\x1f", "\r\n"))

    def close(self, number: int) -> None:
        """End a call."""
        call = self._calls.pop(number)
        self._numbers.pop(call, None)
        self.core.close(call)
        process.say(closed=number)

    def _drain(self) -> None:
        for call, kind, *fields in self.core.drain():
            number = self._numbers.get(call)
            if number is None:
                continue
            if kind == "offer":
                process.say(offer=number, sdp=fields[1])
            elif kind == "connected":
                if not self._up[number].done():
                    self._up[number].set_result(None)
            elif kind in ("fault", "peer_closed"):
                process.say(failed=number, why=f"{kind} {fields}")


async def join(calls: Calls, text: str) -> None:
    """Bring up N calls at a rate, close each after a while, and tell what it took."""
    count, rate, lasts = int(text.split()[0]), *map(float, text.split()[1:])
    loop = asyncio.get_running_loop()
    first = 100_000  # numbers of calls that are not phoned
    used, began, slowest = time.process_time(), loop.time(), 0.0

    async def one(number: int) -> None:
        nonlocal slowest
        since = loop.time()
        calls.open(number, 9)
        await calls.stands(number)
        slowest = max(slowest, loop.time() - since)
        loop.call_later(lasts, calls.close, number)

    tasks = []
    for n in range(count):
        await asyncio.sleep(max(0.0, began + n / rate - loop.time()))
        tasks.append(asyncio.create_task(one(first + n)))
    await asyncio.gather(*tasks)
    wall = loop.time() - began
    await asyncio.sleep(lasts + 0.2)  # their ends are part of the price
    cpu = time.process_time() - used
    process.say(joined=count, cpu=cpu, wall=wall, slowest=slowest)


async def run(given: dict[str, Any]) -> None:
    """Bring all calls up, then take orders."""
    calls = Calls(given["priority"])
    process.settled()
    began = time.process_time()
    gate = asyncio.Semaphore(8)

    async def one(number: int, phone: int) -> int:
        async with gate:
            port = calls.open(number, phone)
            await calls.stands(number)
        return port

    tasks: set[asyncio.Task[None]] = set()

    def joining(text: str) -> None:
        tasks.add(asyncio.create_task(join(calls, text)))

    async def begin() -> None:
        ports = await asyncio.gather(*(one(n, port) for n, port in enumerate(given["calls"])))
        turns = calls.core.turns()
        process.say(ready=time.process_time() - began, ports=ports, realtime=turns.realtime)

    tasks.add(asyncio.create_task(begin()))
    await process.obey({"answer": calls.answer, "join": joining})
    calls.core.stop()
    process.leave()


def _closed(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(run(process.options()))
