"""What is made of the configuration alone: certificates, keys, captures, places of files.

A plug, as `bridge.adapters`: only the daemon uses it.
"""

from __future__ import annotations

from pathlib import Path

from bridge.api.auth import ApiKey
from bridge.config.config import Config
from bridge.config.loading import ConfigError, load
from bridge.config.values import host_and_port
from bridge.transport.certificates import CertificateError, Certificates
from bridge.ua.captures import Captures, captures


def read(path: Path | None) -> tuple[Config, Certificates]:
    """Read a configuration and the certificates it names. Raises `ConfigError`."""
    config = load(path)
    return config, certificates_of(config)


def certificates_of(config: Config) -> Certificates:
    """Read certificates; one that is not good today is refused while another is in force."""
    try:
        certificates = Certificates.load(config)
    except CertificateError as failure:
        raise ConfigError(failure.lines) from failure
    if certificates.unfit:
        raise ConfigError(list(certificates.unfit))
    return certificates


def keys_of(config: Config) -> list[ApiKey]:
    """Return the keys of the API."""
    return [
        ApiKey(
            name=key.name,
            secret=key.key.get_secret_value(),
            tenant=key.tenant,
            plan=key.plan,
            permissions=frozenset(key.permissions),
            credit=key.credit,
        )
        for key in config.http.key
    ]


def captures_of(config: Config, path: Path | None, state: Path | None) -> Captures:
    """Return who is told every SIP message."""
    capture = config.capture
    return captures(
        hep=host_and_port(capture.hep) if capture.hep else None,
        agent=capture.hep_agent,
        password=capture.hep_password.get_secret_value(),
        pcap=beside(capture.pcap, path, state) if capture.pcap else None,
        calls=capture.pcap_calls,
    )


def beside(journal: str, path: Path | None, state: Path | None) -> Path:
    """A relative journal lies in the unit's state folder, else beside the configuration file."""
    if state is not None:
        return state / journal
    return path.parent / journal if path is not None else Path(journal)
