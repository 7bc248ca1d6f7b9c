"""Dial a number, print what happens, hang up with Ctrl-C.

    pip install trunkbridge
    python dial.py +919876543210 --trunk exotel --agent support

The bridge's address and key come from TRUNKBRIDGE_URL and TRUNKBRIDGE_API_KEY. Exit status:
0 when the call was answered and ended, 1 when not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from trunkbridge import ApiError, Client


async def dial(number: str, trunk: str | None, agent: str | None) -> int:
    """Place one call and follow it to its end."""
    url = os.environ.get("TRUNKBRIDGE_URL", "http://127.0.0.1:8080")
    async with Client(url, os.environ.get("TRUNKBRIDGE_API_KEY")) as client:
        call = await client.dial(number, trunk=trunk, agent=agent)
        print(f"call {call.id} in room {call.accepted['room_name']}")
        try:
            async for event in call.events():
                told = {
                    key: value
                    for key, value in event.data.items()
                    if key not in ("event", "version", "call_id", "seq", "at")
                }
                print(f"{event.seq:3} {event.name:14}", *(f"{k}={v}" for k, v in told.items()))
        except asyncio.CancelledError:  # Ctrl-C
            await call.hangup()
            raise
        resource = await call.status()
    return 0 if resource["outcome"] == "completed" else 1


def main() -> int:
    """Parse the command line and dial."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("number", help="E.164, such as +919876543210")
    parser.add_argument("--trunk", help="the trunk's name; needed when there are several")
    parser.add_argument("--agent", help="the agent that is dispatched to the call")
    given = parser.parse_args()
    try:
        return asyncio.run(dial(given.number, given.trunk, given.agent))
    except ApiError as error:
        print(f"dial: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dial: hung up", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
