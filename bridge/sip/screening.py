"""What is refused before anyone looks at it: extensions and bodies we do not understand.

RFC 3261 8.2.2.3, 8.2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.bodies import is_beyond_us
from bridge.sip.dialog import DialogId
from bridge.sip.grammar import LWS, ParseError, find_param, parse_params
from bridge.sip.message import Request
from bridge.sip.parameters import ACCEPT_BODY, ALLOW, EXTENSIONS

OUT_OF_DIALOG = {
    "REFER": 603,
    # RFC 6665 4.1.3: a NOTIFY that matches no subscription is answered 481.
    "NOTIFY": 481,
    "BYE": 481,
    "UPDATE": 481,
    "INFO": 481,
    "PRACK": 405,
}
"""Answers to requests without a dialog; every method not named gets 405."""

IN_DIALOG = {"REFER": 603, "NOTIFY": 481}
"""Answers to methods we do not implement, inside a dialog; any other gets 405."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response and what it has to say."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


NOT_ALLOWED = Refusal(405, (("Allow", ALLOW),))


def for_method(method: str, statuses: dict[str, int]) -> Refusal:
    """Return how a method that we do not serve is refused."""
    status = statuses.get(method, 405)
    return NOT_ALLOWED if status == 405 else Refusal(status)


def extensions(request: Request) -> Refusal | None:
    """Refuse what requires an extension we lack.

    RFC 3261 8.2.2.3: "If a UAS does not understand an option-tag listed in a Require
    header field, it MUST respond by generating a response with status code 420 (Bad
    Extension). The UAS MUST add an Unsupported header field".
    """
    unknown = [tag for tag in request.headers.values("Require") if tag.lower() not in EXTENSIONS]
    if not unknown:
        return None
    return Refusal(420, (("Unsupported", ", ".join(unknown)),))


def replaced_dialog(request: Request) -> DialogId | Refusal | None:
    """Return which dialog of ours an INVITE names in Replaces or Join; None for none.

    RFC 3891 3, RFC 3911 4: to-tag is the local tag here; more than one such field, or one
    that cannot be read, is 400.
    """
    headers = request.headers
    named = [*headers.all("Replaces"), *headers.all("Join")]
    if not named:
        return None
    call_id, _, rest = named[0].partition(";")
    try:
        params = parse_params(rest)
    except ParseError:
        return Refusal(400)
    ours, theirs = find_param(params, "to-tag"), find_param(params, "from-tag")
    if len(named) > 1 or not call_id.strip(LWS) or not ours or not theirs:
        return Refusal(400)
    return (call_id.strip(LWS), ours, theirs)


def session_body(request: Request) -> Refusal | None:
    """Refuse an INVITE or UPDATE with a body that is no SDP and may not be ignored.

    RFC 3261 8.2.3; RFC 5621 5 for the parts of a multipart.
    """
    encoding = request.headers.get("Content-Encoding", "identity") or "identity"
    if request.body and encoding.strip(LWS).lower() != "identity":
        return Refusal(415, (("Accept-Encoding", "identity"),))
    headers = request.headers
    if not request.body or not is_beyond_us(
        headers.get("Content-Type"), request.body, headers.get("Content-Disposition")
    ):
        return None
    return Refusal(415, (("Accept", ACCEPT_BODY),))
