"""Whether the native media core is there; it is built only where cargo and cmake are."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import structlog

_log = structlog.get_logger(__name__)


@cache
def is_built() -> bool:
    """Tell whether `trunkbridge_native` can be imported; one that is there and cannot is told."""
    try:
        import_module("trunkbridge_native")
    except ModuleNotFoundError:
        return False
    except ImportError as failure:  # of another Python, for another libc, cut short
        _log.warning("media.core_unusable", error=str(failure))
        return False
    return True
