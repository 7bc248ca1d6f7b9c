"""``make soak HOURS=``: real calls for hours, then everything back where it began.

Exit status 1 when something is not. The daemon, livekit-server and the agents are processes
of their own; the carrier is the built-in one, here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.soak.soak import Plan, run


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.17, help="of calls")
    parser.add_argument("--calls", type=int, default=4, help="at once")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one each time")
    parser.add_argument("--restarts", type=int, default=-1, help="of livekit-server; -1: by hours")
    parser.add_argument("--folder", type=Path, help="where logs and the journal stay")
    options = parser.parse_args()
    seconds = options.hours * 3600
    by_hours = max(1, round(seconds / 300)) if seconds >= 60 else 0
    plan = Plan(
        seconds=seconds,
        calls=options.calls,
        seed=options.seed or int(time.time()),
        restarts=by_hours if options.restarts < 0 else options.restarts,
        say=say,
    )
    with tempfile.TemporaryDirectory(prefix="trunkbridge-soak-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            wrong = asyncio.run(run(plan, folder))
        except (pytest.skip.Exception, pytest.fail.Exception) as error:  # what it needs is missing
            wrong = [str(error)]
    for line in wrong:
        say(f"WRONG {line}")
    say("everything is back where it began" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
