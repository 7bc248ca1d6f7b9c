"""Debian's linphone as a peer: linphonec, told what to do on its standard input.

It needs no sound card: it says a tone out of a WAV file and writes what it hears into another
one. Its SIP and RTP are on loopback only; no proxy, no STUN, no ICE.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port
from tests.system.baresip import seconds_of, write_tone
from tests.system.harness import CALLER_HERTZ, missing, until

DEADLINE = 20.0
CONNECTED = r"Media streams established with "
PAUSED = r"Call \d+ with .* is now paused"
CALLED = r"Receiving new incoming call from"
ENDED = r"Call \d+ with .* (ended|error)"

CONFIG = """\
[sip]
sip_port={udp}
sip_tcp_port={tcp}
sip_tls_port=0
bind_address=127.0.0.1
use_ipv6=0
ipv6_migration_done=1
register_only_when_network_is_up=0
contact=sip:{number}@127.0.0.1
media_encryption={encryption}
media_encryption_mandatory={mandatory}
[rtp]
audio_rtp_port={rtp}
bind_address=127.0.0.1
[net]
firewall_policy=0
[sound]
echocancellation=0
[misc]
log_collection_enabled=0
"""
CODECS = (("PCMA", 8000, 1), ("PCMU", 8000, 0))


@dataclass(kw_only=True)
class Linphone:
    """One linphonec process, on TCP or on UDP. ``srtp``: nothing but SDES SRTP."""

    folder: Path
    number: str
    transport: str = "tcp"
    srtp: bool = False
    port: int = field(default_factory=free_port)
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it has its tone."""
        program = shutil.which("linphonec")
        if program is None:
            missing("linphonec")
        (self.folder / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
        tone = self.folder / "tone.wav"
        write_tone(tone, CALLER_HERTZ)
        codecs = "".join(
            f"[audio_codec_{at}]\nmime={name}\nrate={rate}\nchannels=1\nenabled={enabled}\n"
            for at, (name, rate, enabled) in enumerate(CODECS)
        )
        (self.folder / "linphonerc").write_text(
            CONFIG.format(
                udp=self.port if self.transport == "udp" else 0,
                tcp=self.port if self.transport == "tcp" else 0,
                number=self.number,
                encryption="srtp" if self.srtp else "none",
                mandatory=int(self.srtp),
                rtp=13000 + 2 * (self.port % 1000),  # below the ports that the system gives
            )
            + codecs
        )
        with (self.folder / "output.log").open("wb") as sink:
            self._process = await asyncio.create_subprocess_exec(
                str(program),
                *("-c", str(self.folder / "linphonerc"), "-d", "6"),
                *("-l", str(self.folder / "linphone.log")),
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder)},
                stdin=asyncio.subprocess.PIPE,
                stdout=sink,
                stderr=sink,
            )
        await self.shows("linphonec>")
        self.command(f"soundcard use files {tone}")
        self.command(f"record {self.folder / 'heard.wav'}")
        self.command(f"play {tone}")
        self.command("ports")
        await self.shows("sip port = ")

    def command(self, text: str) -> None:
        """Type a line."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")

    @property
    def output(self) -> str:
        """What it printed so far."""
        file = self.folder / "output.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    async def shows(self, pattern: str, count: int = 1) -> None:
        """Wait until it has printed *pattern* so often."""
        deadline = time.monotonic() + DEADLINE
        while len(re.findall(pattern, self.output)) < count:
            assert self._process is not None
            if time.monotonic() > deadline or self._process.returncode is not None:
                raise AssertionError(f"linphone did not show {pattern}\n{self.story()}")
            await asyncio.sleep(0.05)  # polling another process's file

    async def hears(self, hertz: int, seconds: float = 0.5) -> None:
        """Wait until it has written down *seconds* more of a tone."""
        before = self.heard(hertz)
        await until(lambda: self.heard(hertz) >= before + seconds, f"linphone: {hertz}", DEADLINE)

    def heard(self, hertz: int) -> float:
        """Seconds of a tone in what it wrote down so far."""
        file = self.folder / "heard.wav"
        return seconds_of(file, hertz) if file.exists() else 0.0

    @property
    def keys(self) -> str:
        """The keys that it heard."""
        return "".join(re.findall(r"Receiving tone (.) from", self.output))

    async def stop(self) -> None:
        """End it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ConnectionError):
                self.command("quit")
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
        await process.wait()

    def story(self) -> str:
        """Return what it printed and its own log, for a failure."""
        log = self.folder / "linphone.log"
        text = log.read_text("utf-8", "replace")[-6000:] if log.exists() else ""
        return f"{self.output[-3000:]}\n--- log\n{text}"
