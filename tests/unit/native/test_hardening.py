"""The core from outside: whatever comes or is asked, its threads go on, and nothing grows.

``CHURN=2000`` and ``FUZZED=100000`` make two of them as long as issue 6 wants them.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.native.desk import HOST, PATIENCE, Call, Desk, Wire, udp

pytestmark = pytest.mark.unit

native: Any = pytest.importorskip("trunkbridge_native", reason="native/ is not built")

CHURN: Final = int(os.environ.get("CHURN", "40"))
"""Calls."""
FUZZED: Final = int(os.environ.get("FUZZED", "3000"))
"""Datagrams that are nobody's."""


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(native.Core(threads=1, priority=0))
    yield made
    made.stop()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """KiB of memory that the process has."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))


def record(kind: int, epoch: int, body: bytes) -> bytes:
    """Return a record of DTLS 1.2 (RFC 6347 4.1), its sequence number far ahead."""
    return struct.pack("!B2sHHIH", kind, b"\xfe\xfd", epoch, 0, 9000, len(body)) + body


def stun(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    """Return a STUN message (RFC 8489 5) without integrity."""
    body = b"".join(
        struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4)
        for name, value in attributes
    )
    return struct.pack("!HHI12s", kind, len(body), 0x2112A442, b"transaction!") + body


HELLO: Final = b"\xfe\xfd" + bytes(32) + b"\0\0\0\x02\xc0\x2b\x01\0"
BLIND: Final = (
    record(21, 0, b"\x02\x28"),  # alerts: handshake failure, close notify
    record(21, 0, b"\x01\x00"),
    record(21, 1, b"\x01\x00"),
    record(20, 0, b"\x01"),  # change cipher spec
    record(22, 0, struct.pack("!B3sH3s3s", 1, b"\0\0\x2a", 0, b"\0\0\0", b"\0\0\x2a") + HELLO),
    record(22, 0, struct.pack("!B3sH3s3s", 0, bytes(3), 7, bytes(3), bytes(3))),  # hello request
    record(22, 0, struct.pack("!B3sH3s3s", 11, b"\xff\xff\xff", 2, bytes(3), bytes(3))),
    record(23, 1, bytes(64)),
    stun(0x0001),
    stun(0x0001, (0x0006, b"some:body"), (0x0025, b""), (0x802A, bytes(8)), (0x0024, bytes(4))),
    stun(0x0111, (0x0009, b"\0\0\x04\x57role")),  # 487, to nothing that was asked
    stun(0x0101, (0x0020, b"\0\x01\x11\x22\x5e\x12\xa4\x43")),
    stun(0x0011),
    b"\x80\xcb\x00\x01" + bytes(4),  # BYE
    b"\x80\x6f\xff\xff" + bytes(8),
    b"",
)
"""What a stranger can send who knows the port and nothing else, well formed."""


class Stranger:
    """Sends what nobody should, from an address that nobody knows."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.socket = udp()

    def datagram(self, genuine: list[bytes]) -> bytes:
        draw = self.random
        if draw.random() < 0.2:
            return draw.choice(BLIND)
        if genuine and draw.random() < 0.7:
            data = bytearray(draw.choice(genuine))
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.3 else data)
        first = draw.choice((0, 1, 20, 21, 22, 23, 0x80, 0x90, 0xB1, 0xFF))
        return bytes([first]) + draw.randbytes(draw.choice((0, 3, 11, 19, 60, 200, 1400)))

    def noise(self, port: int) -> None:
        """Send what needs no look at the wire."""
        self.socket.sendto(self.datagram([]), (HOST, port))

    def disturb(self, call: Call, wire: Wire | None) -> None:
        """Send to all sockets of *call*, from its phone, its wire, and from elsewhere."""
        speech = b"\x80\x00" + self.random.randbytes(170)
        report = b"\x80\xc8\x00\x06" + self.random.randbytes(24)
        for data, known, to in (
            (self.datagram([speech, report]), call.phone, call.rtp),
            (self.datagram([report]), call.control, call.rtcp),
        ):
            self.random.choice((known, self.socket)).sendto(data, to)
        if wire is not None and wire.past:
            side = self.random.randrange(2)
            data = self.datagram([old for _, old in wire.past])
            known = self.random.choice((wire.ends[side], self.socket))
            known.sendto(data, (HOST, wire.ports[side]))


def test_a_fuzzed_stream_on_all_sockets_never_ends_the_thread(desk: Desk) -> None:
    """Issue 6. Rows 80, 88: from the far end's address and from strangers, seeded."""
    callers, agents = [desk.open(ssrc=n) for n in (1, 2)], [desk.open(ssrc=n) for n in (3, 4)]
    wires = [desk.join(*pair) for pair in zip(callers, agents, strict=True)]
    alone = desk.open(ssrc=5)
    desk.secure(alone, native.SrtpLine())
    stranger = Stranger(6)
    for _ in range(FUZZED // 8):
        for call, wire in zip((*callers, alone), (*wires, None), strict=True):
            stranger.disturb(call, wire)
            call.say()
        desk.serve(0.001)
    calls = [*callers, *agents, alone]
    stranger.socket.close()
    assert desk.core.turns().faults == 0
    assert desk.core.turns().datagrams > FUZZED, "they were read"
    assert desk.core.stats(alone.number).packets_unauthentic > FUZZED / 20
    for call in calls:
        assert {"fault", "peer_closed", "disconnected"}.isdisjoint(call.kinds())
    start = time.monotonic()
    before = {call.number: call.heard for call in calls}
    passed = desk.core.stats(alone.number).packets_received
    forwarded = [desk.core.stats(agent.number).room_packets_received for agent in agents]
    while any(call.heard < before[call.number] + 25 for call in calls):
        assert time.monotonic() < start + PATIENCE
        for call in (*callers, alone):
            call.say()
        desk.serve(0.02)
    assert time.monotonic() > start + 0.4, "20 ms each, not a burst"
    desk.until(lambda: desk.core.stats(alone.number).packets_received > passed + 10)
    for agent, count in zip(agents, forwarded, strict=True):
        desk.until(
            lambda agent=agent, count=count: (  # type: ignore[misc]
                desk.core.stats(agent.number).room_packets_received > count
            )
        )


def test_a_stranger_cannot_keep_a_transport_from_standing(desk: Desk) -> None:
    """Noise and records of no connection, from the first moment on; it is nobody's handshake."""
    one, other = desk.open(ssrc=1), desk.open(ssrc=2)
    stranger = Stranger(8)

    def disturbed() -> bool:
        for port in wire.ports:
            for _ in range(4 if port else 0):
                stranger.noise(port)
        return "channel" in one.kinds() and "connected" in other.kinds()

    wire = Wire()
    desk.wires.append(wire)
    desk.begin(one, other)
    desk.core.peer_offer(other.number, 1, wire.through(0, desk.sdp(one, "offer")))
    answer = desk.sdp(other, "answer")
    desk.core.peer_answer(one.number, 0, wire.through(1, answer))
    desk.until(disturbed)
    stranger.socket.close()
    assert {"fault", "peer_closed"}.isdisjoint(one.kinds() + other.kinds())


def test_churn_leaves_no_socket_and_no_memory_behind(desk: Desk) -> None:
    """Issue 6. Calls that connect to a room, that only begin to, and that have none."""

    def one_round() -> None:
        one, other = desk.open(), desk.open()
        wire = desk.join(one, other)
        one.say()
        desk.core.peer_send(one.number, "_reliable", b"hello")
        third = desk.open()
        desk.begin(third, other)
        desk.close(third)
        desk.close(one)
        desk.close(other)
        desk.wires.remove(wire)
        wire.close()

    for _ in range(5):
        one_round()
    sockets, memory = descriptors(), resident()
    rounds = max(1, CHURN // 3)
    for _ in range(rounds):
        one_round()
    end = time.monotonic() + PATIENCE
    while descriptors() > sockets:  # transports are buried a moment after their call
        assert time.monotonic() < end, (descriptors(), sockets)
        desk.serve()
    assert desk.core.turns().calls == 0
    assert resident() - memory < 4096 + rounds, "KiB"


def test_who_never_drains_ends_a_leg_and_not_the_memory(desk: Desk) -> None:
    """Bounded queues: what the far end sends waits up to a bound, then its leg is over."""
    one, other = desk.open(ssrc=1), desk.open(ssrc=2)
    desk.join(one, other)
    memory = resident()
    desk.drains = False
    for _ in range(75):
        desk.core.peer_send(one.number, "_reliable", bytes(15_000))
        heard = one.heard
        while one.heard == heard:  # 20 ms, for the wire to carry it
            desk.serve()
    assert resident() - memory < 32 * 1024, "KiB"
    desk.drains = True
    desk.until(lambda: "peer_closed" in other.kinds())
    assert ("peer_closed", 1, "overflow") in other.events
    assert sum(len(event[3]) for event in other.events if event[0] == "data") <= 1 << 20


def test_a_far_end_that_takes_nothing_ends_a_leg_and_not_the_memory(desk: Desk) -> None:
    """Bounded queues: what we send waits up to a bound, as nobody is on the wire any more."""
    one, other = desk.open(ssrc=1), desk.open(ssrc=2)
    wire = desk.join(one, other)
    desk.wires.remove(wire)
    wire.close()
    memory = resident()
    for _ in range(20_000):
        desk.core.peer_send(one.number, "_reliable", bytes(4096))
    desk.until(lambda: "peer_closed" in one.kinds())
    assert resident() - memory < 100 * 1024, "KiB"
    assert ("peer_closed", 0, "overflow") in one.events
    heard = one.heard
    desk.until(lambda: one.heard > heard + 5)


def test_commands_for_calls_that_are_none_are_no_error(desk: Desk) -> None:
    call = desk.open()
    desk.close(call)
    for number in (call.number, 0, 1 << 60):
        ghost = Call(number, udp(), udp(), ("", 0), ("", 0))
        desk.connect(ghost)
        desk.core.send_dtmf(number, "1")
        desk.core.peer_open(number, 0, address=HOST, track=None, receivers=1)
        desk.core.peer_answer(number, 0, "v=0")
        desk.core.peer_offer(number, 1, "v=0")
        desk.core.peer_candidate(number, 0, "candidate:")
        desk.core.peer_receivers(number, 0, 3)
        desk.core.peer_restart_ice(number, 0)
        desk.core.peer_send(number, "_lossy", b"x")
        desk.core.peer_mute(number, True)
        desk.core.peer_close(number, 1)
        desk.core.close(number)
        ghost.phone.close()
        ghost.control.close()
    assert desk.core.drain() == []
    assert desk.core.turns().faults == 0


@pytest.mark.parametrize(
    "sdp",
    ["", "v=0", "v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\n", "\0" * 99],
    ids=["empty", "cut", "no sections", "zeros"],
)
def test_a_description_that_is_none_ends_the_transport_alone(desk: Desk, sdp: str) -> None:
    call = desk.open()
    desk.core.peer_open(call.number, 0, address=HOST, track="track", receivers=1)
    desk.sdp(call, "offer")
    desk.core.peer_answer(call.number, 0, sdp)
    desk.core.peer_open(call.number, 1, address=HOST, track=None, receivers=0)
    desk.core.peer_offer(call.number, 1, sdp)
    desk.until(lambda: call.kinds().count("peer_closed") == 2)
    heard = call.heard
    desk.until(lambda: call.heard > heard + 5)
    assert desk.core.turns().faults == 0


def test_draining_never_waits(desk: Desk) -> None:
    """Nothing is there, thousands of times; with a thread that tells things all the while."""
    call = desk.open()
    start = time.monotonic()
    for number in range(5000):
        desk.core.drain()
        if number % 100 == 0:
            desk.core.peer_open(call.number, 0, address=HOST, track="track", receivers=1)
    assert time.monotonic() - start < PATIENCE
