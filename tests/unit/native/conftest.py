"""Where everything must be there, the native core must: else its tests would pass unseen."""

from __future__ import annotations

import os

if os.environ.get("CI"):
    import trunkbridge_native  # noqa: F401
