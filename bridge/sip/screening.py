"""What is refused before anyone looks at it: extensions and bodies we do not understand.

RFC 3261 8.2.2.3, 8.2.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.sip.bodies import is_beyond_us
from bridge.sip.dialog import is_request_uri
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS
from bridge.sip.message import Request
from bridge.sip.parameters import ACCEPT_BODY, ALLOW, EXTENSIONS
from bridge.sip.session_timer import is_too_brief

_ANSWERS = frozenset({"application/sdp", "application/*", "*/*"})

OUT_OF_DIALOG = {
    "REFER": 603,
    "BYE": 481,
    "UPDATE": 481,
    "INFO": 481,
    "PRACK": 481,
}
"""Answers to requests without a dialog; every method not named gets 405."""

IN_DIALOG: dict[str, int] = {}
"""Answers to methods we do not implement, inside a dialog; any other gets 405."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response and what it has to say."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    remembered: bool = False
    """Whether copies and retries of the request must get it again, not a new decision."""


Screen = Callable[[Request, Flow, float], Refusal | None]
"""Decides on a request of a known source that is in no dialog, before anything is allocated
for it; None: go on. Must not raise."""


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


def scheme(request: Request, flow: Flow) -> Refusal | None:
    """Refuse a Request-URI of a scheme we do not serve, or not on this transport.

    RFC 3261 8.2.2.1: a scheme that is not supported gets 416. RFC 5630: who is not to be
    reached by ``sips:`` says 480, with the warning 381; we serve it on TLS only.
    """
    uri = request.uri[:5].lower()
    if not is_request_uri(request.uri):
        return Refusal(416)
    if uri == "sips:" and flow.transport != "tls":
        return Refusal(480, (("Warning", f'381 {flow.local[0]} "SIPS Not Allowed"'),))
    return None


def accepts_session(request: Request) -> Refusal | None:
    """Refuse an INVITE whose Accept leaves out SDP: no answer to it could be written.

    RFC 4475 3.3.15: "The recipient of this request could respond with a 406". An empty
    Accept is taken for none.
    """
    ranges = [value.partition(";")[0].strip(LWS).lower() for value in _accepted(request)]
    if not ranges or not _ANSWERS.isdisjoint(ranges):
        return None
    return Refusal(406)


def _accepted(request: Request) -> list[str]:
    return [value for value in request.headers.values("Accept") if value]


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


def session_interval(request: Request, floor: int) -> Refusal | None:
    """Refuse a session timer shorter than *floor* seconds.

    RFC 4028 9: "When sending the 422 response, the UAS MUST include a Min-SE header field
    with the value of its minimum interval."
    """
    return Refusal(422, (("Min-SE", str(floor)),)) if is_too_brief(request.headers, floor) else None
