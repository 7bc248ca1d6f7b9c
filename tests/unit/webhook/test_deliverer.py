"""The deliverer against a real receiver: order, retries, crashes, dead and slow receivers."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
import trustme
from aiohttp import web

from bridge.store.deliveries import Delivery
from bridge.store.store import Store
from bridge.store.tables import outbox
from bridge.store.upsert import insert_new
from bridge.store.writing import _waiting
from bridge.webhook.deliverer import Deliverer, Rhythm
from bridge.webhook.outbox import Outbox
from bridge.webhook.retry import State
from bridge.webhook.sender import Settings
from tests.unit.webhook.receiver import SECRET, Heard, raw_server, receiving

pytestmark = pytest.mark.unit

FAST = Rhythm(poll=0.05, gap=0.005, timeout=2.0, backlog=0.05)


@asynccontextmanager
async def delivering(
    store: Store,
    *,
    rhythm: Rhythm = FAST,
    allow_private: bool = True,
    chance: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Deliverer]:
    deliverer = Deliverer(
        Outbox(store),
        Settings(secret=SECRET, allow_private=allow_private, user_agent="trunkbridge/test"),
        rhythm=rhythm,
        chance=chance,
    )
    deliverer.start()
    try:
        yield deliverer
    finally:
        await asyncio.to_thread(deliverer.stop)


def some(url: str, count: int = 1, *, call: str | None = None, first: int = 1) -> list[Delivery]:
    """Deliveries of the first events of a call."""
    call_id = call or str(uuid.uuid4())
    return [
        Delivery(
            id=str(uuid.uuid5(uuid.UUID(call_id), f"{seq} {url}")),
            seq=seq * 4,
            call_id=call_id,
            event="call.dtmf",
            url=url,
            receiver=url.rpartition("/")[0],
            body=json.dumps({"call_id": call_id, "seq": seq, "note": "größe"}),
        )
        for seq in range(first, first + count)
    ]


def put(store: Store, deliveries: list[Delivery], *, now: float | None = None) -> None:
    """Do what the projection does."""
    at = time.time() if now is None else now
    with store.writing() as connection:
        insert_new(connection, outbox, [_waiting(one, at) for one in deliveries], key=("id",))


def rows(store: Store, call_id: str) -> list[Any]:
    return list(Outbox(store).of_call(call_id))


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Look until *true*; what is looked at is another thread's."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - another thread and a database, they tell nobody
            await asyncio.sleep(0.01)


def states(store: Store, call_id: str) -> list[str]:
    return [row["state"] for row in rows(store, call_id)]


async def test_a_delivery_is_a_signed_post_of_its_body(store: Store) -> None:
    async with receiving() as receiver:
        (sent,) = some(receiver.url + "?tenant=7")
        async with delivering(store) as deliverer:
            put(store, [sent])
            deliverer.wake()
            await receiver.until(lambda heard: len(heard) == 1)
            await until(lambda: states(store, sent.call_id) == ["delivered"])
        (one,) = receiver.heard
        assert receiver.refused == 0
        assert one.raw == sent.body.encode()
        assert one.path == "/hook?tenant=7"
        assert one.delivery == sent.id
        assert one.headers["X-Trunkbridge-Event"] == "call.dtmf"
        assert one.headers["Content-Type"] == "application/json"
        assert one.headers["User-Agent"] == "trunkbridge/test"
        assert rows(store, sent.call_id)[0]["attempts"] == 1
        assert deliverer.tally.delivered == 1


async def test_calls_come_in_order_although_attempts_fail(store: Store) -> None:
    async def every_third_works(heard: Heard) -> web.Response | None:
        return None if heard.nth % 3 == 0 else web.Response(status=500)

    async with receiving(every_third_works) as receiver:
        calls = [some(receiver.url, 6) for _ in range(5)]
        async with delivering(store) as deliverer:
            for nth in range(6):
                put(store, [call[nth] for call in calls])
                deliverer.wake()
            await until(lambda: deliverer.tally.delivered == 30, 20)
        for call in calls:
            told = [h.body["seq"] for h in receiver.heard if h.body["call_id"] == call[0].call_id]
            assert told == [seq for seq in range(1, 7) for _ in range(3)]
            assert states(store, call[0].call_id) == ["delivered"] * 6


async def test_what_was_sent_but_not_marked_is_sent_again_with_the_same_id(
    store: Store,
) -> None:
    async with receiving() as receiver:
        (sent,) = some(receiver.url)
        put(store, [sent])
        crashed = Outbox(store)
        (claimed,) = crashed.claim([sent.id], time.time())  # sent, and then kill -9
        assert claimed.id == sent.id
        async with delivering(store):
            await receiver.until(lambda heard: len(heard) == 1)
            await until(lambda: states(store, sent.call_id) == ["delivered"])
        assert [h.delivery for h in receiver.heard] == [sent.id]


async def test_what_another_instance_has_claimed_is_left_to_it_until_its_lease_ends(
    store: Store, other_store: Store
) -> None:
    async with receiving() as receiver:
        (sent,) = some(receiver.url)
        (other,) = some(receiver.url)
        put(store, [sent, other])
        now = time.time()
        assert Outbox(other_store).claim([sent.id], now)
        assert Outbox(store).claim([sent.id], now) == []
        async with delivering(store):
            await until(lambda: states(store, other.call_id) == ["delivered"])
            assert [h.delivery for h in receiver.heard] == [other.id]
        with store.writing() as connection:
            connection.execute(sa.text("update outbox set claimed_until = 1"))
        async with delivering(store):
            await until(lambda: states(store, sent.call_id) == ["delivered"])


async def test_a_dead_letter_lets_the_next_event_of_its_call_pass(store: Store) -> None:
    async def refuses_the_first(heard: Heard) -> web.Response | None:
        return web.Response(status=410) if heard.body["seq"] == 1 else None

    async with receiving(refuses_the_first) as receiver:
        sent = some(receiver.url, 2)
        put(store, sent)
        async with delivering(store) as deliverer:
            await until(lambda: states(store, sent[0].call_id) == ["dead", "delivered"])
            await until(lambda: deliverer.tally.backlog.dead == 1)
            assert (deliverer.tally.delivered, deliverer.tally.dead) == (1, 1)
        row = rows(store, sent[0].call_id)[0]
        assert (row["attempts"], row["last_status"]) == (1, 410)


async def test_what_failed_for_a_day_is_dead(store: Store) -> None:
    async def broken(_: Heard) -> web.Response:
        return web.Response(status=500)

    async with receiving(broken) as receiver:
        (sent,) = some(receiver.url)
        put(store, [sent], now=time.time() - 24 * 3600 - 1)
        async with delivering(store, chance=lambda: 0.001):
            await until(lambda: states(store, sent.call_id) == ["dead"])
        assert {h.delivery for h in receiver.heard} == {sent.id}
        assert len(receiver.heard) == 5  # late is no reason not to try


async def test_a_replay_sends_id_and_body_again(store: Store) -> None:
    async with receiving() as receiver:
        sent = some(receiver.url, 3)
        put(store, sent)
        outbox = Outbox(store)
        async with delivering(store) as deliverer:
            await until(lambda: deliverer.tally.delivered == 3)
            assert outbox.replay(sent[0].id, time.time())
            deliverer.wake()
            await until(lambda: deliverer.tally.delivered == 4)
        assert receiver.heard[3].delivery == sent[0].id
        assert receiver.heard[3].raw == receiver.heard[0].raw
        assert not outbox.replay(str(uuid.uuid4()), time.time())


async def test_a_dead_letter_can_be_replayed(store: Store) -> None:
    gone = True

    async def answer(_: Heard) -> web.Response | None:
        return web.Response(status=410) if gone else None

    async with receiving(answer) as receiver:
        (sent,) = some(receiver.url)
        put(store, [sent])
        async with delivering(store):
            await until(lambda: states(store, sent.call_id) == ["dead"])
            gone = False
            assert Outbox(store).replay(sent.id, time.time())
            await until(lambda: states(store, sent.call_id) == ["delivered"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_nobody_follows_it(store: Store, status: int) -> None:
    async with receiving() as target:

        async def elsewhere(_: Heard) -> web.Response:
            return web.Response(status=status, headers={"Location": target.url})

        async with receiving(elsewhere) as receiver:
            (sent,) = some(receiver.url)
            put(store, [sent])
            async with delivering(store):
                await receiver.until(lambda heard: len(heard) >= 2)
            assert target.heard == []
            row = rows(store, sent.call_id)[0]
            assert (row["state"], row["last_status"]) == ("waiting", status)


async def test_a_receiver_that_asks_for_time_gets_it(store: Store) -> None:
    async def busy(heard: Heard) -> web.Response | None:
        return web.Response(status=429, headers={"Retry-After": "1"}) if heard.nth == 1 else None

    async with receiving(busy) as receiver:
        (first,), (second,) = some(receiver.url), some(receiver.url)
        async with delivering(store) as deliverer:
            put(store, [first])
            await receiver.until(lambda heard: len(heard) == 1)
            await until(lambda: deliverer.tally.failed == 1)
            put(store, [second])  # of another call: the receiver is left alone all the same
            await until(lambda: deliverer.tally.delivered == 1, 10)
        assert receiver.heard[1].at - receiver.heard[0].at >= 0.95


async def test_a_receiver_that_drips_its_answer_is_cut_off(store: Store) -> None:
    dripping = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Slow: yes\r\n")
            await writer.drain()
            dripping.set()
            await asyncio.sleep(0.05)

    async with raw_server(drip) as url, receiving() as alive:
        (slow,) = some(url)
        put(store, [slow])
        rhythm = Rhythm(poll=0.05, gap=0.005, timeout=0.5)
        async with delivering(store, rhythm=rhythm) as deliverer:
            await asyncio.wait_for(dripping.wait(), 20)
            (other,) = some(alive.url)
            put(store, [other])
            await until(lambda: states(store, other.call_id) == ["delivered"])
            await until(lambda: rows(store, slow.call_id)[0]["attempts"] >= 1)
            assert deliverer.tally.failed >= 1
        assert rows(store, slow.call_id)[0]["last_error"] == "timeout"


async def test_an_endless_body_after_a_status_is_not_read(store: Store) -> None:
    written = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with raw_server(endless) as url:
        (sent,) = some(url)
        put(store, [sent])
        async with delivering(store):
            await until(lambda: states(store, sent.call_id) == ["delivered"])
    assert written < 32 * 1024 * 1024


async def test_a_hundred_dead_receivers_delay_a_living_one_by_nothing(store: Store) -> None:
    held = 0

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal held
        held += 1
        while await reader.read(4096):
            pass  # takes the request and never answers

    async with AsyncExitStack() as dead, receiving() as alive:
        urls = [await dead.enter_async_context(raw_server(silent)) for _ in range(100)]
        rhythm = Rhythm(poll=0.05, gap=0.005, timeout=30.0)
        async with delivering(store, rhythm=rhythm) as deliverer:
            # Of each two calls with three events.
            put(store, [one for url in urls for one in some(url, 3) + some(url, 3)])
            deliverer.wake()
            await until(lambda: held == 100, 10)
            sent = some(alive.url, 5)
            put(store, sent)
            deliverer.wake()
            # Long before the first of the silent ones is given up.
            await until(lambda: states(store, sent[0].call_id) == ["delivered"] * 5)
        assert held == 100  # none of them has got a second connection for its second call


async def test_two_instances_share_one_outbox_and_send_nothing_twice(
    store: Store, other_store: Store
) -> None:
    async with receiving() as receiver:
        calls = [some(receiver.url, 4) for _ in range(25)]
        async with delivering(store) as one, delivering(other_store) as two:
            for nth in range(4):
                put(store, [call[nth] for call in calls])
            await until(lambda: one.tally.delivered + two.tally.delivered == 100, 20)
        assert len({h.delivery for h in receiver.heard}) == len(receiver.heard) == 100
        for call in calls:
            told = [h.body["seq"] for h in receiver.heard if h.body["call_id"] == call[0].call_id]
            assert told == [1, 2, 3, 4]


async def test_a_private_address_is_refused_when_it_is_connected_to(store: Store) -> None:
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        (literal,) = some(receiver.url)
        (name,) = some(f"http://localhost.localdomain:{port}")
        put(store, [literal, name])
        async with delivering(store, allow_private=False):
            await until(lambda: states(store, literal.call_id) == ["dead"])
            await until(lambda: states(store, name.call_id) == ["dead"])
        assert receiver.heard == []
        assert rows(store, literal.call_id)[0]["last_error"] == "address refused"


async def test_a_name_that_means_a_private_address_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        port = int(receiver.url.rpartition(":")[2].partition("/")[0])
        answer = [(2, 1, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr("bridge.webhook.sender.socket.getaddrinfo", lambda *_, **__: answer)
        (sent,) = some(f"http://rebound.example.com:{port}/hook")
        put(store, [sent])
        async with delivering(store, allow_private=False):
            await until(lambda: rows(store, sent.call_id)[0]["attempts"] >= 2)
        row = rows(store, sent.call_id)[0]
        assert (row["state"], row["last_error"]) == (State.WAITING, "address refused")
        assert receiver.heard == []
        async with delivering(store, allow_private=True):
            await until(lambda: states(store, sent.call_id) == ["delivered"])
        assert receiver.heard[0].headers["Host"] == f"rebound.example.com:{port}"


async def test_a_certificate_that_nobody_vouches_for_is_refused_and_names_the_host(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com").configure_cert(context)
    context.sni_callback = lambda _, name, __: names.append(name)

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    answer = [(2, 1, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr("bridge.webhook.sender.socket.getaddrinfo", lambda *_, **__: answer)
    async with server:
        (sent,) = some(f"https://hooks.example.com:{port}/hook")
        put(store, [sent])
        async with delivering(store):
            await until(lambda: rows(store, sent.call_id)[0]["attempts"] >= 1)
    assert rows(store, sent.call_id)[0]["last_error"] == "certificate refused"
    assert names[0] == "hooks.example.com"


async def test_without_a_database_nothing_is_lost(store: Store) -> None:
    async with receiving() as receiver:
        sent = some(receiver.url, 3)
        put(store, sent[:1])
        async with delivering(store) as deliverer:
            await until(lambda: deliverer.tally.delivered == 1)
            await until(lambda: states(store, sent[0].call_id) == ["delivered"])
            with store.writing() as connection:
                connection.execute(sa.text("alter table outbox rename to away"))
            await asyncio.sleep(0.2)
            with store.writing() as connection:
                connection.execute(sa.text("alter table away rename to outbox"))
            put(store, sent[1:])
            await until(lambda: deliverer.tally.delivered == 3)
        assert len(receiver.heard) == 3
