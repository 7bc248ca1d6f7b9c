"""What an agent measured, for the bridge's record: latencies, tokens, agents.

One JSON document per call, posted whole each time, so that a lost one costs nothing:
``{"call_id", "current_agent", "agent_history", "metrics": {"stt_latency_ms",
"llm_latency_ms", "tts_latency_ms", "total_tokens", "agent_handoffs"}}``. Latencies are means
over the call in milliseconds; what nobody measured is null.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from livekit.agents import AgentSession

_TRIES: Final = 3
_PAUSE: Final = 1.0  # seconds between tries
_TIMEOUT: Final = 5.0  # seconds of one try
_HISTORY: Final = 1000  # agents that are remembered

# Of a chat message's own measurements, in seconds (livekit-agents 1.3 and newer).
_DELAYS: Final = {
    "transcription_delay": "stt_latency_ms",
    "llm_node_ttft": "llm_latency_ms",
    "tts_node_ttfb": "tts_latency_ms",
}

_log = logging.getLogger(__name__)


class Report:
    """The figures of one session, as they stand."""

    def __init__(self, session: AgentSession[Any], call_id: str) -> None:
        self._session: Any = session
        self._call_id = call_id
        self._agents: list[str] = []
        self._delays: defaultdict[str, list[float]] = defaultdict(list)
        self._see_agent()

    def _see_agent(self) -> None:
        try:
            agent = self._session.current_agent
        except RuntimeError:  # not started yet
            return
        name = str(getattr(agent, "id", type(agent).__name__))
        if self._agents[-1:] != [name] and len(self._agents) < _HISTORY:
            self._agents.append(name)

    def take(self, item: Any) -> bool:
        """Take an item of the conversation; True when it says something to send."""
        self._see_agent()
        if item.type == "agent_handoff":  # livekit-agents 1.3 and newer
            return True
        measured = getattr(item, "metrics", None) or {}
        for source, name in _DELAYS.items():
            seconds = measured.get(source)
            if seconds is not None:
                self._delays[name].append(seconds)
        return getattr(item, "role", "") == "assistant"

    def document(self) -> dict[str, Any]:
        """Return the whole report."""
        means = {
            name: round(1000 * sum(times) / len(times)) if times else None
            for name, times in ((name, self._delays[name]) for name in _DELAYS.values())
        }
        return {
            "call_id": self._call_id,
            "current_agent": self._agents[-1] if self._agents else None,
            "agent_history": list(self._agents),
            "metrics": {
                **means,
                "total_tokens": self._tokens(),
                "agent_handoffs": max(0, len(self._agents) - 1),
            },
        }

    def _tokens(self) -> int | None:
        usage = getattr(self._session, "usage", None)
        used = [one for one in getattr(usage, "model_usage", ()) if one.type == "llm_usage"]
        return sum(one.input_tokens + one.output_tokens for one in used) if used else None


class Reporter:
    """Posts a session's report after each turn and handoff, and a last time at its end.

    One post is under way at a time and carries the newest figures. A bridge that takes no
    reports (404, 405, 501) or not with this key (401, 403) is told so once in the log and
    asked no more; nothing else of the agent is disturbed.
    """

    def __init__(
        self,
        session: AgentSession[Any],
        *,
        call_id: str,
        room: str,
        url: str,
        key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.session: Any = session
        self._report = Report(session, call_id)
        self._path = f"/api/sessions/by-room/{quote(room, safe='')}/metrics"
        headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport
        )
        self._changed = asyncio.Event()
        self._over = False
        self._refused = False
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("close", self._on_close)
        self._task = asyncio.create_task(self._run())

    def _on_item(self, event: Any) -> None:
        if self._report.take(event.item):
            self._changed.set()

    def _on_close(self, _: Any) -> None:
        self.finish()

    def finish(self) -> None:
        """Send once more what there is; `aclose` waits for it."""
        if not self._over:
            self._over = True
            self.session.off("conversation_item_added", self._on_item)
            self.session.off("close", self._on_close)
            self._changed.set()

    async def aclose(self) -> None:
        """Finish and wait until it is sent or given up."""
        self.finish()
        await self._task

    async def _run(self) -> None:
        try:
            last = False
            while not last and not self._refused:
                await self._changed.wait()
                self._changed.clear()
                last = self._over
                await self._send()
        finally:
            await self._http.aclose()

    async def _send(self) -> None:
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(_PAUSE)
            try:
                reply = await self._http.post(self._path, json=self._report.document())
            except httpx.HTTPError as error:
                _log.warning("a report did not reach the bridge: %s", type(error).__name__)
                continue
            if reply.status_code in (401, 403, 404, 405, 501):
                _log.warning("the bridge takes no reports (%d)", reply.status_code)
                self._refused = True
                return
            if reply.status_code < 500:
                return
