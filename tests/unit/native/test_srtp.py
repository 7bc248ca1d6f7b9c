"""The core's SRTP and libsrtp agree on every datagram, both ways, whatever the network does."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp.net.srtp import KEPT_AFTER_REKEY, MAX_LIFETIME, Key, Receiver, Sender
from rtp.packet import Packet, build
from sdp.crypto import SUITES

pytestmark = pytest.mark.unit

native: Any = pytest.importorskip("trunkbridge_native", reason="native/ is not built")

SUITE = "AES_CM_128_HMAC_SHA1_80"
SUITE_NAMES = st.sampled_from(sorted(SUITES))
MKIS = st.sampled_from([b"", b"\x01", b"\x00\x00\x00\x07", bytes(127) + b"\x05"])
STARTS = st.sampled_from([0, 100, 0x7FF0, 0x8000, 65500, 65535])


def key(suite: str, seed: int, mki: bytes = b"", lifetime: int = MAX_LIFETIME) -> Key:
    secret = random.Random(seed).randbytes(SUITES[suite])
    return Key(secret=secret, mki=mki, lifetime=lifetime)


def plain(one: Key) -> tuple[bytes, bytes, int]:
    return one.secret, one.mki, one.lifetime


class Core:
    """Our end: the core's line, told what libsrtp's classes are told."""

    def __init__(self, suite: str, send: Key, *receive: Key, window: int | None = None) -> None:
        self.line = native.SrtpLine()
        self.window = window
        self.agree(suite, send, *receive)

    def agree(self, suite: str, send: Key, *receive: Key, now: float = 0.0) -> None:
        self.line.agree(suite, plain(send), list(map(plain, receive)), self.window, now)

    def rtp(self, data: bytes, now: float = 0.0) -> bytes | None:
        opened: bytes | None = self.line.open_rtp(data, now)
        return opened

    def rtcp(self, data: bytes, now: float = 0.0) -> bytes | None:
        opened: bytes | None = self.line.open_rtcp(data, now)
        return opened


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"\xd5" * 160) -> bytes:
    return build(Packet(8, sequence & 0xFFFF, sequence * 160 & 0xFFFF_FFFF, ssrc, payload))


def report(ssrc: int = 7, words: int = 5) -> bytes:
    return struct.pack("!BBHI", 0x80, 200, words + 1, ssrc) + bytes(range(4 * words))


def damaged(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] ^= 1 << at % 8
    return bytes(changed)


@given(suite=SUITE_NAMES, mki=MKIS, start=STARTS, sizes=st.lists(st.integers(0, 1300), max_size=8))
@settings(max_examples=60)
def test_both_make_the_same_bytes_of_the_same_stream(
    suite: str, mki: bytes, start: int, sizes: list[int]
) -> None:
    """RFC 3711 3.1, 3.4, RFC 7714 8.1, RFC 4568 6.1: tags, trailers and identifiers alike."""
    ours = Core(suite, key(suite, 1, mki), key(suite, 2))
    theirs = Sender(suite, key(suite, 1, mki))
    for sequence, size in enumerate(sizes, start):
        packet = rtp(sequence, payload=bytes(size))
        assert ours.line.protect_rtp(packet) == theirs.rtp(packet)
        control = report(words=size % 40)
        assert ours.line.protect_rtcp(control) == theirs.rtcp(control)


@pytest.mark.parametrize("suite", SUITES)
def test_csrcs_and_header_extensions_stay_readable_on_both_sides(suite: str) -> None:
    ours, theirs = Core(suite, key(suite, 1), key(suite, 2)), Sender(suite, key(suite, 1))
    packet = rtp(1)
    packet = bytes([0x92]) + packet[1:12] + bytes(range(8)) + b"\xbe\xde\x00\x01\x10\xff\x00\x00"
    packet += b"speech"
    data = theirs.rtp(packet)
    assert data is not None
    assert data == ours.line.protect_rtp(packet)
    assert data.startswith(packet[:28])
    assert b"speech" not in data


# What the network does with the next packet of a stream.
FATES = (
    st.tuples(st.just("goes on"), st.integers(0, 3)),
    st.tuples(st.just("late"), st.integers(1, 200)),
    st.tuples(st.just("twice"), st.integers(1, 5)),
    st.tuples(st.just("damaged"), st.integers(0, 2000)),
    st.tuples(st.just("report"), st.integers(0, 400)),
    st.tuples(st.just("jump"), st.sampled_from([50, 127, 128, 129, 0x7000, 0x7FFF])),
    st.tuples(st.just("junk"), st.binary(max_size=40)),
)
LINES = {
    "suite": SUITE_NAMES,
    "mki": st.sampled_from([b"", b"\x00\x07"]),
    "start": STARTS,
    "lifetime": st.sampled_from([3, 20, MAX_LIFETIME]),
}


class Network:
    """A far end on libsrtp; what it sends goes to both receivers, which must agree."""

    def __init__(self, suite: str, mki: bytes, start: int, lifetime: int) -> None:
        self.suite, self.mki, self.seed = suite, mki, 2
        self.lifetime = lifetime
        self.now = 0.0
        self.ssrc = 7
        self.at = dict.fromkeys((1, 2, 3, 7), start)
        self.past: list[bytes] = []
        self.fresh: dict[bytes, bytes] = {}  # what was protected and has not passed, as it was
        self.key = key(suite, self.seed, mki)
        # RFC 3711 3.2.1: each SSRC has its own context, with its own counter.
        self.senders: dict[int, Sender] = {}
        self.libsrtp = Receiver(suite, [self._worn(self.key)])
        self.ours = Core(suite, key(suite, 1), self._worn(self.key))
        self.passed = 0

    def _worn(self, one: Key) -> Key:
        return Key(secret=one.secret, mki=one.mki, lifetime=self.lifetime)

    def sender(self) -> Sender:
        if self.ssrc not in self.senders:
            self.senders[self.ssrc] = Sender(self.suite, self.key)
        return self.senders[self.ssrc]

    def protect(self) -> bytes:
        packet = rtp(self.at[self.ssrc], self.ssrc)
        data = self.sender().rtp(packet)
        assert data is not None
        self.past.append(data)
        self.fresh[data] = packet
        self.at[self.ssrc] += 1
        return data

    def deliver(self, data: bytes) -> None:
        expected = self.libsrtp.rtp(data, self.now)
        opened = self.ours.rtp(data, self.now)
        if opened is None:
            assert expected is None
            return
        assert opened == self.fresh.pop(data), "genuine, and for the first time"
        self.passed += 1
        # Ours also follows a wrap that falls together with a change of keys.
        assert expected in ({opened, None} if self.seed > 2 and self.at[7] > 0xFFFF else {opened})

    def control(self, data: bytes) -> None:
        assert self.ours.rtcp(data, self.now) == self.libsrtp.rtcp(data, self.now)

    def report(self) -> bytes:
        data = self.sender().rtcp(report(self.ssrc))
        assert data is not None
        return data

    def rekey(self, *, rolls_on: bool) -> None:
        self.seed += 1
        self.key = key(self.suite, self.seed, self.mki)
        self.senders = {
            ssrc: Sender(self.suite, self.key, after=before if rolls_on else None)
            for ssrc, before in self.senders.items()
        }
        self.libsrtp.rekey(self.suite, [self._worn(self.key)], self.now)
        self.ours.agree(self.suite, key(self.suite, 1), self._worn(self.key), now=self.now)

    def meet(self, fate: str, value: Any) -> None:
        match fate:
            case "goes on":
                for _ in range(value):
                    self.protect()  # lost
                self.deliver(self.protect())
            case "late" | "twice":
                if len(self.past) >= value:
                    self.deliver(self.past[-value])
            case "damaged":
                self.deliver(damaged(self.protect(), value))
            case "report":
                data = self.report()
                self.control(damaged(data, value))
                self.control(data)
            case "report again":
                data = self.report()
                self.control(data)
                self.control(data)
            case "jump":
                self.at[self.ssrc] += value - 1
                self.deliver(self.protect())
            case "ssrc":
                self.ssrc = value
            case "rekey":
                self.rekey(rolls_on=value)
            case "time":
                self.now += value
            case "junk":
                self.deliver(value)
                self.deliver(self.past[-1][:12] + value if self.past else value)


@given(
    **LINES,
    fates=st.lists(
        st.one_of(
            *FATES,
            st.tuples(st.just("ssrc"), st.integers(1, 3)),
            st.tuples(st.just("report again"), st.none()),
        ),
        max_size=60,
    ),
)
@settings(max_examples=100)
def test_both_let_the_same_datagrams_pass(
    suite: str, mki: bytes, start: int, lifetime: int, fates: list[tuple[str, Any]]
) -> None:
    """Loss, reordering, replay, wraps, reports, damage, other SSRCs."""
    network = Network(suite, mki, start, lifetime)
    for fate, value in fates:
        network.meet(fate, value)
    assert network.ours.line.failures == network.libsrtp.failures


@given(
    **LINES,
    fates=st.lists(
        st.one_of(
            *FATES,
            st.tuples(st.just("rekey"), st.booleans()),
            st.tuples(st.just("time"), st.sampled_from([0.1, 2.0, KEPT_AFTER_REKEY])),
        ),
        max_size=60,
    ),
)
@settings(max_examples=100)
def test_both_let_the_same_datagrams_pass_over_changes_of_keys(
    suite: str, mki: bytes, start: int, lifetime: int, fates: list[tuple[str, Any]]
) -> None:
    """RFC 4568 7.1.4. Of one SSRC; ours knows more where another comes in between."""
    network = Network(suite, mki, start, lifetime)
    for fate, value in fates:
        network.meet(fate, value)
    assert network.ours.line.failures <= network.libsrtp.failures


@pytest.mark.parametrize("suite", SUITES)
def test_a_call_over_the_wrap_with_loss_and_reordering_is_heard_whole(suite: str) -> None:
    """Both ways, 3,000 packets, so that the network above is known to let packets pass."""
    network = Network(suite, b"", 64000, MAX_LIFETIME)
    shuffled = random.Random(4)
    packets = [network.protect() for _ in range(3000)]
    order = sorted(range(3000), key=lambda n: n + shuffled.uniform(0, 60))
    for number in order:
        if shuffled.random() > 0.1:
            network.deliver(packets[number])
    assert network.passed > 2600
    back = Receiver(suite, [key(suite, 1)])
    for sequence in range(64000, 67000):
        data = network.ours.line.protect_rtp(rtp(sequence))
        if shuffled.random() > 0.1:
            assert back.rtp(data, 0.0) == rtp(sequence)


@given(
    suites=st.lists(SUITE_NAMES, min_size=2, max_size=4),
    start=STARTS,
    steps=st.integers(1, 50),
)
@settings(max_examples=40)
def test_our_stream_is_opened_over_every_change_of_suite(
    suites: list[str], start: int, steps: int
) -> None:
    """RFC 3711 3.3.1: the counter goes on over a change of keys; libsrtp's side follows it."""
    ours = Core(suites[0], key(suites[0], 1), key(suites[0], 2))
    theirs = Receiver(suites[0], [key(suites[0], 1)])
    sequence = start
    for number, suite in enumerate(suites):
        now = 10.0 * number
        ours.agree(suite, key(suite, 1), key(suite, 2), now=now)
        theirs.rekey(suite, [key(suite, 1)], now)
        if suite in suites[:number] and suite != suites[number - 1]:
            return  # libsrtp's side makes a new context for an old key, which knows no round
        for _ in range(steps):
            if _edge(sequence, start, number):
                return
            data = ours.line.protect_rtp(rtp(sequence))
            assert theirs.rtp(data, now) == rtp(sequence)
            sequence += 1


def _edge(sequence: int, start: int, number: int) -> bool:
    """Tell whether the wrap is the first packet under a new key, where nobody can know."""
    return bool(number) and sequence == 0x1_0000 and start < sequence


def test_one_key_of_several_is_told_by_its_identifier() -> None:
    """RFC 3711 8.1, RFC 4568 6.1."""
    for suite in SUITES:
        keys = [key(suite, 2, b"\x00\x01"), key(suite, 3, b"\x00\x02")]
        ours, theirs = Core(suite, key(suite, 1), *keys), Receiver(suite, keys)
        for sequence, one in enumerate([*keys, *keys, key(suite, 3, b"\x00\x03"), key(suite, 3)]):
            data = Sender(suite, one).rtp(rtp(sequence))
            assert data is not None
            assert (ours.rtp(data) is None) == (theirs.rtp(data, 0.0) is None) == (sequence > 3)


@pytest.mark.parametrize("window", [None, 64, 128, 1024, 0x7FFF])
def test_the_window_that_was_asked_for_is_the_same(window: int | None) -> None:
    """RFC 4568 6.3.6."""
    ours = Core(SUITE, key(SUITE, 1), key(SUITE, 2), window=window)
    theirs, sender = Receiver(SUITE, [key(SUITE, 2)], window), Sender(SUITE, key(SUITE, 2))
    packets = [sender.rtp(rtp(sequence)) for sequence in range(3000)]
    for number in (2999, 2999 - 127, 2999 - 128, 2999 - 1023, 2999 - 1024, 0):
        data = packets[number]
        assert data is not None
        assert ours.rtp(data) == theirs.rtp(data, 0.0)


@given(data=st.binary(max_size=1600))
@settings(max_examples=60)
def test_nothing_that_comes_raises_or_passes(data: bytes) -> None:
    for suite in ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM"):
        for mki in (b"", b"\x01"):
            ours = Core(suite, key(suite, 1), key(suite, 2, mki))
            assert ours.rtp(data) is None
            assert ours.rtcp(data) is None
            ours.line.protect_rtp(data)
            ours.line.protect_rtcp(data)
