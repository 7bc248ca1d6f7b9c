"""This engine with the stand-in SFU: what the real server could not serve on the same machine."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.engines.arms import Arm, Setting, phones
from bench.engines.block import Running
from bench.engines.room import line_of
from bench.engines.tools import LOAD, MEASURED, Answer, Tool, module

SETTLE = 60.0  # seconds for all calls to come up


async def begin(setting: Setting, calls: int, stack: AsyncExitStack) -> Running:
    """Bring up *calls* calls."""
    sound = setting.sound
    sfu = await Tool.native("sfu", cores=LOAD, pack=sound.opus, marker=sound.marker_opus)
    stack.push_async_callback(sfu.stop)
    await sfu.answer()  # its port
    near = await phones(setting, calls, stack, stamp=True)
    ports = (await near.answer())["ports"]
    given = {"calls": ports, "priority": 10}
    log = setting.folder / "direct.log"
    core = await module("bench.engines.core_process", given, cores={MEASURED}, log=log)
    stack.push_async_callback(core.stop)

    def offered(told: Answer) -> None:
        sfu.order(f"offer {told['offer']} {line_of(told['sdp'])}")

    def answered(told: Answer) -> None:
        core.order(f"answer {told['answer']} {line_of(told['sdp'])}")

    def closed(told: Answer) -> None:
        sfu.order(f"close {told['closed']}")

    failed: list[Answer] = []
    core.told = {"offer": offered, "closed": closed, "failed": failed.append}
    sfu.told = {"answer": answered, "connected": lambda _: None}
    ready = await core.answer(SETTLE)
    if failed:
        raise RuntimeError(f"the core lost a call: {failed[0]}")
    near.order("to " + " ".join(map(str, ready["ports"])))
    return Running(
        calls=calls,
        phones=near,
        far=sfu,
        measured=[core.pid],
        passes=True,
        control=core,
        notes={
            "join_cpu_ms": 1000 * ready["ready"] / calls,
            "realtime": float(ready["realtime"]),
        },
    )


DIRECT = Arm(name="direct", title="this engine", begin=begin, first=100)
