"""When a room that is away is joined anew, by what probes of its server found."""

from __future__ import annotations

import pytest

from bridge.room.absence import PATIENCE, STILL, Absence, Sign

pytestmark = pytest.mark.unit


def joined_anew(*probes: tuple[float, Sign]) -> float | None:
    """Return when the room is joined anew, given what was found when."""
    absence = Absence()
    return next((at for at, sign in probes if absence.take(sign, at)), None)


def test_a_server_that_was_gone_is_joined_anew_at_its_first_answer() -> None:
    found = joined_anew((0.0, Sign.REFUSED), (3.0, Sign.REFUSED), (3.15, Sign.ANSWERED))
    assert found == 3.15


def test_a_server_that_was_silent_leaves_the_sdk_a_moment() -> None:
    before, after = 4.0 + STILL - 0.01, 4.0 + STILL
    silent = ((0.0, Sign.SILENT), (4.0, Sign.ANSWERED))
    assert joined_anew(*silent, (before, Sign.ANSWERED)) is None
    assert joined_anew(*silent, (before, Sign.ANSWERED), (after, Sign.ANSWERED)) == after


def test_a_server_that_answers_all_the_time_leaves_the_sdk_longer() -> None:
    up = ((0.0, Sign.ANSWERED), (PATIENCE - 0.1, Sign.ANSWERED))
    assert joined_anew(*up) is None
    assert joined_anew(*up, (PATIENCE, Sign.ANSWERED)) == PATIENCE


def test_silence_begins_the_moment_anew() -> None:
    flapping = ((0.0, Sign.ANSWERED), (4.9, Sign.SILENT), (5.1, Sign.ANSWERED))
    assert joined_anew(*flapping, (6.0, Sign.ANSWERED)) is None
    assert joined_anew(*flapping, (6.2, Sign.ANSWERED)) == 6.2


@pytest.mark.parametrize("last", [Sign.SILENT, Sign.REFUSED])
def test_what_was_gone_once_stays_a_new_server(last: Sign) -> None:
    absence = Absence()
    assert not absence.server_was_gone
    absence.take(Sign.REFUSED, 0.0)
    absence.take(last, 1.0)
    assert absence.server_was_gone
    assert absence.take(Sign.ANSWERED, 2.0)
