"""``a=crypto``: the keys of SRTP in SDP (RFC 4568; suites of RFC 4568, RFC 7714).

Suites that cannot be carried (F8, AES-192 and AES-256 in counter mode of RFC 6188) make a
line unusable, as does a mandatory session parameter that is not understood; other lines of
the section still count. Keys are drawn by the caller, and never appear in a ``repr``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sdp.model import Attribute, MediaDescription, decimal

SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": 16 + 14,
    "AEAD_AES_256_GCM": 32 + 12,
    "AEAD_AES_128_GCM": 16 + 12,
    "AES_CM_128_HMAC_SHA1_32": 16 + 14,
}
"""What we can do, in the order of our offers: bytes of master key and salt together.

RFC 4568 6.2.1: an implementation MUST support AES_CM_128_HMAC_SHA1_80; it is what carriers have.
"""

MAX_LIFETIME: Final = 1 << 48
"""Packets under one master key (RFC 3711 9.2); what no ``lifetime`` means."""
MAX_KEYS: Final = 8
MAX_MKI_BYTES: Final = 128
MAX_LINES: Final = 64
"""Lines of one section that are looked at."""
_MAX_WINDOW: Final = 0x7FFF


class SrtpPolicy(StrEnum):
    """What a trunk wants of SRTP (contract 3).

    ``optional`` is opportunistic (RFC 8643): RTP/AVP with ``a=crypto`` in our offers.
    """

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKey:
    """Master key and salt, concatenated; ``mki``: how packets name it (b"": they do not).

    ``lifetime``: packets that it may protect, None for the most there can be.
    """

    secret: bytes = field(repr=False)
    mki: bytes = b""
    lifetime: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoLine:
    """A usable ``a=crypto``. ``window``: packets of replay protection asked for, or None."""

    tag: int
    suite: str
    keys: tuple[MasterKey, ...]
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crypto:
    """What was agreed: we protect with ``send``, they with one of ``receive``."""

    suite: str
    send: MasterKey
    receive: tuple[MasterKey, ...]
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What we bring: the trunk's policy, and our key for each suite, constant for a call."""

    policy: SrtpPolicy = SrtpPolicy.OFF
    keys: tuple[tuple[str, MasterKey], ...] = ()

    @property
    def suites(self) -> tuple[str, ...]:
        """The names of our suites, best first."""
        return tuple(suite for suite, _ in self.keys)

    def key(self, suite: str) -> MasterKey:
        """Return our key for *suite*, which must be one of `suites`."""
        return dict(self.keys)[suite]


UNPROTECTED: Final = Protection()


def protection(policy: SrtpPolicy, random: Callable[[int], bytes]) -> Protection:
    """Return *policy* with fresh keys; *random* gives so many unpredictable bytes.

    RFC 4568 6.1: the concatenated key and salt MUST be (cryptographically) random and
    MUST be unique for each crypto attribute and session.
    """
    if policy is SrtpPolicy.OFF:
        return UNPROTECTED
    keys = tuple((suite, MasterKey(secret=random(size))) for suite, size in SUITES.items())
    return Protection(policy=policy, keys=keys)


def crypto_lines(media: MediaDescription) -> Iterator[CryptoLine]:
    """Yield the usable ``a=crypto`` lines of *media*, in their order of preference."""
    seen = 0
    for attribute in media.attributes:
        if attribute.name.lower() != "crypto" or attribute.value is None:
            continue
        seen += 1
        if seen > MAX_LINES:
            return
        line = read_crypto(attribute.value)
        if line is not None:
            yield line


def choose_crypto(media: MediaDescription, suites: Collection[str]) -> CryptoLine | None:
    """Return their best line whose suite is among *suites* (RFC 4568 5.1.2)."""
    return next((line for line in crypto_lines(media) if line.suite in suites), None)


def read_crypto(value: str) -> CryptoLine | None:
    """Return ``<tag> <suite> <key-params> [<session-params>]``, None when it is of no use to us."""
    fields = value.split()
    if len(fields) < 3:
        return None
    tag, suite = decimal(fields[0]), fields[1].upper()
    if tag is None or suite not in SUITES:
        return None
    keys = _read_keys(fields[2], SUITES[suite])
    window = _read_parameters(fields[3:])
    if keys is None or window is None:
        return None
    return CryptoLine(tag=tag, suite=suite, keys=keys, window=window or None)


def _read_keys(text: str, size: int) -> tuple[MasterKey, ...] | None:
    parts = text.split(";")
    if len(parts) > MAX_KEYS:
        return None
    keys: list[MasterKey] = []
    for part in parts:
        key = _read_key(part, size)
        if key is None:
            return None
        keys.append(key)
    # RFC 4568 6.1: if more than one master key is given, all of them MUST have an MKI, and
    # of the same length; else a packet's end could not be told.
    names = {key.mki for key in keys}
    if len(keys) > 1 and (len(names) < len(keys) or len({len(name) for name in names}) > 1):
        return None
    return tuple(keys)


def _read_key(text: str, size: int) -> MasterKey | None:
    """Return ``inline:<key||salt>["|" lifetime]["|" MKI ":" length]``."""
    method, colon, info = text.partition(":")
    if method.lower() != "inline" or not colon:
        return None
    material, *rest = info.split("|")
    secret = _read_secret(material, size)
    if secret is None or len(rest) > 2:
        return None
    mki: bytes | None = b""
    lifetime: int | None = None
    if rest and ":" in rest[-1]:
        mki = _read_mki(rest.pop())
    if rest:
        lifetime = _read_lifetime(rest.pop())
        if lifetime is None:
            return None
    if rest or mki is None:
        return None
    return MasterKey(secret=secret, mki=mki, lifetime=lifetime)


def _read_secret(text: str, size: int) -> bytes | None:
    # RFC 4568 6.1: padding characters at the end of the base64 text are discarded.
    text = text.rstrip("=")
    if len(text) != (size * 8 + 5) // 6 or not text.isascii():
        return None
    try:
        secret = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        return None
    return secret if len(secret) == size else None


def _read_lifetime(text: str) -> int | None:
    """Return a number of packets, written ``2^n`` or in decimal; None when it is not one."""
    if text.startswith("2^"):
        exponent = decimal(text[2:])
        return 1 << exponent if exponent is not None and exponent <= 48 else None
    if not (0 < len(text) <= 15 and text.isascii() and text.isdigit()):
        return None
    # RFC 4568 6.1: the lifetime is a non-zero, positive decimal integer.
    return int(text) if 0 < int(text) <= MAX_LIFETIME else None


def _read_mki(text: str) -> bytes | None:
    """Return ``<value>:<length>`` as the bytes in a packet."""
    value, _, length_text = text.partition(":")
    length = decimal(length_text)
    if length is None or not 0 < length <= MAX_MKI_BYTES:
        return None
    if not (0 < len(value) <= 310 and value.isascii() and value.isdigit()):
        return None
    try:
        return int(value).to_bytes(length, "big")
    except OverflowError:
        return None


def _read_parameters(texts: list[str]) -> int | None:
    """Return the window asked for, 0 for none; None when a parameter rules the line out.

    RFC 4568 6.3.7: unknown ones that begin with ``-`` may be ignored. KDR, the
    UNENCRYPTED and UNAUTHENTICATED forms, and FEC are known to us, and not done.
    """
    window = 0
    for text in texts:
        name, _, value = text.partition("=")
        if text.startswith("-"):
            continue
        size = decimal(value)
        # RFC 4568 6.3.6: the SRTP window size hint; the minimum is 64.
        if name.upper() != "WSH" or size is None or size < 64:
            return None
        window = min(size, _MAX_WINDOW)
    return window


def crypto_attribute(line: CryptoLine) -> Attribute:
    """Return *line* as an attribute of ours, its window left out: it is a hint to us only."""
    keys = ";".join(map(_write_key, line.keys))
    return Attribute(name="crypto", value=f"{line.tag} {line.suite} {keys}")


def _write_key(key: MasterKey) -> str:
    text = f"inline:{b64encode(key.secret).decode('ascii')}"
    if key.lifetime is not None:
        exponent = key.lifetime.bit_length() - 1
        power = key.lifetime == 1 << exponent
        text += f"|2^{exponent}" if power else f"|{key.lifetime}"
    if key.mki:
        text += f"|{int.from_bytes(key.mki, 'big')}:{len(key.mki)}"
    return text
