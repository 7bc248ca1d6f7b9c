"""Both directions of a call's audio for a recorder, where Python handles the PCM.

The clock of the calls writes, another thread reads: a bounded queue is between them, and what
finds no room in it is counted. Frames stand side by side as they were heard and sent; only
where one stream was away for a while does the clock say where it goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Final

RATE: Final = 8000
ENTRIES: Final = 400
"""Frames that wait for the reader: four seconds of both directions."""
HELD_BACK: Final = 400  # samples: one direction's frame comes before the other's
JUMP: Final = 1600  # samples by which frames and clock may differ
MAX_READ: Final = 80_000  # samples, 10 s


class PcmTap:
    """Implements `bridge.media.seam.Tap`; *now* is when its tracks begin, in seconds."""

    def __init__(self, now: float) -> None:
        self._origin = now
        self._entries: deque[tuple[int, int, bytes]] = deque()
        self._dropped = 0
        self._from = 0  # samples that were read
        self._newest = 0
        self._tracks = (_Track(), _Track())

    # The clock's thread.

    def caller(self, pcm: bytes, now: float) -> None:
        """Take what was heard of the caller."""
        self._put(0, pcm, now)

    def sent(self, pcm: bytes, now: float) -> None:
        """Take what was sent to the caller."""
        self._put(1, pcm, now)

    def _put(self, track: int, pcm: bytes, now: float) -> None:
        if len(self._entries) >= ENTRIES:
            self._dropped += len(pcm) // 2
            return
        self._entries.append((track, round((now - self._origin) * RATE), pcm))

    # The reader's.

    def read(self) -> tuple[bytes, bytes, int]:
        """Return what is complete of both tracks, and samples dropped so far."""
        self._take_in()
        return self._give_out(self._newest - HELD_BACK)

    def finish(self) -> tuple[bytes, bytes, int]:
        """Return the rest."""
        self._take_in()
        return self._give_out(self._from + max(len(track.pcm) for track in self._tracks) // 2)

    def _take_in(self) -> None:
        while self._entries:
            track, at, pcm = self._entries.popleft()
            self._newest = max(self._newest, at)
            self._tracks[track].put(pcm, at, begin=self._from)

    def _give_out(self, until: int) -> tuple[bytes, bytes, int]:
        count = min(MAX_READ, max(0, until - self._from))
        self._from += count
        caller, sent = (track.take(count) for track in self._tracks)
        return caller, sent, self._dropped


class _Track:
    """What is kept of one direction."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self._end: int | None = None

    def put(self, pcm: bytes, at: int, *, begin: int) -> None:
        """Put *pcm* at *at*, or after what is there when that is as good; *begin* is ours."""
        place = at if self._end is None or abs(at - self._end) > JUMP else self._end
        self._end = place + len(pcm) // 2
        first = 2 * (place - begin)
        if first < 0:  # it was given out as silence
            pcm, first = pcm[-first:], 0
        missing = first + len(pcm) - len(self.pcm)
        if missing > 0:
            self.pcm.extend(bytes(missing))
        self.pcm[first : first + len(pcm)] = pcm

    def take(self, count: int) -> bytes:
        """Give the first *count* samples away; what is not there is silence."""
        taken = bytes(self.pcm[: 2 * count])
        del self.pcm[: 2 * count]
        return taken.ljust(2 * count, b"\0")
