"""Expectations of a script: each waits for what it wants, up to a deadline of its own."""

from __future__ import annotations

import contextlib
import time

from bridge.carrier import refer, steps
from bridge.carrier.call import Leg
from bridge.carrier.exchange import StepFailed
from bridge.carrier.steps import Step

SETTLE = 0.06  # seconds that packets already on their way may take


async def expect(leg: Leg, step: Step) -> None:
    """Check one expectation; raises StepFailed."""
    match step:
        case steps.ExpectAnswer():
            await _expect_answer(leg, step)
        case steps.ExpectVersion():
            _expect_version(leg, step)
        case steps.ExpectAudio():
            await _expect_audio(leg, step)
        case steps.ExpectQuiet():
            await _expect_quiet(leg, step)
        case steps.ExpectSilence():
            await no_rtp(leg, step.seconds, "during the expected silence")
        case steps.ExpectRtp():
            await _expect_rtp(leg, step)
        case steps.ExpectDtmf():
            await _expect_dtmf(leg, step)
        case steps.ExpectSrtp():
            await _expect_srtp(leg, step)
        case steps.ExpectHangup():
            await _expect_hangup(leg, step)
        case steps.ExpectStatus():
            await _expect_status(leg, step)
        case steps.ExpectHeader():
            _expect_header(leg, step)
        case steps.ExpectNotify():
            await refer.expect_notify(leg, step)
        case steps.ExpectRequest():
            await _expect_request(leg, step)
        case _:
            raise StepFailed("the carrier cannot perform this step")


async def _expect_answer(leg: Leg, step: steps.ExpectAnswer) -> None:
    await leg.until(
        lambda: bool(leg.session.theirs) or leg.over, leg.behaviour.answer_timeout, "no SDP came"
    )
    if not leg.session.theirs:
        raise StepFailed("the call ended without an SDP")
    if leg.session.theirs[-1].wording != step.direction:
        raise StepFailed(
            f"the SDP says {leg.session.theirs[-1].wording}, {step.direction} expected"
        )


def _expect_version(leg: Leg, step: steps.ExpectVersion) -> None:
    versions = [body.version for body in leg.session.theirs[-2:]]
    if len(versions) < 2 or versions[0] is None or versions[1] is None:
        raise StepFailed("there are no two SDP versions to compare")
    if versions[1] - versions[0] != step.step:
        raise StepFailed(f"the version went from {versions[0]} to {versions[1]}")


async def _expect_audio(leg: Leg, step: steps.ExpectAudio) -> None:
    since = time.time()
    what = f"{step.hertz} Hz" if step.hertz else "sound"
    await leg.until(
        lambda: leg.media.heard.sounding(since, step.hertz) or leg.over,
        step.within,
        f"no {what} within {step.within:g}s",
    )
    if not leg.media.heard.sounding(since, step.hertz):
        raise StepFailed(f"the call ended before {what} was heard")


async def _expect_quiet(leg: Leg, step: steps.ExpectQuiet) -> None:
    since = time.time() + SETTLE
    heard = leg.media.heard
    try:
        await leg.until(lambda: heard.sounding(since, packets=2) or leg.over, step.seconds, "quiet")
    except StepFailed:
        return
    raise StepFailed("the call ended" if leg.over else "there was sound")


async def no_rtp(leg: Leg, seconds: float, when: str) -> None:
    """Wait *seconds*; raises StepFailed when RTP comes or the call ends."""
    since = time.time() + SETTLE
    heard = leg.media.heard
    try:
        await leg.until(lambda: heard.heard_since(since) or leg.over, seconds, "silent")
    except StepFailed:
        return
    raise StepFailed(f"the call ended {when}" if leg.over else f"RTP came {when}")


async def _expect_rtp(leg: Leg, step: steps.ExpectRtp) -> None:
    since = time.time()
    await leg.until(
        lambda: leg.media.heard.heard_since(since), step.within, f"no RTP within {step.within:g}s"
    )


async def _expect_dtmf(leg: Leg, step: steps.ExpectDtmf) -> None:
    """Expect the next keys, each once, in RFC 4733 or INFO; nothing else between them."""

    def heard() -> str:
        return (leg.media.heard.digits + leg.report.info_digits)[leg.digits_expected :]

    with contextlib.suppress(StepFailed):
        await leg.until(lambda: len(heard()) >= len(step.digits) or leg.over, step.within, "")
    if heard() != step.digits:
        raise StepFailed(f'the keys heard are "{heard()}", "{step.digits}" expected')
    leg.digits_expected += len(step.digits)


async def _expect_srtp(leg: Leg, step: steps.ExpectSrtp) -> None:
    secure, heard = leg.session.secure, leg.media.heard
    if secure.active is None:
        raise StepFailed("there is no SRTP")
    if step.suite is not None and secure.active != step.suite:
        raise StepFailed(f"the suite is {secure.active}, {step.suite} expected")
    since = time.time()
    await leg.until(
        lambda: heard.heard_since(since) or leg.over,
        step.within,
        f"nothing authentic came within {step.within:g}s",
    )


async def _expect_hangup(leg: Leg, step: steps.ExpectHangup) -> None:
    await leg.until(
        lambda: leg.over, step.within, f"the far end did not hang up within {step.within:g}s"
    )
    if not leg.report.answered and not leg.report.cancelled:
        raise StepFailed(f"the call was refused with {leg.report.status}")
    if leg.report.ended_by != "them":
        raise StepFailed("the far end did not hang up, we did")
    if step.cause is not None and leg.report.cause != step.cause:
        raise StepFailed(f"the cause is {leg.report.cause}, {step.cause} expected")


async def _expect_status(leg: Leg, step: steps.ExpectStatus) -> None:
    exchange = leg.last
    if exchange is None:
        raise StepFailed("we sent no request")

    def came() -> bool:
        return any(response.status == step.status for response in exchange.responses)

    await leg.until(
        lambda: came() or exchange.final is not None,
        step.within,
        f"no {step.status} within {step.within:g}s",
    )
    if not came():
        last = exchange.responses[-1]
        raise StepFailed(f"answered {last.status} {last.reason}, {step.status} expected")


def _expect_header(leg: Leg, step: steps.ExpectHeader) -> None:
    request = leg.last_request
    if request is None:
        raise StepFailed("the far end sent no request")
    value = request.headers.get(step.name)
    if value is None:
        raise StepFailed(f"{request.method} has no {step.name}")
    if step.value is not None and value != step.value:
        raise StepFailed(f"{step.name} of {request.method} is not {step.value}")


async def _expect_request(leg: Leg, step: steps.ExpectRequest) -> None:
    wanted = leg.requests_expected.get(step.method, 0) + 1
    leg.requests_expected[step.method] = wanted
    await leg.until(
        lambda: leg.requests_seen.get(step.method, 0) >= wanted or leg.over,
        step.within,
        f"no {step.method} within {step.within:g}s",
    )
    if leg.requests_seen.get(step.method, 0) < wanted:
        raise StepFailed(f"the call ended before a {step.method}")
    direction = leg.directions.get(step.method)
    if step.direction is not None and direction != step.direction:
        raise StepFailed(f"the {step.method} says {direction}, {step.direction} expected")
