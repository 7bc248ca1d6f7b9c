"""The transcripts of running calls: what is written down, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from livekit.protocol.agent_pb import agent_session as pb

from bridge.errors import BridgeError
from bridge.events import CallAnswered, CallEnded, CallHold, CallResume
from bridge.room.seam import RoomHandlers, RoomStream
from bridge.transcript import desk as desk_module
from bridge.transcript.desk import TOPICS, Transcripts
from bridge.transcript.segment import Segment, Speaker

pytestmark = pytest.mark.unit

WALL = 1_800_000_000.0


class Notebook:
    """A journal in memory."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, dict[str, Any]]] = []
        self.failure: Exception | None = None

    def note(self, call_id: str, kind: str, body: Mapping[str, Any]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failure is None:
            self.notes.append((call_id, kind, dict(body)))
            done.set_result(None)
        else:
            done.set_exception(self.failure)
        return done


class House:
    """A desk with a clock of its own, which is the wall's from `WALL` on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.book = Notebook()
        self.desk = Transcripts(self.book, clock=lambda: self.now, wall=lambda: WALL + self.now)
        self.seq = 0
        self.heard = RoomHandlers(notify=lambda _: None)

    def phone(self, call_id: str = "c", room: str = "r", tenant: str | None = None) -> None:
        plain = RoomHandlers(notify=lambda _: None)
        self.heard = self.desk.listen(call_id, room, plain, tenant_id=tenant)

    def answered(self, call_id: str = "c") -> None:
        self.seq += 1
        self.desk.told(CallAnswered(call_id=call_id, seq=self.seq, at=0, codec="PCMA", ring_ms=1))

    def hold(self) -> None:
        self.seq += 1
        self.desk.told(CallHold(call_id="c", seq=self.seq, at=0, direction="sendonly"))

    def resume(self) -> None:
        self.seq += 1
        self.desk.told(CallResume(call_id="c", seq=self.seq, at=0, held_ms=1))

    def ended(self) -> None:
        self.seq += 1
        self.desk.told(
            CallEnded(
                call_id="c",
                seq=self.seq,
                at=0,
                outcome="completed",
                reason="remote_hangup",
                ended_by="caller",
                sip_status=200,
                q850=None,
                duration_ms=1,
            )
        )

    def says(self, text: str, kind: str = "sip", *, whole: bool = True) -> None:
        assert self.heard.stream is not None
        self.heard.stream(
            RoomStream(
                topic="lk.transcription",
                identity="agent-1" if kind == "agent" else "sip-1",
                kind=kind,
                text=text,
                attributes={"lk.segment_id": text, "lk.transcription_final": "true"},
                whole=whole,
            )
        )

    def tells(self, kind: str = "agent", **event: Any) -> None:
        message = pb.AgentSessionMessage(event=pb.AgentSessionEvent(**event))
        assert self.heard.stream is not None
        self.heard.stream(
            RoomStream(
                topic="lk.agent.session",
                identity="agent-1",
                kind=kind,
                text="",
                data=message.SerializeToString(),
            )
        )

    @property
    def said(self) -> list[tuple[str, str]]:
        bodies = (body for _, kind, body in self.book.notes if kind == "transcript")
        return [(body["speaker"], body["content"]) for body in bodies]

    @property
    def last(self) -> dict[str, Any]:
        return self.book.notes[-1][2]


@pytest.fixture
async def house() -> Any:
    made = House()
    yield made
    await made.desk.close()


def item(text: str, role: Any = None, interrupted: bool = False, **metrics: Any) -> Any:
    return pb.AgentSessionEvent.ConversationItemAdded(
        item=pb.ChatContext.ChatItem(
            message=pb.ChatMessage(
                role=pb.ASSISTANT if role is None else role,
                content=[pb.ChatMessage.ChatContent(text=text)],
                interrupted=interrupted,
                metrics=pb.MetricsReport(**metrics),
            )
        )
    )


async def test_a_phone_call_is_heard_from_its_answer_to_its_end(house: House) -> None:
    house.phone()
    assert house.heard.topics == TOPICS
    house.says("before")
    house.answered()
    house.says("one")
    house.hold()
    house.now += 10
    house.says("music")
    house.resume()
    house.says("two")
    assert house.said == [("USER", "one"), ("USER", "two")]
    assert {call_id for call_id, _, _ in house.book.notes} == {"c"}


async def test_an_agents_words_are_written_when_their_account_does_not_come(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.phone()
    house.answered()
    house.says("Hello.", "agent")
    assert house.said == []
    house.now += 1.0
    house.says("Hi.")
    assert house.said == [("AGENT", "Hello."), ("USER", "Hi.")]


async def test_what_agents_tell_of_their_session_joins_what_they_said(house: House) -> None:
    house.phone()
    house.answered()
    model = pb.ModelUsage(llm=pb.LLMModelUsage(model="gpt"))
    usage = pb.AgentSessionUsage(model_usage=[model])
    house.tells(session_usage_updated=pb.AgentSessionEvent.SessionUsageUpdated(usage=usage))
    call = pb.FunctionCall(name="look_up", arguments='{"order": 1}')
    executed = pb.AgentSessionEvent.FunctionToolsExecuted(function_calls=[call])
    house.tells(function_tools_executed=executed)
    handover = pb.ChatContext.ChatItem(agent_handoff=pb.AgentHandoff(new_agent_id="sales"))
    house.tells(conversation_item_added=pb.AgentSessionEvent.ConversationItemAdded(item=handover))
    house.tells(
        conversation_item_added=item(
            "We have", interrupted=True, llm_node_ttft=0.21, tts_node_ttfb=0.095, e2e_latency=0.8
        )
    )
    house.says("We have", "agent")
    house.tells(conversation_item_added=item("wait", pb.USER, transcription_delay=0.12))
    house.says("wait")
    agent, user = (body for _, kind, body in house.book.notes if kind == "transcript")
    assert (agent["interrupted"], agent["agent_name"], agent["llm_model"]) == (True, "sales", "gpt")
    assert (agent["first_token_ms"], agent["first_audio_ms"], agent["total_ms"]) == (210, 95, 800)
    assert agent["tool_call"] == {"name": "look_up", "arguments": {"order": 1}}
    assert user["stt_ms"] == 120


@pytest.mark.parametrize("kind", ["standard", "sip", "unknown"])
async def test_only_agents_tell_of_a_session(house: House, kind: str) -> None:
    house.phone()
    house.answered()
    house.tells(kind, conversation_item_added=item("We have", interrupted=True))
    house.says("We have", "agent")
    house.says("x")
    assert not next(body for _, _, body in house.book.notes if body["speaker"] == "AGENT")[
        "interrupted"
    ]


async def test_bytes_that_are_no_message_are_nothing(house: House) -> None:
    house.phone()
    house.answered()
    assert house.heard.stream is not None
    for data in (b"", b"\xff\xff", b"\x1a\x05abc"):
        stream = RoomStream(
            topic="lk.agent.session", identity="a", kind="agent", text="", data=data
        )
        house.heard.stream(stream)
    assert house.book.notes == []


async def test_last_words_come_until_the_room_is_left(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "LAST_WORDS", 0.01)
    house.phone()
    house.answered()
    house.ended()
    house.says("I was about", "agent", whole=False)
    async with asyncio.timeout(30):
        while not house.book.notes:  # noqa: ASYNC110 (a timer of the desk's own)
            await asyncio.sleep(0.005)
    assert house.last["content"] == "I was about"
    assert house.last["interrupted"]


async def test_an_ended_call_is_known_for_a_while_and_then_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "AFTERWARDS", 0.01)
    house.phone()
    house.desk.end("c")
    assert house.desk.running("r") is not None
    async with asyncio.timeout(30):
        while house.desk.running("r") is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    house.says("nobody listens")
    assert house.book.notes == []


async def test_the_newest_call_of_a_room_is_its_call_unless_another_is_named(
    house: House,
) -> None:
    house.phone("a", "r", "t1")
    house.phone("b", "r", "t2")
    newest, named = house.desk.running("r"), house.desk.running("r", "a")
    assert newest is not None
    assert (newest.call_id, newest.tenant_id) == ("b", "t2")
    assert named is not None
    assert named.call_id == "a"
    assert house.desk.running("r", "unknown") is None
    assert house.desk.running("r", sees=lambda _: False) is None
    assert house.desk.running("other") is None


def posted(content: str, at: float = 0.0, speaker: Speaker = Speaker.USER) -> Segment:
    return Segment(speaker=speaker, content=content, at=WALL + at, source="post")


async def test_the_first_post_ends_the_capture(house: House) -> None:
    house.phone()
    house.answered()
    house.says("heard")
    await house.desk.post("c", [posted("posted", 100)])
    house.says("heard no more")
    await house.desk.post("c", [posted("again", 101)])
    assert [kind for _, kind, _ in house.book.notes] == [
        "transcript",
        "capture_off",
        "transcript",
        "transcript",
    ]
    assert house.said == [("USER", "heard"), ("USER", "posted"), ("USER", "again")]


async def test_what_was_heard_and_is_then_posted_is_one_segment(house: House) -> None:
    house.phone()
    house.answered()
    house.says("Hello.", "agent")
    house.now += 0.2
    await house.desk.post("c", [posted("Hello.", 100, Speaker.AGENT)])
    notes = [body for _, kind, body in house.book.notes if kind == "transcript"]
    assert [(body["id"], body["source"]) for body in notes] == [
        ("AGENT:Hello.", "room"),
        ("AGENT:Hello.", "post"),
    ]


async def test_posts_of_what_was_said_in_a_hold_are_suppressed(house: House) -> None:
    house.phone()
    house.answered()
    house.hold()
    house.now = 110.0
    kept = await house.desk.post("c", [posted("before", 99), posted("music", 105)])
    assert [segment.content for segment in kept] == ["before"]
    house.resume()
    kept = await house.desk.post("c", [posted("late music", 109), posted("back", 110.5)])
    assert [segment.content for segment in kept] == ["back"]


async def test_a_post_after_the_end_of_a_held_call_is_kept(house: House) -> None:
    house.phone()
    house.answered()
    house.hold()
    house.now = 110.0
    house.ended()
    house.now = 110.5
    kept = await house.desk.post("c", [posted("music", 105), posted("goodbye", 110.5)])
    assert [segment.content for segment in kept] == ["goodbye"]


async def test_posts_for_a_call_that_does_not_run_here_are_written(house: House) -> None:
    await house.desk.post("elsewhere", [posted("x")])
    assert [kind for _, kind, _ in house.book.notes] == ["capture_off", "transcript"]


async def test_a_post_that_cannot_be_written_fails(house: House) -> None:
    house.phone()
    house.book.failure = BridgeError("the disk is full")
    with pytest.raises(BridgeError, match="full"):
        await house.desk.post("c", [posted("x")])
    with pytest.raises(BridgeError, match="full"):
        await house.desk.report("c", {})


async def test_words_that_cannot_be_written_cost_the_call_nothing(house: House) -> None:
    house.phone()
    house.answered()
    house.book.failure = BridgeError("the disk is full")
    house.says("lost")
    await asyncio.sleep(0)
    house.book.failure = None
    house.says("found")
    assert house.said == [("USER", "found")]


async def test_a_report_is_a_fact_and_its_turns_join_the_transcript(house: House) -> None:
    house.phone()
    house.answered()
    house.says("yes")
    body = {
        "current_agent": "sales",
        "turns": [{"role": "user", "content": "yes", "stt_ms": 90}],
    }
    await house.desk.report("c", body)
    kinds = [(kind, note.get("stt_ms")) for _, kind, note in house.book.notes]
    assert kinds == [("transcript", None), ("transcript", 90), ("report", None)]
    house.says("no")
    assert house.last["agent_name"] == "sales"


async def test_a_web_call_counts_from_the_beginning(house: House) -> None:
    house.desk.open("w", "web", tenant_id="t")
    stream = RoomStream(topic="lk.transcription", identity="u", kind="standard", text="hi")
    house.desk.hear("w", stream)
    house.desk.open("w", "web", off=True)
    house.desk.hear("w", stream)
    assert house.said == [("USER", "hi")]
