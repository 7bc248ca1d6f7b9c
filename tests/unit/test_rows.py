"""Every behaviour of docs/carrier-rows.md has a test that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rows import PAGE, collect, labels, read_page, renewed

pytestmark = pytest.mark.unit

COMPLETE = True
"""False while branches are on their way: rows may be pending, and the page may lag behind."""


@pytest.mark.parametrize(
    ("docstring", "keys"),
    [
        ("Row 20. RFC 3261 13.3.1.4: until the ACK.", ["Row 20"]),
        ("Rows 20, 21 and 22. More.", ["Row 20", "Row 21", "Row 22"]),
        ("R1 7.1.9.", ["R1 7.1.9"]),
        ("R1 7.1.9, 7.1.10. Text", ["R1 7.1.9", "R1 7.1.10"]),
        ("Row 26. Failure 7.2: dup CSeq. Why.", ["Row 26", "Failure 7.2: dup CSeq"]),
        ("Status 486, 600. Busy.", ["Status 486", "Status 600"]),
        (
            "Hold rule 2.3: zero address. Threat 5.1: RTP bleed.\n\nMore.",
            ["Hold rule 2.3: zero address", "Threat 5.1: RTP bleed"],
        ),
        ("The row 20 is elsewhere. Row 21.", []),
        ("Row twenty.", []),
        ("", []),
    ],
)
def test_labels_are_the_first_words_of_a_docstring(docstring: str, keys: list[str]) -> None:
    assert labels(docstring) == keys


def test_tests_are_found_without_being_imported(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        'import nothing_of_the_kind\nclass C:\n    async def test_a(self):\n        """Row 1."""\n'
        'def test_b():\n    """Row 1. Row 2."""\ndef helper():\n    """Row 3."""\n',
        "utf-8",
    )
    assert collect(tmp_path) == {
        "row 1": {"test_x.py::test_a", "test_x.py::test_b"},
        "row 2": {"test_x.py::test_b"},
    }


def test_the_page_is_read_as_it_is_written() -> None:
    page = "| row | level | what | tests |\n|---|---|---|---|\n| Row 1 | M | cut | pending |\n"
    once = renewed(page, {"row 1": {"b.py::test_b", "a.py::test_a"}})
    (row,) = read_page(once)
    assert (row.key, row.level, row.pending) == ("Row 1", "M", False)
    assert row.tests == ("a.py::test_a", "b.py::test_b")
    assert renewed(once, {}) == page


def test_the_page_has_every_row_once() -> None:
    keys = [row.key for row in read_page(PAGE.read_text("utf-8"))]
    assert len(keys) == len(set(keys))
    numbers = {int(key.removeprefix("Row ")) for key in keys if key.startswith("Row ")}
    expected = {*range(1, 19), *range(20, 48), *range(50, 71), *range(80, 94), *range(95, 101)}
    assert numbers == expected


def test_every_must_and_should_has_a_test() -> None:
    found = collect()
    missing = [
        row.key
        for row in read_page(PAGE.read_text("utf-8"))
        if row.level in ("M", "S") and row.key.casefold() not in found
        if COMPLETE or not row.pending
    ]
    assert missing == [], "name the row in the docstring of the test that proves it"


def test_the_page_names_the_tests_that_name_the_row() -> None:
    found = collect()
    text = PAGE.read_text("utf-8")
    gone = {
        row.key: sorted(set(row.tests) - found.get(row.key.casefold(), set()))
        for row in read_page(text)
    }
    assert {key: tests for key, tests in gone.items() if tests} == {}
    if COMPLETE:
        assert renewed(text, found) == text, "run: python -m tests.rows"


def test_every_label_is_on_the_page() -> None:
    known = {row.key.casefold() for row in read_page(PAGE.read_text("utf-8"))}
    unknown = [
        key
        for key in collect()
        if key not in known and not key.startswith("threat ")  # those are in docs/security.md
        if COMPLETE or key.startswith("row ")
    ]
    assert unknown == []
