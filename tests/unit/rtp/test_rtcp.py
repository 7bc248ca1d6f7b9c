"""RTCP packets, reception figures, and reports between two ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp import rtcp
from rtp.packet import Stream
from rtp.reception import MAX_JUMP, MAX_MISORDER, Reception
from rtp.report import INTERVAL, Reporter

pytestmark = pytest.mark.unit

WORDS = st.integers(0, 0xFFFF_FFFF)
BLOCKS = st.builds(
    rtcp.ReportBlock,
    ssrc=WORDS,
    fraction_lost=st.integers(0, 255),
    cumulative_lost=st.integers(-0x80_0000, 0x7F_FFFF),
    highest_sequence=WORDS,
    jitter=WORDS,
    last_report=WORDS,
    delay=WORDS,
)
REPORTS = st.builds(
    rtcp.Report,
    ssrc=WORDS,
    sender=st.none()
    | st.builds(
        rtcp.SenderInfo,
        ntp=st.integers(0, 2**64 - 1),
        timestamp=WORDS,
        packets=WORDS,
        octets=WORDS,
    ),
    blocks=st.lists(BLOCKS, max_size=3).map(tuple),
)


@given(REPORTS, st.text(max_size=300))
def test_a_report_is_parsed_as_built(report: rtcp.Report, cname: str) -> None:
    data = rtcp.build(report, cname=cname)
    assert len(data) % 4 == 0
    assert rtcp.parse(data) == [report]


@settings(max_examples=200)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: b"\x81\xc8\x00\x06" + b))
def test_any_bytes_parse_or_are_refused_with_rtcp_error(data: bytes) -> None:
    try:
        packets = rtcp.parse(data)
    except rtcp.RtcpError:
        return
    assert len(packets) <= len(data) // 4


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", "empty datagram"),
        ("80c8", "shorter than an RTCP header"),
        ("40c80000", "RTCP version is not 2"),
        ("80c80006", "RTCP packet runs past the end"),
        ("80c8000100000001", "sender report is too short"),
        ("80c90000", "report is too short"),
        ("81c9000100000001", "report block runs past the end"),
        ("82cb000100000001", "goodbye is too short"),
    ],
)
def test_a_broken_packet_is_refused_with_its_reason(data: str, text: str) -> None:
    with pytest.raises(rtcp.RtcpError, match=f"^{text}$"):
        rtcp.parse(bytes.fromhex(data))


def test_goodbye_with_a_reason_behind_other_packets() -> None:
    empty_report = "80c9000100000001"
    application = "80cc0002000000016e616d65"
    goodbye = "81cb00020000000703627965"
    packets = rtcp.parse(bytes.fromhex(empty_report + application + goodbye))
    assert packets == [
        rtcp.Report(ssrc=1, sender=None, blocks=()),
        rtcp.Goodbye(ssrcs=(7,)),
    ]


def test_round_trip_is_the_example_of_rfc_3550() -> None:
    block = rtcp.ReportBlock(
        ssrc=0,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=0,
        jitter=0,
        last_report=0xB705_2000,
        delay=0x0005_4000,
    )
    arrival = 0xB710_8000 / 65536
    assert rtcp.round_trip(block, arrival) == pytest.approx(6.125)


def test_no_round_trip_without_a_report_of_ours_or_from_the_future() -> None:
    block = rtcp.ReportBlock(
        ssrc=0,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=0,
        jitter=0,
        last_report=0,
        delay=0,
    )
    assert rtcp.round_trip(block, 5.0) is None
    future = rtcp.middle(rtcp.ntp(9.0))
    ahead = rtcp.ReportBlock(
        ssrc=0,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=0,
        jitter=0,
        last_report=future,
        delay=0,
    )
    assert rtcp.round_trip(ahead, 5.0) is None


# Reception.


def received(sequences: list[int], reception: Reception | None = None) -> list[int]:
    reception = reception or Reception()
    return [reception.update(1, sequence) for sequence in sequences]


def test_sequence_numbers_are_extended_over_the_wrap_in_both_directions() -> None:
    """Row 82. RFC 3550 A.1: 16-bit arithmetic."""
    first, second, third, fourth = received([65534, 0, 65535, 1])
    assert [second - first, third - first, fourth - first] == [2, 1, 3]


def test_only_what_never_came_is_lost() -> None:
    reception = Reception()
    received([10, 11, 13, 13, 12, 12, 17, 18], reception)
    assert (reception.lost, reception.duplicates, reception.received) == (3, 2, 6)


def test_the_report_counts_duplicates_as_rfc_3550_does() -> None:
    reception = Reception()
    received([10, 11, 11, 11], reception)
    assert reception.cumulative_lost == -2
    assert reception.lost == 0


def test_a_change_of_ssrc_starts_over_and_keeps_the_totals() -> None:
    """Row 81. Failure 7.2: loss across an SSRC change. RFC 3550 8, A.1."""
    reception = Reception()
    received([1, 3], reception)
    epoch = reception.epoch
    reception.update(2, 40_000)
    reception.update(2, 40_002)
    assert reception.epoch == epoch + 1
    assert (reception.lost, reception.received, reception.expected) == (2, 4, 3)


def test_a_straggler_of_the_source_before_changes_nothing_and_its_return_does() -> None:
    reception = Reception()
    reception.update(1, 10)
    reception.update(2, 500)
    epoch = reception.epoch
    assert reception.update(1, 11) == -1
    assert reception.update(2, 501) != -1
    assert reception.update(1, 12) == -1
    assert reception.epoch == epoch
    assert reception.update(1, 13) != -1
    assert reception.epoch == epoch + 1


@pytest.mark.parametrize("jump", [MAX_JUMP + 1, 30_000, -MAX_JUMP - 1, -MAX_MISORDER - 1])
def test_a_jump_is_a_restart_once_two_packets_agree(jump: int) -> None:
    """Row 82. RFC 3550 A.1."""
    reception = Reception()
    received([5000], reception)
    epoch = reception.epoch
    assert received([(5000 + jump) & 0xFFFF], reception) == [-1]
    assert reception.epoch == epoch
    assert received([(5001 + jump) & 0xFFFF], reception) != [-1]
    assert reception.epoch == epoch + 1
    assert reception.lost == 0


def test_a_step_of_a_thousand_is_loss() -> None:
    reception = Reception()
    received([0, MAX_JUMP], reception)
    assert reception.lost == MAX_JUMP - 1


def test_fraction_lost_is_that_since_the_last_report() -> None:
    reception = Reception()
    received([0, 1, 2, 7], reception)
    assert reception.fraction_lost() == (4 << 8) // 8
    received([8, 9], reception)
    assert reception.fraction_lost() == 0
    assert reception.fraction_lost() == 0


def test_jitter_settles_at_the_mean_deviation_and_ignores_a_set_clock() -> None:
    reception = Reception()
    for index in range(2000):
        late = 0.005 if index % 2 else 0.0
        reception.arrived(index * 160, index * 0.02 + late)
    assert reception.jitter == pytest.approx(40, abs=1)
    reception.arrived(2000 * 160 + 1_000_000, 40.0)
    assert reception.jitter < 41


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 0xFFFF)), max_size=200))
def test_figures_never_go_below_nothing(packets: list[tuple[int, int]]) -> None:
    reception = Reception()
    for ssrc, sequence in packets:
        extended = reception.update(ssrc, sequence)
        assert extended == -1 or extended & 0xFFFF == sequence
    assert reception.lost >= 0
    assert 0 <= reception.fraction_lost() <= 255


# Reports between two ends.


class End:
    def __init__(self, ssrc: int) -> None:
        self.stream = Stream(ssrc=ssrc, sequence=0, timestamp=0)
        self.reception = Reception()
        self.reporter = Reporter(stream=self.stream, reception=self.reception, cname="x")


def test_two_ends_learn_the_round_trip_from_each_other() -> None:
    near, far = End(1), End(2)
    for index in range(10):
        near.stream.packet(8, b"x" * 160, 160)
        far.reception.update(1, index)
    assert far.reporter.receive(near.reporter.build(100.0), 100.03)
    assert near.reporter.receive(far.reporter.build(102.03), 102.06)
    assert near.reporter.round_trip == pytest.approx(0.06, abs=0.001)
    assert far.reporter.round_trip is None


def test_reports_are_about_five_seconds_apart() -> None:
    reporter = End(0x55).reporter
    due = [step / 10 for step in range(600) if reporter.due(step / 10)]
    assert INTERVAL * 0.25 < due[0] < INTERVAL
    gaps = [later - sooner for sooner, later in itertools.pairwise(due)]
    assert all(INTERVAL * 0.75 <= gap <= INTERVAL * 1.3 for gap in gaps)


def test_goodbye_and_rubbish_are_told_apart() -> None:
    reporter = End(1).reporter
    assert not reporter.receive(b"\x80\xc8", 0.0)
    assert not reporter.goodbye
    assert reporter.receive(bytes.fromhex("81cb000100000007"), 0.0)
    assert reporter.goodbye
