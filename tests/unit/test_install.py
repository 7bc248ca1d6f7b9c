"""scripts/install.sh and uninstall.sh below a folder, with an interpreter that only notes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """\
#!/bin/bash
case "$1 $2" in
-c*) echo "$0" ;;
--version*) echo Python 3.11 ;;
"-m venv")
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "command = -m venv $3" >"$3/pyvenv.cfg"
    echo "#!$3/bin/python" >"$3/bin/trunkbridge"
    ;;
"-m pip")
    while [ $# -gt 0 ]; do
        [ "$1" != --wheel-dir ] || { mkdir -p "$2"; touch "$2/trunkbridge.whl"; }
        shift
    done
    ;;
esac
"""


def run(script: str, destination: Path, python: Path, **variables: str) -> None:
    environment = {"PATH": os.environ["PATH"], "DESTDIR": str(destination), "PYTHON": str(python)}
    told = subprocess.run(
        ["bash", f"scripts/{script}"],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("name", ["root", "a root", "a.b[c]*|&"])
def test_any_folder_may_be_installed_below(tmp_path: Path, name: str) -> None:
    python = tmp_path / "my python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    below = tmp_path / name
    beside = tmp_path / "beside"
    beside.mkdir()
    run("install.sh", below, python)
    (release,) = (below / "opt/trunkbridge/releases").iterdir()
    inside = f"/opt/trunkbridge/releases/{release.name}"
    assert (release / "bin/trunkbridge").read_text() == f"#!{inside}/bin/python\n"
    assert (release / "pyvenv.cfg").read_text() == f"command = -m venv {inside}\n"
    assert os.readlink(below / "opt/trunkbridge/current") == f"releases/{release.name}"
    config = below / "etc/trunkbridge/trunkbridge.toml"
    config.write_text("# mine\n")
    run("install.sh", below, python)  # again: an upgrade to the same
    assert config.read_text() == "# mine\n"
    run("uninstall.sh", below, python)
    assert not (below / "opt/trunkbridge").exists()
    assert config.exists()
    run("uninstall.sh", below, python, PURGE="1")
    assert not config.exists()
    assert sorted(tmp_path.iterdir()) == sorted([below, beside, python])


def test_a_python_that_cannot_make_environments_gets_debians_package_for_it(tmp_path: Path) -> None:
    """Debian's own Python, a fresh machine: contract 1."""
    text = (ROOT / "scripts" / "setup.sh").read_text("utf-8")
    functions, call, _ = text.partition("\nsetup_debian\n")
    assert call
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/bash\n"
        'case "$2" in *version_info\\ \\<*) exit 0 ;; *ensurepip*) exit 1 ;; esac\n'
        "echo python3.12-venv\n"
    )
    python.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    told = subprocess.run(
        ["bash", "-c", f"{functions}\nPACKAGES=; setup_debian", f"{tmp_path}/scripts/setup.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python), "NO_APT": "1"},
        capture_output=True,
        text=True,
    )
    assert told.stderr == "setup: NO_APT is set, not installed: python3.12-venv\n"
    assert told.returncode == 0
