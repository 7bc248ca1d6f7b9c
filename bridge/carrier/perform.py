"""Performs scripts on a leg: one function per kind of step, every wait with a deadline."""

from __future__ import annotations

import asyncio
import contextlib

from bridge.carrier import bodies, lifetime, refer, script, sound, steps
from bridge.carrier.call import Leg
from bridge.carrier.dialog import ALLOW
from bridge.carrier.exchange import Exchange, StepFailed
from bridge.carrier.expect import expect, no_rtp
from bridge.carrier.media import PTIME, clip_source, tone_source
from bridge.carrier.steps import Method, Script, Step
from bridge.errors import BridgeError
from bridge.sip.message import Request, Response

RING_LIMIT = 180.0
STAY_LIMIT = 4 * 3600.0
GLARES = 4
ACK_GRACE = 1.0  # seconds for the ACK of a refusal when the leg is finished
MAX_TRIES = 4  # INVITEs of one call, challenged each time: one too many
GIVEN_UP = 1.5  # seconds without another
UPDATE_ALLOW = f"{ALLOW}, UPDATE"


async def run(leg: Leg, wanted: str | Script) -> None:
    """Perform a script (text, or its steps); failures end it and stand in the report."""
    found = script.parse(wanted) if isinstance(wanted, str) else wanted
    if any(getattr(step, "method", "") == "UPDATE" for step in found):
        leg.dialog.allow = UPDATE_ALLOW
    leg.transfers.scripted = any(isinstance(step, steps.AnswerRefer) for step in found)
    leg.session.lifetime = lifetime.lifetime_of(found, leg.session.lifetime)
    try:
        await _begin(leg, found)
        for number, step in enumerate(found, 1):
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


async def _begin(leg: Leg, found: Script) -> None:
    """Send our INVITE when none was sent; wait for theirs to be acceptable otherwise."""
    if not leg.report.dialled:
        credentials = leg.carrier.credentials
        scripted = any(isinstance(step, steps.Challenge) for step in found)
        if credentials is not None and leg.report.status is None and not scripted:
            await _challenge(leg, steps.Challenge(status=407))
        return
    if leg.invited is not None:
        return
    first = found[0] if found else None
    body: str | None = first.body if isinstance(first, steps.Invite) else "offer"
    peer = await leg.reach()
    extra = (*leg.session.lifetime.asked(), *leg.behaviour.headers)
    if leg.dialog.record_route is not None:
        extra = (("Record-Route", leg.dialog.record_route), *extra)
    # Exotel names its call in every INVITE.
    extra = (("X-Exotel-CallSid", leg.dialog.call_id.partition("@")[0]), *extra)
    described = leg.session.describe(body) if body is not None else b""
    late = None if body is not None else "answer"
    leg.invited = leg.send("INVITE", peer, body=described, headers=extra, late_body=late)


async def finish(leg: Leg) -> None:
    """End the call when it is up: BYE, CANCEL or 480; then release its media."""
    try:
        if not leg.over:
            await _hang_up(leg, ())
        await leg.until(lambda: not leg.unacknowledged, ACK_GRACE, "unacknowledged")
    except (BridgeError, OSError) as error:
        if leg.report.failed is None and str(error) != "unacknowledged":
            leg.fail(f"hanging up: {error}")
    leg.close()
    leg.carrier.ended(leg)


async def perform(leg: Leg, step: Step) -> None:
    """Perform one step; raises StepFailed."""
    match step:
        case steps.Invite():
            return
        case steps.Ring():
            await _ring(leg, step)
        case steps.EarlyMedia():
            await _early_media(leg, step)
        case steps.Answer():
            await _answer(leg, step)
        case steps.Talk() | steps.Tone() | steps.Play():
            await _play(leg, step)
        case steps.Wait():
            await _wait(leg, step)
        case steps.Stay():
            await _stay(leg, step)
        case steps.Hold():
            await _hold(leg, step)
        case steps.Resume():
            await _resume(leg, step)
        case steps.Reinvite():
            await _reinvite(leg, step)
        case steps.Move():
            await _move(leg, step)
        case steps.Rekey():
            await _rekey(leg, step)
        case steps.Dtmf():
            await _dtmf(leg, step)
        case steps.Refuse():
            await _refuse(leg, step)
        case steps.NoAnswer():
            await _no_answer(leg, step)
        case steps.Redirect():
            await _redirect(leg, step)
        case steps.Challenge():
            await _challenge(leg, step)
        case steps.SessionExpires():
            return
        case steps.Refresh():
            await _established(leg)
            await lifetime.refresh(leg, step)
        case steps.TooBrief():
            _callee(leg)
            await lifetime.too_brief(leg, step)
        case steps.CloseConnection():
            assert leg.peer is not None
            leg.peer.close()
        case steps.Loss():
            leg.media.loss = step.percent
        case steps.Jitter():
            leg.media.jitter = step.seconds
        case steps.Rtp():
            leg.session.rtp_on = step.on
            leg.apply_media()
        case steps.Options():
            await _options(leg, step)
        case steps.Refer():
            await _refer(leg, step)
        case steps.AnswerRefer():
            await refer.answer_refer(leg, step)
        case steps.Notify():
            await refer.notify(leg, step)
        case steps.Cancel():
            await _cancel(leg, step)
        case steps.Hangup():
            await _hangup(leg, step)
        case _:
            await expect(leg, step)


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


async def _ring(leg: Leg, step: steps.Ring) -> None:
    _callee(leg)
    leg.respond_invite(step.status)
    await leg.sleep(step.seconds, "ringing")


async def _early_media(leg: Leg, step: steps.EarlyMedia) -> None:
    _callee(leg)
    body = (
        leg.session.answer(leg.session.theirs[-1])
        if leg.session.theirs
        else leg.session.describe("offer")
    )
    leg.early = True
    leg.media.play(tone_source(step.hertz))
    leg.respond_invite(183, body=body)
    leg.apply_media()
    await leg.sleep(step.seconds, "early media")


async def _answer(leg: Leg, step: steps.Answer) -> None:
    _callee(leg)
    if step.after:
        if leg.report.status is None or leg.report.status >= 300:
            leg.respond_invite(180)
        await leg.sleep(step.after, "ringing")
    if step.body is not None:
        body = leg.session.describe(step.body)
    elif leg.session.theirs:
        body = leg.session.answer(leg.session.theirs[-1])
    else:
        body = leg.session.describe("offer")
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


async def _refuse(leg: Leg, step: steps.Refuse) -> None:
    _callee(leg)
    leg.respond_invite(step.status, headers=_reason(step.cause))
    await _refused(leg)


async def _no_answer(leg: Leg, step: steps.NoAnswer) -> None:
    _callee(leg)
    leg.respond_invite(180)
    if step.after is None:
        await leg.until(lambda: leg.over, RING_LIMIT, "the far end never cancelled")
    else:
        await leg.sleep(step.after, "ringing")
        leg.respond_invite(480)
    await _refused(leg)


async def _redirect(leg: Leg, step: steps.Redirect) -> None:
    _callee(leg)
    to = step.to or "0"
    target = to if to.startswith("sip") else f"sip:{to}@{leg.dialog.sent_by};transport=tcp"
    leg.respond_invite(step.status, headers=(("Contact", f"<{target}>"),))
    await _refused(leg)


async def _challenge(leg: Leg, step: steps.Challenge) -> None:
    """Refuse with a digest challenge, wait for the INVITE with credentials, check them."""
    if step.request is not None:
        leg.guard.demand(step.request, step)
        return
    _callee(leg)
    if step.given_up:
        await _challenge_for_ever(leg, step)
        return
    leg.guard.demand("INVITE", step)
    while (refusal := leg.refusal("INVITE", _invite_of(leg))) is not None:
        if refusal.fault is not None:
            leg.respond_invite(refusal.status)
            raise StepFailed(refusal.fault)
        invite = leg.invite
        leg.respond_invite(refusal.status, headers=refusal.headers)
        await _refused(leg)
        await leg.until(
            lambda known=invite: leg.invite is not known or leg.over,  # type: ignore[misc]
            leg.behaviour.step_timeout,
            f"no INVITE with credentials came after the {step.status}",
        )
        if leg.over:
            raise StepFailed(f"the far end gave up after the {step.status}")


def _invite_of(leg: Leg) -> Request:
    assert leg.invite is not None
    return leg.invite


async def _challenge_for_ever(leg: Leg, step: steps.Challenge) -> None:
    """Refuse every INVITE with a fresh nonce, until no more come; too many fail the step."""
    for _ in range(MAX_TRIES):
        leg.guard.demand("INVITE", step)
        refusal = leg.guard.refusal("INVITE", _invite_of(leg), None)
        assert refusal is not None
        if refusal.fault is not None:
            raise StepFailed(refusal.fault)
        invite = leg.invite
        leg.respond_invite(refusal.status, headers=refusal.headers)
        leg.report.challenges += 1
        await _refused(leg)
        with contextlib.suppress(StepFailed):
            await leg.until(
                lambda known=invite: leg.invite is not known or leg.over,  # type: ignore[misc]
                GIVEN_UP,
                "",
            )
        if leg.invite is invite:
            leg.end("them")
            return
    raise StepFailed(f"the far end tried {MAX_TRIES} times")


async def _cancel(leg: Leg, step: steps.Cancel) -> None:
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


async def _play(leg: Leg, step: steps.Talk | steps.Tone | steps.Play) -> None:
    await _established(leg)
    seconds = step.seconds
    match step:
        case steps.Talk():
            leg.media.play(leg.voice())
        case steps.Tone():
            leg.media.play(tone_source(step.hertz))
        case steps.Play():
            samples = await asyncio.to_thread(sound.read_wav, step.file)
            leg.media.play(clip_source(samples, repeat=seconds is not None))
            if seconds is None:
                await leg.sleep(len(samples) / sound.RATE + PTIME, step.text)
    if seconds is not None:
        await leg.sleep(seconds, step.text)
        leg.media.play(None)


async def _wait(leg: Leg, step: steps.Wait) -> None:
    await leg.sleep(step.seconds, step.text)


async def _stay(leg: Leg, step: steps.Stay) -> None:
    await _established(leg)
    if step.seconds is not None:
        try:
            await leg.until(lambda: leg.over, step.seconds, "")
        except StepFailed:
            return
    else:
        await leg.until(lambda: leg.over, STAY_LIMIT, "the far end never hung up")


async def _dtmf(leg: Leg, step: steps.Dtmf) -> None:
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
    method: Method,
    *,
    late: bool,
    new_connection: bool,
    again: bool = False,
) -> Exchange:
    """Send a re-INVITE or UPDATE; on 491 wait and send it again. RFC 3261 14.1."""
    for attempt in range(GLARES):
        before = leg.session.state()
        peer = await leg.reach(new_connection=new_connection)
        described = b"" if late else leg.session.describe(body, again=again)
        exchange = leg.send(method, peer, body=described, late_body=body if late else None)
        final = await leg.answered(exchange)
        if final.status >= 300:
            leg.session.restore(before)
        if final.status != 491:
            break
        await leg.sleep(0.5 + 0.7 * attempt, "glare")
    leg.apply_media()
    return exchange


def _want(response: Response, status: int) -> None:
    if response.status != status:
        raise StepFailed(f"answered {response.status} {response.reason}, {status} expected")


def _check_answer(leg: Leg, response: Response, wanted: str, *, late: bool = False) -> None:
    """Check the far end's answer on its raw bytes (contract 4, Answers)."""
    _want(response, 200)
    raw = response.sdp
    if raw is None:
        raise StepFailed("the 200 carries no SDP")
    body = bodies.read(raw)
    if not late:
        for fault in leg.session.answer_faults(body, wanted):
            raise StepFailed(f"the answer {fault}")
        return
    # A 200 to an offerless re-INVITE is a new, full offer.
    if body.wording != wanted or body.zero_address or body.codec is None:
        raise StepFailed("the 200 carries no full sendrecv offer")


async def _hold(leg: Leg, step: steps.Hold) -> None:
    await _established(leg)
    leg.session.music()
    leg.session.hold_rtp = step.rtp
    exchange = await _offer(
        leg, step.body, step.method, late=step.late, new_connection=step.new_connection
    )
    final = exchange.final
    assert final is not None
    _check_answer(
        leg, final, "sendrecv" if step.late else bodies.ANSWERS[step.body], late=step.late
    )
    if step.seconds:
        await no_rtp(leg, step.seconds, "while held")


async def _resume(leg: Leg, step: steps.Resume) -> None:
    await _established(leg)
    leg.session.end_music()
    exchange = await _offer(
        leg, step.body, step.method, late=step.late, new_connection=step.new_connection
    )
    assert exchange.final is not None
    _check_answer(leg, exchange.final, "sendrecv", late=step.late)


async def _reinvite(leg: Leg, step: steps.Reinvite) -> None:
    await _established(leg)
    again = step.body is None
    name = step.body or (leg.session.body if leg.session.body != "answer" else "offer")
    exchange = await _offer(
        leg, name, step.method, late=False, new_connection=step.new_connection, again=again
    )
    assert exchange.final is not None
    if step.body == "t38":
        _want(exchange.final, 488)
        return
    _check_answer(leg, exchange.final, bodies.ANSWERS[name])


async def _move(leg: Leg, step: steps.Move) -> None:
    await _established(leg)
    leg.media.move()
    # RFC 4568 7.1.4: who changes address or port MUST include a new master key.
    leg.session.secure.rekey()
    name = leg.session.body if leg.session.body != "answer" else "offer"
    exchange = await _offer(leg, name, "INVITE", late=False, new_connection=step.new_connection)
    assert exchange.final is not None
    _check_answer(leg, exchange.final, bodies.ANSWERS[name])


async def _rekey(leg: Leg, step: steps.Rekey) -> None:
    """RFC 4568 7.1.4: an offer with a new master key."""
    await _established(leg)
    if leg.session.secure.active is None:
        raise StepFailed("there is no SRTP")
    leg.session.secure.rekey()
    exchange = await _offer(leg, "offer", "INVITE", late=False, new_connection=step.new_connection)
    assert exchange.final is not None
    _check_answer(leg, exchange.final, "sendrecv")


async def _options(leg: Leg, step: steps.Options) -> None:
    await _established(leg)
    peer = await leg.reach(new_connection=step.new_connection)
    _want(await leg.answered(leg.send("OPTIONS", peer)), 200)


async def _refer(leg: Leg, step: steps.Refer) -> None:
    await _established(leg)
    to = step.to if step.to.startswith(("sip", "tel")) else f"sip:{step.to}@{leg.dialog.sent_by}"
    headers = (("Refer-To", f"<{to}>"), ("Referred-By", leg.dialog.local.partition(";tag=")[0]))
    await leg.answered(leg.send("REFER", await leg.reach(), headers=headers))


# the end


async def _hangup(leg: Leg, step: steps.Hangup) -> None:
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
            leg.end("us")
            return
        await _cancel(leg, steps.Cancel(after=0.0))
        return
    if not leg.report.answered:
        leg.respond_invite(480)
        await _refused(leg)
        return
    peer = await leg.reach(new_connection=new_connection)
    exchange = leg.send("BYE", peer, headers=headers)
    leg.end("us")
    final = await leg.answered(exchange)
    # RFC 3261 15.1.1: 481 and 408 end the dialog as well; both BYEs may have crossed.
    if final.status not in (200, 481):
        raise StepFailed(f"BYE was answered {final.status} {final.reason}")


def _reason(cause: int | None) -> tuple[tuple[str, str], ...]:
    return () if cause is None else (("Reason", f"Q.850;cause={cause}"),)
