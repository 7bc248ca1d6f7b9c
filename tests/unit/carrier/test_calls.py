"""Two carriers call each other over loopback: scripts, media, holds, and that wrong peers fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from bridge.carrier.steps import HOLD_DIALECTS

pytestmark = pytest.mark.unit

STAY = "answer; tone 1000; stay"


@dataclass
class Pair:
    """The carrier that dials and the one that answers."""

    caller: Carrier
    callee: Carrier

    def address(self, number: str = "100", transport: str = "tcp") -> str:
        return f"sip:{number}@127.0.0.1:{self.callee.port};transport={transport}"

    async def call(self, script: str, number: str = "100", transport: str = "tcp") -> str | None:
        report = await self.caller.call(self.address(number, transport), script)
        await self.callee.settled(5)
        return report.failed


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    scripts = {
        "100": STAY,
        "101": "answer after 200ms; tone 1000; expect audio 440 within 3s; stay",
        "486": "busy",
        "603": "decline",
        "404": "reject 404 cause 1",
        "302": "redirect 302 12345",
        "480": "no answer after 100ms",
        "487": "no answer",
        "183": "early media 425 400ms; answer; stay",
    }
    async with Carrier(scripts=scripts) as callee, Carrier() as caller:
        yield Pair(caller, callee)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_call_carries_sound_both_ways_and_ends(pair: Pair, transport: str) -> None:
    failed = await pair.call(
        "talk; expect audio 1000 within 3s; expect answer sendrecv; wait 300ms; hangup cause 16",
        "101",
        transport,
    )
    assert failed is None
    [answered] = pair.callee.reports
    assert answered.failed is None
    assert (answered.ended_by, answered.cause, answered.answered) == ("them", 16, True)
    [dialled] = pair.caller.reports
    assert dialled.media.ssrcs == 1
    assert dialled.media.timestamp_faults == 0
    assert dialled.media.codecs == ("PCMA",)
    assert dialled.media.audio_packets > 10


async def test_the_wrong_tone_is_noticed(pair: Pair) -> None:
    failed = await pair.call("expect audio 700 within 500ms")
    assert failed == 'step 1 "expect audio 700 within 500ms": no 700 Hz within 0.5s'


async def test_every_hold_dialect_silences_the_far_end_and_resume_brings_it_back(
    pair: Pair,
) -> None:
    """All dialects at once: each holds for a while without any RTP, then hears again."""

    async def held(dialect: str) -> str | None:
        script = (
            f"expect audio 1000 within 5s; hold {dialect} 300ms; resume; "
            "expect audio 1000 within 5s"
        )
        return (await pair.caller.call(pair.address(), script)).failed

    failed = await asyncio.gather(*(held(dialect) for dialect in HOLD_DIALECTS))
    wrong = {name: why for name, why in zip(HOLD_DIALECTS, failed, strict=True) if why}
    assert wrong == {}
    await pair.callee.settled(5)
    assert [report.failed for report in pair.callee.reports] == [None] * len(HOLD_DIALECTS)


@pytest.mark.parametrize("resume", ["offerless", "update", "no-direction", "on new connection"])
async def test_every_resume_brings_the_sound_back(pair: Pair, resume: str) -> None:
    script = f"hold sendonly on new connection; resume {resume}; expect audio 1000 within 2s"
    assert await pair.call(script) is None


async def test_keys_arrive_once_each_in_both_carriages(pair: Pair) -> None:
    pair.callee._scripts.clear()
    task = asyncio.create_task(pair.call("dtmf 12#; dtmf 9 by info; expect hangup within 5s"))
    leg = await pair.callee.incoming()
    await leg.run("answer; expect dtmf 12#; expect dtmf 9; hangup")
    assert leg.report.failed is None
    assert leg.report.media.digit_ms == (160, 160, 160)
    assert await task is None


async def test_wrong_keys_are_noticed(pair: Pair) -> None:
    pair.callee._scripts.clear()
    task = asyncio.create_task(pair.call("dtmf 12#; expect hangup within 5s"))
    leg = await pair.callee.incoming()
    await leg.run("answer; expect dtmf 13# within 3s")
    assert leg.report.failed == (
        'step 2 "expect dtmf 13# within 3s": the keys heard are "12#", "13#" expected'
    )
    await task


async def test_a_peer_that_answers_a_hold_with_sendrecv_fails_the_script() -> None:
    wrong = Behaviour(answers="sendrecv")
    async with Carrier(default=STAY, behaviour=wrong) as callee, Carrier() as caller:
        to = f"sip:1@127.0.0.1:{callee.port}"
        report = await caller.call(to, "hold sendonly")
        assert report.failed == (
            'step 1 "hold sendonly": the answer says sendrecv, recvonly expected'
        )
        assert report.ended_by == "us"


async def test_a_peer_that_talks_while_held_fails_the_script() -> None:
    wrong = Behaviour(deaf_to_hold=True)
    async with Carrier(default=STAY, behaviour=wrong) as callee, Carrier() as caller:
        report = await caller.call(f"sip:1@127.0.0.1:{callee.port}", "hold inactive 300ms")
        assert report.failed == 'step 1 "hold inactive 300ms": RTP came while held'


@pytest.mark.parametrize(
    ("number", "status"),
    [("486", 486), ("603", 603), ("404", 404), ("302", 302), ("480", 480)],
)
async def test_refusals_arrive_with_their_status(pair: Pair, number: str, status: int) -> None:
    assert await pair.call(f"expect status {status}", number) is None
    report = pair.callee.reports[0]
    assert report.failed is None
    assert not report.answered


async def test_a_refused_call_fails_a_script_that_wants_to_talk(pair: Pair) -> None:
    assert await pair.call("talk 1s", "486") == ('step 1 "talk 1s": the call was refused with 486')


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_cancelled_call_ends_with_487(pair: Pair, transport: str) -> None:
    script = "expect status 180; cancel; expect status 487"
    assert await pair.call(script, "487", transport) is None
    report = pair.callee.reports[0]
    assert report.failed is None
    assert report.cancelled


async def test_early_media_is_heard_before_the_answer(pair: Pair) -> None:
    assert await pair.call("expect status 183; expect audio 425 within 1s", "183") is None


async def test_the_session_moves_to_another_port(pair: Pair) -> None:
    failed = await pair.call(
        "expect audio 1000 within 2s; move; expect audio 1000 within 2s; wait 700ms"
    )
    assert failed is None
    assert pair.caller.reports[0].media.old_port == 0


async def test_a_closed_connection_does_not_end_the_call(pair: Pair) -> None:
    failed = await pair.call(
        "expect audio 1000 within 2s; close connection; expect audio 1000 within 2s; hangup"
    )
    assert failed is None
    assert pair.callee.reports[0].ended_by == "them"


async def test_a_hang_up_of_the_far_end_fails_a_script_that_goes_on(pair: Pair) -> None:
    pair.callee._scripts["5"] = ()
    failed = await pair.call("talk 5s", "5")
    assert failed == 'step 1 "talk 5s": the call was refused with 480'


async def test_a_delayed_offer_is_answered_in_the_ack(pair: Pair) -> None:
    assert await pair.call("invite offerless; expect audio 1000 within 3s") is None
    lines = [(seen.first_line.split()[0], seen.sdp) for seen in pair.caller.reports[0].ladder]
    assert lines[0] == ("INVITE", None)
    assert ("ACK", "sendrecv") in lines


@pytest.mark.parametrize(("body", "direction"), [("sendonly", "recvonly"), ("no-media", "port0")])
async def test_a_call_may_begin_held(pair: Pair, body: str, direction: str) -> None:
    script = f"invite {body}; talk 100ms; expect answer {direction}; expect silence 200ms; resume"
    assert await pair.call(f"{script}; expect audio 1000 within 2s") is None


async def test_loss_and_jitter_are_made_and_measured(pair: Pair) -> None:
    pair.callee._scripts.clear()
    call = asyncio.create_task(pair.call("loss 30%; jitter 10ms; talk 1s; hangup"))
    leg = await pair.callee.incoming()
    await leg.run("answer; stay")
    await call
    media = leg.report.media
    assert 2 < media.lost < 40
    assert media.deviation_p95 > 2.0


async def test_many_calls_at_once(pair: Pair) -> None:
    script = "expect audio 1000 within 5s; hold sendonly 200ms; resume; hangup"
    reports = await asyncio.gather(*(pair.caller.call(pair.address(), script) for _ in range(20)))
    assert [report.failed for report in reports] == [None] * 20
    await pair.callee.settled(5)
    assert [report.failed for report in pair.callee.reports] == [None] * 20


async def test_a_hold_by_the_far_end_is_expected_and_obeyed(pair: Pair) -> None:
    pair.callee._scripts.clear()
    call = asyncio.create_task(
        pair.call("talk; expect reinvite sendonly within 5s; expect reinvite sendrecv; stay")
    )
    leg = await pair.callee.incoming()
    await leg.run("answer; expect audio 440; hold sendonly 300ms; resume; expect audio 440; hangup")
    assert leg.report.failed is None
    assert await call is None


async def test_a_peer_that_never_answers_fails_the_leg_in_time() -> None:
    impatient = Behaviour(answer_timeout=0.1, step_timeout=0.1)
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Carrier(behaviour=impatient) as caller:
        report = await caller.call(f"sip:1@127.0.0.1:{port}", "talk 1s")
    assert report.failed == 'step 1 "talk 1s": the call was not answered'
    await gone.wait()
    server.close()
    await server.wait_closed()


async def test_rtp_before_the_ack_fails_the_leg(pair: Pair) -> None:
    """A caller that talks as soon as it hears early media breaks the gate."""
    pair.callee._scripts.clear()
    call = asyncio.create_task(pair.call("expect status 183; wait 300ms; stay"))
    leg = await pair.callee.incoming()
    await leg.run("early media 425 100ms")
    [early] = pair.caller._legs.values()
    early.early = True
    early.apply_media()
    await leg.run("expect rtp within 2s; wait 100ms; answer")
    assert leg.report.failed is not None
    assert leg.report.failed.endswith("RTP packets came before the call was answered")
    await call


async def test_a_fax_offer_that_is_answered_with_200_is_noticed(pair: Pair) -> None:
    """Our callee answers T.38 with port 0 and 200; a script that wants 488 notices."""
    failed = await pair.call("expect audio 1000 within 3s; reinvite t38")
    assert failed == 'step 2 "reinvite t38": answered 200 OK, 488 expected'


FAILING = {
    "expect quiet 300ms": "there was sound",
    "expect silence 300ms": "RTP came during the expected silence",
    "expect hangup within 200ms": "the far end did not hang up within 0.2s",
    "expect dtmf 1 within 200ms": 'the keys heard are "", "1" expected',
    "expect answer recvonly": "the SDP says sendrecv, recvonly expected",
    "expect status 183": "answered 200 OK, 183 expected",
    "expect reinvite within 200ms": "no REINVITE within 0.2s",
    "expect header X-A": "the far end sent no request",
    "hold inactive; expect rtp within 200ms": "no RTP within 0.2s",
    "talk 100ms; expect version same": "there are no two SDP versions to compare",
    "answer": "only a called leg can do this",
    "play nowhere.wav": "[Errno 2] No such file or directory: 'nowhere.wav'",
}
PASSING = (
    "expect status 200; hold inactive; expect quiet 300ms; expect silence 300ms",
    "talk 100ms; reinvite; expect version +1; expect answer sendrecv",
    "reinvite recvonly; expect answer sendonly; options; reinvite update",
    "hold sendonly; expect answer recvonly; hold no-media; expect answer port0",
    "talk 200ms; rtp off; stay 100ms; rtp on; expect rtp",
)


async def test_every_expectation_can_fail(pair: Pair) -> None:
    async def failure(script: str) -> str | None:
        return (await pair.caller.call(pair.address(), f"expect audio; {script}")).failed

    found = await asyncio.gather(*(failure(script) for script in FAILING))
    for reason, wanted in zip(found, FAILING.values(), strict=True):
        assert reason is not None
        assert reason.endswith(wanted)


async def test_the_same_expectations_can_hold(pair: Pair) -> None:
    reports = await asyncio.gather(
        *(pair.caller.call(pair.address(), f"expect audio; {script}") for script in PASSING)
    )
    assert [report.failed for report in reports] == [None] * len(PASSING)


async def test_a_call_gets_through_though_a_fifth_of_the_datagrams_is_lost() -> None:
    """RFC 3261 17: requests and 2xx are sent again until they are answered."""
    patient = Behaviour(overtaking=60)  # RTP may well be there before a lost 200 or ACK
    async with (
        Carrier(default="answer; expect hangup within 60s", behaviour=patient) as callee,
        Carrier(datagram_loss=0.2, behaviour=patient) as caller,
    ):
        report = await caller.call(
            f"sip:100@127.0.0.1:{callee.port};transport=udp", "talk 100ms; hangup"
        )
        assert report.failed is None
        await callee.settled()
        assert [one.failed for one in callee.reports] == [None]
