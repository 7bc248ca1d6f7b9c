"""Sends one RTP stream of silence to each port of loopback named, every 20 ms, until killed."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

PTIME = 0.020
SILENCE = b"\xd5" * 160


async def send(ports: list[int]) -> None:
    """Pace from one timer, as a plain program would."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    start = loop.time()
    count = 0
    while True:
        head = struct.pack("!BBHII", 0x80, 8, count & 0xFFFF, count * 160 & 0xFFFFFFFF, 7)
        for port in ports:
            sock.sendto(head + SILENCE, ("127.0.0.1", port))
        count += 1
        await asyncio.sleep(max(0.0, start + count * PTIME - loop.time()))


if __name__ == "__main__":
    asyncio.run(send([int(text) for text in sys.argv[1:]]))
