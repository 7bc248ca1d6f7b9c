"""Builds the recordings that the configuration asks for; a plug, as `bridge.engines`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bridge.config.sections import RecordingConfig
from bridge.journal.journal import Journal
from bridge.store.store import Store

if TYPE_CHECKING:
    from bridge.recording.recordings import Recordings

SPOOL = ".recordings"
"""What is added to the journal's name for the folder of what is not kept elsewhere yet."""


def recordings_of(
    config: RecordingConfig, journal: Journal, store: Store, folder: Path
) -> Recordings | None:
    """Return them, None when recording is off. Raises `BridgeError` for a place that cannot be.

    A relative folder lies in *folder*.
    """
    if not config.url:
        return None
    from bridge.recording.recordings import Recordings  # only where it is wanted: encoders, S3
    from bridge.recording.shelf import Shelf

    return Recordings(
        config.format,
        journal.path.with_name(journal.path.name + SPOOL),
        open_shelf=lambda: Shelf.open(config.url, folder),
        journal=journal,
        store=store,
    )
