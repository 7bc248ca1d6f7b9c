"""Questions to a trunk outside any dialog: is it there at all?

An OPTIONS (RFC 3261 11) takes the way an INVITE would take. Every final response is an
answer; the one who asked judges it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.core import UserAgentCore, capability_fields
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.events import PassUp, TrunkProbed
from bridge.sip.headers import parse_name_addr
from bridge.sip.message import Headers, Request
from bridge.sip.parameters import ACCEPT, ASKING
from bridge.sip.target import HostHop
from bridge.sip.transaction import MAX_FORWARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkQuestion:
    """An OPTIONS to send. ``next_hop`` and the texts are as of an `OutgoingInvite`."""

    trunk: str
    next_hop: tuple[str, str, int | None]
    request_uri: str
    from_: str
    to: str


@dataclass(frozen=True, slots=True)
class _Asked:
    trunk: str
    next_hop: tuple[str, str, int | None]
    at: float


class ProbeCore:
    """Our OPTIONS outside dialogs; one at a time for each trunk."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer
        self.asked: dict[int, _Asked] = {}

    def ask(self, question: TrunkQuestion, now: float) -> None:
        """Send an OPTIONS; `TrunkProbed` follows, after 64*T1 at the latest.

        ParseError when it cannot be written. While a question to the same trunk is
        open this does nothing, unless the trunk leads elsewhere now: then the answer to
        the open one says nothing any more.
        """
        before = [n for n, asked in self.asked.items() if asked.trunk == question.trunk]
        if any(self.asked[number].next_hop == question.next_hop for number in before):
            return
        request = self._request(question)
        for number in before:
            del self.asked[number]
        number = self.layer.courier.next_id()
        self.asked[number] = _Asked(question.trunk, question.next_hop, now)
        letter = Letter(
            request=request,
            errand=Errand(Purpose.OPTIONS, number),
            trunk=question.trunk,
            contact_user="",
        )
        transport, host, port = question.next_hop
        self.layer.send(letter, [HostHop(transport, host, port, trusted=True)], now)

    def settled(self, errand: Errand, status: int | None, now: float) -> None:
        """Take the final response; None: there was none."""
        asked = self.asked.pop(errand.session, None)
        if asked is not None:  # else: asked by a process before this one
            event = TrunkProbed(trunk=asked.trunk, status=status, seconds=now - asked.at)
            self.layer.courier.outputs.append(PassUp(event=event))

    def _request(self, question: TrunkQuestion) -> Request:
        tokens = self.core.tokens
        headers = Headers(
            [
                ("Max-Forwards", MAX_FORWARDS),
                ("From", str(parse_name_addr(question.from_).with_tag(tokens()))),
                ("To", question.to),
                ("Call-ID", tokens()),
                ("CSeq", "1 OPTIONS"),
                # RFC 3261 11.1: "An Accept header field SHOULD be included".
                ("Accept", ACCEPT),
                *capability_fields(ASKING),
                ("User-Agent", self.core.config.user_agent),
            ]
        )
        return Request("OPTIONS", question.request_uri, headers, b"")
