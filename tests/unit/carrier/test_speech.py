"""The greeting of the demo agent."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from bridge.carrier import sound, speech

pytestmark = pytest.mark.unit


def test_without_espeak_a_chime_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speech.write_greeting(tmp_path / "a.wav") == "chime"
    samples = sound.read_wav(tmp_path / "a.wav")
    assert 1.5 < len(samples) / sound.RATE < 3
    assert sound.audible(samples[200:1000], 523)


def test_a_speech_program_is_used_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for espeak-ng: it copies a recording to the file after -w."""
    spoken = tmp_path / "spoken.wav"
    sound.write_wav(spoken, sound.tone(700, 0.5))
    program = tmp_path / "espeak-ng"
    program.write_text(f'#!/bin/sh\n/bin/cp "{spoken}" "$6"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speech.write_greeting(tmp_path / "a.wav") == "espeak-ng"
    assert sound.audible(sound.read_wav(tmp_path / "a.wav")[:800], 700)


def test_a_speech_program_that_fails_leaves_the_chime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert speech.write_greeting(tmp_path / "a.wav") == "chime"


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 48000])
def test_resampling_keeps_tones_and_drops_what_would_alias(rate: int) -> None:
    step = sound.RATE / rate

    def at_rate(hertz: int) -> array[int]:
        # The tone generator counts samples of 8 kHz: scale the frequency instead.
        return sound.tone(hertz * step, rate / sound.RATE / 4)

    kept = sound.resample(at_rate(1000), rate)
    assert sound.share(kept[400:1200], 1000) > 0.95
    if rate > 11025:
        assert sound.rms(sound.resample(at_rate(6000), rate)[400:1200]) < 300
