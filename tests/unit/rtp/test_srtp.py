"""SRTP and SRTCP: vectors of the RFCs, round trips, and everything that must not pass."""

from __future__ import annotations

import hmac
import random
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp.net.srtp import KEPT_AFTER_REKEY, MAX_SSRCS, Key, Receiver, Sender
from rtp.packet import Packet, build

pytestmark = pytest.mark.unit

SIZES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
OVERHEAD = {
    "AES_CM_128_HMAC_SHA1_80": 10,
    "AES_CM_128_HMAC_SHA1_32": 4,
    "AEAD_AES_128_GCM": 16,
    "AEAD_AES_256_GCM": 16,
}
SUITE = "AES_CM_128_HMAC_SHA1_80"
SR = struct.pack("!BBHIIIIII", 0x80, 200, 6, 7, 1, 2, 3, 4, 5)


def key(suite: str = SUITE, seed: int = 1, mki: bytes = b"", lifetime: int = 1 << 48) -> Key:
    secret = random.Random(seed).randbytes(SIZES[suite])
    return Key(secret=secret, mki=mki, lifetime=lifetime)


def rtp(sequence: int, ssrc: int = 7, payload: bytes = b"\xd5" * 160) -> bytes:
    return build(Packet(8, sequence & 0xFFFF, sequence * 160 & 0xFFFF_FFFF, ssrc, payload))


def sent(sender: Sender, sequence: int, ssrc: int = 7) -> bytes:
    data = sender.rtp(rtp(sequence, ssrc))
    assert data is not None
    return data


@pytest.mark.parametrize("suite", SIZES)
@pytest.mark.parametrize("mki", [b"", b"\x00\x00\x00\x01"])
def test_what_one_side_protects_the_other_opens(suite: str, mki: bytes) -> None:
    """Row 68. RFC 3711 3.1, 3.4; RFC 7714: each suite, with and without a key identifier."""
    sender, receiver = Sender(suite, key(suite, mki=mki)), Receiver(suite, [key(suite, mki=mki)])
    packet = rtp(1)
    data = sender.rtp(packet)
    assert data is not None
    assert len(data) == len(packet) + OVERHEAD[suite] + len(mki)
    assert data[:12] == packet[:12]
    assert packet[12:] not in data
    assert receiver.rtp(data, 0.0) == packet
    control = sender.rtcp(SR)
    assert control is not None
    assert receiver.rtcp(control, 0.0) == SR
    if mki:
        tag = 0 if "GCM" in suite else OVERHEAD[suite]
        assert data[len(data) - tag - 4 : len(data) - tag] == mki
        tag = 0 if "GCM" in suite else 10  # RFC 4568 6.2.2: that of SRTCP is never cut
        assert control[len(control) - tag - 4 : len(control) - tag] == mki
    assert receiver.failures == 0


# The RFCs' own figures, by another road than libsrtp.

MASTER = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139")  # RFC 3711 B.3
SALT = bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
RFC_7714_PLAIN = (
    bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
)
RFC_7714_PROTECTED = (
    "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b"
    "36de3adf8833899d7f27beb16a9152cf765ee4390cce"
)


def counter(key: bytes, start: int, size: int) -> bytes:
    """Return the key stream of AES in counter mode from *start* (RFC 3711 4.1.1)."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(start.to_bytes(16, "big"))).encryptor()
    return cipher.update(bytes(size))


def derived(master: bytes, salt: bytes, label: int, size: int) -> bytes:
    """Return a session key (RFC 3711 4.3.1, 4.3.3; RFC 7714 11 for a salt of 96 bits)."""
    start = int.from_bytes(salt.ljust(14, b"\0"), "big") ^ label << 48
    return counter(master, start << 16, size)


def sealed(key: bytes, salt: bytes, packet: bytes, rollovers: int = 0) -> bytes:
    """Return *packet* under AEAD_AES_*_GCM with session *key* and *salt* (RFC 7714 8.1)."""
    header = packet[:12]
    nonce = bytes(2) + header[8:12] + struct.pack("!I", rollovers) + header[2:4]
    mixed = bytes(a ^ b for a, b in zip(nonce, salt, strict=True))
    return header + AESGCM(key).encrypt(mixed, packet[12:], header)


def test_session_keys_are_derived_as_rfc_3711_b_3_has_it() -> None:
    """RFC 3711 B.3: what the tests below derive is what the RFC prints."""
    assert derived(MASTER, SALT, 0, 16).hex() == "c61e7a93744f39ee10734afe3ff7a087"
    assert derived(MASTER, SALT, 2, 14).hex() == "30cbbc08863d8c85d49db34a9ae1"
    assert derived(MASTER, SALT, 1, 20).hex() == "cebe321f6ff7716b6fd4ab49af256a156d38baa4"


@pytest.mark.parametrize(("suite", "tag"), [(SUITE, 10), ("AES_CM_128_HMAC_SHA1_32", 4)])
def test_counter_mode_and_its_tag_are_those_of_rfc_3711(suite: str, tag: int) -> None:
    """RFC 3711 4.1.1, 4.2: made by hand of the session keys of B.3, also after a wrap."""
    sender = Sender(suite, Key(secret=MASTER + SALT))
    for sequence in (65535, 65536):
        plain = rtp(sequence, ssrc=0xCAFEBABE)
        start = int.from_bytes(derived(MASTER, SALT, 2, 14), "big") << 16
        start ^= 0xCAFEBABE << 64 ^ sequence << 16
        stream = counter(derived(MASTER, SALT, 0, 16), start, len(plain) - 12)
        body = plain[:12] + bytes(a ^ b for a, b in zip(plain[12:], stream, strict=True))
        told = body + struct.pack("!I", sequence >> 16)
        mac = hmac.new(derived(MASTER, SALT, 1, 20), told, "sha1").digest()
        assert sender.rtp(plain) == body + mac[:tag]


def test_gcm_by_hand_gives_the_packet_of_rfc_7714() -> None:
    """RFC 7714 16.1.1."""
    packet = sealed(bytes(range(16)), b"Quid pro quo", RFC_7714_PLAIN)
    assert packet.hex() == RFC_7714_PROTECTED


@pytest.mark.parametrize(("suite", "size"), [("AEAD_AES_128_GCM", 16), ("AEAD_AES_256_GCM", 32)])
def test_gcm_is_that_of_rfc_7714(suite: str, size: int) -> None:
    """RFC 7714 8.1, 11: the same by hand with derived keys, also after a wrap."""
    secret = key(suite).secret
    master, salt = secret[:size], secret[size:]
    sender = Sender(suite, Key(secret=secret))
    for sequence in (65535, 65536):
        plain = rtp(sequence, ssrc=0xCAFEBABE)
        wanted = sealed(
            derived(master, salt, 0, size), derived(master, salt, 2, 12), plain, sequence >> 16
        )
        assert sender.rtp(plain) == wanted


def test_a_packet_under_another_key_does_not_pass() -> None:
    receiver = Receiver(SUITE, [key(seed=1)])
    assert receiver.rtp(sent(Sender(SUITE, key(seed=2)), 1), 0.0) is None
    assert receiver.rtp(rtp(1), 0.0) is None, "plain RTP"
    control = Sender(SUITE, key(seed=2)).rtcp(SR)
    assert control is not None
    assert receiver.rtcp(control, 0.0) is None
    assert receiver.failures == 3


@pytest.mark.parametrize("suite", SIZES)
def test_a_bit_that_changed_on_the_way_is_noticed(suite: str) -> None:
    data = sent(Sender(suite, key(suite)), 1)
    for at in (1, 3, 12, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 1
        assert Receiver(suite, [key(suite)]).rtp(bytes(damaged), 0.0) is None


def test_a_packet_passes_once_and_late_ones_within_the_window() -> None:
    """RFC 3711 3.3.2: replays are discarded."""
    sender, receiver = Sender(SUITE, key()), Receiver(SUITE, [key()])
    packets = [sent(sender, number) for number in range(1, 300)]
    assert receiver.rtp(packets[200], 0.0) is not None
    assert receiver.rtp(packets[200], 0.0) is None
    assert receiver.rtp(packets[150], 0.0) is not None
    assert receiver.rtp(packets[20], 0.0) is None, "older than the window"
    control = sender.rtcp(SR)
    assert control is not None
    assert receiver.rtcp(control, 0.0) == SR
    assert receiver.rtcp(control, 0.0) is None


def test_the_rollover_counter_goes_on_over_a_hold() -> None:
    """Hold rule 2.3: sequence numbers wrap around a pause without any packet; RFC 3711 3.3.1."""
    sender, receiver = Sender(SUITE, key()), Receiver(SUITE, [key()])
    for sequence in (*range(65500, 65536), *range(65536, 65600)):
        assert receiver.rtp(sent(sender, sequence), 0.0) == rtp(sequence)
    # Nothing for an hour; the stream then goes on where it was.
    assert receiver.rtp(sent(sender, 65600), 3600.0) == rtp(65600)
    assert sender.index == 65600


def test_another_ssrc_passes_at_once_and_the_first_may_come_back() -> None:
    """Row 81. A transfer or music on hold brings an SSRC of its own under the same key."""
    receiver = Receiver(SUITE, [key()])
    one, two = Sender(SUITE, key()), Sender(SUITE, key())
    for sequence in (65534, 65535, 65536, 65537):
        assert receiver.rtp(sent(one, sequence, ssrc=1), 0.0) is not None
    assert receiver.rtp(sent(two, 40000, ssrc=2), 0.0) is not None
    assert receiver.rtp(sent(one, 65538, ssrc=1), 0.0) is not None
    assert receiver.failures == 0


def test_ssrcs_without_end_are_forgotten_again() -> None:
    receiver = Receiver(SUITE, [key()])
    for ssrc in range(1, 4 * MAX_SSRCS):
        assert receiver.rtp(sent(Sender(SUITE, key()), 1, ssrc), 0.0) is not None
        control = Sender(SUITE, key()).rtcp(SR[:4] + struct.pack("!I", 1000 + ssrc) + SR[8:])
        assert control is not None
        assert receiver.rtcp(control, 0.0) is not None
    (context,) = receiver._contexts
    assert len(context._ssrcs) < MAX_SSRCS


def test_a_worn_out_key_protects_and_opens_nothing_more() -> None:
    """RFC 4568 6.1, RFC 3711 9.2: the lifetime of a master key is a limit."""
    sender = Sender(SUITE, key(lifetime=3))
    assert [sender.rtp(rtp(number)) is not None for number in range(5)] == [True] * 3 + [False] * 2
    whole, receiver = Sender(SUITE, key()), Receiver(SUITE, [key(lifetime=2)])
    passed = [receiver.rtp(sent(whole, number), 0.0) is not None for number in range(4)]
    assert passed == [True, True, False, False]


def test_the_key_identifier_chooses_among_several_keys() -> None:
    """RFC 3711 8.1, RFC 4568 6.1: several master keys in one line."""
    keys = [key(seed=1, mki=b"\x00\x01"), key(seed=2, mki=b"\x00\x02")]
    receiver = Receiver(SUITE, keys)
    one, two = (Sender(SUITE, known) for known in keys)
    assert receiver.rtp(sent(one, 1), 0.0) == rtp(1)
    assert receiver.rtp(sent(two, 2), 0.0) == rtp(2)
    assert receiver.rtp(sent(Sender(SUITE, key(seed=2, mki=b"\x00\x03")), 3), 0.0) is None
    assert receiver.rtp(sent(Sender(SUITE, key(seed=2)), 3), 0.0) is None, "no identifier"


def test_the_same_keys_again_leave_the_contexts_alone() -> None:
    sender, receiver = Sender(SUITE, key()), Receiver(SUITE, [key()])
    first = sent(sender, 1)
    assert receiver.rtp(first, 0.0) is not None
    receiver.rekey(SUITE, [key()], 1.0)
    assert receiver.rtp(first, 1.0) is None, "still a replay"
    assert receiver.rtp(sent(sender, 2), 1.0) is not None


@pytest.mark.parametrize("rolls_on", [False, True])
def test_a_new_key_counts_at_once_and_the_old_one_a_little_longer(rolls_on: bool) -> None:
    """RFC 4568 7.1.4; RFC 3711 3.3.1: peers start the rollover counter again or keep it."""
    old = Sender(SUITE, key(seed=1))
    receiver = Receiver(SUITE, [key(seed=1)])
    for sequence in range(65530, 65560):
        assert receiver.rtp(sent(old, sequence), 0.0) is not None
    receiver.rekey("AEAD_AES_128_GCM", [key("AEAD_AES_128_GCM", 2)], 10.0)
    assert receiver.rtp(sent(old, 65560), 10.1) is not None, "was under way"
    new = Sender("AEAD_AES_128_GCM", key("AEAD_AES_128_GCM", 2), after=old if rolls_on else None)
    for sequence in range(65561, 65570):
        assert receiver.rtp(sent(new, sequence), 10.2) == rtp(sequence)
    assert new.index == (65569 if rolls_on else 65569 & 0xFFFF)
    assert receiver.rtp(sent(old, 65561), 10.0 + KEPT_AFTER_REKEY) is None
    assert receiver.rtp(sent(new, 65570), 11 + KEPT_AFTER_REKEY) is not None


def test_a_new_key_is_known_though_first_heard_after_a_long_hold() -> None:
    old = Sender(SUITE, key(seed=1))
    receiver = Receiver(SUITE, [key(seed=1)])
    for sequence in range(65530, 65560):
        receiver.rtp(sent(old, sequence), 0.0)
    receiver.rekey(SUITE, [key(seed=2)], 10.0)
    new = Sender(SUITE, key(seed=2), after=old)
    assert receiver.rtp(sent(new, 65560), 1000.0) == rtp(65560)


def test_a_report_under_a_new_key_passes_once() -> None:
    """RFC 3711 3.3.2, while it is not decided whether the rollover counter goes on."""
    old = Sender(SUITE, key(seed=1))
    receiver = Receiver(SUITE, [key(seed=1)])
    for sequence in range(65530, 65540):
        assert receiver.rtp(sent(old, sequence), 0.0) is not None
    receiver.rekey(SUITE, [key(seed=2)], 0.0)
    control = Sender(SUITE, key(seed=2), after=old).rtcp(SR)
    assert control is not None
    assert receiver.rtcp(control, 0.0) == SR
    assert receiver.rtcp(control, 0.0) is None


def test_no_index_is_used_twice_when_a_part_of_the_stream_went_out_unprotected() -> None:
    """RFC 3711 9.1: a two-time pad would give both packets away."""
    sender = Sender(SUITE, key())
    sent(sender, 10)
    before = sender.index
    data = sender.rtp(rtp(10 + 0xF000))
    assert data is not None
    assert sender.index == before + 0xF000
    assert sender.rtp(rtp(5)) is not None
    assert sender.index == 65541
    assert sender.failures == 0


@given(data=st.binary(max_size=1600), cut=st.integers(0, 200), flip=st.integers(0, 1999))
@settings(max_examples=150, deadline=None)
def test_nothing_that_comes_raises(data: bytes, cut: int, flip: int) -> None:
    """Row 88. RFC 3550 A.1: also header lengths that run past the end, before any check."""
    for suite in ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM"):
        for mki in (b"", b"\x01"):
            receiver = Receiver(suite, [key(suite, mki=mki)])
            good = sent(Sender(suite, key(suite, mki=mki)), 1)
            damaged = bytearray(good[: len(good) - cut] if cut else good)
            if damaged:
                damaged[flip % len(damaged)] ^= 1 << flip % 8
            for one in (data, bytes(damaged), b"\xbf" + data):
                assert receiver.rtp(one, 0.0) is None
                assert receiver.rtcp(one, 0.0) is None
