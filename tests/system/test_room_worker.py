"""A real livekit-agents worker on a call whose livekit-server is killed and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from livekit import api

from bridge.carrier.call import Leg
from tests.system.calls import fine
from tests.system.conftest import PrivateLiveKit
from tests.system.harness import Bridge, Desk, now_number, room_of, room_service, until
from tests.system.workers import Worker, working

pytestmark = pytest.mark.system

HERTZ = 1200  # what `tests.agents.older` says
GONE = 3.0  # seconds
BACK = 30.0  # seconds; workers and the SDK of an agent come back by themselves, with pauses


@pytest.fixture
def new_worker(private_livekit: PrivateLiveKit) -> Iterator[Callable[[], Worker]]:
    """Starts workers."""
    with ExitStack() as stack:

        def start() -> Worker:
            return stack.enter_context(working(private_livekit.server, "older"))

        yield start


async def talking(desk: Desk, worker: Worker) -> tuple[Bridge, Leg, str]:
    """Return a call with the worker's agent."""
    carrier = await desk.carrier()
    number = now_number()
    route = {"number": number, "room": "in-{number}", "answer": "now", "agent": "older"}
    bridge = await desk.bridge(carrier, routes=[route], trunk={"agent_gone_timeout": BACK})
    await worker.ready()
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run(f"talk; expect audio {HERTZ} within 20s")
    fine(leg)
    return bridge, leg, room_of(number)


async def agents(desk: Desk, room: str) -> list[str]:
    """Return the identities of the agents in *room*."""
    async with room_service(desk.server) as service:
        found = await service.room.list_participants(api.ListParticipantsRequest(room=room))
    return [one.identity for one in found.participants if one.kind == api.ParticipantInfo.AGENT]


async def is_one_call_with_one_agent(desk: Desk, leg: Leg, room: str) -> None:
    """Wait for audio, then for one agent to be left, which holds and resumes with the phone."""
    await leg.run(f"expect audio {HERTZ} within {int(BACK)}s")
    fine(leg)
    await leg.run("wait 6s")  # longer than anybody's own repair

    async def one() -> bool:
        return len(await agents(desk, room)) == 1

    await until(one, "one agent is left")
    await leg.run(f"hold sendonly; resume; expect audio {HERTZ} within 5s; hangup")
    fine(leg)


async def test_an_agent_of_a_worker_is_on_the_call_again_and_is_one(
    private_desk: Desk,
    private_livekit: PrivateLiveKit,
    new_worker: Callable[[], Worker],
) -> None:
    _, leg, room = await talking(private_desk, new_worker())
    private_livekit.kill()
    await leg.run(f"wait {int(GONE * 1000)}ms")
    assert await asyncio.to_thread(private_livekit.start)
    await is_one_call_with_one_agent(private_desk, leg, room)


async def test_an_agent_whose_worker_died_with_the_server_is_replaced(
    private_desk: Desk,
    private_livekit: PrivateLiveKit,
    new_worker: Callable[[], Worker],
) -> None:
    worker = new_worker()
    _, leg, room = await talking(private_desk, worker)
    private_livekit.kill()
    worker.kill()
    assert await asyncio.to_thread(private_livekit.start)
    await leg.run("wait 3s")  # the first dispatch finds no worker
    other = new_worker()
    await other.sees("speaks", within=BACK)
    await is_one_call_with_one_agent(private_desk, leg, room)
