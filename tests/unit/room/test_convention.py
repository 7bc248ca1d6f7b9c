"""What others in the room see: contract, section 4."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.room import convention
from bridge.room.convention import CallFacts, Direction, Job

pytestmark = pytest.mark.unit

CALL_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def facts(**changed: object) -> CallFacts:
    values: dict[str, object] = {
        "call_id": CALL_ID,
        "direction": Direction.OUTBOUND,
        "trunk": "exotel-mumbai",
        "number": "+919876543210",
        "trunk_number": "+912240001234",
        "sip_call_id": "abc@host",
        "call_tag": "tag1",
        "hostname": "pstn.in1.exotel.com",
        **changed,
    }
    return CallFacts(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("direction", "number", "taken", "expected"),
    [
        (Direction.OUTBOUND, "+91987", (), "sip-+91987"),
        (Direction.INBOUND, "+91987", (), "sip-in-+91987"),
        (Direction.OUTBOUND, "1000", (), "sip-1000"),
        (Direction.OUTBOUND, "+91987", ("sip-+91987",), "sip-+91987-0f8fad5b"),
        (Direction.OUTBOUND, "+91987", ("sip-in-+91987",), "sip-+91987"),
        (Direction.INBOUND, "+91987", ("sip-in-+91987",), "sip-in-+91987-0f8fad5b"),
        (Direction.INBOUND, "anonymous", (), "sip-in-anonymous-0f8fad5b"),
        (Direction.INBOUND, "Anonymous", (), "sip-in-Anonymous-0f8fad5b"),
        (Direction.INBOUND, "", (), "sip-in-anonymous-0f8fad5b"),
    ],
)
def test_identity_names_the_far_party_and_is_unique_in_the_room(
    direction: Direction, number: str, taken: tuple[str, ...], expected: str
) -> None:
    assert convention.identity(facts(direction=direction, number=number), taken) == expected


def test_outbound_attributes_are_those_of_livekit_sip_and_ours() -> None:
    assert convention.fixed_attributes(facts()) == {
        "sip.callID": CALL_ID,
        "sip.callIDFull": "abc@host",
        "sip.callTag": "tag1",
        "sip.phoneNumber": "+919876543210",
        "sip.trunkPhoneNumber": "+912240001234",
        "sip.trunkID": "exotel-mumbai",
        "sip.hostname": "pstn.in1.exotel.com",
    }


def test_an_inbound_call_always_has_a_rule_and_an_outbound_one_never() -> None:
    inbound = convention.fixed_attributes(facts(direction=Direction.INBOUND))
    named = convention.fixed_attributes(facts(direction=Direction.INBOUND, rule="route-1"))
    outbound = convention.fixed_attributes(facts(rule="route-1"))
    assert inbound["sip.ruleID"] == "trunkbridge"
    assert named["sip.ruleID"] == "route-1"
    assert "sip.ruleID" not in outbound


def test_an_attribute_without_a_value_is_left_out() -> None:
    attributes = convention.fixed_attributes(facts(sip_call_id="", call_tag="", trunk_number=""))
    assert not attributes.keys() & {"sip.callIDFull", "sip.callTag", "sip.trunkPhoneNumber"}


def test_hold_and_seq_are_written_as_text() -> None:
    assert convention.hold_attribute(held=True) == {"bridge.hold": "true"}
    assert convention.seq_attribute(7) == {"bridge.seq": "7"}


def test_headers_are_lower_case_and_odd_names_are_left_out() -> None:
    found = convention.header_attributes(
        {"X-Account": " 42\r\nEvil: 1 ", "X Bad": "1", "X-Empty": "", "X-é": "1"}
    )
    assert found == {"sip.h.x-account": "42Evil: 1"}


def test_headers_are_bounded_in_number_and_size() -> None:
    found = convention.header_attributes({f"X-{n}": "é" * 5000 for n in range(200)})
    assert len(found) == convention.HEADERS_LIMIT
    assert max(len(value.encode()) for value in found.values()) <= convention.VALUE_LIMIT


def test_a_header_cannot_pose_as_another_attribute() -> None:
    """Threat 5.1: Malformed messages."""
    attributes = convention.fixed_attributes(facts(headers={"callID": "another"}))
    assert attributes["sip.callID"] == CALL_ID
    assert attributes["sip.h.callid"] == "another"


@given(st.text(max_size=3000), st.integers(min_value=0, max_value=100))
def test_clean_text_is_printable_bounded_and_valid_utf8(text: str, limit: int) -> None:
    """Threat 5.1: Malformed messages."""
    cleaned = convention.clean(text, limit)
    assert len(cleaned.encode()) <= limit
    assert all(ord(c) >= 32 and ord(c) != 127 for c in cleaned)
    assert convention.clean(cleaned, limit) == cleaned


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_attributes_of_any_peer_stay_far_below_the_servers_limit(
    number: str, text: str, headers: dict[str, str]
) -> None:
    attributes = convention.fixed_attributes(
        facts(number=number, hostname=text, call_tag=text, sip_call_id=text, headers=headers)
    )
    assert sum(len(k.encode()) + len(v.encode()) for k, v in attributes.items()) < 64 * 1024
    assert convention.identity(facts(number=number)).encode()


def test_metadata_says_whose_call_it_is() -> None:
    assert json.loads(convention.participant_metadata(facts())) == {
        "source": "trunkbridge",
        "call_id": CALL_ID,
        "trunk": "exotel-mumbai",
        "direction": "outbound",
    }
    assert convention.participant_name("+91987") == "Phone +91987"
    assert convention.participant_name("") == "Phone anonymous"


def test_dtmf_codes_follow_livekit() -> None:
    digits = "0123456789*#ABCD"
    assert [convention.dtmf_code(digit) for digit in digits] == list(range(16))
    assert [convention.dtmf_digit(code) for code in range(16)] == list(digits)
    assert convention.dtmf_code("a") == 12


@pytest.mark.parametrize("digit", ["", "12", "x", "w", "१"])
def test_what_is_no_key_has_no_code(digit: str) -> None:
    assert convention.dtmf_code(digit) is None


def test_a_received_digit_wins_over_its_code() -> None:
    assert convention.dtmf_digit(0, "#") == "#"
    assert convention.dtmf_digit(11, "") == "#"
    assert convention.dtmf_digit(11, "?") == "#"
    assert convention.dtmf_digit(99, "") is None
    assert convention.dtmf_digit(-1, "") is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("call-{call_id}", f"call-{CALL_ID}"),
        ("{caller}-to-{number}", "+91987-to-1000"),
        ("fixed", "fixed"),
        ("{unknown}{call_id!r}", "{unknown}{call_id!r}"),
        ("", f"call-{CALL_ID}"),
        ("\x00\r\n", f"call-{CALL_ID}"),
    ],
)
def test_room_names_come_from_the_template(template: str, expected: str) -> None:
    name = convention.room_name(template, call_id=CALL_ID, number="1000", caller="+91987")
    assert name == expected


def test_what_a_caller_sends_is_never_a_template() -> None:
    name = convention.room_name("{caller}", call_id=CALL_ID, number="1", caller="{call_id}")
    assert name == "{call_id}"


def test_room_names_are_bounded() -> None:
    name = convention.room_name("x" * 1000, call_id=CALL_ID, number="1", caller="2")
    assert len(name) == convention.ROOM_NAME_LIMIT


def test_outbound_job_metadata_has_the_older_names() -> None:
    job = Job(
        call_id=CALL_ID,
        direction=Direction.OUTBOUND,
        call_type="sip",
        trunk="exotel-mumbai",
        profile="exotel",
        phone_number="+91987",
        trunk_number="+9122",
        workflow_slug="daily-call",
        user_id="u1",
        user_context={"name": "Ana"},
        metadata={"a": 1},
    )
    assert json.loads(convention.job_metadata(job)) == {
        "call_id": CALL_ID,
        "direction": "outbound",
        "call_type": "sip",
        "trunk": "exotel-mumbai",
        "phone_number": "+91987",
        "trunk_number": "+9122",
        "workflow_slug": "daily-call",
        "user_id": "u1",
        "user_context": {"name": "Ana"},
        "metadata": {"a": 1},
        "to_number": "+91987",
        "call_service": "exotel",
    }


def test_inbound_job_metadata_has_its_own_older_names() -> None:
    job = Job(
        call_id=CALL_ID,
        direction=Direction.INBOUND,
        call_type="sip",
        trunk="t",
        profile="generic",
        phone_number="+91987",
        trunk_number="+9122",
    )
    document = json.loads(convention.job_metadata(job))
    assert document["caller_number"] == "+91987"
    assert document["inbound_number"] == "+9122"
    assert not document.keys() & {"to_number", "call_service", "config"}
    assert document["workflow_slug"] is None


def test_a_sessions_job_carries_its_config_and_no_numbers() -> None:
    job = Job(call_id=CALL_ID, direction=Direction.INBOUND, call_type="voip", config={"voice": "x"})
    document = json.loads(convention.job_metadata(job))
    assert document["config"] == {"voice": "x"}
    assert not document.keys() & {"to_number", "caller_number", "inbound_number"}


def test_job_metadata_too_large_is_refused_with_a_reason() -> None:
    job = Job(
        call_id=CALL_ID,
        direction=Direction.INBOUND,
        call_type="sip",
        metadata={"x": "y" * convention.JOB_METADATA_LIMIT},
    )
    with pytest.raises(ValueError, match=r"^job metadata exceeds 60000 bytes$"):
        convention.job_metadata(job)
