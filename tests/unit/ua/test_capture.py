"""Captures: HEP3 packets and pcap files, read back by readers of their own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest

from bridge.sip.flow import Flow
from bridge.ua.capture import Capture, Captured, blanked, capture
from bridge.ua.captures import captures
from bridge.ua.hep import HepSender, fits, hep3
from bridge.ua.pcap import FILE_LIMIT, PcapFolder, checksum, file_name, packet

pytestmark = pytest.mark.unit

INVITE = (
    b"INVITE sip:+911@bridge SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.7:5060\r\n"
    b"Call-ID: a1@192.0.2.7\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n"
)
FLOW = Flow(id=1, transport="tcp", local=("192.0.2.1", 5070), remote=("192.0.2.7", 40001))
AT = 1_700_000_000.25


def seen(message: bytes = INVITE, flow: Flow = FLOW, *, came: bool = True) -> Captured:
    return capture(message, flow, came=came, wall=lambda: AT)


def chunks(data: bytes) -> dict[int, bytes]:
    """Read a HEP3 packet back."""
    assert data[:4] == b"HEP3"
    assert struct.unpack("!H", data[4:6])[0] == len(data)
    found, at = {}, 6
    while at < len(data):
        vendor, kind, length = struct.unpack("!HHH", data[at : at + 6])
        assert vendor == 0
        found[kind] = data[at + 6 : at + length]
        at += length
    assert at == len(data)
    return found


def test_a_message_that_came_goes_from_the_peer_to_us_and_one_that_went_the_other_way() -> None:
    came, went = seen(), seen(came=False)
    assert (came.source, came.destination) == (went.destination, went.source)
    assert came.source == (ip_address("192.0.2.7"), 40001)
    assert came.call_id == "a1@192.0.2.7"


def test_a_hep3_packet_has_every_chunk_the_specification_wants() -> None:
    found = chunks(hep3(seen(), agent=2001, password="open"))
    assert found[1] == b"\x02"
    assert found[2] == b"\x06"  # TCP
    assert (found[3], found[4]) == (bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1]))
    assert (found[7], found[8]) == (struct.pack("!H", 40001), struct.pack("!H", 5070))
    assert (found[9], found[10]) == (
        struct.pack("!I", 1_700_000_000),
        struct.pack("!I", 250_000),
    )
    assert (found[11], found[12]) == (b"\x01", struct.pack("!I", 2001))
    assert (found[14], found[15], found[17]) == (b"open", INVITE, b"a1@192.0.2.7")


def test_a_hep3_packet_of_ipv6_over_udp_has_its_family_and_no_empty_chunk() -> None:
    flow = Flow(id=1, transport="udp", local=("0.0.0.0", 5070), remote=("2001:db8::7", 5060))
    found = chunks(hep3(seen(b"OPTIONS sip:a SIP/2.0\r\n\r\n", flow), agent=1))
    assert (found[1], found[2]) == (b"\x0a", b"\x11")
    assert found[5] == ip_address("2001:db8::7").packed
    assert found[6] == bytes(16)  # a wildcard of the other family
    assert not found.keys() & {3, 4, 14, 17}


def test_keys_and_digest_answers_are_blanked_in_equal_length() -> None:
    secret = (
        b'Authorization: Digest username="u", response="0123456789abcdef", cnonce="xyz"\r\n'
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 "
        b"inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20\r\n"
    )
    clean = blanked(secret)
    assert len(clean) == len(secret)
    assert b"0123456789abcdef" not in clean
    assert b"xyz" not in clean
    assert b"d0RmdmcmVCspeEc3" not in clean
    assert b'username="u"' in clean
    assert b"|2^20" in clean


async def test_a_capture_server_gets_what_passed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        made = captures(
            hep=("127.0.0.1", server.getsockname()[1]), agent=7, password="", pcap=None, calls=1
        )
        made.start()
        (tap,) = made.taps
        loop = asyncio.get_running_loop()
        receiving = asyncio.ensure_future(loop.sock_recv(server, 65536))
        while not receiving.done():  # until the name is looked up, messages are dropped
            tap.received(INVITE, FLOW)
            await asyncio.sleep(0.01)
        assert chunks(receiving.result())[15] == INVITE
        await made.stop()
    assert captures(hep=None, agent=1, password="", pcap=None, calls=1).taps == ()


async def test_a_capture_server_that_is_away_costs_messages_and_nothing_else() -> None:
    sender = HepSender("127.0.0.1", 9, agent=1)
    sender.take(seen())
    assert (sender.sent, sender.dropped) == (0, 1)
    assert not fits(seen(INVITE + b"x" * 65_000))


async def test_a_capture_server_without_a_way_to_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.ua.hep.RESOLVE_EVERY", 0.001)
    tried = asyncio.Event()
    sender = HepSender("127.0.0.1", 9, agent=1)
    opened, attempts = sender._open, 0

    def unreachable_at_first(family: int, address: tuple[object, ...]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            opened(family, address)
            tried.set()

    sender._open = unreachable_at_first  # type: ignore[method-assign]
    sender.start()
    try:
        await asyncio.wait_for(tried.wait(), 15)
    finally:
        await sender.stop()


def read_pcap(path: Path) -> list[tuple[float, bytes]]:
    data = path.read_bytes()
    magic, major, minor, _, _, _, link = struct.unpack("<IHHiIII", data[:24])
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 101)
    found, at = [], 24
    while at < len(data):
        seconds, micros, kept, length = struct.unpack("<IIII", data[at : at + 16])
        assert kept == length
        found.append((seconds + micros / 1e6, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def test_each_call_has_a_file_that_a_pcap_reader_reads(tmp_path: Path) -> None:
    folder = PcapFolder(tmp_path / "captures", calls=2)
    folder.start()
    other = INVITE.replace(b"a1@", b"b2@")
    for message, came in ((INVITE, True), (other, True), (INVITE, False)):
        folder.take(seen(message, came=came))
    folder.take(seen(b"\r\n\r\n"))  # a keep-alive belongs to no call
    folder.stop()
    assert sorted(path.name for path in (tmp_path / "captures").iterdir()) == [
        "a1@192.0.2.7.pcap",
        "b2@192.0.2.7.pcap",
    ]
    (first_at, first), (_, second) = read_pcap(tmp_path / "captures" / "a1@192.0.2.7.pcap")
    assert first_at == AT
    assert first[12:20] == bytes([192, 0, 2, 7, 192, 0, 2, 1])
    assert second[12:20] == bytes([192, 0, 2, 1, 192, 0, 2, 7])
    assert first[28:] == INVITE
    assert struct.unpack("!HHH", first[20:26]) == (40001, 5070, 8 + len(INVITE))
    assert checksum(first[:20]) == 0


def test_an_ipv6_packet_has_a_right_udp_checksum() -> None:
    flow = Flow(id=1, transport="udp", local=("::1", 5070), remote=("2001:db8::7", 5060))
    data = packet(seen(INVITE + b"odd", flow))
    length, upper = struct.unpack("!HB", data[4:7])
    assert (data[0] >> 4, upper, length) == (6, 17, len(data) - 40)
    assert checksum(data[8:40] + struct.pack("!II", length, 17) + data[40:]) == 0


def test_only_the_newest_calls_keep_their_files_also_over_a_restart(tmp_path: Path) -> None:
    for first, second in (("a", "b"), ("c", "b")):
        folder = PcapFolder(tmp_path, calls=2)
        folder.start()
        for name in (first, second):
            folder.take(seen(INVITE.replace(b"a1@192.0.2.7", name.encode())))
        folder.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.pcap", "c.pcap"]
    assert len(read_pcap(tmp_path / "b.pcap")) == 2


def test_a_call_that_never_stops_talking_fills_no_disk(tmp_path: Path) -> None:
    folder = PcapFolder(tmp_path, calls=1)
    folder.start()
    long = INVITE + b"x" * 60_000
    for _ in range(FILE_LIMIT // 60_000 + 5):
        folder.take(seen(long))
    folder.stop()
    assert (tmp_path / "a1@192.0.2.7.pcap").stat().st_size <= FILE_LIMIT
    assert folder.dropped > 0


@pytest.mark.parametrize(
    ("call_id", "name"),
    [
        ("../../etc/passwd", "_.._etc_passwd.pcap"),
        ("a/b\x00c", "a_b_c.pcap"),
        ("...", "_.pcap"),
        ("x" * 400, "x" * 200 + ".pcap"),
    ],
)
def test_a_call_id_names_a_file_in_the_folder_whatever_it_says(call_id: str, name: str) -> None:
    assert file_name(call_id) == name


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = threading.active_count()
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        PcapFolder(tmp_path / "file" / "captures", calls=1).start()
    assert threading.active_count() == before


def test_a_tap_hands_both_ways_on() -> None:
    taken: list[Captured] = []
    tap = Capture(taken.append, wall=lambda: AT)
    tap.received(INVITE, FLOW)
    tap.sent(INVITE, FLOW)
    assert taken == [seen(), seen(came=False)]
