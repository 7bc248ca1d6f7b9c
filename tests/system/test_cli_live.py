"""The command line against a real daemon with real calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.system.harness import ROOT, Bridge, Desk, now_number, until
from tests.system.test_streams import connected

pytestmark = pytest.mark.system


def environment(bridge: Bridge) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRUNKBRIDGE_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TRUNKBRIDGE_URL": bridge.url,
        "TERM": "xterm-256color",
        "COLUMNS": "140",
        "LINES": "40",
    }


async def trunkbridge(bridge: Bridge, *words: str) -> tuple[int, str, str]:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(bridge),
        cwd=bridge.folder,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def running(bridge: Bridge, *words: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run a command while the test goes on; gives its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", *words),
        stdout=asyncio.subprocess.PIPE,
        env=environment(bridge),
        cwd=bridge.folder,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_calls_are_listed_and_one_is_shown_with_its_messages(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, call_id = await connected(desk, bridge, carrier)
    await leg.run("hold sendonly")
    status, out, _ = await trunkbridge(bridge, "calls")
    assert status == 0
    heading, line = out.splitlines()
    assert heading.startswith("CALL")
    assert line.startswith(call_id)
    assert "on hold" in line
    await leg.run("resume; hangup")
    await bridge.ended(call_id)
    status, out, _ = await trunkbridge(bridge, "calls", "--json", "--status", "completed")
    assert [json.loads(text)["id"] for text in out.splitlines()] == [call_id]
    assert (await trunkbridge(bridge, "calls", "--status", "active"))[1].count("\n") == 1

    status, out, _ = await trunkbridge(bridge, "show", call_id)
    assert status == 0
    assert "completed" in out.splitlines()[0]
    for word in ("call_answered", "call_hold", "call_resume", "call_ended"):
        assert word in out
    arrows = [text for text in out.splitlines() if "│" in text]
    assert "INVITE sip:***@127.0.0.1" in arrows[0]
    assert arrows[0].rstrip().endswith("▶│")
    assert any("[sendonly]" in text for text in arrows)
    assert any("200 OK" in text and "│◀" in text for text in arrows)
    status, out, _ = await trunkbridge(bridge, "show", call_id, "--json")
    story = json.loads(out)
    assert story["call"]["id"] == call_id
    assert [event["event"] for event in story["events"]][-1] == "call_ended"
    assert {rung["direction"] for rung in story["ladder"]} == {"in", "out"}
    status, _, err = await trunkbridge(bridge, "show", "nope")
    assert (status, err) == (1, "show: no such call\n")


async def test_watching_prints_events_as_they_happen_where_there_is_no_terminal(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    async with (
        running(bridge, "calls", "--watch") as plain,
        running(bridge, "calls", "--watch", "--json") as lines,
    ):
        await until(lambda: watchers(bridge), "both watch", 20)
        leg, call_id = await connected(desk, bridge, carrier)
        await leg.run("hangup")
        text, names = "", []
        while "call_ended" not in text:
            text = (await plain.readline()).decode()
            assert text.startswith(call_id)
        while "call_ended" not in names:
            names.append(json.loads(await lines.readline())["event"])
    assert names[-2:] == ["call_answered", "call_ended"]


async def watchers(bridge: Bridge, wanted: int = 2) -> bool:
    """Whether so many connections of streams are open, as the kernel tells."""
    port = f":{bridge.http_port:04X}"
    table = (await asyncio.to_thread(open_connections)).splitlines()
    ours = [line.split() for line in table if line]
    return sum(1 for row in ours if row[1].endswith(port) and row[3] == "01") >= wanted


def open_connections() -> str:
    with open("/proc/net/tcp") as file:
        return "".join(file.readlines()[1:])


async def test_watching_on_a_terminal_is_a_table_that_keeps_up(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, call_id = await connected(desk, bridge, carrier)
    ours, theirs = pty.openpty()
    screen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: screen.extend(os.read(ours, 65536)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "calls", "--watch"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(bridge),
        cwd=bridge.folder,
        start_new_session=True,
    )
    try:
        await until(lambda: call_id.encode() in screen and b"active" in screen, "the call", 20)
        await leg.run("hold sendonly")
        await until(lambda: b"on hold" in screen, "it is held")
        await leg.run("resume; hangup")
        await until(lambda: b"completed" in screen, "it ended")
        process.send_signal(2)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
    assert b"Traceback" not in screen


async def test_reload_prints_what_changed_and_a_bad_file_changes_nothing(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    good = bridge.config.read_text()
    assert await trunkbridge(bridge, "reload") == (0, "nothing changed\n", "")
    bridge.config.write_text(good.replace("agent_timeout = 20", "agent_timeout = 0\nport_ = 1"))
    status, out, err = await trunkbridge(bridge, "reload")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith(f"{bridge.config}:trunk[0].") for line in err.splitlines())
    bridge.config.write_text(
        good.replace("agent_timeout = 20", "agent_timeout = 30").replace(
            "drain_timeout = 1", "drain_timeout = 2"
        )
    )
    status, out, _ = await trunkbridge(bridge, "reload")
    assert status == 0
    assert out.splitlines() == [
        "trunk[carrier].agent_timeout: 20.0 -> 30.0",
        "daemon.drain_timeout: 1.0 -> 2.0 (needs a restart)",
    ]
    status, out, _ = await trunkbridge(bridge, "reload", "--json")
    assert json.loads(out) == {"changed": [], "restart": []}


async def test_drain_refuses_new_calls_and_waits_for_the_last(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, _ = await connected(desk, bridge, carrier)
    async with running(bridge, "drain", "--wait") as lines:
        assert (await lines.readline()).decode() == "draining, 1 call left\n"
        refused = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
        await refused.run("expect status 503 within 2s")
        assert refused.report.failed is None, refused.report.failed
        status, _, err = await trunkbridge(bridge, "dial", "--to", "+919000000001")
        assert (status, err) == (1, "dial: draining: no new calls\n")
        await leg.run("wait 500ms; hangup")
        assert leg.report.failed is None, leg.report.failed
        assert (await lines.readline()).decode() == "drained, no call is left\n"
    assert await trunkbridge(bridge, "drain") == (0, "drained, no call is left\n", "")
