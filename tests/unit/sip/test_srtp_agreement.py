"""Two endpoints with SRTP in random conversation: each holds the key of the other, always."""

from __future__ import annotations

import random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.events import IncomingInvite
from sdp.crypto import SrtpPolicy, protection
from sdp.negotiate import LocalMedia, OfferAnswer
from tests.unit.sip import link
from tests.unit.sip.link import Net
from tests.unit.sip.test_agreement import PATIENCE, A, B, Side, agree, networks, steps

pytestmark = pytest.mark.unit

EXAMPLES = 40


def secure(host: str, port: int = 20000, codecs: tuple[str, ...] = ("PCMA", "PCMU")) -> OfferAnswer:
    """`link.media` for a trunk that requires SRTP, with keys of its own for each host."""
    keys = protection(SrtpPolicy.REQUIRED, random.Random(host).randbytes)
    local = LocalMedia(address=host, port=port, codecs=codecs, session_id=1, protection=keys)
    return OfferAnswer(local, destination_allowed=lambda _address, _port: True)


@settings(max_examples=EXAMPLES, deadline=None)
@given(conversation=steps, network=networks, seed=st.integers(0, 10_000))
def test_whatever_two_ends_say_each_has_the_key_of_the_other(
    conversation: list[tuple[tuple[int, ...], str, float]],
    network: tuple[str, float, float, float],
    seed: int,
) -> None:
    """Rows 65, 68. RFC 4568 7.1.4: holds, glare and refreshes on bad networks change no key."""
    net = Net(seed)
    transport, loss, duplication, jitter = network
    with patch.object(link, "media", secure):
        agents = net.agent(A), net.agent(B)
        agents[1].answers()
        ours = agents[0].dial(B, transport=transport)
        net.run(2)
    both = Side(agents[0], ours), Side(agents[1], agents[1].only(IncomingInvite).session)
    net.loss, net.duplication, net.jitter = loss, duplication, jitter
    keys = None
    for who, verb, pause in conversation:
        if verb == "cut":
            net.cut_all()
        else:
            for side in who:
                both[side].act(verb, net.now)
        net.run(pause)
        for side in both:
            side.hear()
            if side.agreed is not None:
                assert side.agreed.crypto is not None, "never without SRTP"
        told = [None if side.agreed is None else side.agreed.crypto for side in both]
        if None not in told:
            keys = keys or told
            assert told == keys, "no key ever changes"
    net.run(PATIENCE)
    for side in both:
        side.hear()
    agree(*both)
    one, other = (side.agreed.crypto if side.agreed else None for side in both)
    if both[0].alive:
        assert one is not None
        assert other is not None
        assert one.suite == other.suite
        assert (one.receive, other.receive) == ((other.send,), (one.send,))
