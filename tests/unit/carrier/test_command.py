"""The carrier as a command: JSON lines and the exit status."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.carrier import command, script, sound, steps
from bridge.carrier.carrier import Carrier
from bridge.cli import carrier

pytestmark = pytest.mark.unit


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


async def dialled(script: str, **more: Any) -> tuple[int, list[dict[str, Any]]]:
    async with Carrier(default="answer; tone 1000; stay") as callee:
        out = io.StringIO()
        to = f"sip:100@127.0.0.1:{callee.port};transport=tcp"
        status = await command.run(listen="127.0.0.1:0", dial=to, script=script, out=out, **more)
        return status, lines(out)


async def test_a_call_that_goes_well_exits_0_and_prints_messages_and_the_report() -> None:
    status, printed = await dialled("expect audio 1000 within 2s; hold sendonly; hangup")
    assert status == 0
    assert printed[0]["transports"] == ["tcp", "udp"]
    sent = [(line["line"].split()[0], line["sdp"]) for line in printed if "cseq" in line]
    assert sent[0] == ("INVITE", "sendrecv")
    assert ("INVITE", "sendonly") in sent
    assert ("SIP/2.0", "recvonly") in sent
    [report] = [line["report"] for line in printed if "report" in line]
    assert report["failed"] is None
    assert report["media"]["audio_packets"] > 4
    assert printed[-1] == {"calls": 1, "failed": 0}


async def test_a_failed_expectation_exits_1() -> None:
    status, printed = await dialled("expect audio 700 within 200ms")
    assert status == 1
    assert printed[-1] == {"calls": 1, "failed": 1}


async def test_a_script_that_cannot_be_read_exits_2() -> None:
    status, printed = await dialled("hold everything")
    assert status == 2
    assert printed[0]["script"].startswith('position 6: unknown hold dialect "everything"')


async def test_nobody_there_exits_1() -> None:
    async with Carrier() as gone:
        port = gone.port
    out = io.StringIO()
    to = f"sip:1@127.0.0.1:{port}"
    assert await command.run(listen="127.0.0.1:0", dial=to, out=out) == 1
    assert "error" in lines(out)[1]


async def test_what_was_heard_is_recorded_and_a_wav_is_played(tmp_path: Path) -> None:
    voice, heard = tmp_path / "voice.wav", tmp_path / "heard.wav"
    sound.write_wav(voice, sound.tone(300, 0.5))
    script = "talk; expect audio 1000 within 20s; wait 300ms; hangup"
    status, _ = await dialled(script, wav=voice, record=heard, calls=2, rate=20)
    assert status == 0
    for file in (heard, tmp_path / "heard-2.wav"):
        samples = sound.read_wav(file)
        pieces = [samples[at : at + 400] for at in range(0, len(samples) - 400, 200)]
        assert any(sound.audible(piece, 1000) for piece in pieces)


async def test_answering_ends_after_so_many_calls() -> None:
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    out = io.StringIO()
    serving = asyncio.create_task(
        command.run(
            listen="127.0.0.1:0", script="answer; stay", calls=1, out=out, listening=listening
        )
    )
    port = await asyncio.wait_for(listening, 20)
    async with Carrier() as caller:
        to = f"sip:9@127.0.0.1:{port};transport=tcp"
        report = await caller.call(to, "wait 100ms; hangup")
    assert report.failed is None
    assert await serving == 0
    assert lines(out)[-1] == {"calls": 1, "failed": 0}


async def test_calls_from_elsewhere_are_forbidden_when_there_is_an_address_list() -> None:
    """Contract 8: "digest or address list"."""
    for allow, text in (
        (["192.0.2.0/24", "127.0.0.1"], "answer; stay"),
        (["192.0.2.0/24"], "stay"),
    ):
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            command.run(
                listen="127.0.0.1:0",
                script=text,
                allow=allow,
                out=io.StringIO(),
                listening=listening,
            )
        )
        port = await asyncio.wait_for(listening, 20)
        async with Carrier() as caller:
            report = await caller.call(f"sip:9@127.0.0.1:{port};transport=tcp", "wait 10ms; hangup")
        assert report.status == (200 if "127.0.0.1" in allow else 403)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_network_that_is_none_exits_2() -> None:
    out = io.StringIO()
    assert await command.run(listen="127.0.0.1:0", allow=["nowhere"], out=out) == 2
    assert "nowhere" in lines(out)[0]["error"]


@pytest.mark.parametrize(
    ("script", "calls", "status"),
    [
        ("answer; stay", None, 0),
        ("answer; stay", 2, 130),
        ("answer; expect dtmf 9 within 100ms; stay", None, 1),
    ],
)
async def test_a_carrier_that_is_stopped_ends_its_calls_and_still_judges(
    script: str, calls: int | None, status: int
) -> None:
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop, out = asyncio.Event(), io.StringIO()
    serving = asyncio.create_task(
        command.run(
            listen="127.0.0.1:0",
            script=script,
            calls=calls,
            out=out,
            listening=listening,
            stop=stop,
        )
    )
    port = await asyncio.wait_for(listening, 20)
    async with Carrier() as caller:
        leg = await caller.dial(f"sip:9@127.0.0.1:{port};transport=tcp")
        await leg.run("expect status 200" if status != 1 else "expect hangup within 20s")
        stop.set()
        assert await asyncio.wait_for(serving, 20) == status
        if status != 1:
            await leg.run("expect hangup within 20s")
            assert leg.report.failed is None
    assert lines(out)[-1] == {"calls": 1, "failed": int(status == 1)}


def test_the_help_names_every_statement_expectation_and_body() -> None:
    words = set(carrier.HELP.replace("|", " ").replace(",", " ").replace(".", " ").split())
    assert set(script.STATEMENTS) | set(script.EXPECTATIONS) | set(steps.BODIES) <= words


async def test_who_has_registered_is_called_by_that_connection() -> None:
    """Row 99. The registrar of the built-in carrier, from the command line."""
    out, port = io.StringIO(), asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(
        command.run(
            listen="127.0.0.1:0",
            dial="sip:line1@127.0.0.1",
            called="+918047361000",
            script="expect status 486 within 10s",
            out=out,
            listening=port,
        )
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", await port)
    writer.write(
        b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK1;rport\r\n"
        b"Max-Forwards: 70\r\nFrom: <sip:line1@127.0.0.1>;tag=a\r\nTo: <sip:line1@127.0.0.1>\r\n"
        b"Call-ID: c\r\nCSeq: 1 REGISTER\r\nContact: <sip:line1@127.0.0.1:9;transport=tcp>\r\n"
        b"Expires: 60\r\nContent-Length: 0\r\n\r\n"
    )
    heard = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
    assert heard.startswith(b"SIP/2.0 200 ")
    invite = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
    assert invite.startswith(b"INVITE sip:line1@127.0.0.1:9;transport=tcp SIP/2.0\r\n")
    assert b"To: <sip:+918047361000@127.0.0.1>" in invite
    kept = [line for line in invite.split(b"\r\n") if line.split(b":")[0] in COPIED]
    busy = [b"SIP/2.0 486 Busy Here", *kept, b"Content-Length: 0", b"", b""]
    writer.write(b"\r\n".join(busy).replace(b"To: <sip:+918047361000@127.0.0.1>", BUSY_TO))
    assert await asyncio.wait_for(running, 30) == 0
    writer.close()


COPIED = (b"Via", b"From", b"To", b"Call-ID", b"CSeq")
BUSY_TO = b"To: <sip:+918047361000@127.0.0.1>;tag=b"
