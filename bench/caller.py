"""A raw carrier on one TCP connection: INVITEs at a rate, every answer taken, in one thread.

No SIP stack: bytes from templates, so that it is never the slow side. It acknowledges
every final answer, and hangs up what was answered.
"""

from __future__ import annotations

import contextlib
import heapq
import re
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf

_LENGTH = re.compile(rb"\r\nContent-Length: *([0-9]+)")
_BRANCH = re.compile(rb"branch=z9hG4bK-([a-z]+)-([0-9]+)")
_TO = re.compile(rb"\r\nTo: ([^\r]+)")
_CONTACT = re.compile(rb"\r\nContact: <([^>]+)>")
_READ = 256 * 1024
PATIENCE = 5.0  # seconds for the last answers


@dataclass(slots=True)
class Tally:
    """What came of the INVITEs of one run. Times in seconds; latency by status."""

    sent: int = 0
    latency: dict[int, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)  # the caller's own, of each INVITE
    byes: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    seconds: float = 0.0  # from the first INVITE to the last final answer

    def finals(self) -> dict[int, int]:
        """Count the final answers by status."""
        return {status: len(times) for status, times in sorted(self.latency.items())}

    def of(self, *statuses: int) -> list[float]:
        """Return the latencies of *statuses*; of all when none is named."""
        return [
            value
            for status, values in self.latency.items()
            if not statuses or status in statuses
            for value in values
        ]


@dataclass(slots=True)
class _Running:
    """A call that was answered."""

    number: int
    to: bytes
    target: bytes


class Caller:
    """One connection. *name* (letters and digits) makes its Call-IDs its own."""

    def __init__(
        self, port: int, name: str, *, media_port: int = 9, called: str = "+914440001000"
    ) -> None:
        self._name = name.encode()
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        self._here = b"127.0.0.1:%d" % self._sock.getsockname()[1]
        self._uri = f"sip:{called}@127.0.0.1:{port}".encode()
        self._sdp = _SDP % media_port
        self._out = bytearray()
        self._in = bytearray()
        self._next = 0
        self._sent_at: dict[int, float] = {}
        self._running: dict[int, _Running] = {}
        self._byes: list[tuple[float, int]] = []
        self._began = 0.0
        self.provisional = 0

    # Runs.

    def run(self, rate: float, seconds: float, *, hold: float = inf) -> Tally:
        """Send INVITEs at *rate* for *seconds*; hang up after *hold* seconds; wait for the end."""
        tally = Tally()
        total = round(rate * seconds)
        began = self._began = time.monotonic()
        give_up = inf
        while True:
            now = time.monotonic()
            while tally.sent < total and began + tally.sent / rate <= now:
                tally.late.append(now - began - tally.sent / rate)
                self._invite()
                tally.sent += 1
                now = time.monotonic()
            while self._byes and self._byes[0][0] <= now:
                self._bye(heapq.heappop(self._byes)[1])
            done = tally.sent >= total
            if done and give_up == inf:
                give_up = now + PATIENCE + (0 if hold == inf else hold)
            if done and ((not self._sent_at and not self._awaited(hold)) or now > give_up):
                tally.unanswered = len(self._sent_at)
                self._sent_at.clear()
                return tally
            due = began + tally.sent / rate if not done else now + 0.05
            if self._byes:
                due = min(due, self._byes[0][0])
            self._turn(max(0.0, due - time.monotonic()), tally, hold)

    def hang_up(self) -> Tally:
        """End every call that runs; return how that was answered."""
        tally = Tally()
        for number in list(self._running):
            self._bye(number)
        give_up = time.monotonic() + PATIENCE
        while self._running and time.monotonic() < give_up:
            self._turn(0.05, tally, inf)
        tally.unanswered = len(self._running)
        return tally

    def wait(self, seconds: float) -> None:
        """Take what comes for a while."""
        until = time.monotonic() + seconds
        tally = Tally()
        while (now := time.monotonic()) < until:
            self._turn(until - now, tally, inf)

    @property
    def running(self) -> int:
        """How many calls were answered and not hung up."""
        return len(self._running)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _awaited(self, hold: float) -> bool:
        return hold != inf and bool(self._running)

    # Messages.

    def _invite(self) -> None:
        number, self._next = self._next, self._next + 1
        self._sent_at[number] = time.monotonic()
        self._write(
            _INVITE
            % {
                b"uri": self._uri,
                b"here": self._here,
                b"name": self._name,
                b"n": number,
                b"length": len(self._sdp),
            }
            + self._sdp
        )

    def invite_bytes(self) -> int:
        """Return the size of one INVITE."""
        values = {b"uri": self._uri, b"here": self._here, b"name": self._name, b"n": 0}
        return len(_INVITE % {**values, b"length": len(self._sdp)}) + len(self._sdp)

    def _ack(self, number: int, to: bytes, target: bytes, branch: bytes) -> None:
        self._request(b"ACK", number, to, target, branch, 1)

    def _bye(self, number: int) -> None:
        call = self._running.get(number)
        if call is not None:
            self._request(b"BYE", number, call.to, call.target, b"bye", 2)

    def _request(
        self, method: bytes, number: int, to: bytes, target: bytes, branch: bytes, cseq: int
    ) -> None:
        self._write(
            _REQUEST
            % {
                b"method": method,
                b"uri": target,
                b"here": self._here,
                b"name": self._name,
                b"branch": branch,
                b"n": number,
                b"to": to,
                b"cseq": cseq,
            }
        )

    # Bytes.

    def _write(self, data: bytes) -> None:
        if self._out:
            self._out += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        self._out += data[sent:]

    def _turn(self, timeout: float, tally: Tally, hold: float) -> None:
        writing = [self._sock] if self._out else []
        readable, writable, _ = select.select([self._sock], writing, [], timeout)
        if writable:
            with contextlib.suppress(BlockingIOError):
                del self._out[: self._sock.send(self._out)]
        if readable:
            data = self._sock.recv(_READ)
            now = time.monotonic()
            if not data:
                raise RuntimeError("the daemon closed the connection")
            self._in += data
            for message in self._messages():
                self._take(message, now, tally, hold)

    def _messages(self) -> list[bytes]:
        found: list[bytes] = []
        buffer = self._in
        at = 0
        while (end := buffer.find(b"\r\n\r\n", at)) >= 0:
            head = bytes(buffer[at:end])
            length = _LENGTH.search(head)
            size = end + 4 - at + (int(length[1]) if length else 0)
            if len(buffer) - at < size:
                break
            found.append(head)
            at += size
        del buffer[:at]
        return found

    def _take(self, head: bytes, now: float, tally: Tally, hold: float) -> None:
        if not head.startswith(b"SIP/2.0 "):
            self._answer(head)
            return
        status = int(head[8:11])
        branch = _BRANCH.search(head)
        if branch is None:
            return
        number = int(branch[2])
        if branch[1] == b"bye":
            tally.byes[status] += 1
            self._running.pop(number, None)
            return
        if status < 200:
            self.provisional += 1
            return
        to = _TO.search(head)
        assert to is not None
        began = self._sent_at.pop(number, None)
        if began is not None:
            tally.latency.setdefault(status, []).append(now - began)
            tally.seconds = now - self._began
        if status >= 300:
            self._ack(number, to[1], self._uri, b"inv")
            return
        contact = _CONTACT.search(head)
        assert contact is not None
        self._ack(number, to[1], contact[1], b"ack")
        if began is not None:
            self._running[number] = _Running(number, to[1], contact[1])
            if hold != inf:
                heapq.heappush(self._byes, (now + hold, number))

    def _answer(self, head: bytes) -> None:
        """Say 200 to whatever the daemon asks (a BYE of its own, OPTIONS)."""
        if head.startswith(b"ACK "):
            return
        lines = head.split(b"\r\n")
        wanted = (b"via:", b"from:", b"to:", b"call-id:", b"cseq:")
        copied = [line for line in lines[1:] if line.lower().startswith(wanted)]
        answer = [b"SIP/2.0 200 OK", *copied, b"Content-Length: 0", b"", b""]
        self._write(b"\r\n".join(answer))
        if head.startswith(b"BYE "):
            for line in copied:
                if line.lower().startswith(b"call-id:"):
                    self._running.pop(int(line.split(b"-")[-1].split(b"@")[0]), None)


_INVITE = (
    b"INVITE %(uri)s SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP %(here)s;branch=z9hG4bK-inv-%(n)08d;rport\r\n"
    b"Max-Forwards: 66\r\n"
    b'From: "+919812345678" <sip:+919812345678@127.0.0.1>;tag=as%(name)s%(n)08d\r\n'
    b"To: <%(uri)s>\r\n"
    b"Call-ID: 5f2a61c0-%(name)s-%(n)08d@127.0.0.1\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:+919812345678@%(here)s;transport=tcp>\r\n"
    b"User-Agent: carrier\r\n"
    b"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH\r\n"
    b"Supported: replaces\r\n"
    b"P-Asserted-Identity: <sip:+919812345678@127.0.0.1>\r\n"
    b"X-Exotel-CallSid: 8c1f0e9f9a4c%(n)08d\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: %(length)d\r\n\r\n"
)
_REQUEST = (
    b"%(method)s %(uri)s SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP %(here)s;branch=z9hG4bK-%(branch)s-%(n)08d;rport\r\n"
    b"Max-Forwards: 66\r\n"
    b'From: "+919812345678" <sip:+919812345678@127.0.0.1>;tag=as%(name)s%(n)08d\r\n'
    b"To: %(to)s\r\n"
    b"Call-ID: 5f2a61c0-%(name)s-%(n)08d@127.0.0.1\r\n"
    b"CSeq: %(cseq)d %(method)s\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_SDP = (
    b"v=0\r\no=- 1700000000 1700000000 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
    b"t=0 0\r\nm=audio %d RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)
