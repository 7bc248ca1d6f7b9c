"""Damage done to messages, decided by the bytes of one Hypothesis draw.

A `Script` is cheap to draw (one ``st.binary``) and shrinks well: when it runs out
it gives zeros, and zero always means the tamest choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

LARGEST = 70_000  # bytes; a little above what any core takes

SIP_LINES = (
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx;rport",
    b"v: SIP/2.0/TCP [2001:db8::1]:5060;received=::1",
    b"Record-Route: <sip:p1.example;lr>, sip:p2.example;lr;x=1",
    b"Record-Route: <sip:strict.example>",
    b"Contact: *",
    b"m: sip:a@b;transport=tcp",
    b"l: 5",
    b"Content-Length: -1",
    b"To: <sip:x@y>;tag=",
    b'From: "\\\x00\\"" <sip:%00@h>;tag=1',
    b"CSeq: 4294967296 INVITE",
    b"Require: 100rel, timer, \xff",
    b"RSeq: 99999999999999999999",
    b"RSeq: 1",
    b"RAck: 1 1 INVITE",
    b"RAck: 1 \xff",
    b"Reason: Q.850;cause=16, SIP;cause=200",
    b"Content-Encoding: gzip",
    b"Content-Disposition: session;handling=optional",
    b"Content-Type: multipart/mixed;boundary=b",
    b"Content-Type: application/dtmf-relay",
    b"Max-Forwards: 0",
    b"Privacy: id;header",
    b"P-Asserted-Identity: <tel:+919812345678>, <sip:\xff@h>",
    b" folded",
)
SDP_LINES = (
    b"a=sendonly",
    b"a=inactive",
    b"c=IN IP4 0.0.0.0",
    b"c=IN IP6 ::",
    b"c=IN IP4 host.example/127/3",
    b"m=audio 0 RTP/AVP 8",
    b"m=audio 4000 RTP/SAVP 0 8 101",
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR",
    b"a=crypto:2 AEAD_AES_128_GCM inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubA==|2^31|7:1",
    b"a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|1:4"
    b";inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2:4 WSH=99",
    b"a=crypto:999999999 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 400,
    b"m=image 4000 udptl t38",
    b"m=audio 9 RTP/AVP " + b" ".join(b"%d" % n for n in range(128)),
    b"a=rtpmap:8 PCMU/8000/2",
    b"a=rtpmap:999999999999999999999 PCMA/8000",
    b"a=ptime:0",
    b"a=ptime:99999999999999999999",
    b"a=maxptime:-20",
    b"a=rtcp:0 IN IP4 1.2.3.4",
    b"a=rtcp:99999 IN IP6 fe80::1%eth0",
    b"a=rtcp-mux",
    b"a=fmtp:101 0-15",
    b"a=",
    b"a=:",
    b"o=- 1 1 IN IP4",
    b"t=0 0",
    b"=",
)
JUNK = (
    *(
        b"\x00",
        b"\\\x00",
        b"\xff",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xf0\x9f\x93\x9e",
        b"\xed\xa0\x80",
    ),
    *(b'"', b"<", b">", b";", b",", b"=", b":", b"@", b"%", b"[", b"]", b"\\", b"\t", b"\v", b" "),
)
NUMBERS = (
    b"0",
    b"-1",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"9" * 30,
    b"9" * 5000,
    b"1e9",
    b"\xd9\xa1",
)
ENDS = (b"\n", b"\r", b"", b"\r\n\r\n", b"\r\n ", b"\r\r\n", b"\n\r", b"\x0b")
DIGITS = re.compile(rb"[0-9]+")
LINE_END = re.compile(rb"\r?\n")


class Script:
    """Decisions, one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __repr__(self) -> str:
        return f"<Script of {len(self.data)} bytes>"

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, limit: int) -> int:
        """A number from 0 to *limit* - 1; 0 when *limit* is 0."""
        value = self.byte() if limit <= 256 else self.byte() << 8 | self.byte()
        return value % limit if limit else 0

    def one_of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def place(self, data: bytes) -> int:
        return self.below(len(data) + 1)


Mutation = Callable[[bytes, Script, Sequence[bytes]], bytes]


def flip(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    bit = bytes([data[at] ^ (1 << script.below(8))]) if at < len(data) else b"\x80"
    return data[:at] + bit + data[at + 1 :]


def truncate(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    return data[: script.place(data)]


def cut_out(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    return data[:at] + data[at + script.below(64) :]


def double(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    piece = data[at : at + script.below(1024)]
    return data[:at] + piece * (1 + script.below(40)) + data[at:]


def splice(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    other = script.one_of(corpus)
    return data[: script.place(data)] + other[script.place(other) :]


def add_line(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    line = script.one_of(SIP_LINES + SDP_LINES)
    ends = [match.end() for match in LINE_END.finditer(data)] or [0]
    at = script.one_of(ends)
    times = script.one_of((1, 1, 1, 2, 40, 300))
    return data[:at] + (line + b"\r\n") * times + data[at:]


def blow_up(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    numbers = list(DIGITS.finditer(data))
    if not numbers:
        return data + script.one_of(NUMBERS)
    found = script.one_of(numbers)
    return data[: found.start()] + script.one_of(NUMBERS) + data[found.end() :]


def damage_end(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    ends = list(LINE_END.finditer(data))
    if not ends:
        return data + script.one_of(ENDS)
    found = script.one_of(ends)
    return data[: found.start()] + script.one_of(ENDS) + data[found.end() :]


def grow(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    size = script.one_of((100, 100, 300, 1000, 1000, 9000, 9000, LARGEST))
    return (
        data[:at]
        + script.one_of((b"A", b"1", b";a", b",", b'"', b"\\", b"\r\n ", b"<")) * size
        + data[at:]
    )


def soil(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    return data[:at] + script.one_of(JUNK) + data[at + script.below(4) :]


def scramble(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    at = script.place(data)
    piece = bytes(script.byte() for _ in range(script.below(12)))
    return data[:at] + piece + data[at + len(piece) :]


def swap_lines(data: bytes, script: Script, corpus: Sequence[bytes]) -> bytes:
    lines = data.split(b"\r\n")
    one, two = script.below(len(lines)), script.below(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"\r\n".join(lines)


TEXT: tuple[Mutation, ...] = (
    *(flip, truncate, cut_out, double, splice, add_line, add_line, blow_up),
    *(damage_end, grow, soil, soil, scramble, swap_lines),
)
BINARY: tuple[Mutation, ...] = (flip, flip, truncate, cut_out, double, splice, scramble)


def mutated(
    data: bytes,
    script: Script,
    corpus: Sequence[bytes],
    *,
    kinds: Sequence[Mutation] = TEXT,
    most: int = 3,
) -> bytes:
    """Return *data* after 0 to *most* mutations, not much longer than `LARGEST`."""
    for _ in range(script.below(most + 1)):
        data = script.one_of(kinds)(data, script, corpus)[: LARGEST + 1]
    return data
