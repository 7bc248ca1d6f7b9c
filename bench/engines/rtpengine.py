"""rtpengine (Debian), PCMU to Opus and back in its userspace, by its ng protocol.

Both legs are plain RTP: no SRTP, no ICE, no signalling, so it does less than the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from bench.engines.arms import Arm, Setting, far_phones, phones
from bench.engines.block import Running
from bench.engines.tools import MEASURED, ROOT, NoTools
from tests.ports import free_port

UNPACKED = ROOT / ".cache" / "peers"
_PORT = re.compile(r"^m=audio (\d+) ", re.MULTILINE)
_OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000", re.MULTILINE)
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP {pt}\r\na=rtpmap:{pt} {codec}\r\na=ptime:20\r\na=sendrecv\r\n"
)


def program() -> Path:
    """Return the server, installed or unpacked. Raises `NoTools`."""
    places = [
        os.environ.get("PATH", ""),
        "/usr/sbin",
        f"{UNPACKED}/usr/bin",
        f"{UNPACKED}/usr/sbin",
    ]
    found = shutil.which("rtpengine", path=os.pathsep.join(places))
    if found is None:
        raise NoTools("no rtpengine: scripts/peers.sh unpacks it")
    return Path(found)


async def begin(setting: Setting, calls: int, stack: contextlib.AsyncExitStack) -> Running:
    """Bring up *calls* calls through one rtpengine on the measured core."""
    server = program()
    control = free_port()
    process = await asyncio.create_subprocess_exec(
        str(server),
        "--foreground",
        "--log-stderr",
        "--log-level=3",
        "--table=-1",
        "--interface=127.0.0.1",
        f"--listen-ng=127.0.0.1:{control}",
        "--port-min=32768",
        "--port-max=60999",
        "--num-threads=1",
        "--config-file=none",
        env=_environment(server),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {MEASURED}),
    )
    stack.push_async_callback(end, process)
    near = await phones(setting, calls, stack, stamp=False)
    far = await far_phones(setting, calls, stack, gcm=False)
    near_ports, far_ports = (await near.answer())["ports"], (await far.answer())["ports"]
    ng = await Ng.connect(control)
    stack.callback(ng.close)
    await ng.ready()
    to_near, to_far = [], []
    for n, (phone, room) in enumerate(zip(near_ports, far_ports, strict=True)):
        ids = {"call-id": f"bench-{n}", "from-tag": "phone"}
        offered = await ng.ask(
            {
                "command": "offer",
                "sdp": _SDP.format(port=phone, pt=0, codec="PCMU/8000"),
                "codec": {"mask": ["PCMU"], "transcode": ["opus"]},
                **ids,
            }
        )
        payload_type = _found(_OPUS, offered["sdp"])
        to_far.append(_found(_PORT, offered["sdp"]))
        answer = _SDP.format(port=room, pt=payload_type, codec="opus/48000/2")
        answered = await ng.ask({"command": "answer", "sdp": answer, "to-tag": "room", **ids})
        to_near.append(_found(_PORT, answered["sdp"]))
        if payload_type != 96:
            raise RuntimeError(f"rtpengine gave Opus the payload type {payload_type}")
    near.order("to " + " ".join(map(str, to_near)))
    far.order("to " + " ".join(map(str, to_far)))
    return Running(calls=calls, phones=near, far=far, measured=[process.pid])


RTPENGINE = Arm(
    name="rtpengine", title="rtpengine, PCMU to Opus, plain RTP", begin=begin, first=20, most=160
)


class Ng(asyncio.DatagramProtocol):
    """rtpengine's control protocol: a cookie and a bencoded dictionary, on UDP."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[bytes, asyncio.Future[dict[str, Any]]] = {}
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def connect(cls, port: int) -> Ng:
        """Return one for the server on *port*."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_datagram_endpoint(cls, remote_addr=("127.0.0.1", port))
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # no subclass in asyncio itself

    def datagram_received(self, data: bytes, addr: object) -> None:
        cookie, _, body = data.partition(b" ")
        waiting = self._waiting.pop(cookie, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(decode(body))

    def error_received(self, exc: Exception) -> None:
        """Nobody listens yet."""

    async def ready(self) -> None:
        """Wait until the server answers."""
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.ask({"command": "ping"}, within=0.2)
                except TimeoutError:
                    continue
                return

    async def ask(self, fields: dict[str, Any], *, within: float = 5.0) -> dict[str, Any]:
        """Return the answer to one command."""
        self._count += 1
        cookie = b"%d" % self._count
        self._waiting[cookie] = waiting = asyncio.get_running_loop().create_future()
        self._transport.sendto(cookie + b" " + encode(fields))
        async with asyncio.timeout(within):
            answer: dict[str, Any] = await waiting
        if answer.get("result") == "error":
            raise RuntimeError(f"rtpengine: {answer.get('error-reason')}")
        return answer

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()


def encode(value: object) -> bytes:
    """Return *value* bencoded."""
    match value:
        case dict():
            pairs = (encode(key) + encode(value[key]) for key in sorted(value))
            return b"d" + b"".join(pairs) + b"e"
        case list():
            return b"l" + b"".join(map(encode, value)) + b"e"
        case int():
            return b"i%de" % value
        case _:
            data = str(value).encode()
            return b"%d:%s" % (len(data), data)


def decode(data: bytes) -> dict[str, Any]:
    """Return the dictionary that *data* is."""
    found, _ = _take(data, 0)
    assert isinstance(found, dict)
    return found


def _take(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _take(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2], strict=True))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end].decode(), end


def _found(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    if found is None:
        raise RuntimeError(f"rtpengine's SDP has no {pattern.pattern}")
    return int(found[1])


def _environment(server: Path) -> dict[str, str]:
    """One that was unpacked has its libraries beside it."""
    if not server.is_relative_to(UNPACKED):
        return dict(os.environ)
    folders = sorted({str(file.parent) for file in UNPACKED.rglob("lib*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(folders)}


async def end(process: asyncio.subprocess.Process) -> None:
    """End a server that we started."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
