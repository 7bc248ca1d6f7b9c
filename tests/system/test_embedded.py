"""`bridge.Bridge`: a daemon in the caller's own process and loop, with the client's verbs."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import httpx
import pytest

import bridge
from bridge.embedded import Bridge, Call
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    Server,
    free_port,
    media_ports,
    now_number,
    room_of,
    until,
)
from trunkbridge import ApiError, Client
from trunkbridge.client import Call as ClientCall

pytestmark = pytest.mark.system


def settings(server: Server, folder: Path, carrier_port: int, **more: Any) -> dict[str, Any]:
    """Return a configuration as plain data."""
    return {
        "livekit": {
            "url": server.url,
            "api_key": server.api_key,
            "api_secret": server.api_secret,
        },
        "sip": {"listen": ["tcp:127.0.0.1:0"], "advertise": "127.0.0.1"},
        "media": {"listen": "127.0.0.1", "ports": media_ports()},
        "store": {"url": f"sqlite:///{folder}/t.db", "journal": str(folder / "journal.db")},
        "trunk": [
            {
                "name": "carrier",
                "host": "127.0.0.1",
                "port": carrier_port,
                "allow": ["127.0.0.0/8"],
                "media_allow": ["127.0.0.0/8"],
                "caller_id": "+912240000000",
            }
        ],
        "route": [{"number": "*", "room": "in-{number}", "answer": "now"}],
        **more,
    }


async def test_a_call_is_dialled_followed_held_and_hung_up_without_http(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    given = settings(desk.server, tmp_path, carrier.port)
    async with bridge.Bridge(config=given) as one, asyncio.timeout(60):
        assert one.url is None
        assert await one.ready()
        agent = await desk.agent(room := desk.room())
        call = await one.dial("+919000000001", trunk="carrier", room=room)
        assert call.accepted["status"] == "pending"
        leg = await carrier.incoming()
        names = []

        async def follow() -> None:
            async for event in call.events():
                names.append(event.name)

        following = asyncio.create_task(follow())
        await leg.run(f"answer; talk; expect audio {AGENT_HERTZ} within 10s")
        assert leg.report.failed is None, leg.report.failed
        await agent.hears(CALLER_HERTZ)
        assert [found["id"] for found in await one.active()] == [call.id]
        await call.hold()
        with pytest.raises(ApiError) as again:
            await call.hold()
        assert again.value.status == 409
        await call.resume()
        await call.send_dtmf("12")
        await leg.run("expect dtmf 12 within 5s; hold sendonly; resume")
        assert leg.report.failed is None, leg.report.failed
        await call.hangup()
        await following
        assert names == ["call_answered", "call_hold", "call_resume", "call_ended"]
        assert [event.name for event in await call.history()] == names
        assert (await call.status())["outcome"] == "completed"
        first, *_ = await call.ladder()
        assert first["first_line"].startswith("INVITE sip:***@")
        assert [found["id"] for found in await one.calls()] == [call.id]
        assert await one.calls(status="failed") == []
        everything = one.events(after=0)
        assert [(await anext(everything)).name for _ in names] == names
        await everything.aclose()


async def test_drain_and_reload_and_refusals_are_the_clients(desk: Desk, tmp_path: Path) -> None:
    carrier = await desk.carrier()
    given = settings(desk.server, tmp_path, carrier.port)
    async with Bridge(given) as one:
        with pytest.raises(ApiError, match="phone_number") as bad:
            await one.dial("nobody", trunk="carrier")
        assert (bad.value.status, bad.value.problem["errors"][0]["field"]) == (422, "phone_number")
        with pytest.raises(ApiError) as unknown:
            await one.call("00000000-0000-4000-8000-000000000000").status()
        assert unknown.value.status == 404
        worse = {**given, "trunk": [{**given["trunk"][0], "port": 0}]}
        with pytest.raises(ApiError) as refused:
            await one.reload(worse)
        assert refused.value.problem["errors"][0]["field"] == "trunk[0].port"
        better = {**given, "trunk": [{**given["trunk"][0], "max_calls": 7}]}
        assert await one.reload(better) == {
            "changed": ["trunk[carrier].max_calls: 100 -> 7"],
            "restart": [],
        }
        assert await one.drain() == 0
        assert not await one.ready()
        with pytest.raises(ApiError) as draining:
            await one.dial("+919000000001", trunk="carrier")
        assert (draining.value.status, draining.value.retry_after) == (503, 5)


async def test_a_file_that_gives_an_address_serves_http_beside(desk: Desk, tmp_path: Path) -> None:
    carrier = await desk.carrier()
    given = settings(desk.server, tmp_path, carrier.port, http={"listen": "127.0.0.1:0"})
    async with Bridge(given) as one:
        assert one.url is not None
        async with Client(one.url) as client, httpx.AsyncClient(base_url=one.url) as http:
            assert (await http.get("/healthz")).status_code == 200
            everything = one.events()
            heard = asyncio.ensure_future(anext(everything))
            await asyncio.sleep(0)
            number = now_number()
            host = one.sip_addresses[0].removeprefix("tcp:")
            leg = await carrier.dial(f"sip:{number}@{host};transport=tcp", fresh=True)
            await leg.run("talk")
            assert leg.report.failed is None, leg.report.failed
            event = await heard
            assert event.call_id == (await client.calls())[0]["id"]
            assert (await one.call(event.call_id).status())["room_name"] == room_of(number)
            await client.call(event.call_id).hangup()
            await leg.run("expect hangup within 5s")
            await everything.aclose()


async def test_stopping_hangs_up_and_ends_whoever_reads(desk: Desk, tmp_path: Path) -> None:
    carrier = await desk.carrier()
    one = Bridge(settings(desk.server, tmp_path, carrier.port))
    await one.start()
    call = await one.dial("+919000000001", trunk="carrier")
    leg = await carrier.incoming()
    await leg.run("answer")

    async def read() -> list[str]:
        return [event.name async for event in one.events(after=0)]

    reader = asyncio.create_task(read())
    await until(lambda: one._following.seats == 1, "somebody reads")
    await one.stop()
    async with asyncio.timeout(2):
        assert (await reader)[-1] == "call_ended"
    await leg.run("expect hangup within 5s")
    assert leg.report.failed is None, leg.report.failed
    assert call.id


async def test_what_belongs_to_calls_and_sessions_is_there_without_http(
    desk: Desk, tmp_path: Path
) -> None:
    """Also with keys: who has the object needs none, and no plan limits it."""
    carrier = await desk.carrier()
    given = settings(
        desk.server,
        tmp_path,
        carrier.port,
        http={"key": [{"name": "app", "key": "secret", "plan": "free"}]},
        plan=[{"name": "enterprise", "sessions": 1, "creates_per_minute": 1}],
    )
    async with Bridge(given) as one, asyncio.timeout(60):
        call = await one.dial("+919000000001", trunk="carrier", user_id="u", idempotency_key="k")
        again = await one.dial("+919000000001", trunk="carrier", user_id="u", idempotency_key="k")
        assert again.accepted == call.accepted
        leg = await carrier.incoming()
        await leg.run("answer")
        room = call.accepted["room_name"]
        said = {"speaker": "USER", "content": "Hello"}
        assert await one.post_transcript(room, said) == {"stored": 1, "suppressed": 0}
        await one.post_metrics(
            room, {"metrics": {"total_tokens": 7}, "analysis": {"topics": ["x"]}}
        )
        with pytest.raises(ApiError) as runs:
            await call.erase()
        assert runs.value.status == 409
        await call.hangup()
        assert [event.name async for event in call.events()][-1] == "call_ended"
        assert (await call.transcript())[-1]["content"] == "Hello"
        assert (await call.metrics())["total_tokens"] == 7
        assert (await call.analysis())["topics"] == ["x"]
        assert (await call.cost())["usage"]["total_tokens"] == 7
        page = await one.page(user_id="u", status="completed")
        assert (page.total, [found["id"] for found in page.items]) == (1, [call.id])
        assert [found["id"] async for found in one.all_calls(call_type="sip")] == [call.id]
        web = await one.web_call(agent="helper")
        tried = await one.test_agent("helper")
        assert [found["id"] for found in await one.active(limit=5)] == [web.id, tried.id]
        session = await one.create_session(language="en-IN")
        assert session.created["ws_url"] == desk.server.url
        assert (await session.status())["status"] == "created"
        assert await session.transcript("txt") == ""
        await session.end()
        assert session.id in [found["id"] for found in await one.sessions(status="completed")]
        assert [trunk["name"] for trunk in await one.trunks()] == ["carrier"]
        with pytest.raises(ApiError) as unknown:
            await one.replay("00000000-0000-4000-8000-000000000000")
        assert unknown.value.status == 404
        await call.erase()
        assert (await call.status())["phone_number"] is None


def public(kind: type) -> set[str]:
    """Return the names of a class that users use."""
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_the_verbs_are_the_clients() -> None:
    assert public(Call) == public(ClientCall)
    assert public(Client) <= public(Bridge)
    for name in public(Client) & public(Bridge):
        theirs = inspect.signature(getattr(Client, name)).parameters
        ours = inspect.signature(getattr(Bridge, name)).parameters
        assert set(theirs) - {"patience"} <= set(ours), name


async def test_a_taken_address_is_an_error_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    port = free_port()
    given = settings(desk.server, tmp_path, 9)
    given["sip"]["listen"] = [f"tcp:127.0.0.1:{port}"]
    async with Bridge(given):
        other = tmp_path / "other"
        other.mkdir()
        second = settings(desk.server, other, 9)
        second["sip"]["listen"] = [f"tcp:127.0.0.1:{port}"]
        with pytest.raises(Exception, match=str(port)):
            await Bridge(second).start()
