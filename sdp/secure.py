"""SRTP in our own SDP: which profile, which keys, and what stays as it was (RFC 4568 7.1)."""

from __future__ import annotations

from dataclasses import replace

from sdp.audio import SECURE_PROTOCOLS, AudioLine, is_secure_audio
from sdp.crypto import (
    Crypto,
    CryptoLine,
    Protection,
    SrtpPolicy,
    crypto_attribute,
    crypto_lines,
)
from sdp.model import Attribute, MediaDescription

PLAIN_PROTOCOL = "RTP/AVP"
SECURE_PROTOCOL = "RTP/SAVP"


def offered_protocol(
    policy: SrtpPolicy, slot: MediaDescription | None, agreed: Crypto | None
) -> str:
    """Return the profile of our offer in the place of *slot*, None for a new line.

    A session's profile stays. `SrtpPolicy.OPTIONAL` is never RTP/SAVP in a first offer: who
    has no SRTP would have to refuse it (RFC 8643 3.1).
    """
    if policy is not SrtpPolicy.REQUIRED:
        return PLAIN_PROTOCOL if slot is None else slot.protocol
    kept = slot is not None and (agreed is not None or is_secure_audio(slot))
    return slot.protocol if slot is not None and kept else SECURE_PROTOCOL


def offered_crypto(
    protection: Protection, slot: MediaDescription | None, agreed: Crypto | None
) -> tuple[Attribute, ...]:
    """Return the ``a=crypto`` lines of our offer in the place of *slot*.

    A session that has SRTP offers its own line again, tag and key unchanged, so that
    nobody's contexts start over. RFC 4568 7.1.4.
    """
    if protection.policy is SrtpPolicy.OFF:
        return ()
    if slot is not None and agreed is not None:
        for line in crypto_lines(slot):
            if line.suite == agreed.suite:
                return (crypto_attribute(line),)
    plain = slot is not None and slot.protocol.upper() not in SECURE_PROTOCOLS
    if plain and agreed is None and protection.policy is SrtpPolicy.OPTIONAL:
        return ()  # settled on plain RTP
    return tuple(
        crypto_attribute(CryptoLine(tag=tag, suite=suite, keys=(key,)))
        for tag, (suite, key) in enumerate(protection.keys, 1)
    )


def answered_crypto(protection: Protection, line: AudioLine) -> tuple[Attribute, ...]:
    """Return the one ``a=crypto`` of our answer to *line*, none to plain RTP.

    RFC 4568 5.1.2: the tag and crypto-suite of the accepted crypto attribute in the offer
    MUST be used in the answer; the key parameters are our own.
    """
    theirs = line.crypto
    if theirs is None:
        return ()
    key = protection.key(theirs.suite)
    return (crypto_attribute(CryptoLine(tag=theirs.tag, suite=theirs.suite, keys=(key,))),)


def agreed_crypto(protection: Protection, line: AudioLine) -> Crypto | None:
    """Return what *line* of theirs settles with our key."""
    theirs = line.crypto
    if theirs is None:
        return None
    return Crypto(
        suite=theirs.suite,
        send=protection.key(theirs.suite),
        receive=theirs.keys,
        window=theirs.window,
    )


def rekeyed(section: MediaDescription, crypto: tuple[Attribute, ...]) -> MediaDescription:
    """Return *section* of ours with *crypto* in the place of its ``a=crypto`` lines."""
    lines = [attribute for attribute in section.attributes if attribute.name == "crypto"]
    if not lines:
        return section
    attributes: list[Attribute] = []
    for attribute in section.attributes:
        if attribute is lines[0]:
            attributes.extend(crypto)
        elif attribute.name != "crypto":
            attributes.append(attribute)
    return replace(section, attributes=tuple(attributes))


def offered_suites(section: MediaDescription) -> tuple[str, ...]:
    """Return the suites of *section*, an offer of ours."""
    return tuple(line.suite for line in crypto_lines(section))
