"""Event streams: once each, in order, resumed by id, and never a reader who costs others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bridge import feed
from bridge.api.app import make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.api.door import Doors
from bridge.api.server import ApiServer
from bridge.api.stream import wants_stream
from bridge.events import CallDtmf, CallEnded, CallEvent
from bridge.feed import Feed
from bridge.journal.entries import JournalError
from tests.unit.api.door import CALL, KEY, UNKNOWN, FakeLog, FakeService, app_of, client_of
from trunkbridge import ApiError, Client, Event
from trunkbridge.sse import Message, Reader

pytestmark = pytest.mark.unit

OTHER = "6f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a12"
STREAM = {"Accept": "text/event-stream"}


def key(seq: int, call_id: str = CALL) -> CallDtmf:
    return CallDtmf(call_id=call_id, seq=seq, at=0.0, digit="1", duration_ms=100)


def end(seq: int, call_id: str = CALL) -> CallEnded:
    return CallEnded(
        call_id=call_id,
        seq=seq,
        at=0.0,
        outcome="completed",
        reason="normal",
        ended_by="caller",
        sip_status=None,
        q850=None,
        duration_ms=1,
    )


class House:
    """The real server, app and feed over a journal in memory."""

    def __init__(self, **options: Any) -> None:
        self.log = FakeLog()
        self.gatekeeper = Gatekeeper(())
        self.service = FakeService()
        self.feed = Feed(self.log, **options)
        self.url = ""

    def happen(self, *events: CallEvent) -> None:
        """Write *events* down and tell of them."""
        for event in events:
            self.log.write(event.as_dict())
            self.feed.tell(event)

    async def idle(self) -> None:
        """Wait until nobody reads."""
        async with asyncio.timeout(30):
            while self.feed.seats:  # noqa: ASYNC110 (another thread's state)
                await asyncio.sleep(0.01)

    async def read(self, seats: int) -> None:
        """Wait until *seats* readers are there."""
        async with asyncio.timeout(30):
            while self.feed.seats < seats:  # noqa: ASYNC110 (another thread's state)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def house(*, stalled_after: int = 30_000, **options: Any) -> AsyncIterator[House]:
    made = House(**options)
    doors = Doors(made.service, asyncio.get_running_loop())
    app = make_app(doors, made.gatekeeper, made.feed, version="0")
    server = ApiServer(app, "127.0.0.1", 0, stalled_after=stalled_after)
    await server.start()
    made.url = f"http://127.0.0.1:{server.address[1]}"
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        made.feed.close()
        await server.stop()


async def messages(response: httpx.Response) -> AsyncIterator[Message]:
    reader = Reader()
    async for data in response.aiter_bytes():
        for message in reader.feed(data):
            yield message


async def take(response: httpx.Response, count: int) -> list[Message]:
    """Return the next *count* messages with data, the rest of the connection unread."""
    found: list[Message] = []
    async for message in messages(response):
        if message.data:
            found.append(message)
        if len(found) >= count:
            break
    return found


async def test_a_stream_replays_what_there_is_and_goes_on_with_what_happens() -> None:
    async with house() as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        bridge.happen(key(1), key(1, OTHER), key(2))
        async with http.stream("GET", f"/api/v1/calls/{CALL}/events", headers=STREAM) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            await bridge.read(1)
            bridge.happen(key(2, OTHER), key(3), end(4))
            found = [m async for m in messages(answer)]
        assert [(m.id, m.event) for m in found] == [
            ("0", "message"),
            ("1", "call_dtmf"),
            ("2", "call_dtmf"),
            ("3", "call_dtmf"),
            ("4", "call_ended"),
        ]
        assert json.loads(found[1].data) == key(1).as_dict()
        await bridge.idle()


@pytest.mark.parametrize("way", ["header", "query", "both"])
async def test_a_stream_is_resumed_by_header_or_query_and_the_header_wins(way: str) -> None:
    async with house() as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        bridge.happen(key(1), key(2), key(3), key(4), end(5))
        headers = {**STREAM, **({"Last-Event-ID": "3"} if way != "query" else {})}
        query = {"header": "", "query": "?last_event_id=3", "both": "?last_event_id=1"}[way]
        for path in (f"/api/v1/calls/{CALL}/events{query}", f"/api/v1/events{query}"):
            async with http.stream("GET", path, headers=headers) as answer:
                found = await take(answer, 2)
            assert [m.id for m in found] == ["4", "5"]


async def test_all_calls_are_one_stream_by_position_from_the_first_or_from_now_on() -> None:
    async with house() as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        bridge.happen(key(1), key(1, OTHER))
        everything = http.stream("GET", "/api/v1/events", headers=STREAM)
        latest = http.stream("GET", "/api/v1/events?last_event_id=latest", headers=STREAM)
        async with everything as first, latest as second:
            await bridge.read(2)
            bridge.happen(end(2, OTHER), end(2))
            one, two = await take(first, 4), await take(second, 2)
        told = [(m.id, json.loads(m.data)["call_id"], json.loads(m.data)["seq"]) for m in one]
        assert told == [("1", CALL, 1), ("2", OTHER, 1), ("3", OTHER, 2), ("4", CALL, 2)]
        assert [m.id for m in two] == ["3", "4"]
        await bridge.idle()


async def test_a_stream_says_where_it_stands_before_anything_happens() -> None:
    async with house() as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        bridge.happen(key(1), key(2))
        path = "/api/v1/events?last_event_id=latest"
        async with http.stream("GET", path, headers=STREAM) as answer:
            first = await anext(aiter(messages(answer)))
        assert (first.id, first.data) == ("2", "")


async def test_nothing_is_missed_or_doubled_while_a_thousand_events_come() -> None:
    count = 1000
    async with house() as bridge, Client(bridge.url) as client:

        async def watch(after: int | None) -> list[int]:
            seen = []
            async for event in client.events(after=after):
                seen.append(event.id)
                if event.id == count:
                    break
            return seen

        async def happen() -> None:
            for seq in range(1, count + 1):
                bridge.happen(key(seq) if seq < count else end(seq))
                if seq % 50 == 0:
                    await asyncio.sleep(0)

        bridge.happen()
        readers = [asyncio.create_task(watch(0)) for _ in range(3)]
        await bridge.read(2)
        await happen()
        of_call = [event.seq async for event in client.call(CALL).events()]
        results = await asyncio.gather(*readers)
        assert results == [list(range(1, count + 1))] * 3
        assert of_call == list(range(1, count + 1))
        await bridge.idle()


async def test_readers_share_what_is_read() -> None:
    async with house() as bridge, Client(bridge.url) as client:

        async def watch() -> None:
            async for event in client.events(after=0):
                if event.name == "call_ended":
                    return

        readers = [asyncio.create_task(watch()) for _ in range(10)]
        await bridge.read(10)
        await asyncio.sleep(0.2)  # let them come to rest: what follows is live
        before = bridge.log.reads
        for seq in range(1, 21):
            bridge.happen(key(seq) if seq < 20 else end(seq))
            await asyncio.sleep(0.005)
        await asyncio.gather(*readers)
        assert bridge.log.reads - before < 20 * 2 + 10 * 2


async def test_an_event_that_is_told_before_it_is_written_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "_POLL", 600.0)  # so that it cannot be what brings the event
    async with house() as bridge, Client(bridge.url) as client:
        stream = client.events(after=0)
        bridge.happen(key(1))
        assert (await anext(stream)).id == 1
        bridge.feed.tell(key(2))
        await asyncio.sleep(0.03)
        bridge.log.write(key(2).as_dict())
        async with asyncio.timeout(30):
            assert (await anext(stream)).id == 2
        await stream.aclose()


async def test_an_event_that_nobody_told_of_comes_by_itself() -> None:
    async with house() as bridge, Client(bridge.url) as client:
        stream = client.events(after=0)
        bridge.happen(key(1))
        await anext(stream)
        bridge.log.write(key(2).as_dict())
        async with asyncio.timeout(30):
            assert (await anext(stream)).id == 2
        await stream.aclose()


async def test_a_quiet_stream_says_that_it_is_alive() -> None:
    async with (
        house(keep_alive=0.05) as bridge,
        httpx.AsyncClient(base_url=bridge.url) as http,
        http.stream("GET", f"/api/v1/calls/{CALL}/events", headers=STREAM) as answer,
    ):
        text = ""
        async for data in answer.aiter_text():
            text += data
            if text.count(": ping") >= 2:
                break


async def test_a_reader_that_reads_nothing_is_closed_and_delays_nobody() -> None:
    async with house(stalled_after=500) as bridge, Client(bridge.url) as client:
        host, _, port = bridge.url.removeprefix("http://").partition(":")
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect((host, int(port)))
            stalled.sendall(
                b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Accept: text/event-stream\r\n\r\n"
            )
            await bridge.read(1)
            for _ in range(100):
                first = len(bridge.log.rows) + 1
                bridge.happen(*(key(seq) for seq in range(first, first + 500)))
                await asyncio.sleep(0)
            total = len(bridge.log.rows)
            bridge.happen(end(total + 1))
            seen = 0
            async with asyncio.timeout(8):
                async for event in client.events(after=total - 100):
                    seen += 1
                    if event.name == "call_ended":
                        break
            assert seen == 101
            await bridge.idle()


async def test_streams_over_the_limit_are_503_and_a_place_is_given_back() -> None:
    async with house(readers=1) as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        async with http.stream("GET", "/api/v1/events", headers=STREAM):
            await bridge.read(1)
            refused = await http.get("/api/v1/events", headers=STREAM)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert refused.headers["content-type"] == "application/problem+json"
            assert (await http.get("/api/v1/events")).status_code == 200
        await bridge.idle()
        async with http.stream("GET", "/api/v1/events", headers=STREAM) as again:
            assert again.status_code == 200


async def test_the_end_of_the_daemon_ends_streams_with_everything_said() -> None:
    async with house() as bridge, httpx.AsyncClient(base_url=bridge.url) as http:
        async with (
            http.stream("GET", "/api/v1/events", headers=STREAM) as all_calls,
            http.stream("GET", f"/api/v1/calls/{CALL}/events", headers=STREAM) as one,
        ):
            await bridge.read(2)
            bridge.happen(key(1))
            bridge.feed.close()
            async with asyncio.timeout(30):
                assert [m.id async for m in messages(all_calls) if m.data] == ["1"]
                assert [m.id async for m in messages(one) if m.data] == ["1"]
        assert (await http.get("/api/v1/events", headers=STREAM)).status_code == 503


async def test_a_stream_ends_when_its_key_is_taken_away() -> None:
    async with house() as bridge, Client(bridge.url, KEY.secret) as client:
        bridge.gatekeeper.replace_keys([KEY])
        stream = client.events(after=0)
        bridge.happen(key(1))
        assert (await anext(stream)).id == 1
        bridge.gatekeeper.replace_keys([ApiKey(name="other", secret="other")])
        bridge.happen(key(2))
        with pytest.raises(ApiError) as refused:
            await anext(stream)
        assert refused.value.status == 401
        await bridge.idle()


async def test_a_call_that_was_seen_to_its_end_is_204() -> None:
    async with house() as bridge, Client(bridge.url) as client:
        bridge.happen(key(1), end(2))
        bridge.service.call.update(ended_at="2026-11-21T10:30:07.250Z", seq=2)
        assert [event.seq async for event in client.call(CALL).events(after=1)] == [2]
        assert [event.seq async for event in client.call(CALL).events(after=2)] == []


async def test_an_id_of_another_journal_begins_at_the_first() -> None:
    async with house() as bridge, Client(bridge.url) as client:
        bridge.happen(key(1))
        stream = client.events(after=1000)
        assert (await anext(stream)).id == 1
        await stream.aclose()


@pytest.mark.parametrize("given", ["-1", "x", "1.5", "9" * 30, "١", "now"])
async def test_what_is_no_id_is_422(given: str) -> None:
    async with client_of(FakeService()) as client:
        for path in ("/api/v1/events", f"/api/v1/calls/{CALL}/events"):
            answer = await client.get(path, params={"last_event_id": given}, headers=STREAM)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["field"] == "last_event_id"
            # A header that counts makes it no better.
            header = {"Last-Event-ID": "latest" if path.endswith("v1/events") else "1"}
            answer = await client.get(path, params={"last_event_id": given}, headers=header)
            assert answer.status_code == 422


async def test_an_unknown_call_has_no_stream() -> None:
    async with client_of(FakeService()) as client:
        answer = await client.get(f"/api/v1/calls/{UNKNOWN}/events", headers=STREAM)
    assert answer.status_code == 404


async def test_without_the_header_all_events_are_pages_of_json() -> None:
    log = FakeLog()
    for seq in range(1, 6):
        log.write(key(seq).as_dict(), position=seq * 10)
    async with client_of(FakeService(), log=log) as client:
        first = await client.get("/api/v1/events?limit=3")
        second = await client.get(first.links["next"]["url"])
        nothing = await client.get(
            "/api/v1/events", headers={"Last-Event-ID": second.headers["last-event-id"]}
        )
        large = await client.get("/api/v1/events?limit=1001")
    assert [event["seq"] for event in first.json()] == [1, 2, 3]
    assert [event["seq"] for event in second.json()] == [4, 5]
    assert (first.headers["last-event-id"], second.headers["last-event-id"]) == ("30", "50")
    assert "next" not in second.links
    assert (nothing.json(), nothing.headers["last-event-id"]) == ([], "50")
    assert large.status_code == 422


async def test_a_journal_that_cannot_be_read_is_503() -> None:
    log = FakeLog()
    log.failure = JournalError("broken")
    async with client_of(FakeService(), log=log) as client:
        assert (await client.get("/api/v1/events")).status_code == 503


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("text/event-stream, */*", True),
        ("Text/Event-Stream;q=0.9", True),
        ("application/json, text/event-stream", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
    ],
)
def test_only_who_asks_for_a_stream_gets_one(accept: str, wanted: bool) -> None:
    assert wants_stream(accept) is wanted


# The client.


class Broken:
    """A server that cuts every connection after so many messages, and refuses now and then."""

    def __init__(self, total: int, each: int) -> None:
        self.total, self.each = total, each
        self.asked: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("Last-Event-ID", ""))
        if len(self.asked) % 3 == 0:
            return httpx.Response(503, json={"detail": "starting"})
        after = int(self.asked[-1])
        text = f"id: {after}\n\n"
        for seq in range(after + 1, min(after + self.each, self.total) + 1):
            event = key(seq) if seq < self.total else end(seq)
            body = json.dumps(event.as_dict())
            text += f"event: {event.name}\ndata: {body}\nid: {seq}\n\n"
        text += 'event: call_dtmf\ndata: {"half'
        return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


async def test_the_client_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkbridge.client._BACKOFF", (0.0, 0.0))
    server = Broken(total=10, each=3)
    async with Client("http://b", transport=httpx.MockTransport(server)) as client:
        seen = [event.seq async for event in client.call(CALL).events()]
    assert seen == list(range(1, 11))
    assert server.asked == ["0", "3", "6", "6", "9"]


async def test_the_client_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkbridge.client._BACKOFF", (0.0, 0.0))
    asked = 0

    async def gone(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            body = json.dumps(key(1).as_dict())
            headers = {"Content-Type": "text/event-stream"}
            return httpx.Response(200, text=f"data: {body}\nid: 1\n\n", headers=headers)
        raise httpx.ConnectError("refused")

    seen: list[Event] = []
    async with Client("http://b", transport=httpx.MockTransport(gone)) as client:

        async def watch() -> None:
            async for event in client.events(after=0, patience=0.05):
                seen.append(event)

        with pytest.raises(ApiError, match="refused"):
            await watch()
    assert len(seen) == 1
    assert asked > 2


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(401, json={"detail": "no"}), 401),
        (httpx.Response(503, json={"detail": "full"}), 503),
        (httpx.Response(200, json=[]), 200),
    ],
)
async def test_a_first_refusal_is_told_at_once(answer: httpx.Response, status: int) -> None:
    async def refuse(_: httpx.Request) -> httpx.Response:
        return answer

    async with Client("http://b", transport=httpx.MockTransport(refuse)) as client:
        with pytest.raises(ApiError) as refused:
            await anext(client.events())
    assert refused.value.status == status


async def test_a_daemon_that_drops_every_stream_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def drop(_: httpx.Request) -> httpx.Response:
        headers = {"Content-Type": "text/event-stream"}
        return httpx.Response(200, text="id: 7\nretry: 1000\n\n", headers=headers)

    monkeypatch.setattr("trunkbridge.client.asyncio.sleep", note)
    monkeypatch.setattr("trunkbridge.client.random.uniform", lambda _, high: high)
    async with Client("http://b", transport=httpx.MockTransport(drop)) as client:
        with pytest.raises(asyncio.CancelledError):
            await anext(client.events())
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_a_client_may_follow_any_number_of_calls_and_still_ask() -> None:
    log = FakeLog()
    log.write(key(1).as_dict())
    running = ApiServer(app_of(FakeService(), log=log), "127.0.0.1", 0)
    await running.start()
    host, port = running.address
    async with Client(f"http://{host}:{port}", timeout=1) as client:
        streams = [client.events(after=0) for _ in range(101)]
        for stream in streams:
            assert (await anext(stream)).seq == 1
        assert await client.ready()
        for stream in streams:
            await stream.aclose()
    await running.stop()
