"""SIP messages by method and class, whatever a peer writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from bridge.observe import catalogue
from bridge.observe.sip_count import SipCount, Taps
from bridge.sip.flow import Flow

pytestmark = pytest.mark.unit

FLOW = Flow(id=1, transport="tcp", local=("192.0.2.1", 5060), remote=("192.0.2.9", 5060))


class Counted:
    """A count on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.count = SipCount(
            *(
                Counter(figure.name, figure.text, figure.labels, registry=self.registry)
                for figure in (catalogue.SIP_REQUESTS, catalogue.SIP_RESPONSES)
            )
        )

    def found(self) -> dict[tuple[str, ...], float]:
        """Everything that was counted, as (way, method[, class])."""
        return {
            tuple(
                sample.labels[key] for key in ("way", "method", "class") if key in sample.labels
            ): (sample.value)
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        }


def response(status: str, cseq: str = "CSeq: 1 INVITE") -> bytes:
    return f"SIP/2.0 {status} Text\r\nVia: x\r\n{cseq}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("message", "row"),
    [
        (b"INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n", ("in", "INVITE")),
        (b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", ("in", "OPTIONS")),
        (b"FROBNICATE sip:a@b SIP/2.0\r\n\r\n", ("in", "other")),
        (b"x" * 60_000, ("in", "other")),
        (response("180"), ("in", "INVITE", "1xx")),
        (response("200", "cseq : 77 BYE"), ("in", "BYE", "2xx")),
        (response("503", "CSeq: 1 invite"), ("in", "INVITE", "5xx")),
        (response("200", "CSeq: 1 FROBNICATE"), ("in", "other", "2xx")),
        (response("200", "CSeq: one INVITE"), ("in", "other", "2xx")),
    ],
)
def test_a_message_is_counted_by_its_method_and_class(message: bytes, row: tuple[str, ...]) -> None:
    counted = Counted()
    counted.count.received(message, FLOW)
    assert counted.found() == {row: 1}


@pytest.mark.parametrize("message", [b"", b"\r\n\r\n", b"  ", response("700"), response("x00")])
def test_keep_alives_and_nonsense_are_not_counted(message: bytes) -> None:
    counted = Counted()
    counted.count.sent(message, FLOW)
    assert counted.found() == {}


@given(st.binary(max_size=300))
def test_no_message_makes_a_new_label(message: bytes) -> None:
    counted = Counted()
    counted.count.received(message, FLOW)
    counted.count.received(b"SIP/2.0 " + message, FLOW)
    for way, method, *kind in counted.found():
        assert way == "in"
        assert method in catalogue.METHODS
        assert set(kind) <= set(catalogue.CLASSES)


def test_several_taps_hear_the_same() -> None:
    one, other = Counted(), Counted()
    taps = Taps(one.count, other.count)
    taps.received(b"BYE sip:a@b SIP/2.0\r\n\r\n", FLOW)
    taps.sent(response("200", "CSeq: 2 BYE"), FLOW)
    assert one.found() == other.found() == {("in", "BYE"): 1, ("out", "BYE", "2xx"): 1}
