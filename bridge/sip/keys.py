"""Keys reported by INFO: ``application/dtmf-relay`` and ``application/dtmf``."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.grammar import LWS
from bridge.sip.message import Request

_KEYS = "0123456789*#ABCD"
_DEFAULT_MS = 160
_LONGEST_MS = 10_000
_LONGEST_BODY = 1_024


@dataclass(frozen=True, slots=True)
class Key:
    """One key and how long it was pressed, in ms."""

    digit: str
    duration_ms: int


def is_key_report(request: Request) -> bool:
    """Whether the body says that it is a key."""
    return _media_type(request) in ("application/dtmf-relay", "application/dtmf")


def read_key(request: Request) -> Key | None:
    """Return the key; None for what is none (flash hook, nonsense)."""
    text = request.body[:_LONGEST_BODY].decode("latin-1")
    if _media_type(request) == "application/dtmf":
        return _key(text, None)
    fields: dict[str, str] = {}
    for line in text.replace("\r", "\n").split("\n"):
        name, equals, value = line.partition("=")
        if equals:
            fields.setdefault(name.strip(LWS).lower(), value)
    return _key(fields.get("signal", ""), fields.get("duration"))


def _media_type(request: Request) -> str:
    value = request.headers.get("Content-Type") or ""
    return value.partition(";")[0].strip(LWS).lower()


def _key(signal: str, duration: str | None) -> Key | None:
    signal = signal.strip().strip('"').upper()
    if signal.isascii() and signal.isdigit() and len(signal) == 2 and int(signal) < len(_KEYS):
        # RFC 4733 event numbers: 10 is *, 11 is #, 12 to 15 are A to D.
        signal = _KEYS[int(signal)]
    if len(signal) != 1 or signal not in _KEYS:
        return None
    return Key(signal, _milliseconds(duration))


def _milliseconds(text: str | None) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        return _DEFAULT_MS
    return min(int(text), _LONGEST_MS) or _DEFAULT_MS
