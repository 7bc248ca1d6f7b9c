"""``make kill N=``: kill -9 at random points under load, on SQLite and on PostgreSQL.

Exit status 1 when a promise was broken. The daemon, livekit-server and the agents are
processes of their own; carrier, clients and the webhook receiver are here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.kill.run import Plan, run


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each database")
    parser.add_argument("--callers", type=int, default=4, help="and as many clients")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one each time")
    parser.add_argument("--folder", type=Path, help="where logs and databases stay")
    options = parser.parse_args()
    plan = Plan(
        kills=options.kills,
        callers=options.callers,
        seed=options.seed or int(time.time()),
        say=say,
    )
    with tempfile.TemporaryDirectory(prefix="trunkbridge-kill-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            wrong = asyncio.run(run(plan, folder))
        except (pytest.skip.Exception, pytest.fail.Exception) as error:  # what it needs is missing
            wrong = [str(error)]
    for line in wrong[:100]:
        say(f"WRONG {line}")
    say("every promise was kept" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
