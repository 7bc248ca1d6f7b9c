"""What the call keeps as attributes is what the room's convention says (contract 4)."""

import pytest

from bridge.call.levels import attributes
from bridge.call.machine import initial
from bridge.call.plan import CallPlan, Direction
from bridge.room import convention

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("number", ["+919876543210", ""])
def test_the_attributes_of_a_call_are_the_conventions(direction: Direction, number: str) -> None:
    plan = CallPlan(
        call_id="5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11",
        direction=direction,
        trunk="carrier",
        room="r",
        created_at=1.0,
        phone_number=number,
        withheld=not number,
        trunk_number="+918047361000",
        sip_call_id="abc@host",
        sip_tag="tag",
        hostname="192.0.2.1",
        rule_id="*",
        headers={"X-One": "1"},
    )
    facts = convention.CallFacts(
        call_id=plan.call_id,
        direction=convention.Direction(direction.value),
        trunk=plan.trunk,
        number=number,
        trunk_number=plan.trunk_number,
        sip_call_id=plan.sip_call_id,
        call_tag=plan.sip_tag,
        hostname=plan.hostname,
        rule=plan.rule_id,
        headers=plan.headers,
    )
    state = initial(plan, 0.0, 1.0)
    status = convention.CallStatus(attributes(state)["sip.callStatus"])
    assert dict(attributes(state)) == convention.join_attributes(facts, status)
