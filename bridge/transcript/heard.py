"""The transcript of one room, as agents stream it on ``lk.transcription``. PURE.

Texts go in by `RoomTranscript.take` with ``now`` (seconds of any steady clock) and ``wall``;
final segments come out of `poll`, each once, and the rest out of `finish`.

livekit-agents sends a user's words as one whole text per guess, all with the segment's id, the
last one marked final; an agent's as one stream per segment that grows as it is spoken and is
marked final when it ends. Interrupted speech ends early with what was spoken, marked final like
any other: what tells is the agent's own account (`Item`), or else that the user spoke up while
it was spoken and its last sentence has no end.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from bridge.room.convention import SEGMENT_ID, TRANSCRIPTION_FINAL
from bridge.room.seam import RoomStream
from bridge.transcript.segment import CONTENT_LIMIT, NAME_LIMIT, Segment, Speaker, clean

ACCOUNT_PATIENCE: Final = 0.5
"""Seconds that an agent's segment waits for its agent's account of it."""

TAIL: Final = 2.0
"""Seconds of a hold in which words may still come that were spoken before it."""

SEGMENTS_LIMIT: Final = 10_000
"""Segments of one room; nothing more is kept after them."""

IDS_LIMIT: Final = 512
SAME_WITHIN: Final = 15.0
"""Seconds between a segment that was heard and one that was posted, to be the same."""

WAITING_LIMIT: Final = 16
HOLDS_LIMIT: Final = 16
ITEMS_LIMIT: Final = 16
ITEM_LIFETIME: Final = 10.0  # seconds in which an account finds its segment
_OVERLAP: Final = 0.3  # seconds into an agent's speech: what comes sooner was said before it

_PHONE: Final = "sip"  # kinds of participants
_AGENT: Final = "agent"
_AGENTS: Final = "agent-"  # how LiveKit names the agents that it dispatches
_ENDS: Final = tuple(".!?…。！？।؟)\"'”’»")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What an agent tells of one message of its conversation; unknown is None."""

    speaker: Speaker
    text: str
    interrupted: bool | None = None
    agent_name: str | None = None
    tool_call: Mapping[str, Any] | None = None
    stt_ms: float | None = None
    first_token_ms: float | None = None
    first_audio_ms: float | None = None
    total_ms: float | None = None
    llm_model: str | None = None


@dataclass(slots=True)
class _Waiting:
    segment: Segment
    due: float


class RoomTranscript:
    """What is said in one room. Whatever a participant sends, it stays bounded and never raises.

    In the room of a *phone* call nothing counts before it is answered (`resume`), and all but the
    phone's words are the agent's; in another one an agent is who says so by its kind. *ids*
    begins the ids of segments that have none of their own, other ones for each connection.
    """

    def __init__(self, *, phone: bool = False, ids: str = "room") -> None:
        self._phone = phone
        self.agent_name: str | None = None
        self._ids = ids
        self._quiet_since: float | None = float("-inf") if phone else None
        self._quiet: deque[tuple[float, float]] = deque(maxlen=HOLDS_LIMIT)
        self._known: OrderedDict[str, None] = OrderedDict()  # ids of segments that are final
        self._first_heard: OrderedDict[str, float] = OrderedDict()  # of a user's guesses
        self._spoke_up: deque[float] = deque(maxlen=IDS_LIMIT)  # when a user began to speak
        self._drafts: OrderedDict[str, Segment] = OrderedDict()  # of agents, not final yet
        self._items: deque[tuple[float, Item]] = deque(maxlen=ITEMS_LIMIT)
        self._waiting: deque[_Waiting] = deque()
        self._out: list[Segment] = []
        self._count = 0
        self._numbered = 0
        self._recent: deque[Segment] = deque(maxlen=ITEMS_LIMIT)  # what went out last
        self._tool_call: Mapping[str, Any] | None = None

    # What suppresses.

    def hold(self, now: float) -> None:
        """Take nothing that is said from now on: the call is held."""
        if self._quiet_since is None:
            self._quiet_since = now

    def resume(self, now: float) -> None:
        """Take what is said from now on."""
        if self._quiet_since is not None:
            self._quiet.append((self._quiet_since, now))
            self._quiet_since = None

    def in_quiet(self, moment: float) -> bool:
        """Whether *moment* was in a hold."""
        if self._quiet_since is not None and moment >= self._quiet_since:
            return True
        return any(began <= moment < ended for began, ended in self._quiet)

    def in_hold(self, moment: float) -> bool:
        """Whether *moment* was in a hold of an answered call."""
        holds = [*self._quiet]
        if self._quiet_since is not None:
            holds.append((self._quiet_since, float("inf")))
        return any(began <= moment < ended for began, ended in holds if began > float("-inf"))

    def _suppressed(self, began: float, now: float) -> bool:
        """Whether words do not count that began at *began* and are known *now*.

        Those that began in a hold; before the answer those that have ended by then, of which
        the caller has heard nothing.
        """
        if self._quiet_since is None:
            return self.in_hold(began)
        late = now - self._quiet_since > TAIL
        return late or began >= self._quiet_since or self.in_hold(began)

    # What comes.

    def take(self, stream: RoomStream, now: float, wall: float) -> None:
        """Take a text of the room that has just ended."""
        content = _content(stream.text)
        speaker = self._speaker(stream)
        segment_id = stream.attributes.get(SEGMENT_ID, "")[:NAME_LIMIT]
        key = f"{stream.identity[:NAME_LIMIT]} {segment_id}" if segment_id else ""
        if (
            not stream.identity
            or not content
            or (key and key in self._known)
            or self._count >= SEGMENTS_LIMIT
        ):
            return
        lasted = max(0.0, stream.lasted)
        began = now - lasted
        if speaker is Speaker.USER:
            began = self._speaks_up(key, began)
            lasted = max(lasted, now - began)
        segment = Segment(
            speaker=speaker,
            content=content,
            at=max(0.0, wall - lasted),
            id=f"{speaker}:{segment_id}" if segment_id else self._new_id(),
            until=wall,
            agent_name=self.agent_name,
        )
        final = stream.whole and stream.attributes.get(TRANSCRIPTION_FINAL, "true") == "true"
        if self._suppressed(began, now):
            self._forget(key, final=final)
        elif not final:
            self._draft(key, segment)
        elif speaker is Speaker.USER:
            self._forget(key, final=True)
            self._settle_all()
            self._put(self._with_account(segment, now))
        else:
            self._forget(key, final=True)
            self._wait(replace(segment, interrupted=self._is_cut(began, now, content)), now)

    def _new_id(self) -> str:
        self._numbered += 1
        return f"{self._ids}:{self._numbered}"

    def _speaker(self, stream: RoomStream) -> Speaker:
        if stream.kind == "unknown":
            is_agent = stream.identity.startswith(_AGENTS)
        elif self._phone:
            is_agent = stream.kind != _PHONE
        else:
            is_agent = stream.kind == _AGENT
        return Speaker.AGENT if is_agent else Speaker.USER

    def _speaks_up(self, key: str, began: float) -> float:
        """Note when a user began to say this; return it."""
        first = self._first_heard.get(key) if key else None
        if first is not None:
            return min(first, began)
        self._spoke_up.append(began)
        if key:
            self._first_heard[key] = began
            if len(self._first_heard) > IDS_LIMIT:
                self._first_heard.popitem(last=False)
        return began

    def _is_cut(self, began: float, ended: float, content: str) -> bool:
        """Whether the user spoke up in the midst of it and its last sentence has no end."""
        spoke_up = any(began + _OVERLAP <= moment <= ended for moment in self._spoke_up)
        return spoke_up and not content.endswith(_ENDS)

    def _draft(self, key: str, segment: Segment) -> None:
        """Keep what an agent said so far: that is all there is when the rest never comes."""
        if segment.speaker is Speaker.AGENT:
            self._drafts[key] = segment
            self._drafts.move_to_end(key)
            if len(self._drafts) > WAITING_LIMIT:
                self._drafts.popitem(last=False)

    def _forget(self, key: str, *, final: bool) -> None:
        """Drop what leads up to a segment; a final one's id is taken from now on."""
        self._drafts.pop(key, None)
        if final and key:
            self._first_heard.pop(key, None)
            self._known[key] = None
            if len(self._known) > IDS_LIMIT:
                self._known.popitem(last=False)

    # What agents tell.

    def tell(self, item: Item, now: float) -> None:
        """Take an agent's account of one message; it may come before or after the text.

        What went out already goes out again, under the same id.
        """
        item = replace(item, text=_content(item.text))
        if self.in_quiet(now) or not item.text:
            return
        for waiting in self._waiting:
            if _is_of(item, waiting.segment):
                waiting.segment = self._joined(waiting.segment, item)
                waiting.due = now
                return
        for index, segment in enumerate(self._recent):
            if _is_of(item, segment):
                joined = self._joined(segment, item)
                if joined != segment:
                    self._recent[index] = joined
                    self._out.append(joined)
                return
        self._items.append((now, item))

    def called(self, tool_call: Mapping[str, Any], now: float) -> None:
        """Take that the agent has called a tool: it belongs to what it says next."""
        if not self.in_quiet(now):
            self._tool_call = tool_call

    def be_posted(self) -> None:
        """Take no streams any more: what is said is posted from now on.

        What has ended goes out; what had not will be posted.
        """
        self._settle_all()
        self._drafts.clear()

    def posted(self, segment: Segment) -> Segment:
        """Return a segment that was posted with an id: its own, or that of the same one heard.

        It is noted for the accounts of it.
        """
        heard = None
        for index, one in enumerate(self._recent):
            if one.source == "room" and _is_same(one, segment):
                heard = one.id
                del self._recent[index]
                break
        named = replace(
            segment,
            id=segment.id or heard or self._new_id(),
            agent_name=segment.agent_name or self.agent_name,
        )
        self._recent.append(named)
        return named

    def _with_account(self, segment: Segment, now: float) -> Segment:
        for index, (told_at, item) in enumerate(self._items):
            if now - told_at <= ITEM_LIFETIME and _is_of(item, segment):
                del self._items[index]
                return self._joined(segment, item)
        return segment

    def _joined(self, segment: Segment, item: Item) -> Segment:
        interrupted = segment.interrupted
        if item.interrupted is not None and segment.speaker == Speaker.AGENT:
            interrupted = item.interrupted
        return replace(
            segment,
            interrupted=interrupted,
            agent_name=item.agent_name or segment.agent_name,
            tool_call=item.tool_call or segment.tool_call,
            stt_ms=_either(item.stt_ms, segment.stt_ms),
            first_token_ms=_either(item.first_token_ms, segment.first_token_ms),
            first_audio_ms=_either(item.first_audio_ms, segment.first_audio_ms),
            total_ms=_either(item.total_ms, segment.total_ms),
            llm_model=item.llm_model or segment.llm_model,
        )

    # What goes out.

    def _wait(self, segment: Segment, now: float) -> None:
        segment = replace(segment, tool_call=self._tool_call)
        self._tool_call = None
        told = self._with_account(segment, now)
        due = now if told is not segment else now + ACCOUNT_PATIENCE
        self._waiting.append(_Waiting(told, due))
        if len(self._waiting) > WAITING_LIMIT:
            self._put(self._waiting.popleft().segment)

    def _settle_all(self) -> None:
        while self._waiting:
            self._put(self._waiting.popleft().segment)

    def _put(self, segment: Segment) -> None:
        if self._count < SEGMENTS_LIMIT:
            self._count += 1
            self._out.append(segment)
            self._recent.append(segment)

    def poll(self, now: float) -> list[Segment]:
        """Return the segments that are ready, in order, and those that are known better now."""
        while self._waiting and self._waiting[0].due <= now:
            self._put(self._waiting.popleft().segment)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """Return when to `poll` even if nothing comes."""
        return self._waiting[0].due if self._waiting else None

    def finish(self) -> list[Segment]:
        """Return what is left: the room is over. What an agent had not ended was cut."""
        self._settle_all()
        for draft in self._drafts.values():
            self._put(replace(draft, interrupted=True))
        self._drafts.clear()
        out, self._out = self._out, []
        return out


def _either(told: float | None, known: float | None) -> float | None:
    return known if told is None else told


def _is_of(item: Item, segment: Segment) -> bool:
    return item.speaker == segment.speaker and _words(item.text) == _words(segment.content)


def _is_same(heard: Segment, posted: Segment) -> bool:
    same = heard.speaker == posted.speaker and _words(heard.content) == _words(posted.content)
    return same and abs(heard.at - posted.at) <= SAME_WITHIN


@lru_cache(maxsize=256)
def _words(text: str) -> str:
    """Return *text* as it is compared; each is with many, and may be long."""
    return " ".join(text.split())


def _content(text: str) -> str:
    """Return what was said: plain text, or JSON lines with ``text`` (``json_format``)."""
    if text.startswith("{") and len(text) <= 16 * CONTENT_LIMIT:
        text = _unwrapped(text)
    return clean(text.strip()[:CONTENT_LIMIT]).strip()


def _unwrapped(text: str) -> str:
    parts = []
    for line in text.splitlines():
        try:
            part = json.loads(line) if line.strip() else {"text": ""}
        except (ValueError, RecursionError):
            return text
        if not isinstance(part, dict) or not isinstance(part.get("text", ""), str):
            return text
        parts.append(part.get("text", ""))
    return "".join(parts)
