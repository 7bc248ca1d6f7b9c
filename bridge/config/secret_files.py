"""Secrets that lie in files: ``KEY_file`` in a table, ``…__KEY_FILE`` in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ENV_PREFIX = "TRUNKBRIDGE_"
SECRETS: tuple[tuple[str, str], ...] = (
    ("livekit", "api_key"),
    ("livekit", "api_secret"),
    ("http", "jwt_secret"),
    ("http.key", "key"),
    ("capture", "hep_password"),
    ("webhook", "secret"),
    ("trunk", "password"),
    ("store", "url"),
)


def tables(values: dict[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tables that *section* names, each with its place: ``trunk[0]``, ``http.key[1]``."""
    node: Any = values
    for part in section.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        yield section, node
    elif isinstance(node, list):
        for index, entry in enumerate(node):
            if isinstance(entry, dict):
                yield f"{section}[{index}]", entry


def resolve_secrets(
    values: dict[str, Any], path: Path | None, label: str, environ: Mapping[str, str]
) -> Iterator[str]:
    """Replace every ``KEY_file`` by ``KEY`` with the file's content, in place.

    The environment wins here, too: its ``…__KEY`` and ``…__KEY_FILE`` over both of the file.
    """
    folders = [Path(environ["CREDENTIALS_DIRECTORY"])] if "CREDENTIALS_DIRECTORY" in environ else []
    folders.append(path.parent if path else Path())
    for section, key in SECRETS:
        variable = f"{ENV_PREFIX}{section.upper()}__{key.upper()}"
        source = f"environment:{variable}_FILE" if f"{variable}_FILE" in environ else ""
        if source and isinstance(table := values.setdefault(section, {}), dict):
            table.pop(key, None)
            table[f"{key}_file"] = environ[f"{variable}_FILE"]
        for where, table in tables(values, section):
            if f"{key}_file" not in table:
                continue
            name = table.pop(f"{key}_file")
            origin = source or f"{label}:{where}.{key}_file"
            if key in table or (source and variable in environ):
                yield f"{origin}: {key} is given too, allowed: one of them"
                continue
            if variable in environ:
                continue
            found = next((f / str(name) for f in folders if (f / str(name)).is_file()), None)
            if found is None:
                yield f"{origin}: no such file in {' or '.join(map(str, folders))}"
                table[key] = "sqlite://missing"  # fit for every secret: this is the one line
                continue
            table[key] = found.read_text("utf-8").rstrip("\r\n")
