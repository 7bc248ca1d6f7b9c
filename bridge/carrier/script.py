"""The script language of the carrier: text in, steps out.

``answer after 2s; talk 5s; hold sendonly 3s; resume; dtmf 12#; hangup``

Statements are separated by ``;`` or a line end. Durations are ``5s``, ``500ms`` or ``2m``.
A script that cannot be read raises :class:`ScriptError`, which names the position and what
is allowed there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bridge.carrier import steps
from bridge.carrier.secure import PROFILES
from bridge.carrier.steps import (
    BODIES,
    CHALLENGED,
    DIGESTS,
    DIRECTIONS,
    HOLD_DIALECTS,
    Method,
    Script,
    Step,
)
from bridge.errors import BridgeError


class ScriptError(BridgeError):
    """A script that cannot be read: ``position 9: unknown hold dialect ...; allowed: ...``."""

    def __init__(self, position: int, problem: str, allowed: Sequence[str] = ()) -> None:
        self.position = position
        tail = f"; allowed: {', '.join(allowed)}" if allowed else ""
        super().__init__(f"position {position}: {problem}{tail}")


@dataclass(slots=True)
class Words:
    """The words of one statement, each with its position in the script."""

    text: str
    position: int
    words: list[tuple[int, str]]
    at: int = 0

    @property
    def here(self) -> int:
        """Return the position of the next word, or the end of the statement."""
        if self.at < len(self.words):
            return self.words[self.at][0]
        return self.position + len(self.text)

    def peek(self) -> str | None:
        """Return the next word without taking it."""
        return self.words[self.at][1] if self.at < len(self.words) else None

    def take(self, what: str, allowed: Sequence[str] = ()) -> str:
        """Take the next word; *what* names it in the error when there is none."""
        word = self.peek()
        if word is None:
            raise ScriptError(self.here, f'"{self.text}" needs {what}', allowed)
        self.at += 1
        return word

    def choice(self, what: str, allowed: Sequence[str]) -> str:
        """Take one of *allowed*."""
        here = self.here
        word = self.take(what, allowed).lower()
        if word not in allowed:
            raise ScriptError(here, f'unknown {what} "{word}"', allowed)
        return word

    def skip(self, *phrase: str) -> bool:
        """Take *phrase* when it stands here."""
        words = [word.lower() for _, word in self.words[self.at : self.at + len(phrase)]]
        if words != list(phrase):
            return False
        self.at += len(phrase)
        return True

    def seconds(self) -> float:
        """Take a duration."""
        here = self.here
        word = self.take("a duration", ("5s", "500ms", "2m"))
        value = duration(word)
        if value is None:
            raise ScriptError(here, f'"{word}" is not a duration', ("5s", "500ms", "2m"))
        return value

    def maybe_seconds(self) -> float | None:
        """Take a duration when one stands here, with or without ``for``."""
        if self.skip("for"):
            return self.seconds()
        word = self.peek()
        if word is None or not word[0].isdigit():
            return None
        return self.seconds()

    def number(self, what: str, low: int, high: int) -> int:
        """Take a whole number from *low* to *high*."""
        here = self.here
        word = self.take(what, (f"{low}-{high}",))
        if not re.fullmatch(r"[0-9]{1,9}", word) or not low <= int(word) <= high:
            raise ScriptError(here, f'"{word}" is not {what}', (f"{low}-{high}",))
        return int(word)

    def maybe_number(self, what: str, low: int, high: int, default: int) -> int:
        """Take a number when one stands here."""
        word = self.peek()
        if word is None or not word.isdigit():
            return default
        return self.number(what, low, high)

    def end(self, allowed: Sequence[str] = ()) -> None:
        """Refuse words that are left over."""
        word = self.peek()
        if word is not None:
            raise ScriptError(self.here, f'unexpected "{word}"', allowed or ("the end",))


def duration(word: str) -> float | None:
    """Return the seconds of ``5s``, ``500ms``, ``2m``; None for anything else."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m)", word.lower())
    if match is None:
        return None
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]


Reader = Callable[[Words], Step]


def _invite(words: Words) -> Step:
    name = words.choice("body", ("offerless", *BODIES))
    return steps.Invite(body=None if name == "offerless" else name)


def _ring(words: Words) -> Step:
    seconds = words.maybe_seconds()
    status = words.number("a status", 180, 183) if words.skip("with") else 180
    return steps.Ring(seconds=seconds or 0.0, status=status)


def _early(words: Words) -> Step:
    if not words.skip("media"):
        raise ScriptError(words.here, "incomplete statement", ("early media [HZ] [Ns]",))
    hertz = words.maybe_number("a frequency in hertz", 50, 3800, 425)
    return steps.EarlyMedia(hertz=hertz, seconds=words.maybe_seconds() or 0.0)


def _answer(words: Words) -> Step:
    after = words.seconds() if words.skip("after") else 0.0
    body = words.choice("body", BODIES) if words.peek() is not None else None
    return steps.Answer(after=after, body=body)


def _talk(words: Words) -> Step:
    return steps.Talk(seconds=words.maybe_seconds())


def _tone(words: Words) -> Step:
    hertz = words.number("a frequency in hertz", 50, 3800)
    return steps.Tone(hertz=hertz, seconds=words.maybe_seconds())


def _play(words: Words) -> Step:
    return steps.Play(file=words.take("a WAV file"), seconds=words.maybe_seconds())


def _wait(words: Words) -> Step:
    return steps.Wait(seconds=words.seconds())


def _stay(words: Words) -> Step:
    return steps.Stay(seconds=words.maybe_seconds())


def _options_of(words: Words, *allowed: str) -> set[str]:
    found: set[str] = set()
    while words.peek() is not None:
        for phrase in allowed:
            if words.skip(*phrase.split()):
                found.add(phrase)
                break
        else:
            words.end(allowed)
    return found


def _hold(words: Words) -> Step:
    name = words.choice("hold dialect", HOLD_DIALECTS)
    late = name.startswith("offerless")
    method: Method = "UPDATE" if name.startswith("update") else "INVITE"
    if late or method == "UPDATE":
        name = name.partition("-")[2] or "sendonly"
    seconds = words.maybe_seconds() or 0.0
    options = _options_of(words, "on new connection", "without rtp")
    return steps.Hold(
        body=name,
        method=method,
        late=late,
        seconds=seconds,
        new_connection="on new connection" in options,
        rtp="without rtp" not in options,
    )


def _resume(words: Words) -> Step:
    options = _options_of(words, "offerless", "update", "no-direction", "on new connection")
    if {"offerless", "update"} <= options:
        raise ScriptError(words.position, "resume is either offerless or by update")
    return steps.Resume(
        body="no-direction" if "no-direction" in options else "offer",
        method="UPDATE" if "update" in options else "INVITE",
        late="offerless" in options,
        new_connection="on new connection" in options,
    )


def _reinvite(words: Words) -> Step:
    body = None
    word = words.peek()
    if word is not None and word.lower() not in ("on", "update"):
        body = words.choice("body", BODIES)
    options = _options_of(words, "update", "on new connection")
    method: Method = "UPDATE" if "update" in options else "INVITE"
    return steps.Reinvite(body=body, method=method, new_connection="on new connection" in options)


def _new_connection(words: Words) -> bool:
    return bool(_options_of(words, "on new connection"))


def _move(words: Words) -> Step:
    return steps.Move(new_connection=_new_connection(words))


def _rekey(words: Words) -> Step:
    return steps.Rekey(new_connection=_new_connection(words))


def _options(words: Words) -> Step:
    return steps.Options(new_connection=_new_connection(words))


def _digits(words: Words) -> str:
    here = words.here
    digits = words.take("digits", ("0-9", "*", "#", "A-D")).upper()
    if not re.fullmatch(r"[0-9*#A-D]{1,64}", digits):
        raise ScriptError(here, f'"{digits}" are not keys', ("0-9", "*", "#", "A-D"))
    return digits


def _dtmf(words: Words) -> Step:
    return steps.Dtmf(digits=_digits(words), info=words.skip("by", "info"))


def _busy(words: Words) -> Step:
    status = words.maybe_number("a status", 400, 699, 486)
    return steps.Refuse(status=status, cause=_maybe_cause(words))


def _decline(words: Words) -> Step:
    status = words.maybe_number("a status", 400, 699, 603)
    return steps.Refuse(status=status, cause=_maybe_cause(words))


def _reject(words: Words) -> Step:
    return steps.Refuse(status=words.number("a status", 400, 699), cause=_maybe_cause(words))


def _no(words: Words) -> Step:
    if not words.skip("answer"):
        raise ScriptError(words.here, "incomplete statement", ("no answer [after Ns]",))
    return steps.NoAnswer(after=words.seconds() if words.skip("after") else None)


def _redirect(words: Words) -> Step:
    status = words.maybe_number("a status", 300, 399, 302)
    return steps.Redirect(status=status, to=words.take("a target") if words.peek() else "")


def _challenge(words: Words) -> Step:
    status = int(words.choice("status", ("401", "407")))
    request: str | None = None
    if (words.peek() or "").lower() in CHALLENGED:
        request = words.choice("request", CHALLENGED).upper()
    algorithms: list[str] = []
    while (words.peek() or "").lower() in DIGESTS:
        algorithms.append(words.choice("algorithm", DIGESTS))
    allowed = ("without qop", "with auth-int", "stale", "two realms", "until given up")
    options = _options_of(words, *allowed)
    if request is not None and "until given up" in options:
        raise ScriptError(words.position, "only an INVITE is challenged until given up")
    qop = "auth,auth-int" if "with auth-int" in options else "auth"
    return steps.Challenge(
        status=status,
        request=request,
        algorithms=tuple(algorithms) or ("md5",),
        qop=None if "without qop" in options else qop,
        stale="stale" in options,
        realms=2 if "two realms" in options else 1,
        given_up="until given up" in options,
    )


def _by_number(read: Reader) -> Reader:
    """Read a statement that begins with its status."""

    def whole(words: Words) -> Step:
        words.at -= 1
        return read(words)

    return whole


def _packet(words: Words) -> Step:
    if not words.skip("loss"):
        raise ScriptError(words.here, "incomplete statement", ("packet loss P%",))
    return _loss(words)


def _session_expires(words: Words) -> Step:
    seconds = words.number("an interval in seconds", 1, 99_999_999)
    role = words.choice("refresher", ("uac", "uas")) if words.skip("refresher") else None
    return steps.SessionExpires(seconds=seconds, refresher=role)


def _refresh(words: Words) -> Step:
    options = _options_of(words, "update", "on new connection")
    method: Method = "UPDATE" if "update" in options else "INVITE"
    return steps.Refresh(method=method, new_connection="on new connection" in options)


def _too_brief(words: Words) -> Step:
    return steps.TooBrief(seconds=words.number("an interval in seconds", 1, 99_999_999))


def _close(words: Words) -> Step:
    if not words.skip("connection"):
        raise ScriptError(words.here, "incomplete statement", ("close connection",))
    return steps.CloseConnection()


def _loss(words: Words) -> Step:
    here = words.here
    word = words.take("a percentage", ("0%-100%",))
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", word)
    if match is None or float(match[1]) > 100:
        raise ScriptError(here, f'"{word}" is not a percentage', ("0%-100%",))
    return steps.Loss(percent=float(match[1]))


def _jitter(words: Words) -> Step:
    return steps.Jitter(seconds=words.seconds())


def _rtp(words: Words) -> Step:
    return steps.Rtp(on=words.choice("switch", ("on", "off")) == "on")


def _refer(words: Words) -> Step:
    return steps.Refer(to=words.take("a target"))


def _accept(words: Words) -> Step:
    if not words.skip("refer"):
        raise ScriptError(words.here, "incomplete statement", ("accept refer [200-299]",))
    status = words.maybe_number("a status", 200, 299, 202)
    notifies = not words.skip("without", "notify")
    return steps.AnswerRefer(status=status, notifies=notifies, within=_within(words, 10.0))


def _refuse(words: Words) -> Step:
    if not words.skip("refer"):
        raise ScriptError(words.here, "incomplete statement", ("refuse refer [300-699]",))
    status = words.maybe_number("a status", 300, 699, 603)
    return steps.AnswerRefer(status=status, within=_within(words, 10.0))


def _notify(words: Words) -> Step:
    status = words.number("a status", 100, 699)
    answered = words.number("a status", 200, 699) if words.skip("answered") else 200
    return steps.Notify(status=status, answered=answered)


def _cancel(words: Words) -> Step:
    return steps.Cancel(after=words.seconds() if words.skip("after") else 0.0)


def _maybe_cause(words: Words) -> int | None:
    return words.number("a Q.850 cause", 0, 127) if words.skip("cause") else None


def _hangup(words: Words) -> Step:
    new_connection = words.skip("on", "new", "connection")
    cause = _maybe_cause(words)
    return steps.Hangup(
        new_connection=new_connection or words.skip("on", "new", "connection"), cause=cause
    )


def _within(words: Words, default: float) -> float:
    return words.seconds() if words.skip("within") else default


def _expect_answer(words: Words) -> Step:
    return steps.ExpectAnswer(direction=words.choice("direction", (*DIRECTIONS, "port0")))


def _expect_version(words: Words) -> Step:
    return steps.ExpectVersion(step=1 if words.choice("change", ("+1", "same")) == "+1" else 0)


def _expect_audio(words: Words) -> Step:
    hertz = words.maybe_number("a frequency in hertz", 50, 3800, 0) or None
    return steps.ExpectAudio(hertz=hertz, within=_within(words, 5.0))


def _expect_quiet(words: Words) -> Step:
    return steps.ExpectQuiet(seconds=words.seconds())


def _expect_silence(words: Words) -> Step:
    return steps.ExpectSilence(seconds=words.seconds())


def _expect_rtp(words: Words) -> Step:
    return steps.ExpectRtp(within=_within(words, 5.0))


def _expect_dtmf(words: Words) -> Step:
    return steps.ExpectDtmf(digits=_digits(words), within=_within(words, 5.0))


def _expect_hangup(words: Words) -> Step:
    within = _within(words, 10.0)
    return steps.ExpectHangup(within=within, cause=_maybe_cause(words))


def _expect_status(words: Words) -> Step:
    return steps.ExpectStatus(
        status=words.number("a status", 100, 699), within=_within(words, 10.0)
    )


def _expect_header(words: Words) -> Step:
    name = words.take("a header name")
    return steps.ExpectHeader(name=name, value=words.take("a value") if words.peek() else None)


def _expect_request(words: Words) -> Step:
    method = words.words[words.at - 1][1].upper()
    word = words.peek()
    direction = words.choice("direction", DIRECTIONS) if word in DIRECTIONS else None
    return steps.ExpectRequest(method=method, direction=direction, within=_within(words, 10.0))


def _expect_notify(words: Words) -> Step:
    status = words.number("a status", 100, 699)
    return steps.ExpectNotify(status=status, within=_within(words, 10.0))


def _expect_srtp(words: Words) -> Step:
    word = (words.peek() or "within").lower()
    suite = None
    if word != "within":
        suites = {name.lower(): name for name in PROFILES}
        suite = suites[words.choice("suite", tuple(suites))]
    return steps.ExpectSrtp(suite=suite, within=_within(words, 5.0))


EXPECTATIONS: dict[str, Reader] = {
    "answer": _expect_answer,
    "version": _expect_version,
    "audio": _expect_audio,
    "quiet": _expect_quiet,
    "silence": _expect_silence,
    "rtp": _expect_rtp,
    "dtmf": _expect_dtmf,
    "hangup": _expect_hangup,
    "srtp": _expect_srtp,
    "status": _expect_status,
    "header": _expect_header,
    "reinvite": _expect_request,
    "update": _expect_request,
    "options": _expect_request,
    "info": _expect_request,
    "refer": _expect_request,
    "notify": _expect_notify,
}


def _expect(words: Words) -> Step:
    return EXPECTATIONS[words.choice("expectation", tuple(EXPECTATIONS))](words)


STATEMENTS: dict[str, Reader] = {
    "invite": _invite,
    "ring": _ring,
    "early": _early,
    "answer": _answer,
    "talk": _talk,
    "tone": _tone,
    "play": _play,
    "wait": _wait,
    "stay": _stay,
    "hold": _hold,
    "resume": _resume,
    "reinvite": _reinvite,
    "move": _move,
    "rekey": _rekey,
    "dtmf": _dtmf,
    "busy": _busy,
    "decline": _decline,
    "reject": _reject,
    "no": _no,
    "redirect": _redirect,
    "302": _by_number(_redirect),
    "challenge": _challenge,
    "401": _by_number(_challenge),
    "407": _by_number(_challenge),
    "session-expires": _session_expires,
    "refresh": _refresh,
    "too-brief": _too_brief,
    "close": _close,
    "loss": _loss,
    "packet": _packet,
    "jitter": _jitter,
    "rtp": _rtp,
    "options": _options,
    "refer": _refer,
    "accept": _accept,
    "refuse": _refuse,
    "notify": _notify,
    "cancel": _cancel,
    "hangup": _hangup,
    "expect": _expect,
}


def parse(text: str) -> Script:
    """Return the steps of *text*; raises :class:`ScriptError`."""
    found: list[Step] = []
    for match in re.finditer(r"[^;\n]+", text):
        statement = match[0].strip()
        if not statement:
            continue
        position = match.start() + match[0].index(statement) + 1
        words = [(position + word.start(), word[0]) for word in re.finditer(r"\S+", statement)]
        found.append(_statement(Words(statement, position, words), first=not found))
    return tuple(found)


def _statement(words: Words, *, first: bool) -> Step:
    verb = words.choice("statement", tuple(STATEMENTS))
    if verb == "invite" and not first:
        raise ScriptError(words.position, '"invite" is only allowed as the first statement')
    step = STATEMENTS[verb](words)
    words.end()
    return replace(step, text=words.text, position=words.position)
