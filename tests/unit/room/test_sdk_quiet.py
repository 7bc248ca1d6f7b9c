"""The SDK's native log stays out of Python, or the SDK stays as it is."""

from __future__ import annotations

import os

import pytest
from livekit.rtc import _ffi_client

from bridge.room import sdk_quiet

pytestmark = pytest.mark.unit


def test_the_installed_sdk_is_silenced_and_the_environment_left_alone() -> None:
    before = dict(os.environ)
    assert sdk_quiet.quiet_native_logs() is True
    assert dict(os.environ) == before


def test_an_sdk_with_other_private_names_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_quiet, "_done", False)
    monkeypatch.delattr(_ffi_client, "ffi_event_callback")
    assert sdk_quiet.quiet_native_logs() is False


def test_what_an_operator_says_to_the_native_half_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str | None] = {}

    class Client:
        @property
        def instance(self) -> object:
            for name in ("RUST_LOG", "TOKIO_WORKER_THREADS"):
                seen[name] = os.environ.get(name)
            return self

    monkeypatch.setenv("TOKIO_WORKER_THREADS", "3")
    monkeypatch.delenv("RUST_LOG", raising=False)
    sdk_quiet._start_silent(Client())  # type: ignore[arg-type]
    assert seen == {"RUST_LOG": "off", "TOKIO_WORKER_THREADS": "3"}
    assert "RUST_LOG" not in os.environ
