"""What the measured Python processes have in common: options, orders, answers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from bench.engines.lock import Holder

Options = dict[str, Any]

_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what anybody else prints goes to the log


def options() -> Options:
    """Return what we were started with."""
    given: Options = json.loads(sys.argv[1])
    return given


def say(**told: Any) -> None:
    """Tell the bench."""
    _answers.write(json.dumps(told) + "\n")
    _answers.flush()


def settled() -> None:
    """Do what the daemon does when it has started: nothing that lives now is collected again."""
    gc.collect()
    gc.freeze()


async def obey(orders: dict[str, Callable[[str], None]]) -> None:
    """Take orders until the input ends; ``hold on`` and ``hold off`` are known to all."""
    holder = Holder()
    known = {"hold": holder.hold, **orders}
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order, _, rest = line.decode().strip().partition(" ")
        known[order](rest)


def leave() -> None:
    """End at once: native threads of an SDK take their time, and the arm is over."""
    _answers.flush()
    os._exit(0)
