"""The native core as Python sees it: phones on loopback, and calls that are each other's room."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

native = pytest.importorskip("trunkbridge_native")

pytestmark = pytest.mark.unit

PATIENCE = 20.0
"""Seconds: a machine under load is slow, not wrong."""

SILENCE = b"\xff"


class Desk:
    """A core, and the notes of its calls as they come."""

    def __init__(self) -> None:
        self.core = native.Core(threads=1, priority=0)
        self.notes: dict[int, list[tuple[Any, ...]]] = {}
        self.phones: list[Phone] = []
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.core.fileno(), self._drain)

    def _drain(self) -> None:
        for call, *note in self.core.drain():
            self.notes.setdefault(call, []).append(tuple(note))
        self._more.set()

    async def told(self, call: int, kind: str, *fields: Any) -> tuple[Any, ...]:
        """Return the first note of *kind* that begins with *fields*, and take it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for note in self.notes.get(call, []):
                    if note[: 1 + len(fields)] == (kind, *fields):
                        self.notes[call].remove(note)
                        return note
                self._more.clear()
                await self._more.wait()

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.core.fileno())
        self.core.stop()
        for phone in self.phones:
            phone.close()


class Phone:
    """A carrier's side: its own socket, and the call's two."""

    def __init__(self, desk: Desk, *, track: str = "PCMU") -> None:
        self.desk, self.core = desk, desk.core
        self.socket = _bound()
        self.rtp, self.rtcp = _bound(), _bound()
        self.call = self.core.open(
            self.rtp.fileno(),
            self.rtcp.fileno(),
            ssrc=7,
            sequence=100,
            timestamp=1000,
            track=track,
            signalling="127.0.0.1",
            allow=["127.0.0.0/8"],
            cname="test",
        )
        self._sequence = 0
        desk.phones.append(self)

    def answer(self) -> None:
        """Connect it to our socket and open everything."""
        self.core.connect(
            self.call,
            remote=self.socket.getsockname(),
            remote_rtcp_port=0,
            codec="PCMU",
            payload_type=0,
            receive_codecs=[(0, "PCMU")],
            dtmf_payload_type=101,
            receive_dtmf_payload_type=101,
            ptime=20,
            crypto=None,
        )
        self.core.apply(
            self.call,
            transmit=True,
            agent_audio=True,
            caller_audio=True,
            watchdog=None,
            watchdog_initial=None,
        )

    def say(self, payload: bytes) -> None:
        self._sequence += 1
        header = struct.pack("!BBHII", 0x80, 0, self._sequence, 160 * self._sequence, 9)
        self.socket.sendto(header + payload, self.rtp.getsockname())

    async def hear(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.get_running_loop().sock_recv(self.socket, 2048)

    async def hear_until(self, wanted: Callable[[bytes], bool], *, saying: bytes) -> None:
        """Talk, a packet for a packet, until one comes that is *wanted*."""
        async with asyncio.timeout(PATIENCE):
            while not wanted((await self.hear())[12:]):
                self.say(saying)

    def close(self) -> None:
        for one in (self.socket, self.rtp, self.rtcp):
            one.close()


def _bound() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    one.setblocking(False)
    return one


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    made.stop()


async def joined(ours: Phone, theirs: Phone, address: str = "127.0.0.1") -> None:
    """Let the second phone's call be the room of the first one's."""
    desk = ours.desk
    desk.core.peer_open(ours.call, 0, address=address, track="mic", receivers=1)
    desk.core.peer_open(theirs.call, 1, address=address, track=None, receivers=0)
    offer = await desk.told(ours.call, "offer", 0)
    desk.core.peer_offer(theirs.call, 1, offer[2])
    answer = await desk.told(theirs.call, "answer", 1)
    desk.core.peer_answer(ours.call, 0, answer[2])
    await desk.told(ours.call, "connected", 0)
    await desk.told(theirs.call, "connected", 1)


async def test_a_call_speaks_at_its_steady_clock_and_tells_where_its_stream_ended(
    desk: Desk,
) -> None:
    phone = Phone(desk)
    phone.answer()
    first, second = await phone.hear(), await phone.hear()
    assert struct.unpack("!H", second[2:4])[0] == struct.unpack("!H", first[2:4])[0] + 1
    assert first[12:] == SILENCE * 160
    assert desk.core.turns().calls == 1
    desk.core.close(phone.call)
    _, sequence, timestamp, packets = await desk.told(phone.call, "closed")
    assert (sequence, timestamp >= 1000 + 160 * packets) == (100 + packets, True)
    with pytest.raises(KeyError):
        desk.core.stats(phone.call)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_the_carriers_packets_cross_the_room_to_the_other_phone(
    desk: Desk, address: str
) -> None:
    ours, theirs = Phone(desk), Phone(desk)
    await joined(ours, theirs, address)
    theirs.answer()
    ours.answer()
    tone = bytes((0x10, 0x90)) * 80
    ours.say(tone)
    talk = asyncio.create_task(ours.hear_until(lambda _payload: False, saying=tone))
    # The decoder of the other end may smooth the edges: loud is enough.
    await theirs.hear_until(lambda payload: payload.count(0x10) > 40, saying=SILENCE * 160)
    talk.cancel()
    await desk.told(theirs.call, "track", 1)
    async with asyncio.timeout(PATIENCE):
        while not desk.core.stats(ours.call).packets_forwarded:
            await ours.hear()  # figures are written some ten times a second


async def test_a_recorder_has_what_the_caller_said_and_what_went_out(desk: Desk) -> None:
    ours, theirs = Phone(desk), Phone(desk)
    taps = [desk.core.tap(phone.call) for phone in (ours, theirs)]
    await joined(ours, theirs)
    theirs.answer()
    ours.answer()
    tone = bytes((0x10, 0x90)) * 80
    ours.say(tone)
    talk = asyncio.create_task(ours.hear_until(lambda _payload: False, saying=tone))
    await theirs.hear_until(lambda payload: payload.count(0x10) > 40, saying=SILENCE * 160)
    talk.cancel()
    for phone in (ours, theirs):
        desk.core.close(phone.call)
        await desk.told(phone.call, "closed")
    (said, _, _), (_, heard, dropped) = (tap.finish() for tap in taps)
    assert max(abs(sample) for (sample,) in struct.iter_unpack("<h", said)) > 10_000
    assert max(abs(sample) for (sample,) in struct.iter_unpack("<h", heard)) > 10_000
    assert dropped == 0
    with pytest.raises(KeyError):
        desk.core.tap(ours.call)


async def test_messages_arrive_whole_and_in_order_also_those_from_before_the_channel_was_open(
    desk: Desk,
) -> None:
    ours, theirs = Phone(desk), Phone(desk)
    sent = [os.urandom(size) for size in (1, 15_000, 3, 60_000, 5)]
    desk.core.peer_open(ours.call, 0, address="127.0.0.1", track="mic", receivers=1)
    desk.core.peer_send(ours.call, "_reliable", sent[0])
    await _answered(desk, ours, theirs)
    for message in sent[1:]:
        desk.core.peer_send(ours.call, "_reliable", message)
    for message in sent:
        note = await desk.told(theirs.call, "data", 1, "_reliable")
        assert note[3] == message
    delivered = 0
    while delivered < len(sent):
        delivered += (await desk.told(ours.call, "delivered", 0, "_reliable"))[3]
    assert delivered == len(sent)
    labels = {(await desk.told(ours.call, "channel", 0))[2] for _ in range(2)}
    assert labels == {"_reliable", "_lossy"}


async def _answered(desk: Desk, ours: Phone, theirs: Phone) -> None:
    desk.core.peer_open(theirs.call, 1, address="127.0.0.1", track=None, receivers=0)
    desk.core.peer_offer(theirs.call, 1, (await desk.told(ours.call, "offer", 0))[2])
    desk.core.peer_answer(ours.call, 0, (await desk.told(theirs.call, "answer", 1))[2])


async def test_more_messages_than_may_wait_end_the_transport(desk: Desk) -> None:
    phone = Phone(desk)
    desk.core.peer_open(phone.call, 0, address="127.0.0.1", track="mic", receivers=1)
    for _ in range(257):
        desk.core.peer_send(phone.call, "_reliable", b"never read")
    assert await desk.told(phone.call, "peer_closed") == ("peer_closed", 0, "overflow")
    for message in (b"", bytes(65_537)):
        with pytest.raises(ValueError, match="64 KiB"):
            desk.core.peer_send(phone.call, "_reliable", message)


async def test_a_room_that_closes_is_told_and_the_carrier_goes_on(desk: Desk) -> None:
    ours, theirs = Phone(desk), Phone(desk)
    ours.answer()
    await joined(ours, theirs)
    desk.core.close(theirs.call)
    assert await desk.told(ours.call, "peer_closed") == ("peer_closed", 0, "remote")
    await ours.hear()
    # And the room may be joined again.
    another = Phone(desk)
    await joined(ours, another)


async def test_sections_are_added_after_ice_was_restarted(desk: Desk) -> None:
    ours, theirs = Phone(desk), Phone(desk)
    await joined(ours, theirs)
    desk.core.peer_restart_ice(ours.call, 0)
    # A second wish while the first is under way is offered after it.
    desk.core.peer_receivers(ours.call, 0, 2)
    before = ""
    for _ in range(2):
        offer = (await desk.told(ours.call, "offer", 0))[2]
        assert _credentials(offer) != before
        desk.core.peer_offer(theirs.call, 1, offer)
        desk.core.peer_answer(ours.call, 0, (await desk.told(theirs.call, "answer", 1))[2])
    assert offer.count("m=audio") == 4
    desk.core.peer_send(ours.call, "_reliable", b"still there")
    assert (await desk.told(theirs.call, "data", 1))[3] == b"still there"


def _credentials(sdp: str) -> str:
    return next(line for line in sdp.splitlines() if line.startswith("a=ice-ufrag"))


async def test_a_muted_track_sends_nothing_and_one_that_is_not_speaks_before_the_carrier_does(
    desk: Desk,
) -> None:
    silent, open_ = Phone(desk), Phone(desk)
    desk.core.peer_mute(silent.call, True)
    for phone in (silent, open_):
        await joined(phone, Phone(desk))
        phone.answer()
    async with asyncio.timeout(PATIENCE):
        while desk.core.stats(open_.call).room_packets_silence < 10:
            silent.say(bytes(160))
            await open_.hear()
    assert desk.core.stats(silent.call).room_packets_sent == 0


async def test_nothing_is_told_of_a_transport_that_was_replaced(desk: Desk) -> None:
    phone = Phone(desk)
    for _ in range(3):
        desk.core.peer_open(phone.call, 0, address="127.0.0.1", track="mic", receivers=1)
    desk.core.peer_answer(phone.call, 0, "no description")
    await desk.told(phone.call, "peer_closed", 0, "sdp")
    assert [note[0] for note in desk.notes[phone.call]] == ["offer"]


async def test_the_section_that_sends_offers_the_tracks_law_only(desk: Desk) -> None:
    phone = Phone(desk, track="PCMA")
    desk.core.peer_open(phone.call, 0, address="::1", track="mic", receivers=2)
    sdp = (await desk.told(phone.call, "offer", 0))[2]
    sections = [part.splitlines() for part in sdp.split("\r\nm=")[1:]]
    assert [lines[0].split()[0] for lines in sections] == ["application", *["audio"] * 3]
    assert [lines[0].split()[3:] for lines in sections[1:]] == [["63", "111", "0", "8"]] * 2 + [
        ["8"]
    ]
    assert [("a=sendonly" in lines) for lines in sections] == [False, False, False, True]
    assert any(line == "a=msid:- mic" for line in sections[3])
    assert " ::1 " in sdp  # our candidate


def test_what_makes_no_sense_is_refused() -> None:
    core = native.Core(priority=0)
    with pytest.raises(OSError, match="descriptor"):
        core.open(-1, -1, ssrc=1, sequence=1, timestamp=1, signalling="", allow=[], cname="")
    with pytest.raises(ValueError, match="network"):
        core.open(0, 0, ssrc=1, sequence=1, timestamp=1, signalling="", allow=["x"], cname="")
    with pytest.raises(ValueError, match="side"):
        core.peer_close(1, 2)
    core.stop()
    core.stop()
    with pytest.raises(ValueError, match="threads"):
        native.Core(threads=0)
