"""The daemon with sessions that wait for less, as the environment says: ``python -m`` it."""

import json
import os
from functools import partial

from bridge.__main__ import main
from bridge.sessions import sessions
from bridge.sessions.state import Timing

wanted = json.loads(os.environ["QUICK_SESSIONS"])
poll = wanted.pop("poll", sessions.POLL)
sessions.Timing = partial(Timing, **wanted)  # type: ignore[assignment,misc]
sessions.Sessions.__init__.__kwdefaults__["poll"] = poll

if __name__ == "__main__":
    main()
