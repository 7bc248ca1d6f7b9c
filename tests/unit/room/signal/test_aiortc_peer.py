"""The tests' own WebRTC peer, two of them back to back over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from bridge.room.signal.port import (
    AnswerMade,
    ChannelOpened,
    DataDelivered,
    DataReceived,
    OfferMade,
    PeerClosed,
    PeerConnected,
    PeerEvent,
    Side,
    TrackHeard,
)
from tests.webrtc.aiortc_peer import LOSSY, RELIABLE, AiortcPeer

pytestmark = pytest.mark.unit

DEADLINE = 10.0
T = TypeVar("T")


class Told:
    """The events of one peer, with a way to wait."""

    def __init__(self) -> None:
        self.events: list[PeerEvent] = []
        self._changed = asyncio.Event()

    def __call__(self, event: PeerEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def first(self, wanted: Callable[[PeerEvent], bool]) -> PeerEvent:
        """Wait for an event, and take it out with all before it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for index, event in enumerate(self.events):
                    if wanted(event):
                        del self.events[: index + 1]
                        return event
                self._changed.clear()
                await self._changed.wait()

    async def of(self, kind: type[T]) -> T:
        """Wait for the next event of a kind."""
        event = await self.first(lambda one: isinstance(one, kind))
        assert isinstance(event, kind)
        return event


class Pair:
    """A publisher and, in the server's place, another peer that takes its offers."""

    def __init__(self) -> None:
        self.told, self.far_told = Told(), Told()
        self.peer, self.far = AiortcPeer(self.told), AiortcPeer(self.far_told)

    async def negotiate(self) -> str:
        """Carry our next offer over and the answer back; return the offer."""
        offer = (await self.told.of(OfferMade)).sdp
        self.far.accept_offer(Side.SUBSCRIBER, offer)
        answer = (await self.far_told.of(AnswerMade)).sdp
        self.peer.accept_answer(Side.PUBLISHER, answer)
        return offer

    async def connect(self, track: str | None = "TR_a", receivers: int = 2) -> str:
        self.far.open(Side.SUBSCRIBER, address="127.0.0.1", track=None, receivers=0)
        self.peer.open(Side.PUBLISHER, address="127.0.0.1", track=track, receivers=receivers)
        offer = await self.negotiate()
        await self.told.of(PeerConnected)
        return offer


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    await made.peer.finish()
    await made.far.finish()


async def test_the_offer_has_data_then_what_receives_then_our_track(pair: Pair) -> None:
    offer = await pair.connect(receivers=2)
    sections = [one.split("\r\n") for one in offer.split("m=")[1:]]
    assert [one[0].split()[0] for one in sections] == ["application", "audio", "audio", "audio"]
    assert ["a=recvonly" in one for one in sections] == [False, True, True, False]
    assert sections[1][0].split()[3:] == ["111", "0", "8"]
    assert sections[3][0].split()[3:] == ["0"]
    assert "a=msid:- TR_a" in sections[3]


async def test_messages_go_in_order_also_those_before_the_channel_opens(pair: Pair) -> None:
    sent = [str(number).encode() for number in range(50)]
    pair.peer.open(Side.PUBLISHER, address="127.0.0.1", track=None, receivers=0)
    for one in sent[:25]:
        pair.peer.send(RELIABLE, one)
    pair.far.open(Side.SUBSCRIBER, address="127.0.0.1", track=None, receivers=0)
    await pair.negotiate()
    opened = await pair.told.of(ChannelOpened)
    assert opened.label == RELIABLE
    for one in sent[25:]:
        pair.peer.send(RELIABLE, one)
    assert [(await pair.far_told.of(DataReceived)).data for _ in sent] == sent


async def test_messages_are_told_to_be_delivered_once_the_far_end_has_them(
    pair: Pair,
) -> None:
    await pair.connect()
    for one in (b"1", bytes(40_000), b"3"):
        pair.peer.send(RELIABLE, one)
        pair.peer.send(LOSSY, one[:9])
    told = 0
    while told < 3:
        told += (await pair.told.of(DataDelivered)).count
    assert told == 3
    heard = [one.data for one in pair.far_told.events if isinstance(one, DataReceived)]
    assert heard.count(b"3") >= 1, "by then"


async def test_a_tone_is_heard_and_a_muted_track_sends_nothing(pair: Pair) -> None:
    await pair.connect()
    pair.peer.play(440)
    heard = await pair.far_told.of(TrackHeard)
    track = pair.far.heard(heard.mid, Side.SUBSCRIBER)
    assert track is not None
    await track.wait_for(12, DEADLINE)
    assert abs(track.loudest_hertz(10) - 440) < 20
    pair.peer.mute(True)
    sent = pair.peer.packets_sent()
    pair.peer.send(RELIABLE, b"after")
    await pair.far_told.of(DataReceived)
    assert pair.peer.packets_sent() <= sent + 1


async def test_more_receivers_stand_at_the_end_and_the_transport_stays(pair: Pair) -> None:
    await pair.connect(receivers=1)
    pair.peer.add_receivers(Side.PUBLISHER, 0)
    offer = await pair.negotiate()
    assert offer.count("a=recvonly") == 2
    assert offer.rindex("a=recvonly") > offer.index("a=sendonly")
    pair.peer.send(RELIABLE, b"still here")
    assert (await pair.far_told.of(DataReceived)).data == b"still here"


async def test_an_ice_restart_brings_a_new_path_and_keeps_the_channels(pair: Pair) -> None:
    first = await pair.connect()
    pair.peer.restart_ice(Side.PUBLISHER)
    second = await pair.negotiate()
    assert _username(first) != _username(second)
    await pair.told.of(PeerConnected)
    pair.peer.send(RELIABLE, b"on the new path")
    assert (await pair.far_told.of(DataReceived)).data == b"on the new path"


async def test_the_far_end_closing_is_told_once_and_our_own_never(pair: Pair) -> None:
    await pair.connect()
    pair.far.close(Side.SUBSCRIBER)
    assert (await pair.told.of(PeerClosed)).why == "remote"
    pair.peer.close(Side.PUBLISHER)
    await pair.peer.finish()
    assert not any(isinstance(one, PeerClosed) for one in pair.told.events)


def _username(sdp: str) -> str:
    return next(line for line in sdp.splitlines() if line.startswith("a=ice-ufrag:"))
