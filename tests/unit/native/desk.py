"""Calls on the core's threads without a bridge: phones, rooms made of two transports, and wires
on which a stranger can put datagrams."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

PATIENCE: Final = 20.0
"""Seconds; a machine under load is slow, not wrong."""
HOST: Final = "127.0.0.1"


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((HOST, 0))
    return made


@dataclass
class Call:
    """One call and its phone; ``line``: the phone's SRTP."""

    number: int
    phone: socket.socket
    control: socket.socket
    rtp: tuple[str, int]
    rtcp: tuple[str, int]
    sequence: int = 0
    heard: int = 0
    line: Any = None
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def say(self, payload: bytes = b"\xff" * 160) -> None:
        """Send a packet of the phone."""
        self.sequence += 1
        head = struct.pack(
            "!BBHII", 0x80, 0, self.sequence & 0xFFFF, self.sequence * 160 & 0xFFFF_FFFF, 7
        )
        packet = head + payload
        self.phone.sendto(self.line.protect_rtp(packet) if self.line else packet, self.rtp)

    def kinds(self) -> list[str]:
        return [event[0] for event in self.events]


class Wire:
    """The way between two transports; each sends to one end of it."""

    def __init__(self) -> None:
        self.ends = (udp(), udp())
        self.ports = [0, 0]
        self.past: deque[tuple[int, bytes]] = deque(maxlen=256)

    def through(self, side: int, sdp: str) -> str:
        """Return *sdp* of the transport *side* as the other is to see it."""
        lines = []
        for line in sdp.splitlines():
            words = line.split(" ")
            if line.startswith("a=candidate:"):
                self.ports[side] = int(words[5])
                words[5] = str(self.ends[1 - side].getsockname()[1])
            lines.append(" ".join(words))
        return "".join(f"{line}\r\n" for line in lines)

    def forward(self, ready: list[socket.socket]) -> None:
        """Carry what has come to the ends."""
        for side in (0, 1):
            if self.ends[side] not in ready:
                continue
            try:
                while True:
                    data = self.ends[side].recv(4096)
                    self.past.append((1 - side, data))
                    self.ends[1 - side].sendto(data, (HOST, self.ports[1 - side]))
            except BlockingIOError:
                pass

    def close(self) -> None:
        for end in self.ends:
            end.close()


class Desk:
    """A core, its calls, and the loop that serves their sockets."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.calls: dict[int, Call] = {}
        self.wires: list[Wire] = []
        self.drains = True

    def open(self, *, ssrc: int = 1) -> Call:
        """Open a call to a phone of its own, audio flowing both ways."""
        ours, ours_control = udp(), udp()
        number = self.core.open(
            ours.fileno(),
            ours_control.fileno(),
            ssrc=ssrc,
            sequence=1,
            timestamp=1,
            track="PCMU",
            signalling=HOST,
            allow=["127.0.0.0/8"],
            cname="desk",
        )
        call = Call(number, udp(), udp(), ours.getsockname(), ours_control.getsockname())
        ours.close()
        ours_control.close()
        self.calls[number] = call
        self.connect(call)
        return call

    def secure(self, call: Call, line: Any) -> None:
        """Let *call* speak SRTP from now on, and its phone by *line*."""
        ours, theirs = ((bytes([seed]) * 30, b"", None) for seed in (1, 2))
        line.agree("AES_CM_128_HMAC_SHA1_80", theirs, [ours], None, 0.0)
        call.line = line
        self.connect(call, ("AES_CM_128_HMAC_SHA1_80", ours, [theirs], None))

    def connect(self, call: Call, crypto: tuple[Any, ...] | None = None) -> None:
        self.core.connect(
            call.number,
            remote=call.phone.getsockname(),
            remote_rtcp_port=call.control.getsockname()[1],
            codec="PCMU",
            payload_type=0,
            receive_codecs=[(0, "PCMU"), (8, "PCMA")],
            dtmf_payload_type=101,
            receive_dtmf_payload_type=101,
            ptime=20,
            crypto=crypto,
        )
        self.core.apply(
            call.number,
            transmit=True,
            agent_audio=True,
            caller_audio=True,
            watchdog=None,
            watchdog_initial=None,
        )

    def close(self, call: Call) -> None:
        """Close *call* and see that it is told."""
        self.core.close(call.number)
        self.until(lambda: "closed" in call.kinds())
        call.phone.close()
        call.control.close()
        del self.calls[call.number]

    def begin(self, one: Call, other: Call) -> None:
        """Open the transports of a room in which *one* is heard by *other*."""
        self.core.peer_open(one.number, 0, address=HOST, track="track", receivers=1)
        self.core.peer_open(other.number, 1, address=HOST, track=None, receivers=0)

    def join(self, one: Call, other: Call) -> Wire:
        """The same, and wait until both stand, with a wire between them."""
        wire = Wire()
        self.wires.append(wire)
        self.begin(one, other)
        offer = self.sdp(one, "offer")
        self.core.peer_offer(other.number, 1, wire.through(0, offer))
        answer = self.sdp(other, "answer")
        self.core.peer_answer(one.number, 0, wire.through(1, answer))
        self.until(lambda: "channel" in one.kinds() and "connected" in other.kinds())
        return wire

    def sdp(self, call: Call, kind: str) -> str:
        self.until(lambda: kind in call.kinds())
        return next(str(event[2]) for event in call.events if event[0] == kind)

    def serve(self, seconds: float = 0.01) -> None:
        """Read what there is: phones, wires, and what the core tells."""
        sockets = {call.phone: call for call in self.calls.values()}
        wires = [end for wire in self.wires for end in wire.ends]
        ready, _, _ = select.select([*sockets, *wires, self.core.fileno()], [], [], seconds)
        for wire in self.wires:
            wire.forward(ready)
        for phone, call in sockets.items():
            try:
                while phone in ready:
                    phone.recv(4096)
                    call.heard += 1
            except BlockingIOError:
                pass
        if self.drains:
            for number, *event in self.core.drain():
                if number in self.calls:
                    self.calls[number].events.append(tuple(event))

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, [call.kinds() for call in self.calls.values()]
            self.serve()

    def stop(self) -> None:
        self.core.stop()
        for call in self.calls.values():
            call.phone.close()
            call.control.close()
        for wire in self.wires:
            wire.close()
