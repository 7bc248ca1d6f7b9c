"""A flow: one connection, or one UDP peer of one listener."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Where bytes came from and may go back to. Travels with every message.

    ``trunks`` are the names of the trunks whose in-dialog sources include the
    peer; ``new_call_trunks`` those whose ``allow`` does (a new inbound call needs
    one). Both are decided by admission, once, when the flow appears. ``name`` is the
    host that we dialled by TLS: what a new connection to the peer has to prove again.
    """

    id: int
    transport: str  # "udp" | "tcp" | "tls"
    local: tuple[str, int]
    remote: tuple[str, int]
    trunks: frozenset[str] = frozenset()
    new_call_trunks: frozenset[str] = frozenset()
    name: str = ""

    @property
    def reliable(self) -> bool:
        """Whether the transport retransmits by itself."""
        return self.transport != "udp"
