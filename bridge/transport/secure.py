"""TLS of one connection, without its socket: bytes in, bytes out.

OpenSSL does the work; everything here is synchronous and bounded by what was fed in.
"""

from __future__ import annotations

import ssl

_RECORD = 16 * 1024  # bytes of plaintext in a TLS record, at most


class SecureStream:
    """One side of a TLS connection.

    `start` and `feed` may raise `ssl.SSLError`; what `outgoing` then still gives (an
    alert) is to be sent before the connection is closed.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "ended", "failed", "ready")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self.ready = False  # the handshake is over
        self.ended = False  # the peer said good-bye (close_notify)
        self.failed: ssl.SSLError | None = None  # what came after the last plaintext

    def start(self) -> None:
        """Begin the handshake; for a client there is something to send then."""
        self._shake_hands()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came; return the plaintext in it."""
        if self.ended:
            return []
        self._incoming.write(data)
        if not self.ready:
            self._shake_hands()
        return self._read() if self.ready else []

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.ready = True

    def _read(self) -> list[bytes]:
        chunks: list[bytes] = []
        while not self.ended:
            try:
                chunk = self._object.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""
            except ssl.SSLError as failure:
                if not chunks:
                    raise
                self.failed = failure  # what came before it is good
                break
            if chunk:
                chunks.append(chunk)
            else:
                self.ended = True
        return chunks

    def write(self, data: bytes) -> None:
        """Encrypt *data*, after the handshake. Raises `ssl.SSLError`."""
        for start in range(0, len(data), _RECORD):
            self._object.write(data[start : start + _RECORD])

    def close(self) -> None:
        """Say good-bye; the peer's own is not waited for."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return  # it waits for the peer's, or there never was a handshake

    def outgoing(self) -> bytes:
        """Return what is to be sent, once."""
        return self._outgoing.read()

    @property
    def certificate(self) -> dict[str, object]:
        """The peer's certificate in `ssl`'s own form; empty when there is none, or unchecked."""
        return dict(self._object.getpeercert() or {})
