"""The examples load, build what they show and say in one line what is missing."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from trunkbridge.agent import PhoneCall

pytestmark = pytest.mark.unit

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEYS = {
    "support_agent": ("DEEPGRAM_API_KEY", "OPENAI_API_KEY", "CARTESIA_API_KEY"),
    "realtime_agent": ("OPENAI_API_KEY",),
}
BUILD = {
    "support_agent": "support_agent.build_session(support_agent.silero.VAD.load())",
    "realtime_agent": "realtime_agent.build_session()",
}
AGENT = {
    "support_agent": "support_agent.PhoneSupport(None)",
    "realtime_agent": "realtime_agent.Receptionist(None)",
}


async def run(*command: str, **env: str) -> tuple[int, str, str]:
    """Run Python with *command*; return status, output and errors."""
    kept = {"PATH", "HOME", "LANG", "TMPDIR"}
    environment = {k: v for k, v in os.environ.items() if k in kept}
    path = f"{EXAMPLES.parent}:{EXAMPLES}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**environment, "PYTHONPATH": path, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


def needs_plugins(name: str) -> None:
    pytest.importorskip("livekit.agents")
    for plugin in ("openai", "deepgram", "cartesia", "silero"):
        if plugin == "openai" or name == "support_agent":
            pytest.importorskip(f"livekit.plugins.{plugin}")


@pytest.mark.parametrize("name", sorted(KEYS))
async def test_an_agent_is_built_from_the_keys_of_the_environment(name: str) -> None:
    needs_plugins(name)
    script = f"""
import asyncio, {name}
async def build():
    session = {BUILD[name]}
    agent = {AGENT[name]}
    print(type(session).__name__, [tool.info.name for tool in agent.tools])
asyncio.run(build())
"""
    status, output, errors = await run("-c", script, **dict.fromkeys(KEYS[name], "dummy"))
    assert status == 0, errors
    assert output.startswith("AgentSession")
    assert "hang_up" in output


@pytest.mark.parametrize("name", sorted(KEYS))
async def test_a_missing_key_is_one_clear_line(name: str) -> None:
    needs_plugins(name)
    livekit = {
        "LIVEKIT_URL": "ws://127.0.0.1:9",
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "secret",
    }
    status, _, errors = await run(str(EXAMPLES / f"{name}.py"), "start", **livekit)
    assert status == 1
    assert errors.splitlines() == [f"{name}: set {', '.join(KEYS[name])}"]


async def test_dial_says_in_one_line_that_no_bridge_is_there() -> None:
    status, output, errors = await run(
        str(EXAMPLES / "dial.py"), "+919000000001", TRUNKBRIDGE_URL="http://127.0.0.1:9"
    )
    assert (status, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("dial: http://127.0.0.1:9")


def test_every_example_is_in_the_list() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    for file in EXAMPLES.glob("*.py"):
        assert f"({file.name})" in text


def test_the_code_of_the_page_about_agents_runs() -> None:
    pytest.importorskip("livekit.agents")
    text = (EXAMPLES.parent / "docs" / "agents.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    names = set()
    for block in blocks:
        scope: dict[str, Any] = {"__name__": "page"}
        exec(compile(block, "agents.md", "exec"), scope)
        names |= set(scope)
    assert {"server", "entrypoint", "listen"} <= names


def test_the_page_about_agents_names_what_the_kit_has() -> None:
    text = (EXAMPLES.parent / "docs" / "agents.md").read_text("utf-8")
    named = set(re.findall(r"`(?:await )?phone\.([a-z_]+)", text))
    assert named >= {"answered", "follow", "report", "on", "hangup", "send_dtmf", "transfer"}
    assert [name for name in named if not hasattr(PhoneCall, name)] == []
