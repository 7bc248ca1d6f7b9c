"""Where fuzzing begins: the states of an endpoint and of an offer/answer machine, and what a
message that could be read is used for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from bridge.sip.grammar import ParseError
from bridge.sip.message import Message, Request, response_to
from bridge.trunk.numbers import called_number, caller_number
from sdp.crypto import SrtpPolicy, protection
from sdp.model import Direction
from sdp.negotiate import Answer, OfferAnswer
from sdp.negotiated import Negotiated
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import Script
from tests.unit.fuzz.rig import Rig, media

STAGES = (
    "nothing",
    "ringing",
    "accepted",
    "delayed offer",
    "answered inbound",
    "dialled",
    "far end rings",
    "answered outbound",
    "re-INVITE pending",
    "re-INVITE proceeding",
    "cancelling",
    "leaving",
)
OFFER_STATES = (
    *("stable", "agreed", "offered", "early", "reoffered", "held"),
    *("stable with srtp", "offered with srtp", "agreed with srtp"),
)
SRTP_OFFER = (
    corpus.EXOTEL_OFFER.replace(b"RTP/AVP", b"RTP/SAVP")
    + b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n"
)


class PLAN:
    country = "IN"
    number_format = "national-0"
    user_phone = False


def use(message: Message) -> None:
    """Read what the layers above read, and answer."""
    _ = (message.call_id, message.cseq, message.top_via, message.from_, message.to, message.sdp)
    with suppress(ParseError):
        _ = message.contact
    if isinstance(message, Request):
        for number in (called_number(message, PLAN), caller_number(message, PLAN)):
            number.number.encode()  # goes into events and attributes, which are UTF-8
            assert number.number.isprintable()
        response_to(message, 200, to_tag="t").encode()


def set_up(rig: Rig, stage: str) -> None:
    """Bring the endpoint where the fuzzing begins."""
    script, rig.script = rig.script, Script(b"\x01" if stage == "ringing" else b"\x00")
    far = rig.flow
    if stage in ("ringing", "accepted", "answered inbound"):
        rig.receive(rig.invite().encode(), far)
    elif stage == "delayed offer":
        rig.receive(rig.invite(b"").encode(), far)
    elif stage != "nothing":
        session = rig.dial()
        invite = rig.requests[-1]
        if stage in ("far end rings", "cancelling"):
            rig.receive(rig.response(180, invite, b"").encode(), far)
        elif stage != "dialled":
            rig.receive(rig.response(200, invite, corpus.EXOTEL_OFFER).encode(), far)
        if stage == "cancelling":
            rig.endpoint.cancel(session, rig.now)
        elif stage == "leaving":
            rig.endpoint.bye(session, rig.now)
        elif stage.startswith("re-INVITE"):
            rig.endpoint.reoffer(session, Direction.SENDONLY, rig.now)
            rig.run()
            if stage.endswith("proceeding"):
                rig.receive(rig.response(100, rig.requests[-1], b"").encode(), far)
    if stage == "answered inbound":
        rig.receive(rig.in_dialog("ACK", cseq=1).encode(), far)
    rig.run()
    rig.script = script


def machine_in(state: str) -> OfferAnswer:
    if state.endswith("with srtp"):
        return secure_machine_in(state.partition(" ")[0])
    machine = media()
    if state == "agreed":
        assert isinstance(machine.receive_offer(corpus.EXOTEL_OFFER), Answer)
    elif state != "stable":
        machine.offer()
        if state != "offered":
            early = state == "early"
            assert isinstance(machine.receive_answer(corpus.EXOTEL_OFFER, early=early), Negotiated)
    if state == "reoffered":
        machine.offer(Direction.SENDONLY)
    elif state == "held":
        machine.receive_offer(corpus.SDP[0])
    return machine


def secure_machine_in(state: str) -> OfferAnswer:
    """Return a machine whose trunk takes RTP and SRTP, or one that is in a call with SRTP."""
    policy = SrtpPolicy.OPTIONAL if state != "agreed" else SrtpPolicy.REQUIRED
    plain = media().snapshot()
    local = replace(plain.local, protection=protection(policy, lambda size: b"k" * size))
    machine = OfferAnswer.restore(
        replace(plain, local=local), destination_allowed=lambda host, _port: host != "10.0.0.1"
    )
    if state == "offered":
        machine.offer()
    elif state == "agreed":
        assert isinstance(machine.receive_offer(SRTP_OFFER), Answer)
    return machine
