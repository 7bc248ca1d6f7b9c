"""The certificates of a configuration: read from files, checked, made into TLS contexts.

Everything here reads files and takes milliseconds (the system's authorities: tens of
them): off the loop, please.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from bridge.errors import BridgeError
from bridge.transport.validity import NotACertificate, Validity, validity_of
from bridge.trunk.admission import split_proxy

LISTENER: Final = "_listener"
"""In ``expiry``, the certificate of ``[sip]``; no trunk can be called so."""


class Listener(Protocol):
    """What is read of a listen address."""

    @property
    def transport(self) -> str: ...


class SipSettings(Protocol):
    """What is read of ``[sip]``."""

    @property
    def addresses(self) -> Sequence[Listener]: ...
    @property
    def tls_cert_file(self) -> str: ...
    @property
    def tls_key_file(self) -> str: ...
    @property
    def tls_client_ca_file(self) -> str: ...


class TrunkSettings(Protocol):
    """What is read of a trunk."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def outbound_proxy(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def tls_ca_file(self) -> str: ...
    @property
    def tls_cert_file(self) -> str: ...
    @property
    def tls_key_file(self) -> str: ...
    @property
    def tls_verify(self) -> bool: ...
    @property
    def tls_alpn(self) -> str: ...


class Settings(Protocol):
    """What is read of a configuration."""

    @property
    def sip(self) -> SipSettings: ...
    @property
    def trunk(self) -> Sequence[TrunkSettings]: ...


class CertificateError(BridgeError):
    """Certificates cannot be used. ``lines`` are ``setting: why``."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkTls:
    """How TLS connections of one trunk are made.

    The peer has to prove that it is the host we dialled, or one of ``hosts``: the
    configured ones, never what DNS made of them (RFC 5922 4, 7.3).
    """

    context: ssl.SSLContext
    hosts: tuple[str, ...] = ()
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """The TLS of one configuration.

    ``server`` is for connections that peers open, None: nothing is listened on.
    ``trunks`` are those that speak TLS; for another trunk no TLS connection is made,
    whatever its peer's messages name. ``expiry`` tells when our certificates end, in
    seconds since 1970: `LISTENER`'s, and those that we show to trunks, by name. ``unfit``
    says what is wrong with them today.
    """

    server: ssl.SSLContext | None = None
    trunks: Mapping[str, TrunkTls] = field(default_factory=dict)
    expiry: Mapping[str, float] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()

    @classmethod
    def load(cls, settings: Settings) -> Certificates:
        """Read every file that *settings* name. Raises `CertificateError`."""
        reader = _Reader()
        listening = any(address.transport == "tls" for address in settings.sip.addresses)
        server = reader.server(settings.sip) if listening else None
        clients = {
            trunk.name: reader.client(f"trunk[{index}]", trunk)
            for index, trunk in enumerate(settings.trunk)
            if trunk.transport == "tls"
        }
        if reader.wrong:
            raise CertificateError(reader.wrong)
        return cls(server=server, trunks=clients, expiry=reader.expiry, unfit=tuple(reader.unfit))


@dataclass(slots=True)
class _Reader:
    """Reads files and notes what is wrong with them, setting by setting."""

    wrong: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    expiry: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)  # by file
    made: dict[tuple[str | bool, ...], ssl.SSLContext] = field(default_factory=dict)

    def server(self, sip: SipSettings) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        until = self._own("sip.", context, sip.tls_cert_file, sip.tls_key_file)
        if until is not None:
            self.expiry[LISTENER] = until
        if sip.tls_client_ca_file:
            self._authorities("sip.tls_client_ca_file", context, sip.tls_client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, where: str, trunk: TrunkSettings) -> TrunkTls:
        files = (trunk.tls_ca_file, trunk.tls_cert_file, trunk.tls_key_file)
        settings = (*files, trunk.tls_verify, trunk.tls_alpn)
        context = self.made.get(settings)
        if context is None:
            context = self.made[settings] = self._context(where, trunk)
        elif trunk.tls_cert_file in self.ends:  # else it could not be read, and that is said
            self.expiry[trunk.name] = self.ends[trunk.tls_cert_file]
        return TrunkTls(context=context, hosts=tuple(_hosts(trunk)), verify=trunk.tls_verify)

    def _context(self, where: str, trunk: TrunkSettings) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(context)
        # The names are compared by bridge.transport.identity: RFC 5922 has rules of its own.
        context.check_hostname = False
        if not trunk.tls_verify:
            context.verify_mode = ssl.CERT_NONE
        elif trunk.tls_ca_file:
            self._authorities(f"{where}.tls_ca_file", context, trunk.tls_ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if trunk.tls_cert_file:
            until = self._own(f"{where}.", context, trunk.tls_cert_file, trunk.tls_key_file)
            if until is not None:
                self.expiry[trunk.name] = self.ends[trunk.tls_cert_file] = until
        if trunk.tls_alpn:
            context.set_alpn_protocols([trunk.tls_alpn])
        return context

    def _authorities(self, setting: str, context: ssl.SSLContext, path: str) -> None:
        try:
            context.load_verify_locations(cafile=path)
        except (ssl.SSLError, OSError, ValueError) as failure:
            self.wrong.append(f"{setting}: {path!r}: {_why(failure, 'no certificate in it')}")

    def _own(self, where: str, context: ssl.SSLContext, certificate: str, key: str) -> float | None:
        """Load a certificate chain of ours and its key; return when it ends."""
        setting = f"{where}tls_cert_file"
        try:
            validity = validity_of(Path(certificate).read_bytes())
        except (OSError, NotACertificate) as failure:
            why = _why(failure, "no certificate in it")
            self.wrong.append(f"{setting}: {certificate!r}: {why}")
            return None
        unfit = _unfit(validity)
        if unfit:
            self.unfit.append(f"{setting}: {certificate!r}: {unfit}")
        try:
            Path(key).read_bytes()
            # A key that wants a password must not make OpenSSL ask for one at a terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as failure:
            why = _why(failure, "no key without a password in it")
            self.wrong.append(f"{where}tls_key_file: {key!r}: {why}")
        return validity.until


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation costs us more than the peer, and SIP has no use for it.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _hosts(trunk: TrunkSettings) -> Iterator[str]:
    yield trunk.host
    if trunk.domain:
        yield trunk.domain
    if trunk.outbound_proxy:
        yield split_proxy(trunk.outbound_proxy)[0]


def _unfit(validity: Validity) -> str:
    now = datetime.now(UTC).timestamp()
    if now > validity.until:
        return f"expired on {_day(validity.until)}"
    if now < validity.since:
        return f"not valid before {_day(validity.since)}"
    return ""


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _why(failure: Exception, otherwise: str) -> str:
    """Return what is wrong with a file, in words."""
    if isinstance(failure, ssl.SSLError):
        mismatch = failure.reason == "KEY_VALUES_MISMATCH"
        return "it is not the key of tls_cert_file" if mismatch else otherwise
    if isinstance(failure, OSError) and failure.strerror:
        return f"cannot be read: {failure.strerror}"
    return otherwise
