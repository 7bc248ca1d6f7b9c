"""Logs: one JSON object a line, without what must stay out of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.observe.logs import PRIVATE_KEYS, drop_private

pytestmark = pytest.mark.unit

PROGRAM = """
import logging, structlog
from bridge.observe import logs
logs.configure("info", "json")
log = structlog.get_logger("x")
log.info("call.held", call_id="c", phone_number="+919876500000", token="s3cret", digit="7")
log.debug("call.quiet", call_id="c")
logging.info("ignoring byte stream with topic '%s', no callback attached", "x")
logging.getLogger("uvicorn.error").warning("of %s", "another")
try:
    raise ValueError("a bug")
except ValueError:
    log.exception("call.failed", call_id="c")
"""


def test_private_keys_are_dropped_and_others_kept() -> None:
    """Threat 5.1: Privacy."""
    event = {**dict.fromkeys(PRIVATE_KEYS, "x"), "event": "call.held", "call_id": "c"}
    assert drop_private(None, "info", event) == {"event": "call.held", "call_id": "c"}


def test_lines_are_json_in_order_and_all_written_at_the_end() -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["call.held", "of another", "call.failed"]
    assert lines[0].keys() == {"event", "call_id", "level", "timestamp"}
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: a bug" in lines[2]["exception"]
