"""The direct engine's own part: what it does when the core is stopped, hangs or says nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.media import direct
from bridge.media.direct import DirectEngine, DirectTransports
from bridge.media.ports import Ports
from bridge.media.seam import CallMedia, MediaNotice, MediaSpec
from bridge.observe.systemd import ClockSign
from bridge.room.seam import RoomHandlers
from bridge.room.signal.port import PeerClosed, PeerEvent, PeerFactory, Side

pytestmark = pytest.mark.unit


class FakeCore:
    """A core that does nothing by itself. Stopped, it takes no commands, as the real one."""

    def __init__(self) -> None:
        self.now = SimpleNamespace(turns=0, missed=0, late=0.0, calls=0, behind=0.0)
        self.stopped = False
        self.opened = 0
        self.done: list[str] = []

    def turns(self) -> Any:
        return self.now

    def open(self, *_sockets: int, **_setup: Any) -> int:
        self.opened += 1
        return self.opened

    def stats(self, _call: int) -> Any:
        return SimpleNamespace(
            packets_received=1,
            packets_sent=7,
            packets_lost=0,
            packets_refused=0,
            packets_unauthentic=0,
            jitter_ms=0.0,
            round_trip_ms=None,
            packets_late=0,
            packets_shed=0,
        )

    def hang_up(self, _call: int, *, goodbye: bool) -> None:
        assert goodbye
        self._command("hang_up")

    def close(self, _call: int) -> None:
        self._command("close")

    def peer_open(self, _call: int, _side: int, **_options: Any) -> None:
        self._command("peer_open")

    def peer_close(self, _call: int, _side: int) -> None:
        self._command("peer_close")

    def peer_send(self, _call: int, _label: str, _data: bytes) -> None:
        self._command("peer_send")

    def peer_mute(self, _call: int, _muted: bool) -> None:
        self._command("peer_mute")

    def stop(self) -> None:
        self.stopped = True

    def _command(self, name: str) -> None:
        if self.stopped:
            msg = "the media threads take no commands"
            raise RuntimeError(msg)
        self.done.append(name)


class House:
    """An engine on a core that is played."""

    def __init__(self) -> None:
        self.core = FakeCore()
        self.ports = Ports("31500-31599")
        self.transports: list[Any] = []
        self.told: list[PeerEvent] = []
        self.engine = DirectEngine(self.core, self._room, self.ports)  # type: ignore[arg-type]

    def _room(self, _handlers: RoomHandlers, peers: PeerFactory, _law: str) -> Any:
        self.transports.append(peers(self.told.append))
        return None

    def open(self) -> CallMedia:
        self.lease = self.ports.lease("127.0.0.1")
        spec = MediaSpec(
            call_id="c", signalling_address="127.0.0.1", media_allow=(), hold_music=False
        )
        notices: list[MediaNotice] = []
        return self.engine.open(spec, self.lease, RoomHandlers(notify=print), notices.append)


async def test_a_call_that_ends_after_the_core_was_stopped_frees_its_ports_and_its_room() -> None:
    house = House()
    media = house.open()
    (transports,) = house.transports
    assert isinstance(transports, DirectTransports)
    transports.open(Side.PUBLISHER, address="127.0.0.1", track="t", receivers=1)
    house.core.stop()
    await media.carrier.close()
    transports.close(Side.PUBLISHER)
    assert house.lease.rtp.fileno() == -1
    assert house.engine.clock().calls == 0


async def test_a_core_that_takes_no_commands_is_a_lost_transport_and_raises_into_no_call() -> None:
    house = House()
    media = house.open()
    (transports,) = house.transports
    transports.open(Side.PUBLISHER, address="127.0.0.1", track="t", receivers=1)
    house.core.stop()
    for _ in range(3):
        transports.send("_reliable", b"event")
        transports.mute(True)
    assert house.told == [], "never from inside a method"
    await asyncio.sleep(0)
    assert house.told == [PeerClosed(side=Side.PUBLISHER, why="fault")]
    assert not transports.in_use
    transports.send("_reliable", b"event")
    transports.open(Side.PUBLISHER, address="127.0.0.1", track="t", receivers=1)
    await asyncio.sleep(0)
    assert len(house.told) == 2, "the next one, and nothing of the one before"
    await media.carrier.close()


async def test_what_was_sent_is_still_known_of_a_call_whose_end_the_core_does_not_confirm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "FAREWELL", 0.01)
    house = House()
    media = house.open()
    await media.carrier.close()
    assert media.carrier.stats().packets_sent == 7  # else its keys would look unused
    assert house.core.done == ["hang_up", "close"]
    assert house.engine.clock().calls == 0


async def test_the_ends_of_all_calls_are_waited_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "FAREWELL", 0.01)
    house = House()
    house.open()
    house.open()
    await house.engine.stop()
    assert house.core.done == ["hang_up", "hang_up", "close", "close"]
    assert house.core.stopped


def test_a_thread_that_hangs_is_seen_although_others_turn() -> None:
    house = House()
    sign = ClockSign(house.engine.clock)
    house.core.now.calls = 2
    for turns in (10, 20):
        house.core.now.turns = turns
        assert sign.alive()
    house.core.now.turns, house.core.now.behind = 30, 5.0
    assert not sign.alive()
    house.core.now.turns, house.core.now.behind = 40, 0.001
    assert sign.alive()


class Follower:
    """A recording that only notes what it is to follow."""

    def __init__(self) -> None:
        self.taps: list[object] = []

    def follow(self, tap: object) -> None:
        self.taps.append(tap)


async def test_a_recording_follows_the_cores_tap_and_nothing_of_a_core_that_is_gone() -> None:
    house = House()
    media = house.open()
    tapped: list[int] = []

    def tap(call: int) -> str:
        house.core._command("tap")
        tapped.append(call)
        return "the tap"

    house.core.tap = tap  # type: ignore[attr-defined]
    recording = Follower()
    media.carrier.record(recording)  # type: ignore[arg-type]
    house.core.stop()
    media.carrier.record(recording)  # type: ignore[arg-type]
    assert (tapped, recording.taps) == ([1], ["the tap"])
    await media.carrier.close()
