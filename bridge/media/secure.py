"""The SRTP of one call: what offer/answer agreed, on the contexts of `rtp.net.srtp`.

A context lives as long as the call, also while the line is held or goes on in plain RTP:
none is ever made twice for one key of ours, for that would use its key stream again.
"""

from __future__ import annotations

from rtp.net.srtp import MAX_LIFETIME, Key, Receiver, Sender
from sdp.crypto import Crypto, MasterKey


class SecureLine:
    """Both directions of one call's SRTP."""

    def __init__(self) -> None:
        self._senders: dict[str, Sender] = {}  # by suite: our key for each is constant
        self._sender: Sender | None = None
        self._receiver: Receiver | None = None

    @property
    def failures(self) -> int:
        """Packets so far that were not authentic, or came again."""
        return 0 if self._receiver is None else self._receiver.failures

    def agree(self, crypto: Crypto, now: float) -> None:
        """Take what was agreed. Keys that stay leave their contexts alone."""
        self._sender = self._sender_of(crypto)
        keys = tuple(map(_key, crypto.receive))
        if self._receiver is None:
            self._receiver = Receiver(crypto.suite, keys, crypto.window)
        else:
            self._receiver.rekey(crypto.suite, keys, now)

    def _sender_of(self, crypto: Crypto) -> Sender:
        key = _key(crypto.send)
        known = self._senders.get(crypto.suite)
        if known is None or known.key != key:
            known = Sender(crypto.suite, key, after=self._sender)
            self._senders[crypto.suite] = known
        return known

    def open_rtp(self, data: bytes, now: float) -> bytes | None:
        """Return the RTP packet in *data*; None when it is not theirs."""
        return None if self._receiver is None else self._receiver.rtp(data, now)

    def open_rtcp(self, data: bytes, now: float) -> bytes | None:
        """Return the RTCP packets in *data*; None when they are not theirs."""
        return None if self._receiver is None else self._receiver.rtcp(data, now)

    def protect_rtp(self, packet: bytes) -> bytes | None:
        """Return *packet* as it goes out; None: it must not."""
        return None if self._sender is None else self._sender.rtp(packet)

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """Return RTCP as it goes out; None: it must not."""
        return None if self._sender is None else self._sender.rtcp(packet)


def _key(key: MasterKey) -> Key:
    return Key(secret=key.secret, mki=key.mki, lifetime=key.lifetime or MAX_LIFETIME)
