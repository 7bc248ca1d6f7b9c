"""Calls over TLS, in and out, with holds, and a certificate that is renewed meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from bridge.carrier.carrier import Carrier, Security
from tests.authority import Authority
from tests.ports import free_port
from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, agent_number, room_of, until

pytestmark = pytest.mark.system

CARRIER_NAME = "localhost"  # by /etc/hosts 127.0.0.1
BRIDGE_NAME = "bridge.example"
HOLD = "hold sendonly; expect version +1; resume; expect version +1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


def carriers(authority: Authority) -> Security:
    """Return the TLS of a carrier that wants and shows certificates."""
    return Security(
        server=authority.server(CARRIER_NAME),
        client=authority.client(CARRIER_NAME),
        name=BRIDGE_NAME,
    )


def settings(authority: Authority, folder: Path, port: int) -> dict[str, dict[str, Any]]:
    """Return a configuration that listens on TLS, with certificate files of its own."""
    certificate, key = authority.issue(BRIDGE_NAME)
    shutil.copy(certificate, folder / "cert.pem")
    shutil.copy(key, folder / "key.pem")
    return {
        "sip": {
            "listen": [f"tls:127.0.0.1:{port}"],
            "tls_cert_file": str(folder / "cert.pem"),
            "tls_key_file": str(folder / "key.pem"),
            "tls_client_ca_file": authority.file,
        }
    }


async def test_a_call_over_tls_is_held_and_outlives_a_new_certificate(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    """Row 18. New connections show the new certificate; the call keeps its old one."""
    port = free_port()
    carrier = await desk.carrier(security=carriers(authority))
    bridge = await desk.bridge(carrier, sections=settings(authority, tmp_path, port))
    number = agent_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(f"sip:{number}@127.0.0.1:{port};transport=tls")
    await leg.run(f"talk 1s; expect audio {AGENT_HERTZ} within 15s; {HOLD}")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    await agent.event("call_resume")

    renewed, key = authority.issue(BRIDGE_NAME, "renewed.example")
    shutil.copy(renewed, tmp_path / "cert.pem")  # without its key: refused
    bridge.expect_log("config.reload_refused")
    bridge.signal(signal.SIGHUP)
    await until(lambda: "not the key of tls_cert_file" in bridge.tail(), "the reload is refused")
    shutil.copy(key, tmp_path / "key.pem")
    bridge.signal(signal.SIGHUP)
    await until(lambda: "daemon.reloaded" in bridge.tail(), "the reload is taken")
    carrier.security = Security(
        server=carriers(authority).server,
        client=carriers(authority).client,
        name="renewed.example",
    )
    await leg.run("hold sendonly on new connection; resume; hangup")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_the_bridge_calls_over_tls_and_follows_the_record_route(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    """Row 18. RFC 5922 7: the trunk's name is proven, whatever address it has."""
    carrier = await desk.carrier(
        security=carriers(authority), default="ring; answer after 1s; talk; stay"
    )
    certificate, key = authority.issue("client.example")
    trunk = {
        "host": CARRIER_NAME,
        "port": carrier.tls_port,
        "transport": "tls",
        "tls_ca_file": authority.file,
        "tls_cert_file": certificate,
        "tls_key_file": key,
    }
    bridge = await desk.bridge(carrier, trunk=trunk)
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000001", room=room)
    await agent.event("call_answered")
    await agent.hears(CALLER_HERTZ)
    await call.hangup()
    ended = await agent.event("call_ended")
    assert ended["outcome"] == "completed"
    (report,) = await reported(carrier)
    assert report.failed is None, report.failed


async def test_a_carrier_with_a_false_certificate_is_not_called_and_the_trunk_says_why(
    desk: Desk, authority: Authority
) -> None:
    impostor = Security(
        server=authority.server("other.example"),
        client=authority.client(),
        name=BRIDGE_NAME,
    )
    carrier = await desk.carrier(security=impostor, default="answer; stay")
    trunk = {
        "host": CARRIER_NAME,
        "port": carrier.tls_port,
        "transport": "tls",
        "tls_ca_file": authority.file,
    }
    bridge = await desk.bridge(carrier, trunk=trunk)
    call = await bridge.dial("+919000000001")
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("failed", "carrier_unreachable")
    async with httpx.AsyncClient(base_url=bridge.url) as http:

        async def failures() -> list[dict[str, Any]]:
            (told,) = (await http.get("/api/v1/trunks")).json()
            return list(told["last_failures"])

        (failure,) = await until(failures, "the trunk's failure is told")
    assert failure["detail"] == "TLS: the certificate is of other.example"
    assert carrier.reports == []


async def test_sipp_calls_over_tls_through_hold_and_resume(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    """Debian builds SIPp without TLS: a relay encrypts what it sends."""
    port = free_port()
    await desk.bridge(sections=settings(authority, tmp_path, port))
    number = agent_number()
    agent = await desk.agent(room_of(number))
    async with relay(authority, port) as entrance:
        sipp = desk.sipp(
            "uac-hold",
            target=f"127.0.0.1:{entrance}",
            port=free_port(),
            keys={"number": number, "caller": "+919876543210"},
            arguments=("-rtp_echo",),
        )
        await sipp.start()
        await sipp.reached("talking")
        await agent.hears(AGENT_HERTZ)
        await sipp.go_on()
        await sipp.reached("held")
        await agent.event("call_hold")
        await sipp.go_on()
        await sipp.reached("resumed")
        await agent.event("call_resume")
        await sipp.go_on()
        await sipp.passed()
    assert (await agent.event("call_ended"))["outcome"] == "completed"


@asynccontextmanager
async def relay(authority: Authority, port: int) -> AsyncIterator[int]:
    """Serve TCP, and carry it on over TLS."""
    context = authority.client("sipp.example")
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=BRIDGE_NAME
        )
        for source, sink in ((reader, back), (there, writer)):
            tasks.add(asyncio.get_running_loop().create_task(pump(source, sink)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
    finally:
        sink.close()


async def reported(carrier: Carrier) -> list[Any]:
    """Return the reports, once there is one."""
    return list(await until(lambda: carrier.reports, "the carrier's report"))
