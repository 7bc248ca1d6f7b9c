"""The documents say what the code does: links, configuration, names."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from bridge.cli.app import app
from bridge.config.advice import not_yet
from bridge.config.config import Config
from bridge.config.loading import load

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "docs" / "contract.md"
"""A promise, also of what is not built: only its links are looked at."""
ROADMAP = ROOT / "docs" / "roadmap.md"
"""Names files that are to come."""
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(file for f in FOLDERS for file in f.rglob("*.md"))])
OURS = [path for path in DOCUMENTS if path != CONTRACT]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_LOG_METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})


def blocks(path: Path, language: str) -> list[str]:
    """Return the fenced blocks of *language*."""
    return [text for tag, text in _FENCE.findall(path.read_text("utf-8")) if tag == language]


def prose(path: Path) -> str:
    """Return the document without its fenced blocks."""
    return _FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings as GitHub makes them."""
    found = set()
    for heading in _HEADING.findall(prose(path)):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(kept.replace(" ", "-"))
    return found


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", [path for path in OURS if path != ROADMAP], ids=name)
def test_every_file_named_in_a_code_span_exists(document: Path) -> None:
    spans = re.findall(
        r"`((?:bridge|sdp|rtp|trunkbridge|tests|bench|scripts|docs)/[\w./-]*)`", prose(document)
    )
    assert [span for span in spans if not (ROOT / span).exists()] == []


@pytest.mark.parametrize("document", OURS, ids=name)
def test_no_document_names_a_folder_of_somebodys_machine(document: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|root|work|Users)/", document.read_text("utf-8")) == []


# Configuration.


def test_the_readme_configures_a_first_trunk() -> None:
    assert len(blocks(ROOT / "README.md", "toml")) >= 2


@pytest.mark.parametrize("text", blocks(ROOT / "README.md", "toml"))
def test_every_configuration_of_the_readme_loads_and_is_served(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trunkbridge.toml"
    file.write_text(text, "utf-8")
    config = load(file, {})
    assert config.trunk
    assert list(not_yet(config)) == []


def test_the_configurations_of_the_readme_load_together(tmp_path: Path) -> None:
    file = tmp_path / "trunkbridge.toml"
    file.write_text("\n".join(blocks(ROOT / "README.md", "toml")), "utf-8")
    config = load(file, {})
    assert [trunk.name for trunk in config.trunk] == ["exotel", "desk"]


def section(path: str) -> dict[str, Any] | None:
    """Return the contract's table at *path* (``sip``, ``http.key``), None when it has none."""
    text = blocks(CONTRACT, "toml")[0]
    node: Any = tomllib.loads(text)
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, list):
        node = node[0]
    return node if isinstance(node, dict) else None


def keys_of(path: str) -> set[str]:
    """Return the keys the configuration really has at *path*."""
    model: type[BaseModel] = Config
    for part in path.split("."):
        annotation: Any = model.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", None)
        model = arguments[0] if arguments else annotation
    return {field.alias or key for key, field in model.model_fields.items()}


@pytest.mark.parametrize("document", OURS, ids=name)
def test_every_section_and_key_of_the_configuration_that_is_named_exists(document: Path) -> None:
    text = prose(document)
    sections = set(re.findall(r"`\[\[([a-z.]+)\]\]`", text))
    assert [path for path in sections if section(path) is None] == []
    keys = set(re.findall(r"`\[([a-z.]+)\] ([a-z_]+)`", text))
    assert [f"[{path}] {key}" for path, key in keys if key not in keys_of(path)] == []


# Names.


def logged_events() -> set[str]:
    """Return every event name that a structlog logger of the daemon is given."""
    return {
        constant.value
        for path in sorted((ROOT / "bridge").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and _logs(call)
        for constant in ast.walk(call.args[0])
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


def _logs(call: ast.Call) -> bool:
    method = call.func
    return (
        isinstance(method, ast.Attribute)
        and method.attr in _LOG_METHODS
        and isinstance(method.value, ast.Name)
        and method.value.id in ("log", "_log")
        and bool(call.args)
    )


def test_log_events_are_static_names() -> None:
    events = logged_events()
    assert {event for event in events if not re.fullmatch(r"[a-z0-9]+\.[a-z0-9_]+", event)} == set()


def test_operations_explains_every_log_event_and_no_other() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = text.partition("## Log events")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert sorted(explained) == sorted(logged_events())


def test_rfc_status_lists_every_deviation() -> None:
    sources = [path for package in ("bridge", "sdp", "rtp") for path in (ROOT / package).rglob("*")]
    marked = Counter(
        {
            name(path): count
            for path in sources
            if path.suffix == ".py" and (count := path.read_text("utf-8").count("DEVIATION:"))
        }
    )
    table = (ROOT / "docs" / "rfc-status.md").read_text("utf-8").partition("## Deviations")[2]
    listed = Counter(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    assert listed == marked


def shell_lines() -> Iterator[str]:
    for document in OURS:
        for text in blocks(document, "sh"):
            yield from text.replace("\\\n", " ").splitlines()


def test_every_command_in_a_shell_block_exists() -> None:
    verbs = set(get_command(app).commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    lines = list(shell_lines())
    used = [match[1] for line in lines if (match := re.search(r"trunkbridge ([a-z]+)", line))]
    made = [match[1] for line in lines if (match := re.match(r"make ([a-z]+)", line))]
    assert used
    assert made
    assert set(used) <= verbs
    assert set(made) <= targets


def test_the_options_of_the_readmes_commands_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    unknown = []
    for line in shell_lines():
        found = re.search(r"bin/trunkbridge ([a-z]+)([^#\"]*)", line)
        if found is None:
            continue
        allowed = {option for parameter in commands[found[1]].params for option in parameter.opts}
        unknown += [o for o in re.findall(r"--[a-z]+", found[2]) if o not in allowed]
    assert unknown == []


def test_the_agent_of_the_readme_can_be_imported() -> None:
    pytest.importorskip("livekit.agents")
    text, _ = blocks(ROOT / "README.md", "python")
    scope: dict[str, Any] = {"__name__": "support"}
    exec(compile(text, "support.py", "exec"), scope)
    assert scope["server"]
    assert callable(scope["entrypoint"])


def test_the_client_of_the_readme_names_what_there_is() -> None:
    _, text = blocks(ROOT / "README.md", "python")
    compile(text, "dial.py", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imported, _, program = text.partition("\n")
    exec(imported, scope := {})
    taken = inspect.signature(scope["Client"]).parameters.keys()
    used = re.search(r"Client\((.*)\) as client", program)
    assert used is not None
    assert set(re.findall(r"(\w+)=", used[1])) <= taken
    assert {"dial", "events"} <= {*dir(scope["Client"]), *dir(scope["Client"]().call("x"))}


def test_the_licence_is_the_one_the_package_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"]
    assert declared == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "Apache License 2.0" in (ROOT / "README.md").read_text("utf-8")
