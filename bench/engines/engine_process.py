"""Calls of one of our engines at a real livekit-server, without the SIP side.

``python -m bench.engines.engine_process JSON``: ``engine`` ("sdk" or "direct"), ``url``, ``calls``
(``room``, ``token``, ``phone``: each one's port). Tells ``{"ready": seconds of CPU, "ports": []}``.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import uvloop

from bench.engines import process
from bridge.config.sections import MediaConfig
from bridge.engines import engine_of
from bridge.media.ports import Ports
from bridge.media.seam import MediaLevels, MediaSpec
from bridge.observe import logs
from bridge.room.seam import JoinSpec, RoomHandlers
from rtp import g711
from sdp.negotiated import Negotiated

HERE = "127.0.0.1"
LEVELS = MediaLevels(transmit=True, agent_audio=True, caller_audio=True, watchdog=None)


def negotiated(port: int) -> Negotiated:
    """Return an agreement on u-law with the phone on *port*."""
    return Negotiated(
        remote_address=HERE,
        remote_port=port,
        remote_rtcp_port=0,
        codec=g711.PCMU,
        payload_type=0,
        receive_codecs=((0, g711.PCMU),),
        dtmf_payload_type=None,
        receive_dtmf_payload_type=None,
        ptime=20,
        send=True,
        receive=True,
        hold=None,
    )


async def run(given: dict[str, Any]) -> None:
    """Bring all calls up, then take orders."""
    logs.configure("info", "json")
    ports = Ports("20000-31999", own=(HERE,))
    engine = engine_of(MediaConfig(engine=given["engine"]), ports)
    await engine.start()
    process.settled()
    gate = asyncio.Semaphore(4)
    began = time.process_time()

    async def one(number: int, call: dict[str, Any]) -> int:
        lease = ports.lease(HERE)
        media = engine.open(
            MediaSpec(
                call_id=f"bench-{number}",
                signalling_address=HERE,
                media_allow=("127.0.0.0/8",),
                hold_music=False,
            ),
            lease,
            RoomHandlers(notify=lambda _: None),
            lambda _: None,
        )
        async with gate:
            spec = JoinSpec(
                url=given["url"], room=call["room"], identity="phone", token=call["token"]
            )
            await media.room.join(spec)
        media.room.subscribe(wanted=True)
        media.carrier.connect(negotiated(call["phone"]))
        media.carrier.apply(LEVELS)
        kept.append(media)
        return lease.port

    kept: list[object] = []
    found = await asyncio.gather(*(one(n, call) for n, call in enumerate(given["calls"])))
    process.settled()
    process.say(ready=time.process_time() - began, ports=list(found))
    await process.obey({})


def main() -> None:
    """Run until the input ends."""
    uvloop.install()
    with suppress(KeyboardInterrupt):
        asyncio.run(_run_and_leave())


async def _run_and_leave() -> None:
    await run(process.options())
    process.leave()


if __name__ == "__main__":
    main()
