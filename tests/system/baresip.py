"""Debian's baresip as a peer: a second SIP stack that is not ours, told what to do by ctrl_tcp.

It needs no sound card: it says a tone out of a WAV file (aufile) and writes down what it hears
(sndfile). With ``srtp`` it encrypts by SDES. It does not register, and uses neither STUN nor ICE.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.ports import free_port
from tests.system.agent_host import AUDIBLE, TONAL, energy_share
from tests.system.harness import CALLER_HERTZ, DEADLINE, missing, until

RATE = 8000
SAID_S = 60  # length of the tone that it says
HEADER = 44  # bytes of a WAV file before its samples
WINDOW = 400  # samples, 50 ms: what one judgement of the sound is based on
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
call_local_timeout 120
call_max_calls 4
audio_source aufile,{folder}/tone.wav
audio_alert aufile,{folder}/none.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtcp_mux no
jitter_buffer_delay 2-5
rtp_ports {rtp}-{rtp_end}
module_path {modules}
module g711.so
module aufile.so
module sndfile.so
{srtp_module}module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
snd_path {folder}
"""
ACCOUNT = (
    "<sip:{number}@127.0.0.1;transport={transport}>;regint=0;answermode={answer};"
    "audio_codecs=PCMA/8000/1,PCMU/8000/1{encryption}\n"
)


def module_folder() -> Path | None:
    """Where Debian puts baresip's modules."""
    found = [*Path("/usr/lib").glob("baresip/modules"), *Path("/usr/lib").glob("*/baresip/modules")]
    return found[0] if found else None


def two_free_ports() -> int:
    """Return a free port with a free one after it: baresip takes that for TLS, used or not."""
    for _ in range(100):
        port = free_port()
        with socket.socket() as after, contextlib.suppress(OSError):
            after.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two ports in a row are free")


@dataclass(kw_only=True)
class Baresip:
    """One baresip process. ``answer``: ``auto`` or ``manual``; ``transport``: of its account."""

    folder: Path
    number: str
    transport: str = "tcp"
    answer: str = "auto"
    srtp: str = ""  # baresip's mediaenc, such as srtp-mand
    port: int = field(default_factory=two_free_ports)
    events: list[dict[str, Any]] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _writer: asyncio.StreamWriter | None = None
    _reading: asyncio.Task[None] | None = None
    _replies: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Start it and open the control connection."""
        binary, modules = shutil.which("baresip"), module_folder()
        if binary is None or modules is None:
            missing("baresip")
        self.folder.mkdir(parents=True, exist_ok=True)
        control, rtp = free_port(), 40000 + 20 * (self.port % 1000)
        while control == self.port + 1:
            control = free_port()
        (self.folder / "config").write_text(
            CONFIG.format(
                port=self.port,
                folder=self.folder,
                rtp=rtp,
                rtp_end=rtp + 18,
                modules=modules,
                control=control,
                srtp_module="module srtp.so\n" if self.srtp else "",
            )
        )
        (self.folder / "accounts").write_text(
            ACCOUNT.format(
                number=self.number,
                transport=self.transport,
                answer=self.answer,
                encryption=f";mediaenc={self.srtp}" if self.srtp else "",
            )
        )
        (self.folder / "contacts").write_text("")
        write_tone(self.folder / "tone.wav", CALLER_HERTZ)
        with (self.folder / "output.log").open("wb") as sink:
            self._process = await asyncio.create_subprocess_exec(
                str(binary),
                *("-4", "-s", "-f", str(self.folder)),
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

        async def connected() -> asyncio.StreamReader | None:
            assert self._process is not None
            assert self._process.returncode is None, f"baresip ended\n{self.story()}"
            try:
                reader, self._writer = await asyncio.open_connection("127.0.0.1", control)
            except OSError:
                return None
            return reader

        reader = await until(connected, "baresip listens to us")
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take netstrings of JSON: events, and replies to commands."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                text = (await reader.readexactly(length + 1))[:-1]
                document = json.loads(text)
                if document.get("event"):
                    self.events.append({**document, "at": time.monotonic()})
                else:
                    self._replies.put_nowait(document)
                self._changed.set()

    async def command(self, name: str, params: str = "") -> str:
        """Give a command of baresip's menu; return what it prints."""
        assert self._writer is not None
        text = json.dumps({"command": name, "params": params, "token": name}).encode()
        self._writer.write(b"%d:%s," % (len(text), text))
        reply = await asyncio.wait_for(self._replies.get(), DEADLINE)
        assert reply["ok"], f"{name}: {reply.get('data')}\n{self.story()}"
        return str(reply.get("data", ""))

    async def event(self, kind: str, count: int = 1, within: float = DEADLINE) -> dict[str, Any]:
        """Wait for the *count*-th event of a kind (``CALL_ESTABLISHED`` ...)."""
        deadline = time.monotonic() + within
        while True:
            self._changed.clear()
            found = [event for event in self.events if event["type"] == kind]
            if len(found) >= count:
                return found[count - 1]
            left = deadline - time.monotonic()
            if left <= 0:
                seen = " ".join(event["type"] for event in self.events)
                raise AssertionError(
                    f"baresip: no {kind} number {count} within {within:g} s, only {seen}\n"
                    f"{self.story()}"
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def keys(self) -> str:
        """The keys that it heard so far."""
        return "".join(
            str(event["param"]) for event in self.events if event["type"] == "CALL_DTMF_START"
        )

    async def hears(self, hertz: int, seconds: float = 0.5) -> None:
        """Wait until it has written down *seconds* more of a tone."""
        before = self.heard(hertz)
        await until(lambda: self.heard(hertz) >= before + seconds, f"baresip hears {hertz} Hz")

    def heard(self, hertz: int) -> float:
        """Seconds of a tone in what it wrote down so far."""
        return sum(seconds_of(path, hertz) for path in sorted(self.folder.glob("dump-*-dec.wav")))

    async def stop(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def story(self) -> str:
        """Return what it printed, for a failure."""
        file = self.folder / "output.log"
        text = file.read_text("utf-8", "replace") if file.exists() else ""
        return COLOUR.sub("", text)[-6000:]


def write_tone(path: Path, hertz: int) -> None:
    """Write a tone as 16-bit samples."""
    turns = 2 * np.pi * hertz / RATE * np.arange(RATE)
    second = (9000 * np.sin(turns)).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(second * SAID_S)


def seconds_of(path: Path, hertz: int) -> float:
    """Return for how long *hertz* is what sounds in a recording, which may still go on."""
    data = path.read_bytes()[HEADER:]
    samples = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.float64)
    windows = [samples[at : at + WINDOW] for at in range(0, len(samples) - WINDOW, WINDOW)]
    loud = [w for w in windows if np.sqrt(np.dot(w, w) / len(w)) >= AUDIBLE]
    return sum(energy_share(w, hertz) >= TONAL for w in loud) * WINDOW / RATE
