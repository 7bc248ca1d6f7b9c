"""Looks at the rooms of sessions, and at the clock: what webhooks do not tell.

All rooms are looked at by one list now and then, one more closely when something differs, when its
people were not listed for a while, or when a patience is over and only that look is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog

from bridge.room.seam import RoomError
from bridge.sessions.farewell import Farewells
from bridge.sessions.live import Live
from bridge.sessions.rooms import PersonSeen, SessionRooms
from bridge.sessions.state import (
    Input,
    Looked,
    Participant,
    Phase,
    ServerAway,
    Tick,
    next_deadline,
    wants_look,
)

_log = structlog.get_logger(__name__)

SURELY: Final = 60.0  # seconds after which a room's people are listed whatever the list says
UNHEARD: Final = 2  # polls after which they are, where no webhook was heard lately
LATELY: Final = 300.0
TICK: Final = 0.25  # seconds: how late an end by time may be
AGAIN: Final = 1.0  # seconds between looks that a patience waits for
LOOKS: Final = 8  # at once


class Watch:
    """Watches *lives* and tells *feed* what it sees. *wake* is set when there is more to watch.

    *is_over*: whether a room that was made for a call is not needed any more.
    """

    def __init__(
        self,
        rooms: SessionRooms,
        farewells: Farewells,
        lives: Mapping[str, Live],
        feed: Callable[[Live, Input], None],
        *,
        is_over: Callable[[str, str], Awaitable[bool]],
        wake: asyncio.Event,
        poll: float,
        wall: Callable[[], float],
    ) -> None:
        self._rooms = rooms
        self._farewells = farewells
        self._lives = lives
        self._feed = feed
        self._is_over = is_over
        self._wake = wake
        self._poll_every = poll
        self._wall = wall
        self._may_ask = True
        self._swept = False
        self._polled_at = 0.0
        self._heard_at = 0.0  # when LiveKit's last webhook came
        self._looking = asyncio.Semaphore(LOOKS)
        self._loops: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin."""
        self._loops = [
            asyncio.get_running_loop().create_task(self._keep_time(), name="sessions-time"),
            asyncio.get_running_loop().create_task(self._watch(), name="sessions-watch"),
        ]

    async def stop(self) -> None:
        """Look no more."""
        for task in [*self._loops, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)

    def heard(self) -> None:
        """A webhook came."""
        self._heard_at = self._wall()

    def set_livekit_up(self, up: bool) -> None:  # noqa: FBT001 (a fact, not a mode)
        """Note whether LiveKit answers."""
        if up and not self._may_ask:
            self._polled_at = 0.0  # look at once what is left
            self._wake.set()
        self._may_ask = up

    async def _keep_time(self) -> None:
        """Tell every session that its time has come."""
        while True:
            if not self._lives:
                await self._woken(None)
            now = self._wall()
            for live in list(self._lives.values()):
                try:
                    deadline = next_deadline(live.state)
                    if deadline is not None and now >= deadline:
                        self._feed(live, Tick())
                except Exception:  # a bug of ours costs no other session its end
                    _log.exception("sessions.watch_failed")
            await asyncio.sleep(TICK)

    async def _woken(self, timeout: float | None) -> None:
        self._wake.clear()
        if self._lives and timeout is None:
            return
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return

    async def _watch(self) -> None:
        """Look at the rooms: all of them now and then, one when its patience is over."""
        while True:
            if self._swept and not self._lives and not self._farewells.pending:
                await self._woken(self._poll_every if self._farewells.past else None)
            try:
                if not self._swept:
                    await self._sweep()
                await self._look_around()
            except Exception:  # a bug of ours costs no other session its end
                _log.exception("sessions.watch_failed")
            await asyncio.sleep(TICK)

    async def _sweep(self) -> None:
        """Delete rooms of ours that an earlier life has ended and not deleted, once."""
        if not self._may_ask:
            return
        try:
            made = await self._rooms.made()
        except RoomError:
            await asyncio.sleep(AGAIN)
            return
        self._swept = True
        for room, call_id in made.items():
            if await self._is_over(room, call_id):
                self._farewells.doom(room)

    async def _look_around(self) -> None:
        now = self._wall()
        for room, visit in self._farewells.due():
            self._spawn(f"leave {room} {visit}", self._farewells.do((room, visit)))
        if now - self._polled_at >= self._poll_every or now < self._polled_at:
            self._polled_at = now
            if not self._hears():
                await self._farewells.look()
            await self._look([live for live in self._lives.values() if live.open], all_of_it=False)
        waiting = [live for live in self._lives.values() if self._waits_for_look(live, now)]
        if waiting:
            for live in waiting:
                live.looked_for = now
            await self._look(waiting, all_of_it=True)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if any(task.get_name() == name for task in self._tasks):
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _waits_for_look(self, live: Live, now: float) -> bool:
        return wants_look(live.state, now) and abs(now - live.looked_for) >= AGAIN

    async def _look(self, lives: Sequence[Live], *, all_of_it: bool) -> None:
        """Look at the rooms of *lives*: one list for all, then those where something differs."""
        lives = [live for live in lives if not live.making]
        asked_at = self._wall()
        try:
            found = await self._rooms.list({live.record.room_name for live in lives})
        except RoomError:
            for live in lives:
                self._feed(live, ServerAway())
            return
        closer: list[tuple[Live, str]] = []
        for live in lives:
            room = found.get(live.record.room_name)
            if live.making or live.made_at >= asked_at or not live.open:
                continue
            if room is None:
                live.counted = -1
                self._feed(live, Looked(asked_at=asked_at, room_sid=None))
            elif all_of_it or self._differs(live, room.sid, room.others):
                closer.append((live, room.sid))
        await asyncio.gather(*(self._look_closer(live, sid) for live, sid in closer))

    def _differs(self, live: Live, sid: str, others: int) -> bool:
        state = live.state
        return (
            others != live.counted
            or sid != state.room_sid
            or state.room_since is not None
            or state.server_away
            or state.phase is Phase.WAITING
            or abs(self._wall() - live.listed_at) >= self._sure_for()
        )

    def _sure_for(self) -> float:
        """Return how long a list of rooms is believed that shows nothing new.

        The server counts a room's people every five seconds at best, and not at all once
        all have left.
        """
        return SURELY if self._hears() else UNHEARD * self._poll_every

    def _hears(self) -> bool:
        """Whether LiveKit's webhooks come."""
        return abs(self._wall() - self._heard_at) < LATELY

    async def _look_closer(self, live: Live, sid: str) -> None:
        async with self._looking:
            asked_at = self._wall()
            try:
                people = await self._rooms.people(live.record.room_name)
            except RoomError:
                self._feed(live, ServerAway())
                return
        live.listed_at = asked_at
        live.counted = sum(1 for one in people if not one.helper)
        present = [_participant(one) for one in people if one.agent or not one.helper]
        self._feed(live, Looked(asked_at=asked_at, room_sid=sid, present=present))


def _participant(person: PersonSeen) -> Participant:
    return Participant(
        sid=person.sid, agent=person.agent, joined_at=person.joined_at, here=person.here
    )
