"""``trunkbridge check``"""

from __future__ import annotations

from typing import Any

import typer

from bridge.cli.options import (
    WRONG_USAGE,
    ConfigOption,
    JsonOption,
    complain,
    show_json,
)
from bridge.config.advice import advice, cannot_start, clear_keys, not_yet
from bridge.config.config import Config
from bridge.config.loading import ConfigError, find_config, load

HELP = """Validate the configuration and print the effective settings, secrets masked.

Exits 2 with one line per error, also for what this version cannot start with and for
certificates that cannot be used or are not valid today.

\b
Example: trunkbridge check --config /etc/trunkbridge/trunkbridge.toml
"""


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    path = find_config(config)
    try:
        settings = load(path)
    except ConfigError as failure:
        if as_json:
            show_json({"errors": failure.lines})
        for line in failure.lines:
            complain(line)
        raise typer.Exit(WRONG_USAGE) from None
    if as_json:
        show_json(settings.dump())
    else:
        typer.echo(f"# {path or 'defaults and environment'}")
        for line in _lines(settings.dump()):
            typer.echo(line)
    for line in (*not_yet(settings), *clear_keys(settings), *advice(settings)):
        complain(f"{path or 'environment'}:{line}")
    bad = _bad_certificates(settings)
    for line in bad:
        complain(f"{path or 'environment'}:{line}")
    if bad or cannot_start(settings):
        raise typer.Exit(WRONG_USAGE)


def _bad_certificates(settings: Config) -> list[str]:
    from bridge.transport.certificates import CertificateError, Certificates

    try:
        return list(Certificates.load(settings).unfit)
    except CertificateError as failure:
        return failure.lines


def _lines(document: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for section, value in document.items():
        if isinstance(value, dict):
            lines.extend(_table(f"[{section}]", value))
        else:
            for entry in value:
                lines.extend(_table(f"[[{section}]]", entry))
    return lines


def _table(title: str, values: dict[str, Any]) -> list[str]:
    """Return one table in TOML's spelling, its arrays of tables after it."""
    lines = ["", title]
    later: list[str] = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                later.extend(_table(f"[{title.strip('[]')}.{key}]".join("[]"), entry))
        else:
            lines.append(f"{key} = {_value(value)}")
    return lines + later


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case float() if value.is_integer():
            return str(int(value))
        case list():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f'"{k}" = {_value(v)}' for k, v in value.items()) + "}"
        case _:
            return str(value)
