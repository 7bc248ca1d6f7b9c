"""Messages, keys, RPCs and state over our own signalling, with stock SDK participants."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import trustme
from livekit import api, rtc

from bridge.room import convention
from bridge.room.seam import (
    DtmfRequested,
    RoomError,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RpcRefused,
)
from bridge.room.signal import socket as socket_module
from tests.system.room.kit import DEADLINE, Bench, Peer, Signal
from tests.system.room.native import Native
from tests.webrtc.relay import Relay

pytestmark = pytest.mark.system

PHONE = "sip-+911"
PAYLOAD_LIMIT = 15 * 1024


@pytest.fixture(params=["signal", "native"])
async def bench(livekit: Any, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Sessions on the tests' transports, and on our own."""
    kind = Signal() if request.param == "signal" else Native()
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, kind)
    await kind.finish()


aiortc_only = pytest.mark.parametrize("bench", ["signal"], indirect=True)
"""What loses datagrams: only the tests' transports can."""


@asynccontextmanager
async def relayed(bench: Bench, **options: Any) -> AsyncIterator[Relay]:
    """Have *bench* reach its server through a relay; the stock participants go there directly."""
    relay = Relay(bench.server.url, **options)
    url = await relay.start()
    direct = bench.spec
    bench.spec = lambda *args, **kwargs: replace(direct(*args, **kwargs), url=url)  # type: ignore[method-assign]
    try:
        yield relay
    finally:
        await relay.stop()


async def ask(peer: Peer, method: str, payload: str = "", timeout: float | None = None) -> str:
    return await peer.room.local_participant.perform_rpc(
        destination_identity=PHONE, method=method, payload=payload, response_timeout=timeout
    )


async def refusal(work: Awaitable[str]) -> tuple[int, str]:
    with pytest.raises(rtc.RpcError) as refused:
        await work
    return refused.value.code, refused.value.message


async def knows_phone(peer: Peer) -> None:
    await peer.until(lambda: PHONE in peer.room.remote_participants)


async def received(peer: Peer, count: int) -> list[bytes]:
    async with asyncio.timeout(DEADLINE):
        return [(await peer.data.get()).data for _ in range(count)]


async def count_of(notices: Any, kind: type[RoomNotice], count: int) -> None:
    """Return once *count* notices of a kind have come."""

    def enough(_notice: RoomNotice) -> bool:
        return sum(isinstance(one, kind) for one in notices.seen) >= count

    await notices.until(enough)


# RPC.


async def test_payloads_up_to_15_kb_go_both_ways_and_larger_answers_are_an_error(
    bench: Bench,
) -> None:
    async def echo(identity: str, kind: str, payload: str) -> str:
        return payload

    async def grow(identity: str, kind: str, payload: str) -> str:
        return payload + "x"

    peer = await bench.peer()
    await bench.joined({"echo": echo, "grow": grow})
    await knows_phone(peer)
    largest = "é" * (PAYLOAD_LIMIT // 2)
    assert await ask(peer, "echo", largest) == largest
    assert await ask(peer, "echo", "") == ""
    assert await refusal(ask(peer, "grow", largest)) == (1504, "Response payload too large")


async def test_an_unknown_method_and_a_refusal_are_told_as_the_sdks_tell_them(
    bench: Bench,
) -> None:
    async def refuse(identity: str, kind: str, payload: str) -> str:
        raise RpcRefused(1400, "not in this state: " + "é" * 300)

    peer = await bench.peer()
    await bench.joined({"refuse": refuse})
    await knows_phone(peer)
    assert await refusal(ask(peer, "nope")) == (1400, "Method not supported at destination")
    code, text = await refusal(ask(peer, "refuse"))
    assert code == 1400
    assert text.startswith("not in this state: é")
    assert 250 < len(text.encode()) <= 256


async def test_ten_requests_at_once_are_each_answered_their_own(bench: Bench) -> None:
    together = asyncio.Event()
    inside: list[str] = []

    async def meet(identity: str, kind: str, payload: str) -> str:
        inside.append(payload)
        if len(inside) == 10:
            together.set()
        await together.wait()  # none is answered before all are asked
        return f"{identity}:{payload}"

    peer = await bench.peer()
    await bench.joined({"meet": meet})
    await knows_phone(peer)
    async with asyncio.timeout(DEADLINE):
        answers = await asyncio.gather(*(ask(peer, "meet", str(n)) for n in range(10)))
    assert answers == [f"agent:{n}" for n in range(10)]
    assert sorted(inside, key=int) == [str(n) for n in range(10)]


async def test_a_request_that_takes_too_long_ends_for_its_caller_and_the_next_is_served(
    bench: Bench,
) -> None:
    never = asyncio.Event()

    async def slow(identity: str, kind: str, payload: str) -> str:
        await never.wait()
        return "late"

    async def quick(identity: str, kind: str, payload: str) -> str:
        return "quick"

    peer = await bench.peer()
    await bench.joined({"slow": slow, "quick": quick})
    await knows_phone(peer)
    assert (await refusal(ask(peer, "slow", timeout=1.0)))[0] == 1502
    assert await ask(peer, "quick") == "quick"
    never.set()
    assert await ask(peer, "quick") == "quick"


async def test_requests_of_many_callers_are_run_once_each_while_the_signalling_is_cut(
    bench: Bench,
) -> None:
    served: list[str] = []

    async def serve(identity: str, kind: str, payload: str) -> str:
        served.append(f"{identity}:{payload}")
        return payload

    async with relayed(bench) as relay:
        peers = [await bench.peer("agent"), await bench.peer("other")]
        _, notices = await bench.joined({"serve": serve})
        for peer in peers:
            await knows_phone(peer)
        for number in range(20):
            if number in (5, 12):
                assert relay.cut() == 1
            answers = await asyncio.gather(*(ask(peer, "serve", str(number)) for peer in peers))
            assert answers == [str(number)] * 2
        await count_of(notices, RoomReconnected, 2)
    for identity in ("agent", "other"):
        mine = [one for one in served if one.startswith(identity)]
        assert mine == [f"{identity}:{number}" for number in range(20)]


async def test_the_servers_own_api_can_call_too(bench: Bench) -> None:
    async def serve(identity: str, kind: str, payload: str) -> str:
        return f"{kind}:{payload}"

    peer = await bench.peer()
    session, _ = await bench.joined({"serve": serve})
    await session.publish(b"here", convention.TOPIC)
    assert await received(peer, 1) == [b"here"]  # before, the API says that we have no channel
    grants = api.VideoGrants(room_admin=True, room=bench.room)
    token = api.AccessToken(bench.keys.api_key, bench.keys.api_secret).with_grants(grants).to_jwt()
    request = {
        "room": bench.room,
        "destination_identity": PHONE,
        "method": "serve",
        "payload": "x",
        "response_timeout_ms": 10_000,
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{bench.server.http_url}/twirp/livekit.RoomService/PerformRpc",
            json=request,
            headers={"Authorization": f"Bearer {token}"},
        ) as reply,
    ):
        assert (reply.status, await reply.json()) == (200, {"payload": "unknown:x"})


# Messages.


async def test_messages_are_delivered_up_to_the_limit_and_refused_above(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    large = bytes(range(256)) * 240
    await session.publish(large, convention.TOPIC)
    with pytest.raises(RoomError, match="too large"):
        await session.publish(bytes(64_001), convention.TOPIC)
    await session.publish(b"after", convention.TOPIC)
    assert await received(peer, 2) == [large, b"after"]


async def test_a_thousand_messages_arrive_once_in_order_while_the_signalling_is_cut_twice(
    bench: Bench,
) -> None:
    async with relayed(bench) as relay:
        peer = await bench.peer()
        session, notices = await bench.joined()
        for number in range(1000):
            if number in (300, 600):
                assert relay.cut() == 1
                await count_of(notices, RoomReconnecting, 1 + (number == 600))
            await session.publish(b"%d" % number, convention.TOPIC)
            await asyncio.sleep(0)
        assert await received(peer, 1000) == [b"%d" % number for number in range(1000)]
        await count_of(notices, RoomReconnected, 2)
        await session.publish(b"end", convention.TOPIC)
        assert await received(peer, 1) == [b"end"]


@aiortc_only
async def test_messages_under_way_when_the_media_path_fails_arrive_once_in_order(
    bench: Bench,
) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    await session.publish(b"0", convention.TOPIC)
    transport = bench.kind.peer_of(session)  # type: ignore[attr-defined]
    transport.cut(True)
    for number in range(1, 50):
        await session.publish(b"%d" % number, convention.TOPIC)
    await bench.kind.cut_signalling(session)
    await asyncio.sleep(1.0)  # the path is away; nothing tells of it
    transport.cut(False)
    await session.publish(b"50", convention.TOPIC)
    assert await received(peer, 51) == [b"%d" % number for number in range(51)]
    await session.publish(b"end", convention.TOPIC)
    assert await received(peer, 1) == [b"end"]


async def test_keys_go_both_ways_each_once_in_order(bench: Bench) -> None:
    keys = "0123456789*#ABCD"
    peer = await bench.peer()
    session, notices = await bench.joined()
    for key in keys:
        await session.publish_dtmf(key)
    async with asyncio.timeout(DEADLINE):
        heard = [await peer.dtmf.get() for _ in keys]
    assert "".join(one.digit for one in heard) == keys
    assert [one.code for one in heard] == list(range(16))
    for code, key in enumerate(keys):
        await peer.room.local_participant.publish_dtmf(code=code, digit=key)
    await count_of(notices, DtmfRequested, len(keys))
    told = [one.digit for one in notices.seen if isinstance(one, DtmfRequested)]
    assert "".join(told) == keys


async def test_streams_and_data_of_others_do_not_disturb(bench: Bench) -> None:
    peer = await bench.peer()
    session, notices = await bench.joined()
    await knows_phone(peer)
    local = peer.room.local_participant
    await local.send_text("said " * 20_000, topic=convention.TRANSCRIPTION_TOPIC)
    await local.send_text("chat", topic="lk.chat")
    await local.publish_data(bytes(50_000), topic="other")
    await local.publish_data(b"lossy", topic="other", reliable=False)
    await local.publish_dtmf(code=1, digit="1")
    assert await notices.of(DtmfRequested) == DtmfRequested(digit="1")
    await session.publish(b"still here", convention.TOPIC)
    assert await received(peer, 1) == [b"still here"]


# State.


async def test_a_late_joiner_reads_the_whole_state(bench: Bench) -> None:
    session, _ = await bench.joined()
    await session.set_attributes({"sip.callStatus": "active", "bridge.hold": "true"})
    await session.set_attributes({"bridge.seq": "3"})
    session.mute(True)
    early = await bench.peer("early")
    await early.until(lambda: early.phone_muted() is True)
    await early.sees({"bridge.seq": "3"})
    late = await bench.peer("late")
    await late.sees({"sip.callStatus": "active", "bridge.hold": "true", "bridge.seq": "3"})
    await late.until(lambda: late.phone_muted() is True)
    session.mute(False)
    await late.until(lambda: late.phone_muted() is False)


async def test_attributes_and_mute_set_while_the_signalling_is_away_are_seen_afterwards(
    bench: Bench,
) -> None:
    async with relayed(bench) as relay:
        peer = await bench.peer()
        session, notices = await bench.joined()
        await knows_phone(peer)
        assert relay.cut() == 1
        await notices.of(RoomReconnecting)
        session.mute(True)
        await session.set_attributes({"bridge.hold": "true"})
        await session.set_attributes({"bridge.seq": "7"})
        await peer.sees({"bridge.hold": "true", "bridge.seq": "7"})
        await peer.until(lambda: peer.phone_muted() is True)


# Other ways to the server.


async def works(bench: Bench) -> None:
    """Look at everything once: audio and messages both ways, keys, an RPC, state."""

    async def echo(identity: str, kind: str, payload: str) -> str:
        return payload

    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined({"echo": echo})
    session.subscribe(True)
    await session.publish(b"hello", convention.TOPIC)
    assert await received(peer, 1) == [b"hello"]
    await session.set_attributes({"bridge.seq": "1"})
    await peer.sees({"bridge.seq": "1"})
    assert await ask(peer, "echo", "hi") == "hi"
    await peer.room.local_participant.publish_dtmf(code=11, digit="#")
    assert await notices.of(DtmfRequested) == DtmfRequested(digit="#")
    async with bench.playing(session, 700):
        await peer.hears(700)
    await bench.hear(session, 440)


async def test_a_server_without_the_newer_path_is_joined_by_the_older_one(bench: Bench) -> None:
    async with relayed(bench, refused={"/rtc/v1"}) as relay:
        await works(bench)
        assert relay.paths[:2] == ["/rtc/v1", "/rtc"]


async def test_the_older_path_is_resumed_too(bench: Bench) -> None:
    async with relayed(bench, refused={"/rtc/v1"}) as relay:
        peer = await bench.peer()
        session, notices = await bench.joined()
        for number in range(60):
            if number in (20, 40):
                assert relay.cut() == 1
                await count_of(notices, RoomReconnecting, number // 20)
            await session.publish(b"%d" % number, convention.TOPIC)
        assert await received(peer, 60) == [b"%d" % number for number in range(60)]


@pytest.fixture
def server_tls(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for loopback, whose authority the session's default context trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    socket_module._tls.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_a_server_behind_tls_is_joined_and_resumed(
    bench: Bench, server_tls: ssl.SSLContext
) -> None:
    async with relayed(bench, tls=server_tls) as relay:
        peer = await bench.peer()
        session, notices = await bench.joined()
        await session.publish(b"before", convention.TOPIC)
        assert relay.cut() == 1
        await notices.of(RoomReconnecting)
        await session.publish(b"after", convention.TOPIC)
        assert await received(peer, 2) == [b"before", b"after"]
    socket_module._tls.cache_clear()


async def test_a_certificate_that_nobody_vouches_for_is_a_failed_join(bench: Bench) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with relayed(bench, tls=context):
        session, _ = bench.session()
        with pytest.raises(RoomError, match="not reached"):
            await session.join(bench.spec())
