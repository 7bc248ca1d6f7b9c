"""The engine that the configuration asks for, and what is said where it cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge import engines, native
from bridge.config.sections import MediaConfig
from bridge.errors import BridgeError
from bridge.media.ports import Ports
from bridge.media.sdk import SdkEngine
from bridge.media.seam import CallMedia

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """What is installed is asked once in a process."""
    native.is_built.cache_clear()
    yield
    native.is_built.cache_clear()


@pytest.fixture(params=["missing", "broken"])
def no_core(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Take the native core away, or put one there that cannot be loaded."""
    if request.param == "missing":
        monkeypatch.setitem(sys.modules, "trunkbridge_native", None)
        return
    (tmp_path / "trunkbridge_native.abi3.so").write_bytes(b"\x7fELF cut short")
    monkeypatch.delitem(sys.modules, "trunkbridge_native", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))


def ports() -> Ports:
    return Ports("31600-31699")


@pytest.mark.usefixtures("no_core")
def test_without_a_core_that_loads_the_sdk_engine_is_used_and_says_why() -> None:
    engine = engines.engine_of(MediaConfig(engine="auto"), ports())
    assert isinstance(engine, SdkEngine)
    assert engine._choice.reason == "not_built"


@pytest.mark.usefixtures("no_core")
def test_a_direct_engine_that_cannot_be_is_one_clear_line() -> None:
    with pytest.raises(BridgeError, match=r"^media\.engine: the native core is not installed$"):
        engines.engine_of(MediaConfig(engine="direct"), ports())


def test_a_core_that_does_not_start_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def core(**_: Any) -> CallMedia:
        raise OSError(11, "Resource temporarily unavailable")

    module = ModuleType("trunkbridge_native")
    module.Core = core  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trunkbridge_native", module)
    with pytest.raises(BridgeError, match=r"^media\.engine: the media core does not start: .*$"):
        engines.engine_of(MediaConfig(engine="direct"), ports())
