"""How the targets of requests have stood lately: which failed, which asked for rest.

A target is one address and port by one transport. RFC 3263 4.3: "a failed request is
retried at the next one"; what is remembered here spares the next request the same failure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.sip.flow import Flow

Target = tuple[str, str, int]
"""Transport, address, port."""

COOL_DOWN = 30.0  # seconds after the first failure; doubled by every further one
MAX_COOL_DOWN = 600.0
MAX_REST = 300.0  # seconds of a Retry-After that are respected
_KEPT = 1024


def target_of(flow: Flow) -> Target:
    """Return the target that *flow* leads to."""
    return (flow.transport, *flow.remote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a target; times in seconds on the clock of the endpoint.

    Until ``cool_at`` it is tried after the others. Until ``rest_until`` no new call is
    sent to it: it has asked for that.
    """

    failures: int = 0
    cool_at: float = 0.0
    rest_until: float = 0.0


_GOOD = Standing()


class Standings:
    """The standing of the targets that are not simply good; at most 1024."""

    def __init__(self) -> None:
        self.known: OrderedDict[Target, Standing] = OrderedDict()

    def failed(self, target: Target, now: float) -> None:
        """Nobody answered there, or no connection could be made."""
        before = self.known.get(target, _GOOD)
        pause = min(COOL_DOWN * 2.0 ** min(before.failures, 10), MAX_COOL_DOWN)
        self._put(
            target,
            Standing(
                failures=before.failures + 1,
                cool_at=now + pause,
                rest_until=before.rest_until,
            ),
        )

    def rest(self, target: Target, seconds: float, now: float) -> None:
        """It sent a 503 with Retry-After.

        RFC 3261 21.5.4: "A client (proxy or UAC) receiving a 503 (Service Unavailable)
        SHOULD attempt to forward the request to an alternate server. It SHOULD NOT forward
        any other requests to that server for the duration specified in the Retry-After
        header field, if present." Bounded: a slip of the carrier must not stop its trunk
        for a day.
        """
        before = self.known.get(target, _GOOD)
        until = now + min(max(seconds, 0.0), MAX_REST)
        self._put(
            target,
            Standing(failures=before.failures, cool_at=before.cool_at, rest_until=until),
        )

    def answered(self, target: Target) -> None:
        """Something came from there: it is not dead."""
        before = self.known.get(target)
        if before is None or not before.failures:
            return
        if before.rest_until:
            self.known[target] = Standing(rest_until=before.rest_until)
        else:
            del self.known[target]

    def is_cooling(self, target: Target, now: float) -> bool:
        """Whether it failed lately."""
        return self.known.get(target, _GOOD).cool_at > now

    def rests_for(self, target: Target, now: float) -> float:
        """Return the seconds it still wants to be left alone; 0 when it does not."""
        return max(0.0, self.known.get(target, _GOOD).rest_until - now)

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        """Return *targets* in the given order, those that failed lately last."""
        return sorted(targets, key=lambda target: self.is_cooling(target, now))

    def _put(self, target: Target, standing: Standing) -> None:
        self.known[target] = standing
        self.known.move_to_end(target)
        while len(self.known) > _KEPT:
            self.known.popitem(last=False)
