"""A certificate authority for tests of TLS, and what it issues."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import trustme


@dataclass
class Authority:
    """A certificate authority and what it has issued, as files."""

    ca: trustme.CA
    folder: Path
    issued: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)

    @property
    def file(self) -> str:
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def issue(self, *names: str, until: datetime | None = None) -> tuple[str, str]:
        """Return the files of a certificate for *names* and its key."""
        wanted = (*names, str(until))
        if wanted in self.issued:
            return self.issued[wanted]
        leaf = self.ca.issue_cert(*names, not_after=until)
        number = len(self.issued)
        chain, key = self.folder / f"{number}.pem", self.folder / f"{number}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
        self.issued[wanted] = str(chain), str(key)
        return self.issued[wanted]

    def server(self, *names: str, until: datetime | None = None) -> ssl.SSLContext:
        """Return the context of somebody else's server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*names, until=until))
        return context

    def client(self, *names: str) -> ssl.SSLContext:
        """Return the context of somebody else's client; *names* are on its certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.file)
        if names:
            context.load_cert_chain(*self.issue(*names))
        return context
