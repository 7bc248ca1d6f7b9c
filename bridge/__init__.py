"""The daemon. `bridge.daemon` builds it; docs/design.md has a line for each package.

``from bridge import Bridge`` runs one inside the caller's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.embedded import Bridge

__all__ = ["Bridge"]


def __getattr__(name: str) -> Any:
    """Import the daemon when somebody asks for it, and not before."""
    if name == "Bridge":
        from bridge.embedded import Bridge

        return Bridge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
