"""Which media engines a test runs on: one conformance suite, the same tests on each.

Every daemon of the system tests says ``[media] engine``: ``auto`` by default; the modules of
`CONFORMANCE` run once for each of `ENGINES`. A test says otherwise by the marker ``engines``,
which names its engines, or by a parameter ``engine`` of its own. ``TRUNKBRIDGE_ENGINE`` in the
environment names the only one, for all of them.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

from tests.system.harness import missing

ENGINES = ("direct", "sdk")
CONFORMANCE = frozenset(
    {
        *("test_hold_matrix", "test_in_the_room", "test_answering", "test_controls"),
        *("test_room_away", "test_room_ways", "test_first_call"),
    }
)
"""What hold, gate, keys, mute, RPC and the return of the room are tested by."""
MARKER = "engines(*names): the media engines to run on, instead of those of the module"


def ask(metafunc: pytest.Metafunc) -> None:
    """Give the test its engines."""
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "engine" not in metafunc.fixturenames or any("engine" in names for names in own):
        return
    marker = metafunc.definition.get_closest_marker("engines")
    of_module = ENGINES if metafunc.module.__name__.rpartition(".")[2] in CONFORMANCE else ()
    names = marker.args if marker is not None else of_module
    if names and "TRUNKBRIDGE_ENGINE" not in os.environ:
        metafunc.parametrize("engine", names, indirect=True)


def need(name: Any) -> str:
    """Return the name of the engine; the test is skipped where it cannot run."""
    name = os.environ.get("TRUNKBRIDGE_ENGINE", name)
    if name == "direct" and importlib.util.find_spec("trunkbridge_native") is None:
        missing("the native media core (cargo and cmake build it, scripts/native.sh)")
    return str(name)
