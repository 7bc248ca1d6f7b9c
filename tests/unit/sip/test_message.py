"""Messages: header fields, reading, checking, writing, responses, bodies."""

from __future__ import annotations

import pytest

from bridge.errors import MisuseError
from bridge.sip.message import (
    MAX_HEADERS,
    MAX_LINE,
    MAX_MESSAGE,
    Headers,
    ParseError,
    Request,
    Response,
    parse,
    read,
    response_to,
)

pytestmark = pytest.mark.unit

INVITE = (
    "INVITE sip:+911@203.0.113.7:5070;transport=tcp SIP/2.0",
    "Record-Route: sip:198.51.100.1:443;transport=tls;lr",
    "Via: SIP/2.0/TCP 198.51.100.1:443;branch=z9hG4bK1;rport, SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK2",
    "v: SIP/2.0/TCP 10.0.0.3;branch=z9hG4bK3",
    'From: "A, B" <sip:+912@x.pstn.exotel.com>;tag=as1',
    "To: sip:+911@203.0.113.7",
    "Call-ID: abc@10.0.0.3",
    "CSeq: 102 INVITE",
    "Timestamp: 54.2",
    "m: sip:+912@10.0.0.3:5060;transport=tcp",
    "Max-Forwards: 70",
)


def wire(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def invite(*more: str, body: bytes = b"") -> Request:
    message = parse(wire(*INVITE, *more, body=body))
    assert isinstance(message, Request)
    return message


def without(name: str) -> tuple[str, ...]:
    return tuple(line for line in INVITE if not line.startswith(f"{name}:"))


def test_typed_fields_are_read() -> None:
    request = invite()
    assert (request.method, request.uri) == ("INVITE", "sip:+911@203.0.113.7:5070;transport=tcp")
    assert request.call_id == "abc@10.0.0.3"
    assert (request.cseq.number, request.cseq.method) == (102, "INVITE")
    assert request.top_via.branch == "z9hG4bK1"
    assert (request.from_.display, request.from_.tag) == ("A, B", "as1")
    assert request.to.tag is None
    assert request.contact is not None
    assert str(request.contact.uri) == "sip:+912@10.0.0.3:5060;transport=tcp"


def test_typed_fields_follow_changes_of_the_headers() -> None:
    request = invite()
    assert request.to.tag is None
    request.headers.set("To", "<sip:a@h>;tag=new")
    assert request.to.tag == "new"
    request.headers.remove("m")
    assert request.contact is None


def test_missing_and_malformed_fields_raise_on_access() -> None:
    request = Request("BYE", "sip:h", Headers([("CSeq", "x"), ("Contact", " , ")]))
    for name, text in [("call_id", "Call-ID is missing"), ("cseq", "CSeq is malformed")]:
        with pytest.raises(ParseError) as caught:
            getattr(request, name)
        assert str(caught.value) == text
    with pytest.raises(ParseError, match=r"^Contact is malformed$"):
        _ = request.contact


def test_header_names_compare_without_case_and_compact_forms() -> None:
    """Row 11. RFC 3261 7.3.3."""
    headers = Headers([("V", "1"), ("via", "2, 3"), ("X-Exotel-CallSid", "s")])
    assert headers.get("Via") == "1"
    assert headers.all("v") == ["1", "2, 3"]
    assert headers.values("VIA") == ["1", "2", "3"]
    assert "x-exotel-callsid" in headers
    assert "Contact" not in headers
    assert headers.get("Contact", "none") == "none"
    assert headers.items() == [("V", "1"), ("via", "2, 3"), ("X-Exotel-CallSid", "s")]
    assert len(headers) == 3


def test_headers_are_edited_in_place() -> None:
    headers = Headers([("Via", "1"), ("To", "t"), ("v", "2")])
    copy = headers.copy()
    headers.set("via", "9")
    headers.prepend("Route", "r")
    headers.add("From", "f")
    headers.set("Date", "d")
    assert headers.items() == [
        ("Route", "r"),
        ("via", "9"),
        ("To", "t"),
        ("From", "f"),
        ("Date", "d"),
    ]
    headers.remove("v")
    headers.remove("absent")
    assert headers.all("Via") == []
    assert copy.items() == [("Via", "1"), ("To", "t"), ("v", "2")]
    assert copy == Headers([("Via", "1"), ("To", "t"), ("v", "2")])


def test_first_element_of_a_shared_field_is_replaced() -> None:
    request = invite()
    via = request.top_via.with_source("198.51.100.9", 4000)
    request.headers.replace_first("Via", str(via))
    assert request.top_via.received == "198.51.100.9"
    assert len(request.headers.values("Via")) == 3
    assert request.headers.values("Via")[1] == "SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK2"
    empty = Headers()
    empty.replace_first("Via", "1")
    assert empty.items() == [("Via", "1")]


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\n", "\r", "nul\x00", "\x00", "é\n", "\ud800"])
def test_header_values_cannot_break_the_message(value: str) -> None:
    """Threat 5.1: Malformed messages."""
    headers = Headers()
    for change in (headers.add, headers.set, headers.prepend, headers.replace_first):
        with pytest.raises(MisuseError):
            change("X", value)
    assert headers.items() == []


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\n", "é"])
def test_header_names_must_be_tokens(name: str) -> None:
    with pytest.raises(MisuseError, match=r"^Header name is not a token$"):
        Headers([(name, "x")])


@pytest.mark.parametrize(
    "request_",
    [
        Request("INVITE\r\nX: y", "sip:h"),
        Request("INVITE", "sip:h SIP/2.0\r\nX: y"),
        Request("INVITE", "sip:a b"),
        Request("INVITE", ""),
        Request("", "sip:h"),
    ],
)
def test_request_lines_cannot_break_the_message(request_: Request) -> None:
    """Threat 5.1: Malformed messages."""
    with pytest.raises(MisuseError):
        request_.encode()


@pytest.mark.parametrize(
    "response", [Response(200, "OK\r\nX: y"), Response(99, ""), Response(700, "")]
)
def test_status_lines_cannot_break_the_message(response: Response) -> None:
    with pytest.raises(MisuseError):
        response.encode()


def test_bytes_that_are_not_utf8_survive() -> None:
    """Row 15."""
    data = wire(*INVITE, "X-Raw: \udcff\udc80é").replace(b"+911@", b"\xfe@", 1)
    assert b"X-Raw: \xff\x80\xc3\xa9" in data
    encoded = parse(data).encode()
    assert b"X-Raw: \xff\x80\xc3\xa9\r\n" in encoded
    assert encoded.startswith(b"INVITE sip:\xfe@203")


def test_folded_fields_are_unfolded() -> None:
    """Row 12. RFC 3261 7.3.1."""
    request = invite("Subject: a\r\n  b\r\n\tc", "X-Empty:\r\n ", "X:y")
    assert request.headers.get("s") == "a b c"
    assert request.headers.get("X-Empty") == ""


def test_content_length_is_written_once_in_the_spelling_received() -> None:
    headers = Headers([("l", "7"), ("X", "1"), ("Content-Length", "9")])
    assert Request("BYE", "sip:h", headers, b"ab").encode() == (
        b"BYE sip:h SIP/2.0\r\nl: 2\r\nX: 1\r\n\r\nab"
    )
    assert Response(200, "OK").encode() == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_line_breaks_before_the_start_line_are_skipped() -> None:
    message = parse(b"\r\n\r\n" + wire(*INVITE))
    assert isinstance(message, Request)


def test_body_ends_at_content_length() -> None:
    assert invite("Content-Length: 3", body=b"abcdef").body == b"abc"
    assert invite(body=b"abcdef").body == b"abcdef"


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"", 400, "Header is not ended by an empty line"),
        (b"\r\n\r\n", 400, "Header is not ended by an empty line"),
        (wire(*INVITE)[:-2], 400, "Header is not ended by an empty line"),
        (wire(*INVITE).replace(b"\r\n", b"\n"), 400, "Header is not ended by an empty line"),
        (b" \r\n\r\n", 400, "Request line is malformed"),
        (wire("INVITE sip:h"), 400, "Request line is malformed"),
        (wire("INVITE sip:h HTTP/1.1"), 400, "Request line is malformed"),
        (wire("IN\x00VITE sip:h SIP/2.0"), 400, "Request line is malformed"),
        (wire("INVITE sip:\x00h SIP/2.0"), 400, "Request line is malformed"),
        (wire("SIP/2.0"), 400, "Status code is malformed"),
        (wire("SIP/2.0 2x0 OK"), 400, "Status code is malformed"),
        (wire("SIP/2.0 099 OK"), 400, "Status code is out of range"),
        (wire("SIP/2.0 700 OK"), 400, "Status code is out of range"),
        (wire("SIP/3.0 200 OK"), 505, "SIP version is not supported"),
        (wire("INVITE sip:h SIP/2.0"), 400, "Via is missing"),
        (wire(*INVITE, "no colon"), 400, "Header line has no name"),
        (wire(*INVITE, "colon"), 400, "Header line has no colon"),
        (wire(*INVITE, ": x"), 400, "Header line has no name"),
        (wire(*INVITE, "é: x"), 400, "Header line has no name"),
        (wire(*INVITE, "X: a\nY: b"), 400, "Header has a stray CR, LF or NUL"),
        (wire(*INVITE, "X: a\rY: b"), 400, "Header has a stray CR, LF or NUL"),
        (wire(*INVITE, "X: a\x00"), 400, "Header has a stray CR, LF or NUL"),
        (wire(*INVITE, "Content-Length: -1"), 400, "Content-Length is not a number"),
        (wire(*INVITE, "Content-Length: 1, 1"), 400, "Content-Length is not a number"),
        (wire(*INVITE, "l: 0", "Content-Length: 0"), 400, "Content-Length appears more than once"),
        (wire(*INVITE, "Content-Length: 65537"), 400, "Content-Length is too large"),
        (wire(*INVITE, "Content-Length: 1"), 400, "Body is shorter than Content-Length"),
        (wire(*INVITE, "t: sip:x"), 400, "To appears more than once"),
        (wire(*without("Max-Forwards"), "Max-Forwards: 256"), 400, "Max-Forwards is too large"),
        (wire(*without("Max-Forwards"), "Max-Forwards: x"), 400, "Max-Forwards is not a number"),
        (wire(*without("To")), 400, "To is missing"),
        (wire(*without("To"), "To: <x"), 400, "Angle bracket is not closed"),
        (wire(*without("Call-ID"), "Call-ID: a b"), 400, "Call-ID is malformed"),
        (wire(*without("Call-ID"), "Call-ID:"), 400, "Call-ID is malformed"),
        (wire(*without("CSeq"), "CSeq: 1 BYE"), 400, "CSeq names another method"),
        (
            wire(*INVITE, "X: " + "a" * MAX_LINE),
            513,
            f"Header line is longer than {MAX_LINE} characters",
        ),
        (
            wire("INVITE sip:" + "a" * MAX_LINE + " SIP/2.0", *INVITE[1:]),
            513,
            f"Start line is longer than {MAX_LINE} characters",
        ),
        (
            wire(*INVITE, *["X: a"] * MAX_HEADERS),
            513,
            f"Message has more than {MAX_HEADERS} header fields",
        ),
        (
            wire(*INVITE, body=b"x" * MAX_MESSAGE),
            513,
            f"Message is larger than {MAX_MESSAGE} bytes",
        ),
    ],
)
def test_malformed_message_is_refused(data: bytes, status: int, text: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(data)
    assert (caught.value.status, str(caught.value)) == (status, text)


def test_limits_are_inclusive() -> None:
    """Row 13."""
    filler = "X: " + "a" * (MAX_LINE - 3)
    assert invite(filler).headers.get("X") == "a" * (MAX_LINE - 3)
    full = invite(*["X: a"] * (MAX_HEADERS - len(INVITE) + 1))
    assert len(full.headers) == MAX_HEADERS
    size = MAX_MESSAGE - len(wire(*INVITE))
    assert len(invite(body=b"x" * size).body) == size


def test_read_does_not_look_into_values() -> None:
    message = read(wire("BYE anything SIP/2.0", "CSeq: nonsense", "To: <"))
    assert isinstance(message, Request)
    assert message.headers.get("CSeq") == "nonsense"


def test_refused_request_carries_what_could_be_read() -> None:
    with pytest.raises(ParseError) as caught:
        parse(wire(*INVITE, "broken line", "X: a\nb", "Y: 1"))
    request = caught.value.request
    assert request is not None
    assert request.headers.get("Y") == "1"
    assert "X" not in request.headers
    answer = response_to(request, caught.value.status, to_tag="t").encode()
    assert isinstance(parse(answer), Response)


def test_response_copies_what_rfc3261_wants() -> None:
    response = response_to(
        invite(), 180, to_tag="ours", headers=[("Contact", "<sip:us@h>")], body=b""
    )
    assert (response.status, response.reason) == (180, "Ringing")
    assert response.headers.items() == [
        ("Record-Route", "sip:198.51.100.1:443;transport=tls;lr"),
        (
            "Via",
            "SIP/2.0/TCP 198.51.100.1:443;branch=z9hG4bK1;rport, "
            "SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK2",
        ),
        ("v", "SIP/2.0/TCP 10.0.0.3;branch=z9hG4bK3"),
        ("From", '"A, B" <sip:+912@x.pstn.exotel.com>;tag=as1'),
        ("To", "sip:+911@203.0.113.7;tag=ours"),
        ("Call-ID", "abc@10.0.0.3"),
        ("CSeq", "102 INVITE"),
        ("Timestamp", "54.2"),
        ("Contact", "<sip:us@h>"),
    ]
    assert isinstance(parse(response.encode()), Response)


@pytest.mark.parametrize(
    ("method", "status", "routed"),
    [
        ("INVITE", 100, False),
        ("INVITE", 183, True),
        ("INVITE", 200, True),
        ("INVITE", 302, False),
        ("INVITE", 486, False),
        ("OPTIONS", 200, False),
    ],
)
def test_record_route_goes_where_a_dialog_may_begin(method: str, status: int, routed: bool) -> None:
    request = Request(method, "sip:h", invite().headers)
    assert ("Record-Route" in response_to(request, status).headers) is routed


def test_to_tag_is_added_only_once() -> None:
    request = invite()
    request.headers.set("To", "<sip:a@h>;TAG=theirs")
    assert response_to(request, 200, to_tag="ours").to.tag == "theirs"
    assert response_to(invite(), 404).to.tag is None
    assert response_to(Request("X", "sip:h"), 400, to_tag="ours").headers.items() == []


def test_reason_phrase_defaults_to_the_registered_one() -> None:
    assert response_to(invite(), 486).reason == "Busy Here"
    assert response_to(invite(), 486, "Away").reason == "Away"
    assert response_to(invite(), 499).reason == ""


def test_representation_shows_no_values() -> None:
    """Threat 5.1: Privacy."""
    shown = repr(invite("Subject: secret"))
    assert "secret" not in shown
    assert "912" not in shown


SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"


def part(content_type: str | None, content: bytes, boundary: str = "b1") -> bytes:
    head = f"Content-Type: {content_type}\r\n".encode() if content_type else b""
    return b"--" + boundary.encode() + b"\r\n" + head + b"\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/sdp", SDP, SDP),
        ("Application/SDP ; charset=utf-8", SDP, SDP),
        (None, SDP, SDP),
        (None, b"hello", None),
        ("text/plain", SDP, None),
        ("application/sdp", b"", None),
        (
            "multipart/mixed;boundary=b1",
            part("text/plain", b"hi") + part("application/sdp", SDP) + b"--b1--\r\n",
            SDP,
        ),
        (
            'multipart/mixed; boundary="b 1"',
            b"preamble\r\n" + part("application/sdp", SDP, "b 1") + b"--b 1--",
            SDP,
        ),
        ("multipart/mixed;boundary=b1", part("application/sdp", SDP), SDP + b"\r\n"),
        (
            "multipart/mixed;boundary=b1",
            b"--b1--\r\n" + part("application/sdp", SDP),
            None,
        ),
        (
            "multipart/mixed;boundary=b1",
            part(None, SDP) + b"--b1--",
            None,
        ),
        (
            "multipart/mixed;boundary=o",
            part("multipart/alternative;boundary=b1", part("application/sdp", SDP) + b"--b1--", "o")
            + b"--o--",
            SDP,
        ),
        (
            "multipart/mixed;boundary=b1",
            b"--b1\nContent-Type: application/sdp\n\nv=0\n--b1--\n",
            b"v=0",
        ),
        ("multipart/mixed", SDP, None),
        ("multipart/mixed;boundary=", SDP, None),
        ("multipart/mixed;boundary=b1", b"", None),
        ('multipart/mixed;boundary="b1', part("application/sdp", SDP), None),
        ("multipart/mixed;boundary=" + "b" * 71, SDP, None),
    ],
)
def test_session_description_is_found(
    content_type: str | None, body: bytes, expected: bytes | None
) -> None:
    headers = Headers([("c", content_type)] if content_type else [])
    assert Request("INVITE", "sip:h", headers, body).sdp == expected


def test_encoded_body_is_not_taken_for_a_session_description() -> None:
    headers = Headers([("Content-Type", "application/sdp"), ("e", "gzip")])
    assert Request("INVITE", "sip:h", headers, SDP).sdp is None


def test_multipart_nesting_is_bounded() -> None:
    body = SDP
    content_type = "application/sdp"
    for depth in range(5):
        body = part(content_type, body, f"d{depth}") + f"--d{depth}--".encode()
        content_type = f"multipart/mixed;boundary=d{depth}"
    assert Request("INVITE", "sip:h", Headers([("Content-Type", content_type)]), body).sdp is None
