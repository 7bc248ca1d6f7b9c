"""The carrier as a judge of credentials: right ones pass, each mistake has its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.carrier import steps
from bridge.carrier.challenge import OPAQUE, Gate, Guard
from bridge.carrier.script import ScriptError, parse
from bridge.sip.authentication import Attempts, Authentication
from bridge.sip.digest import Credentials
from bridge.sip.message import Headers, Request, Response

pytestmark = pytest.mark.unit

URI = "sip:100@127.0.0.1"
US = ("me", "right")
# RFC 2617 3.5, with the method and the texts of this carrier's other fields left out.
MUFASA = (
    'Digest username="Mufasa", realm="testrealm@host.com", '
    'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html", qop=auth, '
    'nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", '
    f'opaque="{OPAQUE}"'
)


def request(*values: str, method: str = "INVITE", uri: str = URI) -> Request:
    return Request(method, uri, Headers([("Authorization", value) for value in values]))


def open_gate() -> Gate:
    gate = Gate(status=401, realm="testrealm@host.com")
    gate.nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    return gate


PASSWORD = ("Mufasa", "Circle Of Life")


def test_the_example_of_rfc_2617_is_right() -> None:
    gate = open_gate()
    assert gate.fault(request(MUFASA, method="GET", uri="/dir/index.html"), PASSWORD) is None
    assert gate.used == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda v: v.replace("testrealm", "other"), "the credentials are for another realm"),
        (lambda v: v.replace("dcd98", "dcd99"), "the credentials are for another nonce"),
        (lambda v: v.replace("/dir/", "/"), "the credentials are for another uri"),
        (lambda v: v.replace('\\"two', "'two"), "the opaque was not sent back as it was"),
        (lambda v: v + ", algorithm=SHA-256", "the credentials use SHA-256, md5 is the best"),
        (lambda v: v.replace("qop=auth", "qop=auth-int"), "the qop is auth-int"),
        (lambda v: v.replace("nc=00000001", "nc=00000002"), "nc is 00000002, 00000001 expected"),
        (lambda v: v.replace("nc=00000001", "nc=1"), "nc is 1, 00000001 expected"),
        (lambda v: v.replace('cnonce="0a4f113b", ', ""), "the credentials have no cnonce"),
        (lambda v: v.replace("0a4f113b", "0a4f113c"), "the digest response is wrong"),
        (lambda v: v.replace("Mufasa", "Scar"), "the credentials are another user's"),
    ],
)
def test_every_mistake_has_its_name(change: Callable[[str], str], fault: str) -> None:
    wrong = request(change(MUFASA), method="GET", uri="/dir/index.html")
    found = open_gate().fault(wrong, PASSWORD)
    assert found is not None
    assert found.startswith(fault)


def test_without_credentials_there_is_nothing_to_judge() -> None:
    assert open_gate().fault(request(), PASSWORD) == "the INVITE has no Authorization"


def test_a_repeated_count_is_noticed() -> None:
    gate = open_gate()
    again = request(MUFASA, method="GET", uri="/dir/index.html")
    assert gate.fault(again, PASSWORD) is None
    assert gate.fault(again, PASSWORD) == "nc is 00000001, 00000002 expected"


def test_an_unknown_algorithm_is_offered_as_one() -> None:
    ((name, value),) = Gate(status=407, algorithms=("unknown",)).challenge()
    assert name == "Proxy-Authenticate"
    assert "algorithm=SHA3-512" in value


# The bridge's digest, which shares nothing with this one, is the other side from here on.


class FarEnd:
    """Sends requests of one call as the bridge would."""

    def __init__(self, password: str = "right") -> None:
        self.authentication = Authentication(
            credentials=Credentials(username="me", password=password)
        )
        self.attempts = Attempts()
        self.drawn = 0

    def token(self) -> str:
        self.drawn += 1
        return f"cnonce{self.drawn}"

    def send(self, method: str) -> Request:
        sent = Request(method, URI, Headers([("CSeq", f"1 {method}")]))
        self.attempts = Attempts(tried=self.authentication.authorize(sent))
        return sent

    def again(self, method: str, status: int, headers: tuple[tuple[str, str], ...]) -> Request:
        response = Response(status, "", Headers(headers))
        attempts = self.authentication.challenged(response, self.attempts, self.token)
        assert attempts is not None
        return self.send(method)


def challenge(text: str) -> steps.Challenge:
    (step,) = parse(text)
    assert isinstance(step, steps.Challenge)
    return step


ALGORITHMS = ("md5", "md5-sess", "sha-256", "sha-256-sess", "sha-512-256", "sha-512-256-sess")


@pytest.mark.parametrize("status", ["401", "407"])
@pytest.mark.parametrize(
    "algorithm", [*ALGORITHMS, "unknown md5", "md5 sha-256", "sha-512-256 md5"]
)
@pytest.mark.parametrize("option", ["", "without qop", "with auth-int", "stale", "two realms"])
def test_the_bridge_passes_every_gate_request_by_request(
    status: str, algorithm: str, option: str
) -> None:
    guard, far = Guard(), FarEnd()
    guard.demand("INVITE", challenge(f"challenge {status} {algorithm} {option}"))
    sent, rounds = far.send("INVITE"), 0
    while (refusal := guard.refusal("INVITE", sent, US)) is not None:
        assert refusal.fault is None
        sent, rounds = far.again("INVITE", refusal.status, refusal.headers), rounds + 1
    assert rounds == (2 if option == "stale" else 1)
    for method in ("OPTIONS", "INFO", "BYE"):
        assert guard.refusal(method, far.send(method), US) is None
    guard.demand("BYE", challenge(f"challenge {status} bye {algorithm} {option}"))
    refusal = guard.refusal("BYE", far.send("BYE"), US)
    assert refusal is not None
    # What came unasked was right: its nonce is too old, that is all.
    assert all("stale=TRUE" in value for _, value in refusal.headers)
    sent = far.again("BYE", refusal.status, refusal.headers)
    refusal = guard.refusal("BYE", sent, US)
    if option == "stale":
        assert refusal is not None
        sent = far.again("BYE", refusal.status, refusal.headers)
        refusal = guard.refusal("BYE", sent, US)
    assert refusal is None


def test_a_wrong_password_is_a_fault() -> None:
    guard, far = Guard(), FarEnd("wrong")
    guard.demand("INVITE", challenge("challenge 401"))
    refusal = guard.refusal("INVITE", far.send("INVITE"), US)
    assert refusal is not None
    judged = guard.refusal("INVITE", far.again("INVITE", 401, refusal.headers), US)
    assert judged is not None
    assert (judged.status, judged.fault) == (403, "the digest response is wrong")


def test_an_invite_alone_is_challenged_until_given_up() -> None:
    with pytest.raises(ScriptError, match="only an INVITE"):
        parse("challenge 401 bye until given up")
