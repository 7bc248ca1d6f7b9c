"""The RFC 4475 messages, sent to a listening user agent: whole, and cut in every way.

Each gets exactly what it has to get, on UDP and on TCP, and the connection it came on either
works afterwards or was closed. It is never deaf.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.config.values import ListenAddress
from bridge.sip.endpoint import Endpoint, EndpointConfig
from bridge.sip.events import IncomingInvite, SipEvent
from bridge.sip.framing import Broken, Frame, KeepAlive, StreamFramer
from bridge.trunk.admission import Admission
from bridge.ua.user_agent import UserAgent
from sdp.negotiate import LocalMedia, OfferAnswer, Rejected

pytestmark = pytest.mark.unit

VECTORS = Path(__file__).parents[2] / "vectors" / "rfc4475"
MESSAGES = {path.stem: path.read_bytes() for path in sorted(VECTORS.glob("*.dat"))}
HOST = "127.0.0.1"
IMPATIENT = 0.3  # seconds, with what never becomes a message
CLOSED = "closed"
_CSEQ = re.compile(rb"(?im)^cseq\s*:\s*(.*?)\r$")
_SENT_BY = re.compile(
    rb"(?im)^(?:via|v)\s*:\s*SIP\s*/\s*2\.0\s*/\s*\w+\s+[^;\s:]+(?:\s*:\s*(\d+))?"
)

# What a user agent that accepts calls answers. REGISTER and MESSAGE are not our methods (405).
WANTED: dict[str, list[int]] = {
    # 3.1.1: valid
    "wsinv": [481],  # its To tag is of no dialog of ours
    "intmeth": [405],
    "esc01": [200],
    "escnull": [405],
    "esc02": [405],
    "lwsdisp": [200],
    "longreq": [200],
    "dblreq": [405],
    "semiuri": [200],
    "transports": [200],
    "mpart01": [405],
    "unreason": [],  # responses to nothing
    "noreason": [],
    # 3.1.2: invalid
    "badinv01": [400],
    "clerr": [400],
    "ncl": [400],
    "scalar02": [400],
    "scalarlg": [],
    "quotbal": [400],
    "ltgtruri": [400],
    "lwsruri": [400],
    "lwsstart": [400],
    "trws": [400],
    "escruri": [200],  # lenient: the headers in the Request-URI are not acted upon
    "baddate": [200],  # lenient: Date is not read
    "regbadct": [405],
    "badaspec": [200],  # lenient
    "baddn": [200],  # lenient
    "badvers": [505],
    "mismatch01": [400],
    "mismatch02": [400],
    "bigcode": [],
    # 3.2: the transaction layer
    "badbranch": [200],
    # 3.3: the application
    "insuf": [400],
    "unkscm": [416],
    "novelsc": [416],
    "unksm2": [405],
    "bext01": [420],
    "invut": [415],
    "regaut01": [405],
    "multi01": [400],
    "mcl01": [400],
    "bcast": [],
    "zeromf": [200],  # RFC 3261 8.2: Max-Forwards is for proxies
    "cparam01": [405],
    "cparam02": [405],
    "regescrt": [405],
    "sdp01": [406],
    # 3.4: the past
    "inv2543": [200],
}

# A stream ends a message by its Content-Length alone.
ON_A_STREAM: dict[str, list[int | str]] = {
    "ncl": [400, CLOSED],
    "mcl01": [400, CLOSED],
    "inv2543": [400, CLOSED],
    "clerr": [CLOSED],  # the rest never comes
    # Its second request has no Contact, and two bytes more than it says.
    "dblreq": [405, 400, CLOSED],
}


@asynccontextmanager
async def listening(patience: float = 60.0) -> AsyncIterator[dict[str, int]]:
    """Run a user agent that takes every call; give its port of each transport."""
    endpoint = Endpoint(EndpointConfig(), tokens=lambda: secrets.token_hex(12))

    def take(event: SipEvent) -> None:
        if not isinstance(event, IncomingInvite):
            return
        local = LocalMedia(address=HOST, port=20000, codecs=("PCMA", "PCMU"), session_id=1)
        machine = OfferAnswer(local, destination_allowed=lambda _address, _port: True)
        adopted = agent.adopt(event.session, machine, "t")
        if isinstance(adopted, Rejected):
            agent.reject(event.session, adopted.status)
        else:
            agent.answer(event.session)

    agent = UserAgent(
        endpoint,
        Admission([TrunkConfig(name="t", host=HOST, allow=["127.0.0.0/8"])]),
        listen=[ListenAddress.parse(f"{name}:{HOST}:0") for name in ("udp", "tcp")],
        on_event=take,
        patience=patience,
    )
    await agent.start()
    try:
        yield {bound.transport: bound.port for bound in agent.bound}
    finally:
        await agent.stop()


def options(transport: str) -> bytes:
    """Return a question that is answered if anybody listens."""
    return (
        f"OPTIONS sip:{HOST} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {HOST};rport;branch=z9hG4bK{secrets.token_hex(4)}\r\n"
        f"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: afterwards\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def answered(responses: Iterable[bytes]) -> tuple[list[int], int]:
    """Return the final statuses in order, each once, and how many `options` were answered."""
    works = 0
    found: dict[tuple[bytes, int], None] = {}
    for data in responses:
        assert data.startswith(b"SIP/2.0 ")
        status = int(data[8:11])
        if b"\r\nCall-ID: afterwards\r\n" in data:
            works += 1
        elif status >= 200:
            cseq = _CSEQ.search(data)
            found[(b"" if cseq is None else cseq[1], status)] = None
    return [status for _, status in found], works


# Over TCP


async def by_tcp(port: int, pieces: Iterable[bytes]) -> list[int | str]:
    """Send *pieces* on a connection of their own; return the statuses, and how it ended."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    framer, responses, asked_again = StreamFramer(), [], False
    try:
        for piece in itertools.chain(pieces, [options("TCP")]):
            if writer.transport.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(15):
            while data := await reader.read(65536):
                responses += [frame for frame in framer.feed(data) if isinstance(frame, bytes)]
                statuses, works = answered(responses)
                if works == 1 and not asked_again:
                    # What was read together is answered together: once more, on its own.
                    asked_again = True
                    writer.write(options("TCP"))
                elif works == 2:
                    return [*statuses]
    except ConnectionError:
        pass  # closed with our OPTIONS unread
    finally:
        writer.transport.abort()
    return [*answered(responses)[0], CLOSED]


def cut_before_the_last(count: int, data: bytes) -> list[bytes]:
    return [data[:-count], data[-count:]]


def one_by_one(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


WAYS = {
    "whole": lambda data: [data],
    "the last byte apart": lambda data: cut_before_the_last(1, data),
    "the last two bytes apart": lambda data: cut_before_the_last(2, data),
    "the last three bytes apart": lambda data: cut_before_the_last(3, data),
    "the last four bytes apart": lambda data: cut_before_the_last(4, data),
    "in its middle": lambda data: cut_before_the_last(len(data) // 2, data),
    "byte by byte": one_by_one,
}


@pytest.mark.parametrize("way", WAYS)
async def test_every_message_gets_its_answer_over_tcp(way: str) -> None:
    """Rows 1, 2, 11, 12, 13, 14, 15. RFC 4475, RFC 3261 18.3: however it is cut."""

    async def asked(name: str) -> list[int | str]:
        # One each: some of the 49 have the same branch, which makes them the same request.
        async with listening(IMPATIENT if name == "clerr" else 60.0) as ports:
            return await by_tcp(ports["tcp"], WAYS[way](MESSAGES[name]))

    found = await asyncio.gather(*map(asked, MESSAGES))
    wanted = {**WANTED, **ON_A_STREAM}
    assert dict(zip(MESSAGES, found, strict=True)) == {name: wanted[name] for name in MESSAGES}


def frames_of(pieces: Iterable[bytes]) -> list[bytes | str]:
    """Return the frames but pongs, which tell nothing; of what is broken the error."""
    framer = StreamFramer()
    found = itertools.chain.from_iterable(framer.feed(piece) for piece in pieces)
    kept = (frame for frame in found if frame is not KeepAlive.PONG)
    return [str(frame.error) if isinstance(frame, Broken) else _plain(frame) for frame in kept]


def _plain(frame: Frame) -> bytes | str:
    return frame if isinstance(frame, bytes) else str(frame)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_cut_anywhere_is_the_same_message(name: str) -> None:
    """Row 1. RFC 3261 18.3: two pieces at every position, and all pieces of each size."""
    data = MESSAGES[name] + options("TCP")
    whole = frames_of([data])
    for at in range(1, len(data)):
        assert frames_of([data[:at], data[at:]]) == whole, at
    for size in (1, 2, 3, 5, 7, 64):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        assert frames_of(pieces) == whole, size


INVITE = (
    "INVITE sip:b@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: one\r\nCSeq: 1 INVITE\r\n"
    "Contact: <sip:a@127.0.0.1>\r\nMax-Forwards: 70\r\n"
)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("", 400),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", 400),
        ("Content-Length: 0\r\nl: 0\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: abc\r\n", 400),
        ("Content-Length: 0x10\r\n", 400),
        ("Content-Length: 1 2\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 70000\r\n", 513),
        ("Content-Length: 99999999999999999999999999\r\n", 513),
    ],
)
async def test_a_bad_content_length_is_answered_and_the_connection_closed(
    fields: str, status: int
) -> None:
    """Row 2. RFC 3261 18.3: nobody can tell where the next message begins."""
    async with listening() as ports:
        data = f"{INVITE}{fields}\r\n".encode()
        assert await by_tcp(ports["tcp"], [data]) == [status, CLOSED]
        assert await by_tcp(ports["tcp"], one_by_one(data)) == [status, CLOSED]


@pytest.mark.parametrize(
    "data",
    [
        INVITE.replace("\r\n", "\n").encode() + b"Content-Length: 0\n\n",
        b"GET / HTTP/1.1\r\nHost: bridge\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)) * 8 + b"\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"\r\nhello\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
    ],
    ids=["LF only", "HTTP", "TLS", "zeros", "a greeting", "a response without a length"],
)
async def test_what_is_no_sip_closes_the_connection(data: bytes) -> None:
    """Row 2. Nothing can be answered, and nothing is waited for."""
    async with listening() as ports:
        assert await by_tcp(ports["tcp"], [data]) == [CLOSED]


async def test_what_never_becomes_a_message_is_closed_in_the_end() -> None:
    """Row 1. A client of TLS on this port, whose bytes have no line in them."""
    async with listening(IMPATIENT) as ports:
        assert await by_tcp(ports["tcp"], [b"\x16\x03\x01" + b"\x01" * 300]) == [CLOSED]


# Over UDP


class Peer(asyncio.DatagramProtocol):
    """A socket at the port where a message's Via wants the response."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.received.put_nowait(data)


async def by_udp(port: int, address: str, data: bytes) -> list[int]:
    """Send one datagram from *address*; return the statuses before the next answer."""
    named = _SENT_BY.search(data)
    sent_by = int(named[1]) if named is not None and named[1] else 5060
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(Peer, local_addr=(address, sent_by))
    responses: list[bytes] = []
    try:
        transport.sendto(data, (HOST, port))
        transport.sendto(options("UDP"), (HOST, port))
        async with asyncio.timeout(15):
            while True:
                responses.append(await peer.received.get())
                statuses, works = answered(responses)
                if works == 1:
                    return statuses
    finally:
        transport.close()


async def test_every_message_gets_its_answer_over_udp() -> None:
    """Rows 11, 12, 13, 14, 15. RFC 4475: exactly one answer, or none."""
    # Addresses of their own: the response goes to the port that the message names.
    network = f"127.{os.getpid() % 250 + 2}.{secrets.randbelow(250) + 2}"

    async def asked(index: int, data: bytes) -> list[int]:
        async with listening() as ports:
            return await by_udp(ports["udp"], f"{network}.{index}", data)

    found = await asyncio.gather(
        *(asked(index, data) for index, data in enumerate(MESSAGES.values(), 2))
    )
    assert dict(zip(MESSAGES, found, strict=True)) == {name: WANTED[name] for name in MESSAGES}


def test_every_message_has_a_disposition() -> None:
    """Rows 11, 12. RFC 4475: all 49."""
    assert sorted(WANTED) == sorted(MESSAGES)
    assert len(MESSAGES) == 49
