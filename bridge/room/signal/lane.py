"""Reliable packets in their order, over cuts and resumes. PURE.

LiveKit numbers the reliable packets of a participant (``sequence``, from 1). The server
forwards a number only once and never one below the last: so the number is given when a packet
leaves, and what is sent again keeps its own.

A packet that has left may die with its server. Until the far end has it, a message that is to
arrive in any case stays known here, and a new participant may send it once more (`missed`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from livekit.protocol import models

from bridge.room.seam import RoomError

PACKET_LIMIT: Final = 64_000
"""Bytes of one packet; what the SDKs allow, a little below SCTP's 64 KiB."""

WAITING_PACKETS: Final = 256
WAITING_BYTES: Final = 512 * 1024
"""What may wait for the channel or for the end of a reconnect; more is refused."""

KEPT_PACKETS: Final = 256
KEPT_BYTES: Final = 256 * 1024
"""What was sent and is kept, in case that a resume asks for it; as much again, the oldest first
to go, of what is not known to have been delivered."""

BURST_PACKETS: Final = 32
BURST_BYTES: Final = 64 * 1024
PACE: Final = 0.02
"""So much leaves at once, and the next after this many seconds: the transport's own queue is
bounded (1 MiB), its overflow would end the connection, and nothing tells how full it is."""

_SEQUENCE_ROOM: Final = 8  # bytes of the field ``sequence`` at its longest, and its tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """One packet for the reliable channel; *ticket* names a message that is sent with it."""

    data: bytes
    ticket: int | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    packet: models.DataPacket
    size: int
    ticket: int | None = None
    surely: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    sequence: int
    data: bytes
    epoch: int
    departure: int


class Lane:
    """What we send reliably. Nothing leaves by itself: `take` what may leave now.

    Messages wait while the channel is shut or the lane is held (the room reconnects).
    Replies of RPCs wait only for the channel: their callers count seconds.
    """

    def __init__(self) -> None:
        self._open = False
        self._held = False
        self._epoch = 0  # of the transport: within one SCTP loses nothing
        self._sequence = 0
        self._tickets = 0
        self._messages: deque[_Waiting] = deque()
        self._replies: deque[_Waiting] = deque()
        self._first: deque[_Waiting] = deque()  # messages, before all others
        self._again: deque[_Kept] = deque()
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._departures = 0
        self._flight: deque[int] = deque()  # departures on this transport, not delivered
        self._unsure: dict[int, _Waiting] = {}  # messages of departures, not delivered
        self._unsure_bytes = 0
        self._message_bytes = 0
        self._reply_bytes = 0
        self._replied = False  # what left last: then it is a message's turn
        self._burst_at = float("-inf")
        self._burst_packets = 0
        self._burst_bytes = 0
        self.lost = 0  # packets that were to go again and were kept no more
        self.dropped_replies = 0

    # What is to be sent.

    def put(self, packet: models.DataPacket, *, surely: bool = False) -> int:
        """Have *packet* sent in its turn; return its ticket. Raises `RoomError`.

        *surely*: twice rather than not at all (`missed`).
        """
        size = _size(packet)
        full = len(self._messages) >= WAITING_PACKETS
        if full or self._message_bytes + size > WAITING_BYTES:
            msg = "too much waits for the room"
            raise RoomError(msg)
        self._tickets += 1
        self._messages.append(_Waiting(packet, size, self._tickets, surely))
        self._message_bytes += size
        return self._tickets

    def put_first(self, packet: models.DataPacket) -> None:
        """Have *packet*, which another participant of ours sent in vain, sent before all that
        waits, behind those that were put so before it."""
        size = packet.ByteSize() + _SEQUENCE_ROOM
        if size > PACKET_LIMIT or len(self._first) >= KEPT_PACKETS:
            self.lost += 1
            return
        self._first.append(_Waiting(packet, size, surely=True))

    def reply(self, packet: models.DataPacket) -> None:
        """Have *packet* sent soon, in turns with the messages; one too many is dropped."""
        size = packet.ByteSize() + _SEQUENCE_ROOM
        full = len(self._replies) >= WAITING_PACKETS
        if full or size > PACKET_LIMIT or self._reply_bytes + size > WAITING_BYTES:
            self.dropped_replies += 1
            return
        self._replies.append(_Waiting(packet, size))
        self._reply_bytes += size

    # What the connection does.

    def open(self) -> None:
        """The channel stands."""
        self._open = True

    def shut(self) -> None:
        """The channel is gone, and with it what its transport had not delivered."""
        if self._open:
            self._open = False
            self._epoch += 1
            self._flight.clear()

    def delivered(self, count: int) -> None:
        """The far end has the first *count* packets of those on their way on this transport."""
        for _ in range(min(count, len(self._flight))):
            self._is_sure(self._flight.popleft())

    @property
    def under_way(self) -> int:
        """How many packets left on this transport and are not known to have been delivered."""
        return len(self._flight)

    def hold(self) -> None:
        """Let messages wait: the room reconnects."""
        self._held = True

    def release(self) -> None:
        """Let messages leave again."""
        self._held = False

    def resumed(self, last: int) -> None:
        """The server took us back and has seen our packets up to number *last*.

        What came after goes again, under its old numbers: the server passes over those that
        still reach it on the old way. A server too old to count says 0 and would not pass
        over anything: then only what an earlier transport lost goes again.
        """
        counted = last > 0
        for departure, item in list(self._unsure.items()):
            if counted and item.packet.sequence <= last:
                self._is_sure(departure)
        missed = [one for one in self._kept if one.sequence > last]
        self._again = deque(one for one in missed if counted or one.epoch != self._epoch)
        if counted and last < self._sequence:
            first = missed[0].sequence if missed else self._sequence + 1
            self.lost += first - last - 1

    def renew(self) -> None:
        """Begin as a new participant: numbers start anew, replies of before have no one to go to.

        What was sent stays sent; what waits still waits.
        """
        self.missed()
        self.shut()
        self._sequence = 0
        self._again.clear()
        self._kept.clear()
        self._kept_bytes = 0
        self._replies.clear()
        self._reply_bytes = 0

    def missed(self) -> list[models.DataPacket]:
        """Give up, and return in order, the messages that were to arrive in any case and that
        left without being known to be there. What `put_first` brought and did not leave yet is
        among them."""
        packets = [item.packet for item in (*self._unsure.values(), *self._first)]
        self._unsure.clear()
        self._unsure_bytes = 0
        self._first.clear()
        return packets

    def fail_waiting(self) -> list[int]:
        """Give up all messages that wait; return their tickets."""
        tickets = [one.ticket for one in self._messages if one.ticket is not None]
        self._messages.clear()
        self._message_bytes = 0
        return tickets

    # What may leave.

    def take(self, now: float) -> list[Leaving]:
        """Return what leaves now, in order."""
        leaving: list[Leaving] = []
        while self._ready and self._has_room(now):
            leaving.append(self._next())
            self._burst_packets += 1
            self._burst_bytes += len(leaving[-1].data)
        return leaving

    def next_deadline(self) -> float | None:
        """Return when to `take` again what the pace held back."""
        return self._burst_at + PACE if self._ready else None

    @property
    def waiting(self) -> int:
        """The number of messages that wait."""
        return len(self._messages)

    @property
    def _messages_ready(self) -> bool:
        return bool(self._first or self._messages) and not self._held

    @property
    def _ready(self) -> bool:
        return self._open and bool(self._again or self._replies or self._messages_ready)

    def _has_room(self, now: float) -> bool:
        if now >= self._burst_at + PACE:  # the very sum that `next_deadline` tells
            self._burst_at, self._burst_packets, self._burst_bytes = now, 0, 0
        return self._burst_packets < BURST_PACKETS and self._burst_bytes < BURST_BYTES

    def _next(self) -> Leaving:
        if self._again:  # first: the server passes over numbers below the last it saw
            kept = self._again.popleft()
            self._flight.append(kept.departure)
            return Leaving(data=kept.data)
        self._replied = bool(self._replies) and not (self._replied and self._messages_ready)
        if self._replied:
            item = self._replies.popleft()
            self._reply_bytes -= item.size
        elif self._first:
            item = self._first.popleft()
        else:
            item = self._messages.popleft()
            self._message_bytes -= item.size
        self._sequence += 1
        self._departures += 1
        self._flight.append(self._departures)
        if item.surely:
            self._doubt(item)
        item.packet.sequence = self._sequence
        data = item.packet.SerializeToString()
        self._keep(_Kept(self._sequence, data, self._epoch, self._departures))
        return Leaving(data=data, ticket=item.ticket)

    def _doubt(self, item: _Waiting) -> None:
        self._unsure[self._departures] = item
        self._unsure_bytes += item.size
        while len(self._unsure) > KEPT_PACKETS or self._unsure_bytes > KEPT_BYTES:
            self._is_sure(next(iter(self._unsure)))

    def _is_sure(self, departure: int) -> None:
        item = self._unsure.pop(departure, None)
        if item is not None:
            self._unsure_bytes -= item.size

    def _keep(self, kept: _Kept) -> None:
        self._kept.append(kept)
        self._kept_bytes += len(kept.data)
        while len(self._kept) > KEPT_PACKETS or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft().data)


def _size(packet: models.DataPacket) -> int:
    size = packet.ByteSize() + _SEQUENCE_ROOM
    if size > PACKET_LIMIT:
        msg = f"a message of {size} bytes is too large, {PACKET_LIMIT} are allowed"
        raise RoomError(msg)
    return size
