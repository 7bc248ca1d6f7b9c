"""An offer for a refresh: it says what we said, and its answer changes nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdp.crypto import SrtpPolicy, protection
from sdp.model import Direction
from sdp.negotiate import OfferAnswer
from sdp.negotiated import Hold
from tests.unit.sdp.bodies import (
    LOCAL,
    answered,
    applied,
    body,
    direction,
    lines,
    machine,
    version,
)

pytestmark = pytest.mark.unit


def test_what_we_offered_is_offered_again_byte_by_byte() -> None:
    """Row 63. RFC 3264 8: an unchanged version of ``o=`` means identical SDP."""
    us = machine()
    first = us.offer()
    before = applied(us, body())
    assert us.repeat() == first
    assert us.pending
    assert applied(us, body(version=2)) == before


def test_what_we_answered_is_offered_with_its_one_codec() -> None:
    """A full offer would invite another codec in mid-call; a refresh must not."""
    us = machine()
    answer = answered(us, body(formats="0 8 101"))
    assert us.repeat() == answer.body
    assert applied(us, body(formats="0 101")) == answer.negotiated


@pytest.mark.parametrize("wish", ["sendonly", "inactive"])
def test_while_they_hold_us_our_wish_is_offered_and_their_answer_keeps_the_hold(
    wish: str,
) -> None:
    """Row 65. RFC 6337 5.3."""
    us = machine()
    answered(us, body())
    held = answered(us, body(wish, version=2))
    first = us.repeat()
    assert (direction(first), version(first)) == ("sendrecv", version(held.body) + 1)
    assert applied(us, body(wish, version=2)).hold == Hold(wish)
    assert us.repeat() == first


def test_our_own_hold_is_repeated() -> None:
    us = machine()
    us.offer()
    applied(us, body())
    hold = us.offer(Direction.SENDONLY)
    before = applied(us, body("recvonly"))
    assert us.repeat() == hold
    assert applied(us, body("recvonly")) == before


def test_media_that_was_taken_away_is_offered_anew() -> None:
    us = machine()
    answered(us, body())
    before = answered(us, body(port=0, version=2)).negotiated
    assert lines(us.repeat(), "m") == ["audio 20000 RTP/AVP 8 0 101"]
    assert applied(us, body(port=0, version=2)) == before


def test_a_refused_repetition_leaves_everything_as_it_was() -> None:
    us = machine()
    answered(us, body("sendonly"))
    before = us.snapshot()
    us.repeat()
    us.rollback()
    assert us.snapshot().agreed == before.agreed
    assert not us.pending


@pytest.mark.parametrize("policy", [SrtpPolicy.OPTIONAL, SrtpPolicy.REQUIRED])
def test_the_keys_of_srtp_stay_the_same(policy: SrtpPolicy) -> None:
    numbers = count(1)
    keyed = protection(policy, lambda size: bytes([next(numbers)]) * size)
    ours = machine(replace(LOCAL, protection=keyed))
    theirs = machine(replace(LOCAL, protection=keyed, address="198.51.100.7", session_id=1))
    offer = ours.offer()
    answer = answered(theirs, offer)
    before = applied(ours, answer.body)
    assert before.crypto is not None
    assert ours.repeat() == offer
    again = answered(theirs, offer)
    assert not again.changed
    assert applied(ours, again.body) == before
    mine = theirs.repeat()
    echoed = answered(ours, mine)
    assert not echoed.changed
    assert applied(theirs, echoed.body) == answer.negotiated


steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([Direction.SENDRECV, Direction.SENDONLY, Direction.INACTIVE]),
    ),
    max_size=6,
)


@given(steps=steps, first=st.booleans())
def test_repetitions_between_two_of_us_never_change_anything(
    steps: list[tuple[bool, Direction]], first: bool
) -> None:
    pair = machine(), machine(replace(LOCAL, address="198.51.100.7", session_id=1))
    for offers_first, wish in [(first, Direction.SENDRECV), *steps]:
        one, other = pair if offers_first else pair[::-1]
        applied(one, answered(other, one.offer(wish)).body)
    before = [media_of(us) for us in pair]
    for _ in range(3):
        for one, other in (pair, pair[::-1]):
            applied(one, answered(other, one.repeat()).body)
            assert [media_of(us) for us in pair] == before


def media_of(us: OfferAnswer) -> object:
    """What media does, apart from the codecs we are ready for; of a hold, whether there is one."""
    assert us.active is not None
    held = us.active.hold is not None
    return held, replace(us.active, receive_codecs=(), hold=None)
