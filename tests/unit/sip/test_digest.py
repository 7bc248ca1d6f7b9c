"""Digest: published vectors, tables of challenges, and whatever a peer may write."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.authentication import Attempts, Authentication
from bridge.sip.digest import (
    ALGORITHMS,
    Challenge,
    Credentials,
    Domain,
    choose,
    read_challenges,
    read_next_nonce,
    write_credentials,
)
from bridge.sip.message import Headers, Request, Response

pytestmark = pytest.mark.unit

REALM = Domain(realm="carrier.example", proxy=False)
SECRET = Credentials(username="alice", password="open sesame")


def params_of(value: str) -> dict[str, str]:
    """The parameters as written, quotes kept; read by a rule of its own."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Digest"
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s,"]+)(?:, |$)', rest)
    assert ", ".join(f"{name}={text}" for name, text in found) == rest
    return dict(found)


def response_of(
    challenge: Challenge, credentials: Credentials, method: str, uri: str, cnonce: str
) -> str:
    value = write_credentials(
        challenge, credentials, method=method, uri=uri, cnonce=cnonce, count=1
    )
    return params_of(value)["response"].strip('"')


# Published examples

HTTP_AUTH = Domain(realm="http-auth@example.org", proxy=False)
BILOXI = Domain(realm="biloxi.com", proxy=False)
CNONCE_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
NONCE_7616 = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
NONCE_2617 = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
    ],
)
def test_the_example_of_rfc_7616_3_9_1(algorithm: str, expected: str) -> None:
    challenge = Challenge(domain=HTTP_AUTH, nonce=NONCE_7616, algorithm=algorithm)
    mufasa = Credentials(username="Mufasa", password="Circle of Life")
    found = response_of(challenge, mufasa, "GET", "/dir/index.html", CNONCE_7616)
    assert found == expected


def test_the_example_of_rfc_7616_3_9_2_as_erratum_4897_corrects_it() -> None:
    challenge = Challenge(
        domain=Domain(realm="api@example.org", proxy=False),
        nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        algorithm="SHA-512-256",
    )
    doe = Credentials(username="J\u00e4s\u00f8n Doe", password="Secret, or not?")
    cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    found = response_of(challenge, doe, "GET", "/doe.json", cnonce)
    assert found == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"


def test_the_example_of_rfc_2617_3_5() -> None:
    domain = Domain(realm="testrealm@host.com", proxy=False)
    challenge = Challenge(domain=domain, nonce=NONCE_2617)
    mufasa = Credentials(username="Mufasa", password="Circle Of Life")
    found = response_of(challenge, mufasa, "GET", "/dir/index.html", "0a4f113b")
    assert found == "6629fae49393a05397450978507c4ef1"


@pytest.mark.parametrize(
    ("algorithm", "qop", "expected"),
    [
        (None, False, "bf57e4e0d0bffc0fbaedce64d59add5e"),
        ("MD5", True, "89eb0059246c02b2f6ee02c7961d5ea3"),
        ("MD5-sess", True, "e4e4ea61d186d07a92c9e1f6919902e9"),
    ],
)
def test_the_examples_of_the_sipping_auth_draft(
    algorithm: str | None, qop: bool, expected: str
) -> None:
    """draft-smith-sipping-auth-examples-01: an INVITE by bob, with and without qop."""
    challenge = Challenge(domain=BILOXI, nonce=NONCE_2617, algorithm=algorithm, qop=qop)
    bob = Credentials(username="bob", password="zanzibar")
    assert response_of(challenge, bob, "INVITE", "sip:bob@biloxi.com", "0a4f113b") == expected


# Reading


def challenged(*values: str, name: str = "WWW-Authenticate") -> list[Challenge]:
    return read_challenges(Headers([(name, value) for value in values]))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('Digest realm="carrier.example", nonce="n"', {"qop": False, "algorithm": None}),
        ('Digest realm="carrier.example",nonce="n",qop="auth"', {"qop": True}),
        ('digest nonce="n" , REALM="carrier.example" ,QOP=auth', {"qop": True}),
        ('Digest\trealm="carrier.example",\tnonce="n"', {"qop": False}),
        ('Digest realm = "carrier.example", nonce = "n"', {"qop": False}),
        ('Digest realm="carrier.example", nonce="n", qop="auth,auth-int"', {"qop": True}),
        ('Digest realm="carrier.example", nonce="n", qop="auth-int, auth"', {"qop": True}),
        ('Digest realm="carrier.example", nonce="n", qop="AUTH"', {"qop": True}),
        ('Digest realm="carrier.example", nonce="n", qop=""', {"qop": False}),
        ('Digest realm="carrier.example", qop=auth,auth-int, nonce="n"', {"qop": True}),
        ('Digest realm="carrier.example", nonce="n", stale=TRUE', {"stale": True}),
        ('Digest realm="carrier.example", nonce="n", stale="true"', {"stale": True}),
        ('Digest realm="carrier.example", nonce="n", stale=false', {"stale": False}),
        ('Digest realm="carrier.example", nonce="n", algorithm="MD5"', {"algorithm": "MD5"}),
        ('Digest realm="carrier.example", nonce="n", algorithm=sha-256', {"algorithm": "sha-256"}),
        ('Digest realm="carrier.example", nonce="n", opaque=""', {"opaque": ""}),
        ('Digest realm="carrier.example", nonce="a,b=\\"c\\""', {"nonce": 'a,b="c"'}),
        ('Digest realm="carrier.example", nonce="n", nonce="m"', {"nonce": "n"}),
        ('Digest realm="carrier.example", nonce="n", domain="sip:a sip:b", x=y', {"nonce": "n"}),
        ('Digest, realm="carrier.example", nonce="n"', {"nonce": "n"}),
    ],
)
def test_a_challenge_is_read_however_it_is_written(value: str, expected: dict[str, object]) -> None:
    (challenge,) = challenged(value)
    assert challenge.domain == REALM
    assert {name: getattr(challenge, name) for name in expected} == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Digest",
        'Basic realm="carrier.example"',
        'NTLM realm="carrier.example", nonce="n"',
        'Digest nonce="n"',
        'Digest realm="carrier.example"',
        'Digest realm="carrier.example", nonce="n", algorithm=SHA3-256',
        'Digest realm="carrier.example", nonce="n", algorithm=AKAv1-MD5',
        'Digest realm="carrier.example", nonce="n", algorithm=',
        'Digest realm="carrier.example", nonce="n", algorithm=-sess',
        'Digest realm="carrier.example", nonce="n", qop="auth-int"',
        'Digest realm="carrier.example", nonce="n", qop="telepathy"',
        f'Digest realm="carrier.example", nonce="{"n" * 5000}"',
    ],
)
def test_what_cannot_be_answered_is_left_out(value: str) -> None:
    assert challenged(value) == []


def test_several_challenges_in_one_field_are_told_apart() -> None:
    """Row 41. RFC 7616 3.7: commas in quotes."""
    found = challenged(
        'Negotiate, Digest realm="a, b", nonce="1", NTLM, Digest realm="c", nonce="2", qop=auth'
    )
    assert [(c.domain.realm, c.nonce, c.qop) for c in found] == [
        ("a, b", "1", False),
        ("c", "2", True),
    ]


def test_both_header_fields_count_whatever_the_status() -> None:
    headers = Headers(
        [
            ("WWW-Authenticate", 'Digest realm="x", nonce="1"'),
            ("Proxy-Authenticate", 'Digest realm="x", nonce="2"'),
        ]
    )
    found = choose(read_challenges(headers))
    assert {(d.realm, d.field_name): c.nonce for d, c in found.items()} == {
        ("x", "Authorization"): "1",
        ("x", "Proxy-Authorization"): "2",
    }


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["MD5", "SHA-256"], "SHA-256"),
        (["SHA-256", "MD5"], "SHA-256"),
        (["SHA-512-256", "SHA-256", "MD5"], "SHA-512-256"),
        (["SHA-256", "SHA-512-256", "MD5"], "SHA-256"),
        (["MD5", "SHA-256-sess", "SHA-256"], "SHA-256-sess"),
        (["SHA-1", "MD5-sess", "MD5"], "MD5-sess"),
        (["SHA3-512", "MD5"], "MD5"),
    ],
)
def test_the_strongest_algorithm_is_chosen_and_of_equals_the_topmost(
    offered: list[str], chosen: str
) -> None:
    """Threat 5.1: Digest attacks."""
    values = [f'Digest realm="carrier.example", nonce="n", algorithm={name}' for name in offered]
    assert choose(challenged(*values))[REALM].algorithm == chosen


def test_at_most_so_many_challenges_are_looked_at() -> None:
    many = ", ".join(f'Digest realm="{n}", nonce="n"' for n in range(200))
    assert len(challenged(many)) == 32


# Writing


def test_credentials_echo_what_the_challenge_gave_and_quote_what_must_be_quoted() -> None:
    challenge = Challenge(
        domain=REALM, nonce='a"b\\c', opaque="o\u00e4", algorithm="sha-256", qop=True
    )
    found = params_of(
        write_credentials(
            challenge,
            Credentials(username='al"ice', password="p"),
            method="INVITE",
            uri="sip:bob@carrier.example;user=phone",
            cnonce="c1",
            count=26,
        )
    )
    response = found.pop("response")
    assert re.fullmatch('"[0-9a-f]{64}"', response)
    assert found == {
        "username": '"al\\"ice"',
        "realm": '"carrier.example"',
        "nonce": '"a\\"b\\\\c"',
        "uri": '"sip:bob@carrier.example;user=phone"',
        "algorithm": "sha-256",
        "cnonce": '"c1"',
        "opaque": '"o\u00e4"',
        "qop": "auth",
        "nc": "0000001a",
    }


def test_without_qop_there_is_neither_nc_nor_cnonce() -> None:
    challenge = Challenge(domain=REALM, nonce="n", qop=False)
    value = write_credentials(challenge, SECRET, method="BYE", uri="sip:x", cnonce="c", count=1)
    assert set(params_of(value)) == {"username", "realm", "nonce", "uri", "response"}


def test_a_session_digest_without_qop_tells_its_cnonce() -> None:
    challenge = Challenge(domain=REALM, nonce="n", algorithm="MD5-sess", qop=False)
    value = write_credentials(challenge, SECRET, method="BYE", uri="sip:x", cnonce="c", count=1)
    assert params_of(value)["cnonce"] == '"c"'


def test_no_repr_shows_name_or_password() -> None:
    """Threat 5.1: Privacy."""
    authentication = Authentication(credentials=SECRET)
    authentication.challenged(refusal('Digest realm="r", nonce="n"'), Attempts(), str)
    for shown in (repr(SECRET), repr(authentication), repr(authentication.snapshot())):
        assert "alice" not in shown
        assert "sesame" not in shown


# What a call remembers


def refusal(*values: str, status: int = 401) -> Response:
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    return Response(status, "", Headers([(name, value) for value in values]))


def request(method: str = "INVITE") -> Request:
    return Request(method, "sip:bob@carrier.example")


class Chain:
    """One request and its copies, as the core sends them."""

    def __init__(self, authentication: Authentication, method: str = "INVITE") -> None:
        self.authentication = authentication
        self.method = method
        self.sent = request(method)
        self.attempts = Attempts(tried=authentication.authorize(self.sent))

    def refused(self, *values: str) -> bool:
        """Whether another copy was sent after these challenges."""
        drawn = iter(range(1000))
        attempts = self.authentication.challenged(
            refusal(*values), self.attempts, lambda: f"cnonce{next(drawn)}"
        )
        if attempts is None:
            return False
        self.sent = request(self.method)
        tried = self.authentication.authorize(self.sent)
        self.attempts = Attempts(tried=tried, failed=attempts.failed, rounds=attempts.rounds)
        return True

    @property
    def params(self) -> dict[str, str]:
        return params_of(self.sent.headers.get("Authorization") or "")


def digest(nonce: str, *more: str, realm: str = "r") -> str:
    return ", ".join((f'Digest realm="{realm}"', f'nonce="{nonce}"', 'qop="auth"', *more))


def test_two_refusals_of_the_credentials_are_enough() -> None:
    """Threat 5.1: Digest attacks."""
    chain = Chain(Authentication(credentials=SECRET))
    assert [chain.refused(digest(nonce)) for nonce in "abc"] == [True, True, False]


def test_a_stale_nonce_is_no_refusal() -> None:
    chain = Chain(Authentication(credentials=SECRET))
    assert chain.refused(digest("a"))
    assert all(chain.refused(digest(nonce, "stale=true")) for nonce in "bcd")
    assert chain.params["nonce"] == '"d"'
    assert [chain.refused(digest(nonce)) for nonce in "ef"] == [True, False]


def test_a_server_that_finds_every_nonce_stale_is_given_up() -> None:
    chain = Chain(Authentication(credentials=SECRET))
    rounds = [chain.refused(digest(f"n{n}", "stale=true")) for n in range(20)]
    assert rounds.index(False) == 8


def test_a_refusal_counts_for_its_realm_alone() -> None:
    chain = Chain(Authentication(credentials=SECRET))
    assert chain.refused(digest("a"))
    assert chain.refused(digest("b"))
    assert chain.refused(digest("c", realm="other"))
    assert chain.refused(digest("d", realm="other"))
    assert not chain.refused(digest("e", realm="other"))


def test_a_refusal_counts_for_its_request_alone() -> None:
    authentication = Authentication(credentials=SECRET)
    first = Chain(authentication)
    assert first.refused(digest("a"))
    assert first.refused(digest("b"))
    second = Chain(authentication, "BYE")
    assert second.params["nonce"] == '"b"'
    assert second.refused(digest("c"))
    assert not second.refused(digest("d"))


def test_the_count_of_a_nonce_goes_on_from_request_to_request() -> None:
    """Row 41. RFC 7616 3.4: nc."""
    authentication = Authentication(credentials=SECRET)
    first = Chain(authentication)
    first.refused(digest("a"))
    seen = [first.params, Chain(authentication, "BYE").params, Chain(authentication, "INFO").params]
    assert [found["nc"] for found in seen] == ["00000001", "00000002", "00000003"]
    assert len({found["cnonce"] for found in seen}) == 1
    assert len({found["response"] for found in seen}) == 3


def test_the_same_nonce_again_goes_on_counting_and_a_new_one_starts_anew() -> None:
    chain = Chain(Authentication(credentials=SECRET))
    chain.refused(digest("a"))
    chain.refused(digest("a", 'opaque="o"'))
    assert (chain.params["nc"], chain.params["opaque"]) == ("00000002", '"o"')
    chain.refused(digest("b", "stale=true"))
    assert chain.params["nc"] == "00000001"
    assert "opaque" not in chain.params


def test_every_known_realm_is_answered_in_one_request() -> None:
    chain = Chain(Authentication(credentials=SECRET))
    assert chain.refused(digest("a", realm="one"), digest("b", realm="two"))
    assert chain.refused(digest("c", realm="three"))
    values = [params_of(value) for value in chain.sent.headers.all("Authorization")]
    assert [value["realm"] for value in values] == ['"one"', '"two"', '"three"']


def test_nobody_can_make_us_remember_realms_without_end() -> None:
    """Threat 5.1: Digest attacks."""
    authentication = Authentication(credentials=SECRET)
    for number in range(50):
        Chain(authentication).refused(digest("a", realm=f"realm{number}"))
    assert len(authentication.answers) == 8
    assert not Chain(authentication).refused(digest("a", realm="one more"))


@pytest.mark.parametrize("username", ["", "al\nice", "al\r\nEvil: yes", "a\x00"])
def test_a_name_that_cannot_be_written_answers_nothing(username: str) -> None:
    chain = Chain(Authentication(credentials=Credentials(username=username, password="p")))
    assert not chain.refused(digest("a"))


def answered(name: str, value: str) -> Response:
    return Response(200, "OK", Headers([(name, value)]))


def test_a_next_nonce_is_used_from_then_on() -> None:
    authentication = Authentication(credentials=SECRET)
    Chain(authentication).refused(digest("a", 'opaque="o"'))
    authentication.accepted(answered("Authentication-Info", 'qop=auth, nextnonce="b"'), str)
    params = Chain(authentication, "BYE").params
    assert (params["nonce"], params["nc"], params["opaque"]) == ('"b"', "00000001", '"o"')


@pytest.mark.parametrize(
    ("challenges", "name", "value"),
    [
        ([digest("a"), digest("a", realm="s")], "Authentication-Info", 'nextnonce="b"'),
        ([digest("a")], "Proxy-Authentication-Info", 'nextnonce="b"'),
        ([digest("a", "algorithm=MD5-sess")], "Authentication-Info", 'nextnonce="b"'),
        ([digest("a")], "Authentication-Info", 'nextnonce=""'),
        ([digest("a")], "Authentication-Info", 'rspauth="b"'),
        ([digest("a")], "Authentication-Info", f'nextnonce="{"b" * 5000}"'),
    ],
)
def test_a_next_nonce_that_cannot_be_placed_changes_nothing(
    challenges: list[str], name: str, value: str
) -> None:
    authentication = Authentication(credentials=SECRET)
    Chain(authentication).refused(*challenges)
    authentication.accepted(answered(name, value), str)
    assert {a.challenge.nonce for a in authentication.answers.values()} == {"a"}


def test_a_snapshot_goes_on_counting_and_holds_no_secret() -> None:
    authentication = Authentication(credentials=SECRET)
    Chain(authentication).refused(digest("a", "algorithm=SHA-256-sess"))
    kept = authentication.snapshot()
    hash(kept)
    assert "sesame" not in repr(kept)
    again = Authentication.restore(SECRET, kept)
    assert again is not None
    assert Chain(again, "BYE").params == Chain(authentication, "BYE").params
    assert Authentication.restore(None, kept) is None


# Whatever a peer may write

ANYTHING = st.text(
    alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\x00"), max_size=60
)
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "Digest ",
                    "realm=",
                    "nonce=",
                    'realm="r"',
                    'nonce="n"',
                    ",",
                    ", ",
                    '"',
                    "\\",
                    "=",
                ),
                *("qop=", '"auth"', "auth-int", "algorithm=", "MD5", "SHA-256-sess", "stale=true"),
                *("opaque=", "NTLM", "<", ">", ";", "\t", 'x="\\'),
            ]
        ),
        ANYTHING,
    ),
    max_size=20,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(www=st.lists(PIECES, max_size=4), proxy=st.lists(PIECES, max_size=4), info=PIECES)
def test_no_challenge_raises_and_what_is_answered_can_be_written_and_read(
    www: list[str], proxy: list[str], info: str
) -> None:
    fields = [("WWW-Authenticate", value) for value in www]
    fields += [("Proxy-Authenticate", value) for value in proxy]
    response = Response(401, "", Headers(fields))
    authentication = Authentication(credentials=SECRET)
    attempts = authentication.challenged(response, Attempts(), lambda: "c")
    authentication.accepted(answered("Authentication-Info", info), lambda: "d")
    sent = request()
    authentication.authorize(sent)
    sent.encode()
    values = sent.headers.all("Authorization") + sent.headers.all("Proxy-Authorization")
    assert (attempts is not None) == bool(values)
    for value in values:
        params_of(value)


@settings(max_examples=200, deadline=None)
@given(realm=ANYTHING, nonce=ANYTHING, opaque=ANYTHING, name=st.sampled_from(sorted(ALGORITHMS)))
def test_what_was_quoted_comes_back_as_it_was(
    realm: str, nonce: str, opaque: str, name: str
) -> None:
    challenge = Challenge(
        domain=Domain(realm=realm, proxy=True), nonce=nonce, opaque=opaque, algorithm=name, qop=True
    )
    value = write_credentials(challenge, SECRET, method="BYE", uri="sip:x", cnonce="c", count=1)
    # Credentials have the form of a challenge, and so can be read as one.
    (back,) = read_challenges(Headers([("Proxy-Authenticate", value)]))
    assert back == challenge


@settings(max_examples=100, deadline=None)
@given(value=PIECES)
def test_no_authentication_info_raises(value: str) -> None:
    nonce = read_next_nonce(Headers([("Authentication-Info", value)]), "Authentication-Info")
    assert nonce is None or nonce
