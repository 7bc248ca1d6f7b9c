"""Whether the native media core is there; it is built only where cargo and cmake are."""

from __future__ import annotations

from importlib.util import find_spec


def is_built() -> bool:
    """Tell whether `trunkbridge_native` can be imported."""
    return find_spec("trunkbridge_native") is not None
