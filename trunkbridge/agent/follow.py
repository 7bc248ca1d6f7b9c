"""An AgentSession on hold: nobody listens, so nothing is heard, said or waited for.

Everything is done to the session, never to the agent it runs at the moment, so a handoff
changes nothing. Public names of livekit-agents only, with private ones for versions that
had no public ones yet; the versions are ``>=1.2,<2``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from livekit.agents import AgentSession

_FOREVER: Final = 10 * 365 * 86_400.0  # seconds: a countdown that never ends

_log = logging.getLogger(__name__)


class Following:
    """One session that follows the hold of one call.

    `hold` and `resume` may come in any number and before ``session.start()``; `close` puts
    everything back and lets go of the session.
    """

    def __init__(self, session: AgentSession[Any]) -> None:
        self.session: Any = session
        self._held = False
        self._away_timeout: float | None = None
        self._listened = True
        self.session.on("speech_created", self._on_speech_created)
        self.session.on("close", self._on_close)

    def hold(self) -> None:
        """Stop the countdown to "away", the ears and every speech, said or to come."""
        if self._held:
            return
        self._held = True
        _attempt(self._stop_countdown)
        _attempt(self._stop_listening)
        _attempt(self._stop_speaking)
        _attempt(self._forget_turn)

    def resume(self) -> None:
        """Return to what was before `hold`; what was to be said meanwhile stays unsaid."""
        if not self._held:
            return
        _attempt(self._forget_turn)
        self._let_go()
        _attempt(self._restart_countdown)

    def close(self) -> None:
        """Stop following; the session is as if it had never been held."""
        if self._held:
            self._let_go()
        self.session.off("speech_created", self._on_speech_created)
        self.session.off("close", self._on_close)

    def _let_go(self) -> None:
        self._held = False
        _attempt(self._listen)
        _attempt(self._restore_timeout)

    def _on_close(self, _: Any) -> None:
        """The session is over; it may be started again for somebody else."""
        if self._held:
            self._let_go()

    def _on_speech_created(self, event: Any) -> None:
        """Everything that speaks comes by here first: say, replies, fillers, realtime models."""
        if self._held:
            _attempt(lambda: self._silence(event.speech_handle))

    # The countdown to "away".

    def _stop_countdown(self) -> None:
        session = self.session
        self._away_timeout = session.options.user_away_timeout
        if self._away_timeout is None:
            return
        if not hasattr(session, "reset_away_timer"):  # livekit-agents before 1.6
            session._cancel_user_away_timer()
        elif session.user_state != "away":  # a reset would tell that the user is back
            session.options.user_away_timeout = _FOREVER
            session.reset_away_timer()
        session.options.user_away_timeout = None

    def _restore_timeout(self) -> None:
        if self._away_timeout is not None and self.session.options.user_away_timeout is None:
            self.session.options.user_away_timeout = self._away_timeout

    def _restart_countdown(self) -> None:
        session = self.session
        if hasattr(session, "reset_away_timer"):
            session.reset_away_timer()
        elif session.user_state == "away":
            session._update_user_state("listening")
        elif (session.user_state, session.agent_state) == ("listening", "listening"):
            session._set_user_away_timer()

    # Ears: frames are dropped before voice activity, transcription or a realtime model.

    def _stop_listening(self) -> None:
        self._listened = self.session.input.audio_enabled
        self.session.input.set_audio_enabled(False)

    def _listen(self) -> None:
        if self._listened:
            self.session.input.set_audio_enabled(True)

    # Speech and turns; a session that does not run yet has neither and says so.

    def _stop_speaking(self) -> None:
        with suppress(RuntimeError):
            if _nobody_hears_yet(self.session) is None:
                _interrupt(self.session)
            elif (speech := self.session.current_speech) is not None:
                self._silence(speech)

    def _silence(self, speech: Any) -> None:
        """Interrupt a speech, but not before the session's track has its first listener.

        What is interrupted while it waits for that cancels the wait itself, and with it the
        session's voice for good (livekit-agents 1.8.9, `capture_frame` of its room output).
        """
        unheard = _nobody_hears_yet(self.session)
        if unheard is None:
            _interrupt(speech)
        else:
            unheard.add_done_callback(lambda _: _attempt(lambda: _interrupt(speech)))

    def _forget_turn(self) -> None:
        """Drop what was heard and not answered yet, transcribed or not."""
        with suppress(RuntimeError):
            self.session.clear_user_turn()


def _nobody_hears_yet(session: Any) -> asyncio.Future[None] | None:
    """Return what is done when somebody subscribes to the session's voice; None: it is."""
    try:
        future: asyncio.Future[None] | None = session.room_io.subscribed_fut
    except (AttributeError, RuntimeError):  # an older version, or no room
        return None
    return None if future is None or future.done() else future


def _interrupt(speaker: Any) -> None:
    """Interrupt a speech or the session's speeches, also those that allow no interruption."""
    if "force" in inspect.signature(speaker.interrupt).parameters:
        speaker.interrupt(force=True)
        return
    speech = getattr(speaker, "current_speech", speaker)  # livekit-agents before 1.3
    if speech is not None and not speech.interrupted:
        speech.allow_interruptions = True
    speaker.interrupt()


def _attempt(act: Callable[[], None]) -> None:
    """Do one part; the others are done also when livekit-agents has changed under this one."""
    try:
        act()
    except Exception:
        _log.exception("a session could not follow the hold in everything")
