"""What one call knows of the protection domains it met, and the credentials it gives them.

RFC 3261 22.2, 22.3. Nothing is kept across calls: RFC 3261 22.3 "These credentials MUST
NOT be cached across dialogs".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bridge.sip.digest import (
    MAX_COUNT,
    Challenge,
    Credentials,
    Domain,
    choose,
    read_challenges,
    read_next_nonce,
    write_credentials,
)
from bridge.sip.message import Request, Response

CHALLENGED = (401, 407)
MAX_DOMAINS = 8  # of one call
MAX_FAILURES = 2  # of one domain with one request, and we give up
MAX_ROUNDS = 8  # challenges to one request, stale ones included


@dataclass(slots=True, kw_only=True)
class Answer:
    """How a domain is answered until it wants something else.

    One cnonce for each nonce: so the session key of a ``-sess`` algorithm, made of both,
    is the same for a server that computes it once and for one that computes it each time.
    ``count`` is how often the nonce was used.
    """

    challenge: Challenge
    cnonce: str
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What became of the earlier copies of a request.

    ``tried``: the domains that the last one had credentials for. ``failed``: the domains
    that refused their credentials, once for each time.
    """

    tried: frozenset[Domain] = frozenset()
    failed: tuple[Domain, ...] = ()
    rounds: int = 0


NO_ATTEMPTS = Attempts()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSnapshot:
    """An `Answer` written down: no password, nor anything made of one."""

    challenge: Challenge
    cnonce: str
    count: int


@dataclass(slots=True, kw_only=True)
class Authentication:
    """The credentials of one call, and the domains that have asked for them."""

    credentials: Credentials = field(repr=False)
    answers: dict[Domain, Answer] = field(default_factory=dict)

    def authorize(self, request: Request) -> frozenset[Domain]:
        """Put credentials for every known domain into *request*, instead of what it had.

        RFC 3261 22.3: a UA that was challenged "should incorporate credentials for that
        realm in all subsequent requests that contain the same Call-ID". Returns the domains.
        """
        for name in ("Authorization", "Proxy-Authorization"):
            request.headers.remove(name)
        for domain, answer in self.answers.items():
            answer.count = min(answer.count + 1, MAX_COUNT)
            value = write_credentials(
                answer.challenge,
                self.credentials,
                method=request.method,
                uri=request.uri,
                cnonce=answer.cnonce,
                count=answer.count,
            )
            request.headers.add(domain.field_name, value)
        return frozenset(self.answers)

    def challenged(
        self, response: Response, before: Attempts, tokens: Callable[[], str]
    ) -> Attempts | None:
        """Take a 401 or 407; None when the request should not be sent again.

        Otherwise `authorize` the next copy of it, and remember what is returned.

        DEVIATION: RFC 3261 22.1 "A UAC MUST NOT re-attempt requests with the credentials
        that have just been rejected (though the request may be retried if the nonce was
        stale)". Many servers forget to say stale, and the nodes of a cluster do not know each
        other's nonces: we try once more with the new nonce, and give up after that.
        """
        asked = choose(read_challenges(response.headers))
        refused = [d for d in asked if d in before.tried and not asked[d].stale]
        failed = (*before.failed, *refused)
        rounds = before.rounds + 1
        counted = Counter(failed)
        if not asked or rounds > MAX_ROUNDS or not self.credentials.usable:
            return None
        if any(counted[domain] >= MAX_FAILURES for domain in asked):
            return None
        for challenge in asked.values():
            self._take(challenge, tokens)
        if not any(domain in self.answers for domain in asked):
            return None
        return Attempts(failed=failed, rounds=rounds)

    def _take(self, challenge: Challenge, tokens: Callable[[], str]) -> None:
        known = self.answers.get(challenge.domain)
        if known is not None and known.challenge.nonce == challenge.nonce:
            # RFC 7616 3.4: nc counts the requests "that the client has sent with the nonce
            # value in this request", however often the server names it.
            known.challenge = challenge
        elif known is not None or len(self.answers) < MAX_DOMAINS:
            self.answers[challenge.domain] = Answer(challenge=challenge, cnonce=tokens())

    def accepted(self, response: Response, tokens: Callable[[], str]) -> None:
        """Take the nextnonce of a 2xx (RFC 7616 3.5), where one domain alone can be meant.

        Not for ``-sess``: its key is made of the nonce of a challenge (RFC 7616 3.4.2).
        """
        for name, proxy in (("Authentication-Info", False), ("Proxy-Authentication-Info", True)):
            answers = [a for domain, a in self.answers.items() if domain.proxy is proxy]
            nonce = read_next_nonce(response.headers, name) if len(answers) == 1 else None
            if nonce is None or answers[0].challenge.session:
                continue
            challenge = replace(answers[0].challenge, nonce=nonce)
            if challenge.nonce != answers[0].challenge.nonce:
                self.answers[challenge.domain] = Answer(challenge=challenge, cnonce=tokens())

    def snapshot(self) -> tuple[AnswerSnapshot, ...]:
        """Write down what the domains want; the credentials are not written down."""
        return tuple(
            AnswerSnapshot(challenge=a.challenge, cnonce=a.cnonce, count=a.count)
            for a in self.answers.values()
        )

    @classmethod
    def restore(
        cls, credentials: Credentials | None, kept: tuple[AnswerSnapshot, ...]
    ) -> Authentication | None:
        """Return the counterpart of `snapshot`; None without credentials."""
        if credentials is None:
            return None
        answers = {
            a.challenge.domain: Answer(challenge=a.challenge, cnonce=a.cnonce, count=a.count)
            for a in kept
        }
        return cls(credentials=credentials, answers=answers)
