"""structlog through one queue, so that no log line ever blocks a call.

Event names are static, ids are keys. Keys that may hold a phone number, a digit, a
SIP or SDP body or a secret are dropped before anything is written.
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final

import structlog

PRIVATE_KEYS: Final = frozenset(
    (
        *("number", "numbers", "phone_number", "trunk_number", "caller", "callee", "caller_id"),
        *("to", "from_", "uri", "request_uri", "identity", "name", "digit", "digits", "dtmf"),
        *("body", "sdp", "message", "headers", "payload", "data", "metadata", "user_context"),
        *("password", "secret", "token", "key", "api_key", "api_secret", "authorization"),
    )
)


def drop_private(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Drop every key that may hold what must stay out of logs."""
    for key in PRIVATE_KEYS & event.keys():
        del event[key]
    return event


class _Lossy(QueueHandler):
    """Drops lines rather than waiting when the disk cannot follow."""

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record alone: it is rendered in the listener's thread."""
        return record


def _of_somebody(record: logging.LogRecord) -> bool:
    """Whether a line has a logger's name: the SDK tells the root of each stream it ignores."""
    return record.name != "root" or record.levelno >= logging.WARNING


def configure(level: str, style: str) -> None:
    """Log to standard error from now on; *style* is ``json`` or ``console``."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        drop_private,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,  # here: the listener's thread has no exception
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(formatter)
    lines: queue.Queue[logging.LogRecord] = queue.Queue(10_000)
    listener = QueueListener(lines, output)
    listener.start()
    atexit.register(listener.stop)
    root = logging.getLogger()
    root.handlers[:] = [_Lossy(lines)]
    root.handlers[0].addFilter(_of_somebody)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)  # such as PyJWT's about a short secret
    for noisy in ("livekit", "httpx", "asyncio", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
