"""The deliveries of an event: what is told, to whom, under which id, in which order."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.call.plan import CallPlan, Direction
from bridge.call.record import fold, new_record
from bridge.events import (
    CallAnswered,
    CallDtmf,
    CallEnded,
    CallEvent,
    CallHold,
    CallResume,
    CallRinging,
    CallTransfer,
)
from bridge.sessions.shape import session_shape
from bridge.webhook.delivery import Receivers, as_of, event_deliveries, session_deliveries

pytestmark = pytest.mark.unit

CALL = "7c2b9e30-1d8a-4c5f-9b3d-2f4a6e8b1c2d"
AT = 1_780_000_000.0
GLOBAL = "https://app.example.com/hooks"
OWN = "https://tenant.example.com/mine?token=t"

EVENTS: tuple[CallEvent, ...] = (
    CallRinging(call_id=CALL, seq=1, at=AT + 1, early_media=False),
    CallAnswered(call_id=CALL, seq=2, at=AT + 2, codec="PCMA", ring_ms=900),
    CallDtmf(call_id=CALL, seq=3, at=AT + 3, digit="5", duration_ms=100),
    CallHold(call_id=CALL, seq=4, at=AT + 4, direction="sendonly"),
    CallDtmf(call_id=CALL, seq=5, at=AT + 5, digit="6", duration_ms=100),
    CallResume(call_id=CALL, seq=6, at=AT + 6, held_ms=2000),
    CallTransfer(call_id=CALL, seq=7, at=AT + 7, to="+911", status=200),
    CallEnded(
        call_id=CALL,
        seq=8,
        at=AT + 8,
        outcome="completed",
        reason="normal",
        ended_by="caller",
        sip_status=None,
        q850=16,
        duration_ms=6000,
    ),
)


def plan(**more: Any) -> CallPlan:
    return CallPlan(
        call_id=CALL,
        direction=Direction.OUTBOUND,
        trunk="exotel",
        room=f"call-{CALL}",
        created_at=AT,
        phone_number="+911234567890",
        metadata={"order": 7},
        **more,
    )


def records(**more: Any) -> list[dict[str, Any]]:
    """The record after each of the events."""
    record, found = new_record(plan(**more)), []
    for event in EVENTS:
        record = fold(record, event)
        found.append(record.as_dict())
    return found


def one(position: int, *, private: dict[str, Any] | None = None, url: str = GLOBAL) -> Any:
    found = event_deliveries(
        EVENTS[position].as_dict(),
        records()[position],
        private or {},
        Receivers(url=url),
        earlier=[event.as_dict() for event in EVENTS[:position]],
    )
    assert len(found) == 1
    return found[0]


def test_an_event_is_its_json_with_type_and_call() -> None:
    delivery = one(3)
    body = json.loads(delivery.body)
    assert delivery.event == body.pop("type") == "call.hold"
    assert body.pop("call") == records()[3]
    assert body == EVENTS[3].as_dict()
    assert (delivery.call_id, delivery.url) == (CALL, GLOBAL)
    assert delivery.receiver == "https://app.example.com:443"


@pytest.mark.parametrize(
    ("position", "kind"),
    list(
        enumerate(["ringing", "answered", "dtmf", "hold", "dtmf", "resume", "transfer", "ended"]),
    ),
)
def test_each_event_has_a_type_of_its_own(position: int, kind: str) -> None:
    assert one(position).event == f"call.{kind}"


def test_a_calls_own_url_wins_over_the_configured_one() -> None:
    assert one(0, private={"webhook_url": OWN}).url == OWN
    assert one(0, private={"webhook_url": OWN}, url="").url == OWN


@pytest.mark.parametrize("own", [None, "", "no url", "ftp://example.com/"])
def test_without_a_receiver_there_is_no_delivery(own: str | None) -> None:
    record = records()[0]
    private = {"webhook_url": own}
    assert event_deliveries(EVENTS[0].as_dict(), record, private, Receivers()) == []


def test_the_id_is_stable_and_differs_by_event_and_by_url() -> None:
    assert one(0).id == one(0).id
    assert uuid.UUID(one(0).id).version == 5
    assert len({one(n).id for n in range(8)} | {one(0, url=OWN).id}) == 9


def test_the_id_does_not_depend_on_how_new_the_record_is() -> None:
    late = event_deliveries(
        EVENTS[1].as_dict(),
        records()[7],
        {},
        Receivers(url=GLOBAL),
        earlier=[EVENTS[0].as_dict()],
    )
    assert late[0].id == one(1).id
    assert late[0].body == one(1).body


@pytest.mark.parametrize("newest", range(8))
@pytest.mark.parametrize("position", range(8))
def test_a_newer_record_is_told_as_it_was_after_the_event(position: int, newest: int) -> None:
    events = [event.as_dict() for event in EVENTS[: position + 1]]
    # Where the record is the older one, it is all there is.
    assert as_of(records()[newest], events) == records()[min(position, newest)]


def test_deliveries_of_a_call_have_the_order_of_its_events() -> None:
    found = [one(n) for n in range(8)]
    assert len({(delivery.call_id, delivery.url) for delivery in found}) == 1
    assert [d.seq for d in found] == sorted({d.seq for d in found})


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
    st.text(max_size=20) | st.none(),
)
def test_any_text_of_a_call_survives_in_the_body(
    metadata: dict[str, str], user: str | None
) -> None:
    record = {**records()[0], "metadata": metadata, "user_id": user}
    found = event_deliveries(EVENTS[0].as_dict(), record, {}, Receivers(url=GLOBAL))
    assert found[0].body.isascii()
    assert json.loads(found[0].body)["call"] == record


# Voice sessions.

SESSION: dict[str, Any] = {"session": {"kind": "voice_session", "bot_id": None, "config": {}}}


def session(status: str, *, seq: int = 0, own: str = OWN, url: str = "") -> list[Any]:
    record = {**records(call_type="voip")[0], "status": status, "seq": seq}
    private = {**SESSION, "webhook_url": own}
    shown = session_shape(record, private, turn_count=4)
    return session_deliveries(record, private, Receivers(url=url), session=shown)


def test_a_session_that_was_created_is_told_as_started() -> None:
    (started,) = session("pending")
    body = json.loads(started.body)
    assert (started.event, started.url) == ("voice_session.started", OWN)
    assert body["event"] == body["type"] == "voice_session.started"
    assert body["at"] == body["session"]["created_at"]
    assert body["session"]["id"] == CALL
    assert (body["session"]["status"], body["session"]["turn_count"]) == ("created", 0)


def test_started_is_the_same_delivery_however_far_the_session_is() -> None:
    started = [session(status)[0] for status in ("pending", "active", "completed", "failed")]
    assert len({(one.id, one.body) for one in started}) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("completed", "voice_session.ended"),
        ("timeout", "voice_session.failed"),
        ("failed", "voice_session.failed"),
        ("disconnected", "voice_session.failed"),
    ],
)
def test_a_session_that_is_over_is_told_as_ended_or_failed(status: str, kind: str) -> None:
    started, over = session(status, seq=3)
    assert (started.event, over.event) == ("voice_session.started", kind)
    assert started.url == over.url
    assert started.seq < over.seq
    assert json.loads(over.body)["session"]["turn_count"] == 4


def test_a_session_ends_once_whatever_its_end_is_called_later() -> None:
    assert session("completed", seq=3)[1].id == session("failed", seq=3)[1].id


def test_a_sessions_own_receiver_hears_no_call_events() -> None:
    private = {**SESSION, "webhook_url": OWN}
    assert event_deliveries(EVENTS[0].as_dict(), records()[0], private, Receivers()) == []


def test_with_an_own_and_a_configured_receiver_each_hears_its_part() -> None:
    private = {**SESSION, "webhook_url": OWN}
    (call,) = event_deliveries(EVENTS[0].as_dict(), records()[0], private, Receivers(url=GLOBAL))
    assert call.url == GLOBAL
    assert {one.url for one in session("completed", seq=8, url=GLOBAL)} == {OWN}


def test_the_configured_receiver_hears_both_of_a_session_in_order() -> None:
    (call,) = event_deliveries(EVENTS[7].as_dict(), records()[7], SESSION, Receivers(url=GLOBAL))
    started, over = session("completed", seq=8, own="", url=GLOBAL)
    assert started.url == call.url == over.url == GLOBAL
    assert started.seq < call.seq < over.seq


def test_a_web_call_is_a_call_and_no_session() -> None:
    private = {"session": {"kind": "web_call"}, "webhook_url": OWN}
    (call,) = event_deliveries(EVENTS[0].as_dict(), records()[0], private, Receivers())
    assert (call.url, call.event) == (OWN, "call.ringing")
    assert session_deliveries(records()[0], private, Receivers(url=GLOBAL), session={}) == []
