"""What several verbs share: their options, and how they fail."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bridge.config import Config, ConfigError, find_config, load
from trunkbridge.client import Client

FAILED = 1
WRONG_USAGE = 2

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file; default $TRUNKBRIDGE_CONFIG, ./trunkbridge.toml, "
        "/etc/trunkbridge/trunkbridge.toml.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The daemon's HTTP address; default $TRUNKBRIDGE_URL or [http]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def complain(text: str) -> None:
    """Print one line to standard error."""
    typer.echo(text, err=True)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Print *text* to standard error and exit."""
    complain(text)
    raise typer.Exit(code)


def show_json(value: Any) -> None:
    """Print *value* as JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def load_or_exit(config: str | None) -> tuple[Config, Path | None]:
    """Return the configuration and its file, or exit 2 with one line per error."""
    path = find_config(config)
    try:
        return load(path), path
    except ConfigError as failure:
        for line in failure.lines:
            complain(line)
        raise typer.Exit(WRONG_USAGE) from None


def client_of(url: str | None, config: str | None) -> Client:
    """Return a client of the daemon that --url, the environment or [http] names."""
    url = url or os.environ.get("TRUNKBRIDGE_URL")
    key = os.environ.get("TRUNKBRIDGE_API_KEY")
    if url is None or key is None:
        path = find_config(config)
        settings = load_or_exit(config)[0] if path is not None and path.is_file() else Config()
        if key is None and settings.http.key:
            key = settings.http.key[0].key.get_secret_value()
        host = settings.http.host
        if host in ("0.0.0.0", "::"):  # noqa: S104 (a comparison)
            host = "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        url = url or f"http://{host}:{settings.http.port}"
    return Client(url, key)
