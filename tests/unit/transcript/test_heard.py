"""The transcript of a room, from the texts that agents stream."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.room.seam import RoomStream
from bridge.transcript import heard
from bridge.transcript.heard import Item, RoomTranscript
from bridge.transcript.segment import CONTENT_LIMIT, Segment, Speaker

pytestmark = pytest.mark.unit

WALL = 1_800_000_000.0


def words(
    text: str,
    *,
    kind: str = "sip",
    segment: str | None = "SG_1",
    final: bool | None = True,
    lasted: float = 0.0,
    whole: bool = True,
) -> RoomStream:
    attributes = {} if segment is None else {"lk.segment_id": segment}
    if final is not None:
        attributes["lk.transcription_final"] = "true" if final else "false"
    return RoomStream(
        topic="lk.transcription",
        identity="agent-1" if kind == "agent" else "sip-in-+911",
        kind=kind,
        text=text,
        attributes=attributes,
        lasted=lasted,
        whole=whole,
    )


class Room:
    """A transcript whose clock starts at 0 and whose wall clock at `WALL`."""

    def __init__(self, *, phone: bool = False) -> None:
        self.core = RoomTranscript(phone=phone)
        self.out: list[Segment] = []

    def at(self, now: float, *streams: RoomStream) -> None:
        for stream in streams:
            self.core.take(stream, now, WALL + now)
        self.out += self.core.poll(now)

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(one.speaker.value, one.content) for one in self.out]

    def end(self) -> list[Segment]:
        self.out += self.core.finish()
        return self.out


def test_only_what_is_final_of_a_user_is_kept() -> None:
    room = Room()
    room.at(1.0, words("hel", final=False))
    room.at(1.4, words("hello the", final=False))
    room.at(1.9, words("Hello there.", final=True))
    (segment,) = room.end()
    assert segment == Segment(
        speaker=Speaker.USER,
        content="Hello there.",
        at=WALL + 1.0,  # when the first guess came
        id="USER:SG_1",
        until=WALL + 1.9,
    )


def test_an_agents_stream_is_one_segment_from_its_first_word_to_its_last() -> None:
    room = Room()
    room.at(4.0, words("How may I help?", kind="agent", lasted=2.5))
    room.at(4.0 + heard.ACCOUNT_PATIENCE)
    (segment,) = room.out
    assert (segment.speaker, segment.at, segment.until) == (Speaker.AGENT, WALL + 1.5, WALL + 4.0)
    assert not segment.interrupted


def test_a_segment_counts_once_however_often_it_is_sent() -> None:
    room = Room()
    room.at(1.0, words("yes"), words("yes"), words("yes", final=False), words("yes"))
    room.at(9.0, words("yes"))
    room.at(9.1, words("yes", segment="SG_2"))
    assert room.said == [("USER", "yes"), ("USER", "yes")]


@pytest.mark.parametrize(
    ("kind", "identity", "in_phone_room", "in_web_room"),
    [
        ("sip", "sip-in-+911", "USER", "USER"),
        ("agent", "agent-AJ_1", "AGENT", "AGENT"),
        ("standard", "web-user", "AGENT", "USER"),
        ("unknown", "agent-AJ_1", "AGENT", "AGENT"),
        ("unknown", "somebody", "USER", "USER"),
    ],
)
def test_whose_words_they_are(
    kind: str, identity: str, in_phone_room: str, in_web_room: str
) -> None:
    for phone, speaker in ((True, in_phone_room), (False, in_web_room)):
        room = Room(phone=phone)
        room.core.resume(0.5)
        room.at(1.0, replace(words("hi", kind=kind), identity=identity))
        room.end()
        assert room.said == [(speaker, "hi")]


def test_one_id_of_two_speakers_is_two_segments() -> None:
    room = Room()
    room.at(1.0, words("hi", kind="agent"), words("hi"))
    assert sorted(room.said) == [("AGENT", "hi"), ("USER", "hi")]


def test_text_without_any_attribute_is_final() -> None:
    room = Room()
    room.at(1.0, words("one", segment=None, final=None), words("two", segment=None, final=None))
    assert room.said == [("USER", "one"), ("USER", "two")]


def test_what_an_agent_never_ended_was_cut() -> None:
    room = Room()
    room.at(1.0, words("I was about to", kind="agent", final=False, whole=False))
    room.at(60.0)
    assert room.out == []
    (segment,) = room.end()
    assert segment.interrupted
    assert segment.content == "I was about to"


def test_guesses_of_an_agents_words_give_way_to_the_final_ones() -> None:
    room = Room()
    room.at(1.0, words("I am", kind="agent", final=False))
    room.at(1.2, words("I am here.", kind="agent"))
    assert [(one.content, one.interrupted) for one in room.end()] == [("I am here.", False)]


def test_guesses_of_a_user_are_not_kept_at_the_end() -> None:
    room = Room()
    room.at(1.0, words("I wa", final=False))
    assert room.end() == []


# Interruptions.


def test_an_agent_is_interrupted_when_the_user_speaks_up_and_its_sentence_has_no_end() -> None:
    room = Room()
    room.at(3.0, words("wait", final=False, segment="SG_9"))
    room.at(3.4, words("We have three offers for you, the", kind="agent", lasted=2.0))
    room.at(4.0, words("Wait a second.", segment="SG_9"))
    assert [(one.speaker.value, one.interrupted) for one in room.end()] == [
        ("AGENT", True),
        ("USER", False),
    ]


def test_an_uhu_of_the_user_interrupts_nobody() -> None:
    room = Room()
    room.at(2.0, words("uh-huh", segment="SG_9"))
    room.at(3.4, words("We have three offers for you.", kind="agent", lasted=2.0))
    room.at(5.0)
    assert [one.interrupted for one in room.out] == [False, False]


def test_the_late_end_of_what_the_user_said_before_is_no_interruption() -> None:
    room = Room()
    room.at(0.5, words("an offer", final=False, segment="SG_9"))
    room.at(2.0, words("An offer please", segment="SG_9"))
    room.at(3.4, words("Sure, one moment", kind="agent", lasted=2.0))
    room.at(5.0)
    assert [one.interrupted for one in room.out] == [False, False]


@pytest.mark.parametrize("account_first", [True, False])
def test_an_agents_own_account_decides_whether_it_was_interrupted(account_first: bool) -> None:
    room = Room()
    item = Item(
        speaker=Speaker.AGENT,
        text="We have three  offers.",
        interrupted=True,
        agent_name="sales",
        first_token_ms=210.0,
        first_audio_ms=95.0,
        total_ms=800.0,
        llm_model="m",
    )
    stream = words("We have three offers.", kind="agent", lasted=2.0)
    if account_first:
        room.core.tell(item, 3.3)
        room.at(3.4, stream)
    else:
        room.at(3.3, stream)
        assert room.out == []
        room.core.tell(item, 3.4)
        room.at(3.4)
    (segment,) = room.out
    assert (segment.interrupted, segment.agent_name, segment.llm_model) == (True, "sales", "m")
    assert (segment.first_token_ms, segment.first_audio_ms) == (210.0, 95.0)
    assert segment.total_ms == 800.0


def test_an_account_of_a_user_gives_the_time_its_words_took() -> None:
    room = Room()
    room.core.tell(Item(speaker=Speaker.USER, text="yes", stt_ms=120.0), 1.0)
    room.at(1.1, words("yes"))
    assert room.out[0].stt_ms == 120.0


def test_an_account_that_is_old_belongs_to_nothing() -> None:
    room = Room()
    room.core.tell(Item(speaker=Speaker.USER, text="yes", stt_ms=120.0), 1.0)
    room.at(1.1 + heard.ITEM_LIFETIME, words("yes"))
    assert room.out[0].stt_ms is None


def test_an_account_that_comes_late_is_told_under_the_same_id() -> None:
    room = Room()
    room.at(1.0, words("We have", kind="agent"))
    room.at(2.0)
    item = Item(speaker=Speaker.AGENT, text="We have", interrupted=True, total_ms=700.0)
    for _ in range(2):
        room.core.tell(item, 3.0)
        room.at(3.0)
    assert [(one.id, one.interrupted, one.total_ms) for one in room.out] == [
        ("AGENT:SG_1", False, None),
        ("AGENT:SG_1", True, 700.0),
    ]


def test_what_was_posted_gets_an_id_and_the_account_of_it() -> None:
    room = Room()
    room.core.agent_name = "sales"
    posted = room.core.posted(Segment(speaker=Speaker.USER, content="yes", at=WALL, source="post"))
    assert (posted.id, posted.agent_name) == ("room:1", "sales")
    room.core.tell(Item(speaker=Speaker.USER, text="yes", stt_ms=50.0), 1.0)
    room.at(1.0)
    assert [(one.id, one.stt_ms, one.source) for one in room.out] == [("room:1", 50.0, "post")]


def test_a_tool_that_was_called_stands_with_what_the_agent_says_next() -> None:
    room = Room()
    room.core.called({"name": "save_meal", "arguments": {"meal_type": "breakfast"}}, 1.0)
    room.at(2.0, words("Saved.", kind="agent"))
    room.at(3.0, words("And now?", kind="agent", segment="SG_2"))
    room.end()
    assert [one.tool_call and one.tool_call["name"] for one in room.out] == ["save_meal", None]


def test_the_user_never_comes_before_the_agent_that_has_ended() -> None:
    room = Room()
    room.at(1.0, words("Hello.", kind="agent"))
    room.at(1.1, words("Hi.", segment="SG_2"))
    assert room.said == [("AGENT", "Hello."), ("USER", "Hi.")]


# Hold.


def test_nothing_that_is_said_while_held_is_kept() -> None:
    room = Room()
    room.core.hold(10.0)
    room.at(10.0 + heard.TAIL + 1, words("la la la"), words("Are you there?", kind="agent"))
    room.core.resume(20.0)
    room.at(20.5, words("Back again.", segment="SG_2"))
    room.at(30.0)
    assert room.said == [("USER", "Back again.")]


def test_what_began_while_held_is_not_kept_even_when_it_ends_later() -> None:
    room = Room()
    room.core.hold(10.0)
    room.at(19.9, words("la", final=False))
    room.core.resume(20.0)
    room.at(20.2, words("la la"), words("I said", kind="agent", lasted=1.0))
    room.at(25.0)
    assert room.out == []


def test_words_spoken_before_the_hold_are_kept_though_they_come_after_it() -> None:
    room = Room()
    room.at(9.5, words("one mo", final=False))
    room.core.hold(10.0)
    room.at(10.4, words("One moment."), words("We could also", kind="agent", lasted=3.0))
    room.at(12.0)
    assert room.said == [("USER", "One moment."), ("AGENT", "We could also")]


def test_nothing_counts_before_the_call_is_answered() -> None:
    room = Room(phone=True)
    room.at(1.0, words("The number you have dialled"))
    room.core.resume(2.0)
    room.at(2.5, words("Hello?", segment="SG_2"))
    assert room.said == [("USER", "Hello?")]


def test_what_an_agent_was_saying_when_the_call_was_answered_counts() -> None:
    room = Room(phone=True)
    room.core.resume(2.0)
    room.at(3.0, words("Hello, this is Ana.", kind="agent", lasted=2.5))
    assert [one.content for one in room.end()] == ["Hello, this is Ana."]


def test_what_an_agent_tells_while_held_is_not_taken() -> None:
    room = Room()
    room.core.hold(1.0)
    room.core.called({"name": "x", "arguments": {}}, 1.1)
    room.core.tell(Item(speaker=Speaker.USER, text="yes", stt_ms=1.0), 1.2)
    room.core.resume(2.0)
    room.at(2.5, words("yes"), words("Yes.", kind="agent", segment="SG_2"))
    assert [(one.stt_ms, one.tool_call) for one in room.end()] == [(None, None), (None, None)]


# Odd texts.


def test_json_lines_with_timing_are_read_as_their_text() -> None:
    room = Room()
    text = "".join(
        json.dumps({"text": part, "start_time": 1.0}) + "\n" for part in ("Good ", "day")
    )
    room.at(1.0, words(text))
    assert room.said == [("USER", "Good day")]


@pytest.mark.parametrize("text", ['{"text": 1}', "{so it goes}", "{" * 5000, '{"other": "x"} y'])
def test_text_that_only_looks_like_json_lines_is_kept_as_it_is(text: str) -> None:
    room = Room()
    room.at(1.0, words(text))
    assert room.said == [("USER", text)]


def test_text_is_cut_and_without_what_no_database_takes() -> None:
    room = Room()
    room.at(
        1.0, words("a\0b" + "x" * (2 * CONTENT_LIMIT)), words('{"text": "\\ud800"}', segment="2")
    )
    assert [len(one.content) for one in room.out] == [CONTENT_LIMIT - 1, 1]
    assert "\0" not in room.out[0].content
    room.out[1].content.encode()


def test_nothing_is_kept_of_silence() -> None:
    room = Room()
    room.at(1.0, words(" \n"), words("", segment="2"))
    assert room.end() == []


_STREAMS = st.builds(
    words,
    st.text(max_size=20),
    kind=st.sampled_from(["sip", "agent", "standard", "unknown"]),
    segment=st.sampled_from([None, "", "a", "b", "c"]),
    final=st.sampled_from([True, False, None]),
    lasted=st.floats(-1, 40),
    whole=st.booleans(),
)
_ITEMS = st.builds(Item, speaker=st.sampled_from(Speaker), text=st.text(max_size=20))
_STEPS = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.one_of(_STREAMS, _ITEMS, st.sampled_from(["hold", "resume", "tool"])),
    ),
    max_size=40,
)


def test_the_last_holds_are_remembered() -> None:
    core = RoomTranscript()
    for start in (10.0, 20.0):
        core.hold(start)
        core.resume(start + 5)
    assert [core.in_quiet(moment) for moment in (9.9, 10.0, 15.0, 24.9, 25.0)] == [
        False,
        True,
        False,
        True,
        False,
    ]


@given(_STEPS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_comes_each_id_is_told_once_and_little_is_kept(
    steps: list[tuple[float, Any]], phone: bool
) -> None:
    room = Room(phone=phone)
    now = 0.0
    for pause, step in steps:
        now += pause
        match step:
            case RoomStream():
                room.at(now, step)
            case Item():
                room.core.tell(step, now)
            case "hold":
                room.core.hold(now)
            case "resume":
                room.core.resume(now)
            case _:
                room.core.called({"name": "x", "arguments": {}}, now)
        due = room.core.next_deadline()
        assert due is None or due > now or room.core.poll(now) is not None
    room.end()
    told = [one for one in room.out if one.speaker is Speaker.USER]
    assert len({one.id for one in told}) == len({(one.id, one.content) for one in told})
    for one in room.out:
        assert one.content
        assert one.at >= 0
        assert Segment.from_dict(json.loads(json.dumps(one.as_dict()))) == one


def test_a_flood_of_ids_and_texts_stays_bounded() -> None:
    room = Room()
    for index in range(3000):
        kind = "agent" if index % 2 else "sip"
        room.at(index / 100, words("x", kind=kind, segment=str(index), final=index % 3 == 0))
    core = room.core
    assert len(core._known) <= heard.IDS_LIMIT
    assert len(core._first_heard) <= heard.IDS_LIMIT
    assert len(core._drafts) <= heard.WAITING_LIMIT
    assert len(core._waiting) <= heard.WAITING_LIMIT


def test_a_room_that_never_stops_is_kept_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "SEGMENTS_LIMIT", 3)
    room = Room()
    room.at(1.0, *(words("x", segment=str(index)) for index in range(9)))
    assert len(room.end()) == 3
