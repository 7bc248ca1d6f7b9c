"""What several verbs share: their options, and how they fail."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

from bridge.config.config import Config
from bridge.config.loading import ConfigError, find_config, load, load_http
from bridge.config.sections import HttpConfig
from bridge.config.values import is_loopback
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
    try:
        return reach(url, config)
    except ConfigError as failure:
        for line in failure.lines:
            complain(line)
        raise typer.Exit(WRONG_USAGE) from None


def reach(url: str | None, config: str | None) -> Client:
    """`client_of`; raises `ConfigError` when the configuration is needed and cannot be read.

    Of the file ``[http]`` alone has to be right: a daemon that runs is not out of reach
    because somebody is editing a trunk.
    """
    url = url or os.environ.get("TRUNKBRIDGE_URL") or None
    key = os.environ.get("TRUNKBRIDGE_API_KEY") or None
    if url is None or (key is None and (config is not None or _is_here(url))):
        try:
            http = load_http(find_config(config))
        except ConfigError:
            if url is None or config is not None:
                raise
        else:
            if key is None and http.key:
                key = http.key[0].key.get_secret_value()
            url = url or _url_of(http)
    assert url is not None
    try:
        return Client(url, key)
    except ValueError as failure:
        fail(f"--url: {failure}", WRONG_USAGE)


def _is_here(url: str) -> bool:
    """Whether the config of this machine may be meant: its key goes nowhere else unasked."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return is_loopback(host)


def _url_of(http: HttpConfig) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}"
