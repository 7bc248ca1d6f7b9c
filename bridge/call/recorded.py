"""A call's recording: begun when it is answered, over when it has ended, never in its way."""

from __future__ import annotations

import structlog

from bridge.call.plan import CallPlan
from bridge.call.ports import CallRecording, Recorder
from bridge.events import CallAnswered, CallEnded, CallEvent
from bridge.media.seam import CarrierMedia

_log = structlog.get_logger(__name__)


class Recorded:
    """What *recorder* keeps of one call; nothing without one, or when *plan* says so."""

    def __init__(self, plan: CallPlan, recorder: Recorder | None) -> None:
        self._call_id = plan.call_id
        self._recorder = recorder if plan.record else None
        self._recording: CallRecording | None = None

    def heed(self, event: CallEvent, carrier: CarrierMedia) -> None:
        """Begin or end with *event*, in the turn in which it happens."""
        try:
            if isinstance(event, CallAnswered) and self._recorder is not None:
                self._recording = self._recorder.begin(self._call_id)
                carrier.record(self._recording)
            elif isinstance(event, CallEnded):
                self._end(event.duration_ms / 1000)
        except Exception as failure:  # the call goes on, unrecorded
            _log.error("call.recording_failed", call_id=self._call_id, error=type(failure).__name__)

    def close(self) -> None:
        """The call is gone, with an end or without."""
        self._end(None)

    def _end(self, seconds: float | None) -> None:
        recording, self._recording, self._recorder = self._recording, None, None
        if recording is not None:
            recording.end(seconds)
