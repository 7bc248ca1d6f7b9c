"""What test agents share: one JSON line for everything they notice."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def note(what: str, **fields: Any) -> None:
    """Print one line; ``at`` is the machine's monotonic clock, which the tests share."""
    sys.stdout.write(json.dumps({"saw": what, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()
