"""Ports of loopback that are free now."""

from __future__ import annotations

import contextlib
import socket


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of loopback that is free now on TCP and on UDP."""
    while True:
        with socket.socket(socket.AF_INET, kind) as one:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            other = socket.SOCK_DGRAM if kind == socket.SOCK_STREAM else socket.SOCK_STREAM
            with socket.socket(socket.AF_INET, other) as two, contextlib.suppress(OSError):
                two.bind(("127.0.0.1", port))
                return port
