"""Calls with linphone: a third SIP stack (belle-sip) and a third media stack (mediastreamer)."""

from __future__ import annotations

import time

import pytest

from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, agent_number, room_of, until
from tests.system.linphone import CALLED, CONNECTED, ENDED, PAUSED, Linphone

pytestmark = pytest.mark.system

NUMBER = "+919000000081"


@pytest.mark.parametrize(
    ("direction", "transport", "srtp"),
    [("inbound", "tcp", True), ("outbound", "udp", False)],
)
async def test_linphone_is_heard_held_resumed_and_keyed(
    desk: Desk, direction: str, transport: str, srtp: bool
) -> None:
    """Rows 61, 68, 85. In with SRTP over TCP, out without it over UDP."""
    peer = Linphone(folder=desk.folder / "linphone", number=NUMBER, transport=transport, srtp=srtp)
    desk._stack.push_async_callback(peer.stop)
    await peer.start()
    trunk = {"transport": transport, "srtp": "required" if srtp else "off"}
    bridge = await desk.bridge(peer.port, trunk=trunk)
    if direction == "inbound":
        number = agent_number()
        agent = await desk.agent(room_of(number), kind="agent")
        peer.command(f"call {bridge.sip_uri(number, transport)}")
    else:
        room = desk.room()
        agent = await desk.agent(room, kind="agent")
        await bridge.dial(NUMBER, room=room)
        await peer.shows(CALLED)
        peer.command("answer")
    await peer.shows(CONNECTED)
    await agent.hears(CALLER_HERTZ)
    await peer.hears(AGENT_HERTZ)

    peer.command("pause")
    await agent.event("call_hold")
    await agent.is_muted(True)
    await peer.shows(PAUSED)
    since = time.monotonic()
    peer.command("resume 1")
    await agent.event("call_resume")
    await agent.hears(CALLER_HERTZ, since=since)
    await peer.shows(CONNECTED, 2)

    peer.command("5")
    await agent.until(lambda: [key["digit"] for key in agent.saw("dtmf")] == ["5"], "a key")
    await agent.press("7")
    await until(lambda: peer.keys == "7", "linphone hears a key")
    peer.command("terminate")
    await peer.shows(ENDED)
    ended = await agent.event("call_ended")
    far = "caller" if direction == "inbound" else "callee"
    assert (ended["outcome"], ended["ended_by"]) == ("completed", far)
