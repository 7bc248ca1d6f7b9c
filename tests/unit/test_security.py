"""docs/security.md: every threat has a defence and a test that names it, and exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridge.sip.message import MAX_HEADERS, MAX_LINE, MAX_MESSAGE
from bridge.transport.tcp import TcpLimits
from bridge.trunk import gate
from bridge.trunk.overload import Thresholds
from tests.rows import SECURITY, collect, read_page

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
THREATS = (
    *("Scanners", "Toll fraud", "INVITE and REGISTER flood", "TCP abuse", "Malformed messages"),
    *("Spoofed in-dialog requests", "Digest attacks", "RTP bleed", "Voice hammer", "SSRF"),
    *("Amplification and loops", "Privacy", "Control API"),
)


def test_every_threat_is_on_the_page_once_and_has_a_test() -> None:
    rows = read_page(SECURITY.read_text("utf-8"))
    threats = [row for row in rows if row.key.startswith("Threat ")]
    keys = [row.key for row in threats]
    assert [key for key in keys if key.startswith("Threat 5.1: ")] == [
        f"Threat 5.1: {threat}" for threat in THREATS
    ]
    assert len(keys) == len(set(keys))
    assert [row.key for row in threats if row.pending or not row.tests] == []


def test_every_test_the_page_names_exists_and_names_its_threat() -> None:
    found = collect()
    gone = {
        row.key: sorted(set(row.tests) - found.get(row.key.casefold(), set()))
        for row in read_page(SECURITY.read_text("utf-8"))
        if row.key.startswith("Threat ")
    }
    assert {key: tests for key, tests in gone.items() if tests} == {}, "run: python -m tests.rows"


def test_no_test_names_a_threat_that_is_not_on_the_page() -> None:
    known = tuple(row.key.casefold() for row in read_page(SECURITY.read_text("utf-8")))
    named = [key for key in collect() if key.startswith("threat ")]
    assert [key for key in named if not key.startswith(known)] == []


def test_the_limits_of_the_page_of_operations_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    limits = TcpLimits()
    told = {
        "INVITEs of one source address": (gate.SOURCE_RATE, gate.SOURCE_BURST),
        "INVITEs of one trunk, all its addresses": (gate.TRUNK_RATE, gate.TRUNK_BURST),
        "TCP connections accepted": (limits.accepted, limits.accepted_per_address),
        "a TCP connection without traffic": (limits.idle,),
        "unsent bytes of a TCP connection": (limits.write_buffer / 2**20,),
        "a SIP message": (MAX_MESSAGE / 2**10, MAX_HEADERS, MAX_LINE),
        "lateness of the loop, the mean of one second": (
            Thresholds().enter * 1000,
            Thresholds().stolen * 1000,
            Thresholds().media * 1000,
        ),
    }
    for limit, values in told.items():
        line = re.search(rf"^\| {re.escape(limit)}[^|]* \| ([^|]+) \|", text, re.MULTILINE)
        assert line is not None, limit
        assert [float(n) for n in re.findall(r"\d+", line[1])][: len(values)] == [*values], limit
