"""What an agent reports of a live session: figures, agents, and nothing that disturbs it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytest.importorskip("livekit.agents")

from tests.unit.trunkbridge.fake_room import CALL, FakeRoom, phone
from tests.unit.trunkbridge.live_session import Talker, stage
from trunkbridge.agent import PhoneCall, report
from trunkbridge.agent.report import Report, Reporter

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # livekit-agents' own
]


class Bridge:
    """The receiving side: answers with the next status, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses or (201,))
        self.requests: list[httpx.Request] = []
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(status)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_PAUSE", 0)


def reporter(session: Any, bridge: Bridge) -> Reporter:
    return Reporter(
        session,
        call_id=CALL,
        room="in-+91/80",
        url="http://bridge:8080",
        key="k",
        transport=bridge.transport,
    )


@pytest.mark.parametrize("mode", ["pipeline", "realtime"])
async def test_figures_and_agents_of_a_session_are_posted_whole(mode: str) -> None:
    bridge = Bridge()
    async with stage(mode) as on:
        sending = reporter(on.session, bridge)
        await on.start(Talker(name="first"))
        await on.converse()
        on.session.update_agent(Talker(name="second"))
        async with asyncio.timeout(30):
            while not any(  # noqa: ASYNC110 (nobody tells of it)
                one["current_agent"] == "second" for one in bridge.documents
            ):
                await asyncio.sleep(0.01)
        await on.session.aclose()
        await sending.aclose()
    request, last = bridge.requests[-1], bridge.documents[-1]
    assert request.method == "POST"
    assert request.url.raw_path == b"/api/sessions/by-room/in-%2B91%2F80/metrics"
    assert request.headers["authorization"] == "Bearer k"
    assert last["call_id"] == CALL
    assert last["agent_history"] == ["first", "second"]
    metrics = last["metrics"]
    assert metrics["agent_handoffs"] == 1
    if mode == "pipeline":
        assert metrics["total_tokens"] >= 7
        assert all(metrics[name] >= 0 for name in ("llm_latency_ms", "tts_latency_ms"))
    else:
        assert metrics["stt_latency_ms"] is None, "unknown is null, never 0"


def test_latencies_are_means_in_milliseconds() -> None:
    figures = Report(SimpleNamespace(current_agent=SimpleNamespace(id="a")), CALL)  # type: ignore[arg-type]
    for seconds in (0.1, 0.2):
        item = SimpleNamespace(
            type="message", role="user", metrics={"transcription_delay": seconds}
        )
        assert not figures.take(item)
    assert figures.document()["metrics"]["stt_latency_ms"] == 150
    assert figures.document()["metrics"]["tts_latency_ms"] is None


async def test_an_attached_session_says_who_speaks_already() -> None:
    async with stage("pipeline") as on:
        await on.start(Talker(name="first"))
        document = Report(on.session, CALL).document()
    assert document["agent_history"] == ["first"]
    assert document["metrics"]["total_tokens"] is None


@pytest.mark.parametrize("status", [401, 404, 501])
async def test_a_bridge_that_takes_no_reports_is_asked_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = Bridge(status)
    async with stage("pipeline") as on:
        sending = reporter(on.session, bridge)
        await on.start(Talker(name="first"))
        await on.converse()
        await sending.aclose()
    assert len(bridge.requests) == 1
    assert "takes no reports" in caplog.text


async def test_a_bridge_that_is_away_for_a_moment_gets_the_report() -> None:
    bridge = Bridge(0, 503, 201)
    async with stage("pipeline") as on:
        sending = reporter(on.session, bridge)
        await on.start(Talker(name="first"))
        await sending.aclose()
    assert len(bridge.requests) >= 3
    assert bridge.documents[-1]["current_agent"] == "first"


async def test_the_job_waits_for_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKBRIDGE_URL", "http://127.0.0.1:9")
    room = FakeRoom(phone())
    waited: list[Any] = []

    class Context:
        add_shutdown_callback = staticmethod(waited.append)

        def __init__(self) -> None:
            self.room = room

    call = await PhoneCall.attach(Context())
    assert call is not None
    async with stage("pipeline") as on:
        call.report(on.session)
        call.report(on.session)
        assert len(waited) == 1
        await waited[0]()
    await call.aclose()


async def test_without_a_url_nothing_is_sent_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TRUNKBRIDGE_URL", raising=False)
    call = await PhoneCall.attach(FakeRoom(phone()))
    assert call is not None
    async with stage("pipeline") as on:
        call.report(on.session)
    assert "TRUNKBRIDGE_URL" in caplog.text
    await call.aclose()
