"""The steps of a script, one frozen dataclass per kind. Seconds everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
HOLDS = (
    "sendonly",
    "sendonly-session",
    "inactive",
    "inactive-session",
    "zero-address",
    "zero-address-sendonly",
    "zero-address-inactive",
    "zero-address-ipv6",
    "no-media",
)
BODIES = ("offer", "no-direction", "recvonly", "t38", *HOLDS)
HOLD_DIALECTS = (
    *HOLDS,
    "offerless",
    "update",
    *(f"offerless-{hold}" for hold in HOLDS),
    *(f"update-{hold}" for hold in HOLDS),
)

DIGESTS = (
    *("md5", "md5-sess", "sha-256", "sha-256-sess", "sha-512-256", "sha-512-256-sess"),
    "unknown",
)
CHALLENGED = ("reinvite", "bye", "update", "options", "info")

Method = Literal["INVITE", "UPDATE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement. ``text`` and ``position`` (from 1) say where it stood; seconds everywhere."""

    text: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite(Step):
    """How our INVITE offers; must come first in a dialled leg. ``body`` None: delayed offer."""

    body: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring(Step):
    """A 180 (or another 18x), then so long nothing."""

    seconds: float
    status: int = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyMedia(Step):
    """183 with an SDP answer, and a tone."""

    hertz: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Step):
    """200; ``body`` names a template to answer with when it is not the mirror of the offer."""

    after: float
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk(Step):
    """The leg's own voice. ``seconds`` None: in the background, from here on."""

    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone(Step):
    """A tone; ``seconds`` None: in the background, from here on."""

    hertz: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Play(Step):
    """A WAV file; ``seconds`` None: to its end."""

    file: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Step):
    """Do nothing; the call goes on."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay(Step):
    """Keep the call until the far end hangs up (or for so long, when given)."""

    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Step):
    """Put the far end on hold. ``late``: an offerless re-INVITE whose ACK carries the hold."""

    body: str
    method: Method = "INVITE"
    late: bool = False
    seconds: float = 0.0
    new_connection: bool = False
    rtp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Step):
    """End a hold. ``late``: an offerless re-INVITE whose ACK carries the answer."""

    body: str = "offer"
    method: Method = "INVITE"
    late: bool = False
    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinvite(Step):
    """A re-INVITE (or UPDATE) without a fixed meaning; ``body`` None: what we last sent, again."""

    body: str | None = None
    method: Method = "INVITE"
    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Step):
    """A re-INVITE from a new RTP port."""

    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rekey(Step):
    """A re-INVITE with a new key for SRTP."""

    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtmf(Step):
    """Keys by RFC 4733, or by INFO."""

    digits: str
    info: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Step):
    """A final refusal, with a Reason when ``cause`` (Q.850) is given."""

    status: int
    cause: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer(Step):
    """Ring until the far end cancels, or until 480 after so long."""

    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(Step):
    """A 3xx; ``to`` is a SIP URI, or a user at our own address."""

    status: int
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Step):
    """401 or 407 to the INVITE: go on when the next one has the right credentials.

    ``request``: to the next such request in the call instead (``REINVITE`` is an INVITE).
    ``algorithms`` in the order offered, each a challenge of its own. ``stale``: the first
    right credentials are too old. ``realms`` 2: one of each header field, in one response.
    ``given_up``: no credentials are right; go on when none come any more.
    """

    status: int
    request: str | None = None
    algorithms: tuple[str, ...] = ("md5",)
    qop: str | None = "auth"
    stale: bool = False
    realms: int = 1
    given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionExpires(Step):
    """What our INVITE or 200 says of the session timer (RFC 4028), wherever this stands.

    ``refresher`` as of that INVITE: its sender is uac. Without it, and in a 200: uac.
    """

    seconds: int
    refresher: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh(Step):
    """Refresh the session: a re-INVITE with what we last sent, or an UPDATE without SDP."""

    method: Method = "INVITE"
    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TooBrief(Step):
    """422 with this Min-SE to the INVITE: go on when the next one asks for so much."""

    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseConnection(Step):
    """Close the call's connection; the call goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss(Step):
    """Lose this share of what we send from here on."""

    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter(Step):
    """Delay each packet we send by chance, at most so long."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtp(Step):
    """``rtp off`` stops sending RTP altogether, ``rtp on`` starts again."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(Step):
    """An in-dialog OPTIONS."""

    new_connection: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refer(Step):
    """Ask the far end to transfer itself."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRefer(Step):
    """The answer to a REFER of the far end. ``notifies`` False: it is told so (RFC 4488)."""

    status: int = 202
    notifies: bool = True
    within: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify(Step):
    """A NOTIFY of how far the far end's transfer is; 200 and above is the last."""

    status: int
    answered: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectNotify(Step):
    """The far end tells of this status of a transfer we asked for."""

    status: int
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Step):
    """Give up our unanswered call."""

    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup(Step):
    """BYE, with a Reason when ``cause`` (Q.850) is given."""

    new_connection: bool = False
    cause: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectAnswer(Step):
    """The far end's last SDP: its direction, or ``port0``."""

    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectVersion(Step):
    """The ``o=`` version of the far end's last SDP against the one before."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectAudio(Step):
    """Sound above the silence threshold, at ``hertz`` when given."""

    hertz: int | None
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectQuiet(Step):
    """RTP may flow, but no sound in it."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSilence(Step):
    """No RTP packet at all."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectRtp(Step):
    """Any RTP packet."""

    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectDtmf(Step):
    """These keys next, each once, by RFC 4733 or INFO."""

    digits: str
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHangup(Step):
    """BYE, or CANCEL before the answer; with this Q.850 cause when given."""

    within: float
    cause: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectStatus(Step):
    """A response with this status to the last request we sent (CANCEL and BYE apart)."""

    status: int
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectHeader(Step):
    """The far end's last request carries this header (with this value when given)."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectRequest(Step):
    """The far end sends such a request (again): REINVITE, UPDATE, OPTIONS, INFO, REFER."""

    method: str
    direction: str | None
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSrtp(Step):
    """SRTP is in force (with this suite when given), and something has passed under it."""

    suite: str | None
    within: float


Script = tuple[Step, ...]
