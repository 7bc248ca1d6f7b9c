"""The UDP helper on loopback."""

from __future__ import annotations

import socket

import pytest

from rtp.net.socket import drain, open_udp, send

pytestmark = pytest.mark.unit

LOOPBACK = ["127.0.0.1", "::1"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_datagrams_come_with_address_and_port_alone(address: str) -> None:
    with open_udp(address, 0) as near, open_udp(address, 0) as far:
        assert send(near, b"one", far.getsockname()[:2])
        heard: list[tuple[bytes, tuple[str, int]]] = []
        assert drain(far, lambda data, source: heard.append((data, source))) == 1
        assert heard == [(b"one", near.getsockname()[:2])]


def test_a_turn_is_bounded_and_the_rest_stays_for_the_next() -> None:
    with open_udp("127.0.0.1", 0) as near, open_udp("127.0.0.1", 0) as far:
        for _ in range(5):
            send(near, b"x", far.getsockname())
        heard: list[bytes] = []
        assert drain(far, lambda data, source: heard.append(data), limit=3) == 3
        assert drain(far, lambda data, source: heard.append(data), limit=3) == 2


def test_a_port_that_is_taken_raises_and_leaks_nothing() -> None:
    with open_udp("127.0.0.1", 0) as near, pytest.raises(OSError, match="in use"):
        open_udp("127.0.0.1", near.getsockname()[1])


def test_sending_where_it_cannot_go_is_false() -> None:
    with open_udp("127.0.0.1", 0) as near:
        assert not send(near, b"x", ("2001:db8::1", 9))
        assert not send(near, b"x" * 70_000, ("127.0.0.1", 9))
    assert not send(near, b"x", ("127.0.0.1", 9))
    assert drain(near, lambda data, source: None) == 0


def test_an_icmp_error_does_not_stop_the_drain() -> None:
    with open_udp("127.0.0.1", 0) as near, open_udp("127.0.0.1", 0) as far:
        gone = far.getsockname()
        near.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: errors as on a connected socket
        far.close()
        send(near, b"to nobody", gone)
        with open_udp("127.0.0.1", 0) as third:
            send(third, b"behind it", near.getsockname())
            heard: list[bytes] = []
            drain(near, lambda data, source: heard.append(data))
        assert heard == [b"behind it"]
