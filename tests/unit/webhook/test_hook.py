"""From the journal to the outbox: what the projection has made of events and of sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.errors import BridgeError
from bridge.journal.journal import Journal
from bridge.sessions.shape import session_shape
from bridge.store.project import Projection
from bridge.store.store import Store, transcript_of
from bridge.store.tables import cursors, outbox
from bridge.webhook.delivery import Receivers
from bridge.webhook.hook import Hook
from bridge.webhook.outbox import Outbox
from tests.unit.store.making import AT, entry, event, record

pytestmark = pytest.mark.unit

PATIENCE = 20.0
URL = "https://app.example.com/hooks"
OWN = "https://tenant.example.com/mine"
VOICE: dict[str, Any] = {
    "session": {"kind": "voice_session", "bot_id": None, "config": {"voice": "shubh"}},
    "webhook_url": OWN,
}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", instance="one")
    yield opened
    await asyncio.to_thread(opened.close)


def hook_of(journal: Journal, store: Store, *, url: str = URL, **more: Any) -> Hook:
    def session(connection: sa.Connection, record: Any, private: Any) -> dict[str, Any]:
        lines = transcript_of(connection, record["id"])
        return session_shape(record, private, turn_count=len(lines))

    wanted = {
        "events_of": journal.events,
        "report": lambda call_id: store.reports([call_id]).get(call_id),
        "session": session,
        "clock": lambda: AT + 60,
        **more,
    }
    return Hook(Receivers(url=url), **wanted)


@asynccontextmanager
async def projected(journal: Journal, store: Store, hook: Hook, **more: Any) -> AsyncIterator[None]:
    """Bring what is in the journal into the store."""
    projection = Projection(
        journal, store, deliveries=hook.of_event, session_deliveries=hook.of_session, **more
    )
    projection.start()
    try:
        assert await projection.caught_up(PATIENCE)
        yield
    finally:
        await asyncio.to_thread(projection.stop)


def told(store: Store, call_id: str) -> list[tuple[str, str]]:
    return [(row["event"], row["url"]) for row in Outbox(store).of_call(call_id)]


def bodies(store: Store, call_id: str) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in Outbox(store).of_call(call_id)]


LIFE = (
    entry("c1", tenant_id="tenant-a"),
    entry("c1", 1, tenant_id="tenant-a", status="connecting"),
    entry(
        "c1", 2, name="call_hold", tenant_id="tenant-a", status="active", hold=True, started_at="x"
    ),
    entry("c1", 3, name="call_ended", tenant_id="tenant-a", ended=True, hold=False),
)


async def test_each_event_has_its_delivery_with_the_record_as_it_was(
    journal: Journal, store: Store
) -> None:
    await journal.append(LIFE)  # all at once: the projection sees the newest record only
    async with projected(journal, store, hook_of(journal, store)):
        assert told(store, "c1") == [
            ("call.ringing", URL),
            ("call.hold", URL),
            ("call.ended", URL),
        ]
        ringing, held, ended = bodies(store, "c1")
        assert [b["call"]["status"] for b in (ringing, ended)] == ["connecting", "completed"]
        assert [b["call"]["hold"] for b in (ringing, held, ended)] == [False, True, False]
        assert [b["call"]["seq"] for b in (ringing, held, ended)] == [1, 2, 3]
        row = Outbox(store).of_call("c1")[0]
        assert (row["tenant_id"], row["receiver"]) == ("tenant-a", "https://app.example.com:443")
        assert row["give_up_at"] - row["created_at"] == 24 * 3600
        assert Outbox(store).backlog(AT).waiting == 3


async def test_a_journal_that_is_read_again_makes_no_second_delivery(
    journal: Journal, store: Store
) -> None:
    await journal.append(LIFE)
    async with projected(journal, store, hook_of(journal, store)):
        before = Outbox(store).of_call("c1")
    with store.writing() as connection:
        connection.execute(cursors.delete())
    async with projected(journal, store, hook_of(journal, store)):
        assert Outbox(store).of_call("c1") == before
    with store.writing() as connection:
        connection.execute(cursors.delete())
        connection.execute(sa.text("delete from events"))
    async with projected(journal, store, hook_of(journal, store)):
        assert [row["id"] for row in Outbox(store).of_call("c1")] == [row["id"] for row in before]


async def test_what_is_long_over_is_not_told_any_more(journal: Journal, store: Store) -> None:
    await journal.append([*LIFE, entry("s1", 1, ended=True, private=VOICE, call_type="voip")])
    late = hook_of(journal, store, clock=lambda: AT + 24 * 3600 + 60)
    async with projected(journal, store, late):
        assert told(store, "c1") == told(store, "s1") == []


async def test_the_projection_says_when_there_is_something_to_send(
    journal: Journal, store: Store
) -> None:
    made: list[int] = []
    hook = hook_of(journal, store)
    await journal.append(LIFE)
    async with projected(journal, store, hook, wrote=lambda: made.append(hook.made)):
        assert made[-1] == 3


async def test_without_a_receiver_nothing_is_made(journal: Journal, store: Store) -> None:
    await journal.append(LIFE)
    async with projected(journal, store, hook_of(journal, store, url="")):
        assert told(store, "c1") == []


async def test_masked_numbers_are_masked_in_bodies(journal: Journal, store: Store) -> None:
    await journal.append([entry("c1", 1)])
    async with projected(journal, store, hook_of(journal, store, mask_numbers=True)):
        (body,) = bodies(store, "c1")
        assert body["call"]["phone_number"].endswith("**10")
        assert "919876543210" not in json.dumps(body)


async def test_what_agents_have_reported_is_in_the_resource(journal: Journal, store: Store) -> None:
    await journal.append([entry("c1", 1)])
    await journal.note("c1", "report", {"metrics": {"stt_latency_ms": 5}})
    async with projected(journal, store, hook_of(journal, store)):
        pass
    await journal.append([entry("c1", 2, name="call_ended", ended=True)])
    async with projected(journal, store, hook_of(journal, store)):
        assert bodies(store, "c1")[1]["call"]["metrics"]["stt_latency_ms"] == 5


def test_a_journal_that_cannot_be_read_costs_a_detail_and_no_delivery(
    tmp_path: Path,
) -> None:
    def broken(_: str) -> Any:
        raise BridgeError("the disk")

    hook = Hook(
        Receivers(url=URL),
        events_of=broken,
        report=broken,
        session=lambda *_: {},
        clock=lambda: AT,
    )
    (made,) = hook.of_event(event("c1", 1), record("c1", seq=9), {})
    assert json.loads(made.body)["call"]["seq"] == 1
    assert hook.of_event({"event": "x"}, record("c1"), {}) == []


# Sessions.


async def test_a_session_is_told_of_by_its_record_alone(journal: Journal, store: Store) -> None:
    await journal.append([entry("s1", private=VOICE, call_type="voip")])
    async with projected(journal, store, hook_of(journal, store)):
        assert told(store, "s1") == [("voice_session.started", OWN)]
    await journal.append([entry("s1", 1, name="call_answered", private=VOICE, status="active")])
    await journal.note("s1", "transcript", {"speaker": "USER", "content": "hello", "at": AT})
    await journal.append([entry("s1", 2, name="call_ended", private=VOICE, ended=True)])
    async with projected(journal, store, hook_of(journal, store)):
        assert [kind for kind, url in told(store, "s1") if url == OWN] == [
            "voice_session.started",
            "voice_session.ended",
        ]
        assert [kind for kind, url in told(store, "s1") if url == URL] == [
            "call.answered",
            "call.ended",
        ]
        ended = next(b for b in bodies(store, "s1") if b["type"] == "voice_session.ended")
        # The line that came in the same batch as the end is counted.
        assert ended["session"]["turn_count"] == 1
        assert ended["session"]["status"] == "completed"
        assert ended["session"]["config"]["voice"] == "shubh"


async def test_a_change_after_the_end_tells_nothing_again(journal: Journal, store: Store) -> None:
    await journal.append([entry("s1", 1, ended=True, private=VOICE)])
    async with projected(journal, store, hook_of(journal, store, url="")):
        before = Outbox(store).of_call("s1")
        assert len(before) == 2
    await journal.append([entry("s1", ended=True, private=VOICE, metrics={"late": 1})])
    async with projected(journal, store, hook_of(journal, store, url="")):
        assert Outbox(store).of_call("s1") == before


async def test_an_erased_session_is_told_of_no_more(journal: Journal, store: Store) -> None:
    await journal.append([entry("s1", 1, ended=True, private=VOICE)])
    async with projected(journal, store, hook_of(journal, store)):
        assert len(told(store, "s1")) == 3
        assert store.erase("s1")
        assert told(store, "s1") == []
    await journal.append([entry("s1", ended=True, private=VOICE, metrics={"late": 1})])
    async with projected(journal, store, hook_of(journal, store)):
        assert told(store, "s1") == []


async def test_what_was_delivered_long_ago_keeps_its_row_without_a_body(
    journal: Journal, store: Store
) -> None:
    await journal.append(LIFE)
    box = Outbox(store)
    async with projected(journal, store, hook_of(journal, store)):
        now = box.of_call("c1")[0]["created_at"]
        with store.writing() as connection:
            first = sa.update(outbox).where(outbox.c.seq == box.of_call("c1")[0]["seq"])
            connection.execute(first.values(state="delivered", finished_at=now))
        week = 7 * 24 * 3600
        assert box.prune(now + week - 1) == 0
        assert box.prune(now + week + 1) == 1
        row = box.of_call("c1")[0]
        assert (row["body"], row["url"]) == ("", "")
        assert box.find(row["id"]) is not None
        assert not box.replay(row["id"], now)
