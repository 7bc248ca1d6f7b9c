"""What is refused before anyone looks at it: extensions and bodies we do not understand.

RFC 3261 8.2.2.3, 8.2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.dialog import is_request_uri
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS
from bridge.sip.message import Request
from bridge.sip.parameters import ACCEPT_SDP, ALLOW, EXTENSIONS
from bridge.sip.session_timer import is_too_brief

_ANSWERS = frozenset({ACCEPT_SDP, "application/*", "*/*"})

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


def scheme(request: Request, flow: Flow) -> Refusal | None:
    """Refuse a Request-URI of a scheme we do not serve, or not on this transport.

    RFC 3261 8.2.2.1: a scheme that is not supported gets 416. RFC 5630 4.2.1 (UAS): a
    ``sips:`` that we do not want to be reached by gets 480, with the warning 381; we serve
    it on TLS only.
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
    """Refuse an INVITE or UPDATE whose body is no SDP and may not be ignored."""
    encoding = request.headers.get("Content-Encoding", "identity") or "identity"
    if request.body and encoding.strip(LWS).lower() != "identity":
        return Refusal(415, (("Accept-Encoding", "identity"),))
    if not request.body or request.sdp is not None or is_optional(request):
        return None
    return Refusal(415, (("Accept", ACCEPT_SDP),))


def session_interval(request: Request, floor: int) -> Refusal | None:
    """Refuse a session timer shorter than *floor* seconds.

    RFC 4028 9: "When sending the 422 response, the UAS MUST include a Min-SE header field
    with the value of its minimum interval."
    """
    return Refusal(422, (("Min-SE", str(floor)),)) if is_too_brief(request.headers, floor) else None


def is_optional(request: Request) -> bool:
    """Whether the body may be ignored (RFC 3261 20.11, ``handling=optional``)."""
    disposition = request.headers.get("Content-Disposition") or ""
    fields = [field.strip(LWS).lower() for field in disposition.split(";")]
    return "handling=optional" in fields
