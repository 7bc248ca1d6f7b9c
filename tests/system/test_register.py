"""Registration trunks: the daemon registers, is called by that connection, and takes it back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bridge.carrier.registrar import Registrar
from tests.ports import free_port
from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, Bridge, Desk, agent_number, room_of, until
from tests.system.test_digest import ACCOUNT, PASSWORD, USER, nothing_leaked
from tests.system.test_sipp import listening

pytestmark = pytest.mark.system

RECORD = f"sip:{USER}@127.0.0.1"


async def registration(bridge: Bridge) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        trunks = (await http.get(f"{bridge.url}/api/v1/trunks")).json()
    found: dict[str, Any] = trunks[0]["registration"]
    return found


async def is_registered(bridge: Bridge) -> bool:
    return (await registration(bridge))["state"] == "registered"


async def figure(bridge: Bridge, name: str) -> str:
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"{bridge.url}/metrics")).text
    return next(line.split()[-1] for line in page.splitlines() if line.startswith(name))


async def test_the_carrier_calls_by_the_connection_we_registered_by_and_hears_our_farewell(
    desk: Desk,
) -> None:
    """Row 99. RFC 3261 10, RFC 5626 5.3: digest, an inbound call over that flow, Expires 0."""
    registrar = Registrar()
    carrier = await desk.carrier(credentials=(USER, PASSWORD), registrar=registrar)
    bridge = await desk.bridge(carrier, trunk={**ACCOUNT, "register": True, "keepalive": "crlf"})
    await registrar.until(RECORD, registered=True)
    assert f"sip:{USER}@127.0.0.1:{bridge.sip_port}" in registrar.bindings[RECORD].contact

    async def known() -> bool:
        return await is_registered(bridge)

    await until(known, "the daemon knows that it is registered", 15)
    assert await figure(bridge, "trunkbridge_trunk_registered") == "1.0"
    assert await figure(bridge, "trunkbridge_trunk_up") == "1.0"
    number = agent_number()
    agent = await desk.agent(room_of(number), kind="agent")
    leg = await carrier.dial(RECORD, called=number)
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 15s; hangup")
    fine(leg)
    # Who was dialled stands in To: the Request-URI is our registered Contact.
    assert (await agent.event("call_ended"))["outcome"] == "completed"
    await bridge.stop()
    await registrar.until(RECORD, registered=False)
    nothing_leaked(bridge)


async def test_sipp_as_the_registrar_challenges_wants_longer_and_is_told_the_end(
    desk: Desk,
) -> None:
    """Row 99. 401, 423 with Min-Expires, Service-Route, Expires 0; SIPp checks each field."""
    port = free_port()
    sipp = desk.sipp("uas-register", target="", port=port)
    await sipp.start()
    await listening(port)
    bridge = await desk.bridge(port, trunk={**ACCOUNT, "register": True})

    async def known() -> bool:
        return await is_registered(bridge)

    await until(known, "the daemon is registered", 15)
    await bridge.stop()
    await sipp.passed()
