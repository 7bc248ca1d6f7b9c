"""Keys of SRTP are not among what a call leaves in the journal."""

from __future__ import annotations

import json

import pytest

from bridge.call.saved import dump, load
from bridge.call.state import restore, snapshot
from sdp.crypto import Crypto, MasterKey
from tests.unit.call.kit import Bench, changed

pytestmark = pytest.mark.unit

CRYPTO = Crypto(
    suite="AES_CM_128_HMAC_SHA1_80",
    send=MasterKey(secret=b"ours ours ours ours ours ours "),
    receive=(MasterKey(secret=b"their their their their their "),),
)


def test_no_key_is_written_to_the_journal_and_the_rest_is_read_again() -> None:
    """Threat 5.1: Privacy. Who has the journal's file cannot open a recorded call with it."""
    bench = Bench().talking().feed(changed(crypto=CRYPTO))
    assert bench.state.negotiated is not None
    assert bench.state.negotiated.crypto == CRYPTO
    text = json.dumps(dump(snapshot(bench.state, bench.now, bench.wall)))
    assert "crypto" not in text
    assert "ours ours" not in text
    assert "their their" not in text
    state = restore(load(json.loads(text)), bench.now, bench.wall)
    assert state.negotiated is not None
    assert state.negotiated.codec == bench.state.negotiated.codec
    assert state.negotiated.crypto is None
