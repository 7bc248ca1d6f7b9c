"""Performs scripts on a leg: one function per kind of step, every wait with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import time

from bridge.carrier import bodies, script, sound
from bridge.carrier.call import Exchange, Leg, StepFailed
from bridge.carrier.challenge import challenge_value, check_credentials
from bridge.carrier.dialog import ALLOW
from bridge.carrier.media import PTIME, clip_source, tone_source
from bridge.carrier.script import Script, Step
from bridge.errors import BridgeError
from bridge.sip.message import Response

SETTLE = 0.06  # seconds that packets already on their way may take
RING_LIMIT = 180.0
STAY_LIMIT = 4 * 3600.0
GLARES = 4
UPDATE_ALLOW = f"{ALLOW}, UPDATE"


async def run(leg: Leg, wanted: str | tuple[object, ...]) -> None:
    """Perform a script (text, or its steps); failures end it and stand in the report."""
    steps = script.parse(wanted) if isinstance(wanted, str) else _steps(wanted)
    if any(getattr(step, "method", "") == "UPDATE" for step in steps):
        leg.dialog.allow = UPDATE_ALLOW
    try:
        await _begin(leg, steps)
        for number, step in enumerate(steps, 1):
            if leg.report.failed is not None:
                break
            await _guarded(leg, step, number)
    except (BridgeError, OSError) as error:
        leg.fail(str(error))
    if leg.report.failed is not None:
        await finish(leg)
    leg.report.media = leg.media.report()


async def _guarded(leg: Leg, step: Step, number: int) -> None:
    try:
        await perform(leg, step)
        leg.report.steps_done += 1
    except (BridgeError, OSError, ValueError) as error:
        reason = f'step {number} "{step.text}": {error}' if step.text else str(error)
        leg.fail(reason)


def _steps(wanted: tuple[object, ...]) -> Script:
    return tuple(step for step in wanted if isinstance(step, Step))


async def _begin(leg: Leg, steps: Script) -> None:
    """Send our INVITE when none was sent; wait for theirs to be acceptable otherwise."""
    if not leg.report.dialled:
        credentials = leg.carrier.credentials
        scripted = any(isinstance(step, script.Challenge) for step in steps)
        if credentials is not None and leg.report.status is None and not scripted:
            await _challenge(leg, script.Challenge(status=407))
        return
    if leg.invited is not None:
        return
    first = steps[0] if steps else None
    body: str | None = first.body if isinstance(first, script.Invite) else "offer"
    peer = await leg.reach()
    extra = leg.behaviour.headers
    if leg.dialog.record_route is not None:
        extra = (("Record-Route", leg.dialog.record_route), *extra)
    described = leg.describe(body) if body is not None else b""
    late = None if body is not None else "answer"
    leg.invited = leg.send("INVITE", peer, body=described, headers=extra, late_body=late)


async def finish(leg: Leg) -> None:
    """End the call when it is up: BYE, CANCEL or 480; then release its media."""
    try:
        if not leg.over:
            await _hang_up(leg, ())
        await leg.until(lambda: not leg.unacknowledged, 2.0, "unacknowledged")
    except (BridgeError, OSError) as error:
        if leg.report.failed is None and str(error) != "unacknowledged":
            leg.fail(f"hanging up: {error}")
    leg.close()
    leg.carrier.ended(leg)


async def perform(leg: Leg, step: Step) -> None:
    """Perform one step; raises StepFailed."""
    match step:
        case script.Invite():
            return
        case script.Ring():
            await _ring(leg, step)
        case script.EarlyMedia():
            await _early_media(leg, step)
        case script.Answer():
            await _answer(leg, step)
        case script.Talk() | script.Tone() | script.Play():
            await _play(leg, step)
        case script.Wait():
            await _wait(leg, step)
        case script.Stay():
            await _stay(leg, step)
        case script.Hold():
            await _hold(leg, step)
        case script.Resume():
            await _resume(leg, step)
        case script.Reinvite():
            await _reinvite(leg, step)
        case script.Move():
            await _move(leg, step)
        case script.Dtmf():
            await _dtmf(leg, step)
        case script.Refuse():
            await _refuse(leg, step)
        case script.NoAnswer():
            await _no_answer(leg, step)
        case script.Redirect():
            await _redirect(leg, step)
        case script.Challenge():
            await _challenge(leg, step)
        case script.CloseConnection():
            assert leg.peer is not None
            leg.peer.close()
        case script.Loss():
            leg.media.loss = step.percent
        case script.Jitter():
            leg.media.jitter = step.seconds
        case script.Rtp():
            leg.rtp_on = step.on
            leg.apply_media()
        case script.Options():
            await _options(leg, step)
        case script.Refer():
            await _refer(leg, step)
        case script.Cancel():
            await _cancel(leg, step)
        case script.Hangup():
            await _hangup(leg, step)
        case _:
            await _expect(leg, step)


async def _expect(leg: Leg, step: Step) -> None:
    match step:
        case script.ExpectAnswer():
            await _expect_answer(leg, step)
        case script.ExpectVersion():
            _expect_version(leg, step)
        case script.ExpectAudio():
            await _expect_audio(leg, step)
        case script.ExpectQuiet():
            await _expect_quiet(leg, step)
        case script.ExpectSilence():
            await _no_rtp(leg, step.seconds, "during the expected silence")
        case script.ExpectRtp():
            await _expect_rtp(leg, step)
        case script.ExpectDtmf():
            await _expect_dtmf(leg, step)
        case script.ExpectHangup():
            await _expect_hangup(leg, step)
        case script.ExpectStatus():
            await _expect_status(leg, step)
        case script.ExpectHeader():
            _expect_header(leg, step)
        case script.ExpectRequest():
            await _expect_request(leg, step)
        case _:
            raise StepFailed("the carrier cannot perform this step")


# before the answer


async def _established(leg: Leg) -> None:
    """Wait until the call is up: our INVITE answered, or the far end's answered by us."""
    if leg.confirmed and not leg.early:
        return
    if not leg.report.dialled:
        if not leg.report.answered and not leg.over:
            raise StepFailed("the call is not answered yet: the script needs an answer first")
    else:
        await leg.until(
            lambda: leg.report.answered or leg.over,
            leg.behaviour.answer_timeout,
            "the call was not answered",
        )
    if leg.over:
        refused = leg.report.dialled and not leg.report.answered
        raise StepFailed(
            f"the call was refused with {leg.report.status}" if refused else "the call has ended"
        )


async def _ring(leg: Leg, step: script.Ring) -> None:
    _callee(leg)
    leg.respond_invite(step.status)
    await leg.sleep(step.seconds, "ringing")


async def _early_media(leg: Leg, step: script.EarlyMedia) -> None:
    _callee(leg)
    body = leg.answer_body(leg.theirs[-1]) if leg.theirs else leg.describe("offer")
    leg.early = True
    leg.media.play(tone_source(step.hertz))
    leg.respond_invite(183, body=body)
    leg.apply_media()
    await leg.sleep(step.seconds, "early media")


async def _answer(leg: Leg, step: script.Answer) -> None:
    _callee(leg)
    if step.after:
        if leg.report.status is None or leg.report.status >= 300:
            leg.respond_invite(180)
        await leg.sleep(step.after, "ringing")
    if step.body is not None:
        body = leg.describe(step.body)
    elif leg.theirs:
        body = leg.answer_body(leg.theirs[-1])
    else:
        body = leg.describe("offer")
    if leg.early:
        leg.early = False
        leg.media.play(None)
    leg.respond_invite(200, body=body)
    leg.apply_media()
    await leg.until(
        lambda: not leg.unacknowledged or leg.over,
        leg.behaviour.step_timeout,
        "the 200 was never acknowledged",
    )


def _callee(leg: Leg) -> None:
    if leg.report.dialled:
        raise StepFailed("only a called leg can do this")
    if leg.over:
        raise StepFailed("the far end cancelled the call")
    if leg.report.answered:
        raise StepFailed("the call is answered already")


async def _refused(leg: Leg) -> None:
    await leg.until(
        lambda: not leg.unacknowledged,
        leg.behaviour.step_timeout,
        f"the {leg.report.status} was never acknowledged",
    )


async def _refuse(leg: Leg, step: script.Refuse) -> None:
    _callee(leg)
    leg.respond_invite(step.status, headers=_reason(step.cause))
    await _refused(leg)


async def _no_answer(leg: Leg, step: script.NoAnswer) -> None:
    _callee(leg)
    leg.respond_invite(180)
    if step.after is None:
        await leg.until(lambda: leg.over, RING_LIMIT, "the far end never cancelled")
    else:
        await leg.sleep(step.after, "ringing")
        leg.respond_invite(480)
    await _refused(leg)


async def _redirect(leg: Leg, step: script.Redirect) -> None:
    _callee(leg)
    to = step.to or "0"
    target = to if to.startswith("sip") else f"sip:{to}@{leg.dialog.sent_by};transport=tcp"
    leg.respond_invite(step.status, headers=(("Contact", f"<{target}>"),))
    await _refused(leg)


async def _challenge(leg: Leg, step: script.Challenge) -> None:
    """Refuse with a digest challenge, wait for the INVITE with credentials, check them."""
    _callee(leg)
    invite = leg.invite
    header, value, nonce = challenge_value(step.status)
    leg.respond_invite(step.status, headers=((header, value),))
    await _refused(leg)
    await leg.until(
        lambda: leg.invite is not invite,
        leg.behaviour.step_timeout,
        f"no INVITE with credentials came after the {step.status}",
    )
    assert leg.invite is not None
    fault = check_credentials(leg.invite, step.status, nonce, leg.carrier.credentials)
    if fault is not None:
        leg.respond_invite(403)
        raise StepFailed(fault)


async def _cancel(leg: Leg, step: script.Cancel) -> None:
    exchange = leg.invited
    if exchange is None:
        raise StepFailed("only a dialled leg can cancel")
    # RFC 3261 9.1: no CANCEL before a provisional response.
    await leg.until(
        lambda: bool(exchange.responses), leg.behaviour.step_timeout, "no response to cancel after"
    )
    await leg.sleep(step.after, "ringing")
    leg.cancel()
    final = await leg.answered(exchange)
    if final.status < 300:
        raise StepFailed(f"the cancelled call was answered with {final.status}")
    leg.report.ended_by = "us"


# sound


async def _play(leg: Leg, step: script.Talk | script.Tone | script.Play) -> None:
    await _established(leg)
    seconds = step.seconds
    match step:
        case script.Talk():
            leg.media.play(leg.voice())
        case script.Tone():
            leg.media.play(tone_source(step.hertz))
        case script.Play():
            samples = await asyncio.to_thread(sound.read_wav, step.file)
            leg.media.play(clip_source(samples, repeat=seconds is not None))
            if seconds is None:
                await leg.sleep(len(samples) / sound.RATE + PTIME, step.text)
    if seconds is not None:
        await leg.sleep(seconds, step.text)
        leg.media.play(None)


async def _wait(leg: Leg, step: script.Wait) -> None:
    await leg.sleep(step.seconds, step.text)


async def _stay(leg: Leg, step: script.Stay) -> None:
    await _established(leg)
    if step.seconds is not None:
        try:
            await leg.until(lambda: leg.over, step.seconds, "")
        except StepFailed:
            return
    else:
        await leg.until(lambda: leg.over, STAY_LIMIT, "the far end never hung up")


async def _dtmf(leg: Leg, step: script.Dtmf) -> None:
    await _established(leg)
    if step.info:
        for digit in step.digits:
            body = f"Signal={digit}\r\nDuration=160\r\n".encode("ascii")
            exchange = leg.send(
                "INFO", await leg.reach(), body=body, content_type="application/dtmf-relay"
            )
            _want(await leg.answered(exchange), 200)
        return
    if leg.media.telephone_event is None:
        raise StepFailed("the far end takes no telephone-event")
    leg.media.press(step.digits)
    await leg.until(
        lambda: not leg.media.pressing or leg.over,
        len(step.digits) * 0.4 + 5.0,
        "the keys could not be sent",
    )
    if leg.over:
        raise StepFailed("the far end hung up during the keys")


# changes of the session


async def _offer(
    leg: Leg,
    body: str,
    method: script.Method,
    *,
    late: bool,
    new_connection: bool,
    again: bool = False,
) -> Exchange:
    """Send a re-INVITE or UPDATE; on 491 wait and send it again. RFC 3261 14.1."""
    for attempt in range(GLARES):
        peer = await leg.reach(new_connection=new_connection)
        described = b"" if late else leg.describe(body, again=again)
        exchange = leg.send(method, peer, body=described, late_body=body if late else None)
        final = await leg.answered(exchange)
        if final.status != 491:
            break
        await leg.sleep(0.5 + 0.7 * attempt, "glare")
    leg.apply_media()
    return exchange


def _want(response: Response, status: int) -> None:
    if response.status != status:
        raise StepFailed(f"answered {response.status} {response.reason}, {status} expected")


def _check_answer(response: Response, wanted: str) -> None:
    """Check the far end's answer on its raw bytes (contract 4, Answers)."""
    _want(response, 200)
    raw = response.sdp
    if raw is None:
        raise StepFailed("the 200 carries no SDP")
    body = bodies.read(raw)
    if body.wording != wanted:
        raise StepFailed(f"the answer says {body.wording}, {wanted} expected")
    if wanted != "port0" and (body.zero_address or body.address is None):
        raise StepFailed(f"the answer's address is {body.address}, a real one expected")
    if wanted != "port0" and body.codec is None:
        raise StepFailed("the answer has no G.711 codec")


async def _hold(leg: Leg, step: script.Hold) -> None:
    await _established(leg)
    leg.hold_music()
    leg.hold_rtp = step.rtp
    exchange = await _offer(
        leg, step.body, step.method, late=step.late, new_connection=step.new_connection
    )
    final = exchange.final
    assert final is not None
    _check_answer(final, "sendrecv" if step.late else bodies.ANSWERS[step.body])
    if step.seconds:
        await _no_rtp(leg, step.seconds, "while held")


async def _resume(leg: Leg, step: script.Resume) -> None:
    await _established(leg)
    leg.end_music()
    exchange = await _offer(
        leg, step.body, step.method, late=step.late, new_connection=step.new_connection
    )
    assert exchange.final is not None
    _check_answer(exchange.final, "sendrecv")


async def _reinvite(leg: Leg, step: script.Reinvite) -> None:
    await _established(leg)
    again = step.body is None
    name = step.body or (leg.body if leg.body != "answer" else "offer")
    kept = leg.body
    exchange = await _offer(
        leg, name, step.method, late=False, new_connection=step.new_connection, again=again
    )
    assert exchange.final is not None
    if step.body == "t38":
        leg.body = kept
        _want(exchange.final, 488)
        return
    _check_answer(exchange.final, bodies.ANSWERS[name])


async def _move(leg: Leg, step: script.Move) -> None:
    await _established(leg)
    leg.media.move()
    name = leg.body if leg.body != "answer" else "offer"
    exchange = await _offer(leg, name, "INVITE", late=False, new_connection=step.new_connection)
    assert exchange.final is not None
    _check_answer(exchange.final, bodies.ANSWERS[name])


async def _options(leg: Leg, step: script.Options) -> None:
    await _established(leg)
    peer = await leg.reach(new_connection=step.new_connection)
    _want(await leg.answered(leg.send("OPTIONS", peer)), 200)


async def _refer(leg: Leg, step: script.Refer) -> None:
    await _established(leg)
    to = step.to if step.to.startswith(("sip", "tel")) else f"sip:{step.to}@{leg.dialog.sent_by}"
    headers = (("Refer-To", f"<{to}>"), ("Referred-By", leg.dialog.local.partition(";tag=")[0]))
    await leg.answered(leg.send("REFER", await leg.reach(), headers=headers))


# the end


async def _hangup(leg: Leg, step: script.Hangup) -> None:
    if leg.over:
        if leg.report.ended_by == "them":
            raise StepFailed("the far end hung up first")
        return
    await _hang_up(leg, _reason(step.cause), new_connection=step.new_connection)


async def _hang_up(
    leg: Leg, headers: tuple[tuple[str, str], ...], *, new_connection: bool = False
) -> None:
    """BYE when answered; CANCEL or 480 before."""
    if not leg.report.answered and leg.report.dialled:
        if leg.invited is None:
            leg.hung_up()
            return
        await _cancel(leg, script.Cancel(after=0.0))
        return
    if not leg.report.answered:
        leg.respond_invite(480)
        await _refused(leg)
        return
    peer = await leg.reach(new_connection=new_connection)
    exchange = leg.send("BYE", peer, headers=headers)
    leg.hung_up()
    final = await leg.answered(exchange)
    # RFC 3261 15.1.1: 481 and 408 end the dialog as well; both BYEs may have crossed.
    if final.status not in (200, 481):
        raise StepFailed(f"BYE was answered {final.status} {final.reason}")


def _reason(cause: int | None) -> tuple[tuple[str, str], ...]:
    return () if cause is None else (("Reason", f"Q.850;cause={cause}"),)


# expectations


async def _expect_answer(leg: Leg, step: script.ExpectAnswer) -> None:
    await leg.until(
        lambda: bool(leg.theirs) or leg.over, leg.behaviour.answer_timeout, "no SDP came"
    )
    if not leg.theirs:
        raise StepFailed("the call ended without an SDP")
    if leg.theirs[-1].wording != step.direction:
        raise StepFailed(f"the SDP says {leg.theirs[-1].wording}, {step.direction} expected")


def _expect_version(leg: Leg, step: script.ExpectVersion) -> None:
    versions = [body.version for body in leg.theirs[-2:]]
    if len(versions) < 2 or versions[0] is None or versions[1] is None:
        raise StepFailed("there are no two SDP versions to compare")
    if versions[1] - versions[0] != step.step:
        raise StepFailed(f"the version went from {versions[0]} to {versions[1]}")


async def _expect_audio(leg: Leg, step: script.ExpectAudio) -> None:
    since = time.time()
    what = f"{step.hertz} Hz" if step.hertz else "sound"
    await leg.until(
        lambda: leg.media.heard.sounding(since, step.hertz) or leg.over,
        step.within,
        f"no {what} within {step.within:g}s",
    )
    if not leg.media.heard.sounding(since, step.hertz):
        raise StepFailed(f"the call ended before {what} was heard")


async def _expect_quiet(leg: Leg, step: script.ExpectQuiet) -> None:
    since = time.time() + SETTLE
    heard = leg.media.heard
    try:
        await leg.until(lambda: heard.sounding(since, packets=2) or leg.over, step.seconds, "quiet")
    except StepFailed:
        return
    raise StepFailed("the call ended" if leg.over else "there was sound")


async def _no_rtp(leg: Leg, seconds: float, when: str) -> None:
    since = time.time() + SETTLE
    heard = leg.media.heard
    try:
        await leg.until(lambda: heard.heard_since(since) or leg.over, seconds, "silent")
    except StepFailed:
        return
    raise StepFailed(f"the call ended {when}" if leg.over else f"RTP came {when}")


async def _expect_rtp(leg: Leg, step: script.ExpectRtp) -> None:
    since = time.time()
    await leg.until(
        lambda: leg.media.heard.heard_since(since), step.within, f"no RTP within {step.within:g}s"
    )


async def _expect_dtmf(leg: Leg, step: script.ExpectDtmf) -> None:
    """Expect the next keys, each once, in RFC 4733 or INFO; nothing else between them."""

    def heard() -> str:
        return (leg.media.heard.digits + leg.report.info_digits)[leg.digits_expected :]

    with contextlib.suppress(StepFailed):
        await leg.until(lambda: len(heard()) >= len(step.digits) or leg.over, step.within, "")
    if heard() != step.digits:
        raise StepFailed(f'the keys heard are "{heard()}", "{step.digits}" expected')
    leg.digits_expected += len(step.digits)


async def _expect_hangup(leg: Leg, step: script.ExpectHangup) -> None:
    await leg.until(
        lambda: leg.over, step.within, f"the far end did not hang up within {step.within:g}s"
    )
    if leg.report.ended_by != "them":
        raise StepFailed("the far end did not hang up, we did")
    if step.cause is not None and leg.report.cause != step.cause:
        raise StepFailed(f"the cause is {leg.report.cause}, {step.cause} expected")


async def _expect_status(leg: Leg, step: script.ExpectStatus) -> None:
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


def _expect_header(leg: Leg, step: script.ExpectHeader) -> None:
    request = leg.last_request
    if request is None:
        raise StepFailed("the far end sent no request")
    value = request.headers.get(step.name)
    if value is None:
        raise StepFailed(f"{request.method} has no {step.name}")
    if step.value is not None and value != step.value:
        raise StepFailed(f"{step.name} of {request.method} is not {step.value}")


async def _expect_request(leg: Leg, step: script.ExpectRequest) -> None:
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
