"""``trunkbridge carrier``: the carrier from the command line, what it sees as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

from bridge.carrier import sound
from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from bridge.carrier.report import Seen
from bridge.carrier.script import ScriptError
from bridge.carrier.script import parse as parse_script
from bridge.carrier.secure import Srtp
from bridge.errors import BridgeError, MisuseError
from bridge.sip.uri import parse_uri

ANSWERING = "answer after 1s; talk; stay"
DIALLING = "talk 5s; hangup"
INTERRUPTED = 130  # as a shell says it
REGISTERED = 120.0  # seconds a registration is waited for


async def run(
    *,
    listen: str = "127.0.0.1:5090",
    dial: str | None = None,
    script: str | None = None,
    answers: Mapping[str, str] | None = None,
    from_: str = "+919876543210",
    wav: Path | None = None,
    record: Path | None = None,
    calls: int | None = None,
    rate: float = 1.0,
    called: str = "",
    credentials: tuple[str, str] | None = None,
    allow: Sequence[str] = (),
    srtp: str = "off",
    out: TextIO | None = None,
    listening: asyncio.Future[int] | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Dial *calls* calls (1) at *rate* a second, or answer them (no end); return the status.

    *script* is for dialled calls when *dial* is given, else for answered ones; *answers*
    maps called numbers to scripts. *srtp*: ``optional`` is RTP/AVP with keys, ``required``
    RTP/SAVP. *wav* is what ``talk`` says; *record* is a WAV file (with
    a number before its suffix when there is more than one call). With *called*, *dial* is an
    address of record: once it is registered here, that number is called by its connection.
    With *allow* (networks) calls from elsewhere get 403.
    0: all went as the scripts say; 1: something failed; 2: wrong usage. *listening* is told
    the port. Without an end it runs until *stop* is set (calls that run then are ended; 130 when
    more were to come), or its task is cancelled.
    """
    printer = Printer(out or sys.stdout, record, listening)
    try:
        host, _, port = listen.rpartition(":")
        for text in (script, *(answers or {}).values()):
            parse_script(text or "")
        if srtp not in ("off", "optional", "required"):
            raise MisuseError("srtp is off, optional or required")
        carrier = Carrier(
            host=host.strip("[]"),
            port=int(port),
            scripts=answers,
            default=_answering(dial, script),
            credentials=credentials,
            allow=allow,
            behaviour=Behaviour(srtp=cast(Srtp, srtp)),
            voice=sound.read_wav(wav) if wav is not None else None,
            tap=printer.seen,
            ended=printer.ended,
        )
    except (BridgeError, OSError, ValueError) as error:
        printer.error(error)
        return 2
    try:
        async with carrier:
            printer.listening(host, carrier.port)
            if dial is not None:
                one = partial(_one, printer, carrier, dial, script or DIALLING, from_, called)
                account = str(parse_uri(dial)) if called else ""
                done = await _until(_dial(carrier, account, one, calls or 1, rate), stop)
            else:
                done = await _until(printer.count(calls), stop) or calls is None
    except (BridgeError, OSError) as error:
        printer.error(error)
        return 1
    printer.summary()
    if printer.failed:
        return 1
    return 0 if done else INTERRUPTED


async def _until(work: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> bool:
    """Do *work* until *stop* is set; return whether it came to its end."""
    if stop is None:
        await work
        return True
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _answering(dial: str | None, script: str | None) -> str:
    return ANSWERING if dial is not None or script is None else script


async def _dial(
    carrier: Carrier,
    account: str,
    one: Callable[[], Coroutine[Any, Any, None]],
    calls: int,
    rate: float,
) -> None:
    if account:
        await carrier.registrar.until(account, registered=True, timeout=REGISTERED)
    interval = 1 / rate if rate > 0 else 0.0
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            await asyncio.sleep(max(0.0, started + number * interval - loop.time()))
            group.create_task(one())


async def _one(
    printer: Printer, carrier: Carrier, to: str, script: str, from_: str, called: str
) -> None:
    try:
        await carrier.call(to, script, from_=from_, called=called)
    except (BridgeError, OSError) as error:
        printer.undialled(error)


class Printer:
    """Writes JSON lines: messages as they pass, a report per call, a summary."""

    def __init__(
        self, out: TextIO, record: Path | None, listening: asyncio.Future[int] | None = None
    ) -> None:
        self.failed = 0
        self._out = out
        self._record = record
        self._listening = listening
        self._ended = 0
        self._changed = asyncio.Event()

    def line(self, fields: Mapping[str, object]) -> None:
        """Write one line."""
        print(json.dumps(fields), file=self._out, flush=True)

    def listening(self, host: str, port: int) -> None:
        """Write where the carrier listens."""
        self.line({"listening": f"{host}:{port}", "transports": ["tcp", "udp"]})
        if self._listening is not None:
            self._listening.set_result(port)

    def error(self, error: Exception) -> None:
        """Write an error."""
        kind = "script" if isinstance(error, ScriptError) else "error"
        self.line({kind: str(error) or type(error).__name__})

    def seen(self, seen: Seen) -> None:
        """Write a message that passed."""
        at = datetime.fromtimestamp(seen.at, UTC).isoformat(timespec="milliseconds")
        self.line(
            {
                "time": at.replace("+00:00", "Z"),
                "call": seen.call_id,
                "direction": seen.direction,
                "line": seen.first_line,
                "cseq": seen.cseq,
                "sdp": seen.sdp,
            }
        )

    def ended(self, leg: Leg) -> None:
        """Write the report of a call and its recording."""
        self._ended += 1
        report = leg.report
        self.failed += report.failed is not None
        fields = asdict(report)
        del fields["ladder"]
        self.line({"call": report.call_id, "report": fields})
        if self._record is not None:
            sound.write_wav(self._numbered(self._record), leg.media.heard.samples())
        self._changed.set()

    def undialled(self, error: Exception) -> None:
        """Write a call that could not be placed at all."""
        self._ended += 1
        self.failed += 1
        self.error(error)

    def summary(self) -> None:
        """Write the last line."""
        self.line({"calls": self._ended, "failed": self.failed})

    async def count(self, calls: int | None) -> None:
        """Wait until so many calls have ended; None: for ever."""
        while calls is None or self._ended < calls:
            self._changed.clear()
            await self._changed.wait()

    def _numbered(self, path: Path) -> Path:
        if self._ended == 1:
            return path
        return path.with_stem(f"{path.stem}-{self._ended}")
