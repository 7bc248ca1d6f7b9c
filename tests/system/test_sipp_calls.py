"""Rows of docs/carrier-rows.md by SIPp that need an agent, a call of ours or a look at its log."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
import trustme

from tests.authority import Authority
from tests.system.harness import (
    Bridge,
    Desk,
    RoomAgent,
    Sipp,
    agent_number,
    free_port,
    now_number,
    room_of,
)
from tests.system.sipp_calls import (
    CALLERS,
    again,
    copied,
    crossed,
    early_bye,
    fork_ended,
    glare,
    identified,
    refused_call,
)
from tests.system.sipp_rows import Step, compose
from tests.system.test_sipp import listening
from tests.system.test_tls_calls import relay, settings

pytestmark = pytest.mark.system

CALLER = "+919876543210"
CALLEE = "+919000000091"
BUSY = 17  # Q.850


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


def scenario(desk: Desk, name: str, steps: list[Step], **options: object) -> Sipp:
    """Return a SIPp with these steps, ended with the test."""
    place = desk.folder / f"sipp-{name.split()[0]}-{free_port()}"
    place.mkdir()
    file = compose(place, name, steps)
    made = Sipp(folder=place, scenario=str(file.with_suffix("")), **options)  # type: ignore[arg-type]
    desk._stack.push_async_callback(made.stop)
    return made


def caller(
    desk: Desk, name: str, steps: list[Step], entrance: int, transport: str, number: str = ""
) -> Sipp:
    """Return a SIPp that calls a number of the bridge, by default one answered at once."""
    return scenario(
        desk,
        name,
        steps,
        target=f"127.0.0.1:{entrance}",
        port=free_port(),
        transport=transport,
        keys={"number": number or now_number(), "caller": CALLER},
    )


def versions(sipp: Sipp) -> list[int]:
    """Return the versions of the bridge's descriptions, in order."""
    received = "".join(
        re.split(r"message sent.*?(?=message received|\Z)", sipp.messages, flags=re.S)
    )
    return [int(found) for found in re.findall(r"^o=\S+ \d+ (\d+) ", received, re.M)]


@pytest.mark.parametrize("transport", ["tcp", "udp", "tls"])
async def test_sipp_calls_over_each_transport_and_is_answered_as_the_rows_say(
    desk: Desk, authority: Authority, tmp_path: Path, transport: str
) -> None:
    """Rows 28, 34, 45, 47, 56, 63, 69. By SIPp, from outside; over TLS by an encrypting relay."""
    async with contextlib.AsyncExitStack() as stack:
        if transport == "tls":
            port = free_port()
            bridge = await desk.bridge(sections=settings(authority, tmp_path, port))
            entrance = await stack.enter_async_context(relay(authority, port))
        else:
            bridge = await desk.bridge()
            entrance = bridge.sip_port
        mode = "u1" if transport == "udp" else "t1"
        runs = {name: caller(desk, name, row(), entrance, mode) for name, row in CALLERS.items()}
        ringing = agent_number()
        runs["34"] = caller(desk, "34 an early BYE", early_bye(), entrance, mode, ringing)
        if transport != "udp":
            runs["28"] = caller(desk, "28 a copy of an INVITE", copied(), entrance, mode)
        for sipp in runs.values():
            await sipp.start()
            await sipp.passed(within=30)
    (changed,) = (sipp for name, sipp in runs.items() if name.startswith("63"))
    one, same, raised = versions(changed)
    assert (same - one, raised - one) == (0, 1)
    calls = await bridge.client.calls()
    assert len(calls) == len(runs) - 1, "the 420 was none, and no copy was one"


async def test_sipp_sees_the_caller_told_and_a_glare_settled(desk: Desk) -> None:
    """Rows 43, 44, 52. Identity, Diversion and X- headers; 491 both ways, and again after it."""
    bridge = await desk.bridge(trunk={"header_attributes": ["X-*", "Diversion"]})
    first, second = agent_number(), agent_number()
    known = await desk.agent(room_of(first), kind="agent")
    sipp = caller(desk, "43 who calls", identified(), bridge.sip_port, "t1", first)
    await sipp.start()
    await known.event("call_answered")
    attributes = (await known.phone())["attributes"]
    assert attributes["sip.phoneNumber"] == "+919811112222"
    assert attributes["sip.h.x-exotel-callsid"] == "abc123"
    assert "+918044445555" in attributes["sip.h.diversion"]
    await hang_up(known, sipp)

    agent = await desk.agent(room_of(second), kind="agent")
    sipp = caller(desk, "52 glare", glare(), bridge.sip_port, "t1", second)
    await sipp.start()
    await agent.event("call_answered")
    holding = asyncio.create_task(agent.rpc("bridge.Hold"))
    await asyncio.wait([holding])
    assert holding.exception() is None, f"{holding.exception()}\n{sipp.story()}"
    assert holding.result() == "{}"
    await hang_up(agent, sipp)


async def hang_up(agent: RoomAgent, sipp: Sipp) -> None:
    await agent.rpc("lk.sip.EndCall", "{}")
    await sipp.passed(within=30)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_sipp_is_called_and_sees_acks_cancels_and_byes_as_the_rows_say(
    desk: Desk, transport: str
) -> None:
    """Rows 20, 22, 32, 34, 45. By SIPp, from outside."""
    port = free_port()
    bridge = await desk.bridge(port, trunk={"transport": transport})
    call, sipp = await calls(desk, bridge, port, transport, "22 refused", refused_call())
    ended = await bridge.ended(call)
    assert (ended["sip_status"], ended["q850"]) == (480, BUSY)
    invite, ack = re.findall(r"^(?:INVITE|ACK) .*?branch=([^;\s]+)", sipp.messages, re.M | re.S)
    assert invite == ack  # RFC 3261 17.1.1.3

    if transport == "tcp":  # over UDP SIPp takes the second ACK for a copy
        call, sipp = await calls(desk, bridge, port, transport, "20 twice answered", again())
        invite, ack, copy = re.findall(
            r"^(?:INVITE|ACK) .*?branch=([^;\s]+)", sipp.messages, re.M | re.S
        )
        assert invite != ack == copy  # RFC 3261 13.2.2.4: the very same ACK
        await bridge.ended(call)

    call, _ = await calls(desk, bridge, port, transport, "32 crossed", crossed(), ring_timeout=2)
    assert (await bridge.ended(call))["outcome"] == "no_answer"
    call, _ = await calls(
        desk, bridge, port, transport, "34 one fork ended", fork_ended(), max_duration=1
    )
    await bridge.ended(call)


async def calls(
    desk: Desk,
    bridge: Bridge,
    port: int,
    transport: str,
    name: str,
    steps: list[Step],
    **fields: int,
) -> tuple[str, Sipp]:
    """Have SIPp called with a scenario until it is over."""
    mode = "u1" if transport == "udp" else "t1"
    sipp = scenario(desk, name, steps, target="", port=port, transport=mode)
    await sipp.start()
    if transport == "tcp":
        await listening(port)
    call = await bridge.dial(CALLEE, **fields)
    await sipp.passed(within=30)
    await sipp.stop()
    return call.id, sipp
