"""Dialogs: route sets, loose and strict routing, sequence numbers, remote target."""

from __future__ import annotations

import pytest

from bridge.sip.dialog import Dialog, Sequence, as_callee, as_caller
from bridge.sip.message import Headers, Request, Response

pytestmark = pytest.mark.unit

FIELDS = [
    ("Via", "SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKx"),
    ("From", '"Alice" <sip:alice@a.example>;tag=ours'),
    ("To", "<sip:bob@b.example>"),
    ("Call-ID", "c1"),
    ("CSeq", "7 INVITE"),
]


def invite(*extra: tuple[str, str]) -> Request:
    return Request("INVITE", "sip:bob@b.example", Headers([*FIELDS, *extra]))


def accepted(*extra: tuple[str, str], tag: str = ";tag=theirs") -> Response:
    fields = [(n, v + tag if n == "To" else v) for n, v in FIELDS]
    return Response(200, "OK", Headers([*fields, *extra]))


def routes(request: Request) -> list[str]:
    return request.headers.all("Route")


def test_the_caller_reverses_record_route_and_the_callee_keeps_its_order() -> None:
    """Row 23. RFC 3261 12.1."""
    recorded = (
        ("Record-Route", "<sip:p1.example;lr>, <sip:p2.example;lr>"),
        ("Record-Route", "<sip:p3.example;lr>"),
        ("Contact", "<sip:bob@10.0.0.9>"),
    )
    caller = as_caller(invite(), accepted(*recorded))
    assert [r.split(";")[0] for r in caller.route_set] == [
        "<sip:p3.example",
        "<sip:p2.example",
        "<sip:p1.example",
    ]
    callee = as_callee(invite(*recorded), "mine")
    assert callee is not None
    assert callee.route_set == tuple(reversed(caller.route_set))


def test_a_request_goes_to_the_remote_target_by_the_loose_route_set() -> None:
    """Row 23. Failure 7.4: ACK by another transport. RFC 3261 12.2.1.1."""
    dialog = as_caller(
        invite(),
        accepted(
            ("Record-Route", "<sip:p1.example:5070;transport=tcp;lr>"),
            ("Contact", "<sip:bob@10.0.0.9:5061;transport=tls>"),
        ),
    )
    request = dialog.request("BYE")
    assert request.uri == "sip:bob@10.0.0.9:5061;transport=tls"
    assert routes(request) == ["<sip:p1.example:5070;transport=tcp;lr>"]
    assert dialog.next_hop == "<sip:p1.example:5070;transport=tcp;lr>"
    assert request.cseq.number == 8
    assert request.headers.get("From") == '"Alice" <sip:alice@a.example>;tag=ours'
    assert request.headers.get("To") == "<sip:bob@b.example>;tag=theirs"


def test_a_strict_router_is_put_into_the_request_uri_and_the_target_last() -> None:
    """Row 23. RFC 3261 12.2.1.1."""
    dialog = as_caller(
        invite(),
        accepted(
            ("Record-Route", "<sip:p2.example;lr>, <sip:p1.example>"),
            ("Contact", "<sip:bob@10.0.0.9>"),
        ),
    )
    request = dialog.request("BYE")
    assert request.uri == "sip:p1.example"
    assert routes(request) == ["<sip:p2.example;lr>", "<sip:bob@10.0.0.9>"]
    assert dialog.next_hop == "<sip:p1.example>"


def test_only_the_remote_target_is_refreshed() -> None:
    """Row 24. RFC 3261 12.2.1.2."""
    dialog = as_caller(
        invite(),
        accepted(("Record-Route", "<sip:p1.example;lr>"), ("Contact", "<sip:bob@10.0.0.9>")),
    )
    dialog.refresh(
        accepted(("Record-Route", "<sip:evil.example;lr>"), ("Contact", "<sip:bob@10.0.0.10>"))
    )
    assert dialog.remote_target == "sip:bob@10.0.0.10"
    assert dialog.route_set == ("<sip:p1.example;lr>",)
    dialog.refresh(accepted())
    dialog.refresh(accepted(("Contact", "<tel:+123>")))
    dialog.refresh(accepted(("Contact", "nonsense")))
    assert dialog.remote_target == "sip:bob@10.0.0.10"


def test_a_contact_with_method_and_headers_makes_a_clean_request_uri() -> None:
    dialog = as_caller(invite(), accepted(("Contact", "<sip:b@10.0.0.9;method=BYE;x=1?Subject=y>")))
    assert dialog.request("BYE").uri == "sip:b@10.0.0.9;x=1"


def test_a_2xx_without_to_tag_or_contact_still_makes_a_dialog() -> None:
    """Row 30. RFC 3261 12.1.2."""
    dialog = as_caller(invite(), accepted(tag=""))
    assert dialog.id == ("c1", "ours", "")
    request = dialog.request("BYE")
    assert request.uri == "sip:bob@b.example"
    assert request.headers.get("To") == "<sip:bob@b.example>"


def test_an_invite_without_usable_contact_makes_no_dialog() -> None:
    assert as_callee(invite(), "mine") is None
    assert as_callee(invite(("Contact", "*")), "mine") is None


@pytest.mark.parametrize(
    ("seen", "cseq", "verdict"),
    [
        (None, 1, Sequence.NEW),
        (5, 6, Sequence.NEW),
        (5, 900, Sequence.NEW),
        (5, 5, Sequence.NEW),
        (5, 4, Sequence.LATE),
    ],
)
def test_sequence_numbers_of_the_peer(seen: int | None, cseq: int, verdict: Sequence) -> None:
    dialog = as_caller(invite(), accepted())
    dialog.remote_cseq = seen
    assert dialog.judge(cseq) is verdict
    assert dialog.remote_cseq == (seen if verdict is Sequence.LATE else cseq)


def test_our_sequence_numbers_rise_and_the_ack_repeats_that_of_its_invite() -> None:
    """Row 26. RFC 3261 12.2.1.1."""
    dialog: Dialog = as_caller(invite(), accepted())
    numbers = [dialog.request(m).cseq.number for m in ("INVITE", "OPTIONS", "BYE")]
    assert numbers == [8, 9, 10]
    assert str(dialog.ack(7).cseq) == "7 ACK"


def test_many_record_routes_are_bounded() -> None:
    response = accepted(*[("Record-Route", f"<sip:p{n}.example;lr>") for n in range(100)])
    assert len(as_caller(invite(), response).route_set) == 32
