"""Digest: challenges as they come, and one call's memory of them over many responses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from bridge.sip.authentication import (
    CHALLENGED,
    MAX_DOMAINS,
    MAX_ROUNDS,
    NO_ATTEMPTS,
    Attempts,
    Authentication,
)
from bridge.sip.digest import (
    MAX_CHALLENGE,
    MAX_CHALLENGES,
    Challenge,
    Credentials,
    choose,
    read_challenges,
    read_next_nonce,
    write_credentials,
)
from bridge.sip.grammar import LWS, split_list, unquote
from bridge.sip.message import Headers, Request, Response, parse
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz.mutate import JUNK, NUMBERS, Script
from tests.unit.fuzz.rig import CHALLENGES

NAMES = ("WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Authorization")
URI = "sip:+919812345678@182.76.143.61;transport=tcp"
SECRET = Credentials(username='u"s\\er', password="open sesame")
MOST_RESPONSES = 20
LARGEST = 2 * MAX_CHALLENGE + 600  # characters of one field of ours: every one may need an escape

FIELDS = (
    *CHALLENGES,
    'Digest realm="r", nonce="n", opaque="o", algorithm=SHA-512-256, qop="auth", stale=TRUE',
    'Digest realm="a\\"b,c", nonce=bare, algorithm="MD5-sess", qop=auth',
    'NTLM, Digest realm="1", nonce="2", Digest realm="1", nonce="3", algorithm=SHA-256',
    'Basic realm="x", Negotiate dG9rZW4=',
    'nextnonce="next", rspauth="0", qop=auth, nc=00000001',
    'Digest realm="", nonce="", domain="sip:a sip:b", charset=UTF-8, userhash=false',
)


def challenge(data: bytes, meter: Meter) -> None:
    """Lines of header fields: the first byte of each chooses the name."""
    headers = Headers()
    for line in data.split(b"\n")[:40]:
        text = line[1:].decode("utf-8", "surrogateescape")
        if line and not any(char in text for char in "\r\0"):
            headers.add(NAMES[line[0] % len(NAMES)], text)
    with meter:
        found = read_challenges(headers)
        chosen = choose(found)
        fresh = read_next_nonce(headers, "Authentication-Info")
    assert len(found) <= 2 * MAX_CHALLENGES
    assert fresh is None or 0 < len(fresh) <= MAX_CHALLENGE
    assert all(domain == one.domain and one in found for domain, one in chosen.items())
    for one in found:
        assert one.hash.strength <= chosen[one.domain].hash.strength, "never the weaker"
        answered(one, meter)


def answered(one: Challenge, meter: Meter) -> None:
    """What we write can be read, says what was asked, and is the right digest."""
    with meter:
        value = write_credentials(one, SECRET, method="INVITE", uri=URI, cnonce="c0", count=0x1F)
    assert len(value) <= LARGEST
    assert Headers([("Authorization", value)]).get("Authorization") == value
    said = params_of(value)
    assert (said["realm"], said["nonce"]) == (one.domain.realm, one.nonce)
    assert said.get("opaque") == one.opaque
    assert (said["username"], said["uri"]) == (SECRET.username, URI)
    assert said["response"] == expected(one, said)
    assert SECRET.password not in value


def params_of(value: str) -> dict[str, str]:
    """The parameters of credentials as a server reads them."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Digest"
    said: dict[str, str] = {}
    for element in split_list(rest):
        name, _, text = element.partition("=")
        assert name not in said, f"{name} twice"
        said[name.strip(LWS)] = unquote(text.strip(LWS))
    return said


def expected(one: Challenge, said: dict[str, str]) -> str:
    """The response computed anew from what we said (RFC 7616 3.4.1)."""
    name = (one.algorithm or "MD5").lower().removesuffix("-sess")
    name = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}[name]

    def digest(*parts: str) -> str:
        text = ":".join(parts).encode("utf-8", "surrogateescape")
        return hashlib.new(name, text).hexdigest()

    first = digest(said["username"], said["realm"], SECRET.password)
    if (one.algorithm or "").lower().endswith("-sess"):
        first = digest(first, said["nonce"], said["cnonce"])
    second = digest("INVITE", said["uri"])
    if "qop" not in said:
        return digest(first, said["nonce"], second)
    return digest(first, said["nonce"], said["nc"], said["cnonce"], said["qop"], second)


def domains(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: responses to the requests of one call, challenged or not."""
    script, numbers = Script(data), count(1)
    call, attempts, counts = Authentication(credentials=SECRET), NO_ATTEMPTS, Counts()
    for _ in range(MOST_RESPONSES):
        if script.at >= len(data):
            break
        request = ask(next(numbers))
        attempts = replace(attempts, tried=call.authorize(request))
        counts.sent(request)
        assert len(call.answers) <= MAX_DOMAINS
        response = say(script)
        with meter:
            after = hear(call, attempts, response, lambda: f"c{next(numbers)}")
        assert after is None or after.rounds <= MAX_ROUNDS, "gives up in the end"
        assert after is None or after.rounds == attempts.rounds + 1
        attempts = after or NO_ATTEMPTS  # else it is another request of the call
        if script.below(8) == 7:
            again = Authentication.restore(SECRET, call.snapshot())
            assert again == call
            call = again


def hear(
    call: Authentication, attempts: Attempts, response: Response, tokens: Callable[[], str]
) -> Attempts | None:
    if response.status in CHALLENGED:
        return call.challenged(response, attempts, tokens)
    call.accepted(response, tokens)
    return None


class Counts:
    """RFC 7616 3.4: nc counts up for each nonce (and cnonce), whatever was said between."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, ...], int] = {}

    def sent(self, request: Request) -> None:
        again = parse(request.encode())
        for name in ("Authorization", "Proxy-Authorization"):
            for value in again.headers.all(name):
                said = params_of(value)
                if "nc" in said:
                    key = (name, said["realm"], said["nonce"], said["cnonce"])
                    assert int(said["nc"], 16) == self.last.get(key, 0) + 1
                    self.last[key] = int(said["nc"], 16)


def ask(number: int) -> Request:
    fields = [
        ("Via", "SIP/2.0/UDP 52.66.10.20:5060;branch=z9hG4bKx"),
        ("From", "<sip:08040000000@52.66.10.20>;tag=us"),
        ("To", "<sip:+919812345678@182.76.143.61>"),
        ("Call-ID", "c"),
        ("CSeq", f"{number} INVITE"),
        ("Authorization", "of an earlier copy"),
    ]
    return Request("INVITE", URI, Headers(fields))


def say(script: Script) -> Response:
    status = script.one_of((401, 401, 407, 407, 401, 407, 200, 486))
    headers = Headers()
    for _ in range(1 + script.below(3)):
        name = NAMES[script.below(len(NAMES))]
        text = script.one_of(FIELDS)
        if script.below(2):  # other realms and nonces, sometimes the same again
            text = text.replace('"r"', f'"r{script.below(12)}"')
            text = text.replace('"n"', f'"n{script.below(4)}"')
        headers.add(name, text)
    return Response(status, "", headers)


def lines() -> list[bytes]:
    kinds = [0 if "nextnonce" not in field else 2 for field in FIELDS]
    each = [bytes([kind]) + field.encode() for kind, field in zip(kinds, FIELDS, strict=True)]
    return [*each, b"\n".join(each), b"\n".join(b"\x01" + one[1:] for one in each[:6])]


WORDS = (*JUNK, *NUMBERS[:4], b"Digest ", b"realm=", b"nonce=", b'qop="auth"', b"algorithm=")
TARGETS = (
    Target(name="challenge", run=challenge, seeds=lines, dictionary=WORDS, longest=3000),
    Target(
        name="domains",
        run=domains,
        seeds=lambda: [bytes((step * at) % 251 for at in range(60)) for step in (1, 7, 11, 31)],
        longest=300,
    ),
)
