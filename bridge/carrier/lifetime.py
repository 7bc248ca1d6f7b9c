"""What a leg says of session timers (RFC 4028), and refreshing; nothing of the bridge's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.carrier import steps
from bridge.carrier.exchange import StepFailed
from bridge.sip.message import Request, Response

if TYPE_CHECKING:
    from bridge.carrier.call import Leg

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The session interval in seconds, 0 for none, and who refreshes: uac, uas or nobody's word."""

    seconds: int = 0
    refresher: str | None = None

    def asked(self) -> Fields:
        """Return the fields of our INVITE."""
        if not self.seconds:
            return ()
        role = f";refresher={self.refresher}" if self.refresher else ""
        return (("Supported", "timer"), ("Session-Expires", f"{self.seconds}{role}"))

    def refreshed(self) -> Fields:
        """Return the fields of a refresh of ours."""
        return (("Supported", "timer"), ("Session-Expires", f"{self.seconds};refresher=uac"))

    def granted(self, request: Request) -> Fields:
        """Return the fields of our 2xx to *request*: a refresh is granted what it asks for."""
        if not self.seconds:
            return (("Supported", "replaces"),)
        value = f"{self.seconds};refresher={self.refresher or 'uac'}"
        if request.to.tag is not None:
            value = request.headers.get("Session-Expires") or value
        fields: Fields = (("Supported", "replaces, timer"), ("Session-Expires", value))
        if "timer" in request.headers.values("Supported"):
            fields += (("Require", "timer"),)
        return fields


def lifetime_of(script: steps.Script, before: Lifetime) -> Lifetime:
    """Return what *script* says of the session timer, wherever that stands; else as *before*."""
    for step in script:
        if isinstance(step, steps.SessionExpires):
            return Lifetime(step.seconds, step.refresher)
    return before


async def refresh(leg: Leg, step: steps.Refresh) -> None:
    """Refresh the session; the far end must grant what we ask for."""
    lifetime = leg.session.lifetime
    if not lifetime.seconds:
        raise StepFailed("there is no session timer: the script needs a session-expires")
    body = b""
    if step.method == "INVITE":
        name = leg.session.body if leg.session.body != "answer" else "offer"
        body = leg.session.describe(name, again=True)
    peer = await leg.reach(new_connection=step.new_connection)
    exchange = leg.send(step.method, peer, body=body, headers=lifetime.refreshed())
    final = await leg.answered(exchange)
    if final.status != 200:
        raise StepFailed(f"answered {final.status} {final.reason}, 200 expected")
    _check_granted(final, lifetime.seconds)


def _check_granted(final: Response, seconds: int) -> None:
    said = (final.headers.get("Session-Expires") or "nothing").replace(" ", "")
    value, _, role = said.partition(";refresher=")
    if not value.isdigit() or int(value) > seconds or role != "uac":
        raise StepFailed(f'the 200 says "{said}", "{seconds};refresher=uac" expected')
    # RFC 4028 9: with the refresher "uac" the response has to require the extension.
    if "timer" not in final.headers.values("Require"):
        raise StepFailed("the 200 does not require timer")


async def too_brief(leg: Leg, step: steps.TooBrief) -> None:
    """Refuse the INVITE with 422, wait for the one that asks for so much, check it."""
    refused, peer = leg.invite, leg.peer
    assert refused is not None
    assert peer is not None
    leg.respond(refused, peer, 422, headers=(("Min-SE", str(step.seconds)),))
    await leg.until(
        lambda: leg.invite is not refused or leg.over,
        leg.behaviour.step_timeout,
        "no INVITE came after the 422",
    )
    if leg.over or leg.invite is None:
        raise StepFailed("the far end gave up after the 422")
    for name in ("Session-Expires", "Min-SE"):
        said = (leg.invite.headers.get(name) or "nothing").partition(";")[0].strip()
        if not said.isdigit() or int(said) < step.seconds:
            raise StepFailed(f"the INVITE after the 422 has {name} {said}, {step.seconds} expected")
