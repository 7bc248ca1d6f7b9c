"""The configuration: the contract's own block, and one clear line per wrong one."""

import re
from pathlib import Path
from typing import Any

import pytest

from bridge.config.advice import advice, cannot_start, clear_keys, not_yet
from bridge.config.config import Config
from bridge.config.loading import ConfigError, find_config, load
from bridge.config.sections import HttpKey, PlanConfig
from bridge.config.trunk import RouteConfig, TrunkConfig, WorkflowConfig

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


def contract_block() -> str:
    text = (ROOT / "docs" / "contract.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trunkbridge.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_contracts_block_loads(tmp_path: Path) -> None:
    config = load(write(tmp_path, contract_block()), {})
    assert config.trunk[0].name == "exotel-mumbai"
    assert config.workflow[0].agent == "support"


def test_every_default_is_the_contracts(tmp_path: Path) -> None:
    """Each value of the block that is not marked ``example`` is the default of its key."""
    shown = load(write(tmp_path, contract_block()), {}).dump()
    required: dict[str, dict[str, Any]] = {
        "trunk": TrunkConfig.model_validate({"name": "x", "host": "h"}).model_dump(
            mode="json", by_alias=True
        ),
        "workflow": WorkflowConfig.model_validate({"slug": "x"}).model_dump(mode="json"),
        "plan": PlanConfig.model_validate({"name": "x"}).model_dump(mode="json"),
        "route": RouteConfig().model_dump(mode="json"),
        "http.key": HttpKey.model_validate({"name": "x", "key": "y"}).model_dump(mode="json"),
    }
    defaults = Config().dump()
    section, checked = "", 0
    for line in contract_block().splitlines():
        if match := re.match(r"^\[\[?([a-z.]+)\]\]?", line):
            section = match[1]
        elif (match := re.match(r"^([a-z_]+) = ", line)) and "# example" not in line:
            key = match[1]
            if section in required:
                node = shown["http"]["key"][0] if section == "http.key" else shown[section][0]
                expected = required[section][key]
            else:
                node, expected = shown[section], defaults[section][key]
            assert node[key] == expected, f"{section}.{key}"
            checked += 1
    assert checked > 80


WRONG = [
    ("[sip]\nlisten = ['tcp:0.0.0.0']", "sip.listen", "is not a listen address"),
    ("[sip]\nlisten = []", "sip.listen", "at least one address"),
    ("[sip]\nlisten = ['tcp:example.org:5060']", "sip.listen", "is not an address"),
    ("[sip]\nlisten = ['tls:0.0.0.0:5061']", "sip", "tls_cert_file"),
    ("[sip]\nfoo = 1", "sip.foo", "unknown key, allowed: listen advertise"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nhots = 'h'", "trunk[0].hots", " register caller_id "),
    ("[[http.key]]\nname = 'a'\nkey = 'k'\nx = 1", "http.key[0].x", "allowed: name key tenant"),
    ("[[sip]]\nmax_calls = 1", "sip", "not a table, allowed: a table"),
    ("[trunk]\nname = 'a'\nhost = 'h'", "trunk", "allowed: [[trunk]]"),
    ("[http.key]\nname = 'a'\nkey = 'k'", "http.key", "allowed: [[http.key]]"),
    ("[[route]]\nmetadata = 'x'", "route[0].metadata", "allowed: a table"),
    ("[spi]\nfoo = 1", "spi", "unknown key"),
    ("[sip]\nmax_calls = 'many'", "sip.max_calls", "valid integer"),
    ("[sip]\nmax_calls = 0", "sip.max_calls", "greater than or equal to 1"),
    ('[sip]\nuser_agent = "a\\nb"', "sip.user_agent", "control characters"),
    ("[media]\nengine = 'fast'", "media.engine", "'auto', 'direct' or 'sdk'"),
    ("[media]\nports = '20000'", "media.ports", "FIRST-LAST"),
    ("[media]\nports = '30000-20000'", "media.ports", "FIRST-LAST"),
    ("[media]\nports = '20001-20002'", "media.ports", "no even port"),
    ("[media]\nlisten = 'host'", "media.listen", "IPv4 or [IPv6]"),
    ("[livekit]\nurl = 'example.org'", "livekit.url", "ws://"),
    ("[http]\nlisten = '0.0.0.0:8080'", "http", "[[http.key]]"),
    ("[http]\nlisten = '8080'", "http.listen", "HOST:PORT"),
    ("[[http.key]]\nname = 'a'", "http.key[0].key", "missing"),
    ("[[http.key]]\nname = 'a'\nkey = 'k'\nplan = 'gold'", "http.key[0].plan", "no plan 'gold'"),
    (
        "[[http.key]]\nname = 'a'\nkey = 'k'\npermissions = ['x']",
        "http.key[0].permissions[0]",
        "stt",
    ),
    ("[store]\nurl = 'mysql://x'", "store.url", "sqlite://, postgresql://"),
    ("[daemon]\ndrain_timeout = -1", "daemon.drain_timeout", "greater than or equal to 0"),
    ("[log]\nlevel = 'loud'", "log.level", "'debug'"),
    ("[capture]\nhep = 'homer'", "capture.hep", "HOST:PORT"),
    ("[capture]\npcap_calls = 0", "capture.pcap_calls", "greater than or equal to 1"),
    ("[webhook]\nurl = 'https://x'", "webhook", "secret is missing"),
    ("[webhook]\nurl = 'http://10.0.0.1'\nsecret = 's'", "webhook", "is private or reserved"),
    ("[recording]\nurl = 'ftp://x'", "recording.url", "s3://BUCKET/PREFIX"),
    ("[recording]\nformat = 'mp3'", "recording.format", "'ogg' or 'wav'"),
    ("[[trunk]]\nname = 'a'", "trunk[0].host", "missing"),
    ("[[trunk]]\nhost = 'h'", "trunk[0].name", "missing"),
    ("[[trunk]]\nname = 'a b'\nhost = 'h'", "trunk[0].name", "pattern"),
    ("[[trunk]]\nname = 'a'\nhost = 'h h'", "trunk[0].host", "host name or address"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nport = 70000", "trunk[0].port", "65535"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nallow = ['1.2.3']", "trunk[0].allow", "CIDR"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\ncodecs = ['G729']", "trunk[0].codecs[0]", "'PCMA'"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\ncodecs = []", "trunk[0].codecs", "at least 1"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nreject = '404'", "trunk[0].reject", "'silent' or '403'"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nprofile = 'x'", "trunk[0].profile", "'exotel'"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nregister = true", "trunk[0]", "username is empty"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nusername = \"a\\nb\"", "trunk[0].username", "control"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\ncaller_id = \"a\\nb\"", "trunk[0].caller_id", "control"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nsession_timer = 30", "trunk[0].session_timer", "90"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nring_timeout = 0", "trunk[0].ring_timeout", "than 0"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\ncountry = 'India'", "trunk[0].country", "pattern"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nheaders = {Via = 'x'}", "trunk[0].headers", "bridge"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\nheaders = {Min-SE = '90'}", "trunk[0].headers", "bridge"),
    ("[[trunk]]\nname = 'a'\nhost = 'h'\noutbound_proxy = 'p:0'", "trunk[0].outbound_proxy", ":"),
    (
        "[[trunk]]\nname = 'a'\nhost = 'h'\n[[trunk]]\nname = 'a'\nhost = 'h'",
        "trunk[1].name",
        "twi",
    ),
    ("[[route]]\ntrunk = 'zz'", "route[0].trunk", "no trunk 'zz'"),
    ("[[route]]\nroom = 'r-{foo}'", "route[0].room", "{call_id}"),
    ("[[route]]\nanswer = 'later'", "route[0].answer", "'agent' or 'now'"),
    ("[[workflow]]\nslug = 'a'\ntrunk = 'zz'", "workflow[0].trunk", "no trunk 'zz'"),
    ("[[workflow]]\nslug = 'a'\n[[workflow]]\nslug = 'a'", "workflow[1].slug", "defined twice"),
]


@pytest.mark.parametrize(
    ("text", "key", "said"), WRONG, ids=[row[1] + ":" + row[2] for row in WRONG]
)
def test_a_wrong_line_gives_one_line_naming_file_and_key(
    tmp_path: Path, text: str, key: str, said: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(f"{path}:{key}: ")
    assert said in caught.value.lines[0]


def test_several_wrong_lines_are_all_told(tmp_path: Path) -> None:
    text = "[sip]\nfoo = 1\nmax_calls = 0\n[[route]]\ntrunk = 'zz'\n[log]\nlevel = 'x'"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert len(caught.value.lines) == 4


def test_a_file_that_is_not_toml_or_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (write(tmp_path, "[sip\n"), tmp_path / "absent.toml"):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert len(caught.value.lines) == 1
        assert str(path) in caught.value.lines[0]


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKBRIDGE_SIP__MAX_CALLS", "7")
    monkeypatch.setenv("TRUNKBRIDGE_SIP__LISTEN", '["udp:127.0.0.1:5062"]')
    config = load(write(tmp_path, "[sip]\nmax_calls = 5\nuser_agent = 'x'"))
    assert (config.sip.max_calls, config.sip.user_agent) == (7, "x")
    assert config.sip.listen == ["udp:127.0.0.1:5062"]


def test_a_wrong_value_of_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUNKBRIDGE_SIP__MAX_CALLS", "seven")
    with pytest.raises(ConfigError, match=r"^environment:TRUNKBRIDGE_SIP__MAX_CALLS: "):
        load(None)


def test_an_unknown_section_in_the_environment_is_an_error() -> None:
    with pytest.raises(ConfigError, match="TRUNKBRIDGE_SPI__X: unknown section"):
        load(None, {"TRUNKBRIDGE_SPI__X": "1"})


def test_a_secret_is_read_from_credentials_first_then_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[livekit]\napi_secret_file = 'lk'\n")
    (tmp_path / "lk").write_text("beside\n")
    assert load(path, {}).livekit.api_secret.get_secret_value() == "beside"
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "lk").write_text("credential\n")
    config = load(path, {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert config.livekit.api_secret.get_secret_value() == "credential"


def environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"TRUNKBRIDGE_{name}", value)


def test_the_environment_may_name_a_secrets_file_and_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lk").write_text("of the file\n")
    (tmp_path / "hook").write_text("beside\n")
    path = write(tmp_path, "[livekit]\napi_secret = 'x'\n[webhook]\nsecret_file = 'absent'\n")
    environment(monkeypatch, LIVEKIT__API_SECRET_FILE="lk", WEBHOOK__SECRET="variable")
    config = load(path)
    assert config.livekit.api_secret.get_secret_value() == "of the file"
    assert config.webhook.secret.get_secret_value() == "variable"


def test_a_secrets_file_of_the_environment_that_is_wrong_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "")
    environment(monkeypatch, STORE__URL_FILE="absent", LIVEKIT__API_KEY_FILE="a")
    environment(monkeypatch, LIVEKIT__API_KEY="b")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.lines == [
        "environment:TRUNKBRIDGE_LIVEKIT__API_KEY_FILE: api_key is given too, allowed: one of them",
        f"environment:TRUNKBRIDGE_STORE__URL_FILE: no such file in {tmp_path}",
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("SIP__LISTEN", "tcp:0.0.0.0:5070"), ("TRUNK", "x"), ("SIP", "{")]
)
def test_a_variable_that_should_be_json_and_is_not_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment(monkeypatch, **{name: value})
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert len(caught.value.lines) == 1
    assert caught.value.lines[0].startswith(f"environment:TRUNKBRIDGE_{name}: not JSON, allowed: ")


def test_a_variable_for_a_part_of_an_array_of_tables_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, TRUNK__0__HOST="h")
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[[trunk]]\nname = 'a'\nhost = 'h'\n"))
    (line,) = caught.value.lines
    assert line.startswith("environment:TRUNKBRIDGE_TRUNK__0__HOST: ")
    assert line.endswith('allowed: TRUNKBRIDGE_TRUNK=[{"KEY": …}]')


def test_a_missing_secret_file_and_a_secret_given_twice_are_told(tmp_path: Path) -> None:
    text = "[livekit]\napi_secret_file = 'no'\n[webhook]\nsecret = 'a'\nsecret_file = 'b'\n"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    assert len(caught.value.lines) == 2
    assert "livekit.api_secret_file: no such file" in caught.value.lines[0]
    assert "webhook.secret_file: secret is given too" in caught.value.lines[1]


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Threat 5.1: Privacy."""
    text = contract_block().replace('password = ""', 'password = "hunter2"')
    text = text.replace("sqlite:///trunkbridge.db", "postgresql://me:hunter2@db/x")
    text = text.replace('api_secret = "devsecret"', 'api_secret = "hunter2"')
    config = load(write(tmp_path, text), {})
    assert "hunter2" not in repr(config.dump())
    assert "hunter2" not in repr(config.trunk)


def test_a_wrongly_written_secret_is_not_shown_in_its_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[livekit]\napi_secret = 31337\n"), {})
    assert "31337" not in caught.value.lines[0]
    assert "livekit.api_secret: " in caught.value.lines[0]


def test_a_profile_sets_defaults_and_the_file_wins(tmp_path: Path) -> None:
    text = "[[trunk]]\nname = 'a'\nhost = 'h'\nprofile = 'airtel'\n"
    trunk = load(write(tmp_path, text), {}).trunk[0]
    assert (trunk.user_phone, trunk.transport) == (True, "udp")
    trunk = load(write(tmp_path, text + "user_phone = false\n"), {}).trunk[0]
    assert not trunk.user_phone


def test_what_is_not_served_yet_is_said_and_what_prevents_a_start_is_apart(tmp_path: Path) -> None:
    text = "[sessions]\nagent = 'a'\n[recording]\nurl = 'file:///x'\n"
    config = load(write(tmp_path, text), {})
    assert list(not_yet(config)) == []
    assert cannot_start(config) == []


def test_recordings_go_to_a_folder_or_to_s3_and_who_records_all_is_told_so(tmp_path: Path) -> None:
    for url in ("kept", "/var/lib/kept", "file:///kept", "s3://bucket/some/prefix"):
        config = load(write(tmp_path, f"[recording]\nurl = '{url}'\n"), {})
        assert config.recording.url == url
        assert list(advice(config)) == []
    config = load(write(tmp_path, "[recording]\nurl = 'kept'\n[[route]]\nagent = 'a'\n"), {})
    assert [line.partition(":")[0] for line in advice(config)] == ["recording.url"]
    for url in ("gs://bucket/x", "https://bucket", "s3://"):
        with pytest.raises(ConfigError) as caught:
            load(write(tmp_path, f"[recording]\nurl = '{url}'\n"), {})
        assert "recording.url" in caught.value.lines[0]


def test_a_trunk_that_registers_but_lets_nobody_call_is_pointed_at(tmp_path: Path) -> None:
    """Row 99. Contract 3, Sources: ``allow`` rules new calls, also those of a registrar."""
    text = "[[trunk]]\nname = 'a'\nhost = 'h'\nregister = true\nusername = 'u'\n"
    config = load(write(tmp_path, text), {})
    assert len(list(advice(config))) == 1
    assert list(not_yet(config)) == []
    config = load(write(tmp_path, text + "allow = ['192.0.2.1']\n"), {})
    assert list(advice(config)) == []


def test_a_port_that_is_not_given_is_for_dns_to_find(tmp_path: Path) -> None:
    """Row 16. RFC 3263 4.2; a profile's port counts as given, unless it is the usual one."""
    text = "[[trunk]]\nname = 'a'\nhost = 'h'\n"
    assert load(write(tmp_path, text), {}).trunk[0].dialled_port is None
    assert load(write(tmp_path, text + "port = 5060\n"), {}).trunk[0].dialled_port == 5060
    assert load(write(tmp_path, text + "profile = 'exotel'\n"), {}).trunk[0].dialled_port == 5070
    telnyx = load(write(tmp_path, text + "profile = 'telnyx'\n"), {}).trunk[0]
    assert (telnyx.port, telnyx.dialled_port) == (5060, None)
    secure = text + "transport = 'tls'\n"
    trunk = load(write(tmp_path, secure), {}).trunk[0]
    assert (trunk.port, trunk.dialled_port) == (5061, None)
    assert load(write(tmp_path, secure + "profile = 'exotel'\n"), {}).trunk[0].dialled_port == 443


@pytest.mark.parametrize(
    ("username", "user"),
    [("line1", "line1"), ("line1@realm.example", "line1"), ("a b:c", "a%20b%3Ac"), ("+91", "+91")],
)
def test_the_registered_user_is_what_a_uri_may_have(username: str, user: str) -> None:
    """Row 99."""
    trunk = TrunkConfig(name="a", host="h", register=True, username=username)
    assert trunk.registered_user == user
    assert TrunkConfig(name="a", host="h", username=username).registered_user == ""


def test_keys_of_srtp_in_clear_sip_are_said_and_prevent_nothing(tmp_path: Path) -> None:
    """Row 68. RFC 4568 8.3: who reads the SIP can listen."""
    trunks = "".join(
        f"[[trunk]]\nname = '{srtp}-{transport}'\nhost = 'h'\nsrtp = '{srtp}'\n"
        f"transport = '{transport}'\n"
        for srtp in ("off", "optional", "required")
        for transport in ("udp", "tcp", "tls")
    )
    config = load(write(tmp_path, trunks), {})
    assert list(clear_keys(config)) == [
        f"trunk[{index}].srtp: its keys are sent in clear over {transport}, use tls"
        for index, transport in ((3, "udp"), (4, "tcp"), (6, "udp"), (7, "tcp"))
    ]
    assert not any("srtp" in line for line in cannot_start(config))


def test_the_file_is_found_in_the_contracts_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {}) in (None, Path("/etc/trunkbridge/trunkbridge.toml"))
    write(tmp_path, "")
    assert find_config(None, {}) == Path("trunkbridge.toml")
    assert find_config(None, {"TRUNKBRIDGE_CONFIG": "env.toml"}) == Path("env.toml")
    assert find_config("mine.toml", {"TRUNKBRIDGE_CONFIG": "env.toml"}) == Path("mine.toml")


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://a.example/", "https://u@a.example", "ftp://a.example"]
)
def test_an_origin_is_a_scheme_and_a_host(tmp_path: Path, origin: str) -> None:
    text = f"[http]\ncors_origins = ['https://app.example.com:8443', '{origin}']\n"
    with pytest.raises(ConfigError, match=r"http.cors_origins: .*no origin"):
        load(write(tmp_path, text), {})


def test_the_plans_of_the_seed_are_there_and_the_file_wins(tmp_path: Path) -> None:
    """Seed 004, Limits: free 1, starter 5, pro 20, enterprise unlimited."""
    text = "[[plan]]\nname = 'starter'\nsessions = 7\n"
    config = load(write(tmp_path, text), {})
    named = {name: config.plan_named(name) for name in ("free", "starter", "pro", "enterprise")}
    sessions = {name: plan.sessions for name, plan in named.items() if plan is not None}
    assert sessions == {"free": 1, "starter": 7, "pro": 20, "enterprise": 0}
    assert config.plan_named("gold") is None
