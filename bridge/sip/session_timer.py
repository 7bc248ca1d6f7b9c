"""Session timers: who keeps a session alive, how often, and when it counts as dead.

Negotiated in every INVITE and UPDATE with its 2xx, and seen anew with each: "uac" is who
sent that request. Pure; ``now`` and all deadlines in seconds. RFC 4028.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from bridge.sip.grammar import LWS
from bridge.sip.message import Headers

MINIMUM: Final = 90
"""Seconds. RFC 4028 4: "The absolute minimum for the Session-Expires header field is 90"."""

LONGEST: Final = 2**31 - 1
GUARD: Final = 32.0  # seconds before the end, RFC 4028 10; at most a third of the interval
RETRY: Final = 5.0  # seconds between two tries at least
MAX_RAISES: Final = 3  # 422 to one request
MAX_TRIES: Final = 10  # of one UPDATE that meets 491
TAG: Final = "timer"

Fields = list[tuple[str, str]]


class Refresher(Enum):
    """Who refreshes the session."""

    US = "us"
    THEM = "them"


class Due(Enum):
    """What a timer wants."""

    REFRESH = "refresh"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """A Session-Expires header field; ``refresher`` is "uac", "uas" or None."""

    seconds: int
    refresher: str | None = None

    def __str__(self) -> str:
        return str(self.seconds) + (f";refresher={self.refresher}" if self.refresher else "")


def read_session_expires(headers: Headers) -> SessionExpires | None:
    """Return what Session-Expires says; None without one that can be understood."""
    text = headers.get("Session-Expires")
    if text is None:
        return None
    value, *parameters = text.split(";")
    seconds = _delta_seconds(value)
    if seconds is None:
        return None
    for parameter in parameters:
        name, _, role = parameter.partition("=")
        if name.strip(LWS).lower() == "refresher" and role.strip(LWS).lower() in ("uac", "uas"):
            return SessionExpires(seconds, role.strip(LWS).lower())
    return SessionExpires(seconds)


def read_min_se(headers: Headers) -> int:
    """Return the seconds of Min-SE, 0 without one that can be understood."""
    text = headers.get("Min-SE")
    return 0 if text is None else _delta_seconds(text.partition(";")[0]) or 0


def _delta_seconds(text: str) -> int | None:
    digits = text.strip(LWS)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    return min(int(digits), LONGEST)


def knows_timers(headers: Headers) -> bool:
    """Whether the sender of a request implements RFC 4028."""
    tags = [*headers.values("Supported"), *headers.values("Require")]
    return any(tag.lower() == TAG for tag in tags)


def is_too_brief(headers: Headers, floor: int) -> bool:
    """Whether a request asks for a shorter interval than *floor* and would understand a 422.

    RFC 4028 9: "If an incoming request contains a Supported header field with a value
    'timer' and a Session Expires header field, the UAS MAY reject the INVITE request with a
    422 (Session Interval Too Small) response".
    """
    asked = read_session_expires(headers)
    return asked is not None and asked.seconds < floor and knows_timers(headers)


@dataclass(slots=True, kw_only=True)
class SessionTimer:
    """The timer of one session, from both sides' requests.

    ``wish``: the interval we would like, 0 for none. ``floor``: the shortest we accept.
    ``min_se``: the largest that this session has heard of in Min-SE, 0 for none.
    ``interval``: what is agreed, None: the session does not expire. ``updates``: the peer
    allows UPDATE. ``refreshing``: an UPDATE of ours is on its way (kept by `refresh`).
    ``tries``: how often a request was answered 422 or 491. ``give_up_at``: a guard before
    the session expires.
    """

    wish: int = 0
    floor: int = MINIMUM
    min_se: int = 0
    interval: int | None = None
    refresher: Refresher = Refresher.US
    updates: bool = False
    refreshing: bool = False
    tries: int = 0
    refresh_at: float | None = None
    give_up_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether a session interval is agreed."""
        return self.interval is not None

    def next_deadline(self) -> float | None:
        """When `due` has something to say."""
        times = (at for at in (self.refresh_at, self.give_up_at) if at is not None)
        return min(times, default=None)

    def learn(self, headers: Headers) -> None:
        """Take what the peer's Allow says about UPDATE; nothing without one (RFC 3311 4)."""
        if "Allow" in headers:
            self.updates = "UPDATE" in headers.values("Allow")

    # Our requests

    def first_fields(self) -> Fields:
        """Return the fields of our first INVITE.

        RFC 4028 7.1: it is better without a refresher, so that who answers may choose.
        """
        seconds = max(self.wish, self.min_se)
        if not seconds:
            return []
        return [("Session-Expires", str(SessionExpires(seconds))), *self._min_se_fields()]

    def fields(self) -> Fields:
        """Return the fields of a re-INVITE or UPDATE of ours; none when there is no timer.

        RFC 4028 7.4: the refresher should be who refreshes now, seen from this request.
        """
        if self.interval is None:
            return []
        role = "uac" if self.refresher is Refresher.US else "uas"
        asked = SessionExpires(max(self.interval, self.min_se), role)
        return [("Session-Expires", str(asked)), *self._min_se_fields()]

    def _min_se_fields(self) -> Fields:
        # RFC 4028 5: "When the Min-SE header field is not present, its default value is 90."
        return [("Min-SE", str(self.min_se))] if self.min_se > self.floor else []

    def accepted(self, headers: Headers, now: float) -> None:
        """Take the 2xx to our INVITE or UPDATE.

        RFC 4028 7.2: without Session-Expires "there is no session expiration. [...] the
        session timer can be 'turned-off' in mid dialog by receiving a response without a
        Session-Expires header field". With one "even if none were present in the request",
        it counts. Without a refresher it is us: two who refresh do no harm, none does.
        """
        self.learn(headers)
        given = read_session_expires(headers)
        if given is None or not given.seconds:
            self.stop()
            return
        self.refresher = Refresher.THEM if given.refresher == "uas" else Refresher.US
        self._start(max(given.seconds, self.floor), now)

    def raised(self, headers: Headers) -> bool:
        """Take a 422; tell whether the request may be sent again with new fields.

        RFC 4028 7.3: Min-SE is then the largest of all that came, and Session-Expires as
        large at least.
        """
        least = read_min_se(headers)
        asked = max(self.min_se, self.interval or self.wish)
        if least <= asked or self.tries >= MAX_RAISES:
            return False
        self.min_se = least
        self.tries += 1
        return True

    # Their requests

    def answer(self, headers: Headers, now: float) -> Fields:
        """Take their INVITE or UPDATE; return the fields of our 2xx. The timer starts.

        RFC 4028 9: we reduce the interval to our wish, never under their Min-SE, and "MUST
        NOT increase the value of the Session-Expires header field".
        """
        self.learn(headers)
        able = knows_timers(headers)
        asked = read_session_expires(headers)
        if asked is not None and asked.seconds < self.floor:
            asked = None  # of a peer that knows no 422
        interval = self._interval(asked, read_min_se(headers), able=able)
        if interval is None:
            self.stop()
            return []
        self.refresher = self._chosen(asked, able=able)
        self._start(interval, now)
        role = "uas" if self.refresher is Refresher.US else "uac"
        fields = [("Session-Expires", str(SessionExpires(interval, role)))]
        if able:
            # RFC 4028 9: "If the refresher parameter [...] has a value of 'uac', the UAS MUST
            # place a Require header field into the response with the value 'timer'", and
            # SHOULD with 'uas'.
            fields.append(("Require", TAG))
        return fields

    def _interval(self, asked: SessionExpires | None, min_se: int, *, able: bool) -> int | None:
        self.min_se = max(self.min_se, min_se)
        least = max(min_se, self.floor)
        if asked is not None:
            longest = max(self.wish, least) if self.wish else asked.seconds
            return min(asked.seconds, longest)
        # They do not ask: what runs runs on, and to one who knows timers we propose ours.
        wanted = self.interval or (self.wish if able else 0)
        return max(wanted, least) if wanted else None

    def _chosen(self, asked: SessionExpires | None, *, able: bool) -> Refresher:
        """Return who refreshes from now on (RFC 4028 9, table 2).

        We do where the choice is ours: then no call ends because a peer says that it knows
        timers and does not keep them.
        """
        if not able:
            return Refresher.US
        if asked is not None and asked.refresher is not None:
            return Refresher.US if asked.refresher == "uas" else Refresher.THEM
        return self.refresher if self.running else Refresher.US

    # Time

    def _start(self, interval: int, now: float) -> None:
        self.interval = interval
        self.tries = 0
        # RFC 4028 10: "It is RECOMMENDED that this refresh be sent once half the session
        # interval has elapsed."
        self.refresh_at = now + interval / 2 if self.refresher is Refresher.US else None
        # "The minimum of 32 seconds and one third of the session interval is RECOMMENDED."
        self.give_up_at = now + interval - min(GUARD, interval / 3)

    def stop(self) -> None:
        """The session does not expire any more, or is over."""
        self.interval = self.refresh_at = self.give_up_at = None
        self.tries = 0

    def due(self, now: float) -> Due | None:
        """Return what is due; a refresh only once."""
        if self.give_up_at is not None and self.give_up_at <= now:
            return Due.EXPIRED
        if self.refresh_at is not None and self.refresh_at <= now:
            self.refresh_at = None
            return Due.REFRESH
        return None

    def refresh_in(self, seconds: float, now: float) -> None:
        """Refresh in *seconds*, if it is ours to do."""
        if self.running and self.refresher is Refresher.US:
            self.refresh_at = now + seconds

    def glare(self, seconds: float, now: float) -> None:
        """A refresh of ours met 491: try again in *seconds*, but not for ever."""
        self.tries += 1
        if self.tries <= MAX_TRIES:
            self.refresh_in(seconds, now)
        else:
            self.failed(now)

    def failed(self, now: float, retry_after: int | None = None) -> None:
        """A refresh of ours was refused: try again while the session lives.

        RFC 4028 10: "the UAC SHOULD follow the rules specific to that response code and
        retry if possible". A refused refresh is none: the session still expires.
        """
        self.tries = 0
        if self.give_up_at is None:
            return
        left = self.give_up_at - now
        seconds = max(RETRY, left / 2 if retry_after is None else retry_after)
        if seconds < left:
            self.refresh_in(seconds, now)
