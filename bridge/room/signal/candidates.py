"""Which ways to its media a server names. PURE."""

from __future__ import annotations

from typing import Final

_LINE: Final = "a=candidate:"
_LIMIT: Final = 256


class Paths:
    """The kinds of candidates seen so far (RFC 8839 5.1)."""

    __slots__ = ("other", "udp")

    def __init__(self) -> None:
        self.udp = 0  # that can be sent to straight
        self.other = 0  # TCP, or through a relay

    def learn_description(self, sdp: str) -> None:
        """Note the candidates of a description."""
        lines = [line for line in sdp.splitlines() if line.startswith(_LINE)]
        for line in lines[:_LIMIT]:
            self.learn(line[2:])

    def learn(self, candidate: str) -> None:
        """Note one candidate (``candidate:…``)."""
        fields = candidate.split()
        if len(fields) < 8 or fields[1] != "1":
            return
        if fields[2].lower() == "udp" and fields[7] != "relay":
            self.udp += 1
        else:
            self.other += 1

    @property
    def relayed_only(self) -> bool:
        """Whether there are candidates, and none for plain UDP."""
        return self.other > 0 and self.udp == 0
