"""Reading the configuration. Nothing else reads the environment.

`load` returns a `Config` or raises `ConfigError`, which holds one line per wrong
key: ``file:key: what is wrong, what is allowed``.
"""

from __future__ import annotations

import copy
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import (
    ValidationError,
)

from bridge.config.config import ARRAYS, Config
from bridge.config.secret_files import ENV_PREFIX, SECRETS, resolve_secrets, tables
from bridge.config.sections import PLANS, HttpConfig
from bridge.errors import BridgeError

SEARCH_PATH = (Path("trunkbridge.toml"), Path("/etc/trunkbridge/trunkbridge.toml"))


class ConfigError(BridgeError):
    """The configuration is wrong; ``lines`` holds one line per error."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def find_config(explicit: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the config file to use: *explicit*, the environment's, or the first that exists."""
    chosen = explicit or environ.get("TRUNKBRIDGE_CONFIG")
    if chosen:
        return Path(chosen)
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of *path* (None: defaults) with the environment on top.

    Raises `ConfigError`.
    """
    return _checked(_read(path), path, str(path) if path else "environment", environ)


def load_http(path: Path | None, environ: Mapping[str, str] = os.environ) -> HttpConfig:
    """Return ``[http]`` of *path* alone, whatever else is wrong: how the daemon is reached.

    Raises `ConfigError`.
    """
    values = {k: v for k, v in _read(path).items() if k in ("http", "plan")}
    return _checked(values, path, str(path) if path else "environment", environ).http


def from_values(values: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that plain data describes, as a file would.

    Raises `ConfigError`.
    """
    return _checked(copy.deepcopy(dict(values)), None, "config", environ)


def _checked(
    values: dict[str, Any], path: Path | None, label: str, environ: Mapping[str, str]
) -> Config:
    unreadable = list(_unreadable_variables(environ))
    errors = [
        *_stray_variables(environ),
        *unreadable,
        *resolve_secrets(values, path, label, environ),
    ]
    config: Config | None = None
    try:
        config = Config(**values)
    except ValidationError as failure:
        errors.extend(_explain(failure, label, environ))
    except ValueError as failure:
        if not unreadable:
            errors.append(f"environment:{failure}")
    errors.extend(f"{label}:{line}" for line in _cross_check(values))
    if errors or config is None:
        raise ConfigError(errors)
    return config


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as failure:
        raise ConfigError([f"{path}: cannot be read: {failure.strerror}"]) from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise ConfigError([f"{path}: not TOML: {failure}"]) from failure


def _stray_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and "__" in name:
            section = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if section not in Config.model_fields:
                allowed = " ".join(sorted(Config.model_fields))
                yield f"environment:{name}: unknown section, allowed: {allowed}"


def _unreadable_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line per variable that has to be JSON (a list, a table) and is none."""
    for name in sorted(environ):
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not name.startswith(ENV_PREFIX) or section not in Config.model_fields:
            continue
        annotation: Any = Config.model_fields[section].annotation
        if key and section in ARRAYS:
            allowed = f'{ENV_PREFIX}{section.upper()}=[{{"KEY": …}}]'
            yield f"environment:{name}: a part of an array of tables, allowed: {allowed}"
            continue
        if key:
            field = getattr(annotation, "model_fields", {}).get(key)
            if field is None or get_origin(field.annotation) not in (list, dict):
                continue
            annotation = field.annotation
        try:
            json.loads(environ[name])
        except ValueError:
            allowed = '["ONE", "OTHER"]' if get_origin(annotation) is list else '{"KEY": …}'
            yield f"environment:{name}: not JSON, allowed: {allowed}"


def _explain(failure: ValidationError, label: str, environ: Mapping[str, str]) -> Iterator[str]:
    for error in failure.errors(include_url=False):
        key = ""
        for part in error["loc"]:
            key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
        variable = ENV_PREFIX + "__".join(str(part).upper() for part in error["loc"][:2])
        where = f"environment:{variable}" if variable in environ else f"{label}:{key}"
        yield f"{where}: {_sentence(error)}"


def _keys_beside(location: Iterable[int | str]) -> str:
    """Return the keys of the table that *location* names a key of."""
    model: Any = Config
    for part in list(location)[:-1]:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(iter(get_args(annotation)), annotation)
    return " ".join(field.alias or name for name, field in model.model_fields.items())


def _sentence(error: Any) -> str:
    context = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key, allowed: {_keys_beside(error['loc'])}"
        case "model_type" | "dict_type":
            return "not a table, allowed: a table"
        case "list_type" if len(error["loc"]) == 1 and error["loc"][0] in ARRAYS:
            return f"not an array of tables, allowed: [[{error['loc'][0]}]]"
        case "list_type" if error["loc"] == ("http", "key"):
            return "not an array of tables, allowed: [[http.key]]"
        case "missing":
            return "missing, this key is required"
        case "literal_error":
            return f"{error['input']!r} is not allowed, allowed: {context['expected']}"
        case "value_error":
            return str(context["error"])
        case _:
            secret = any(error["loc"] and error["loc"][-1] == key for _, key in SECRETS)
            hidden = secret or isinstance(error["input"], dict)
            shown = "" if hidden else f"{error['input']!r}: "
            return f"{shown}{error['msg'][:1].lower()}{error['msg'][1:]}"


def _cross_check(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong between sections; on plain data, so that one error hides no other."""
    for section, key in (("trunk", "name"), ("workflow", "slug"), ("plan", "name")):
        names = [entry.get(key) for _, entry in tables(dict(values), section)]
        for index, name in enumerate(names):
            if name is not None and name in names[:index]:
                yield f"{section}[{index}].{key}: {name!r} is defined twice"
    trunks = [entry.get("name") for _, entry in tables(dict(values), "trunk")]
    known = " ".join(map(str, trunks)) or "(no [[trunk]] is defined)"
    for section in ("workflow", "route"):
        for where, entry in tables(dict(values), section):
            name = entry.get("trunk")
            if name and name not in trunks:
                yield f"{where}.trunk: no trunk {name!r}, allowed: {known}"
    ours = {plan.name for plan in PLANS}
    plans = {*ours, *(str(entry.get("name")) for _, entry in tables(dict(values), "plan"))}
    for where, entry in tables(dict(values), "http.key"):
        if entry.get("plan", "enterprise") not in plans:
            allowed = " ".join(sorted(plans))
            yield f"{where}.plan: no plan {entry['plan']!r}, allowed: {allowed}"
