"""What outsiders import: `Client` for applications, `trunkbridge.agent` for agents.

Needs httpx only; nothing of the daemon.
"""

from trunkbridge.client import ApiError, Call, Client, Event

__all__ = ["ApiError", "Call", "Client", "Event"]
