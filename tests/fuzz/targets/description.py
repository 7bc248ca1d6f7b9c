"""SDP: bodies as they come, and whole conversations of offers and answers."""

from __future__ import annotations

from dataclasses import replace

from sdp.audio import SECURE_PROTOCOLS
from sdp.crypto import crypto_lines
from sdp.model import (
    Direction,
    MediaDescription,
    Origin,
    SdpError,
    SessionDescription,
    decimal,
)
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Negotiated
from sdp.parse import parse
from sdp.write import write
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import SDP_LINES, Script, mutated
from tests.unit.fuzz.stages import OFFER_STATES, machine_in

MOST_TURNS = 24
OURS = Origin(session_id="1", version="1", address="192.0.2.1")


def body(data: bytes, meter: Meter) -> None:
    """What was read is written and read again as the same."""
    try:
        with meter:
            read = parse(data)
    except SdpError:
        return
    look(read)
    known = read if read.origin is not None else replace(read, origin=OURS)
    written = write(known)
    assert len(written) <= 3 * len(data) + 200
    if len(written) <= 65536:
        assert parse(written) == known
    for state in ("stable", "stable with srtp"):
        answer_twice(read, data, written, machine_in(state), meter)


def answer_twice(
    read: SessionDescription, data: bytes, written: bytes, conversation: OfferAnswer, meter: Meter
) -> None:
    """The same offer again, in other words, is a refresh."""
    with meter:
        answer = conversation.receive_offer(data)
    if isinstance(answer, Answer):
        answered(read, answer)
        with meter:
            again = conversation.receive_offer(written)
        assert isinstance(again, Answer) or len(written) > 65536
        if isinstance(again, Answer):
            assert (again.body, again.changed) == (answer.body, False), "a refresh"


def look(description: SessionDescription) -> None:
    """Read everything that negotiation reads."""
    assert description.direction is None or description.direction in Direction
    for media in description.media:
        assert 0 <= media.port <= 65535
        assert media.rtcp_port is None or 0 < media.rtcp_port <= 65535
        _ = (media.direction, media.ptime, media.maxptime)
        assert all(0 <= number <= 127 for number in media.rtpmaps())


def answered(offer: SessionDescription, answer: Answer) -> None:
    """The answer corresponds to the offer (RFC 3264 6)."""
    ours = parse(answer.body)
    # RFC 3264 6: "For each "m=" line in the offer, there MUST be a corresponding "m=" line
    # in the answer."
    assert len(ours.media) == len(offer.media)
    for mine, theirs in zip(ours.media, offer.media, strict=True):
        assert mine.media.lower() == theirs.media.lower()
        assert mine.protocol == theirs.protocol
        # RFC 3264 6: "If a stream was offered with a port of zero, it MUST be ... zero".
        assert mine.port == 0 or theirs.port != 0
        if mine.port:
            # RFC 3264 6.1: "there MUST be at least one" of the formats of the offer.
            assert numbers(mine) & numbers(theirs)
            wanted = theirs.direction or offer.direction or Direction.SENDRECV
            assert mine.direction is not None
            assert not mine.direction.receives or wanted.sends, "receives what is not sent"
            assert not mine.direction.sends or wanted.receives, "sends what is not wanted"
    assert sum(media.port != 0 for media in ours.media) <= 1
    for mine, theirs in zip(ours.media, offer.media, strict=True):
        keys = list(crypto_lines(mine))
        # RFC 4568 5.1.2: exactly one crypto attribute, with a tag and suite of the offer.
        assert len(keys) == sum(one.name == "crypto" for one in mine.attributes) <= 1
        assert not keys or (keys[0].tag, keys[0].suite) in {
            (line.tag, line.suite) for line in crypto_lines(theirs)
        }
        assert keys or not mine.port or mine.protocol.upper() not in SECURE_PROTOCOLS


def numbers(media: MediaDescription) -> set[int | None]:
    return {decimal(text) for text in media.formats}


def settled(result: Negotiated) -> None:
    assert 0 <= result.remote_port <= 65535
    assert 0 <= result.remote_rtcp_port <= 65535
    assert 0 <= result.payload_type <= 127
    assert result.codec in ("PCMA", "PCMU")
    assert result.remote_address != "10.0.0.1"
    assert 0 < result.ptime <= 200
    assert not result.send or (result.remote_address and result.remote_port)


class Versions:
    """Each version of ``o=`` stands for one content, whatever is refused or rolled back."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def sent(self, machine: OfferAnswer, data: bytes) -> None:
        origin = parse(data).origin
        assert origin is not None
        # RFC 3264 8: "If the version in the origin line does not increment, the SDP MUST be
        # identical to the SDP with that version number."
        assert self.bodies.setdefault(origin.version, data) == data
        assert int(origin.version) <= machine.snapshot().version


def conversation(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: where to begin, what is said by whom, with what damage."""
    script = Script(data)
    machine = machine_in(script.one_of(OFFER_STATES))
    versions = Versions()
    for _ in range(MOST_TURNS):
        if script.at >= len(data):
            break
        take_turn(machine, script, versions, meter)
        match script.below(10):
            case 1 | 2 if not machine.pending:
                versions.sent(machine, machine.offer(script.one_of(tuple(Direction))))
            case 3:
                machine.rollback()
                assert not machine.pending
            case 4:
                machine = OfferAnswer.restore(
                    machine.snapshot(), destination_allowed=lambda host, _port: host != "10.0.0.1"
                )
            case _:
                pass


def take_turn(machine: OfferAnswer, script: Script, versions: Versions, meter: Meter) -> None:
    """Give the machine one body, as an offer or as an answer."""
    text = mutated(script.one_of(corpus.SDP), script, corpus.SDP)
    before = machine.snapshot()
    result: Answer | Negotiated | Rejected
    with meter:
        match script.below(4):
            case 0 | 1:
                result = machine.receive_offer(text)
            case 2:
                result = machine.receive_answer(text)
            case _:
                result = machine.receive_answer(text, early=True)
    match result:
        case Rejected():
            assert 400 <= result.status < 500
            assert machine.snapshot() == before, "refused, yet changed"
        case Answer():
            settled(result.negotiated)
            answered(parse(text), result)
            versions.sent(machine, result.body)
            assert result.negotiated == machine.active
        case Negotiated():
            settled(result)
            assert result == machine.active


TARGETS = (
    Target(
        name="sdp",
        run=body,
        seeds=lambda: list(corpus.SDP),
        dictionary=(*SDP_LINES, b"\r\n"),
        longest=4000,
        share=2,
    ),
    Target(
        name="offer-answer",
        run=conversation,
        seeds=lambda: [bytes([state, *range(40)]) for state in range(len(OFFER_STATES))],
        longest=600,
        share=2,
    ),
)
