"""SDES SRTP of one leg: keys written and read as text, packets protected and opened.

On purpose without ``sdp.crypto`` and ``rtp.net.srtp``, so that a mistake of the bridge is not
shared. Written against RFC 4568, RFC 3711 and RFC 7714.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pylibsrtp import Error, Policy, Session

Srtp = Literal["off", "optional", "required"]
PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
TAGS = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4}  # bytes after the MKI
MKI = b"\0\0\0\1"  # ours, when we name our key
_LINE = re.compile(r"(\d{1,9}) (\S+) inline:([A-Za-z0-9+/]+)=*((?:\|[0-9^:]+)*)(?: .*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What an ``a=crypto`` of the far end says."""

    tag: int
    suite: str
    key: bytes
    mki: bytes


def read_line(text: str) -> Line | None:
    """Return the line in *text*, None when it is none that we can use."""
    found = _LINE.fullmatch(text)
    if found is None or found[2] not in PROFILES:
        return None
    key = base64.b64decode(found[3] + "=" * (-len(found[3]) % 4))
    if len(key) != PROFILES[found[2]][1]:
        return None
    mki = b""
    for part in found[4].split("|")[1:]:
        value, colon, length = part.partition(":")
        if colon:
            mki = int(value).to_bytes(int(length), "big")
    return Line(tag=int(found[1]), suite=found[2], key=key, mki=mki)


class Sdes:
    """Both directions. ``policy``: ``optional`` is RTP/AVP with keys, ``required`` RTP/SAVP."""

    def __init__(self, policy: Srtp, suites: Sequence[str], *, mki: bool) -> None:
        self.policy = policy
        self.active: str | None = None  # the suite in force
        self.unauthentic = 0
        self._suites = tuple(suites)
        self._mki = MKI if mki else b""
        self._ours: dict[str, bytes] = {}
        self._out: dict[str, Session] = {}
        self._theirs: tuple[str, bytes, bytes] | None = None
        self._in: Session | None = None
        self._tag = 0
        self.rekey()

    @property
    def on(self) -> bool:
        """Whether we speak SRTP at all."""
        return self.policy != "off"

    @property
    def protocol(self) -> str:
        """The profile of our offers."""
        return "RTP/SAVP" if self.policy == "required" else "RTP/AVP"

    def rekey(self) -> None:
        """Draw new keys; the next description has them, and rollover counters start again."""
        self._out.clear()
        for suite in self._suites:
            self._ours[suite] = secrets.token_bytes(PROFILES[suite][1])

    def offer(self) -> tuple[str, ...]:
        """Return the values of our ``a=crypto`` lines: once agreed, only the one in force."""
        if not self.on:
            return ()
        if self.active is not None:
            return (self._written(self._tag, self.active),)
        return tuple(self._written(tag, suite) for tag, suite in enumerate(self._suites, 1))

    def answer(self, theirs: Sequence[str]) -> tuple[str, ...]:
        """Return the one line of our answer to *theirs*, none when it is plain RTP."""
        line = self._choose(theirs)
        return () if line is None else (self._written(line.tag, line.suite),)

    def agree(self, theirs: Sequence[str]) -> None:
        """Take the far end's description: what it opens with, what we protect with."""
        line = self._choose(theirs)
        if line is None:
            self.active = None
            return
        self.active, self._tag = line.suite, line.tag
        if self._theirs != (line.suite, line.key, line.mki):
            self._theirs = (line.suite, line.key, line.mki)
            self._in = _session(line.suite, line.key, Policy.SSRC_ANY_INBOUND)

    def faults(self, theirs: Sequence[str], protocol: str) -> list[str]:
        """Return what is wrong with an answer to our last offer. RFC 4568 5.1.2."""
        if not self.on:
            return ["has a key for SRTP that nobody asked for"] if theirs else []
        if not theirs:
            return ["has no key for SRTP"] if self.policy == "required" else []
        found = []
        if len(theirs) > 1:
            found.append(f"has {len(theirs)} crypto lines, one expected")
        offered = [read_line(line) for line in self.offer()]
        line = self._choose(theirs)
        known = [(one.tag, one.suite) for one in offered if one is not None]
        if line is None or (line.tag, line.suite) not in known:
            found.append("has a crypto line that was not offered")
        if line is not None and line.key in self._ours.values():
            found.append("has our own key")
        if protocol != self.protocol:
            found.append(f"is {protocol}, {self.protocol} expected")
        return found

    def protect(self, packet: bytes) -> bytes:
        """Return an RTP packet as it goes out."""
        if self.active is None:
            return packet
        session = self._out.get(self.active)
        if session is None:
            session = _session(self.active, self._ours[self.active], Policy.SSRC_ANY_OUTBOUND)
            self._out[self.active] = session
        data = session.protect(packet)
        end = len(data) - TAGS.get(self.active, 0)
        return data[:end] + self._mki + data[end:]

    def open(self, data: bytes, *, rtcp: bool = False) -> bytes | None:
        """Return the packet in *data*; None, and counted, when it is not authentic."""
        if self.active is None or self._theirs is None or self._in is None:
            return data
        suite, _, mki = self._theirs
        tag = 10 if rtcp and suite in TAGS else TAGS.get(suite, 0)
        end = len(data) - tag
        start = end - len(mki)
        try:
            if data[start:end] != mki:
                raise Error("another key identifier")
            bare = data[:start] + data[end:]
            return self._in.unprotect_rtcp(bare) if rtcp else self._in.unprotect(bare)
        except (Error, ValueError):
            self.unauthentic += 1
            return None

    def _choose(self, theirs: Sequence[str]) -> Line | None:
        if not self.on:
            return None
        lines = (read_line(text) for text in theirs)
        return next((line for line in lines if line and line.suite in self._suites), None)

    def _written(self, tag: int, suite: str) -> str:
        key = base64.b64encode(self._ours[suite]).decode("ascii")
        named = f"|2^31|{int.from_bytes(self._mki, 'big')}:{len(self._mki)}" if self._mki else ""
        return f"{tag} {suite} inline:{key}{named}"


def _session(suite: str, key: bytes, direction: int) -> Session:
    return Session(Policy(key=key, ssrc_type=direction, srtp_profile=PROFILES[suite][0]))
