"""Taking a snapshot of an endpoint; `bridge.sip.restore` puts it into a fresh one.

Not taken: bytes of a message that has not come completely, and outputs that were not polled.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import assert_never

from bridge.sip import referral
from bridge.sip.core import UserAgentCore
from bridge.sip.delivery import (
    Acknowledgement,
    Delivery,
    Letter,
    Packet,
    Payload,
    Repeat,
    Reply,
)
from bridge.sip.dialog import Dialog
from bridge.sip.matching import TransactionKey
from bridge.sip.records import Client, Server
from bridge.sip.registrar import RegistrarCore
from bridge.sip.registration import write_down
from bridge.sip.session import (
    Early,
    Reliable,
    Reoffer,
    Session,
    Unacked,
)
from bridge.sip.session_timer import SessionTimer
from bridge.sip.snapshot import (
    VERSION,
    AckSnapshot,
    ClientSnapshot,
    DeliverySnapshot,
    DialogSnapshot,
    EarlySnapshot,
    EndpointSnapshot,
    LetterSnapshot,
    PayloadSnapshot,
    ReliableSnapshot,
    ReofferSnapshot,
    ServerSnapshot,
    SessionSnapshot,
    TimerSnapshot,
    UnackedSnapshot,
)
from bridge.sip.standing import Standing


class Writer:
    """Takes snapshots; *now* and *wall* are one moment on both clocks, in seconds."""

    def __init__(self, now: float, wall: float) -> None:
        self.now = now
        self.wall = wall

    def session(self, session: Session) -> SessionSnapshot:
        """Write a session down."""
        oa, invite, dialog = session.offer_answer, session.invite, session.dialog
        known = session.authentication
        return SessionSnapshot(
            id=session.id,
            role=session.role.value,
            phase=session.phase.value,
            call_id=session.call_id,
            local_tag=session.local_tag,
            trunk=session.trunk,
            trunks=tuple(sorted(session.trunks)),
            hosts=session.hosts,
            flow=session.flow,
            next_hop=session.next_hop,
            contact_user=session.contact_user,
            invite=None if invite is None else invite.encode(),
            invite_key=session.invite_key,
            offer_answer=None if oa is None else oa.snapshot(),
            answer=session.answer,
            dialog=None if dialog is None else _dialog(dialog),
            early=tuple(_early(tag, early) for tag, early in session.early.items()),
            remote_headers=session.remote_headers,
            rang=session.rang,
            provisional=session.provisional,
            cancelling=session.cancelling.value,
            cancel_by=self._wall(session.cancel_by),
            ring_again_at=self._wall(session.ring_again_at),
            unacked=self._unacked(session.unacked),
            reliable=self._reliable(session.reliable),
            reoffer=self._reoffer(session.reoffer),
            referral=referral.keep(session.referral, self.wall - self.now),
            refer_in=session.refer_in,
            referred=referral.keep_referred(session.referred, self.wall - self.now),
            probing=session.probing,
            missed_probes=session.missed_probes,
            refused_offer_at=self._wall(session.refused_offer_at),
            quiet=session.quiet,
            farewell=session.farewell,
            authentication=() if known is None else known.snapshot(),
            turned_away=session.turned_away,
            timer=self._timer(session.timer),
        )

    def client(self, client: Client) -> ClientSnapshot:
        """Write a client transaction down."""
        return ClientSnapshot(
            key=client.key,
            machine=client.machine.snapshot(self.now, self.wall),
            letter=_letter(client.letter),
            flow=client.flow,
            hops=tuple(client.hops),
            status=client.status,
            acks=tuple(
                AckSnapshot(
                    tag=tag,
                    letter=_letter(ack.letter),
                    hops=tuple(ack.hops),
                    data=ack.data,
                    flow=ack.flow,
                    on_its_way=ack.on_its_way,
                )
                for tag, ack in client.acks.items()
            ),
            repeated=client.repeated,
        )

    def server(self, server: Server) -> ServerSnapshot:
        """Write a server transaction down."""
        return ServerSnapshot(
            key=server.key,
            machine=server.machine.snapshot(self.now, self.wall),
            flow=server.flow,
            session=server.session,
            to_tag=server.to_tag,
            symmetric=server.symmetric,
            pending=server.pending,
            away=server.away,
        )

    def delivery(self, delivery: Delivery) -> DeliverySnapshot:
        """Write a delivery down."""
        return DeliverySnapshot(
            id=delivery.id,
            payload=_payload(delivery.payload),
            trunk=delivery.trunk,
            hops=tuple(delivery.hops),
            until=self.wall + (delivery.until - self.now),
            hop=delivery.hop,
            addresses=tuple(delivery.addresses),
            waiting=delivery.waiting,
            trying=delivery.trying,
            attempt_until=self._wall(delivery.attempt_until),
            rests=delivery.rests,
        )

    def standing(self, standing: Standing) -> Standing:
        """Write the standing of a target down."""
        return replace(
            standing,
            cool_at=self.wall + (standing.cool_at - self.now),
            rest_until=self.wall + (standing.rest_until - self.now),
        )

    def _wall(self, at: float | None) -> float | None:
        return None if at is None else self.wall + (at - self.now)

    def _unacked(self, unacked: Unacked | None) -> UnackedSnapshot | None:
        if unacked is None:
            return None
        return UnackedSnapshot(
            cseq=unacked.cseq,
            server=unacked.server,
            response=unacked.response.encode(),
            offers=unacked.offers,
            resend_at=self.wall + (unacked.resend_at - self.now),
            interval=unacked.interval,
            give_up_at=self.wall + (unacked.give_up_at - self.now),
        )

    def _reliable(self, reliable: Reliable | None) -> ReliableSnapshot | None:
        if reliable is None:
            return None
        response = reliable.response
        return ReliableSnapshot(
            rseq=reliable.rseq,
            response=None if response is None else response.encode(),
            offers=reliable.offers,
            resend_at=self._wall(reliable.resend_at),
            interval=reliable.interval,
            give_up_at=self._wall(reliable.give_up_at),
            answering=reliable.answering,
        )

    def _timer(self, timer: SessionTimer) -> TimerSnapshot:
        return TimerSnapshot(
            wish=timer.wish,
            floor=timer.floor,
            min_se=timer.min_se,
            interval=timer.interval,
            refresher=timer.refresher.value,
            updates=timer.updates,
            refreshing=timer.refreshing,
            tries=timer.tries,
            refresh_at=self._wall(timer.refresh_at),
            give_up_at=self._wall(timer.give_up_at),
        )

    def _reoffer(self, reoffer: Reoffer | None) -> ReofferSnapshot | None:
        if reoffer is None:
            return None
        return ReofferSnapshot(
            direction=reoffer.direction.value,
            method=reoffer.method,
            refresh=reoffer.refresh,
            stale=reoffer.stale,
            attempts=reoffer.attempts,
            again_at=self._wall(reoffer.again_at),
        )


def take(
    core: UserAgentCore,
    merges: dict[tuple[str, str, int], TransactionKey],
    registrar: RegistrarCore,
    now: float,
    wall: float,
) -> EndpointSnapshot:
    """Write an endpoint down."""
    layer, writer = core.layer, Writer(now, wall)
    courier = layer.courier
    return EndpointSnapshot(
        version=VERSION,
        secret=core.secret,
        counter=courier.counter,
        draining=core.draining,
        flows=tuple(courier.flows.values()),
        sessions=tuple(writer.session(s) for s in core.sessions.values()),
        clients=tuple(writer.client(c) for c in layer.clients.values()),
        servers=tuple(writer.server(s) for s in layer.servers.values()),
        deliveries=tuple(writer.delivery(d) for d in courier.deliveries.values()),
        merges=tuple(merges.items()),
        agenda=tuple(courier.agenda.keys()),
        standings=tuple(
            (target, writer.standing(standing))
            for target, standing in courier.standings.known.items()
        ),
        registrations=tuple(write_down(one, now, wall) for one in registrar.registrations.values()),
    )


def _dialog(dialog: Dialog) -> DialogSnapshot:
    return DialogSnapshot(**{f.name: getattr(dialog, f.name) for f in fields(Dialog)})


def _early(tag: str, early: Early) -> EarlySnapshot:
    oa = early.offer_answer
    return EarlySnapshot(
        tag=tag,
        dialog=_dialog(early.dialog),
        sdp=early.sdp,
        rseq=early.rseq,
        offer_answer=None if oa is None else oa.snapshot(),
    )


def _letter(letter: Letter) -> LetterSnapshot:
    return LetterSnapshot(
        request=letter.request.encode(),
        errand=letter.errand,
        trunk=letter.trunk,
        contact_user=letter.contact_user,
        keeps_via=letter.keeps_via,
        attempts=letter.attempts,
        tried=tuple(sorted(letter.tried)),
    )


def _payload(payload: Payload) -> PayloadSnapshot:
    match payload:
        case Letter():
            return PayloadSnapshot(kind="letter", letter=_letter(payload))
        case Repeat():
            return PayloadSnapshot(
                kind="repeat",
                letter=_letter(payload.letter),
                key=payload.key,
                peer=payload.peer,
                spent=payload.spent,
            )
        case Acknowledgement():
            return PayloadSnapshot(
                kind="ack", letter=_letter(payload.letter), key=payload.key, tag=payload.tag
            )
        case Reply(key):
            return PayloadSnapshot(kind="reply", key=key)
        case Packet(data):
            return PayloadSnapshot(kind="packet", data=data)
        case _:
            assert_never(payload)
