"""SRTP in offers and answers: the trunk's policy, profiles, tags, and keys that stay."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.crypto import SUITES, MasterKey, Protection, SrtpPolicy, protection
from sdp.model import Direction
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Hold
from tests.unit.sdp.bodies import LOCAL, answered, applied, body, direction, lines, vector, version

pytestmark = pytest.mark.unit

KEY = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"
OTHER = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
SUITE = "AES_CM_128_HMAC_SHA1_80"
CRYPTO = f"crypto:1 {SUITE} inline:{KEY}"
OURS = protection(SrtpPolicy.REQUIRED, random.Random(1).randbytes)


def machine(policy: SrtpPolicy) -> OfferAnswer:
    keys = () if policy is SrtpPolicy.OFF else OURS.keys
    local = replace(LOCAL, protection=Protection(policy=policy, keys=keys))
    return OfferAnswer(local, destination_allowed=lambda *_: True)


def cryptos(sdp: bytes) -> list[str]:
    return [value for value in lines(sdp, "a") if value.startswith("crypto:")]


def protocol(sdp: bytes) -> str:
    return lines(sdp, "m")[0].split()[2]


def ours(suite: str = SUITE) -> MasterKey:
    return OURS.key(suite)


def savp(*attributes: str, protocol: str = "RTP/SAVP") -> bytes:
    return body(*attributes, protocol=protocol)


PLAIN = body()
OFFERS = {
    "plain": PLAIN,
    "avp with a key": body(CRYPTO),
    "savp": savp(CRYPTO),
    "savpf": savp(CRYPTO, protocol="RTP/SAVPF"),
    "savp without a key": savp(),
    "savp with a suite of no use": savp("crypto:1 F8_128_HMAC_SHA1_80 inline:" + KEY),
    "avp with a suite of no use": body("crypto:1 F8_128_HMAC_SHA1_80 inline:" + KEY),
    "dtls": savp("fingerprint:sha-256 00", protocol="UDP/TLS/RTP/SAVP"),
}
# offer -> what comes of it with srtp off, optional, required: plain, secure, or refused
TAKEN = {
    "plain": ("plain", "plain", "refused"),
    "avp with a key": ("plain", "secure", "secure"),
    "savp": ("refused", "secure", "secure"),
    "savpf": ("refused", "secure", "secure"),
    "savp without a key": ("refused", "refused", "refused"),
    "savp with a suite of no use": ("refused", "refused", "refused"),
    "avp with a suite of no use": ("plain", "plain", "refused"),
    "dtls": ("refused", "refused", "refused"),
}


@pytest.mark.parametrize("name", OFFERS)
@pytest.mark.parametrize("policy", SrtpPolicy)
def test_every_offer_is_taken_as_the_trunk_wants_it(policy: SrtpPolicy, name: str) -> None:
    """Row 68. RFC 4568 5.1.2, RFC 8643: profiles mirrored, the tag echoed, our own key."""
    wanted = TAKEN[name][list(SrtpPolicy).index(policy)]
    result = machine(policy).receive_offer(OFFERS[name])
    if wanted == "refused":
        assert isinstance(result, Rejected)
        assert result.status == 488
        return
    assert isinstance(result, Answer)
    assert protocol(result.body) == protocol(OFFERS[name])
    if wanted == "plain":
        assert cryptos(result.body) == []
        assert result.negotiated.crypto is None
        return
    (line,) = cryptos(result.body)
    assert line.startswith(f"crypto:1 {SUITE} inline:")
    assert KEY not in line
    crypto = result.negotiated.crypto
    assert crypto is not None
    assert crypto.send == ours()
    assert len(crypto.receive[0].secret) == 30


def test_the_tag_of_the_line_that_was_chosen_is_echoed() -> None:
    """RFC 4568 5.1.2: the tag and suite of the accepted attribute MUST be used."""
    offer = savp(
        f"crypto:5 AES_256_CM_HMAC_SHA1_80 inline:{KEY}",
        f"crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^31|1:4",
        f"crypto:2 {SUITE} inline:{KEY}",
    )
    result = answered(machine(SrtpPolicy.OPTIONAL), offer)
    (line,) = cryptos(result.body)
    assert line.startswith("crypto:9 AES_CM_128_HMAC_SHA1_32 ")
    crypto = result.negotiated.crypto
    assert crypto is not None
    assert crypto.receive[0].mki == b"\0\0\0\1"


def test_of_two_audio_lines_the_one_that_can_be_protected_is_taken() -> None:
    """Rows 60, 68. FreeSWITCH offers RTP/SAVP and RTP/AVP on one port."""
    crypto = f"a={CRYPTO}"
    both = body(after=f"m=audio 4000 RTP/SAVP 8 101\n{crypto}")
    secure = answered(machine(SrtpPolicy.OPTIONAL), both)
    assert [line.split()[1] for line in lines(secure.body, "m")] == ["0", "20000"]
    assert secure.negotiated.crypto is not None
    plain = answered(machine(SrtpPolicy.OFF), both)
    assert [line.split()[1] for line in lines(plain.body, "m")] == ["20000", "0"]
    assert answered(machine(SrtpPolicy.REQUIRED), vector("exotel-srtp-offer")).negotiated.crypto


def test_our_offer_has_every_suite_and_only_required_needs_srtp() -> None:
    """Failure 7.2: optional SRTP offers SAVP."""
    for policy, profile in ((SrtpPolicy.OPTIONAL, "RTP/AVP"), (SrtpPolicy.REQUIRED, "RTP/SAVP")):
        offer = machine(policy).offer()
        assert protocol(offer) == profile
        tags = [line.split()[0] for line in cryptos(offer)]
        assert tags == [f"crypto:{tag}" for tag in range(1, len(SUITES) + 1)]
        assert [line.split()[1] for line in cryptos(offer)] == list(SUITES)
        assert len(set(cryptos(offer))) == len(SUITES)
    assert cryptos(machine(SrtpPolicy.OFF).offer()) == []


@pytest.mark.parametrize(
    ("policy", "answer", "settled"),
    [
        (SrtpPolicy.OPTIONAL, body(), "plain"),
        (SrtpPolicy.OPTIONAL, body(CRYPTO), "secure"),
        (SrtpPolicy.OPTIONAL, savp(CRYPTO), "secure"),
        (SrtpPolicy.OPTIONAL, savp(), "refused"),
        (SrtpPolicy.REQUIRED, body(), "refused"),
        (SrtpPolicy.REQUIRED, savp(), "refused"),
        (SrtpPolicy.REQUIRED, savp(CRYPTO), "secure"),
        (SrtpPolicy.REQUIRED, savp("crypto:1 F8_128_HMAC_SHA1_80 inline:" + KEY), "refused"),
        (SrtpPolicy.OFF, body(CRYPTO), "plain"),
        (SrtpPolicy.OFF, savp(CRYPTO), "refused"),
    ],
)
def test_every_answer_settles_what_it_can(policy: SrtpPolicy, answer: bytes, settled: str) -> None:
    """Row 68. RFC 4568 5.1.3, RFC 8643 3.3."""
    subject = machine(policy)
    subject.offer()
    result = subject.receive_answer(answer)
    if settled == "refused":
        assert isinstance(result, Rejected)
        return
    assert not isinstance(result, Rejected)
    assert (result.crypto is not None) is (settled == "secure")
    if result.crypto is not None:
        assert result.crypto.send == ours()


def test_a_refresh_and_a_hold_keep_both_keys() -> None:
    """Rows 65, 68. The same key again must not start a rollover counter over."""
    subject = machine(SrtpPolicy.REQUIRED)
    first = answered(subject, savp(CRYPTO))
    again = answered(subject, savp(CRYPTO))
    assert (again.body, again.changed) == (first.body, False)
    held = answered(subject, savp(CRYPTO, "sendonly"))
    assert held.negotiated.hold is Hold.SENDONLY
    assert held.negotiated.crypto == first.negotiated.crypto
    assert cryptos(held.body) == cryptos(first.body)
    resumed = answered(subject, savp(CRYPTO))
    assert resumed.negotiated == first.negotiated
    # No media for a while, then back: still the same keys.
    answered(subject, body(CRYPTO, port=0, protocol="RTP/SAVP"))
    assert answered(subject, savp(CRYPTO)).negotiated == first.negotiated


def test_a_new_key_of_theirs_is_taken_and_ours_stays() -> None:
    """RFC 4568 7.1.4."""
    subject = machine(SrtpPolicy.REQUIRED)
    first = answered(subject, savp(CRYPTO))
    second = answered(subject, savp(f"crypto:1 {SUITE} inline:{OTHER}"))
    assert second.changed
    assert first.negotiated.crypto is not None
    assert second.negotiated.crypto is not None
    assert second.negotiated.crypto.send == first.negotiated.crypto.send
    assert second.negotiated.crypto.receive != first.negotiated.crypto.receive
    assert cryptos(second.body) == cryptos(first.body)


@pytest.mark.parametrize("policy", [SrtpPolicy.OPTIONAL, SrtpPolicy.REQUIRED])
@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_our_later_offers_have_the_line_in_force_alone(policy: SrtpPolicy, first: str) -> None:
    """Row 70. Our hold and resume: the same tag and key, the same profile."""
    subject = machine(policy)
    theirs = savp(f"crypto:4 {SUITE} inline:{KEY}")
    if first == "theirs":
        before = cryptos(answered(subject, theirs).body)
    else:
        offer = subject.offer()
        before = cryptos(offer)[:1]
        theirs = body(CRYPTO, protocol=protocol(offer))
        applied(subject, theirs)
    agreed = subject.active
    assert agreed is not None
    held = subject.offer(Direction.SENDONLY)
    assert cryptos(held) == before
    assert protocol(held) == protocol(theirs)
    assert applied(subject, theirs.replace(b"a=rtpmap", b"a=recvonly\r\na=rtpmap", 1))
    subject.offer()
    assert applied(subject, theirs).crypto == agreed.crypto


def test_a_session_that_settled_on_plain_rtp_offers_no_keys_again() -> None:
    subject = machine(SrtpPolicy.OPTIONAL)
    subject.offer()
    applied(subject, PLAIN)
    assert cryptos(subject.offer()) == []


def test_an_offer_that_repeats_their_answer_is_answered_with_one_line() -> None:
    """Rows 63, 68. Our offer of four lines, said again as an answer, has the one of theirs."""
    subject = machine(SrtpPolicy.REQUIRED)
    offer = subject.offer()
    theirs = savp(CRYPTO)
    settled = applied(subject, theirs)
    again = answered(subject, theirs)
    assert cryptos(again.body) == cryptos(offer)[:1]
    assert again.negotiated == settled
    assert not again.changed
    assert version(again.body) == version(offer) + 1
    assert answered(subject, theirs).body == again.body


def test_what_is_refused_leaves_the_keys_as_they_were() -> None:
    """Row 67. RFC 3264 8: a refused offer changes nothing."""
    subject = machine(SrtpPolicy.REQUIRED)
    first = answered(subject, savp(CRYPTO))
    for bad in (PLAIN, savp(), savp("crypto:1 NO_SUITE inline:x")):
        assert isinstance(subject.receive_offer(bad), Rejected)
    assert subject.active == first.negotiated
    offer = subject.offer()
    assert isinstance(subject.receive_answer(PLAIN), Rejected)
    subject.rollback()
    assert subject.active == first.negotiated
    assert subject.offer() == offer


def test_a_snapshot_goes_on_with_the_same_keys() -> None:
    subject = machine(SrtpPolicy.REQUIRED)
    first = answered(subject, savp(CRYPTO))
    restored = OfferAnswer.restore(subject.snapshot(), destination_allowed=lambda *_: True)
    assert answered(restored, savp(CRYPTO)).body == first.body


POLICIES = st.sampled_from(list(SrtpPolicy))
TURNS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(list(Direction)), st.booleans()), max_size=8
)


@given(POLICIES, POLICIES, TURNS)
@settings(max_examples=80, deadline=None)
def test_two_of_us_agree_on_keys_or_on_none(
    one: SrtpPolicy, two: SrtpPolicy, turns: list[tuple[bool, Direction, bool]]
) -> None:
    """Whatever is offered, held and refused: each opens with what the other protects with."""
    sides = []
    for number, policy in enumerate((one, two)):
        mine = protection(policy, random.Random(number).randbytes)
        local = replace(LOCAL, protection=mine, port=20000 + 2 * number, session_id=number)
        sides.append(OfferAnswer(local, destination_allowed=lambda *_: True))
    for turn, wanted, refuse in [(False, Direction.SENDRECV, False), *turns]:
        offerer, answerer = (sides[1], sides[0]) if turn else (sides[0], sides[1])
        result = answerer.receive_offer(offerer.offer(wanted)) if not refuse else None
        if not isinstance(result, Answer):
            offerer.rollback()
            continue
        assert not isinstance(offerer.receive_answer(result.body), Rejected)
        assert direction(result.body)
        mine, theirs = offerer.active, answerer.active
        assert mine is not None
        assert theirs is not None
        assert (mine.crypto is None) is (theirs.crypto is None)
        if mine.crypto is not None and theirs.crypto is not None:
            assert mine.crypto.suite == theirs.crypto.suite
            assert mine.crypto.receive == (theirs.crypto.send,)
            assert theirs.crypto.receive == (mine.crypto.send,)
        else:
            assert SrtpPolicy.REQUIRED not in (one, two)
