"""Transitions that ask whether the far end is still there (contract 4, Hold).

While either side holds, no RTP need come, so its absence tells nothing: an
OPTIONS in the dialog asks instead. Where a session timer runs the endpoint sends
none: its refreshes tell (`bridge.sip.refresh`).
"""

from __future__ import annotations

from typing import Final

from bridge.call.commands import Probe
from bridge.call.outcome import LocalEnd
from bridge.call.state import Phase, Timer
from bridge.call.turn import Turn, hang_up
from bridge.sip.events import Probed

PROBE_INTERVAL: Final = 60.0  # seconds
PROBES_MISSED: Final = 2  # in a row, and the far end is gone


def watch(turn: Turn) -> None:
    """Keep the probe's timer running while the call is held by either side."""
    state = turn.state
    if state.phase is Phase.ANSWERED and (state.held or state.own_hold):
        turn.arm_unless_armed(Timer.PROBE, PROBE_INTERVAL)
    else:
        turn.disarm(Timer.PROBE)
        if state.missed_probes:
            turn.set(missed_probes=0)


def probe(turn: Turn) -> None:
    """Ask; `watch` sets the timer for the next time."""
    turn.do(Probe())


def probed(turn: Turn, event: Probed) -> None:
    """The far end answered, or did not. 481 comes as `Ended`."""
    turn.set(missed_probes=0 if event.alive else turn.state.missed_probes + 1)
    if turn.state.missed_probes >= PROBES_MISSED:
        hang_up(turn, LocalEnd.PEER_GONE)
