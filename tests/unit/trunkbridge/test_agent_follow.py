"""A live AgentSession of livekit-agents, pipeline and realtime, follows the hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("livekit.agents")

from tests.unit.trunkbridge.fake_room import FakeRoom, phone
from tests.unit.trunkbridge.live_session import AWAY, SILENCE, SOUND, Talker, stage
from trunkbridge.agent import PhoneCall
from trunkbridge.agent import phone as phone_module
from trunkbridge.agent.follow import Following

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # livekit-agents' own
]

both = pytest.mark.parametrize("mode", ["pipeline", "realtime"])

HELD_FOR = 2.2 * AWAY


class Line:
    """A phone whose far end holds and resumes, by events or by attributes alone."""

    def __init__(self, *, events: bool = True) -> None:
        self.who = phone(sip__callStatus="active", bridge__seq="1")
        self.room = FakeRoom(self.who)
        self._events = events
        self._seq = 1

    async def attach(self) -> PhoneCall:
        call = await PhoneCall.attach(self.room)
        assert call is not None
        return call

    def hold(self) -> None:
        self._change("call_hold", "true")

    def resume(self) -> None:
        self._change("call_resume", "false")

    def end(self) -> None:
        self._seq += 1
        self.room.send(self.who, "call_ended", self._seq, outcome="completed")

    def _change(self, event: str, held: str) -> None:
        self._seq += 1
        if self._events:
            self.room.send(self.who, event, self._seq)
        self.room.change(self.who, bridge__hold=held, bridge__seq=str(self._seq))


@both
async def test_nothing_is_heard_said_or_waited_for_on_hold_and_everything_after(mode: str) -> None:
    line = Line()
    call = await line.attach()
    async with stage(mode) as on:
        await on.start()
        call.follow(on.session)
        await on.converse()
        speech = on.session.generate_reply()
        await on.tells("agent speaking", time.monotonic())
        line.hold()
        held_at = time.monotonic()
        await asyncio.wait_for(speech.wait_for_playout(), 20)
        assert speech.interrupted
        await on.tells("agent listening", held_at - 0.1)
        quiet_from = time.monotonic()
        counts = vars(on.counts).copy()
        said = on.session.say("nobody hears this") if mode == "pipeline" else None
        replied = on.session.generate_reply(instructions="nor this")
        forced = on.session.generate_reply(allow_interruptions=False)
        for _ in range(3):
            await on.caller_says()
            await asyncio.sleep(HELD_FOR / 3)
        assert [one.interrupted for one in (said, replied, forced) if one] == [True] * (
            3 if said else 2
        )
        assert not {"user away", "transcript", "user item", "agent speaking"} & set(
            on.since(quiet_from)
        )
        assert [at for at in on.mouth.played if at >= quiet_from] == []
        heard = {name: vars(on.counts)[name] for name in counts if name.endswith("frames")}
        assert heard == {name: counts[name] for name in heard}
        resumed_at = time.monotonic()
        line.resume()
        await on.converse()
        assert [at for at in on.mouth.played if at >= resumed_at]
        await on.tells("user away", resumed_at)


@both
async def test_attributes_alone_are_enough(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_module, "_GRACE", 0.01)
    line = Line(events=False)
    call = await line.attach()
    async with stage(mode) as on:
        await on.start()
        call.follow(on.session)
        line.hold()
        await until(lambda: call.held)
        held_at = time.monotonic()
        on.session.generate_reply()
        await on.caller_says()
        await asyncio.sleep(HELD_FOR)
        assert not {"user away", "transcript", "agent speaking"} & set(on.since(held_at))
        line.resume()
        await until(lambda: not call.held)
        await on.converse()


@both
async def test_a_hold_that_is_there_before_the_session_starts_is_followed(mode: str) -> None:
    line = Line()
    line.hold()
    call = await line.attach()
    async with stage(mode) as on:
        call.follow(on.session)
        began = time.monotonic()
        await on.start(Talker(greeting="hello"))
        await on.caller_says()
        await asyncio.sleep(HELD_FOR)
        assert not {"user away", "transcript", "agent speaking"} & set(on.since(began))
        line.resume()
        resumed_at = time.monotonic()
        await on.tells("user away", resumed_at)
        await on.converse()


@both
async def test_a_handoff_during_the_hold_changes_nothing(mode: str) -> None:
    line = Line()
    call = await line.attach()
    async with stage(mode) as on:
        await on.start()
        call.follow(on.session)
        line.hold()
        held_at = time.monotonic()
        on.session.update_agent(Talker(greeting="I take over", name="second"))
        await until(lambda: on.session.current_agent.id == "second")
        await asyncio.sleep(0.1)
        on.session.generate_reply()
        await on.caller_says()
        await asyncio.sleep(HELD_FOR)
        assert not {"user away", "transcript", "agent speaking"} & set(on.since(held_at))
        line.resume()
        await on.converse()
        assert on.session.current_agent.id == "second"


async def test_fillers_of_a_tool_stop_and_its_answer_is_not_said() -> None:
    line = Line()
    call = await line.attach()
    agent = Talker()
    async with stage("pipeline") as on:
        await on.start(agent)
        call.follow(on.session)
        on.session.generate_reply(user_input="look up my order")
        await on.tells("agent speaking", 0)  # the filler
        line.hold()
        quiet_from = time.monotonic() + 0.2
        await asyncio.sleep(0.8)
        agent.tool.set()
        await asyncio.sleep(0.3)
        assert [at for at in on.mouth.played if at >= quiet_from] == []
        line.resume()
        await on.converse()


async def test_what_the_caller_had_begun_to_say_is_dropped() -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        await on.start()
        call.follow(on.session)
        await on.ears.hear(SOUND, 0.3)
        await on.tells("user speaking", 0)
        line.hold()
        assert on.session.user_state == "listening"
        line.resume()
        resumed_at = time.monotonic()
        await on.ears.hear(SILENCE, 1.0)
        await asyncio.sleep(0.4)
        assert "transcript" not in on.since(resumed_at)
        await on.converse()


async def test_a_user_who_is_away_stays_so_until_the_resume() -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        await on.start()
        call.follow(on.session)
        await on.tells("user away", 0)
        line.hold()
        held_at = time.monotonic()
        await asyncio.sleep(0.05)
        assert on.session.user_state == "away"
        assert on.since(held_at) == []
        line.resume()
        assert on.session.user_state == "listening"


async def test_following_twice_is_following_once() -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        await on.start()
        call.follow(on.session)
        line.hold()
        call.follow(on.session)
        line.resume()
        assert on.session.options.user_away_timeout == AWAY
        assert on.session.input.audio_enabled


async def test_ears_that_were_shut_before_the_hold_stay_shut() -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline", away=None) as on:
        await on.start()
        on.session.input.set_audio_enabled(False)
        call.follow(on.session)
        line.hold()
        line.resume()
        assert not on.session.input.audio_enabled
        assert on.session.options.user_away_timeout is None


@pytest.mark.parametrize("end", [Line.end, lambda line: None], ids=["ended", "closed"])
async def test_the_end_of_the_call_undoes_everything(end: Callable[[Line], None]) -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        await on.start()
        call.follow(on.session)
        line.hold()
        end(line)
        await call.aclose()
        assert on.session.options.user_away_timeout == AWAY
        assert on.session.input.audio_enabled
        speech = on.session.say("to somebody else")
        await on.tells("agent speaking", 0)
        assert not speech.interrupted
        call.follow(on.session)  # of a call that is over: nothing


async def test_a_resume_handler_may_speak_and_a_hold_handler_may_not() -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        await on.start()
        call.follow(on.session)
        speeches: dict[str, Any] = {}
        call.on("hold", lambda _: speeches.update(hold=on.session.say("please wait")))
        call.on("resume", lambda _: speeches.update(resume=on.session.say("welcome back")))
        line.hold()
        assert speeches["hold"].interrupted
        line.resume()
        await on.tells("agent speaking", 0)
        assert not speeches["resume"].interrupted


# Versions of livekit-agents that had fewer public names, and ones that will have others.


async def test_a_hold_before_anybody_listens_leaves_the_session_its_voice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    call = await line.attach()
    async with stage("pipeline") as on:
        heard = on.mouth.heard = asyncio.get_running_loop().create_future()
        await on.start()
        room_io = SimpleNamespace(subscribed_fut=heard)
        monkeypatch.setattr(type(on.session), "room_io", property(lambda _: room_io))
        call.follow(on.session)
        greeting = on.session.say("good morning")
        await on.mouth.waits.wait()
        line.hold()
        dropped = on.session.say("and this, on hold")
        await asyncio.wait({heard}, timeout=0.2)  # what must not happen would have by then
        assert not heard.cancelled()
        heard.set_result(None)
        await asyncio.wait_for(greeting.wait_for_playout(), 20)
        await asyncio.wait_for(dropped.wait_for_playout(), 20)
        assert greeting.interrupted
        assert dropped.interrupted
        resumed_at = time.monotonic()
        line.resume()
        await on.converse()
        assert [at for at in on.mouth.played if at >= resumed_at]


class OldSession:
    """livekit-agents 1.2: no ``force``, no public reset of the countdown."""

    def __init__(self) -> None:
        self.options = SimpleNamespace(user_away_timeout=15.0)
        self.input = SimpleNamespace(audio_enabled=True, set_audio_enabled=self._enable)
        self.user_state, self.agent_state = "listening", "listening"
        self.current_speech: Any = OldSpeech(allow_interruptions=False)
        self.countdown = True
        self.cleared = 0
        self.handlers: dict[str, Any] = {}

    def _enable(self, enabled: bool) -> None:
        self.input.audio_enabled = enabled

    def on(self, name: str, handler: Any) -> None:
        self.handlers[name] = handler

    def off(self, name: str, handler: Any) -> None:
        assert self.handlers.pop(name) == handler

    def interrupt(self) -> None:
        self.current_speech.interrupt()

    def clear_user_turn(self) -> None:
        self.cleared += 1

    def _cancel_user_away_timer(self) -> None:
        self.countdown = False

    def _set_user_away_timer(self) -> None:
        self.countdown = self.options.user_away_timeout is not None

    def _update_user_state(self, state: str) -> None:
        self.user_state = state


class OldSpeech:
    def __init__(self, *, allow_interruptions: bool = True) -> None:
        self.allow_interruptions = allow_interruptions
        self.interrupted = False

    def interrupt(self) -> None:
        if not self.allow_interruptions:
            raise RuntimeError("This generation handle does not allow interruptions")
        self.interrupted = True


def test_the_oldest_supported_version_is_followed_by_its_private_names() -> None:
    session = OldSession()
    following = Following(session)  # type: ignore[arg-type]
    following.hold()
    assert session.current_speech.interrupted
    assert (session.countdown, session.input.audio_enabled) == (False, False)
    filler = OldSpeech(allow_interruptions=False)
    session.handlers["speech_created"](SimpleNamespace(speech_handle=filler))
    assert filler.interrupted
    following.resume()
    assert (session.countdown, session.input.audio_enabled) == (True, True)
    assert session.options.user_away_timeout == 15.0
    session.user_state = "away"
    following.hold()
    following.resume()
    assert session.user_state == "listening"
    following.close()
    assert session.handlers == {}


def test_a_part_that_fails_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    session = OldSession()
    del session.options.user_away_timeout
    following = Following(session)  # type: ignore[arg-type]
    following.hold()
    assert not session.input.audio_enabled
    assert session.current_speech.interrupted
    following.resume()
    assert session.input.audio_enabled
    assert "could not follow" in caplog.text


async def until(done: Callable[[], bool]) -> None:
    """Wait for a state of the session."""
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(0.01)
