"""The command line: help with examples, one line per error, exit statuses, JSON."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bridge import native
from bridge.__main__ import main
from bridge.cli.app import app
from bridge.cli.table import ladder_lines, pretty
from bridge.cli.timeline import line_of
from bridge.config.loading import load
from tests.ports import free_port

pytestmark = pytest.mark.unit

VERBS = (
    *("run", "check", "demo", "dial", "calls", "show", "hangup", "drain", "reload", "carrier"),
)
CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
CONFIG = """\
[livekit]
api_key = "devkey"
api_secret = "devsecret-devsecret-devsecret-devsecret"

[http]
listen = "127.0.0.1:{http}"
[[http.key]]
name = "app"
key = "s3cret-key"

[sip]
listen = ["tcp:127.0.0.1:{sip}"]

[[trunk]]
name = "t"
host = "192.0.2.9"
password = "s3cret-password"
"""


def test_where_the_client_alone_is_installed_the_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("bridge.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r"no typer here: pip install 'trunkbridge\[daemon\]'"):
        main()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("TRUNKBRIDGE_CONFIG", "TRUNKBRIDGE_URL", "TRUNKBRIDGE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def trunkbridge(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def write(tmp_path: Path, *, http: int = 8080, sip: int = 5070, extra: str = "") -> str:
    path = tmp_path / "given.toml"
    path.write_text(CONFIG.format(http=http, sip=sip) + extra)
    return str(path)


RESOURCE: dict[str, Any] = {
    "id": CALL,
    "phone_number": "+919876543210",
    "trunk_number": "+918047361000",
    "direction": "inbound",
    "trunk": "t",
    "status": "active",
    "hold": False,
    "outcome": None,
    "reason": None,
    "ended_by": None,
    "sip_status": None,
    "agent": "support",
    "room_name": "r",
    "duration_seconds": None,
    "created_at": "2026-11-21T12:00:00.000Z",
    "started_at": None,
}
ENDED = {
    **RESOURCE,
    "status": "completed",
    "outcome": "completed",
    "reason": "remote_hangup",
    "ended_by": "caller",
    "duration_seconds": 3723,
    "started_at": "2026-11-21T12:00:02.000Z",
}
EVENTS = [
    {
        "event": "call_hold",
        "version": 1,
        "call_id": CALL,
        "seq": 3,
        "at": "2026-11-21T12:00:05.250Z",
        "direction": "sendonly",
    }
]
RUNGS = [
    {
        "at": "2026-11-21T12:00:00.020Z",
        "direction": "in",
        "first_line": "INVITE sip:***@192.0.2.1:5070 SIP/2.0",
        "sdp_direction": "sendonly",
        "transport": "tcp",
        "peer": "192.0.2.9",
    },
    {
        "at": "2026-11-21T12:00:00.040Z",
        "direction": "out",
        "first_line": "SIP/2.0 200 OK",
        "sdp_direction": None,
        "transport": "tcp",
        "peer": "192.0.2.9",
    },
]


class Daemon(BaseHTTPRequestHandler):
    """Answers like the API; ``asked`` are the requests."""

    asked: list[tuple[str, str, str | None, Any]] = []  # noqa: RUF012
    outcome = "completed"
    left: list[int] = []  # noqa: RUF012
    calls: list[Any] = []  # noqa: RUF012
    reloaded: tuple[int, Any] = (200, {"changed": [], "restart": []})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
        path, *_ = self.path.partition("?")
        if path == "/api/v1/drain":
            self._answer(202, {"status": "draining", "calls": self.left.pop(0)})
        elif path == "/api/v1/reload":
            self._answer(*self.reloaded)
        elif path == "/api/v1/calls" and self.command == "GET":
            self._answer(200, {"items": self.calls})
        elif path.endswith("/ladder"):
            self._answer(200, RUNGS)
        elif path.endswith("/events") and "text/event-stream" not in self.headers["Accept"]:
            self._answer(200, EVENTS if CALL in path else [])
        elif self.command == "POST":
            self._answer(201, {"call_id": CALL, "status": "pending", "room_name": "r"})
        elif CALL not in self.path:
            self._answer(404, {"detail": "no such call"})
        elif self.path.endswith("/events"):
            at = "2026-11-21T12:00:00.123Z"
            event = {"event": "call_ended", "call_id": CALL, "seq": 1, "at": at}
            text = json.dumps({**event, "outcome": self.outcome})
            data = f"id: 0\n\nevent: call_ended\ndata: {text}\nid: 1\n\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        else:
            self._answer(200, {**RESOURCE, "call_id": CALL, "outcome": self.outcome})

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (http.server's names)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Daemon.asked, Daemon.outcome = [], "completed"
    Daemon.left, Daemon.calls = [0], []
    Daemon.reloaded = (200, {"changed": [], "restart": []})
    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("TRUNKBRIDGE_URL", url)
        yield url
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_on_one_line(verb: str) -> None:
    status, out, _ = trunkbridge(verb, "--help")
    assert status == 0
    example = out.partition("Example:")[2].strip().splitlines()[0]
    assert example.startswith(f"trunkbridge {verb}")
    assert "--json" in out


def test_the_verbs_are_those_of_the_contract_so_far() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert tuple(commands) == VERBS


@pytest.mark.parametrize(
    "words",
    [
        ("dial",),
        ("hangup",),
        ("nothing",),
        ("check", "--nothing"),
        ("show",),
        ("calls", "--status", "done"),
        ("calls", "--limit", "0"),
    ],
)
def test_wrong_usage_is_2(words: tuple[str, ...]) -> None:
    status, _, err = trunkbridge(*words)
    assert status == 2
    assert "Traceback" not in err


# check


def test_check_prints_settings_that_load_again_with_secrets_masked(tmp_path: Path) -> None:
    status, out, err = trunkbridge("check", "--config", write(tmp_path))
    assert (status, err) == (0, "")
    assert "s3cret" not in out
    assert "devsecret" not in out
    (tmp_path / "again.toml").write_text(out)
    assert tomllib.loads(out)["trunk"][0]["name"] == "t"
    assert load(tmp_path / "again.toml").trunk[0].host == "192.0.2.9"


def test_check_prints_json(tmp_path: Path) -> None:
    status, out, _ = trunkbridge("check", "--json", "--config", write(tmp_path))
    assert status == 0
    assert json.loads(out)["http"]["key"][0]["name"] == "app"
    assert "s3cret" not in out


def test_check_prints_errors_as_json_too(tmp_path: Path) -> None:
    given = write(tmp_path, extra="colour = 1\n")
    status, out, err = trunkbridge("check", "--json", "--config", given)
    assert status == 2
    assert json.loads(out) == {"errors": err.splitlines()}


@pytest.mark.parametrize("verb", ["check", "run"])
def test_every_error_of_a_config_is_a_line_of_its_own_and_2(verb: str, tmp_path: Path) -> None:
    given = write(tmp_path, extra="colour = 1\nport = 99999\n[media]\nports = 'x'\n")
    status, out, err = trunkbridge(verb, "--config", given)
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{given}:") for line in lines)


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("text", ["[", "\x00", None])
def test_a_config_that_cannot_be_read_is_one_line_and_2(
    verb: str, text: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "broken.toml"
    if text is not None:
        path.write_text(text)
    status, _, err = trunkbridge(verb, "--config", str(path))
    assert status == 2
    assert err.startswith(f"{path}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["check", "run"])
def test_what_this_version_cannot_start_with_is_2(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "is_built", lambda: False)
    given = write(tmp_path, extra='[media]\nengine = "direct"\n')
    status, _, err = trunkbridge(verb, "--config", given)
    assert status == 2
    assert "media.engine" in err


def test_check_names_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    given = write(tmp_path, extra='transport = "tls"\ntls_ca_file = "/nowhere/ca.pem"\n')
    status, _, err = trunkbridge("check", "--config", given)
    assert status == 2
    assert "trunk[0].tls_ca_file: '/nowhere/ca.pem': cannot be read: No such file" in err


# run


@pytest.mark.parametrize("taken", ["sip", "http"])
def test_a_taken_port_is_one_line_and_1(taken: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = {"sip": free_port(), "http": free_port(), taken: other.getsockname()[1]}
        given = write(tmp_path, **ports)
        status, out, err = _in_a_process("run", "--config", given)
    assert (status, out) == (1, "")
    complaint = [line for line in err.splitlines() if not line.startswith("{")]
    assert len(complaint) == 1, err
    assert complaint[0].startswith("run: ")
    assert str(ports[taken]) in complaint[0]
    assert "Traceback" not in err
    assert "s3cret" not in err


def _in_a_process(*words: str) -> tuple[int, str, str]:
    """`run` takes the loop's policy, signals and logging: not in this process."""
    import os
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# dial and hangup


def test_dial_accepts_and_says_so(daemon: str) -> None:
    status, out, err = trunkbridge("dial", "--to", "+919876543210", "--agent", "a")
    assert (status, out, err) == (0, f"{CALL} pending room=r\n", "")
    assert Daemon.asked == [
        ("POST", "/api/v1/calls", None, {"phone_number": "+919876543210", "agent": "a"})
    ]


def test_a_number_is_enough_to_dial(daemon: str) -> None:
    """The API wants a trunk or an agent said; here neither means no agent, the only trunk."""
    assert trunkbridge("dial", "--to", "+919876543210")[0] == 0
    assert Daemon.asked[0][3] == {"phone_number": "+919876543210", "agent": ""}


@pytest.mark.parametrize(("outcome", "expected"), [("completed", 0), ("busy", 1)])
def test_dial_and_wait_shows_the_call_and_how_it_ended(
    daemon: str, outcome: str, expected: int
) -> None:
    Daemon.outcome = outcome
    status, out, _ = trunkbridge("dial", "--to", "+919876543210", "--wait")
    assert status == expected
    assert out.splitlines()[1] == f"12:00:00.123   1  call_ended     outcome={outcome}"


def test_dial_prints_json_lines(daemon: str) -> None:
    status, out, _ = trunkbridge("dial", "--to", "+919876543210", "--wait", "--json")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [lines[0]["call_id"], lines[1]["event"]] == [CALL, "call_ended"]


def test_hangup_is_0_and_1_for_an_unknown_call(daemon: str) -> None:
    assert trunkbridge("hangup", CALL) == (0, "", "")
    status, out, _ = trunkbridge("hangup", CALL, "--json")
    assert (status, json.loads(out)) == (0, {"call_id": CALL})
    assert trunkbridge("hangup", "nope") == (1, "", "hangup: no such call\n")


@pytest.mark.parametrize(
    "words",
    [
        ("dial", "--to", "+91"),
        ("hangup", CALL),
        ("calls",),
        ("calls", "--watch"),
        ("show", CALL),
        ("drain",),
        ("reload",),
    ],
)
def test_nobody_there_is_one_line_and_1(words: tuple[str, ...]) -> None:
    status, out, err = trunkbridge(*words, "--url", f"http://127.0.0.1:{free_port()}")
    assert (status, out) == (1, "")
    assert err.startswith(f"{words[0]}: http://127.0.0.1:")
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://[::1", "nonsense"])
def test_a_url_that_is_none_is_one_line_and_2(url: str) -> None:
    status, _, err = trunkbridge("hangup", CALL, "--url", url)
    assert status == 2
    assert err.startswith("--url: ")
    assert err.count("\n") == 1


def test_a_config_that_is_named_and_missing_is_2(tmp_path: Path) -> None:
    status, _, err = trunkbridge("hangup", CALL, "--config", str(tmp_path / "none.toml"))
    assert (status, err.count("\n")) == (2, 1)


def test_a_wrong_environment_is_one_line_and_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKBRIDGE_HTTP__LISTEN", "nonsense")
    status, _, err = trunkbridge("hangup", CALL)
    assert (status, err.count("\n")) == (2, 1)


def test_url_and_key_come_from_the_config_and_the_environment_wins(
    daemon: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write(tmp_path, http=int(daemon.rpartition(":")[2]))
    monkeypatch.delenv("TRUNKBRIDGE_URL")
    assert trunkbridge("hangup", CALL, "--config", given)[0] == 0
    monkeypatch.setenv("TRUNKBRIDGE_API_KEY", "other")
    assert trunkbridge("hangup", CALL, "--config", given)[0] == 0
    assert [asked[2] for asked in Daemon.asked] == ["Bearer s3cret-key", "Bearer other"]


def test_the_configs_key_goes_to_no_other_host_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bridge.cli.options import client_of

    write(tmp_path)
    (tmp_path / "given.toml").rename(tmp_path / "trunkbridge.toml")
    away = client_of("http://bridge.example.com", None)
    here = client_of("http://127.0.0.1:8080", None)
    assert "authorization" not in away._http.headers
    assert here._http.headers["authorization"] == "Bearer s3cret-key"


# calls and show


def test_calls_are_a_table_that_cuts_nothing(daemon: str) -> None:
    Daemon.calls = [{**RESOURCE, "hold": True, "phone_number": None}, ENDED]
    status, out, err = trunkbridge("calls", "--status", "active", "--limit", "5")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["CALL", "NUMBER", "DIRECTION", "TRUNK", "STATUS", "TALKING", "BEGAN"],
        [CALL, "withheld", "inbound", "t", "on", "hold", "2026-11-21", "12:00:00"],
        [
            *(CALL, "+919876543210", "inbound", "t", "completed", "(remote_hangup)"),
            *("1:02:03", "2026-11-21", "12:00:00"),
        ],
    ]
    assert Daemon.asked[0][1] == "/api/v1/calls?status=active&page=1&page_size=5"


def test_calls_are_json_lines(daemon: str) -> None:
    Daemon.calls = [RESOURCE, ENDED]
    status, out, _ = trunkbridge("calls", "--json")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [RESOURCE, ENDED]


def test_show_draws_the_timeline_and_the_messages(daemon: str) -> None:
    status, out, _ = trunkbridge("show", CALL)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == ("inbound +919876543210 on t, began 2026-11-21 12:00:00: completed")
    assert "12:00:05.250   3  call_hold      direction=sendonly" in lines
    invite, ok = lines[-2:]
    assert invite.startswith("12:00:00.020  │─")
    assert invite.endswith("─▶│")
    assert " INVITE sip:***@192.0.2.1:5070 [sendonly] " in invite
    assert ok.startswith("12:00:00.040  │◀─")
    assert " 200 OK " in ok
    assert len(invite) == len(ok)
    assert "tcp 192.0.2.9" in out


def test_show_is_one_json_object(daemon: str) -> None:
    status, out, _ = trunkbridge("show", CALL, "--json")
    assert status == 0
    story = json.loads(out)
    assert story["events"] == EVENTS
    assert story["ladder"] == RUNGS
    assert story["call"]["id"] == CALL


def test_a_ladder_without_drawing_characters_is_ascii() -> None:
    long = {**RUNGS[0], "first_line": "INVITE sip:" + "x" * 100 + "@192.0.2.1 SIP/2.0"}
    lines = list(ladder_lines([*RUNGS, {**long, "sdp_direction": None}, long], fancy=False))
    assert "->|" in lines[2]
    assert "|<-" in lines[3]
    assert len({len(line) for line in lines[2:]}) == 1
    assert lines[-1].count("[sendonly]") == 1


# drain and reload


def test_drain_says_how_many_calls_are_left_and_waits_when_told(
    daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.cli.drain._PAUSE", 0)
    Daemon.left = [2]
    assert trunkbridge("drain") == (0, "draining, 2 calls left\n", "")
    Daemon.left = [2, 2, 1, 0]
    status, out, _ = trunkbridge("drain", "--wait")
    assert status == 0
    assert out == "draining, 2 calls left\ndraining, 1 call left\ndrained, no call is left\n"
    Daemon.left = [1, 0]
    status, out, _ = trunkbridge("drain", "--wait", "--json")
    assert [json.loads(line)["calls"] for line in out.splitlines()] == [1, 0]


def test_reload_prints_what_changed_and_what_waits(daemon: str) -> None:
    assert trunkbridge("reload") == (0, "nothing changed\n", "")
    changes = {"changed": ["trunk[t].port: 1 -> 2"], "restart": ["log.level: x -> y"]}
    Daemon.reloaded = (200, changes)
    status, out, _ = trunkbridge("reload")
    assert (status, out.splitlines()) == (
        0,
        ["trunk[t].port: 1 -> 2", "log.level: x -> y (needs a restart)"],
    )
    status, out, _ = trunkbridge("reload", "--json")
    assert json.loads(out) == changes


def test_a_refused_reload_is_a_line_for_each_error_and_1(daemon: str) -> None:
    errors = [{"field": "a", "message": "t.toml:a: x"}, {"field": "b", "message": "t.toml:b: y"}]
    Daemon.reloaded = (422, {"detail": "wrong", "errors": errors})
    assert trunkbridge("reload") == (1, "", "t.toml:a: x\nt.toml:b: y\n")
    status, out, err = trunkbridge("reload", "--json")
    assert (status, json.loads(out)["errors"]) == (1, errors)
    assert err.count("\n") == 2


def test_a_file_that_is_no_toml_stops_no_reload_where_the_address_is_known(
    daemon: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trunkbridge.toml").write_text("[")
    assert trunkbridge("reload")[0] == 0
    monkeypatch.delenv("TRUNKBRIDGE_URL")
    status, out, err = trunkbridge("reload")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("trunkbridge.toml: not TOML")
    assert trunkbridge("hangup", CALL)[0] == 2


def test_a_wrong_trunk_puts_the_daemon_out_of_reach_of_nobody(
    daemon: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write(tmp_path, http=int(daemon.rpartition(":")[2]), extra="colour = 1\n")
    monkeypatch.delenv("TRUNKBRIDGE_URL")
    assert trunkbridge("hangup", CALL, "--config", given)[0] == 0
    assert Daemon.asked[-1][2] == "Bearer s3cret-key"


# carrier


@pytest.mark.parametrize(
    "words",
    [
        ("--script", "dance 5s"),
        ("--listen", "nowhere"),
        ("--wav", "none.wav", "--dial", "sip:1@127.0.0.1:9"),
    ],
)
def test_what_a_carrier_cannot_do_is_said_without_a_traceback(words: tuple[str, ...]) -> None:
    status, out, err = trunkbridge("carrier", "--listen", f"127.0.0.1:{free_port()}", *words)
    assert status in (1, 2)
    assert "Traceback" not in out + err
    assert {"error", "script"} & json.loads(out.splitlines()[-1]).keys()


def test_a_timeline_line_leaves_out_what_is_unknown() -> None:
    event = {
        "event": "call_ended",
        "version": 1,
        "call_id": CALL,
        "seq": 12,
        "at": "2026-11-21T12:00:00.123Z",
        "outcome": "busy",
        "q850": None,
        "duration_ms": 0,
    }
    assert line_of(event) == "12:00:00.123  12  call_ended     outcome=busy duration_ms=0"


@pytest.mark.parametrize("width", [80, 130, 200])
def test_a_table_on_a_terminal_never_cuts_what_is_needed_to_go_on(width: int) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    console.print(pretty([{**RESOURCE, "hold": True}, ENDED], width, "1 call now"))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert all(len(line) <= width for line in lines)
    assert [CALL in line and "+919876543210" in line for line in lines[2:]] == [True, True]
    assert "on hold" in lines[2]
    assert "completed" in lines[3]
    assert "1:02:03" in lines[3]
    assert ("inbound" in lines[2]) is (width >= 130)
