"""The carrier's own SDES: two of them talk, and a wrong answer is noticed."""

from __future__ import annotations

import base64
import io
import struct

import pytest

from bridge.carrier import command
from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from bridge.carrier.secure import PROFILES, Sdes, Srtp, read_line

pytestmark = pytest.mark.unit

SUITE = "AES_CM_128_HMAC_SHA1_80"


def packet(sequence: int) -> bytes:
    return struct.pack("!BBHII", 0x80, 8, sequence, 160 * sequence, 7) + b"\xd5" * 160


@pytest.mark.parametrize("suite", PROFILES)
@pytest.mark.parametrize("mki", [False, True])
def test_two_sides_open_what_the_other_protects_also_after_a_new_key(suite: str, mki: bool) -> None:
    caller = Sdes("required", tuple(PROFILES), mki=mki)
    callee = Sdes("required", (suite,), mki=False)
    for turn in range(2):
        offer = caller.offer()
        answer = callee.answer(offer)
        assert caller.faults(answer, "RTP/SAVP") == []
        callee.agree(offer)
        caller.agree(answer)
        for sequence in range(3):
            data = caller.protect(packet(sequence))
            assert data[12:] != packet(sequence)[12:]
            assert callee.open(data) == packet(sequence)
            assert caller.open(callee.protect(packet(9 + 9 * turn + sequence))) is not None
        assert callee.open(packet(5)) is None
        caller.rekey()
    assert callee.unauthentic == 2


def test_a_wrong_answer_is_said_to_be_wrong() -> None:
    ours = Sdes("required", (SUITE,), mki=False)
    (offered,) = ours.offer()
    theirs = f"1 {SUITE} inline:{base64.b64encode(bytes(30)).decode()}"
    assert ours.faults([theirs], "RTP/SAVP") == []
    assert ours.faults([], "RTP/SAVP") == ["has no key for SRTP"]
    assert ours.faults([offered], "RTP/SAVP") == ["has our own key"]
    assert ours.faults(["2" + theirs[1:]], "RTP/SAVP") == ["has a crypto line that was not offered"]
    assert ours.faults([theirs, theirs], "RTP/SAVP") == ["has 2 crypto lines, one expected"]
    assert ours.faults([theirs], "RTP/AVP") == ["is RTP/AVP, RTP/SAVP expected"]
    assert Sdes("off", (SUITE,), mki=False).faults([theirs], "RTP/AVP") == [
        "has a key for SRTP that nobody asked for"
    ]


def test_a_line_is_read_with_its_identifier_and_rubbish_is_not() -> None:
    key = base64.b64encode(bytes(30)).decode()
    line = read_line(f"3 {SUITE} inline:{key}|2^31|1:4 WSH=64")
    assert line is not None
    assert (line.tag, line.mki) == (3, b"\0\0\0\1")
    for text in ("", f"3 {SUITE} inline:AAAA", f"3 NONE inline:{key}", f"x {SUITE} inline:{key}"):
        assert read_line(text) is None


@pytest.mark.parametrize("policy", ["optional", "required"])
async def test_two_carriers_call_each_other_in_srtp_with_hold_new_keys_and_a_new_port(
    policy: Srtp,
) -> None:
    protected = Behaviour(srtp=policy, mki=True)
    async with Carrier(default="answer; talk; stay", behaviour=protected) as callee:
        async with Carrier(behaviour=protected) as caller:
            report = await caller.call(
                f"sip:9@127.0.0.1:{callee.port};transport=tcp",
                "talk; expect audio within 5s; expect srtp; hold sendonly; resume; rekey;"
                f"expect srtp {SUITE} within 5s; move; expect audio within 5s; dtmf 5; hangup",
            )
        await callee.settled()
        assert report.failed is None
        assert (report.media.srtp, report.media.unauthentic) == (SUITE, 0)
        assert callee.reports[0].media.digits == "5"


async def test_who_requires_srtp_notices_an_answer_without_it() -> None:
    async with (
        Carrier(default="answer; stay") as callee,
        Carrier(behaviour=Behaviour(srtp="required")) as caller,
    ):
        to = f"sip:9@127.0.0.1:{callee.port};transport=tcp"
        report = await caller.call(to, "wait 100ms; hangup")
    assert report.violations == ["the answer to our INVITE has no key for SRTP"]


async def test_an_unknown_policy_is_wrong_usage() -> None:
    out = io.StringIO()
    assert await command.run(listen="127.0.0.1:0", srtp="perhaps", out=out) == 2
    assert "srtp is off, optional or required" in out.getvalue()
