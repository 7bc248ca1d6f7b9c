"""What stands between us and a carrier: Kamailio as a proxy, rtpengine as the media relay.

Both are Debian's, from PATH or unpacked by scripts/peers.sh; both listen on loopback only and
end with the test. Neither is told more than which side is the carrier's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_port
from tests.system.harness import ROOT, missing, until

UNPACKED = ROOT / ".cache" / "peers"
START = 30.0  # seconds for a server to listen
STOP = 5.0

# Record-Route is written twice (rr's double mode): the address of the side where a request
# leaves above the one where it came. Requests inside a dialog follow their Route or get 404.
ROUTING = """\
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
disable_core_dump=yes
dns=no
rev_dns=no
auto_aliases=no
server_signature=no
mhomed=0
{mpath}listen=tcp:127.0.0.1:{outer}
listen={side}:127.0.0.1:{inner}
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
modparam("rr", "enable_double_rr", 2)
modparam("rr", "append_fromtag", 1)
{media_module}
request_route {{
    xlog("L_ALERT", "PASSED $rm $cs $ci via=$(hdr(Via)[0])\\n");
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (has_totag()) {{
        if (!loose_route()) {{
            if (is_method("ACK")) {{
                if (t_check_trans()) t_relay();
                exit;
            }}
            sl_send_reply("404", "No Route");
            exit;
        }}
    }} else {{
        t_check_trans();
        record_route();
        if ($Rp == {outer}) {{
            $fs = "{side}:127.0.0.1:{inner}";
            $du = "sip:127.0.0.1:{bridge};transport={side}";
        }} else {{
            $fs = "tcp:127.0.0.1:{outer}";
            $du = "sip:127.0.0.1:{carrier};transport=tcp";
        }}
    }}
    {media}
    t_on_reply("BACK");
    t_relay();
}}
onreply_route[BACK] {{
    {media}
    return;
}}
"""
MEDIA_MODULE = """\
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:127.0.0.1:{control}")
"""
MEDIA = 'rtpengine_manage("replace-origin replace-session-connection");'


def binary(name: str) -> Path:
    """Return Debian's server, installed or unpacked."""
    ours = (UNPACKED / "usr/sbin", UNPACKED / "usr/bin")
    places = (os.environ.get("PATH", ""), "/usr/sbin", *(str(place) for place in ours))
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        missing(name)
    return Path(str(found))


def environment(program: Path) -> dict[str, str]:
    """Return the environment of a server: one that was unpacked has libraries beside it."""
    if not program.is_relative_to(UNPACKED):
        return dict(os.environ)
    folders = {str(file.parent) for file in UNPACKED.rglob("lib*.so*")}
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(folders))}


@dataclass(kw_only=True)
class Server:
    """A server process in a folder of its own."""

    folder: Path
    _process: asyncio.subprocess.Process | None = None

    async def run(self, program: Path, *arguments: str) -> None:
        """Start it."""
        with (self.folder / "output.log").open("wb") as sink:
            self._process = await asyncio.create_subprocess_exec(
                str(program),
                *arguments,
                cwd=self.folder,
                env=environment(program),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    async def answers(self, ports: list[int], kind: socket.SocketKind) -> None:
        """Wait until somebody has bound *ports*."""

        def bound() -> bool:
            assert self._process is not None
            assert self._process.returncode is None, f"the server ended\n{self.story()}"
            return all(_taken(port, kind) for port in ports)

        await until(bound, f"a server at {ports}", START)

    async def stop(self) -> None:
        """End it and all processes it made."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def story(self) -> str:
        """Return what it printed."""
        file = self.folder / "output.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""


@dataclass(kw_only=True)
class Kamailio(Server):
    """A proxy: ``outer`` is its port (TCP) for the carrier, ``inner`` the one for the bridge.

    ``side``: the transport of the bridge's side. ``control``: the port of an rtpengine that
    all media is to go through; 0: none.
    """

    carrier: int
    side: str = "udp"
    control: int = 0
    outer: int = field(default_factory=free_port)
    inner: int = field(default_factory=free_port)

    async def start(self, bridge: int) -> None:
        """Start it; the bridge listens at the port *bridge*."""
        program = binary("kamailio")
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "kamailio.cfg"
        config.write_text(
            ROUTING.format(
                mpath=_module_path(program),
                outer=self.outer,
                inner=self.inner,
                side=self.side,
                bridge=bridge,
                carrier=self.carrier,
                media_module=MEDIA_MODULE.format(control=self.control) if self.control else "",
                media=MEDIA if self.control else "",
            )
        )
        folder = str(self.folder)
        await self.run(
            program,
            *("-f", str(config), "-DD", "-E", "-m", "32", "-M", "4"),
            *("-w", folder, "-Y", folder),
        )
        stream = [self.outer, *([self.inner] if self.side == "tcp" else [])]
        await self.answers(stream, socket.SOCK_STREAM)
        if self.side == "udp":
            await self.answers([self.inner], socket.SOCK_DGRAM)

    def passed(self, port: int) -> Counter[str]:
        """Return how many requests of each method came from who listens at *port*."""
        line = rf"PASSED ((\w+) \d+ \S+) via=SIP/2.0/\w+ 127\.0\.0\.1:{port}\b"
        return Counter(method for _, method in set(re.findall(line, self.story())))


@dataclass(kw_only=True)
class RtpEngine(Server):
    """A media relay in user space; ``control`` is the port of its ng protocol."""

    control: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    first: int = 16000  # below the ports that the system gives
    last: int = 16999

    async def start(self) -> None:
        """Start it."""
        program = binary("rtpengine")
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.run(
            program,
            *("--config-file=none", "--foreground", "--log-stderr", "--log-level=6"),
            *("--table=-1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{self.control}"),
            *(f"--port-min={self.first}", f"--port-max={self.last}", "--num-threads=2"),
        )
        await self.answers([self.control], socket.SOCK_DGRAM)


def _module_path(program: Path) -> str:
    if not program.is_relative_to(UNPACKED):
        return ""
    folders = sorted(UNPACKED.glob("usr/lib/*/kamailio/modules"))
    return f'mpath="{folders[0]}"\n' if folders else ""


def _taken(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False
