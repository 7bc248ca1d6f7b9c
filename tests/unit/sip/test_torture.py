"""What becomes of the RFC 4475 torture messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.sip.framing import Broken, StreamFramer
from bridge.sip.headers import parse_addresses, parse_via
from bridge.sip.message import ParseError, Request, Response, parse, response_to
from bridge.sip.uri import OtherUri, SipUri, TelUri, parse_uri

pytestmark = pytest.mark.unit

VECTORS = Path(__file__).parents[2] / "vectors" / "rfc4475"

# Section, file, method or status of what is read. What RFC 4475 wants refused above the
# parser (416, 420, 415 ...) reads well here.
ACCEPTED = [
    ("3.1.1.1", "wsinv", "INVITE"),
    ("3.1.1.2", "intmeth", "!interesting-Method0123456789_*+`.%indeed'~"),
    ("3.1.1.3", "esc01", "INVITE"),
    ("3.1.1.4", "escnull", "REGISTER"),
    ("3.1.1.5", "esc02", "RE%47IST%45R"),
    ("3.1.1.6", "lwsdisp", "OPTIONS"),
    ("3.1.1.7", "longreq", "INVITE"),
    ("3.1.1.8", "dblreq", "REGISTER"),
    ("3.1.1.9", "semiuri", "OPTIONS"),
    ("3.1.1.10", "transports", "OPTIONS"),
    ("3.1.1.11", "mpart01", "MESSAGE"),
    ("3.1.1.12", "unreason", 200),
    ("3.1.1.13", "noreason", 100),
    ("3.1.2.11", "escruri", "INVITE"),  # lenient: headers in a Request-URI are not acted upon
    ("3.1.2.12", "baddate", "INVITE"),  # lenient: Date is not read
    ("3.1.2.13", "regbadct", "REGISTER"),  # lenient: we are no registrar
    ("3.1.2.14", "badaspec", "OPTIONS"),  # lenient: blanks inside <>
    ("3.1.2.15", "baddn", "OPTIONS"),  # lenient: unquoted comma in a display name
    ("3.2.1", "badbranch", "OPTIONS"),  # matched as RFC 2543 did
    ("3.3.2", "unkscm", "OPTIONS"),
    ("3.3.3", "novelsc", "OPTIONS"),
    ("3.3.4", "unksm2", "REGISTER"),
    ("3.3.5", "bext01", "OPTIONS"),
    ("3.3.6", "invut", "INVITE"),
    ("3.3.7", "regaut01", "REGISTER"),
    ("3.3.10", "bcast", 200),
    ("3.3.11", "zeromf", "OPTIONS"),
    ("3.3.12", "cparam01", "REGISTER"),
    ("3.3.13", "cparam02", "REGISTER"),
    ("3.3.14", "regescrt", "REGISTER"),
    ("3.3.15", "sdp01", "INVITE"),
    ("3.4.1", "inv2543", "INVITE"),
]

# Section, file, status, text, whether a request could be read to be answered.
REFUSED = [
    ("3.1.2.1", "badinv01", 400, "Parameter has no name", True),
    ("3.1.2.2", "clerr", 400, "Body is shorter than Content-Length", True),
    ("3.1.2.3", "ncl", 400, "Content-Length is not a number", True),
    ("3.1.2.4", "scalar02", 400, "CSeq is too large", True),
    ("3.1.2.5", "scalarlg", 400, "CSeq is too large", False),
    ("3.1.2.6", "quotbal", 400, "Quoted string is not closed", True),
    ("3.1.2.7", "ltgtruri", 400, "URI has a character that must be escaped", True),
    ("3.1.2.8", "lwsruri", 400, "Request line is malformed", True),
    ("3.1.2.9", "lwsstart", 400, "Request line is malformed", True),
    ("3.1.2.10", "trws", 400, "Request line is malformed", True),
    ("3.1.2.16", "badvers", 505, "SIP version is not supported", True),
    ("3.1.2.17", "mismatch01", 400, "CSeq names another method", True),
    ("3.1.2.18", "mismatch02", 400, "CSeq names another method", True),
    ("3.1.2.19", "bigcode", 400, "Status code is malformed", False),
    ("3.3.1", "insuf", 400, "From is missing", True),
    ("3.3.8", "multi01", 400, "From appears more than once", True),
    ("3.3.9", "mcl01", 400, "Content-Length appears more than once", True),
]

# What breaks a stream; every other message is one frame and more, or waits for its body.
BROKEN = {
    "ncl": "Content-Length is negative",
    "mcl01": "Content-Length appears more than once",
    "inv2543": "Content-Length is missing",
}


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}.dat").read_bytes()


def request(name: str) -> Request:
    message = parse(vector(name))
    assert isinstance(message, Request)
    return message


def test_every_vector_has_a_disposition() -> None:
    listed = [name for _, name, _ in ACCEPTED] + [name for _, name, *_ in REFUSED]
    assert sorted(listed) == sorted(path.stem for path in VECTORS.glob("*.dat"))
    assert len(listed) == 49


@pytest.mark.parametrize(("section", "name", "what"), ACCEPTED)
def test_message_is_accepted(section: str, name: str, what: str | int) -> None:
    message = parse(vector(name))
    assert (message.method if isinstance(message, Request) else message.status) == what


@pytest.mark.parametrize(("section", "name", "status", "text", "answerable"), REFUSED)
def test_message_is_refused(
    section: str, name: str, status: int, text: str, answerable: bool
) -> None:
    with pytest.raises(ParseError) as caught:
        parse(vector(name))
    assert (caught.value.status, str(caught.value)) == (status, text)
    assert (caught.value.request is not None) is answerable
    if caught.value.request is not None:
        refusal = parse_back(response_to(caught.value.request, status, to_tag="ours").encode())
        assert refusal.startswith(b"SIP/2.0 %d " % status)


def parse_back(data: bytes) -> bytes:
    head, end, _ = data.partition(b"\r\n\r\n")
    assert end
    assert b"Via:" in head
    return data


@pytest.mark.parametrize("name", [name for _, name, _ in ACCEPTED])
def test_accepted_message_survives_a_round_trip(name: str) -> None:
    message = parse(vector(name))
    again = parse(message.encode())
    assert again.body == message.body
    fields = [field for field in again.headers.items() if field[0] != "Content-Length"]
    assert fields == [field for field in message.headers.items() if field[0] != "Content-Length"]


@pytest.mark.parametrize("name", sorted(path.stem for path in VECTORS.glob("*.dat")))
def test_stream_disposition(name: str) -> None:
    data = vector(name)
    # What follows the first request of dblreq is another test's business.
    frames = StreamFramer().feed(data[: data.index(b"\r\n\r\n") + 4] if name == "dblreq" else data)
    broken = [frame for frame in frames if isinstance(frame, Broken)]
    assert [str(frame.error) for frame in broken] == ([BROKEN[name]] if name in BROKEN else [])
    if name == "clerr":
        assert frames == []  # waits for the 9999 bytes that were announced
    elif name not in BROKEN:
        assert isinstance(frames[0], bytes)
        assert vector(name).startswith(frames[0])


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_request_that_breaks_a_stream_can_be_answered(name: str) -> None:
    (frame,) = StreamFramer().feed(vector(name))
    assert isinstance(frame, Broken)
    assert frame.error.status == 400
    assert frame.error.request is not None


def test_wsinv_keeps_order_through_folds_and_compact_forms() -> None:
    """Rows 11, 12. R1 7.1.15."""
    invite = request("wsinv")
    assert invite.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert invite.to.tag == "1918181833n"
    assert invite.to.uri == SipUri(user="vivekg", host="chair-dnrc.example.com")
    assert invite.from_.display == 'J Rosenberg \\"'
    assert invite.from_.tag == "98asjd8"
    assert str(invite.cseq) == "9 INVITE"
    hops = [parse_via(text) for text in invite.headers.values("Via")]
    assert [(hop.transport, hop.host, hop.branch) for hop in hops] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert invite.headers.get("Subject") == ""
    routes = parse_addresses(invite.headers, "Route")
    assert str(routes[0].uri) == "sip:services.example.com;lr;unknownwith=value;unknown-no-value"
    assert invite.contact is not None
    assert invite.contact.display == 'Quoted string ""'
    assert invite.contact.params == (
        ("newparam", "newvalue"),
        ("secondparam", None),
        ("q", "0.33"),
    )
    assert invite.sdp is not None


def test_intmeth_keeps_control_characters_in_quoted_pairs() -> None:
    strange = request("intmeth")
    assert strange.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert isinstance(strange.to.uri, SipUri)
    assert strange.to.uri.user is not None
    assert strange.from_.param("unknownheaderparam") is None
    copied = strange.headers.copy()
    copied.add("X-To", str(strange.to))  # what a peer sent never makes our writing fail
    assert copied.get("X-To", "").startswith('"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:')


def test_esc02_method_is_not_unescaped() -> None:
    assert request("esc02").cseq.method == "RE%47IST%45R"


def test_lwsdisp_reads_display_name_glued_to_the_address() -> None:
    options = request("lwsdisp")
    assert options.from_.display == "caller"
    assert options.from_.tag == "323"


def test_dblreq_drops_what_follows_the_first_request_in_a_datagram() -> None:
    assert request("dblreq").body == b""


def test_semiuri_keeps_parameters_in_the_user_part() -> None:
    uri = parse_uri(request("semiuri").uri)
    assert isinstance(uri, SipUri)
    assert (uri.user, uri.host) == ("user;par=u%40example.net", "example.com")
    assert uri.params == ()


def test_transports_reads_every_hop() -> None:
    hops = [parse_via(text) for text in request("transports").headers.all("Via")]
    assert [hop.transport for hop in hops] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_mpart01_has_no_session_description() -> None:
    message = request("mpart01")
    assert message.sdp is None
    assert len(message.body) == 553


def test_unreason_keeps_the_phrase() -> None:
    response = parse(vector("unreason"))
    assert isinstance(response, Response)
    assert response.reason.startswith("= 2**3 * 5**2 ")
    assert "девяносто" in response.reason


def test_noreason_has_an_empty_phrase() -> None:
    response = parse(vector("noreason"))
    assert isinstance(response, Response)
    assert response.reason == ""


def test_unknown_schemes_are_kept_for_a_416() -> None:
    assert isinstance(parse_uri(request("unkscm").uri), OtherUri)
    assert parse_uri(request("novelsc").uri) == OtherUri(
        "soap.beep", "soap.beep://192.0.2.103:3002"
    )
    assert request("unksm2").to.uri == OtherUri("isbn", "isbn:2983792873")


def test_badbranch_has_no_usable_branch() -> None:
    assert request("badbranch").top_via.branch == "z9hG4bK"


def test_tel_number_of_a_carrier_reads_as_tel_uri() -> None:
    assert parse_uri("tel:+91-22-6000-0000") == TelUri(number="+91-22-6000-0000")
