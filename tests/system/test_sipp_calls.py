"""Rows of docs/carrier-rows.md by SIPp that need an agent, a call of ours or a look at its log."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.authority import Authority
from tests.ports import free_port
from tests.system.harness import Bridge, Desk, RoomAgent, Sipp, agent_number, now_number, room_of
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
TURNS = 5


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
    desk: Desk, name: str, steps: list[Step], entrance: int, transport: str, number: str
) -> Sipp:
    """Return a SIPp that calls a number of the bridge."""
    return scenario(
        desk,
        name,
        steps,
        target=f"127.0.0.1:{entrance}",
        port=free_port(),
        transport=transport,
        keys={"number": number, "caller": CALLER},
    )


def versions(sipp: Sipp) -> list[int]:
    """Return the version of the bridge's description in its answer to each request, in order."""
    found: dict[str, int] = {}
    for message in sipp.messages.split("-----"):
        version = re.search(r"^o=\S+ \d+ (\d+) ", message, re.M)
        cseq = re.search(r"^CSeq: (\d+)", message, re.M)
        if "message received" in message and version and cseq:
            found[cseq[1]] = int(version[1])
    return list(found.values())


def branches(sipp: Sipp, method: str) -> set[str]:
    """Return the branches of what the bridge sent by a method."""
    return set(
        re.findall(rf"^{method} \S+ SIP/2.0\s+Via: \S+ \S+?;branch=([^;\s]+)", sipp.messages, re.M)
    )


async def called_until_taken(made: Callable[[], Sipp]) -> Sipp:
    """Run a caller; one that was told to come later, by a bridge that is behind, does so."""
    for _ in range(TURNS):
        sipp = made()
        await sipp.start()
        if await sipp.ended(30) == 0:
            return sipp
        later = re.search(r"^SIP/2.0 503 .*?^Retry-After: (\d+)", sipp.messages, re.M | re.S)
        assert later is not None, sipp.story()
        await asyncio.sleep(min(int(later[1]), 10))
    raise AssertionError(f"always refused\n{sipp.story()}")


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
        steps = {name: row() for name, row in CALLERS.items()}
        steps["34 an early BYE"] = early_bye()
        if transport != "udp":
            steps["28 a copy of an INVITE"] = copied()
        runs = {}
        for name, row in steps.items():
            number = agent_number() if row == early_bye() else now_number()
            runs[name] = await called_until_taken(
                partial(caller, desk, name, row, entrance, mode, number)
            )
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
    (invite,) = branches(sipp, "INVITE")
    assert branches(sipp, "ACK") == {invite}  # RFC 3261 17.1.1.3

    if transport == "tcp":  # over UDP SIPp takes the second ACK for a copy
        call, sipp = await calls(desk, bridge, port, transport, "20 twice answered", again())
        (ack,) = branches(sipp, "ACK")  # RFC 3261 13.2.2.4: the very same one
        assert ack not in branches(sipp, "INVITE")
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
