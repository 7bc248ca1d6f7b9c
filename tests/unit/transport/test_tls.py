"""TLS over loopback: real handshakes, good ones and every way they fail."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from bridge.config.config import Config
from bridge.config.sections import SipConfig
from bridge.config.trunk import TrunkConfig
from bridge.sip.flow import Flow
from bridge.transport.certificates import LISTENER, CertificateError, Certificates
from bridge.transport.flow import Admitted, Dial, SendError
from bridge.transport.tcp import TcpLimits
from bridge.transport.tls import TlsTransport
from tests.authority import Authority

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
CARRIER = "sip.carrier.example"
OUR_NAME = "bridge.example"
KNOWN: Admitted = (frozenset({"t"}), frozenset({"t"}))
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@dataclass
class Recorder:
    """An owner that notes what it is told and can be waited for."""

    admitted: Admitted | None = KNOWN
    flows: asyncio.Queue[Flow] = field(default_factory=asyncio.Queue)
    chunks: asyncio.Queue[tuple[bytes, Flow]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Queue[Flow] = field(default_factory=asyncio.Queue)
    failures: list[str] = field(default_factory=list)

    def admit(self, address: str) -> Admitted | None:
        return self.admitted

    def opened(self, flow: Flow) -> None:
        self.flows.put_nowait(flow)

    def received(self, data: bytes, flow: Flow) -> None:
        self.chunks.put_nowait((data, flow))

    def lost(self, flow: Flow) -> None:
        self.gone.put_nowait(flow)

    def unreachable(self, dial: Dial, why: str) -> None:
        self.failures.append(why)

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += (await asyncio.wait_for(self.chunks.get(), 15))[0]
        return data


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(), tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(trustme.CA(), tmp_path_factory.mktemp("stranger"))


def ours(authority: Authority, **settings: str) -> SipConfig:
    certificate, key = authority.issue(OUR_NAME)
    return SipConfig(
        listen=["tls:127.0.0.1:0"],
        **{"tls_cert_file": certificate, "tls_key_file": key, **settings},  # type: ignore[arg-type]
    )


def trunk(authority: Authority, **settings: object) -> TrunkConfig:
    given = {"name": "t", "host": CARRIER, "transport": "tls", "tls_ca_file": authority.file}
    return TrunkConfig(**{**given, **settings})  # type: ignore[arg-type]


@asynccontextmanager
async def transport(
    authority: Authority,
    owner: Recorder,
    *trunks: TrunkConfig,
    sip: SipConfig | None = None,
    limits: TcpLimits | None = None,
) -> AsyncIterator[TlsTransport]:
    tls = TlsTransport(owner, limits=limits)
    sip = sip or ours(authority)
    tls.take(Certificates.load(Config(sip=sip, trunk=list(trunks))))
    try:
        yield tls
    finally:
        await tls.stop()


@pytest.fixture
def owner() -> Recorder:
    return Recorder()


@pytest.fixture
async def tls(authority: Authority, owner: Recorder) -> AsyncIterator[TlsTransport]:
    async with transport(authority, owner, trunk(authority)) as tls:
        yield tls


class Server:
    """A carrier's TLS server, of the standard library."""

    def __init__(self) -> None:
        self.port = 0
        self.writers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.readers: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        self.hello: list[str | None] = []

    @classmethod
    @asynccontextmanager
    async def serving(cls, context: ssl.SSLContext | None) -> AsyncIterator[Server]:
        server = cls()
        if context is not None:
            context.sni_callback = lambda _socket, name, _context: server.hello.append(name)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.readers.put_nowait(reader)
            server.writers.put_nowait(writer)

        listener = await asyncio.start_server(accept, HOST, 0, ssl=context)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listener.close()
            while not server.writers.empty():
                server.writers.get_nowait().transport.abort()
            for _ in range(3):
                await asyncio.sleep(0)

    async def accepted(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(15):
            writer = await self.writers.get()
            self.writers.put_nowait(writer)  # for the good-bye
            return await self.readers.get(), writer


async def dial(tls: TlsTransport, port: int, name: str = CARRIER) -> Flow | None:
    done: asyncio.Future[Flow | None] = asyncio.get_running_loop().create_future()
    tls.reach(Dial((HOST, port), trunk="t", name=name), done.set_result)
    return await asyncio.wait_for(done, 15)


@asynccontextmanager
async def caller(
    port: int, context: ssl.SSLContext | None, name: str = OUR_NAME
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        HOST, port, ssl=context, server_hostname=name if context is not None else None
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait for the end of a connection that brings nothing."""
    with suppress(ssl.SSLError, ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 15) == b""


def raw(writer: asyncio.StreamWriter) -> socket.socket:
    """Return the socket under a connection."""
    return socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))


# Peers that call us


async def test_a_caller_is_heard_and_answered_over_tls(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    bound = await tls.listen(HOST, 0)
    assert str(bound) == f"tls:{HOST}:{bound.port}"
    async with caller(bound.port, authority.client()) as (reader, writer):
        writer.write(b"hello" * 10_000)
        flow = await asyncio.wait_for(owner.flows.get(), 15)
        assert (flow.transport, flow.local, flow.reliable) == ("tls", (HOST, bound.port), True)
        assert flow.trunks == frozenset({"t"})
        assert await owner.read(50_000) == b"hello" * 10_000
        tls.send(flow, b"answer" * 10_000)
        assert await reader.readexactly(60_000) == b"answer" * 10_000
        tls.close(flow)
        assert await reader.read() == b""  # with a good-bye: else ssl would complain
        assert await asyncio.wait_for(owner.gone.get(), 15) == flow
    with pytest.raises(SendError):
        tls.send(flow, b"late")


async def test_an_unknown_source_is_closed_before_a_byte_of_its_handshake(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    owner.admitted = None
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, None) as (reader, _):
        await ended(reader)
    assert owner.flows.empty()
    assert tls.failed_handshakes == {"in": 0, "out": 0}


async def test_plain_sip_on_the_tls_port_is_closed_and_counted(
    tls: TlsTransport, owner: Recorder
) -> None:
    bound = await tls.listen(HOST, 0)
    with capture_logs() as logs:
        async with caller(bound.port, None) as (reader, writer):
            writer.write(b"OPTIONS sip:b@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n\r\n")
            await asyncio.wait_for(reader.read(), 15)  # an alert, then the end
    assert [entry["error"] for entry in logs] == ["the peer does not speak TLS"]
    assert tls.failed_handshakes["in"] == 1
    assert owner.flows.empty()


async def test_a_handshake_that_takes_too_long_is_given_up(
    authority: Authority, owner: Recorder
) -> None:
    async with transport(authority, owner, limits=TcpLimits(handshake=0.05)) as tls:
        bound = await tls.listen(HOST, 0)
        async with caller(bound.port, None) as (reader, writer):
            writer.write(b"\x16\x03\x01")  # the first bytes of a handshake, and no more
            await ended(reader)
        assert tls.failed_handshakes["in"] == 1


async def test_connections_in_their_handshake_count_against_the_cap(
    authority: Authority, owner: Recorder
) -> None:
    async with transport(authority, owner, limits=TcpLimits(accepted_per_address=1)) as tls:
        bound = await tls.listen(HOST, 0)
        async with caller(bound.port, None), caller(bound.port, None) as (reader, _):
            await ended(reader)


async def test_a_connection_in_its_handshake_takes_none_away_from_the_dialled(
    tls: TlsTransport,
) -> None:
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, None):
        async with asyncio.timeout(15):
            while not tls.counts["accepted"]:  # noqa: ASYNC110 (nobody is told of it)
                await asyncio.sleep(0)
        assert tls.counts == {"accepted": 1, "dialled": 0}


async def test_much_in_small_records_leaves_turns_to_the_others(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    """Threat 5.1: TCP abuse."""
    bound = await tls.listen(HOST, 0)
    turns = heard = 0
    complete = asyncio.Event()
    now: dict[int, int] = {}

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    def received(data: bytes, flow: Flow) -> None:
        nonlocal heard
        heard += len(data)
        now[turns] = now.get(turns, 0) + len(data)
        if heard == 200_000:
            complete.set()

    owner.received = received  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    async with caller(bound.port, authority.client()) as (_, writer):
        await asyncio.wait_for(owner.flows.get(), 15)
        loop.call_soon(turn)
        for _ in range(2000):
            writer.write(b"x" * 100)  # a record each
        await asyncio.wait_for(complete.wait(), 15)
    assert max(now.values()) <= 16 * 1024


async def test_a_caller_without_the_wanted_certificate_is_refused(
    authority: Authority, owner: Recorder, stranger: Authority
) -> None:
    sip = ours(authority, tls_client_ca_file=authority.file)
    async with transport(authority, owner, sip=sip) as tls:
        bound = await tls.listen(HOST, 0)
        impostor = authority.client()
        impostor.load_cert_chain(*stranger.issue("caller.example"))
        for context in (authority.client(), impostor):
            # TLS 1.3: the client is told with its first read.
            async with caller(bound.port, context) as (reader, _):
                await ended(reader)
        assert tls.failed_handshakes["in"] == 2
        assert owner.flows.empty()
        async with caller(bound.port, authority.client("caller.example")) as (_, writer):
            writer.write(b"hello")
            assert await owner.read(5) == b"hello"


async def test_tls_1_1_is_not_spoken(tls: TlsTransport, authority: Authority) -> None:
    bound = await tls.listen(HOST, 0)
    old = authority.client()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        async with caller(bound.port, old):
            pass
    assert tls.failed_handshakes["in"] == 1


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_stream_cut_after_every_byte_is_understood(
    tls: TlsTransport, owner: Recorder, authority: Authority, newest: ssl.TLSVersion
) -> None:
    bound = await tls.listen(HOST, 0)
    context = authority.client()
    context.maximum_version = newest
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=OUR_NAME)
    async with caller(bound.port, None) as (reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def trickle() -> None:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await trickle()
                incoming.write(await asyncio.wait_for(reader.read(65536), 15))
        client.write(b"OPTIONS in small pieces")
        await trickle()
        assert await owner.read(23) == b"OPTIONS in small pieces"


async def test_a_good_bye_of_the_peer_ends_the_flow(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, authority.client()) as (_, writer):
        flow = await asyncio.wait_for(owner.flows.get(), 15)
        writer.write(b"last words")
        writer.close()
        assert await owner.read(10) == b"last words"
        assert await asyncio.wait_for(owner.gone.get(), 15) == flow


async def test_a_connection_cut_without_good_bye_ends_the_flow(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, authority.client()) as (_, writer):
        flow = await asyncio.wait_for(owner.flows.get(), 15)
        with raw(writer) as under:
            under.shutdown(socket.SHUT_WR)  # half-closed
        assert await asyncio.wait_for(owner.gone.get(), 15) == flow


async def test_rubbish_after_the_handshake_ends_the_flow(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, authority.client()) as (_, writer):
        flow = await asyncio.wait_for(owner.flows.get(), 15)
        with capture_logs() as logs:
            with raw(writer) as under:
                under.sendall(b"OPTIONS not in a record\r\n\r\n")
            assert await asyncio.wait_for(owner.gone.get(), 15) == flow
    assert [entry["event"] for entry in logs] == ["tls.broken"]


# Peers that we call


async def test_a_dialled_flow_names_the_host_and_is_reused(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    """Row 18. RFC 5922 7: the name of the host is asked for and proven, not the address."""
    async with Server.serving(authority.server(CARRIER)) as server:
        flow = await dial(tls, server.port)
        assert flow is not None
        assert (flow.transport, flow.name, flow.remote) == ("tls", CARRIER, (HOST, server.port))
        assert server.hello == [CARRIER]
        assert await dial(tls, server.port) == flow
        tls.send(flow, b"INVITE")
        reader, writer = await server.accepted()
        assert await reader.readexactly(6) == b"INVITE"
        writer.write(b"200")
        assert await owner.read(3) == b"200"
        assert owner.flows.qsize() == 1


async def test_another_host_at_the_same_address_gets_a_connection_of_its_own(
    tls: TlsTransport, authority: Authority
) -> None:
    async with Server.serving(authority.server(CARRIER, "edge.carrier.example")) as server:
        first = await dial(tls, server.port)
        second = await dial(tls, server.port, "edge.carrier.example")
        assert first is not None
        assert second is not None
        assert first.id != second.id
        assert server.hello == [CARRIER, "edge.carrier.example"]


async def test_an_address_is_dialled_with_the_configured_name(
    tls: TlsTransport, authority: Authority
) -> None:
    async with Server.serving(authority.server(CARRIER)) as server:
        flow = await dial(tls, server.port, HOST)
        assert flow is not None
        assert server.hello == [CARRIER]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["other.example"], "TLS: the certificate is of other.example"),
        ([HOST], f"TLS: the certificate is of {HOST}"),  # the address is nobody's name
        (["*.example"], "TLS: the certificate is of *.example"),
        (["*.sip.carrier.example"], "TLS: the certificate is of *.sip.carrier.example"),
    ],
)
async def test_a_certificate_of_another_name_is_refused(
    tls: TlsTransport, owner: Recorder, authority: Authority, names: list[str], why: str
) -> None:
    async with Server.serving(authority.server(*names)) as server:
        assert await dial(tls, server.port) is None
        assert owner.failures == [why]
        assert owner.flows.empty()
        assert tls.failed_handshakes == {"in": 0, "out": 1}


@pytest.mark.parametrize("names", [["*.carrier.example"], ["x.example", "SIP.Carrier.example"]])
async def test_a_certificate_with_the_name_among_others_is_good(
    tls: TlsTransport, authority: Authority, names: list[str]
) -> None:
    async with Server.serving(authority.server(*names)) as server:
        assert await dial(tls, server.port) is not None


async def test_an_unknown_authority_is_refused(
    tls: TlsTransport, owner: Recorder, stranger: Authority
) -> None:
    async with Server.serving(stranger.server(CARRIER)) as server:
        assert await dial(tls, server.port) is None
        (why,) = owner.failures
        assert why.startswith("TLS: certificate: ")
        assert "issuer" in why or "self-signed" in why


async def test_an_expired_certificate_is_refused(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    async with Server.serving(authority.server(CARRIER, until=YESTERDAY)) as server:
        assert await dial(tls, server.port) is None
        assert owner.failures == ["TLS: certificate: certificate has expired"]


async def test_verification_can_be_switched_off(
    authority: Authority, owner: Recorder, stranger: Authority
) -> None:
    settings = trunk(authority, tls_ca_file="", tls_verify=False)
    async with (
        transport(authority, owner, settings) as tls,
        Server.serving(stranger.server("other.example")) as server,
    ):
        assert await dial(tls, server.port) is not None


async def test_our_certificate_is_shown_to_a_carrier_that_wants_one(
    authority: Authority, owner: Recorder
) -> None:
    certificate, key = authority.issue(OUR_NAME)
    settings = trunk(authority, tls_cert_file=certificate, tls_key_file=key)
    wanting = authority.server(CARRIER)
    wanting.verify_mode = ssl.CERT_REQUIRED
    wanting.load_verify_locations(cafile=authority.file)
    async with (
        transport(authority, owner, settings) as tls,
        Server.serving(wanting) as server,
    ):
        assert await dial(tls, server.port) is not None
        _, writer = await server.accepted()
        shown = writer.get_extra_info("peercert")
        assert ("DNS", OUR_NAME) in shown["subjectAltName"]


async def test_a_carrier_that_misses_our_certificate_says_so(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    certificate, key = authority.issue(CARRIER)
    wanting = SipConfig(
        listen=["tls:127.0.0.1:0"],
        tls_cert_file=certificate,
        tls_key_file=key,
        tls_client_ca_file=authority.file,
    )
    async with transport(authority, Recorder(), sip=wanting) as carrier:
        bound = await carrier.listen(HOST, 0)
        with capture_logs() as logs:
            flow = await dial(tls, bound.port)  # TLS 1.3: we hear of it only afterwards
            assert flow is not None
            assert await asyncio.wait_for(owner.gone.get(), 15) == flow
    told = {entry["event"]: entry["error"] for entry in logs}
    assert told == {
        "tls.handshake_failed": "peer did not return a certificate",
        "tls.broken": "tlsv13 alert certificate required",
    }


@pytest.mark.parametrize(("wanted", "heard"), [("", None), ("sip/2", "sip/2")])
async def test_alpn_is_offered_only_when_wanted(
    authority: Authority, owner: Recorder, wanted: str, heard: str | None
) -> None:
    """Row 18. Some carriers refuse a handshake that offers a protocol they do not know."""
    context = authority.server(CARRIER)
    context.set_alpn_protocols(["sip/2", "sip"])
    async with (
        transport(authority, owner, trunk(authority, tls_alpn=wanted)) as tls,
        Server.serving(context) as server,
    ):
        assert await dial(tls, server.port) is not None
        _, writer = await server.accepted()
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == heard


async def test_a_server_that_never_answers_the_handshake_is_given_up(
    authority: Authority, owner: Recorder
) -> None:
    async with (
        transport(authority, owner, trunk(authority), limits=TcpLimits(handshake=0.05)) as tls,
        Server.serving(None) as server,
    ):
        assert await dial(tls, server.port) is None
        assert owner.failures == ["TLS: the handshake takes too long"]


async def test_a_server_that_speaks_plain_sip_is_refused(
    tls: TlsTransport, owner: Recorder
) -> None:
    async with Server.serving(None) as server:
        dialling = asyncio.ensure_future(dial(tls, server.port))
        _, writer = await server.accepted()
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        assert await dialling is None
        assert owner.failures == ["TLS: the peer does not speak TLS"]


async def test_a_trunk_without_tls_reaches_nobody_by_tls(
    authority: Authority, owner: Recorder
) -> None:
    tls = TlsTransport(owner)
    assert await dial(tls, 1) is None
    assert owner.failures == ["the trunk does not speak TLS"]
    await tls.stop()


async def test_a_lost_connection_is_made_anew(
    tls: TlsTransport, owner: Recorder, authority: Authority
) -> None:
    """Row 18. A dead connection is not taken for an open one."""
    async with Server.serving(authority.server(CARRIER)) as server:
        first = await dial(tls, server.port)
        _, writer = await server.accepted()
        writer.close()
        assert await asyncio.wait_for(owner.gone.get(), 15) == first
        second = await dial(tls, server.port)
        assert first is not None
        assert second is not None
        assert second.id != first.id


async def test_new_certificates_are_for_new_connections(
    tls: TlsTransport, owner: Recorder, authority: Authority, stranger: Authority
) -> None:
    bound = await tls.listen(HOST, 0)
    async with caller(bound.port, authority.client()) as (reader, _):
        flow = await asyncio.wait_for(owner.flows.get(), 15)
        tls.take(Certificates.load(Config(sip=ours(stranger))))
        async with caller(bound.port, stranger.client()) as (_, writer):
            writer.write(b"new")
            assert await owner.read(3) == b"new"
        tls.send(flow, b"old")
        assert await reader.readexactly(3) == b"old"


# What is read from files


def wrong(sip: SipConfig, *trunks: TrunkConfig) -> list[str]:
    with pytest.raises(CertificateError) as caught:
        Certificates.load(Config(sip=sip, trunk=list(trunks)))
    return caught.value.lines


def test_every_bad_file_is_named_with_its_setting(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    certificate, key = authority.issue(CARRIER)
    _, other_key = stranger.issue(CARRIER)
    assert wrong(
        ours(authority, tls_cert_file=str(tmp_path / "none.pem")),
        trunk(authority, tls_cert_file=certificate, tls_key_file=other_key),
        trunk(authority, tls_cert_file=str(rubbish), tls_key_file=key),
        trunk(authority, tls_ca_file=str(rubbish)),
        trunk(authority, tls_cert_file=certificate, tls_key_file=str(rubbish)),
    ) == [
        f"sip.tls_cert_file: '{tmp_path}/none.pem': cannot be read: No such file or directory",
        f"trunk[0].tls_key_file: '{other_key}': it is not the key of tls_cert_file",
        f"trunk[1].tls_cert_file: '{rubbish}': no certificate in it",
        f"trunk[2].tls_ca_file: '{rubbish}': no certificate in it",
        f"trunk[3].tls_key_file: '{rubbish}': no key without a password in it",
    ]


def test_a_bad_file_of_several_trunks_is_named_and_no_crash(authority: Authority) -> None:
    _, key = authority.issue(OUR_NAME)
    files = {"tls_cert_file": "missing.pem", "tls_key_file": key}
    trunks = [trunk(authority, name=name, **files) for name in ("a", "b")]
    with pytest.raises(CertificateError) as caught:
        Certificates.load(Config(trunk=trunks))
    assert caught.value.lines == [
        "trunk[0].tls_cert_file: 'missing.pem': cannot be read: No such file or directory"
    ]


def test_the_end_of_every_certificate_is_known(authority: Authority) -> None:
    certificate, key = authority.issue(OUR_NAME, until=datetime(2049, 12, 31, tzinfo=UTC))
    later, its_key = authority.issue(OUR_NAME, until=datetime(2051, 1, 1, tzinfo=UTC))
    shown = {"tls_cert_file": later, "tls_key_file": its_key}
    found = Certificates.load(
        Config(
            sip=ours(authority, tls_cert_file=certificate, tls_key_file=key),
            trunk=[trunk(authority, **shown), trunk(authority, name="t2", **shown)],
        )
    )
    assert found.expiry == {
        LISTENER: datetime(2049, 12, 31, tzinfo=UTC).timestamp(),
        "t": datetime(2051, 1, 1, tzinfo=UTC).timestamp(),
        "t2": datetime(2051, 1, 1, tzinfo=UTC).timestamp(),
    }
    assert found.trunks["t"].context is found.trunks["t2"].context


def test_an_expired_certificate_of_ours_is_loaded_and_named(authority: Authority) -> None:
    expired, key = authority.issue(CARRIER, until=YESTERDAY)
    found = Certificates.load(Config(sip=ours(authority, tls_cert_file=expired, tls_key_file=key)))
    assert found.server is not None
    assert found.unfit == (f"sip.tls_cert_file: '{expired}': expired on {YESTERDAY.date()}",)


def test_nothing_is_loaded_when_nothing_speaks_tls() -> None:
    found = Certificates.load(Config(trunk=[TrunkConfig(name="t", host=HOST)]))
    assert (found.server, found.trunks) == (None, {})
