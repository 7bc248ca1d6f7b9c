"""How long a stream may take, in virtual time."""

from __future__ import annotations

import pytest

from bridge.sip.framing import StreamFramer
from bridge.ua.watch import StreamWatch

pytestmark = pytest.mark.unit

MESSAGE = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 2\r\n\r\nab"


class Watched:
    """A stream, framed, and its watch."""

    def __init__(self, *, accepted: bool, now: float) -> None:
        self.framer = StreamFramer()
        self.watch = StreamWatch(accepted=accepted, now=now)
        self.overdue = self.watch.overdue

    def feed(self, data: bytes, now: float) -> None:
        frames = self.framer.feed(data)
        self.watch.took(frames, now, idle=self.framer.idle)


@pytest.mark.parametrize("said", [b"", b"\r\n", b"OPT", MESSAGE[:-1]])
def test_an_accepted_stream_must_complete_its_first_message_in_time(said: bytes) -> None:
    watch = Watched(accepted=True, now=100)
    watch.feed(said, 104)
    assert not watch.overdue(109.9)
    assert watch.overdue(110)


def test_trickling_does_not_extend_the_time() -> None:
    """Threat 5.1: TCP abuse."""
    watch = Watched(accepted=True, now=0)
    for second in range(10):
        watch.feed(MESSAGE[second : second + 1], second)
    assert watch.overdue(10)


@pytest.mark.parametrize("said", [MESSAGE, b"\r\n\r\n"])
def test_a_whole_message_or_a_ping_ends_the_waiting(said: bytes) -> None:
    watch = Watched(accepted=True, now=0)
    watch.feed(said, 1)
    assert not watch.overdue(1e9)


def test_a_dialled_stream_may_be_silent() -> None:
    assert not StreamWatch(accepted=False, now=0).overdue(1e9)


def test_every_later_message_has_its_own_time() -> None:
    watch = Watched(accepted=True, now=0)
    watch.feed(MESSAGE + MESSAGE[:5], 5)
    assert not watch.overdue(14.9)
    assert watch.overdue(15)
    watch.feed(MESSAGE[5:] + MESSAGE[:7], 14)
    assert not watch.overdue(23.9)
    assert watch.overdue(24)
    watch.feed(MESSAGE[7:], 23)
    assert not watch.overdue(1e9)


def test_a_broken_stream_is_not_kept() -> None:
    watch = Watched(accepted=False, now=0)
    watch.feed(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: many\r\n\r\n", 3)
    assert watch.overdue(13)
