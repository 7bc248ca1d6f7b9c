"""What a reload says: one line per setting, what needs a restart apart, no secret."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.changes import changes
from bridge.config.config import Config
from bridge.config.loading import ConfigError, from_values, load, load_http

pytestmark = pytest.mark.unit

TRUNK: dict[str, Any] = {"name": "a", "host": "192.0.2.1", "password": "old-secret"}


def config(**values: Any) -> Config:
    return from_values({"trunk": [TRUNK], **values}, {})


def test_the_same_settings_are_no_change() -> None:
    assert changes(config(), config()).as_dict() == {"changed": [], "restart": []}


def test_each_setting_is_a_line_and_what_needs_a_restart_is_apart() -> None:
    new = config(
        trunk=[{**TRUNK, "max_calls": 7, "hold_music": True, "codecs": ["PCMU"]}],
        route=[{"number": "*", "agent": "support"}],
        sip={"listen": ["udp:127.0.0.1:5071"]},
        log={"level": "debug"},
    )
    different = changes(config(), new)
    assert set(different.changed) == {
        "trunk[a].max_calls: 100 -> 7",
        "trunk[a].hold_music: false -> true",
        "trunk[a].codecs: ['PCMA', 'PCMU'] -> ['PCMU']",
        "route[0]: added",
    }
    assert set(different.restart) == {
        "sip.listen: ['tcp:0.0.0.0:5070'] -> ['udp:127.0.0.1:5071']",
        'log.level: "info" -> "debug"',
    }


def test_a_trunk_is_told_by_its_name_wherever_it_stands() -> None:
    other = {"name": "b", "host": "192.0.2.2"}
    assert changes(config(), config(trunk=[other, TRUNK])).changed == ("trunk[b]: added",)
    both, turned = config(trunk=[TRUNK, other]), config(trunk=[other, TRUNK])
    assert changes(both, turned).changed == ("trunk: another order",)
    assert changes(both, config()).changed == ("trunk[b]: removed",)


def test_a_secret_is_said_to_have_changed_and_never_shown() -> None:
    key = {"name": "app", "key": "one-secret"}
    old = config(http={"key": [key]})
    new = config(
        http={"key": [{**key, "key": "two-secret"}]},
        trunk=[{**TRUNK, "password": "new-secret"}],
        livekit={"api_secret": "third-secret"},
    )
    different = changes(old, new)
    assert set(different.changed) == {
        "http.key[app].key: changed",
        "trunk[a].password: changed",
    }
    assert different.restart == ("livekit.api_secret: changed",)
    assert "secret" not in str(different).replace("api_secret", "")


def test_plain_data_is_checked_as_a_file_is() -> None:
    given: dict[str, Any] = {"trunk": [{**TRUNK, "port": 0, "colour": 1}]}
    with pytest.raises(ConfigError) as refused:
        from_values(given, {})
    assert [line.split(": ")[0] for line in refused.value.lines] == [
        "config:trunk[0].port",
        "config:trunk[0].colour",
    ]
    assert given == {"trunk": [{**TRUNK, "port": 0, "colour": 1}]}


def test_how_the_daemon_is_reached_is_read_whatever_else_is_wrong(tmp_path: Any) -> None:
    file = tmp_path / "t.toml"
    (tmp_path / "key").write_text("from-a-file\n")
    file.write_text(
        '[http]\nlisten = "127.0.0.1:9"\n[[http.key]]\nname = "a"\nkey_file = "key"\n'
        'plan = "pro"\n[[plan]]\nname = "pro"\n[[trunk]]\nport = "x"\n'
    )
    with pytest.raises(ConfigError):
        load(file, {})
    http = load_http(file, {})
    assert (http.port, http.key[0].key.get_secret_value()) == (9, "from-a-file")
    file.write_text("[http\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load_http(file, {})
