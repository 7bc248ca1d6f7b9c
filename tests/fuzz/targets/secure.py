"""SRTP: protected packets damaged on the way, replayed, under keys that change."""

from __future__ import annotations

from rtp.net.srtp import MAX_SSRCS, Key, Receiver, Sender
from rtp.packet import Packet, build
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import BINARY, Script, mutated

MOST_PACKETS = 60
SIZES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
REPORT = b"\x80\xc8\0\x06\0\0\0\x07" + bytes(20)


def key_of(script: Script, suite: str, mki: bytes) -> Key:
    return Key(secret=bytes((script.below(4),)) * SIZES[suite], mki=mki)


def conversation(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: suites, keys, identifiers, sequences, damage."""
    script = Script(data)
    suite, mki = script.one_of(tuple(SIZES)), script.one_of((b"", b"\0\1"))
    key = key_of(script, suite, mki)
    sender, receiver = Sender(suite, key), Receiver(suite, [key])
    ssrc = 1
    now, sequence, passed = 0.0, 65500, set[bytes]()
    for _ in range(MOST_PACKETS):
        if script.at >= len(data):
            break
        now += script.one_of((0.02, 0.02, 0.02, 3.0))
        if script.below(20) == 1:
            suite = script.one_of(tuple(SIZES))
            key = key_of(script, suite, mki)
            sender = Sender(suite, key, after=sender if script.below(2) else None)
            if sender.index < 0:
                ssrc = script.below(90)
            with meter:
                receiver.rekey(suite, [key], now)
        sequence += script.one_of((1, 1, 1, 1, 2, 40, 9000, 40000))
        plain = build(Packet(8, sequence & 0xFFFF, sequence, ssrc, b"\xd5" * 80))
        said = sender.rtp(plain) or b""
        if script.below(3) == 1:
            said = sender.rtcp(REPORT) or b""
        sent = said
        if script.below(2):
            said = mutated(said, script, corpus.RTP, kinds=BINARY)
        for _ in range(script.one_of((1, 1, 2))):
            with meter:
                found = receiver.rtp(said, now)
            assert found is None or found not in passed, "a replay passed"
            if found is not None:
                assert (found, said) == (plain, sent), "what passed is what was sent"
                passed.add(found)
            with meter:
                receiver.rtcp(said, now)
        assert all(len(context._ssrcs) < MAX_SSRCS for context in receiver._contexts)


TARGETS = (
    Target(
        name="srtp",
        run=conversation,
        seeds=lambda: [bytes(range(start, start + 100)) for start in (0, 50, 100, 150)],
        longest=600,
    ),
)
