"""The arms at a real livekit-server: each call in a room with an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from bench.engines.arms import Arm, Setting, phones
from bench.engines.block import Running
from bench.engines.room import agents, server, token
from bench.engines.tools import LOAD, MEASURED, Tool, module

SETTLE = 60.0  # seconds for all calls to come up


async def _media(setting: Setting, stack: AsyncExitStack) -> Tool:
    """Start the agents' media."""
    sound = setting.sound
    tool = await Tool.native("sfu", cores=LOAD, pack=sound.opus, marker=sound.marker_opus)
    stack.push_async_callback(tool.stop)
    await tool.answer()  # its port
    return tool


def _of(
    name: str, engine: str, *, passes: bool
) -> Callable[[Setting, int, AsyncExitStack], Awaitable[Running]]:
    async def begin(setting: Setting, calls: int, stack: AsyncExitStack) -> Running:
        livekit, beside = stack.enter_context(server())
        media = await _media(setting, stack)
        near = await phones(setting, calls, stack, stamp=passes)
        ports = (await near.answer())["ports"]
        rooms = (await stack.enter_async_context(agents(media, livekit, calls))).rooms
        given = {
            "engine": engine,
            "url": livekit.url,
            "calls": [
                {"room": room, "token": token(livekit, room, "phone", kind="sip"), "phone": port}
                for room, port in zip(rooms, ports, strict=True)
            ],
        }
        log = setting.folder / f"{engine}.log"
        bridge = await module(name, given, cores={MEASURED}, log=log)
        stack.push_async_callback(bridge.stop)
        ready = await bridge.answer(SETTLE)
        near.order("to " + " ".join(map(str, ready["ports"])))
        return Running(
            calls=calls,
            phones=near,
            far=media,
            measured=[bridge.pid],
            beside=[beside],
            passes=passes,
            control=bridge,
            notes={"join_cpu_ms": 1000 * ready["ready"] / calls},
        )

    return begin


SDK = Arm(
    name="sdk",
    title="the SDK engine",
    begin=_of("bench.engines.engine_process", "sdk", passes=False),
    first=20,
    most=80,
)
STOCK = Arm(
    name="stock",
    title="the livekit SDK as documented",
    begin=_of("bench.engines.stock_process", "stock", passes=False),
    first=10,
    most=60,
)
DIRECT = Arm(
    name="direct-server",
    title="this engine at the real server",
    begin=_of("bench.engines.engine_process", "direct", passes=True),
    first=20,
    most=60,
)
