"""SIP over TLS: the connections of TCP with a handshake before and encryption in them.

RFC 3261 26.2, RFC 5922, RFC 5923. Limits, reuse, keep-alive and framing are those of TCP;
whether a source may talk at all is decided before the first byte of its handshake is read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import structlog

from bridge.transport.certificates import Certificates, TrunkTls
from bridge.transport.flow import Bound, Dial, is_literal
from bridge.transport.identity import identities, proves
from bridge.transport.secure import SecureStream
from bridge.transport.tcp import Connection, TcpTransport

log = structlog.get_logger(__name__)

_NAMES = 3  # of a certificate, in a log line
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})


class TlsConnection(Connection):
    """One TLS connection, accepted or dialled."""

    owner: TlsTransport

    def __init__(
        self,
        owner: TlsTransport,
        stream: SecureStream,
        *,
        listener: Bound | None = None,
        dial: Dial | None = None,
        trust: TrunkTls | None = None,
    ) -> None:
        super().__init__(owner, listener=listener, dial=dial)
        self._stream = stream
        self._trust = trust  # of a connection of ours
        self._deadline: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Shake hands; `TlsTransport.ready` follows, or the connection is closed."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self.owner.handshake_time, self._too_slow)
        self._run(self._stream.start)

    def data_received(self, data: bytes) -> None:
        if self.parting:
            return
        chunks = self._run(lambda: self._stream.feed(data))
        if chunks and self.flow is not None:
            self.hand_up(b"".join(chunks))  # small records are no way around the pieces
        if self._stream.failed is not None:
            log.info("tls.broken", remote=self.remote[0], error=_in_words(self._stream.failed))
            self._flush()
            self.finish()
        elif self._stream.ended:
            self.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self.flow is None and self._deadline is not None:
            self._give_up("closed by the peer in the handshake")
        super().connection_lost(exc)

    def write(self, data: bytes) -> None:
        """Encrypt and send *data*."""
        self._run(lambda: self._stream.write(data))

    def close(self) -> None:
        """Say good-bye and close after what was written."""
        self._stream.close()
        self._flush()
        super().close()

    def part(self) -> None:
        """Say good-bye and close, whatever the peer still sends."""
        if not self.parting:
            self._stream.close()
            self._flush()
        super().part()

    def _run(self, step: Callable[[], list[bytes] | None]) -> list[bytes] | None:
        """Do one *step* of TLS, send what it has to say, and look whether we may begin."""
        chunks: list[bytes] | None = None
        try:
            chunks = step()
        except ssl.SSLError as failure:
            self._flush()  # the alert that says why
            self._broken(_in_words(failure))
            return None
        self._flush()
        if self.flow is None and not self.parting and self._stream.ready:
            self._shaken()
        return chunks

    def _flush(self) -> None:
        data = self._stream.outgoing()
        if data and self.usable and self.transport is not None:
            self.transport.write(data)
            if self.waiting > self.owner.write_buffer:
                self.abort()  # a peer that makes us talk and does not listen

    def _shaken(self) -> None:
        """The handshake is over: whom did we shake hands with?"""
        if self._deadline is not None:
            self._deadline.cancel()
        dial, trust = self.dial, self._trust
        if dial is not None and trust is not None and trust.verify:
            certificate = self._stream.certificate
            # RFC 5922 7.3: what we wanted to reach has to be one of its identities.
            if not proves(certificate, (dial.name, *trust.hosts)):
                named = " ".join(identities(certificate)[:_NAMES]) or "nobody"
                self._give_up(f"the certificate is of {named}")
                self.part()
                return
        self.owner.ready(self)

    def _broken(self, why: str) -> None:
        if self.flow is None:
            self._give_up(why)
        elif not self.parting:
            log.info("tls.broken", remote=self.remote[0], error=why)
        super().part()

    def _too_slow(self) -> None:
        if self.flow is None:
            self._give_up("the handshake takes too long")
            self.abort()

    def _give_up(self, why: str) -> None:
        """Note why there will never be a flow, once."""
        if not self.failure:
            self.failure = f"TLS: {why}"
            self.owner.refused(self, why)


class TlsTransport(TcpTransport):
    """Every TLS connection of the process.

    ``certificates`` may be replaced at any time: what is open stays as it is.
    """

    name: ClassVar[str] = "tls"
    certificates = Certificates()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.failed_handshakes = {"in": 0, "out": 0}  # by who began

    def take(self, certificates: Certificates) -> None:
        """Use *certificates* for new connections; without one of ours the old one stays."""
        if certificates.server is None:
            certificates = replace(certificates, server=self.certificates.server)
        self.certificates = certificates

    def speaks(self, trunks: Iterable[str]) -> str:
        """Return the first of *trunks* that speaks TLS, ``""`` when none does."""
        return next((name for name in sorted(trunks) if name in self.certificates.trunks), "")

    @property
    def write_buffer(self) -> int:
        """Bytes that may wait for one peer, with what TLS adds to them."""
        return 2 * self._limits.write_buffer

    @property
    def handshake_time(self) -> float:
        """Seconds that a handshake may take."""
        return self._limits.handshake

    def _accept(self, listener: Bound) -> Connection:
        context = self.certificates.server
        if context is None:  # a reload has no listeners; those there were are still open
            raise ConnectionAbortedError("no certificate")
        return TlsConnection(self, SecureStream(context, server_side=True), listener=listener)

    def _call(self, dial: Dial) -> Connection:
        trust = self.certificates.trunks.get(dial.trunk)
        if trust is None:
            raise ConnectionAbortedError("the trunk does not speak TLS")
        # RFC 6066 3: the name of the host, never an address.
        names = (dial.name, *trust.hosts)
        name = next((name for name in names if name and not is_literal(name)), None)
        stream = SecureStream(trust.context, server_side=False, server_name=name)
        return TlsConnection(self, stream, dial=dial, trust=trust)

    def refused(self, connection: TlsConnection, why: str) -> None:
        """Count and tell a handshake that failed."""
        if self._closed:
            return
        self.failed_handshakes["in" if connection.dial is None else "out"] += 1
        log.info(
            "tls.handshake_failed",
            remote=connection.remote[0],
            dialled=connection.dial is not None,
            error=why,
        )

    def _name_of(self, connection: Connection) -> str:
        return connection.dial.name if connection.dial is not None else ""


def _in_words(failure: ssl.SSLError) -> str:
    """Return why a handshake failed, without OpenSSL's file and line."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"certificate: {failure.verify_message}"
    if failure.reason in _NO_TLS:
        return "the peer does not speak TLS"
    return (failure.reason or type(failure).__name__).lower().replace("_", " ")
