"""The daemon with a fault of ours: SIGUSR1 keeps the main thread busy for ever.

Its other threads (HTTP, the log) live on, as they would when a bug holds the loop.
"""

from __future__ import annotations

import signal
import time

from bridge.__main__ import main


def never_return(*_: object) -> None:
    while True:
        time.sleep(0.1)


signal.signal(signal.SIGUSR1, never_return)
main()
