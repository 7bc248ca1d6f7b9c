"""Every metric of the daemon: name, type, labels, meaning. Data, and nothing else.

Those of contract 6 are promised; docs/operations.md explains all of
them, and tests hold the two together. Labels are bounded: a ``trunk`` is one of the
configuration (or `GONE`), everything else is a word of a fixed list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "trunkbridge_"

GONE: Final = "_removed"
"""The ``trunk`` of a call whose trunk is in no configuration of this process.

No trunk can be called so: names begin with a letter or a digit.
"""

DIRECTIONS: Final = ("inbound", "outbound")
STATES: Final = ("pending", "connecting", "active", "held", "ending")
OUTCOMES: Final = (
    *("completed", "busy", "no_answer", "rejected"),
    *("cancelled", "unreachable", "dropped", "failed"),
)
REFUSED: Final = ("bad_request", "over_limit", "unavailable")
PACKETS: Final = ("received", "sent", "refused", "late", "shed")
PORT_STATES: Final = ("free", "used", "resting")
WAYS: Final = ("in", "out")
METHODS: Final = (
    *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE", "INFO", "REFER", "REGISTER"),
    "NOTIFY",
    "other",
)
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "6xx")
TURNED_AWAY: Final = ("overload", "source_rate", "trunk_rate", "request_rate")
JOINS: Final = ("first", "again")
ENDINGS: Final = ("ok", "failed")
RELOADED: Final = ("ok", "refused")
SENDING: Final = ("delivered", "failed", "dead")
KEEPING: Final = ("kept", "broken", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric. ``buckets`` are upper bounds in seconds, of histograms only."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ()
    text: str
    buckets: tuple[float, ...] = ()


def _figure(
    name: str,
    kind: Literal["counter", "gauge", "histogram"],
    labels: str,
    text: str,
    buckets: tuple[float, ...] = (),
) -> Figure:
    return Figure(
        name=PREFIX + name, kind=kind, labels=tuple(labels.split()), text=text, buckets=buckets
    )


_HUMAN = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 120.0)
_SHORT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_TINY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_JITTER = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)

# Calls.
CALLS = _figure(
    "calls", "gauge", "trunk direction state", "Calls that exist now; sum over state for all"
)
CALLS_STARTED = _figure(
    "calls_started_total", "counter", "trunk direction", "Calls taken on, refused ones not counted"
)
CALLS_ANSWERED = _figure(
    "calls_answered_total", "counter", "trunk direction", "Calls that were answered"
)
CALLS_ENDED = _figure(
    "calls_ended_total",
    "counter",
    "trunk direction outcome",
    "Calls that ended, with the outcome of contract 5; refused inbound calls are among them",
)
END_REASONS = _figure(
    "call_end_reasons_total",
    "counter",
    "trunk direction reason",
    "The same calls by the finer reason; a reason appears when it first happens",
)
DIALS_REFUSED = _figure(
    "dials_refused_total", "counter", "reason", "POST /api/v1/calls that became no call"
)
TALK_SECONDS = _figure(
    "talk_seconds_total", "counter", "trunk direction", "Seconds from answer to end, ended calls"
)
SETUP_SECONDS = _figure(
    "setup_seconds", "histogram", "", "From a call's acceptance to its answer", _HUMAN
)
POST_DIAL_SECONDS = _figure(
    "post_dial_seconds", "histogram", "trunk", "From our INVITE to the first 18x", _HUMAN
)
RING_SECONDS = _figure(
    "ring_seconds", "histogram", "trunk direction", "From ringing to the answer", _HUMAN
)

# Events.
EVENTS = _figure(
    "events_total",
    "counter",
    "trunk direction event",
    "Events told, by name: holds, keys, transfers are among them",
)
HOLD_PUBLISH_SECONDS = _figure(
    "hold_publish_seconds",
    "histogram",
    "",
    "From the re-INVITE that holds, as read, to call_hold sent into the room",
    _TINY,
)

# Media.
RTP_LOST = _figure(
    "rtp_lost_total", "counter", "trunk direction", "RTP packets lost on the way from the carrier"
)
RTP_PACKETS = _figure(
    "rtp_packets_total",
    "counter",
    "trunk direction kind",
    "RTP packets: received, sent, refused (wrong source or type), late, shed to keep delay down",
)
RTP_JITTER = _figure(
    "rtp_jitter_seconds",
    "histogram",
    "",
    "Interarrival jitter (RFC 3550), of each call with RTP every 5 s",
    _JITTER,
)
RTP_ROUND_TRIP = _figure(
    "rtp_round_trip_seconds",
    "histogram",
    "",
    "Round trip by RTCP, of each call that has one every 5 s",
    _SHORT,
)
MEDIA_PORTS = _figure("media_ports", "gauge", "state", "Pairs of media ports")
MEDIA_CALLS = _figure("media_calls", "gauge", "", "Calls whose media is open")
MEDIA_TURNS = _figure(
    "media_turns_total",
    "counter",
    "",
    "Turns of the media clock, 200 a second while there are calls",
)
MEDIA_MISSED = _figure(
    "media_turns_missed_total", "counter", "", "Turns of the media clock left out after a stall"
)
MEDIA_LATE = _figure(
    "media_late_seconds_total", "counter", "", "Lateness of the turns of the media clock, summed"
)

CAPTURE_DROPPED = _figure(
    "capture_dropped_total", "counter", "", "SIP messages that a capture did not take"
)

# Rooms.
LIVEKIT_UP = _figure("livekit_up", "gauge", "", "1 while livekit-server's API answers")
ROOM_JOINS = _figure(
    "room_joins_total", "counter", "kind result", "Attempts to join a room, first or again"
)
ROOM_CONNECT = _figure(
    "room_connect_seconds", "histogram", "", "From the wish to be in a room to being in it", _SHORT
)

# SIP.
SIP_REQUESTS = _figure(
    "sip_requests_total", "counter", "way method", "SIP requests, retransmissions included"
)
SIP_RESPONSES = _figure(
    "sip_responses_total",
    "counter",
    "way method class",
    "SIP responses by the request's method, retransmissions included",
)
SIP_REFUSED = _figure(
    "sip_refused_total",
    "counter",
    "trunk reason",
    "SIP requests refused before they became a call: they have no record",
)
SIP_CONNECTIONS = _figure("sip_connections", "gauge", "way", "Open SIP connections")
SIP_SESSIONS = _figure("sip_sessions", "gauge", "", "SIP sessions that exist")

# TLS.
TLS_EXPIRY = _figure(
    "tls_certificate_expiry_seconds",
    "gauge",
    "trunk",
    "When our certificate ends, in seconds since 1970; `_listener` is the one of [sip]",
)
TLS_FAILED = _figure(
    "tls_handshakes_failed_total", "counter", "way", "TLS handshakes that failed, by who began"
)

# Trunks.
TRUNK_UP = _figure(
    "trunk_up",
    "gauge",
    "trunk",
    "1: the last proof says reachable; 0: two failures; else no sample",
)
TRUNK_REGISTERED = _figure(
    "trunk_registered",
    "gauge",
    "trunk",
    "1 while the registrar has us; trunks with `register` only",
)
TRUNK_LAST_SUCCESS = _figure(
    "trunk_last_success_timestamp_seconds", "gauge", "trunk", "When the trunk last answered us"
)
TRUNK_FAILURES = _figure(
    "trunk_failures_total",
    "counter",
    "trunk by",
    "Calls, probes and registrations that say unreachable",
)
TRUNK_PROBE = _figure(
    "trunk_probe_seconds", "histogram", "trunk", "Answer time of OPTIONS probes", _SHORT
)
TRUNK_MAX_CALLS = _figure("trunk_max_calls", "gauge", "trunk", "The limit `max_calls` of the trunk")

# The process.
MAX_CALLS = _figure("max_calls", "gauge", "", "The limit `[sip] max_calls`")
DRAINING = _figure("draining", "gauge", "", "1 while no new calls are taken")
OVERLOADED = _figure(
    "overloaded", "gauge", "", "1 while new calls are refused because the process is behind"
)
LOOP_LAG = _figure(
    "loop_lag_seconds", "histogram", "", "Lateness of a callback every 100 ms on the loop", _LAG
)
JOURNAL_WRITABLE = _figure(
    "journal_writable", "gauge", "", "1 while the last write to the journal worked"
)
JOURNAL_WAITING = _figure(
    "journal_waiting", "gauge", "", "Writes that wait for the journal's thread"
)
JOURNAL_WRITE = _figure(
    "journal_write_seconds", "histogram", "", "From a write's asking to its being safe", _TINY
)
JOURNAL_FAILURES = _figure("journal_failures_total", "counter", "", "Writes that failed")
STORE_UP = _figure("store_up", "gauge", "", "1 while the store takes what the journal has")
STORE_LAG = _figure(
    "store_lag", "gauge", "", "Changes, events and facts of the journal that the store lacks"
)
STORE_REFUSED = _figure(
    "store_refused_total", "counter", "", "Records that the store will never take, left out"
)
WEBHOOKS = _figure(
    "webhooks_total", "counter", "result", "Webhooks: delivered, failed attempts, given up"
)
WEBHOOKS_WAITING = _figure(
    "webhooks_waiting", "gauge", "", "Webhooks that wait to be delivered, of all instances"
)
WEBHOOKS_OLDEST = _figure(
    "webhooks_oldest_seconds", "gauge", "", "Age of the webhook that has waited longest"
)
QUEUE_WAITING = _figure(
    "queue_waiting", "gauge", "trunk", "Calls that wait for room on their trunk, of all instances"
)
WEB_CALLS = _figure("web_calls", "gauge", "", "Web calls and voice sessions without an end")
RECORDINGS_RUNNING = _figure("recordings_running", "gauge", "", "Calls that are being recorded")
RECORDINGS = _figure(
    "recordings_total", "counter", "result", "Recordings kept, broken off, failed attempts to keep"
)
RECORDINGS_WAITING = _figure(
    "recordings_waiting", "gauge", "", "Recordings that are over and not kept yet"
)
RECORDING_DROPPED = _figure(
    "recording_dropped_seconds_total", "counter", "", "Sound that found no time to be written"
)
RELOADS = _figure("reloads_total", "counter", "result", "Reloads of the configuration")
BUILD_INFO = _figure("build_info", "gauge", "version python", "1; what runs")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Figure))
