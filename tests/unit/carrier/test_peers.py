"""What the carrier does towards a peer written by hand in bytes: right ones and wrong ones."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from bridge.carrier.carrier import Carrier
from bridge.sip.framing import StreamFramer

pytestmark = pytest.mark.unit

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
)
CONTACT = "sip:100@127.0.0.1:1;transport=tls"


@dataclass
class Hand:
    """A TCP client that writes SIP by hand."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    framer: StreamFramer = field(default_factory=StreamFramer)
    frames: list[str] = field(default_factory=list)
    tag: str = ""
    branches: int = 0
    via: int = 9

    def send(
        self,
        method: str,
        cseq: int,
        *more: str,
        uri: str = CONTACT,
        body: str = "",
        branch: str | None = None,
        route: bool = True,
    ) -> None:
        self.branches += 1
        initial = not self.tag
        kept = branch or f"z9hG4bK{self.branches}"
        lines = [
            f"{method} {'sip:100@127.0.0.1' if initial else uri} SIP/2.0",
            f"Via: SIP/2.0/TCP 127.0.0.1:{self.via};branch={kept}",
            "Max-Forwards: 70",
            "From: <sip:me@127.0.0.1>;tag=mine",
            f"To: <sip:100@127.0.0.1>{self.tag and ';tag=' + self.tag}",
            "Call-ID: by-hand",
            f"CSeq: {cseq} {method}",
            *more,
        ]
        if not any(line.startswith("Contact") for line in more):
            lines.append("Contact: <sip:me@127.0.0.1:9;transport=tcp>")
        if route and not initial:
            lines.append(f"Route: <sip:127.0.0.1:{self.port};transport=tcp;lr>")
        if body:
            lines.append("Content-Type: application/sdp")
        lines += [f"Content-Length: {len(body)}", "", body]
        self.writer.write("\r\n".join(lines).encode())

    async def receive(self, start: str) -> str:
        """Return the next message that begins with *start*; others are dropped."""
        async with asyncio.timeout(30):
            while True:
                while self.frames:
                    frame = self.frames.pop(0)
                    if frame.startswith(start):
                        found = re.search(r"\r\nTo: .*;tag=(\S+)", frame)
                        self.tag = found[1] if found and "200" in start else self.tag
                        return frame
                fed = self.framer.feed(await self.reader.read(65536))
                self.frames += [frame.decode() for frame in fed if isinstance(frame, bytes)]

    def agree(self, request: str) -> None:
        """Answer a request of the carrier with 200."""
        copied = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")
        lines = [line for line in request.split("\r\n") if line.startswith(copied)]
        self.writer.write(
            "\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]).encode()
        )

    async def call(self) -> str:
        self.send("INVITE", 1, body=SDP)
        answer = await self.receive("SIP/2.0 200")
        self.send("ACK", 1)
        return answer


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    async with Carrier() as made:
        yield made


@pytest.fixture
async def hand(carrier: Carrier) -> AsyncIterator[Hand]:
    reader, writer = await asyncio.open_connection("127.0.0.1", carrier.port)
    yield Hand(carrier.port, reader, writer)
    writer.close()
    await writer.wait_closed()


async def run(carrier: Carrier, script: str) -> asyncio.Task[str | None]:
    async def answered() -> str | None:
        leg = await carrier.incoming()
        return (await leg.run(script)).failed

    return asyncio.create_task(answered())


async def test_the_answer_is_exotel_like(carrier: Carrier, hand: Hand) -> None:
    running = await run(carrier, "answer; expect hangup within 5s")
    answer = await hand.call()
    assert f"Record-Route: <sip:127.0.0.1:{carrier.port};transport=tcp;lr>" in answer
    assert "Contact: <sip:100@127.0.0.1:1;transport=tls>" in answer
    assert re.search(r"Allow: (?!.*UPDATE)INVITE, ACK", answer)
    assert "o=root " in answer
    assert "m=audio" in answer
    hand.send("BYE", 2)
    await hand.receive("SIP/2.0 200")
    assert await running is None


async def test_a_200_is_repeated_until_its_ack(carrier: Carrier, hand: Hand) -> None:
    running = await run(carrier, "answer; expect hangup within 5s")
    hand.send("INVITE", 1, body=SDP)
    first = await hand.receive("SIP/2.0 200")
    second = await hand.receive("SIP/2.0 200")
    assert first == second
    hand.send("ACK", 1)
    hand.send("BYE", 2, branch="z9hG4bKbye")
    once = await hand.receive("SIP/2.0 200")
    hand.send("BYE", 2, branch="z9hG4bKbye")
    assert await hand.receive("SIP/2.0 200") == once
    assert await running is None


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"route": False}, "BYE lacks the Route of our Record-Route"),
        ({"uri": "sip:100@127.0.0.1"}, "BYE is not addressed to our Contact"),
        ({"cseq": 1}, "BYE repeats CSeq 1"),
    ],
)
async def test_a_wrong_request_in_the_dialog_is_answered_and_fails_the_leg(
    carrier: Carrier, hand: Hand, more: dict[str, object], fault: str
) -> None:
    running = await run(carrier, "answer; expect hangup within 5s")
    await hand.call()
    wanted: dict[str, object] = {"cseq": 2, **more}
    hand.send("BYE", int(str(wanted.pop("cseq"))), **wanted)  # type: ignore[arg-type]
    await hand.receive("SIP/2.0 200")
    assert await running == fault


async def test_requests_outside_any_dialog_are_answered(carrier: Carrier, hand: Hand) -> None:
    hand.send("OPTIONS", 1)
    await hand.receive("SIP/2.0 200 ")
    hand.tag = "unknown"
    hand.send("BYE", 2)
    await hand.receive("SIP/2.0 481 ")
    hand.tag = ""
    hand.send("REGISTER", 3, "Expires: 60")
    assert "transport=tcp>;expires=60" in await hand.receive("SIP/2.0 200 ")
    bindings = carrier.registrar.bindings
    assert bindings["sip:100@127.0.0.1"].contact == "sip:me@127.0.0.1:9;transport=tcp"
    hand.tag = ""
    hand.send("REGISTER", 4, "Expires: 0")
    await hand.receive("SIP/2.0 200 ")
    assert not carrier.registrar.bindings


async def test_a_broken_contact_is_noted_and_the_carrier_goes_on(
    carrier: Carrier, hand: Hand
) -> None:
    hand.send("INVITE", 1, "Contact: <sip:", body=SDP)
    await hand.receive("SIP/2.0 400 ")
    hand.send("OPTIONS", 1)
    await hand.receive("SIP/2.0 200 ")
    assert len(carrier.rejected) == 1


def credentials(challenge: str, user: str, password: str) -> str:
    nonce = re.search(r'nonce="(\w+)"', challenge)
    realm = re.search(r'realm="([\w.]+)"', challenge)
    assert nonce is not None
    assert realm is not None

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    uri = "sip:100@127.0.0.1"
    ha1, ha2 = md5(f"{user}:{realm[1]}:{password}"), md5(f"INVITE:{uri}")
    digest = md5(f"{ha1}:{nonce[1]}:00000001:abc:auth:{ha2}")
    opaque = re.search(r'opaque=("(?:[^"\\]|\\.)*")', challenge)
    assert opaque is not None
    return (
        f'Proxy-Authorization: Digest username="{user}", realm="{realm[1]}", opaque={opaque[1]}, '
        f'nonce="{nonce[1]}", uri="{uri}", response="{digest}", qop=auth, nc=00000001, '
        'cnonce="abc"'
    )


@pytest.mark.parametrize(
    ("password", "status", "failed"),
    [
        ("right", "200", None),
        ("wrong", "403", "the digest response is wrong"),
    ],
)
async def test_a_call_is_challenged_and_its_digest_checked(
    hand: Hand, carrier: Carrier, password: str, status: str, failed: str | None
) -> None:
    carrier.credentials = ("me", "right")
    running = await run(carrier, "answer; expect hangup within 5s")
    hand.send("INVITE", 1, body=SDP)
    challenge = await hand.receive("SIP/2.0 407 ")
    hand.send("ACK", 1, branch="z9hG4bK1")
    answer = credentials(challenge, "me", password)
    hand.send("INVITE", 2, answer, body=SDP)
    await hand.receive(f"SIP/2.0 {status} ")
    if failed is None:
        hand.send("ACK", 2, answer)
        hand.send("BYE", 3)
        await hand.receive("SIP/2.0 200")
    else:
        hand.send("ACK", 2)
    assert await running == failed


async def test_an_ack_without_the_credentials_of_its_invite_is_a_breach(
    hand: Hand, carrier: Carrier
) -> None:
    carrier.credentials = ("me", "right")
    running = await run(carrier, "answer; stay 1s")
    hand.send("INVITE", 1, body=SDP)
    challenge = await hand.receive("SIP/2.0 407 ")
    hand.send("ACK", 1, branch="z9hG4bK1")
    hand.send("INVITE", 2, credentials(challenge, "me", "right"), body=SDP)
    await hand.receive("SIP/2.0 200 ")
    hand.send("ACK", 2)
    hand.agree(await hand.receive("BYE "))
    assert await running == "the ACK has not the credentials of its INVITE"


async def test_a_response_finds_its_way_when_the_connection_is_gone(
    carrier: Carrier, hand: Hand
) -> None:
    """RFC 3261 18.2.2: to the address in the Via."""
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.readuntil(b"\r\n"))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    hand.via = server.sockets[0].getsockname()[1]
    hand.send("INVITE", 1, body=SDP)
    await run(carrier, "close connection; busy")
    assert await asyncio.wait_for(arrived, 20) == b"SIP/2.0 486 Busy Here\r\n"
    server.close()
    await server.wait_closed()


class Answering:
    """A far end that is called; it loses the connection when told, and answers elsewhere."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[str, asyncio.StreamWriter]] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Answering:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = StreamFramer()
        while data := await reader.read(65536):
            for frame in framer.feed(data):
                if isinstance(frame, bytes):
                    self.came.put_nowait((frame.decode(), writer))
        writer.close()

    async def next(self, method: str) -> tuple[str, asyncio.StreamWriter]:
        """Return the next request with *method*, and where it came from."""
        async with asyncio.timeout(10):
            while True:
                request, writer = await self.came.get()
                if request.startswith(method):
                    return request, writer

    def ok(self, request: str, body: str = "") -> bytes:
        copied = ("Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:")
        lines = [line for line in request.split("\r\n") if line.startswith(copied)]
        to = next(line for line in request.split("\r\n") if line.startswith("To:"))
        lines += [to if "tag=" in to else f"{to};tag=there"]
        lines += [f"Contact: <sip:there@127.0.0.1:{self.port};transport=tcp>"]
        lines += ["Content-Type: application/sdp"] if body else []
        lines += [f"Content-Length: {len(body)}", "", body]
        return "\r\n".join(["SIP/2.0 200 OK", *lines]).encode()


async def test_an_ack_goes_out_anew_when_the_connection_of_its_invite_is_gone(
    carrier: Carrier,
) -> None:
    """RFC 3261 13.2.2.4: every copy of the 2xx is acknowledged, wherever it came from."""
    async with Answering() as far:
        leg = await carrier.dial(f"sip:100@127.0.0.1:{far.port}", fresh=True)
        running = asyncio.create_task(leg.run("talk"))
        invite, lost = await far.next("INVITE")
        lost.close()
        await lost.wait_closed()
        _, other = await asyncio.open_connection("127.0.0.1", carrier.port)
        other.write(far.ok(invite, SDP))
        first, _ = await far.next("ACK")
        other.write(far.ok(invite, SDP))
        again, _ = await far.next("ACK")
        assert again == first
        assert (await running).failed is None
        finishing = asyncio.create_task(leg.finish())
        bye, writer = await far.next("BYE")
        writer.write(far.ok(bye))
        await finishing
        other.close()
        await other.wait_closed()


async def test_a_bye_whose_connection_goes_before_its_answer_goes_out_again(
    carrier: Carrier,
) -> None:
    async with Answering() as far:
        leg = await carrier.dial(f"sip:100@127.0.0.1:{far.port}", fresh=True)
        running = asyncio.create_task(leg.run("talk; hangup"))
        invite, writer = await far.next("INVITE")
        writer.write(far.ok(invite, SDP))
        bye, writer = await far.next("BYE")
        writer.close()
        await writer.wait_closed()
        again, writer = await far.next("BYE")
        assert again == bye
        writer.write(far.ok(bye))
        assert (await running).failed is None
        await leg.finish()
