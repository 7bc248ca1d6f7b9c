"""What the transaction layer keeps about each transaction, and whom it tells.

RFC 3261 17; RFC 6026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.flow import Flow
from bridge.sip.matching import TransactionKey
from bridge.sip.message import Request, Response
from bridge.sip.target import Hop
from bridge.sip.transaction import (
    TIMER_C,
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
)

IN_DIALOG = (Purpose.REINVITE, Purpose.UPDATE, Purpose.BYE)


@dataclass(slots=True, kw_only=True)
class SentAck:
    """The ACK of one 2xx: every copy of that 2xx is given the same bytes.

    ``data`` is empty until it left; ``on_its_way`` while a flow is made for it.
    """

    letter: Letter
    hops: list[Hop]
    data: bytes = b""
    flow: Flow | None = None
    on_its_way: bool = False


@dataclass(slots=True, kw_only=True)
class Client:
    """A request of ours and its transaction.

    ``hops`` are those left when the flow fails. ``status`` is that of the last
    response, 0 for none. ``acks`` by To tag: an INVITE may bring several 2xx.
    ``repeated``: it was sent before, by another flow.
    """

    key: TransactionKey
    machine: InviteClient | NonInviteClient
    letter: Letter
    flow: Flow
    hops: list[Hop]
    status: int = 0
    acks: dict[str, SentAck] = field(default_factory=dict)
    repeated: bool = False

    def __post_init__(self) -> None:
        if self.letter.errand.purpose is Purpose.REINVITE and isinstance(
            self.machine, InviteClient
        ):
            self.machine.proceeding_limit = TIMER_C

    @property
    def may_be_half_dead(self) -> bool:
        """Whether no answer may mean that the connection, not the peer, is gone.

        One that a NAT has forgotten takes bytes and says nothing. (A probe is not sent
        again: the next one avoids the connection.)
        """
        in_dialog = self.letter.errand.purpose in IN_DIALOG
        return in_dialog and self.flow.reliable and self.status == 0 and not self.repeated

    @property
    def awaits_first_answer(self) -> bool:
        """Whether a dead flow means that the request has to be repeated.

        An INVITE that rings is left alone: its responses come on a connection of
        the peer's making (RFC 3261 18.2.2).
        """
        if isinstance(self.machine, InviteClient):
            return self.status == 0
        return self.status < 200


@dataclass(slots=True, kw_only=True)
class Server:
    """A request of the peer and its transaction. ``to_tag``: of all our responses.

    ``away``: the response must go to a flow that is being made.
    """

    key: TransactionKey
    machine: InviteServer | NonInviteServer
    request: Request
    flow: Flow
    session: int
    to_tag: str
    symmetric: bool
    pending: bytes | None = None
    away: bool = False


class TransactionUser(Protocol):
    """Who is told what transactions bring. Nothing here may raise."""

    def on_sent(self, client: Client, now: float) -> None:
        """A request of ours left by ``client.flow``."""

    def on_response(self, client: Client, response: Response, flow: Flow, now: float) -> None:
        """A response came by *flow*."""

    def on_timeout(self, errand: Errand, now: float) -> None:
        """Timer B, C or F: nobody answered."""

    def on_unreachable(self, errand: Errand, now: float) -> None:
        """The request could not be sent, anywhere."""

    def on_resting(self, errand: Errand, seconds: float, now: float) -> None:
        """The request was not sent: every target wants to be left alone, *seconds* long."""

    def may_go_elsewhere(self, errand: Errand) -> bool:
        """Whether a request outside dialogs may be sent to another target."""

    def on_ack(self, ack: Request, flow: Flow, now: float) -> None:
        """An ACK came for a 2xx."""

    def on_server_done(self, server: Server) -> None:
        """A server transaction is spent."""
