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
from dataclasses import replace
from pathlib import Path

import pytest

from tests import postgres
from tests.kill.run import Plan, run

DATABASES = ("sqlite", "postgresql")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def on_database(name: str, plan: Plan, folder: Path) -> list[str]:
    """Run *plan* on one of `DATABASES`; return what is wrong."""
    if name == "sqlite":
        return asyncio.run(run(plan, folder))
    with postgres.server() as server:
        return asyncio.run(run(replace(plan, store=server.new_database()), folder))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each database")
    parser.add_argument("--callers", type=int, default=4, help="and as many clients")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one each time")
    parser.add_argument("--only", action="append", choices=DATABASES, help="this database")
    parser.add_argument("--folder", type=Path, help="where logs and databases stay")
    options = parser.parse_args()
    plan = Plan(
        kills=options.kills,
        callers=options.callers,
        seed=options.seed or int(time.time()),
        say=say,
    )
    wrong = []
    with tempfile.TemporaryDirectory(prefix="trunkbridge-kill-") as temporary:
        for name in options.only or DATABASES:
            folder = (options.folder or Path(temporary)) / name
            folder.mkdir(parents=True)
            say(f"--- {name}")
            try:
                wrong += [f"{name}: {line}" for line in on_database(name, plan, folder)]
            except (pytest.skip.Exception, pytest.fail.Exception) as error:  # what it needs
                wrong.append(f"{name}: {error}")
    for line in wrong[:100]:
        say(f"WRONG {line}")
    say("every promise was kept" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
