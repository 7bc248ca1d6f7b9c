"""livekit/sip, when ``LIVEKIT_SIP`` names its binary: defaults, one process on the measured core.

It takes its rooms and trunks from the server, over a Redis that both need (`redis-server` on PATH,
in .cache/peers, or named by ``REDIS_SERVER``). Each phone dials in over SIP; agents are ours.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

from livekit import api

from bench.engines.arms import Arm, Setting, phones
from bench.engines.block import Running
from bench.engines.room import Agents
from bench.engines.rtpengine import UNPACKED, end
from bench.engines.tools import LOAD, MEASURED, NoTools, Tool
from tests.ports import free_port
from tests.system.conftest import LiveKitServer, livekit_server_binary
from tests.system.harness import answers

PREFIX = "+9144400"
_PORT = re.compile(rb"\r\nm=audio (\d+) ")
_TO = re.compile(rb"\r\nTo: ([^\r]+)", re.IGNORECASE)
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n"
)
_SERVER = """\
port: {http}
bind_addresses: ["127.0.0.1"]
keys: {{benchkey: {secret}}}
redis: {{address: "127.0.0.1:{redis}"}}
rtc:
  udp_port: {udp}
  tcp_port: {tcp}
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  stun_servers: ["127.0.0.1:{stun}"]
room: {{auto_create: true, empty_timeout: 60, departure_timeout: 60}}
logging: {{level: warn}}
"""
_REQUEST = (
    "{method} sip:{number}@127.0.0.1:{target} SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{here};branch=z9hG4bK{branch};rport\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:+919812345678@127.0.0.1>;tag={tag}\r\n"
    "To: {to}\r\nCall-ID: {tag}@127.0.0.1\r\nCSeq: {sequence} {method}\r\n"
    "Contact: <sip:+919812345678@127.0.0.1:{here}>\r\n{type}Content-Length: {length}\r\n\r\n{body}"
)


def program() -> str | None:
    """Return the binary that the environment names."""
    named = os.environ.get("LIVEKIT_SIP")
    return named if named and os.access(named, os.X_OK) else None


def redis_server() -> str:
    """Return a redis-server. Raises `NoTools`."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", f"{UNPACKED}/usr/bin"])
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server", path=places)
    if found is None:
        raise NoTools("livekit/sip needs a redis-server (REDIS_SERVER=path)")
    return found


async def begin(setting: Setting, calls: int, stack: AsyncExitStack) -> Running:
    """Bring up *calls* calls that dialled in."""
    binary = program()
    if binary is None:
        raise NoTools("LIVEKIT_SIP names no binary")
    redis = await _redis(setting, stack)
    server, beside = await _server(setting, stack, redis)
    sip = free_port(socket.SOCK_DGRAM)
    bridge = await _started(
        stack,
        setting.folder / "livekit-sip.log",
        {MEASURED},
        binary,
        "--config-body",
        f"redis: {{address: 127.0.0.1:{redis}}}\n"
        f"api_key: {server.api_key}\napi_secret: {server.api_secret}\nws_url: {server.url}\n"
        f"sip_port: {sip}\nrtp_port: 30000-39999\nlisten_ip: 127.0.0.1\n"
        "nat_1_to_1_ip: 127.0.0.1\nrtp_draining_idle_timeout: -1ns\n"
        "rtp_draining_duration: -1ns\nmax_cpu_utilization: 1\nlogging: {level: warn}\n",
    )
    name = uuid.uuid4().hex[:6]
    await _dispatch(server, name)
    sound = setting.sound
    media = await Tool.native("sfu", cores=LOAD, pack=sound.opus, marker=sound.marker_opus)
    stack.push_async_callback(media.stop)
    await media.answer()
    numbers = [f"{PREFIX}{n:05d}" for n in range(calls)]
    members = Agents(media, server, [f"{name}_{number}" for number in numbers])
    stack.push_async_callback(members.leave)
    await members.join()
    near = await phones(setting, calls, stack, stamp=False)
    ports = (await near.answer())["ports"]
    answered = [
        await _dial(stack, sip, number, port) for number, port in zip(numbers, ports, strict=True)
    ]
    near.order("to " + " ".join(map(str, answered)))
    return Running(
        calls=calls,
        phones=near,
        far=media,
        measured=[bridge.pid],
        beside=[beside],
    )


ARM = Arm(name="livekit-sip", title="livekit/sip, defaults", begin=begin, first=15, most=60)


async def _started(
    stack: AsyncExitStack, log: Path, cores: set[int], *command: str
) -> asyncio.subprocess.Process:
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    stack.push_async_callback(end, process)
    return process


async def _redis(setting: Setting, stack: AsyncExitStack) -> int:
    port = free_port()
    await _started(
        stack,
        setting.folder / "redis.log",
        LOAD,
        redis_server(),
        *("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
    )
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return port


async def _server(setting: Setting, stack: AsyncExitStack, redis: int) -> tuple[LiveKitServer, int]:
    binary = livekit_server_binary()
    if binary is None:
        raise NoTools("no livekit-server")
    http, tcp = free_port(), free_port()
    udp, stun = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    secret = uuid.uuid4().hex + uuid.uuid4().hex
    log = setting.folder / "livekit.log"
    config = _SERVER.format(http=http, udp=udp, tcp=tcp, stun=stun, redis=redis, secret=secret)
    process = await _started(stack, log, LOAD, binary, "--config-body", config)
    url = f"http://127.0.0.1:{http}"
    async with asyncio.timeout(20):
        while not await answers(url):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)
    server = LiveKitServer(
        url=f"ws://127.0.0.1:{http}",
        http_url=url,
        udp_port=udp,
        api_key="benchkey",
        api_secret=secret,
        log=log,
    )
    return server, process.pid


async def _dispatch(server: LiveKitServer, name: str) -> None:
    """Have every number of ours led to the room ``name_number``."""
    async with api.LiveKitAPI(server.http_url, server.api_key, server.api_secret) as client:
        trunk = await client.sip.create_inbound_trunk(
            api.CreateSIPInboundTrunkRequest(
                trunk=api.SIPInboundTrunkInfo(name=name, allowed_addresses=["127.0.0.0/8"])
            )
        )
        rule = api.SIPDispatchRule(dispatch_rule_callee=api.SIPDispatchRuleCallee(room_prefix=name))
        await client.sip.create_dispatch_rule(
            api.CreateSIPDispatchRuleRequest(rule=rule, trunk_ids=[trunk.sip_trunk_id])
        )


async def _dial(stack: AsyncExitStack, target: int, number: str, phone: int) -> int:
    """Call in over UDP; return the port of the answer."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    stack.callback(sock.close)
    body, tag = _SDP.format(port=phone), uuid.uuid4().hex[:10]
    values = {"number": number, "target": target, "here": sock.getsockname()[1], "tag": tag}
    to = f"<sip:{number}@127.0.0.1:{target}>"
    invite = _REQUEST.format(
        method="INVITE",
        branch=tag,
        to=to,
        sequence=1,
        type="Content-Type: application/sdp\r\n",
        length=len(body),
        body=body,
        **values,
    )
    await loop.sock_sendto(sock, invite.encode(), ("127.0.0.1", target))
    async with asyncio.timeout(20):
        while True:
            data = await loop.sock_recv(sock, 65535)
            if data.startswith(b"SIP/2.0 1"):
                continue
            found, tagged = _PORT.search(data), _TO.search(data)
            if not data.startswith(b"SIP/2.0 200") or found is None or tagged is None:
                raise RuntimeError(f"livekit/sip answered {data[:40]!r}")
            ack = _REQUEST.format(
                method="ACK",
                branch=f"{tag}a",
                to=tagged[1].decode(),
                sequence=1,
                type="",
                length=0,
                body="",
                **values,
            )
            await loop.sock_sendto(sock, ack.encode(), ("127.0.0.1", target))
            return int(found[1])
