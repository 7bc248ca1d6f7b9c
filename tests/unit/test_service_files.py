"""What `make install` installs: the unit, the paths and the locks agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bridge.config.advice import cannot_start
from bridge.config.loading import load

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "systemd" / "trunkbridge.service"
EXPOSURE = 1.5
PINNED = re.compile(r"^([a-z0-9-]+)==([^ ]+)(?: ; (.+?))? \\$", re.MULTILINE)
RELOCK = (
    "uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links "
    "--no-header --no-annotate --python-version 3.11 --extra daemon -c requirements.lock "
    "pyproject.toml -o requirements-daemon.lock"
)


def settings() -> dict[str, list[str]]:
    """Return the unit's settings; systemd's own reader is `systemd-analyze verify` below."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def layout(name: str) -> str:
    """Return a path of scripts/layout.sh."""
    script = f'. scripts/layout.sh; printf %s "${name}"'
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def systemd_analyze() -> str:
    binary = shutil.which("systemd-analyze")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is missing")
        pytest.skip("systemd-analyze is missing (Debian: systemd)")
    return binary


def test_the_unit_is_hardened(systemd_analyze: str) -> None:
    told = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    overall = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", told)
    assert overall is not None
    assert float(overall[1]) <= EXPOSURE, told


def test_systemd_finds_nothing_wrong_with_the_unit(systemd_analyze: str, tmp_path: Path) -> None:
    # `verify` wants every program to be there; this machine has no installation.
    true = shutil.which("true")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={true}", UNIT.read_text("utf-8")))
    told = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    ours = [line for line in told.stderr.splitlines() if "trunkbridge" in line]
    assert (told.returncode, ours) == (0, [])


def test_the_unit_waits_longer_than_a_drain_takes() -> None:
    drain = load(ROOT / "deploy" / "trunkbridge.toml", {}).daemon.drain_timeout
    assert int(settings()["TimeoutStopSec"][0]) >= drain + 30


def test_the_unit_and_the_scripts_mean_the_same_places() -> None:
    unit = settings()
    start = unit["ExecStart"][0].split()
    assert start[0] == f"{layout('CURRENT')}/bin/trunkbridge"
    assert start[-1] == f"{layout('ETC')}/trunkbridge.toml"
    assert unit["User"] == unit["Group"] == [layout("SERVICE_USER")]
    assert f"/var/lib/{unit['StateDirectory'][0]}" == layout("STATE")
    assert f"/etc/{unit['ConfigurationDirectory'][0]}" == layout("ETC")
    sysusers = (ROOT / "systemd" / "trunkbridge.sysusers").read_text("utf-8")
    assert f"u {layout('SERVICE_USER')} - " in sysusers
    assert f" {layout('STATE')} " in sysusers


def test_the_installed_configuration_can_start_and_keeps_its_state_where_it_may_write() -> None:
    config = load(ROOT / "deploy" / "trunkbridge.toml", {})
    assert cannot_start(config) == []
    assert Path(config.store.journal).parent == Path(layout("STATE"))
    assert config.store.url.startswith(f"sqlite:///{layout('STATE')}/")


def test_what_the_installed_configuration_suggests_loads(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "trunkbridge.toml").read_text("utf-8")
    suggested = re.sub(r"(?m)^#(\[\[|\w+ = )", r"\1", text).replace("api_secret_file", "#")
    file = tmp_path / "trunkbridge.toml"
    file.write_text(suggested, "utf-8")
    config = load(file, {})
    assert [trunk.name for trunk in config.trunk] == ["exotel"]
    assert [route.agent for route in config.route] == ["support"]


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.sh")))
def test_the_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", script], cwd=ROOT / "scripts", check=True)


def test_the_image_stops_as_the_unit_does() -> None:
    compose = (ROOT / "deploy" / "compose.yaml").read_text("utf-8")
    grace = re.search(r"(?m)^    stop_grace_period: (\d+)s$", compose)
    assert grace is not None
    assert grace[1] == settings()["TimeoutStopSec"][0]
    image = (ROOT / "deploy" / "Containerfile").read_text("utf-8").splitlines()
    assert "STOPSIGNAL SIGTERM" in image
    assert "USER 10001:10001" in image
    assert 'ENTRYPOINT ["trunkbridge"]' in image


def test_the_image_is_built_from_all_that_an_installation_needs() -> None:
    """What scripts/install.sh names must not be kept out by .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[0] == "*"
    let_in = {line[1:].partition("/")[0] for line in lines if line.startswith("!")}
    script = (ROOT / "scripts" / "install.sh").read_text("utf-8")
    script += (ROOT / "scripts" / "layout.sh").read_text("utf-8")
    named = {
        path.name for path in ROOT.iterdir() if re.search(rf"\b{re.escape(path.name)}\b", script)
    }
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = set(built["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    readme = {built["project"]["readme"]}
    assert packages | readme | (named - {".cache"}) <= let_in


# The locks.


def pins(lock: str) -> dict[tuple[str, str, str], frozenset[str]]:
    """Return the hashes of every pin (name, version, marker) of a lock file."""
    text = (ROOT / lock).read_text("utf-8")
    parts = PINNED.split(text)[1:]
    found = {}
    for index in range(0, len(parts), 4):
        name, version, marker, rest = parts[index : index + 4]
        found[name, version, marker or ""] = frozenset(re.findall(r"sha256:([0-9a-f]{64})", rest))
    return found


def needed(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """Yield the names of what *requirement* needs on this interpreter, itself included."""
    name = canonicalize_name(requirement.name)
    extras = requirement.extras or {""}
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    if f"{name}{sorted(extras)}" in seen:
        return
    seen.add(f"{name}{sorted(extras)}")
    yield name
    for text in metadata.requires(name) or ():
        further = Requirement(text)
        wanted = further.marker is None or any(
            further.marker.evaluate({"extra": extra}) for extra in extras
        )
        if wanted:
            further.marker = None
            yield from needed(further, seen)


def test_the_daemons_lock_has_the_versions_and_hashes_of_the_whole_lock() -> None:
    whole = {
        (name, version): hashes for (name, version, _), hashes in pins("requirements.lock").items()
    }
    small = pins("requirements-daemon.lock")
    assert small
    differing = [
        f"{name}=={version}"
        for (name, version, _), hashes in small.items()
        if whole.get((name, version)) != hashes
    ]
    assert differing == [], f"make it again: {RELOCK}"


def test_the_daemons_lock_has_what_the_daemon_needs_and_no_more() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    seen: set[str] = set()
    wanted = {
        name
        for text in (*project["dependencies"], *project["optional-dependencies"]["daemon"])
        for name in needed(Requirement(text), seen)
    }
    locked = {
        name
        for name, _, marker in pins("requirements-daemon.lock")
        if not marker or Requirement(f"{name} ; {marker}").marker.evaluate()  # type: ignore[union-attr]
    }
    assert wanted == locked, f"make it again: {RELOCK}"
