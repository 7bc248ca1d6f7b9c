"""What agents tell of their own session on ``lk.agent.session``. PURE.

livekit-agents 1.5 and newer send every event of a session to the whole room, each a byte
stream with one ``AgentSessionMessage``. Taken are the messages of the conversation (whether
they were interrupted, what they took), calls of tools, handoffs and the model that was used.
An older ``livekit-protocol`` does not know them: then nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from bridge.transcript.heard import Item
from bridge.transcript.segment import Speaker, clean, name, number, tool_call


def _words() -> Any:
    try:
        from livekit.protocol.agent_pb import agent_session
    except ImportError:  # pragma: no cover
        return None
    return agent_session


_pb: Any = _words()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled:
    """The agent has called a tool: ``{"name", "arguments"}``."""

    call: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """Another agent of the session speaks from now on."""

    agent_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsed:
    """The session's language model."""

    llm_model: str


Account = Item | ToolCalled | HandedOver | ModelUsed


def account_of(data: bytes) -> Account | None:
    """Return what one message tells; None when it is nothing of interest, or no message."""
    if _pb is None:
        return None
    try:
        event = _pb.AgentSessionMessage.FromString(data).event
    except DecodeError:
        return None
    match event.WhichOneof("event"):
        case "conversation_item_added":
            return _of_item(event.conversation_item_added.item)
        case "function_tools_executed":
            return _called(event.function_tools_executed.function_calls)
        case "session_usage_updated":
            return _model(event.session_usage_updated.usage)
        case _:
            return None


def _of_item(item: Any) -> Account | None:
    match item.WhichOneof("item"):
        case "message":
            return _message(item.message)
        case "agent_handoff":
            agent = name(item.agent_handoff.new_agent_id)
            return None if agent is None else HandedOver(agent_name=agent)
        case _:
            return None


def _called(calls: Sequence[Any]) -> ToolCalled | None:
    """Return the first of the tools that were called together."""
    found = (tool_call({"name": one.name, "arguments": one.arguments}) for one in calls)
    first = next((call for call in found if call is not None), None)
    return None if first is None else ToolCalled(call=first)


def _message(message: Any) -> Item | None:
    text = clean("\n".join(part.text for part in message.content if part.text))
    metrics = message.metrics
    if message.role == _pb.USER:
        stt_ms = _milliseconds(metrics, "transcription_delay")
        return Item(speaker=Speaker.USER, text=text, stt_ms=stt_ms)
    if message.role != _pb.ASSISTANT:
        return None
    return Item(
        speaker=Speaker.AGENT,
        text=text,
        interrupted=message.interrupted,
        first_token_ms=_milliseconds(metrics, "llm_node_ttft"),
        first_audio_ms=_milliseconds(metrics, "tts_node_ttfb"),
        total_ms=_milliseconds(metrics, "e2e_latency"),
    )


def _milliseconds(metrics: Any, field: str) -> float | None:
    if not metrics.HasField(field):
        return None
    seconds = number(getattr(metrics, field))
    return None if seconds is None else round(1000 * seconds, 1)


def _model(usage: Any) -> ModelUsed | None:
    models = [used.llm.model for used in usage.model_usage if used.HasField("llm")]
    model = name(models[-1]) if models else None
    return None if model is None else ModelUsed(llm_model=model)
