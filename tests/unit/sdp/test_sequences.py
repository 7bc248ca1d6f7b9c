"""Random calls: invariants at every step, and a snapshot that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.direction import direction_of
from sdp.model import Direction
from sdp.negotiate import Answer, OfferAnswer
from sdp.negotiated import Hold
from sdp.parse import parse
from tests.unit.sdp.bodies import LOCAL, VECTORS, body, machine

pytestmark = pytest.mark.unit

Step = Callable[[OfferAnswer], object]

BODIES = [
    *(path.read_bytes() for path in sorted(VECTORS.glob("*.sdp"))),
    body(),
    body("recvonly"),
    body("sendonly"),
    body("inactive"),
    body(address="0.0.0.0"),
    body(address="::"),
    body(address="6.6.6.6"),
    body(port=0),
    body(after="m=audio 5000 RTP/AVP 0"),
    body(formats="18"),
    b"",
]
bodies = st.sampled_from(BODIES)
steps = st.lists(
    st.one_of(
        st.sampled_from(Direction).map(lambda way: ("offer", way)),
        st.tuples(st.just("receive_offer"), bodies),
        st.tuples(st.just("receive_offer"), bodies),
        st.tuples(st.just("receive_answer"), bodies),
        st.tuples(st.just("early"), bodies),
        st.just(("rollback", None)),
    ),
    max_size=14,
)


def allowed(address: str, port: int) -> bool:
    return address != "6.6.6.6"


def run(us: OfferAnswer, step: tuple[str, object]) -> object:
    match step:
        case ("early", bytes() as text):
            return us.receive_answer(text, early=True)
        case (name, None):
            return getattr(us, name)()
        case (name, argument):
            return getattr(us, name)(argument)
    raise AssertionError(step)


@settings(max_examples=200)
@given(steps)
def test_a_restored_machine_goes_on_as_if_nothing_had_been(
    sequence: list[tuple[str, object]],
) -> None:
    one = OfferAnswer(LOCAL, destination_allowed=allowed)
    for step in sequence:
        other = OfferAnswer.restore(one.snapshot(), destination_allowed=allowed)
        assert run(one, step) == run(other, step)
        assert one.snapshot() == other.snapshot()
        assert (one.active, one.pending, one.wanted) == (other.active, other.pending, other.wanted)


@settings(max_examples=200)
@given(steps)
def test_every_body_of_ours_obeys_the_rules_and_nothing_is_sent_to_nowhere(
    sequence: list[tuple[str, object]],
) -> None:
    us = OfferAnswer(LOCAL, destination_allowed=allowed)
    contents: dict[int, bytes] = {}
    for step in sequence:
        was_pending, before = us.pending, us.active
        result = run(us, step)
        sent = result.body if isinstance(result, Answer) else result
        if isinstance(sent, bytes):
            ours = parse(sent)
            assert ours.origin is not None
            # one version, one content; versions without a gap
            assert contents.setdefault(int(ours.origin.version), sent) == sent
            assert set(contents) == set(range(1, len(contents) + 1))
            assert sum(media.port != 0 for media in ours.media) <= 1
        if isinstance(result, Answer):
            assert not was_pending
            assert isinstance(step[1], bytes)
            theirs = parse(step[1])
            assert result.changed is (result.negotiated != before)
            pairs = list(zip(ours.media, theirs.media, strict=True))
            assert [a.media for a, _ in pairs] == [b.media for _, b in pairs]
            for answer, offer in pairs:
                way, other = direction_of(ours, answer), direction_of(theirs, offer)
                if answer.port:
                    assert offer.port
                    assert answer.protocol == offer.protocol
                    assert set(answer.formats) & set(offer.formats)
                    assert not (way.sends and not other.receives)
                    assert not (way.receives and not other.sends)
        now = us.active
        if now is not None and now.send:
            assert now.hold is None
            assert now.remote_address not in ("", "0.0.0.0", "::", "6.6.6.6")
            assert now.remote_port
        if now is not None and now.hold is Hold.NO_MEDIA:
            assert (now.remote_address, now.remote_port, now.receive) == ("", 0, False)


@given(st.binary(max_size=200), st.sampled_from(BODIES), st.integers(0, 400))
def test_no_bytes_raise_out_of_the_machine(junk: bytes, text: bytes, at: int) -> None:
    us = machine()
    cut = text[:at] + junk + text[at + len(junk) :]
    us.receive_offer(cut)
    us.offer()
    us.receive_answer(cut, early=True)
    us.receive_answer(text)
    us.receive_offer(cut)
