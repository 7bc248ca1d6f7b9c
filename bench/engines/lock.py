"""Holds the interpreter lock of its own process, as a bad callback or a big collection does."""

from __future__ import annotations

import ctypes
import threading
import time

HELD = 0.050
"""Seconds that one C call keeps the lock."""
PERIOD = 0.100


class Holder:
    """Holds the lock 50 ms ten times a second while it is on."""

    def __init__(self) -> None:
        self._on = threading.Event()
        self._usleep = ctypes.PyDLL(None).usleep  # PyDLL does not give the lock up
        threading.Thread(target=self._run, daemon=True).start()

    def hold(self, wanted: str) -> None:
        """Begin with ``on``, end with anything else."""
        self._on.set() if wanted == "on" else self._on.clear()

    def _run(self) -> None:
        while True:
            self._on.wait()
            began = time.monotonic()
            self._usleep(int(HELD * 1e6))
            time.sleep(max(0.0, began + PERIOD - time.monotonic()))
