"""One call on its way into a file: taps laid one after the other along the call's own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bridge.media.seam import Tap
from bridge.recording.files import RATE, AudioFile, Format, create

PART: Final = ".part"
"""What the name of a file ends with that is still written."""

QUIET: Final = 0.6  # seconds without a sound after which nothing late is waited for
BEHIND: Final = 0.4  # seconds that silence is written behind the time, as a tap may be
PIECE: Final = 10 * RATE  # samples of silence written at once


class Take:
    """Implements `bridge.call.ports.CallRecording`. *clock* is monotonic seconds.

    `follow` and `end` are the loop's, the rest is the recorder's thread's.
    """

    def __init__(
        self, call_id: str, folder: Path, kind: Format, *, clock: Callable[[], float]
    ) -> None:
        self.call_id = call_id
        self.path = folder / f"{call_id}.{kind}"
        self.part = self.path.with_name(self.path.name + PART)
        self.dropped = 0  # samples, of both directions
        self._kind: Format = kind
        self._clock = clock
        self._began = clock()
        self._next: deque[tuple[Tap, int]] = deque()  # and where each begins, samples
        self._tap: Tap | None = None
        self._base = 0  # where the tap begins
        self._read = 0  # samples read of it
        self._dropped_before = 0
        self._heard_at = self._began
        self._written = 0
        self._length: int | None = None
        self._file: AudioFile | None = None

    # On the loop.

    def follow(self, tap: Tap) -> None:
        """Take what *tap* hears from now on."""
        self._next.append((tap, self._now()))

    def end(self, seconds: float | None) -> None:
        """Nothing more comes; the recording is *seconds* long, None: up to now. Once."""
        if self._length is None:
            self._length = self._now() if seconds is None else round(seconds * RATE)

    def _now(self) -> int:
        return round((self._clock() - self._began) * RATE)

    # On the recorder's thread.

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._length is not None

    def turn(self) -> bool:
        """Write what there is; True when that was all and the file is closed. Raises anything."""
        if self._file is None:
            self._file = create(self.part, self._kind)
        ended = self._length is not None
        while self._next:
            tap, base = self._next.popleft()
            self._drain()
            self._pad(base)
            self._dropped_before = self.dropped
            self._tap, self._base, self._read = tap, base, 0
            self._heard_at = self._clock()
        if ended:
            self._finish()
            return True
        self._draw()
        return False

    def abandon(self) -> None:
        """Close the file as it is. Raises anything."""
        if self._file is not None:
            self._file.close()

    def _draw(self) -> None:
        now = self._clock()
        if self._tap is not None:
            while self._take(self._tap.read()):
                self._heard_at = now
        if now - self._heard_at < QUIET:
            return
        # A held call tells nothing for an hour: the file goes on, in silence.
        self._drain()
        self._pad(min(self._now() - round(BEHIND * RATE), self._written + PIECE))

    def _drain(self) -> None:
        while self._tap is not None and self._take(self._tap.finish()):
            pass

    def _take(self, piece: tuple[bytes, bytes, int]) -> bool:
        """Write a piece where it belongs; False when it was empty."""
        caller, sent, dropped = piece
        self.dropped = self._dropped_before + dropped
        count = len(caller) // 2
        place = self._base + self._read
        self._read += count
        self._pad(place)
        begin = max(0, self._written - place)
        end = count if self._length is None else min(count, self._length - place)
        if begin < end:
            self._write(caller[2 * begin : 2 * end], sent[2 * begin : 2 * end])
        return count > 0

    def _pad(self, until: int) -> None:
        """Write silence up to *until*."""
        if self._length is not None:
            until = min(until, self._length)
        while self._written < until:
            silence = bytes(2 * min(PIECE, until - self._written))
            self._write(silence, silence)

    def _write(self, left: bytes, right: bytes) -> None:
        assert self._file is not None
        self._file.write(left, right)
        self._written += len(left) // 2

    def _finish(self) -> None:
        assert self._file is not None
        assert self._length is not None
        self._drain()
        self._pad(self._length)
        self._file.close()
