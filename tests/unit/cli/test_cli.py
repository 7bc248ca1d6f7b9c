"""The command line: help with examples, one line per error, exit statuses, JSON."""

from __future__ import annotations

import json
import socket
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bridge.cli.app import app
from bridge.cli.timeline import line_of
from bridge.config import load

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write(tmp_path: Path, *, http: int = 8080, sip: int = 5070, extra: str = "") -> str:
    path = tmp_path / "given.toml"
    path.write_text(CONFIG.format(http=http, sip=sip) + extra)
    return str(path)


class Daemon(BaseHTTPRequestHandler):
    """Answers like the API; ``asked`` are the requests."""

    asked: list[tuple[str, str, str | None, Any]] = []  # noqa: RUF012
    outcome = "completed"

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
        if self.command == "POST":
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
            self._answer(200, {"call_id": CALL, "outcome": self.outcome})

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (http.server's names)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Daemon.asked, Daemon.outcome = [], "completed"
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


@pytest.mark.parametrize("words", [("dial",), ("hangup",), ("nothing",), ("check", "--nothing")])
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
def test_what_this_version_cannot_start_with_is_2(verb: str, tmp_path: Path) -> None:
    given = write(tmp_path, extra='transport = "tls"\n')
    status, _, err = trunkbridge(verb, "--config", given)
    assert status == 2
    assert "trunk[0].transport" in err


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


@pytest.mark.parametrize("words", [("dial", "--to", "+91"), ("hangup", CALL)])
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
