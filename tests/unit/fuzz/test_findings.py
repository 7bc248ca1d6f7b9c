"""What a fuzz worker finds is a file, a reason, and a command that finds it again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz.__main__ import replay, target_of
from tests.fuzz.findings import MOST_SUSPECTS, Findings, one_input
from tests.fuzz.target import MOST_CPU, Meter, Target

pytestmark = pytest.mark.unit


def brittle(data: bytes, meter: Meter) -> None:
    with meter:
        if data.startswith(b"slow"):
            until = time.thread_time() + 20 * MOST_CPU
            while time.thread_time() < until:
                pass
    if data == b"one":
        raise ValueError("escaped")
    assert data != b"two", "an oracle"


TARGET = Target(name="value", run=brittle, seeds=list, longest=9)


def found(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_escape_is_written_down_once_for_each_place(tmp_path: Path) -> None:
    run = one_input(TARGET, Findings(TARGET.name, tmp_path))
    for data in (b"one", b"one", b"fine", b"two"):
        run(data)
    crashes = [path for path in tmp_path.iterdir() if path.suffix != ".txt"]
    assert sorted(path.read_bytes() for path in crashes) == [b"one", b"two"]
    assert all(path.name.startswith("value-crash-") for path in crashes)
    reasons = [path.read_text() for path in tmp_path.glob("*.txt")]
    assert sorted(reason.splitlines()[0].split()[0] for reason in reasons) == [
        "AssertionError",
        "ValueError",
    ]


def test_a_slow_input_is_kept_for_a_second_look_but_not_too_many(tmp_path: Path) -> None:
    run = one_input(TARGET, Findings(TARGET.name, tmp_path))
    run(b"fine")
    assert found(tmp_path) == []
    run(b"slow")
    assert [name.rpartition("-")[0] for name in found(tmp_path)] == ["value-slow"]
    findings = Findings(TARGET.name, tmp_path)
    for number in range(MOST_SUSPECTS + 5):
        findings.slow(b"%d" % number, float(number))
    assert len(found(tmp_path)) == MOST_SUSPECTS + 1
    assert b"0" not in [path.read_bytes() for path in tmp_path.iterdir()]  # the least slow


@pytest.mark.parametrize(("data", "status"), [(b"one", 1), (b"slow", 1), (b"fine", 0)])
def test_a_replay_says_whether_it_still_happens(tmp_path: Path, data: bytes, status: int) -> None:
    path = tmp_path / "value-crash-1234"
    path.write_bytes(data)
    assert replay(path, TARGET) == status


def test_a_file_tells_its_target(tmp_path: Path) -> None:
    assert target_of(Path("x/offer-answer-crash-12")).name == "offer-answer"
    assert target_of(Path("x/value-timeout-12")).name == "value"
    assert target_of(Path("tests/fuzz/corpus/sdp/0123456789abcdef")).name == "sdp"
    with pytest.raises(SystemExit, match="whose input"):
        target_of(Path("x/unknown"))
