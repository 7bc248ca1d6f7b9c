"""A transfer the far end asks for: who is called, who hears of it, how the calls end."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.call.call import Call
from bridge.call.commands import AnswerRefer, Bye, DialReferred, TellReferred
from bridge.call.inputs import Input, ReferredTold
from bridge.call.machine import restore, snapshot
from bridge.call.referrals import Referrals
from bridge.call.requests import Accepted, BadRequest, DialRequest, OverLimit, Unavailable
from bridge.call.saved import dump, load
from bridge.events import CallAnswered, CallDtmf, CallEnded, CallEvent, CallRinging, CallTransfer
from bridge.sip.events import ReferAsked
from tests.unit.call.kit import SID, Bench, bye, inbound, plan

pytestmark = pytest.mark.unit

TO = "+918045678900"
OPEN = {"refer_in": True, "transfer_allow": ("+9180*",)}


def asked(target: str = f"sip:{TO}@carrier.example", *, plain: bool = True) -> ReferAsked:
    return ReferAsked(session=SID, target=target, plain=plain)


def answers(bench: Bench) -> list[int]:
    return [command.status for command in bench.of(AnswerRefer)]


def test_the_target_is_called_and_the_far_end_told_how_that_goes() -> None:
    """Row 95. RFC 3515 2.4: we place the call ourselves, into the same room."""
    bench = Bench(inbound(**OPEN)).talking().feed(asked())
    assert answers(bench) == [202]
    assert [command.to for command in bench.of(DialReferred)] == [TO]
    bench.feed(ReferredTold(status=180), ReferredTold(status=200), ReferredTold(status=487))
    assert [command.status for command in bench.of(TellReferred)] == [180, 200]
    told = [(event.to, event.status) for event in bench.of(CallTransfer)]
    assert told == [(TO, 180), (TO, 200)]
    assert not bench.has(Bye), "the far end hangs up"
    bench.feed(bye())
    assert bench.verdict() == ("completed", "transferred", "caller")


@pytest.mark.parametrize(
    "target",
    [
        "sip:08045678900@anywhere.example;user=phone",
        "sips:+91%38045678900;ext=1@x",
        "tel:+91-80-4567-8900",
    ],
)
def test_whatever_host_is_named_the_number_is_called_by_the_trunk(target: str) -> None:
    bench = Bench(inbound(**OPEN)).talking().feed(asked(target))
    assert [command.to for command in bench.of(DialReferred)] == [TO]


@pytest.mark.parametrize(
    ("values", "event"),
    [
        ({"refer_in": False}, asked()),
        ({"transfer_allow": ()}, asked()),
        ({}, asked("sip:+912245678900@carrier.example")),
        ({}, asked("sip:bob@carrier.example")),
        ({}, asked("sip:carrier.example")),
        ({}, asked("mailto:bob@example.com")),
        ({}, asked(plain=False)),
        ({"transfer_allow": ("sip:*",)}, asked()),
    ],
)
def test_what_is_not_allowed_is_declined(values: dict[str, Any], event: ReferAsked) -> None:
    """Row 95. Threat 5.1: Toll fraud. REFER: 603, and nothing is dialled."""
    bench = Bench(inbound(**{**OPEN, **values})).talking().feed(event)
    assert answers(bench) == [603]
    assert not bench.has(DialReferred)
    assert not bench.has(CallTransfer)


def test_one_transfer_at_a_time_and_another_after_a_failure() -> None:
    bench = Bench(inbound(**OPEN)).talking().feed(asked(), asked())
    assert answers(bench) == [202, 603]
    bench.feed(ReferredTold(status=486), asked())
    assert answers(bench) == [202, 603, 202]
    assert [event.status for event in bench.of(CallTransfer)] == [486]
    bench.feed(ReferredTold(status=603), bye())
    assert bench.verdict() == ("completed", "remote_hangup", "caller")


def test_a_transfer_of_theirs_survives_a_restart() -> None:
    bench = Bench(plan(**OPEN)).talking().feed(asked())
    saved = load(json.loads(json.dumps(dump(snapshot(bench.state, bench.now, bench.wall)))))
    bench.state = restore(saved, bench.now, bench.wall)
    bench.feed(ReferredTold(status=200), bye())
    assert bench.verdict() == ("completed", "transferred", "callee")


class House:
    """Calls that run, and a dial that is answered as *answer* says."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.answer = answer
        self.requests: list[DialRequest] = []
        self.posted: list[Input] = []
        self.there = True
        call = SimpleNamespace(plan=plan(user_id="u"), post=self.posted.append)
        self.referrals = Referrals(self.dial, lambda _: cast(Call, call) if self.there else None)

    async def dial(self, request: DialRequest) -> Accepted:
        self.requests.append(request)
        if self.answer is not None:
            raise self.answer
        return Accepted(call_id="new", room_name="r", url="u", token="", status="pending")

    async def begin(self) -> None:
        self.referrals.begin("old", TO)
        await asyncio.gather(*self.referrals._tasks)


def ended(status: int | None) -> CallEnded:
    return CallEnded(
        call_id="new",
        seq=3,
        at=0.0,
        outcome="busy",
        reason="busy",
        ended_by="callee",
        sip_status=status,
        q850=None,
        duration_ms=0,
    )


RINGING = CallRinging(call_id="new", seq=1, at=0.0, early_media=False)
ANSWERED = CallAnswered(call_id="new", seq=2, at=0.0, codec="PCMA", ring_ms=1)
KEY = CallDtmf(call_id="new", seq=2, at=0.0, digit="1", duration_ms=1)


@pytest.mark.parametrize(
    ("events", "statuses"),
    [
        ([RINGING, KEY, ANSWERED, KEY, ended(200)], [180, 200]),
        ([RINGING, ended(486)], [180, 486]),
        ([ended(None)], [487]),
        ([ended(180)], [487]),
    ],
)
async def test_the_new_call_goes_into_the_same_room_and_is_reported(
    events: list[CallEvent], statuses: list[int]
) -> None:
    house = House()
    await house.begin()
    request = house.requests[0]
    assert (request.phone_number, request.room, request.agent) == (TO, "call-1", "")
    assert (request.trunk, request.user_id) == ("exotel", "u")
    assert request.metadata == {"referred_by": "old"}
    for event in events:
        house.referrals.heard(event)
    assert house.posted == [ReferredTold(status=status) for status in statuses]
    assert house.referrals._for == {}


@pytest.mark.parametrize(
    "failure", [BadRequest("x", "y"), OverLimit("full", retry_after=1), Unavailable("draining")]
)
async def test_a_new_call_that_cannot_be_made_is_told_as_503(failure: Exception) -> None:
    house = House(failure)
    await house.begin()
    assert house.posted == [ReferredTold(status=503)]


async def test_nothing_is_dialled_for_a_call_that_has_ended_meanwhile() -> None:
    house = House()
    house.there = False
    await house.begin()
    assert house.requests == []
    house.there = True
    await house.begin()
    house.there = False
    house.referrals.heard(ANSWERED)
    assert house.posted == []
