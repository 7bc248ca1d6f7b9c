"""Our place in the queue for the processor."""

from __future__ import annotations

import os
from contextlib import suppress

MEDIA_NICE = -10
"""Before whatever else the machine does, as media servers run; far from real time."""


def put_media_first() -> int:
    """Raise the priority of this thread and of all that it starts; return its nice value.

    Call it before any thread is started: each inherits the value of its maker. Left alone
    where it is not allowed, and where an operator has chosen one already (``Nice=`` of systemd).
    """
    if os.getpriority(os.PRIO_PROCESS, 0) == 0:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, MEDIA_NICE)
    return os.getpriority(os.PRIO_PROCESS, 0)
