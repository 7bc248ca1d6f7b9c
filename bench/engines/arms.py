"""The arms: who is measured, and how its calls are brought up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.engines.block import Running
from bench.engines.sound import Sound
from bench.engines.tools import LOAD, MEASURED, Tool


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every arm is given."""

    sound: Sound
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of those compared. *begin* brings up so many calls; the stack ends what it started."""

    name: str
    title: str
    begin: Callable[[Setting, int, AsyncExitStack], Awaitable[Running]]
    first: int  # calls of the first step of a search
    most: int = 600

    @asynccontextmanager
    async def up(self, setting: Setting, calls: int) -> AsyncIterator[Running]:
        """Have *calls* calls running."""
        async with AsyncExitStack() as stack:
            yield await self.begin(setting, calls, stack)


async def phones(setting: Setting, calls: int, stack: AsyncExitStack, *, stamp: bool) -> Tool:
    """Start the phones; their first answer has the ports."""
    sound = setting.sound
    tool = await Tool.native(
        "phones", calls=calls, payload=sound.ulaw, marker=sound.marker_ulaw, stamp=int(stamp)
    )
    stack.push_async_callback(tool.stop)
    return tool


async def far_phones(setting: Setting, calls: int, stack: AsyncExitStack, *, gcm: bool) -> Tool:
    """Start the room's side of an arm without WebRTC: Opus, protected or not."""
    tool = await Tool.native(
        "phones",
        cores=LOAD,
        calls=calls,
        payload=setting.sound.opus,
        marker=setting.sound.marker_opus,
        pt=111 if gcm else 96,
        step=960,
        gcm=int(gcm),
        hears="pcmu" if gcm else "opus",
    )
    stack.push_async_callback(tool.stop)
    return tool


async def floor(setting: Setting, calls: int, stack: AsyncExitStack) -> Running:
    """Bring up the machine's floor."""
    near = await phones(setting, calls, stack, stamp=True)
    far = await far_phones(setting, calls, stack, gcm=True)
    echo = await Tool.native("floor", cores={MEASURED}, calls=calls)
    stack.push_async_callback(echo.stop)
    near_ports, far_ports = (await near.answer())["ports"], (await far.answer())["ports"]
    ports = await echo.answer()
    pairs = zip(near_ports, far_ports, strict=True)
    echo.order("to " + " ".join(f"{phone}:{room}" for phone, room in pairs))
    near.order("to " + " ".join(map(str, ports["phones"])))
    far.order("to " + " ".join(map(str, ports["rooms"])))
    return Running(
        calls=calls, phones=near, far=far, measured=[echo.pid], passes=True, control=echo
    )


FLOOR = Arm(name="floor", title="the floor: echo + Opus decode + SRTP", begin=floor, first=200)


async def bare(setting: Setting, calls: int, stack: AsyncExitStack) -> Running:
    """Connect phones and room directly: what the loads and the codec take by themselves."""
    sound = setting.sound
    near = await Tool.native(
        "phones",
        calls=calls,
        payload=sound.ulaw,
        marker=sound.marker_ulaw,
        hears="opus",
        stamp=1,
    )
    stack.push_async_callback(near.stop)
    far = await Tool.native(
        "phones", calls=calls, payload=sound.opus, marker=sound.marker_opus, pt=111, step=960
    )
    stack.push_async_callback(far.stop)
    near_ports, far_ports = (await near.answer())["ports"], (await far.answer())["ports"]
    near.order("to " + " ".join(map(str, far_ports)))
    far.order("to " + " ".join(map(str, near_ports)))
    return Running(calls=calls, phones=near, far=far, measured=[], passes=True)


BARE = Arm(name="bare", title="nothing between", begin=bare, first=2)
