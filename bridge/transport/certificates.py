"""The certificates of a configuration: read from files, checked, made into TLS contexts.

Everything here reads files and takes milliseconds (the system's authorities: tens of
them): off the loop, please.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bridge.errors import BridgeError
from bridge.transport.validity import NotACertificate, Validity, validity_of
from bridge.trunk.admission import split_proxy


class SipSettings(Protocol):
    """What is read of ``[sip]``."""

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
    ``trunks`` are those that speak TLS; ``other`` is for a hop that only a peer's message
    names, None: no trunk speaks TLS, and no such hop is taken. ``expiry`` maps a setting
    to when its certificate ends, in seconds since 1970.
    """

    server: ssl.SSLContext | None = None
    trunks: Mapping[str, TrunkTls] = field(default_factory=dict)
    other: TrunkTls | None = None
    expiry: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def load(
        cls, sip: SipSettings, trunks: Iterable[TrunkSettings], *, listening: bool
    ) -> Certificates:
        """Read every file that *sip* and *trunks* name. Raises `CertificateError`."""
        reader = _Reader()
        server = reader.server(sip) if listening else None
        clients = {
            trunk.name: reader.client(f"trunk[{index}]", trunk)
            for index, trunk in enumerate(trunks)
            if trunk.transport == "tls"
        }
        if reader.wrong:
            raise CertificateError(reader.wrong)
        return cls(
            server=server,
            trunks=clients,
            other=TrunkTls(context=_client_context("")) if server or clients else None,
            expiry=reader.expiry,
        )


@dataclass(slots=True)
class _Reader:
    """Reads files and notes what is wrong with them, setting by setting."""

    wrong: list[str] = field(default_factory=list)
    expiry: dict[str, float] = field(default_factory=dict)

    def server(self, sip: SipSettings) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context)
        self._own("sip.", context, sip.tls_cert_file, sip.tls_key_file)
        if sip.tls_client_ca_file:
            self._authorities("sip.tls_client_ca_file", context, sip.tls_client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, where: str, trunk: TrunkSettings) -> TrunkTls:
        context = _client_context("" if trunk.tls_verify else "unchecked", bool(trunk.tls_ca_file))
        if trunk.tls_ca_file:
            self._authorities(f"{where}.tls_ca_file", context, trunk.tls_ca_file)
        if trunk.tls_cert_file:
            self._own(f"{where}.", context, trunk.tls_cert_file, trunk.tls_key_file)
        if trunk.tls_alpn:
            context.set_alpn_protocols([trunk.tls_alpn])
        return TrunkTls(context=context, hosts=tuple(_hosts(trunk)), verify=trunk.tls_verify)

    def _authorities(self, setting: str, context: ssl.SSLContext, path: str) -> None:
        try:
            context.load_verify_locations(cafile=path)
        except (ssl.SSLError, OSError, ValueError) as failure:
            self.wrong.append(f"{setting}: {path!r}: {_why(failure, 'no certificate in it')}")

    def _own(self, where: str, context: ssl.SSLContext, certificate: str, key: str) -> None:
        """Load a certificate chain of ours and its key, if they are good today."""
        setting = f"{where}tls_cert_file"
        try:
            validity = validity_of(Path(certificate).read_bytes())
        except (OSError, NotACertificate) as failure:
            why = _why(failure, "no certificate in it")
            self.wrong.append(f"{setting}: {certificate!r}: {why}")
            return
        self.expiry[setting] = validity.until
        unfit = _unfit(validity)
        if unfit:
            self.wrong.append(f"{setting}: {certificate!r}: {unfit}")
            return
        try:
            Path(key).read_bytes()
            # A key that wants a password must not make OpenSSL ask for one at a terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as failure:
            why = _why(failure, "no key without a password in it")
            self.wrong.append(f"{where}tls_key_file: {key!r}: {why}")


def _client_context(checks: str, own_authorities: bool = False) -> ssl.SSLContext:  # noqa: FBT001, FBT002
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    # The names are compared by bridge.transport.identity: RFC 5922 has rules of its own.
    context.check_hostname = False
    if checks == "unchecked":
        context.verify_mode = ssl.CERT_NONE
    elif not own_authorities:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


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
