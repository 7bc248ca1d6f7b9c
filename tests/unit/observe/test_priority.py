"""Our place in the queue for the processor, and when we do not ask for one."""

from __future__ import annotations

import os

import pytest

from bridge.observe.priority import MEDIA_NICE, put_media_first

pytestmark = pytest.mark.unit


class Kernel:
    """Stands in for the system's nice values."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, nice: int, allowed: bool = True) -> None:
        self.nice = nice
        self._allowed = allowed
        monkeypatch.setattr(os, "getpriority", lambda _which, _who: self.nice)
        monkeypatch.setattr(os, "setpriority", self._set)

    def _set(self, which: int, who: int, nice: int) -> None:
        assert (which, who) == (os.PRIO_PROCESS, 0)
        if not self._allowed:
            raise PermissionError
        self.nice = nice


def test_media_goes_first_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, nice=0)
    assert put_media_first() == MEDIA_NICE == kernel.nice


def test_it_goes_on_as_it_is_where_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, nice=0, allowed=False)
    assert put_media_first() == 0


@pytest.mark.parametrize("chosen", [-5, 19])
def test_what_an_operator_chose_stays(monkeypatch: pytest.MonkeyPatch, chosen: int) -> None:
    kernel = Kernel(monkeypatch, nice=chosen)
    assert put_media_first() == chosen == kernel.nice
