"""The formats of recordings: stereo at 8 kHz, the caller left, what the caller was sent right.

A file is whole up to its last half second at any moment: what a crash leaves is mended and kept.
"""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

import av
from av.audio.stream import AudioStream

Format = Literal["ogg", "wav"]

RATE: Final = 8000
CONTENT_TYPES: Final[dict[str, str]] = {"ogg": "audio/ogg", "wav": "audio/wav"}

_FRAME: Final = 480  # samples of an Opus packet, 60 ms
_OPUS: Final = {"application": "voip", "frame_duration": "60", "compression_level": "2"}
"""Half the time that 20 ms and full effort take, at the same size and no difference to hear."""
_BIT_RATE: Final = 32_000  # both channels; less would mix them
_PAGE: Final = 500_000  # microseconds of one Ogg page: what a crash loses

_WAV_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_PAGE_HEADER: Final = struct.Struct("<4sBBqIIIB")
_OPUS_RATE: Final = 48_000  # RFC 7845 4: positions count samples of 48 kHz
_OPUS_HEAD: Final = b"OpusHead"


class AudioFile(Protocol):
    """A recording that is written. What goes wrong raises whatever it is."""

    def write(self, left: bytes, right: bytes) -> None:
        """Add PCM16, as many samples of each."""

    def close(self) -> None:
        """Write what is left; the file is whole then."""


def create(path: Path, kind: Format) -> AudioFile:
    """Make the file. Raises ``OSError``."""
    return OggFile(path) if kind == "ogg" else WavFile(path)


def stereo(left: bytes, right: bytes) -> bytes:
    """Return both channels in one, sample by sample."""
    both = array("h", bytes(len(left) + len(right)))
    both[0::2], both[1::2] = array("h", left), array("h", right)
    return both.tobytes()


class WavFile:
    """PCM16 in a RIFF file; its header tells the length only once it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._file.write(_wav_header(0))

    def write(self, left: bytes, right: bytes) -> None:
        """Add PCM16, as many samples of each."""
        self._file.write(stereo(left, right))

    def close(self) -> None:
        """Tell the length and close the file."""
        self._file.close()
        with self._path.open("r+b") as file:
            _tell_length(file)


class OggFile:
    """Opus in Ogg (RFC 7845), pages of half a second."""

    def __init__(self, path: Path) -> None:
        options = {"page_duration": str(_PAGE), "flush_packets": "1"}
        self._container = av.open(str(path), "w", format="ogg", options=options)
        stream = self._container.add_stream("libopus", rate=RATE, layout="stereo", options=_OPUS)
        assert isinstance(stream, AudioStream)
        stream.bit_rate = _BIT_RATE
        self._stream = stream
        self._waiting = bytearray()
        self._at = 0

    def write(self, left: bytes, right: bytes) -> None:
        """Add PCM16, as many samples of each."""
        self._waiting += stereo(left, right)
        size = 4 * _FRAME
        whole = len(self._waiting) // size * size
        for begin in range(0, whole, size):
            self._encode(bytes(self._waiting[begin : begin + size]))
        del self._waiting[:whole]

    def _encode(self, pcm: bytes) -> None:
        samples = len(pcm) // 4
        frame = av.AudioFrame(format="s16", layout="stereo", samples=samples)
        frame.planes[0].update(pcm)
        frame.rate = RATE
        frame.pts = self._at
        self._at += samples
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Write the last packet, however short, and close the file."""
        try:
            if self._waiting:
                self._encode(bytes(self._waiting))
                self._waiting.clear()
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        finally:
            self._container.close()


# What is left of a file whose process is gone.


def mend(path: Path) -> bool:
    """Make a file that was cut off whole; False when there is no sound in it.

    Raises ``OSError``.
    """
    return (_mend_ogg if _kind(path) == "ogg" else _mend_wav)(path)


def length_of(path: Path) -> float:
    """Return how long a whole recording is, seconds. Raises ``OSError``."""
    with path.open("rb") as file:
        if _kind(path) == "ogg":
            return _scan_ogg(file)[1]
        size = os.fstat(file.fileno()).st_size
    return max(0, size - _WAV_HEADER.size) / (4 * RATE)


def _kind(path: Path) -> str:
    return "ogg" if ".ogg" in path.suffixes else "wav"


def _wav_header(octets: int) -> bytes:
    return _WAV_HEADER.pack(
        b"RIFF", 36 + octets, b"WAVE", b"fmt ", 16, 1, 2, RATE, 4 * RATE, 4, 16, b"data", octets
    )


def _mend_wav(path: Path) -> bool:
    with path.open("r+b") as file:
        octets = _tell_length(file)
        _keep(file)
    return octets > 0


def _tell_length(file: BinaryIO) -> int:
    octets = max(0, file.seek(0, os.SEEK_END) - _WAV_HEADER.size) // 4 * 4
    file.truncate(_WAV_HEADER.size + octets)
    file.seek(0)
    file.write(_wav_header(octets))
    return octets


def _mend_ogg(path: Path) -> bool:
    with path.open("r+b") as file:
        end, seconds = _scan_ogg(file)
        file.truncate(end)
        _keep(file)
    return seconds > 0


def _keep(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _scan_ogg(file: BinaryIO) -> tuple[int, float]:
    """Return where the last whole page ends, and how many seconds there are up to it."""
    size = os.fstat(file.fileno()).st_size
    at, position, skipped = 0, 0, 0
    while True:
        file.seek(at)
        header = file.read(_PAGE_HEADER.size)
        if len(header) < _PAGE_HEADER.size:
            break
        magic, _, _, granule, _, _, _, segments = _PAGE_HEADER.unpack(header)
        table = file.read(segments)
        end = at + _PAGE_HEADER.size + segments + sum(table)
        if magic != b"OggS" or len(table) < segments or end > size:
            break
        if not at:  # RFC 7845 5.1: what a player leaves out at the beginning
            head = file.read(12)
            if head[:8] == _OPUS_HEAD:
                skipped = int.from_bytes(head[10:12], "little")
        position = max(position, granule)
        at = end
    return at, max(0, position - skipped) / _OPUS_RATE
