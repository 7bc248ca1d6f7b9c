"""Digest: reading challenges, choosing among them, writing credentials.

What a call remembers between requests is in `authentication`. Pure: the cnonce comes
from the caller. RFC 3261 22.4, RFC 7616, RFC 8760; RFC 2617 for peers without qop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bridge.sip.grammar import LWS, has_control, is_token, quote, split_list, unquote
from bridge.sip.message import Headers

MAX_CHALLENGE = 4096  # characters of realm, nonce and opaque together, which we would send back
MAX_CHALLENGES = 32  # looked at in one response
MAX_COUNT = 0xFFFFFFFF  # nc has eight hexadecimal digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a trunk calls us and the secret it shares; neither is ever in a repr."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def usable(self) -> bool:
        """Whether the name can stand in a header field."""
        return bool(self.username) and not has_control(self.username)


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """A hash, and how much it is worth: the higher ``strength`` is preferred."""

    name: str
    strength: int
    digest: Callable[[bytes], str]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha512_256(data: bytes) -> str:
    return hashlib.new("sha512_256", data).hexdigest()


def _algorithms() -> dict[str, Algorithm]:
    """Return what this machine can compute, by lower-case name (RFC 7616 6.1)."""
    known = [Algorithm(name="MD5", strength=1, digest=_md5)]
    # SHA-512/256 is no stronger than SHA-256: between them the server's order decides.
    known.append(Algorithm(name="SHA-256", strength=2, digest=_sha256))
    if "sha512_256" in hashlib.algorithms_available:
        known.append(Algorithm(name="SHA-512-256", strength=2, digest=_sha512_256))
    return {algorithm.name.lower(): algorithm for algorithm in known}


ALGORITHMS = _algorithms()
SESSION = "-sess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A protection domain (RFC 3261 22): a realm, of proxies or of the far end."""

    realm: str
    proxy: bool

    @property
    def field_name(self) -> str:
        """The header field that credentials for it go into."""
        return "Proxy-Authorization" if self.proxy else "Authorization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A Digest challenge that we can answer; texts are unquoted.

    ``algorithm`` is as written, None when absent (MD5). ``qop``: whether ``auth`` is used;
    without it the response is that of RFC 2069.
    """

    domain: Domain
    nonce: str
    opaque: str | None = None
    algorithm: str | None = None
    qop: bool = True
    stale: bool = False

    @property
    def hash(self) -> Algorithm:
        """The algorithm without ``-sess``."""
        return ALGORITHMS[_base(self.algorithm)]

    @property
    def session(self) -> bool:
        """Whether the algorithm is a ``-sess`` one (RFC 7616 3.4.2)."""
        return self.algorithm is not None and self.algorithm.lower().endswith(SESSION)


def _base(algorithm: str | None) -> str:
    return "md5" if algorithm is None else algorithm.lower().removesuffix(SESSION)


# Reading

_CHALLENGES = (("WWW-Authenticate", False), ("Proxy-Authenticate", True))


def read_challenges(headers: Headers) -> list[Challenge]:
    """Return the challenges that can be answered, in order; the others are left out.

    Either header field counts in a 401 and in a 407: a forking proxy puts the challenges
    of its branches, WWW-Authenticate and Proxy-Authenticate, into one response
    (RFC 3261 22.3). Several challenges in one field are understood (RFC 7235 4.1).
    """
    found: list[Challenge] = []
    for name, proxy in _CHALLENGES:
        for number, (scheme, params) in enumerate(_schemes(headers.all(name))):
            if number == MAX_CHALLENGES:
                break
            if scheme == "digest" and (challenge := _read(params, proxy=proxy)) is not None:
                found.append(challenge)
    return found


def _schemes(fields: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield scheme and parameters of each challenge; of a parameter given twice the first."""
    for value in fields:
        scheme: str | None = None
        params: dict[str, str] = {}
        for element in split_list(value):
            begins = _scheme_of(element)
            if begins is not None:
                if scheme is not None:
                    yield scheme, params
                scheme, params = begins.lower(), {}
            elif scheme is None:
                scheme = element.lower()  # a scheme that stands alone
            pair = element[len(begins or "") :]
            name, equals, text = pair.partition("=")
            if equals:
                params.setdefault(name.strip(LWS).lower(), unquote(text.strip(LWS)))
        if scheme is not None:
            yield scheme, params


def _scheme_of(element: str) -> str | None:
    """Return the scheme that begins here: a token before a blank and a parameter."""
    name, blank, _ = element.partition("=")[0].replace("\t", " ").strip(" ").partition(" ")
    return name if blank and is_token(name) else None


def _read(params: dict[str, str], *, proxy: bool) -> Challenge | None:
    realm, nonce, opaque = params.get("realm"), params.get("nonce"), params.get("opaque")
    if realm is None or nonce is None:
        return None
    if len(realm) + len(nonce) + len(opaque or "") > MAX_CHALLENGE:
        return None
    algorithm = params.get("algorithm")
    # RFC 7616 3.3: "If the algorithm is not understood, the challenge should be ignored".
    if _base(algorithm) not in ALGORITHMS:
        return None
    offered = [option.strip(LWS).lower() for option in params.get("qop", "").split(",")]
    qop = "auth" in offered
    if not qop and any(offered):
        return None  # auth-int, or what nobody has heard of
    return Challenge(
        domain=Domain(realm=realm, proxy=proxy),
        nonce=nonce,
        opaque=opaque,
        algorithm=algorithm,
        qop=qop,
        stale=params.get("stale", "").lower() == "true",
    )


def choose(challenges: Iterable[Challenge]) -> dict[Domain, Challenge]:
    """Return the challenge to answer for each domain, in the order of their first ones.

    RFC 8760 2.4: of several with one realm the UAC "SHOULD use the topmost header field
    that it supports unless a local policy dictates otherwise". Ours dictates one thing:
    never MD5 where SHA-2 is offered, in whatever order (RFC 8760 3: downgrade).
    """
    chosen: dict[Domain, Challenge] = {}
    for challenge in challenges:
        known = chosen.get(challenge.domain)
        if known is None or challenge.hash.strength > known.hash.strength:
            chosen[challenge.domain] = challenge
    return chosen


def read_next_nonce(headers: Headers, name: str) -> str | None:
    """Return the nextnonce of an Authentication-Info (or Proxy-) field (RFC 7616 3.5)."""
    for element in headers.values(name):
        key, _, text = element.partition("=")
        if key.strip(LWS).lower() == "nextnonce":
            nonce = unquote(text.strip(LWS))
            return nonce if 0 < len(nonce) <= MAX_CHALLENGE else None
    return None


# Writing


def write_credentials(
    challenge: Challenge,
    credentials: Credentials,
    *,
    method: str,
    uri: str,
    cnonce: str,
    count: int,
) -> str:
    """Return the value that answers *challenge* for one request.

    *uri* is the Request-URI, *count* how often the nonce was used, this time included.
    """
    counted = f"{count:08x}"
    response = _response(challenge, credentials, method, uri, cnonce, counted)
    # RFC 3261 22.4: "For SIP, the 'uri' MUST be enclosed in quotation marks."
    params = [
        ("username", quote(credentials.username)),
        ("realm", quote(challenge.domain.realm)),
        ("nonce", quote(challenge.nonce)),
        ("uri", quote(uri)),
        ("response", quote(response)),
    ]
    if challenge.algorithm is not None:
        params.append(("algorithm", challenge.algorithm))
    if challenge.qop or challenge.session:
        # RFC 2617 3.2.2 forbids a cnonce without qop; a -sess digest cannot be checked without.
        params.append(("cnonce", quote(cnonce)))
    if challenge.opaque is not None:
        params.append(("opaque", quote(challenge.opaque)))
    if challenge.qop:
        params += [("qop", "auth"), ("nc", counted)]
    return "Digest " + ", ".join(f"{name}={value}" for name, value in params)


def _response(
    challenge: Challenge,
    credentials: Credentials,
    method: str,
    uri: str,
    cnonce: str,
    counted: str,
) -> str:
    """Compute ``response``. RFC 7616 3.4.1, RFC 2617 3.2.2.1 without qop."""

    def digest(*parts: str) -> str:
        return challenge.hash.digest(":".join(parts).encode("utf-8", "surrogateescape"))

    nonce = challenge.nonce
    secret = digest(credentials.username, challenge.domain.realm, credentials.password)
    if challenge.session:
        secret = digest(secret, nonce, cnonce)
    request = digest(method, uri)
    if not challenge.qop:
        return digest(secret, nonce, request)
    return digest(secret, nonce, counted, cnonce, "auth", request)
