"""``python -m bench.flips``: one call put on hold and resumed for ever, in every dialect.

SIP bytes go into the endpoint, its events into the call that the daemon would run; room,
journal and media are stand-ins that remember. Each flip is a hold and a resume: no event may
be lost, doubled, out of order or of the wrong kind, no re-INVITE that changes nothing may
tell anything, and the gate is shut before the answer to a hold is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from bridge.call.call import Call
from bridge.call.inputs import By, HangUp
from bridge.call.plan import AnswerMode, CallPlan, Direction
from bridge.call.ports import JournalRecord, PreparedRoom
from bridge.events import CallEvent
from bridge.media.seam import CallMedia, MediaLevels, MediaStats, Recording
from bridge.room.seam import JoinSpec, LeaveReason
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import IncomingInvite, PassUp, Send, SessionId
from bridge.sip.flow import Flow
from bridge.sip.headers import Reason
from bridge.sip.parameters import EndpointConfig
from sdp.model import Direction as MediaDirection
from sdp.negotiate import LocalMedia, OfferAnswer
from sdp.negotiated import Negotiated

US, THEM, TRUNK = "192.0.2.1", "198.51.100.7", "carrier"
CALL_ID = "00000000-0000-4000-8000-000000000005"
BATCH = 20  # flips before the room must have caught up
PATIENCE = 60.0  # seconds for the room to catch up
STEP = 0.05  # seconds of the endpoint's time between two requests
HOLDS = {
    "sendonly": "sendonly",
    "inactive": "inactive",
    "zero address": "zero-address",
    "port 0": "no-media",
}
WAYS = ("INVITE", "UPDATE", "offerless")
_TAG = re.compile(rb"^To: .*;tag=([^\s;]+)", re.MULTILINE)
_CONTACT = re.compile(rb"^Contact: <([^>]+)>", re.MULTILINE)


class Broken(Exception):
    """A promise was not kept."""


@dataclass(slots=True)
class Around:
    """What is around one call: media, room, journal, SIP; and what they were told."""

    levels: MediaLevels | None = None
    room: list[dict[str, object]] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    muted: bool = False
    session: SessionId | None = None
    leg: Leg | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    # RoomSession
    async def join(self, spec: JoinSpec) -> None:
        await asyncio.sleep(0)

    async def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> None:
        await asyncio.sleep(0)
        self.room.append(json.loads(payload))
        self.changed.set()

    async def publish_dtmf(self, digit: str) -> None: ...
    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        await asyncio.sleep(0)

    def mute(self, muted: bool) -> None:
        self.muted = muted

    def subscribe(self, wanted: bool) -> None: ...
    def others(self) -> Sequence[str]:
        return ("agent",)

    async def leave(self, reason: LeaveReason) -> None: ...

    # RoomPort
    async def prepare(
        self, plan: CallPlan, attributes: Mapping[str, str], identity: str | None
    ) -> PreparedRoom:
        spec = JoinSpec(url="ws://x", room=plan.room, identity="sip-1", token="t")
        return PreparedRoom(spec=spec, made=True)

    async def dispatch(self, plan: CallPlan, *, instead_of: str = "") -> str:
        return "AD_1"

    async def recall(self, plan: CallPlan, dispatch: str) -> None: ...
    def delete_later(self, room: str, delay: float) -> None: ...

    # JournalPort
    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[object]:
        self.journal += [record.event.name for record in records]
        return self._written()

    async def _written(self) -> None:
        await asyncio.sleep(0)

    def told(self, event: CallEvent) -> None:
        self.listeners.append(event.name)
        self.changed.set()


class Media:
    """CarrierMedia of `Around`."""

    def __init__(self, around: Around) -> None:
        self.around = around

    def connect(self, negotiated: Negotiated) -> None: ...
    def apply(self, levels: MediaLevels) -> None:
        self.around.levels = levels

    def send_dtmf(self, digits: str) -> None: ...
    def record(self, recording: Recording) -> None: ...
    def stats(self) -> MediaStats:
        raise NotImplementedError

    async def close(self) -> None: ...


class Leg:
    """The call's SIP session: the real endpoint, with a carrier that is only bytes."""

    def __init__(self, around: Around) -> None:
        numbers = count(1)
        self.around = around
        self.endpoint = Endpoint(
            EndpointConfig(listen_ports={"tcp": 5060}), tokens=lambda: f"t{next(numbers):08d}"
        )
        self.flow = Flow(
            id=1,
            transport="tcp",
            local=(US, 5060),
            remote=(THEM, 5060),
            trunks=frozenset((TRUNK,)),
            new_call_trunks=frozenset((TRUNK,)),
        )
        self.now = 1000.0
        self.cseq = 0
        self.tag = self.target = b""
        self.session: SessionId | None = None
        self.call: Call | None = None
        self.answers: list[bytes] = []
        self.expected_transmit: bool | None = None

    # SipPort
    def dial(self) -> None: ...
    def ring(self) -> None:
        self.endpoint.ring(self._known(), self.now)
        self.run()

    def answer(self) -> None:
        self.endpoint.answer(self._known(), self.now)
        self.run()
        self.around.changed.set()

    def reject(self, status: int) -> None: ...
    def cancel(self) -> None: ...
    def bye(self, reason: Reason | None = None) -> None:
        self.endpoint.bye(self._known(), self.now)
        self.run()

    def reoffer(self, direction: MediaDirection) -> None: ...
    def refer(self, to: str, replaces: SessionId | None) -> None: ...
    def answer_refer(self, status: int) -> None: ...
    def tell_referred(self, status: int) -> None: ...
    def probe(self) -> None: ...

    def _known(self) -> SessionId:
        assert self.session is not None
        return self.session

    # The carrier
    def say(self, method: str, body: bytes = b"") -> bytes:
        """Send a request of the carrier; return our answer, ``b""`` for an ACK."""
        self.cseq += method != "ACK"
        self.now += STEP
        self.endpoint.tick(self.now)
        to = b"<sip:5551@192.0.2.1>" + (b";tag=" + self.tag if self.tag else b"")
        head = [
            b"%b %b SIP/2.0" % (method.encode(), self.target or b"sip:5551@192.0.2.1"),
            b"Via: SIP/2.0/TCP 198.51.100.7:5060;branch=z9hG4bKc%d%b"
            % (self.cseq, method.encode()),
            b"Max-Forwards: 70",
            b"From: <sip:carol@198.51.100.7>;tag=theirs",
            b"To: " + to,
            b"Call-ID: flips",
            b"CSeq: %d %b" % (self.cseq, method.encode()),
            b"Contact: <sip:carol@198.51.100.7:5060;transport=tcp>",
        ]
        if body:
            head.append(b"Content-Type: application/sdp")
        head.append(b"Content-Length: %d" % len(body))
        self.answers.clear()
        self.endpoint.receive(b"\r\n".join(head) + b"\r\n\r\n" + body, self.flow, self.now)
        self.run()
        return self.answers[-1] if self.answers else b""

    def run(self) -> None:
        """Do what the endpoint wants, in order."""
        while outputs := self.endpoint.poll(self.now):
            for output in outputs:
                match output:
                    case Send():
                        self._sent(output.data)
                    case PassUp() if isinstance(output.event, IncomingInvite):
                        self.session = output.event.session
                        self._adopt()
                    case PassUp() if self.call is not None:
                        self.call.post(output.event)  # type: ignore[arg-type]
                    case _:
                        pass

    def _sent(self, data: bytes) -> None:
        self.answers.append(data)
        levels = self.around.levels
        if self.expected_transmit is not None and data.startswith(b"SIP/2.0 200"):
            transmits = levels is not None and levels.transmit
            if transmits and not self.expected_transmit:
                raise Broken("the answer to a hold was written before RTP stopped")

    def _adopt(self) -> None:
        local = LocalMedia(address=US, port=20000, codecs=("PCMA", "PCMU"), session_id=1)
        media = OfferAnswer(local, destination_allowed=lambda _address, _port: True)
        self.endpoint.adopt(self._known(), media, TRUNK, self.now)


class Carrier:
    """Holds and resumes, in a dialect drawn by lot."""

    def __init__(self, leg: Leg, seed: int) -> None:
        self.leg = leg
        self.random = random.Random(seed)
        self.version = 1
        self.port = 30000

    def offer(self, dialect: str) -> bytes:
        """Return SDP; the version grows and now and then the port moves."""
        self.version += 1
        address = "0.0.0.0" if dialect == "zero address" else THEM
        port = 0 if dialect == "port 0" else self.port
        lines = [
            "v=0",
            f"o=- 7 {self.version} IN IP4 {THEM}",
            "s=-",
            f"c=IN IP4 {address}",
            "t=0 0",
            f"m=audio {port} RTP/AVP 8 101",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:101 telephone-event/8000",
        ]
        if dialect in ("sendonly", "inactive", "sendrecv"):
            lines.append(f"a={dialect}")
        return ("\r\n".join(lines) + "\r\n").encode()

    def change(self, dialect: str) -> None:
        """Bring the session to *dialect*, by any of the ways there are."""
        leg, way = self.leg, self.random.choice(WAYS)
        held = dialect in HOLDS
        if way == "offerless":
            leg.expected_transmit = None
            self._expect(leg.say("INVITE"))
            leg.say("ACK", self.offer(dialect))
        else:
            leg.expected_transmit = not held
            self._expect(leg.say(way, self.offer(dialect)))
            leg.expected_transmit = None
            if way == "INVITE":
                leg.say("ACK")

    @staticmethod
    def _expect(answer: bytes) -> None:
        if not answer.startswith(b"SIP/2.0 200"):
            raise Broken(f"answered {answer[:40]!r}")

    def flip(self) -> Iterator[str]:
        """Hold and resume once; yield what should be told."""
        dialect = self.random.choice(list(HOLDS))
        self.change(dialect)
        yield HOLDS[dialect]
        if self.random.random() < 0.3:  # a refresh, or another dialect: silent
            self.change(self.random.choice([dialect, "inactive", "sendonly"]))
        if self.random.random() < 0.2:
            self.port = 30000 + 2 * self.random.randrange(5000)
        self.change(self.random.choice(["sendrecv", "no attribute"]))
        yield "resume"
        if self.random.random() < 0.2:
            self.change("no attribute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run did."""

    flips: int
    requests: int
    events: int
    seconds: float


async def run(flips: int, *, seed: int = 1) -> Result:
    """Hold and resume *flips* times. Raises `Broken`."""
    around = Around()
    leg = Leg(around)
    carrier = Carrier(leg, seed)
    loop = asyncio.get_running_loop()
    plan = CallPlan(
        call_id=CALL_ID,
        direction=Direction.INBOUND,
        trunk=TRUNK,
        room="flips",
        created_at=1_700_000_000.0,
        phone_number="+911",
        trunk_number="+912",
        answer_mode=AnswerMode.NOW,
    )
    started = time.perf_counter()
    leg.say("INVITE", carrier.offer("sendrecv"))
    call = leg.call = Call(
        plan,
        sip=leg,
        open_media=lambda _handlers, _notify: CallMedia(carrier=Media(around), room=around),
        rooms=around,
        journal=around,
        publish=around.told,
        clock=loop.time,
        wall=lambda: 1_700_000_000.0 + loop.time(),
        on_end=lambda _call: None,
    )
    call.start()
    async with asyncio.timeout(PATIENCE):
        while not any(answer.startswith(b"SIP/2.0 200") for answer in leg.answers):
            around.changed.clear()
            await around.changed.wait()
    accepted = leg.answers[-1]
    leg.tag = _TAG.search(accepted)[1]  # type: ignore[index]
    leg.target = _CONTACT.search(accepted)[1]  # type: ignore[index]
    leg.say("ACK")
    expected = ["call_answered"]
    for number in range(flips):
        for what in carrier.flip():
            expected.append(what)
            await asyncio.sleep(0)
        if number % BATCH == BATCH - 1:
            await _caught_up(around, len(expected))
    await _caught_up(around, len(expected))
    seconds = time.perf_counter() - started
    call.post(HangUp(by=By.API))
    await asyncio.wait_for(call.wait_ended(), 10)
    _check(around, [*expected, "call_ended"])
    return Result(flips=flips, requests=leg.cseq, events=len(expected) + 1, seconds=seconds)


async def _caught_up(around: Around, number: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while min(len(around.room), len(around.listeners)) < number:
            around.changed.clear()
            await around.changed.wait()


def _check(around: Around, expected: list[str]) -> None:
    """Compare what the room, the journal and the listeners were told with what was done."""
    told = [_short(event) for event in around.room]
    for place, (have, want) in enumerate(zip(told, expected, strict=False)):
        if have != want:
            raise Broken(f"event {place + 1} is {have}, should be {want}")
    if len(told) != len(expected):
        raise Broken(f"{len(told)} events, should be {len(expected)}")
    if [event["seq"] for event in around.room] != list(range(1, len(expected) + 1)):
        raise Broken("seq has a gap or goes back")
    names = [event["event"] for event in around.room]
    if names != around.journal or names != around.listeners:
        raise Broken("journal, room and listeners were told different things")


def _short(event: dict[str, object]) -> str:
    match event["event"]:
        case "call_hold":
            return str(event["direction"])
        case "call_resume":
            return "resume"
        case name:
            return str(name)


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = asyncio.run(run(given.flips, seed=given.seed))
    print(
        f"{result.flips} flips, {result.requests} requests, {result.events} events in order:"
        f" {result.seconds:.1f} s, {1e6 * result.seconds / result.flips:.0f} us a flip"
    )


if __name__ == "__main__":
    main()
