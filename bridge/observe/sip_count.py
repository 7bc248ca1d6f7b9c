"""Counts SIP messages by method and class, and lets several taps hear them."""

from __future__ import annotations

import re
from typing import Final

from prometheus_client import Counter

from bridge.observe.catalogue import CLASSES, METHODS, WAYS
from bridge.sip.flow import Flow
from bridge.ua.tap import Tap

_METHOD_OF: Final = re.compile(rb"\r\nCSeq[ \t]*:[ \t]*[0-9]+[ \t]+([A-Z]+)", re.IGNORECASE)
_RESPONSE: Final = b"SIP/2.0 "
_LONGEST: Final = 32
_HEAD: Final = 8192  # bytes that are searched; ours and every carrier's CSeq is within them


class SipCount:
    """A `Tap` that counts. Whatever a peer writes, only words of fixed lists become labels."""

    def __init__(self, requests: Counter, responses: Counter) -> None:
        self._requests = {
            (way, method.encode()): requests.labels(way, method)
            for way in WAYS
            for method in METHODS
        }
        self._responses = {
            (way, method.encode(), kind[:1].encode()): responses.labels(way, method, kind)
            for way in WAYS
            for method in METHODS
            if method != "ACK"
            for kind in CLASSES
        }

    def received(self, message: bytes, flow: Flow) -> None:  # noqa: ARG002
        """Count a message that came."""
        self._count("in", message)

    def sent(self, message: bytes, flow: Flow) -> None:  # noqa: ARG002
        """Count a message that went."""
        self._count("out", message)

    def _count(self, way: str, message: bytes) -> None:
        if message.startswith(_RESPONSE):
            found = _METHOD_OF.search(message, 0, _HEAD)
            method = b"other" if found is None else found[1].upper()
            kind = message[8:9]
            counter = self._responses.get((way, method, kind)) or self._responses.get(
                (way, b"other", kind)
            )
        else:
            method = message[: message.find(b" ", 0, _LONGEST)].strip()
            if not method:
                return  # a keep-alive
            counter = self._requests.get((way, method)) or self._requests[way, b"other"]
        if counter is not None:
            counter.inc()


class Taps:
    """Several taps as one."""

    def __init__(self, *taps: Tap) -> None:
        self._taps = taps

    def received(self, message: bytes, flow: Flow) -> None:
        """A message came."""
        for tap in self._taps:
            tap.received(message, flow)

    def sent(self, message: bytes, flow: Flow) -> None:
        """A message was given to the transport."""
        for tap in self._taps:
            tap.sent(message, flow)
