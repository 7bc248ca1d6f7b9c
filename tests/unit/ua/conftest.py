"""Socket tests run on both loops: the daemon uses uvloop, tools use asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops differ in when they call back, and in how they close."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
