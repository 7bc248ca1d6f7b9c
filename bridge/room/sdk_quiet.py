"""How the SDK's native half is started: libwebrtc's log stays out of Python.

The SDK asks its native half for every log record, parses each one under the
GIL and drops nearly all. It has no public switch. Telling the native half
again, with capturing off, is one call of the same C function that the SDK
calls itself; where its private names differ, nothing is changed.
"""

from __future__ import annotations

import os
from typing import Any

import structlog
from livekit import rtc

log = structlog.get_logger(__name__)

_START = {
    # What is not captured it would print itself; it reads its level once, when it starts.
    "RUST_LOG": "off",
    # Its threads call Python with each frame and wait for the interpreter lock in turn. With
    # one thread per core all of them may wait there, and a message is sent by none.
    "TOKIO_WORKER_THREADS": str(max(4, 2 * (os.cpu_count() or 1))),
}
"""What its environment says while the native half starts, unless an operator says it."""

_done = False


def quiet_native_logs() -> bool:
    """Switch native log capture off, once per process; tell whether it is off."""
    global _done
    if not _done:
        _done = _switch_off()
    return _done


def _switch_off() -> bool:
    try:
        from livekit.rtc import _ffi_client

        client = _start_silent(_ffi_client.FfiClient)
        initialize = client._ffi_lib.livekit_ffi_initialize
        initialize(_ffi_client.ffi_event_callback, False, b"python", rtc.__version__.encode())  # noqa: FBT003
    except (ImportError, AttributeError, TypeError) as error:
        log.info("room.native_logs_kept", error=type(error).__name__)
        return False
    return True


def _start_silent(client: type[Any]) -> Any:
    """Return the SDK's native half, started our way if it was not started before."""
    ours = {name: value for name, value in _START.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        return client.instance
    finally:
        for name in ours:
            del os.environ[name]
