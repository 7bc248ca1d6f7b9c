"""TLS without a socket."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from bridge.transport.secure import SecureStream
from tests.authority import Authority

pytestmark = pytest.mark.unit

NAME = "bridge.example"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[SecureStream, SecureStream]:
    """Return a client and a server that have shaken hands."""
    authority = Authority(trustme.CA(), tmp_path)
    client = SecureStream(authority.client(), server_side=False, server_name=NAME)
    server = SecureStream(authority.server(NAME), server_side=True)
    client.start()
    for _ in range(3):
        server.feed(client.outgoing())
        client.feed(server.outgoing())
    assert client.ready
    assert server.ready
    return client, server


def test_what_is_written_comes_out_however_it_is_cut(
    pair: tuple[SecureStream, SecureStream],
) -> None:
    client, server = pair
    client.write(b"x" * 50_000)
    sent = client.outgoing()
    chunks = [
        chunk for at in range(0, len(sent), 999) for chunk in server.feed(sent[at : at + 999])
    ]
    assert b"".join(chunks) == b"x" * 50_000


def test_what_came_before_a_broken_record_is_good(
    pair: tuple[SecureStream, SecureStream],
) -> None:
    client, server = pair
    client.write(b"good")
    good = client.outgoing()
    client.write(b"spoilt")
    spoilt = bytearray(client.outgoing())
    spoilt[-1] ^= 1
    assert server.feed(good + spoilt) == [b"good"]
    assert isinstance(server.failed, ssl.SSLError)


def test_a_broken_record_alone_is_an_error(pair: tuple[SecureStream, SecureStream]) -> None:
    client, server = pair
    client.write(b"spoilt")
    spoilt = bytearray(client.outgoing())
    spoilt[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        server.feed(bytes(spoilt))


def test_a_good_bye_is_seen_after_the_last_words(pair: tuple[SecureStream, SecureStream]) -> None:
    client, server = pair
    client.write(b"last words")
    client.close()
    assert server.feed(client.outgoing()) == [b"last words"]
    assert server.ended
    assert server.feed(b"more") == []
