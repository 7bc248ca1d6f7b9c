"""What the demo agent says: a greeting once, then an echo of what it hears.

Pure: 16-bit mono PCM at 8000 Hz in frames of 20 ms goes in and out.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FRAME: Final = 320  # bytes of 20 ms
SILENCE: Final = bytes(FRAME)


class EchoVoice:
    """Greets, then repeats what it hears *delay* frames later; quiet while held."""

    def __init__(self, greeting: bytes, *, delay: int = 25) -> None:
        self._greeting = deque(
            greeting[at : at + FRAME].ljust(FRAME, b"\0") for at in range(0, len(greeting), FRAME)
        )
        self._echo: deque[bytes] = deque(maxlen=delay)
        self._delay = delay
        self.held = False
        self.started = False

    def hold(self) -> None:
        """Be quiet, and forget what was heard."""
        self.held = True
        self._echo.clear()

    def resume(self) -> None:
        """Talk on: the rest of the greeting, then the echo."""
        self.held = False

    def next(self, heard: bytes) -> bytes:
        """Return the next 20 ms to say, given the last 20 ms heard."""
        if self.held or not self.started:
            return SILENCE
        delayed = self._echo.popleft() if len(self._echo) == self._delay else SILENCE
        self._echo.append(heard)
        return self._greeting.popleft() if self._greeting else delayed
