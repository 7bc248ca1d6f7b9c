"""The API of a real daemon: seed 003's phone call, the documents' curl lines, schemathesis."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from bridge.call.record import workflow_id
from bridge.carrier.carrier import Carrier
from tests.system.harness import ROOT, Bridge, Desk, until

pytestmark = pytest.mark.system

NUMBER: Final = "+919876543210"
WORKFLOWS: Final = """
[[workflow]]
slug = "welcome-call"
agent = "greeter-agent"

[[workflow]]
slug = "daily-call"
agent = "greeter-agent"
"""
KEY: Final = """
[[http.key]]
name = "app"
key = "s3cret"
"""


async def a_bridge(desk: Desk, carrier: Carrier, more: str = "", **trunk: Any) -> Bridge:
    """Start a daemon with the seed's workflows, and *more* in its file."""
    folder = desk.folder / "api"
    folder.mkdir()
    bridge = Bridge(
        folder, desk.server, carrier_port=carrier.port, trunk={"name": "exotel", **trunk}
    )
    with bridge.config.open("a") as file:
        file.write(WORKFLOWS + more)
    bridge.expect_lag()  # what is asked here is right or wrong, not soon or late
    desk.bridges.append(bridge)
    await bridge.start()
    return bridge


async def test_the_phone_call_of_seed_003(desk: Desk) -> None:
    """SIP Call Example, from the request to the record that it leaves, over real SIP."""
    carrier = await desk.carrier(default="ring 200ms; answer; talk 2s; hangup")
    bridge = await a_bridge(desk, carrier)
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        made = await http.post(
            "/api/v1/calls",
            json={
                "workflow_slug": "welcome-call",
                "user_id": "user-456",
                "call_type": "sip",
                "phone_number": NUMBER,
                "user_context": {"name": "Jane Smith", "onboarding_status": "new"},
            },
        )
        assert made.status_code == 201
        answer = made.json()
        assert set(answer) == {"call_id", "room_name", "url", "token", "status"}
        assert answer["status"] == "pending"
        call_id = answer["call_id"]
        assert answer["room_name"] == f"call-{call_id}"
        active = (await http.get("/api/v1/calls/active")).json()
        assert call_id in [one["id"] for one in active]

        async def over() -> dict[str, Any] | None:
            shown: dict[str, Any] = (await http.get(f"/api/v1/calls/{call_id}")).json()
            return shown if shown["ended_at"] else None

        call = await until(over, "the call is over", 20)
        page = (await http.get("/api/v1/calls", params={"user_id": "user-456"})).json()
        metrics = (await http.get(f"/api/v1/calls/{call_id}/metrics")).json()
        said = (await http.get(f"/api/v1/calls/{call_id}/transcript")).json()

        async def kept() -> list[dict[str, Any]]:
            rungs: list[dict[str, Any]] = (await http.get(f"/api/v1/calls/{call_id}/ladder")).json()
            return rungs

        rungs = await until(kept, "the ladder is there", 10)
    assert call["workflow_id"] == workflow_id("welcome-call")
    assert (call["workflow_slug"], call["user_id"]) == ("welcome-call", "user-456")
    assert (call["status"], call["direction"], call["call_type"]) == (
        "completed",
        "outbound",
        "sip",
    )
    assert call["phone_number"] == NUMBER
    assert call["created_at"] <= call["started_at"] <= call["ended_at"]
    assert call["duration_seconds"] in (2, 3)
    assert (call["agent_history"], call["current_agent"]) == ([], None)
    assert (page["total"], page["page"], page["page_size"], page["pages"]) == (1, 1, 20, 1)
    assert page["items"] == [call]
    assert call["metrics"] == metrics
    assert metrics == {
        "duration_seconds": call["duration_seconds"],
        "stt_latency_ms": None,
        "llm_latency_ms": None,
        "tts_latency_ms": None,
        "total_tokens": None,
        "agent_handoffs": None,
    }
    assert [one["role"] for one in said] == ["system"]
    assert rungs[0]["first_line"].startswith("INVITE sip:")
    assert NUMBER[3:] not in str(rungs)


_DAILY: Final = {"workflow_slug": "daily-call", "user_id": "user-123", "call_type": "voip"}


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        pytest.param(
            "/api/v1/calls",
            {
                **_DAILY,
                "user_context": {"name": "John Doe", "language": "en"},
                "metadata": {"session_id": "abc123", "source": "mobile-app"},
            },
            {"agent": "greeter-agent", "workflow_id": workflow_id("daily-call")},
            id="initiate",
        ),
        pytest.param(
            "/api/v1/calls",
            {**_DAILY, "user_context": {"name": "John Doe"}},
            {"agent": "greeter-agent", "metadata": {}},
            id="voip",
        ),
        pytest.param(
            "/api/v1/calls/test-agent",
            {
                "agent_name": "greeter-agent",
                "user_id": "test-user",
                "user_context": {"name": "Tester"},
            },
            {"agent": "greeter-agent", "call_type": "voip", "workflow_slug": None},
            id="test-agent",
        ),
    ],
)
async def test_the_web_calls_of_seed_003(
    desk: Desk, path: str, body: dict[str, Any], kept: dict[str, Any]
) -> None:
    bridge = await a_bridge(desk, await desk.carrier())
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        made = await http.post(path, json=body)
        assert made.status_code == 201
        answer = made.json()
        assert set(answer) == {"call_id", "room_name", "url", "token", "status"}
        assert (answer["room_name"], answer["status"]) == (f"call-{answer['call_id']}", "pending")
        assert answer["url"].startswith("ws")
        shown = (await http.get(f"/api/v1/calls/{answer['call_id']}")).json()
        (active,) = (await http.get("/api/v1/calls/active")).json()
        listed = (await http.get("/api/v1/calls", params={"user_id": body["user_id"]})).json()
        hung_up = await http.delete(f"/api/v1/calls/{answer['call_id']}")
    named = {name: value for name, value in body.items() if name != "agent_name"}
    wanted = {"status": "pending", "phone_number": None, "started_at": None, **named, **kept}
    assert {name: shown[name] for name in wanted} == wanted
    assert shown == active == listed["items"][0]
    assert hung_up.status_code == 202


# The documents' curl lines.


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One command, and the status that its comment says; None: any that is well."""

    command: str
    status: int | None


_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _parts(line: str) -> tuple[str, str]:
    command, _, comment = line.partition(" # ")
    return command.strip(), comment.strip()


def curl_lines(page: Path) -> list[Line]:
    """Return the curl commands of *page* in order."""
    found: list[Line] = []
    for block in _BLOCK.findall(page.read_text()):
        lines = iter(block.splitlines())
        for line in lines:
            if not line.startswith("curl "):
                answered = re.match(r"# (\d{3})\b", line)
                if answered and found:  # the answer of the command above
                    found[-1] = Line(command=found[-1].command, status=int(answered[1]))
                continue
            command, comment = _parts(line)
            while command.endswith("\\") or command.count("'") % 2:
                more, comment = _parts(next(lines))
                command = f"{command.removesuffix(chr(92))} {more}"
            said = re.match(r"\d{3}\b", comment)
            found.append(Line(command=command, status=int(said[0]) if said else None))
    return found


class Shell:
    """Runs curl lines against a daemon; what one was answered with is in the next."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._names: dict[str, str] = {}

    async def run(self, line: Line) -> None:
        command = line.command.replace("http://127.0.0.1:8080", self._bridge.url)
        for name, value in self._names.items():
            command = command.replace(name, value)
        endless = "curl -N" in command
        if line.command.endswith("/erase") and line.status == 202:
            await self._bridge.ended(self._names["CALL_ID"])
        limit = " --max-time 2" if endless else " --max-time 20"
        process = await asyncio.create_subprocess_shell(
            f"{command} -sS{limit} -w '\n%{{http_code}}'",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._bridge.folder,
            env={"PATH": "/usr/bin:/bin", "TRUNKBRIDGE_API_KEY": "none"},
        )
        out, err = await process.communicate()
        body, _, status = out.decode().rpartition("\n")
        assert process.returncode == 0 or (endless and process.returncode == 28), err.decode()
        well = status == str(line.status) if line.status else status.startswith("2")
        assert well, f"{command}\n{status} {body}"
        if endless:
            assert "data: " in body, command
        if line.status == 201:
            await self._note(httpx.Response(201, text=body).json())

    async def _note(self, made: dict[str, Any]) -> None:
        if "call_id" in made:
            self._names["CALL_ID"] = made["call_id"]
            await self._bridge.seen(made["call_id"], "call_answered")
        else:
            self._names["SESSION_ID"] = made["id"]


@pytest.mark.parametrize(("page", "count"), [("README.md", 4), ("docs/api.md", 30)])
async def test_the_curl_lines_do_what_is_said_of_them(desk: Desk, page: str, count: int) -> None:
    carrier = await desk.carrier(default="answer; talk 60s; hangup")
    bridge = await a_bridge(desk, carrier, agent_timeout=60)
    lines = curl_lines(ROOT / page)
    assert len(lines) >= count
    shell = Shell(bridge)
    for line in lines:
        await shell.run(line)


# schemathesis.

SECONDS: Final = 30
"""Of examples, the edges of every field, and fuzzing."""
_IDS: Final = ("call_id", "queue_id", "session_id")
_CHECKS: Final = """
[generation]
max-examples = 10

# What the schema cannot say: which workflows, trunks and rooms there are.
[[operations]]
include-method = ["POST"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx", 501, 502]
"""


@pytest.mark.timeout(150)
async def test_schemathesis_finds_nothing(desk: Desk) -> None:
    """Every route but drain and reload, which would change what the others are asked of."""
    carrier = await desk.carrier(default="answer; talk 1s; hangup")
    bridge = await a_bridge(desk, carrier, KEY, max_calls=500)
    bearer = {"Authorization": "Bearer s3cret"}
    async with httpx.AsyncClient(base_url=bridge.url, headers=bearer) as http:
        made = await http.post("/api/v1/calls", json={"phone_number": NUMBER, "agent": "a"})
    known = made.json()
    folder = desk.folder / "schemathesis"
    folder.mkdir()
    (folder / "schemathesis.toml").write_text(
        f'{_CHECKS}\n[parameters]\n"path.room" = "{known["room_name"]}"\n'
        + "".join(f'"path.{name}" = "{known["call_id"]}"\n' for name in _IDS)
    )
    began = time.monotonic()
    run = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        *("--config-file", "schemathesis.toml", "run", f"{bridge.url}/openapi.json"),
        *("--header", "Authorization: Bearer s3cret"),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing"),
        *("--exclude-path", "/api/v1/drain", "--exclude-path", "/api/v1/reload"),
        *("--max-time", str(SECONDS), "--continue-on-failure", "--no-color"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said.decode(errors="replace")[-20_000:]
    assert time.monotonic() - began < 4 * SECONDS
