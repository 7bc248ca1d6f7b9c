"""What outsiders import: `Client` for applications, `trunkbridge.agent` for agents.

Needs httpx only; nothing of the daemon.
"""

from trunkbridge.client import ApiError, Call, CallPage, Client, Event
from trunkbridge.session import Session

__all__ = ["ApiError", "Call", "CallPage", "Client", "Event", "Session"]
