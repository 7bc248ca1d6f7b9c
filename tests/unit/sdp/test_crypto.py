"""``a=crypto``: what is read, what is written, what is of no use; and keys that stay secret."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.crypto import (
    MAX_KEYS,
    MAX_LINES,
    SUITES,
    CryptoLine,
    MasterKey,
    SrtpPolicy,
    choose_crypto,
    crypto_attribute,
    crypto_lines,
    protection,
    read_crypto,
)
from sdp.model import Attribute, MediaDescription

pytestmark = pytest.mark.unit

KEY = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
SUITE = "AES_CM_128_HMAC_SHA1_80"
START = f"1 {SUITE} inline:{KEY}"
GCM = b64encode(bytes(range(28))).decode()


def test_the_example_of_the_rfc_is_read() -> None:
    """Row 68. RFC 4568 10.2 in kind: key, lifetime and MKI."""
    line = read_crypto(f"1 {SUITE} inline:{KEY}|2^20|1:4")
    assert line is not None
    assert (line.tag, line.suite) == (1, SUITE)
    (key,) = line.keys
    assert len(key.secret) == 30
    assert (key.mki, key.lifetime) == (b"\0\0\0\1", 1 << 20)


@pytest.mark.parametrize(
    ("text", "lifetime", "mki"),
    [
        (START, None, b""),
        (f"{START}|2^48", 1 << 48, b""),
        (f"{START}|1048576", 1 << 20, b""),
        (f"{START}|71:1", None, b"\x47"),
        (f"{START}|2^31|1:128", 1 << 31, bytes(127) + b"\1"),
        (START.lower().replace(KEY.lower(), KEY), None, b""),
        (START.replace("inline", "INLINE"), None, b""),
        (f"  {START}   ", None, b""),
        (f"{START} WSH=64", None, b""),
        (f"{START} -UNKNOWN=1 -FEC", None, b""),
        (START.replace("1 ", "000000001 ", 1), None, b""),
    ],
)
def test_every_way_to_write_a_usable_line_is_read(
    text: str, lifetime: int | None, mki: bytes
) -> None:
    """Row 68. RFC 4568 9.1, 9.2: lifetime, MKI, letter case, optional parameters."""
    line = read_crypto(text)
    assert line is not None
    assert line.tag == 1
    assert line.suite == SUITE
    assert [(key.lifetime, key.mki) for key in line.keys] == [(lifetime, mki)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        f"1 {SUITE}",
        f"x {SUITE} inline:{KEY}",
        f"1234567890 {SUITE} inline:{KEY}",
        f"1 F8_128_HMAC_SHA1_80 inline:{KEY}",
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{b64encode(bytes(46)).decode()}",
        f"1 AES_192_CM_HMAC_SHA1_80 inline:{b64encode(bytes(38)).decode()}",
        f"1 NULL_HMAC_SHA1_80 inline:{KEY}",
        f"1 {SUITE} outline:{KEY}",
        f"1 {SUITE} {KEY}",
        f"1 {SUITE} inline:{KEY[:-1]}",
        f"1 {SUITE} inline:{KEY}AAAA",
        f"1 {SUITE} inline:{KEY[:-1]}!",
        f"1 {SUITE} inline:{GCM}",
        f"1 {SUITE} inline:{KEY[:-1]}\N{LATIN SMALL LETTER E WITH ACUTE}",
        f"{START}|2^49",
        f"{START}|2^",
        f"{START}|0",
        f"{START}|281474976710657",
        f"{START}|-1",
        f"{START}|1:0",
        f"{START}|1:129",
        f"{START}|256:1",
        f"{START}|x:1",
        f"{START}|1:4|2^20",
        f"{START}|2^20|1:4|1",
        f"{START};inline:{KEY}",
        f"{START}|1:4;inline:{KEY}|1:4",
        f"{START}|1:4;inline:{KEY}|2:2",
        ";".join([START, *[f"inline:{KEY}|{n}:1" for n in range(MAX_KEYS)]]),
        f"{START} KDR=10",
        f"{START} UNENCRYPTED_SRTP",
        f"{START} UNENCRYPTED_SRTCP",
        f"{START} UNAUTHENTICATED_SRTP",
        f"{START} FEC_ORDER=FEC_SRTP",
        f"{START} FEC_KEY=inline:{KEY}",
        f"{START} WSH=63",
        f"{START} WSH=x",
        f"{START} SOMETHING_NEW",
    ],
)
def test_a_line_that_asks_for_what_we_do_not_do_is_unusable(text: str) -> None:
    """Row 68. RFC 4568 6.3: a parameter that is not understood rules its line out."""
    assert read_crypto(text) is None


def test_padding_may_be_left_out() -> None:
    for text in (GCM, GCM.rstrip("=")):
        line = read_crypto(f"3 AEAD_AES_128_GCM inline:{text}")
        assert line is not None
        assert line.keys[0].secret == bytes(range(28))


def test_several_keys_are_told_apart_by_their_identifiers() -> None:
    """RFC 4568 6.1: each with an MKI, all of one length."""
    line = read_crypto(f"{START}|2^20|1:4;inline:{KEY}|2^20|2:4")
    assert line is not None
    assert [key.mki for key in line.keys] == [b"\0\0\0\1", b"\0\0\0\2"]


def section(*values: str, name: str = "crypto") -> MediaDescription:
    return MediaDescription(
        media="audio",
        port=4000,
        protocol="RTP/SAVP",
        formats=("8",),
        attributes=tuple(Attribute(name=name, value=value) for value in values),
    )


def test_the_first_usable_line_is_chosen_in_their_order() -> None:
    """RFC 4568 5.1.1: the crypto attributes are in order of preference."""
    media = section(
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{b64encode(bytes(46)).decode()}",
        f"{START.replace('1', '2', 1)} UNENCRYPTED_SRTP",
        f"7 AEAD_AES_128_GCM inline:{GCM}",
        START,
    )
    chosen = choose_crypto(media, tuple(SUITES))
    assert chosen is not None
    assert (chosen.tag, chosen.suite) == (7, "AEAD_AES_128_GCM")
    fallback = choose_crypto(media, (SUITE,))
    assert fallback is not None
    assert fallback.tag == 1
    assert choose_crypto(media, ()) is None
    assert choose_crypto(section(START, name="CRYPTO"), (SUITE,)) is not None


def test_lines_without_end_are_not_read() -> None:
    media = section(*["1 NO_SUITE inline:x"] * MAX_LINES, START)
    assert list(crypto_lines(media)) == []


def test_our_keys_are_what_the_given_source_draws_one_for_each_suite() -> None:
    drawn = iter(range(9))
    sizes = []

    def random(size: int) -> bytes:
        sizes.append(size)
        return bytes((next(drawn),)) * size

    ours = protection(SrtpPolicy.OPTIONAL, random)
    assert sizes == list(SUITES.values())
    assert ours.suites == tuple(SUITES)
    assert len({key.secret for _, key in ours.keys}) == len(SUITES)
    assert protection(SrtpPolicy.OFF, random).keys == ()


def test_no_key_shows_in_a_repr() -> None:
    """Threat 5.1: Privacy. RFC 4568 8: keys stay out of logs, whatever prints them."""
    line = read_crypto(f"{START}|2^20|1:4")
    assert line is not None
    assert KEY[:8] not in repr(line)
    assert repr(line.keys[0].secret) not in repr(line)
    assert "secret" not in repr(protection(SrtpPolicy.REQUIRED, lambda size: b"secret" * size))


LINES = st.builds(
    CryptoLine,
    tag=st.integers(0, 999_999_999),
    suite=st.sampled_from(sorted(SUITES)),
    keys=st.just(()),
).flatmap(
    lambda line: st.builds(
        CryptoLine,
        tag=st.just(line.tag),
        suite=st.just(line.suite),
        keys=st.lists(
            st.builds(
                MasterKey,
                secret=st.binary(min_size=SUITES[line.suite], max_size=SUITES[line.suite]),
                mki=st.binary(min_size=4, max_size=4),
                lifetime=st.none() | st.integers(1, 1 << 48),
            ),
            min_size=1,
            max_size=MAX_KEYS,
            unique_by=lambda key: key.mki,
        ).map(tuple),
    )
)


@given(LINES)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_again(line: CryptoLine) -> None:
    attribute = crypto_attribute(line)
    assert attribute.value is not None
    assert read_crypto(attribute.value) == line


PIECES = st.sampled_from(
    ["1", SUITE, "inline:", KEY, "|", "2^20", ":", "4", ";", " ", "KDR=", "WSH=", "-", "=", "é"]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=20).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_left(text: str) -> None:
    line = read_crypto(text)
    if line is not None:
        attribute = crypto_attribute(line)
        assert attribute.value is not None
        again = read_crypto(attribute.value)
        assert again is not None
        assert again.keys == line.keys
