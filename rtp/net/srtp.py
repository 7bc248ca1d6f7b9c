"""SRTP and SRTCP of one call's stream, on libsrtp (RFC 3711, RFC 7714).

libsrtp does the cryptography, the replay windows and the rollover counters of each SSRC.
What its binding leaves out is here: master key identifiers, key lifetimes, a bound on the
number of SSRCs, and keys that change in mid-call.

Nothing a peer sends raises: a packet that does not pass is None and counted.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pylibsrtp import Error, Policy, Session

from rtp.packet import HEADER_SIZE

MAX_PACKET: Final = 1500 - 148
"""Bytes of a packet before protection: what libsrtp's binding has room for."""
MAX_LIFETIME: Final = 1 << 48
"""RTP packets under one master key (RFC 3711 9.2)."""
MAX_SSRCS: Final = 32
"""SSRCs of the far end that are remembered with their replay windows."""
KEPT_AFTER_REKEY: Final = 5.0
"""Seconds in which packets under the key before are still taken (RFC 4568 7.1.4)."""
DEFAULT_WINDOW: Final = 128
MAX_ROLLOVERS: Final = 64
"""Rollovers that a new key takes over; 64 are 23 hours at 50 packets a second."""
_STEP: Final = 0x7000
_SSRC = struct.Struct("!I")
_RTCP_INDEX: Final = 4
_MASK: Final = 0xFFFF


class _Suite(NamedTuple):
    profile: int
    tag: int  # bytes of the RTP authentication tag after the MKI; 0: the tag is before it
    rtcp_tag: int


_SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": _Suite(Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 10, 10),
    # RFC 4568 6.2.2: the SRTCP authentication tag stays 80 bits long.
    "AES_CM_128_HMAC_SHA1_32": _Suite(Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 4, 10),
    # RFC 7714 8.1: the authentication tag is part of the ciphertext; the field is empty.
    "AEAD_AES_128_GCM": _Suite(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 0, 0),
    "AEAD_AES_256_GCM": _Suite(Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 0, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Master key and salt together; ``mki``: what packets carry of its name, b"" for none.

    ``lifetime``: RTP packets it may protect.
    """

    secret: bytes = field(repr=False)
    mki: bytes = b""
    lifetime: int = MAX_LIFETIME


def _with_mki(data: bytes, mki: bytes, tag: int) -> bytes:
    """Return *data* with *mki* before its last *tag* bytes (RFC 3711 3.1, RFC 7714 8.1)."""
    end = len(data) - tag
    return data[:end] + mki + data[end:]


class Sender:
    """Protects one stream (one SSRC) under one key; keep it for as long as the key is ours.

    A second one with the same key would use the same key stream again.
    """

    def __init__(self, suite: str, key: Key, *, after: Sender | None = None) -> None:
        """Start with rollover counter 0, or where *after*, the same stream's, stands.

        RFC 3711 3.3.1: after a re-keying occurs, the rollover counter always maintains its
        sequence of values, i.e., it MUST NOT be reset to zero.
        """
        self.suite = suite
        self.key = key
        self.failures = 0
        self.index = -1  # extended sequence number of the last packet
        self.ssrc = 0
        self._known = _SUITES[suite]
        self._left = key.lifetime
        self._session = _outbound(self._known, key)
        if after is not None and after.index >> 16 > 0:
            self._walk(0, after.ssrc, after.index)

    def rtp(self, packet: bytes) -> bytes | None:
        """Return *packet* protected; None when it cannot be: the key has served its time.

        Sequence numbers only go forward: no index is ever used twice under the key.
        """
        if self._left <= 0 or not HEADER_SIZE <= len(packet) <= MAX_PACKET:
            self.failures += 1
            return None
        self._left -= 1
        try:
            self._advance(packet)
            data = self._session.protect(packet)
        except Error:
            self.failures += 1
            return None
        mki = self.key.mki
        return _with_mki(data, mki, self._known.tag) if mki else data

    def _advance(self, packet: bytes) -> None:
        """Bring libsrtp's counter near *packet*, wherever its sequence number has got to."""
        sequence = packet[2] << 8 | packet[3]
        if self.index < 0:
            self.index = sequence
            self.ssrc = int(_SSRC.unpack_from(packet, 8)[0])
            return
        step = (sequence - self.index) & _MASK
        if step > _STEP:  # part of the stream went out unprotected
            self._walk(self.index + 1, self.ssrc, self.index + step - 1)
        self.index += (sequence - self.index) & _MASK

    def _walk(self, start: int, ssrc: int, index: int) -> None:
        for packet in _walk(start, ssrc, index):
            self._session.protect(packet)
        self.ssrc, self.index = ssrc, index

    def rtcp(self, packet: bytes) -> bytes | None:
        """Return a compound RTCP *packet* protected."""
        if len(packet) > MAX_PACKET:
            self.failures += 1
            return None
        try:
            data = self._session.protect_rtcp(packet)
        except Error:
            self.failures += 1
            return None
        mki = self.key.mki
        return _with_mki(data, mki, self._known.rtcp_tag) if mki else data


class _Context:
    """One key of theirs: libsrtp's session, and what of it must be bounded."""

    __slots__ = ("_session", "_ssrc", "_ssrcs", "index", "key", "left")

    def __init__(self, suite: _Suite, key: Key, window: int) -> None:
        self.key = key
        self.left = key.lifetime
        self.index = 0  # extended sequence number of the present SSRC (RFC 3711 3.3.1)
        policy = Policy(
            key=key.secret, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=suite.profile
        )
        policy.window_size = window
        self._session = Session(policy)
        self._ssrc = b""
        self._ssrcs: OrderedDict[bytes, int | None] = OrderedDict()

    @property
    def ssrc(self) -> int:
        """The SSRC heard last, 0 for none."""
        return int(_SSRC.unpack(self._ssrc)[0]) if self._ssrc else 0

    @property
    def used(self) -> int:
        """RTP packets that have passed under the key."""
        return self.key.lifetime - self.left

    def rtp(self, data: bytes) -> bytes | None:
        if self.left <= 0:
            return None
        try:
            packet = self._session.unprotect(data)
        except (Error, ValueError):
            return None
        self.left -= 1
        sequence = packet[2] << 8 | packet[3]
        if packet[8:12] != self._ssrc:
            self._turn_to(packet[8:12], sequence)
        step = ((sequence - self.index + 0x8000) & _MASK) - 0x8000
        if step > 0:
            self.index += step
        return packet

    def rtcp(self, data: bytes) -> bytes | None:
        if self.left <= 0:
            return None
        try:
            packets = self._session.unprotect_rtcp(data)
        except (Error, ValueError):
            return None
        ssrc = packets[4:8]
        if ssrc != self._ssrc and ssrc not in self._ssrcs:
            self._remember(ssrc, None)
        return packets

    def follow(self, before: _Context, suite: _Suite) -> None:
        """Go on with the rollover counter of *before* (RFC 3711 3.3.1)."""
        walker = _outbound(suite, self.key)
        for packet in _walk(0, before.ssrc, before.index):
            self.rtp(walker.protect(packet))
        self.left = self.key.lifetime

    def _turn_to(self, ssrc: bytes, sequence: int) -> None:
        """Note that another SSRC is heard now."""
        known = self._ssrcs.pop(ssrc, None)
        if self._ssrc:
            self._remember(self._ssrc, self.index)
        self._ssrc = ssrc
        self.index = sequence if known is None else known

    def _remember(self, ssrc: bytes, index: int | None) -> None:
        """Keep *ssrc*; forget the one that was silent longest when there are too many."""
        self._ssrcs[ssrc] = index
        if len(self._ssrcs) >= MAX_SSRCS:
            oldest, _ = self._ssrcs.popitem(last=False)
            self._session.remove_stream(int(_SSRC.unpack(oldest)[0]))


def _outbound(suite: _Suite, key: Key) -> Session:
    return Session(
        Policy(key=key.secret, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=suite.profile)
    )


def _walk(start: int, ssrc: int, index: int) -> list[bytes]:
    """Return bare packets of *ssrc* that lead a context from *start* to *index*.

    They are never sent. Steps stay below 2**15, so that each is seen as a step forward.
    """
    if (index - start) >> 16 > MAX_ROLLOVERS:
        return []
    at = [*range(start, index, _STEP), index]
    return [struct.pack("!BBHII", 0x80, 0, step & _MASK, 0, ssrc) for step in at]


class Receiver:
    """Checks and opens what they send, under the keys of their last SDP.

    ``failures`` counts packets that did not pass (not authentic, replayed, or their key is
    worn out); they are nobody's, so nothing else may be learnt from them.
    """

    def __init__(self, suite: str, keys: Sequence[Key], window: int | None = None) -> None:
        self.failures = 0
        self._window = max(DEFAULT_WINDOW, min(0x7FFF, window or 0))
        self._take(suite, keys)
        self._trials: list[tuple[_Suite, tuple[_Context, ...]]] = []
        self._trials_until = 0.0

    def _take(self, suite: str, keys: Sequence[Key]) -> None:
        self.suite = suite
        self.keys = tuple(keys)
        self._known = _SUITES[suite]
        self._contexts = self._made()

    def _made(self) -> tuple[_Context, ...]:
        return tuple(_Context(self._known, key, self._window) for key in self.keys)

    def rekey(self, suite: str, keys: Sequence[Key], now: float) -> None:
        """Take other keys of theirs; the same again changes nothing.

        For a while the old ones count too: packets under way. Peers differ on whether the
        rollover counter goes on (RFC 3711 3.3.1) or starts again (RFC 4568 7.1.4, an
        address that changed): the first packet that passes decides.
        """
        if (suite, tuple(keys)) == (self.suite, self.keys):
            return
        before = (self._known, self._contexts)
        heard = max(self._contexts, key=lambda context: context.used)
        self._take(suite, keys)
        self._trials = [before]
        self._trials_until = now + KEPT_AFTER_REKEY
        if heard.index >> 16:
            kept = self._made()
            for context in kept:
                context.follow(heard, self._known)
            self._trials.insert(0, (self._known, kept))

    def rtp(self, data: bytes, now: float) -> bytes | None:
        """Return the RTP packet in *data*, or None."""
        packet = self._open_rtp(self._known, self._contexts, data)
        if packet is None and self._trials:
            packet = self._try(data, now)
        if packet is None:
            self.failures += 1
        return packet

    def rtcp(self, data: bytes, now: float) -> bytes | None:
        """Return the RTCP packets in *data*, or None."""
        packet = self._open_rtcp(self._known, self._contexts, data)
        if packet is None and now < self._trials_until:
            for suite, contexts in self._trials:
                # The same key again would only take a replay: SRTCP has no rollover counter.
                if not self._is_ours(contexts):
                    packet = packet or self._open_rtcp(suite, contexts, data)
        if packet is None:
            self.failures += 1
        return packet

    def _try(self, data: bytes, now: float) -> bytes | None:
        """Open *data* with what else it may be under; what passes with the new key is it."""
        if any(context.used for context in self._contexts):
            self._trials = [known for known in self._trials if not self._is_ours(known[1])]
        if now >= self._trials_until:
            # Only the old keys go: a new one may be heard for the first time after a hold.
            self._trials = [known for known in self._trials if self._is_ours(known[1])]
        for number, (suite, contexts) in enumerate(self._trials):
            packet = self._open_rtp(suite, contexts, data)
            if packet is None:
                continue
            if self._is_ours(contexts):
                self._contexts = contexts
                del self._trials[number]
            return packet
        return None

    def _is_ours(self, contexts: tuple[_Context, ...]) -> bool:
        return tuple(context.key for context in contexts) == self.keys

    def _open_rtp(self, suite: _Suite, contexts: tuple[_Context, ...], data: bytes) -> bytes | None:
        if len(data) < HEADER_SIZE:
            return None
        if len(contexts) == 1 and not contexts[0].key.mki:
            return contexts[0].rtp(data)
        found = _split(contexts, data, suite.tag)
        return None if found is None else found[0].rtp(found[1])

    def _open_rtcp(
        self, suite: _Suite, contexts: tuple[_Context, ...], data: bytes
    ) -> bytes | None:
        if len(data) < 8 + _RTCP_INDEX:
            return None
        if len(contexts) == 1 and not contexts[0].key.mki:
            return contexts[0].rtcp(data)
        found = _split(contexts, data, suite.rtcp_tag)
        return None if found is None else found[0].rtcp(found[1])


def _split(contexts: tuple[_Context, ...], data: bytes, tag: int) -> tuple[_Context, bytes] | None:
    """Return the context that the MKI of *data* names, and *data* without it."""
    end = len(data) - tag
    start = end - len(contexts[0].key.mki)
    if start < HEADER_SIZE:
        return None
    mki = data[start:end]
    for context in contexts:
        if context.key.mki == mki:
            return context, data[:start] + data[end:]
    return None
