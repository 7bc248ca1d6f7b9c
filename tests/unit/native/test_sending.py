"""Both engines put the same bytes on the wire for the same commands, and tell the same.

`SdkCarrier` runs on sockets that keep what is sent; the direct engine's carrier is driven as its
threads drive it. Times are multiples of 1/512 s, which seconds and nanoseconds both have exactly.
"""

from __future__ import annotations

import math
import random
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from bridge.media import carrier as sdk
from bridge.media.seam import (
    KeyPressed,
    Lease,
    MediaLevels,
    MediaNotice,
    MediaSpec,
    MediaTimedOut,
)
from rtp import g711, rtcp
from rtp.clock import PacketClock
from rtp.net.srtp import Key, Receiver
from rtp.packet import Packet, build
from sdp.crypto import SUITES, Crypto, MasterKey
from sdp.negotiated import Negotiated

native: Any = pytest.importorskip("trunkbridge_native", reason="native/ is not built")

pytestmark = pytest.mark.unit

CNAME = "0123456789ab"
SSRC, SEQUENCE, TIMESTAMP = 0x1234_5678, 65_500, 0xFFFF_F000
THEM = ("192.0.2.10", 4000)
THEIR_RTCP = ("192.0.2.10", 4001)
OURS = ("192.0.2.10", 20_002)
ALLOWED = "10.1.0.0/16"

TALKING = MediaLevels(transmit=True, agent_audio=True, caller_audio=True, watchdog=2.0)
GATED = MediaLevels(transmit=True, agent_audio=False, caller_audio=False, watchdog=None)
SILENT = MediaLevels(transmit=False, agent_audio=False, caller_audio=False, watchdog=None)
WAITING = MediaLevels(
    transmit=True, agent_audio=True, caller_audio=True, watchdog=0.5, watchdog_initial=1.5
)

Step = tuple[Any, ...]
Sent = tuple[bytes, tuple[str, int]]


def negotiated(**changes: Any) -> Negotiated:
    fields: dict[str, Any] = {
        "remote_address": THEM[0],
        "remote_port": THEM[1],
        "remote_rtcp_port": THEIR_RTCP[1],
        "codec": "PCMA",
        "payload_type": 8,
        "receive_codecs": ((8, "PCMA"), (0, "PCMU")),
        "dtmf_payload_type": 101,
        "receive_dtmf_payload_type": 96,
        "ptime": 20,
        "send": True,
        "receive": True,
        "hold": None,
    }
    return Negotiated(**(fields | changes))


class Room:
    """An agent that says a ramp while it talks."""

    def __init__(self) -> None:
        self.talking = False
        self._at = 0

    def pull(self, samples: int) -> bytes | None:
        if not self.talking:
            return None
        start, self._at = self._at, self._at + samples
        ramp = ((n * 37) % 65_536 - 32_768 for n in range(start, start + samples))
        return b"".join(value.to_bytes(2, "little", signed=True) for value in ramp)

    def push(self, pcm: bytes) -> None:
        """Nobody listens."""

    def discard(self) -> None:
        """A ramp has no past."""


class End(Protocol):
    """One engine's side of the call, on virtual time."""

    room: Room

    def connect(self, agreed: Negotiated, now: float) -> None: ...
    def apply(self, levels: MediaLevels, now: float) -> None: ...
    def send_dtmf(self, digits: str) -> None: ...
    def receive(self, data: bytes, source: tuple[str, int], now: float) -> None: ...
    def receive_rtcp(self, data: bytes, source: tuple[str, int], now: float) -> None: ...
    def beat(self, now: float) -> list[Sent]: ...
    def goodbye(self, now: float) -> list[Sent]: ...
    def told(self) -> tuple[Any, ...]: ...


class Wire(socket.socket):
    """A socket that keeps what is sent."""

    def __init__(self, sent: list[Sent]) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self._sent = sent

    def sendto(self, data: Any, target: Any) -> int:  # type: ignore[override]
        self._sent.append((bytes(data), target))
        return len(data)


class Still:
    """In the place of ticker and ports: time comes from the test, no port is ours."""

    def add(self, _carrier: object) -> float:
        return 0.0

    def remove(self, _carrier: object) -> None:
        """Nothing was kept."""

    def release(self, lease: Lease) -> None:
        lease.rtp.close()
        lease.rtcp.close()

    def is_own(self, address: str, port: int) -> bool:
        return (address, port) == OURS


class Sdk:
    """The engine in Python."""

    def __init__(self) -> None:
        self.room = Room()
        self._sent: list[Sent] = []
        self._notices: list[MediaNotice] = []
        self._time = 0.0
        lease = Lease(
            rtp=Wire(self._sent),
            rtcp=Wire(self._sent),
            address="192.0.2.1",
            port=20_000,
            ssrc=SSRC,
            sequence=SEQUENCE,
            timestamp=TIMESTAMP,
        )
        spec = MediaSpec(
            call_id="c", signalling_address="198.51.100.1", media_allow=(ALLOWED,), hold_music=False
        )
        still: Any = Still()
        self.carrier = sdk.SdkCarrier(
            spec=spec,
            lease=lease,
            room=self.room,
            notify=self._notices.append,
            ports=still,
            ticker=still,
            now=lambda: self._time,
        )

    def connect(self, agreed: Negotiated, now: float) -> None:
        self._time = now
        self.carrier.connect(agreed)

    def apply(self, levels: MediaLevels, now: float) -> None:
        self._time = now
        self.carrier.apply(levels)

    def send_dtmf(self, digits: str) -> None:
        self.carrier.send_dtmf(digits)

    def receive(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self._time = now
        self.carrier._rtp_arrived(data, source)

    def receive_rtcp(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self._time = now
        self.carrier._rtcp_arrived(data, source)

    def beat(self, now: float) -> list[Sent]:
        self._time = now
        self.carrier.tick(now)
        return self._taken()

    def goodbye(self, now: float) -> list[Sent]:
        self._time = now
        self.carrier._say_goodbye()
        return self._taken()

    def _taken(self) -> list[Sent]:
        sent = list(self._sent)
        self._sent.clear()
        return sent

    def told(self) -> tuple[Any, ...]:
        stats, stream = self.carrier.stats(), self.carrier._stream
        notices = [tell(notice) for notice in self._notices]
        return (
            notices,
            self.carrier._latch.target,
            (stream.sequence, stream.timestamp, stream.packets),
            stats.packets_received,
            stats.packets_refused,
            stats.packets_lost,
            stats.packets_sent,
            stats.packets_unauthentic,
            stats.jitter_ms,
            stats.round_trip_ms and round(stats.round_trip_ms, 5),
        )


class Direct:
    """The engine in Rust, on the clocks that its threads keep."""

    def __init__(self) -> None:
        self.room = Room()
        self.carrier = native.CarrierReplay(
            signalling="198.51.100.1",
            allow=[ALLOWED],
            own=[OURS],
            track="PCMA",
            ssrc=SSRC,
            sequence=SEQUENCE,
            timestamp=TIMESTAMP,
            cname=CNAME,
        )
        self._notices: list[Any] = []
        self._looking = PacketClock(start=0.0, period=0.02)
        self._speaking = PacketClock(start=0.0, period=0.02)

    def connect(self, agreed: Negotiated, now: float) -> None:
        self.carrier.connect(
            now,
            remote=(agreed.remote_address, agreed.remote_port),
            remote_rtcp_port=agreed.remote_rtcp_port,
            codec=agreed.codec,
            payload_type=agreed.payload_type,
            receive_codecs=list(agreed.receive_codecs),
            dtmf_payload_type=agreed.dtmf_payload_type,
            receive_dtmf_payload_type=agreed.receive_dtmf_payload_type,
            ptime=agreed.ptime,
            crypto=agreed.crypto and keys_of(agreed.crypto),
        )
        self._speaking.period = self.carrier.samples() / g711.RATE

    def apply(self, levels: MediaLevels, now: float) -> None:
        self.carrier.apply(
            now,
            transmit=levels.transmit,
            agent_audio=levels.agent_audio,
            caller_audio=levels.caller_audio,
            watchdog=levels.watchdog,
            watchdog_initial=levels.watchdog_initial,
        )

    def send_dtmf(self, digits: str) -> None:
        self.carrier.send_dtmf(digits)

    def receive(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self.carrier.receive(data, source, now)

    def receive_rtcp(self, data: bytes, source: tuple[str, int], now: float) -> None:
        self.carrier.receive_rtcp(data, source, now)

    def beat(self, now: float) -> list[Sent]:
        sent = []
        if self._looking.due(now).frames:
            sent.append(self.carrier.poll(now))
            # The other one only logs that SRTP does not pass.
            told = self.carrier.notices()
            self._notices += [notice for notice in told if notice[0] != "not_authentic"]
        due = self._speaking.due(now)
        if due.skipped:
            self.carrier.skip(due.skipped)
            for _ in range(due.skipped if due.skipped <= sdk.MAX_CAUGHT_UP else 0):
                self.room.pull(self.carrier.samples())
        for _ in range(due.frames):
            wanted = self.carrier.wants_audio()
            pcm = self.room.pull(self.carrier.samples()) if wanted else None
            sent.append(self.carrier.send(pcm, now))
        return [packet for packet in sent if packet is not None]

    def goodbye(self, now: float) -> list[Sent]:
        last = self.carrier.goodbye(now)
        return [] if last is None else [last]

    def told(self) -> tuple[Any, ...]:
        stats = self.carrier.stats()
        return (
            self._notices,
            self.carrier.target(),
            self.carrier.position(),
            stats["received"],
            stats["refused"],
            stats["lost"],
            stats["sent"],
            stats["unauthentic"],
            stats["jitter_ms"],
            stats["round_trip_ms"] and round(stats["round_trip_ms"], 5),
        )


def tell(notice: MediaNotice) -> tuple[Any, ...]:
    """Return *notice* as the direct engine has it."""
    match notice:
        case KeyPressed():
            return ("key", notice.digit, notice.duration_ms)
        case MediaTimedOut():
            return ("timed_out", notice.ever)
        case other:
            return (type(other).__name__,)


def keys_of(crypto: Crypto) -> tuple[Any, ...]:
    def plain(key: MasterKey) -> tuple[bytes, bytes, int | None]:
        return key.secret, key.mki, key.lifetime

    return crypto.suite, plain(crypto.send), [plain(key) for key in crypto.receive], crypto.window


def perform(end: End, steps: list[Step]) -> Iterator[Any]:
    """Run *steps* on *end*; what each one sends and tells."""
    beats = 0
    now = 0.0
    for what, *arguments in steps:
        match what:
            case "connect":
                end.connect(arguments[0], now)
            case "apply":
                end.apply(arguments[0], now)
            case "dtmf":
                end.send_dtmf(arguments[0])
            case "talk":
                end.room.talking = arguments[0]
            case "rtp":
                end.receive(arguments[0], arguments[1], now)
            case "rtcp":
                end.receive_rtcp(arguments[0], arguments[1], now)
            case "stall":
                beats += arguments[0]
            case "beat":
                for _ in range(arguments[0]):
                    now = math.ceil(beats * 0.02 * 512) / 512
                    beats += 1
                    yield now, end.beat(now), end.told()
            case "goodbye":
                yield now, end.goodbye(now), end.told()
            case _:
                raise AssertionError(what)


def say(number: int, *, payload_type: int = 8, payload: bytes = b"\x10" * 160) -> Step:
    packet = Packet(payload_type, number & 0xFFFF, number * 160 & 0xFFFF_FFFF, 7, payload)
    return ("rtp", build(packet), THEM)


def sender_report(ntp: int, *blocks: rtcp.ReportBlock) -> bytes:
    sender = rtcp.SenderInfo(ntp=ntp, timestamp=1, packets=2, octets=3)
    return rtcp.build(rtcp.Report(ssrc=7, sender=sender, blocks=blocks), cname="far")


def about_us(last_report: int) -> rtcp.ReportBlock:
    return rtcp.ReportBlock(
        ssrc=SSRC,
        fraction_lost=3,
        cumulative_lost=-1,
        highest_sequence=9,
        jitter=8,
        last_report=last_report,
        delay=655,
    )


def secured(suite: str, *, seed: int = 2, mki: bytes = b"") -> Crypto:
    def key(of: int) -> MasterKey:
        return MasterKey(secret=random.Random(of).randbytes(SUITES[suite]), mki=mki)

    return Crypto(suite=suite, send=key(1), receive=(key(seed),))


def elsewhere(number: int, source: tuple[str, int] = ("192.0.2.99", 6000)) -> Step:
    packet = Packet(8, number, number * 160, 9, b"\x10" * 160)
    return ("rtp", build(packet), source)


CALLS: dict[str, list[Step]] = {
    "nothing leaves before it may": [
        ("beat", 5),
        ("connect", negotiated()),
        ("beat", 5),
        ("goodbye",),
    ],
    "silence, the agent, silence": [
        ("connect", negotiated()),
        ("apply", GATED),
        ("beat", 3),
        ("apply", TALKING),
        ("beat", 2),
        ("talk", True),
        ("beat", 30),
        ("talk", False),
        ("beat", 10),
        ("goodbye",),
    ],
    "the other law and payload type": [
        ("connect", negotiated(codec="PCMU", payload_type=0)),
        ("apply", TALKING),
        ("talk", True),
        ("beat", 450),  # every sample value there is
        ("connect", negotiated(codec="PCMA", payload_type=8)),
        ("beat", 450),
    ],
    "a hold": [
        ("connect", negotiated()),
        ("apply", TALKING),
        ("talk", True),
        ("beat", 10),
        ("dtmf", "123"),
        ("beat", 3),
        ("apply", SILENT),
        ("beat", 40),
        ("dtmf", "4"),
        ("connect", negotiated(remote_address="0.0.0.0")),
        ("beat", 3),
        ("connect", negotiated()),
        ("apply", TALKING),
        ("beat", 10),
        ("goodbye",),
    ],
    "keys": [
        ("connect", negotiated()),
        ("apply", TALKING),
        ("talk", True),
        ("beat", 5),
        ("dtmf", "1w2aBcD*#x9"),
        ("beat", 200),
        ("connect", negotiated(dtmf_payload_type=None)),
        ("dtmf", "5"),
        ("beat", 5),
    ],
    "keys while telephone-event goes away and comes back": [
        ("connect", negotiated()),
        ("apply", TALKING),
        ("dtmf", "12"),
        ("beat", 3),
        ("connect", negotiated(dtmf_payload_type=None)),
        ("beat", 3),
        ("connect", negotiated(dtmf_payload_type=110)),
        ("beat", 40),
    ],
    "stalls": [
        ("connect", negotiated()),
        ("apply", TALKING),
        ("talk", True),
        ("beat", 5),
        *[step for n in (1, 2, 3, 25, 40) for step in (("stall", n), ("beat", 4))],
    ],
    "reports": [
        ("connect", negotiated()),
        ("apply", TALKING),
        say(0),
        ("beat", 150),
        ("rtcp", sender_report(0x1234_5678_9ABC_DEF0), THEIR_RTCP),
        say(1),
        say(5),
        say(5),
        ("beat", 300),
        ("rtcp", sender_report(0, about_us(5 << 16)), THEIR_RTCP),
        ("apply", SILENT),
        ("beat", 800),
        ("rtcp", sender_report(99 << 16), ("203.0.113.1", 4001)),
        ("apply", TALKING),
        ("beat", 300),
        ("goodbye",),
    ],
    "reports that were not asked for": [
        ("connect", negotiated(remote_rtcp_port=0)),
        ("apply", TALKING),
        say(0),
        ("beat", 400),
        ("goodbye",),
    ],
    "a latched source and its reports": [
        ("connect", negotiated()),
        ("apply", TALKING),
        ("beat", 5),
        *[elsewhere(n) for n in range(4)],
        ("beat", 300),
        ("rtcp", sender_report(77 << 20), ("192.0.2.99", 6007)),
        ("beat", 300),
        ("rtp", sender_report(88 << 20), ("192.0.2.99", 6000)),
        ("beat", 300),
        ("goodbye",),
    ],
    "the watchdog": [
        ("connect", negotiated()),
        ("apply", WAITING),
        ("beat", 60),
        say(0),
        ("beat", 20),
        ("apply", SILENT),
        ("beat", 50),
        ("apply", WAITING),
        ("beat", 20),
        say(1),
        ("beat", 60),
        ("apply", TALKING),
        ("beat", 120),
    ],
    "keys of theirs": [
        ("connect", negotiated()),
        ("apply", TALKING),
        say(0),
        *[say(n, payload_type=96, payload=b"\x05\x0a\x00\xa0") for n in (1, 2)],
        ("beat", 20),
        *[say(n, payload_type=96, payload=b"\x06\x8a\x03\x20") for n in (3, 4, 5)],
        ("beat", 5),
    ],
    **{
        f"a packet time of {ptime} ms": [
            ("connect", negotiated(ptime=ptime)),
            ("apply", TALKING),
            ("talk", True),
            ("beat", 30),
            ("dtmf", "1w2"),
            ("beat", 60),
            ("connect", negotiated()),
            ("beat", 10),
        ]
        for ptime in (5, 10, 20, 30, 40, 60, 200)
    },
}


@pytest.fixture(autouse=True)
def _cname(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _size: CNAME)


@pytest.fixture
async def ends() -> Any:
    """Both engines."""
    reference, direct = Sdk(), Direct()
    yield reference, direct
    await reference.carrier.close()


def compare(ends: tuple[Sdk, Direct], steps: list[Step]) -> int:
    """Assert that both do the same; return how many packets that were."""
    count = 0
    for wanted, found in zip(perform(ends[0], steps), perform(ends[1], steps), strict=True):
        assert found == wanted
        count += len(found[1])
    return count


@pytest.mark.parametrize("name", CALLS)
async def test_both_engines_send_and_tell_the_same(ends: tuple[Sdk, Direct], name: str) -> None:
    count = compare(ends, CALLS[name])
    assert (count == 0) is name.startswith("nothing")


def srtp_call(suite: str, mki: bytes) -> list[Step]:
    return [
        ("connect", negotiated(crypto=secured(suite, mki=mki))),
        ("apply", TALKING),
        ("talk", True),
        *[say(n) for n in range(60)],  # in the clear: not theirs
        ("beat", 60),
        ("dtmf", "5"),
        ("beat", 200),
        ("connect", negotiated()),
        ("beat", 5),
        ("connect", negotiated(crypto=secured(suite, seed=3, mki=mki))),
        ("beat", 300),
        ("goodbye",),
    ]


@pytest.mark.parametrize("mki", [b"", b"\x07"])
@pytest.mark.parametrize("suite", SUITES)
async def test_both_engines_send_the_same_srtp(
    ends: tuple[Sdk, Direct], suite: str, mki: bytes
) -> None:
    """Byte by byte but for reports: RFC 3711 3.4 counts them from 0, libsrtp from 1."""
    key = Key(secret=secured(suite).send.secret, mki=mki)
    openers = [Receiver(suite, [key]) for _ in ends]
    steps = srtp_call(suite, mki)
    reports = 0
    for told in zip(*(perform(end, steps) for end in ends), strict=True):
        plain = []
        for opener, (now, sent, figures) in zip(openers, told, strict=True):
            opened = [
                (opener.rtcp(data, now) if to == THEIR_RTCP else data, to) for data, to in sent
            ]
            plain.append((now, opened, figures))
            reports += sum(data is not None for data, to in opened if to == THEIR_RTCP)
        assert plain[1] == plain[0]
    assert reports == 2 * 3


HOSTS = [*[THEM[0]] * 4, "192.0.2.99", "198.51.100.7", "10.1.2.3", "10.9.9.9", "203.0.113.1"]
PORTS = [*[THEM[1]] * 4, 6000, OURS[1]]

CHANCES: list[Callable[[random.Random, int], Step]] = [
    lambda chance, _n: ("beat", chance.randint(1, 12)),
    lambda _chance, n: say(n),
    lambda _chance, n: say(n),
    lambda chance, n: say(n + chance.randint(-70, 70)),
    lambda chance, n: say(n + chance.randint(-40_000, 40_000)),
    lambda chance, n: say(n, payload_type=chance.choice([0, 8, 13, 19, 96, 101])),
    lambda chance, n: say(
        n, payload_type=96, payload=bytes([n % 18, chance.choice([10, 138]), 3, n % 256])
    ),
    lambda chance, n: elsewhere(n % 5 + chance.randint(0, 1)),
    lambda chance, n: elsewhere(n, (chance.choice(HOSTS), chance.choice(PORTS))),
    lambda chance, n: elsewhere(n, (chance.choice(HOSTS), chance.choice(PORTS))),
    lambda _chance, _n: ("apply", SILENT),
    lambda _chance, _n: ("beat", 101),  # longer than a latched source may be silent
    lambda chance, _n: ("rtp", chance.randbytes(chance.randint(0, 40)), THEM),
    lambda chance, _n: ("rtcp", b"\x81\xc9\x00" + chance.randbytes(30), THEIR_RTCP),
    lambda chance, _n: ("rtcp", sender_report(chance.getrandbits(64), about_us(0)), THEIR_RTCP),
    lambda chance, _n: ("apply", chance.choice([TALKING, GATED, SILENT, WAITING])),
    lambda chance, _n: ("talk", chance.random() < 0.7),
    lambda chance, _n: ("dtmf", chance.choice(["5", "w", "1w2", "#*", "d"])),
    lambda chance, _n: ("stall", chance.randint(1, 30)),
    lambda chance, _n: (
        "connect",
        negotiated(
            ptime=chance.choice([10, 20, 30, 40, 60]),
            remote_address=chance.choice([*HOSTS, "0.0.0.0", "", "host.example", "127.0.0.1"]),
            remote_port=chance.choice([*PORTS, 4002, 0]),
            remote_rtcp_port=chance.choice([4001, 0]),
            codec=chance.choice(["PCMA", "PCMU"]),
            dtmf_payload_type=chance.choice([101, None]),
        ),
    ),
]


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_both_do_the_same(ends: tuple[Sdk, Direct], seed: int) -> None:
    chance = random.Random(seed)
    steps: list[Step] = [("connect", negotiated()), ("apply", TALKING), ("talk", True)]
    for n in range(100):
        chosen = chance.choice(CHANCES)
        steps += [chosen(chance, n + again) for again in range(chance.choice([1, 1, 1, 4, 60]))]
        steps.append(("beat", 1))
    assert compare(ends, [*steps, ("beat", 5), ("goodbye",)]) > 0
