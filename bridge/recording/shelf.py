"""Where recordings are kept: a folder, or a bucket of S3 (its keys come from the environment)."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from bridge.errors import BridgeError
from bridge.recording.files import CONTENT_TYPES

_S3: Final = "s3://"
_FILE: Final = "file://"
_PATIENCE: Final = timedelta(seconds=30)
_READING: Final = timedelta(seconds=8)  # somebody waits for it
_SAID: Final = 160  # characters of what somebody else says
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,}")
_FAILURES: Final = (BaseError, OSError, ValueError)


class ShelfError(BridgeError):
    """The folder or the bucket does not take or give what it is asked for."""


class Shelf:
    """Objects by name. Every method blocks and raises `ShelfError`.

    ``shared``: every instance sees the same. ``place`` is what stands before a name, for people.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        shared: bool,
        place: str,
        reading: ObjectStore | None = None,
    ) -> None:
        self._store = store
        self._reading = reading or store
        self.shared = shared
        self.place = place

    @classmethod
    def open(cls, url: str, folder: Path) -> Shelf:
        """Open what ``[recording] url`` names; a relative folder lies in *folder*."""
        try:
            if url.startswith(_S3):
                place = url.rstrip("/") + "/"
                store = _bucket(url, _PATIENCE, retries=2)
                return cls(
                    store, shared=True, place=place, reading=_bucket(url, _READING, retries=1)
                )
            path = folder / url.removeprefix(_FILE)
            return cls(LocalStore(path, mkdir=True), shared=False, place="")
        except _FAILURES as failure:
            raise ShelfError(f"recording.url: {_said(failure)}") from failure

    def put(self, name: str, path: Path) -> None:
        """Keep the file *path* as *name*, whole or not at all; again: the same."""
        kind = CONTENT_TYPES[name.rpartition(".")[2]]
        try:
            attributes = {"Content-Type": kind} if self.shared else None
            obstore.put(self._store, name, path, attributes=attributes)
        except FileNotFoundError:
            if not path.exists():
                raise
            raise ShelfError("the folder is gone") from None
        except _FAILURES as failure:
            raise ShelfError(_said(failure)) from failure

    def read(self, name: str, begin: int, end: int) -> bytes | None:
        """Return the octets from *begin* to before *end*; None: there is no such object."""
        try:
            return bytes(obstore.get_range(self._reading, name, start=begin, end=end))
        except FileNotFoundError:
            return None
        except _FAILURES as failure:
            raise ShelfError(_said(failure)) from failure

    def delete(self, name: str) -> None:
        """Forget an object; one that is not there is forgotten."""
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except _FAILURES as failure:
            raise ShelfError(_said(failure)) from failure


def _bucket(url: str, patience: timedelta, *, retries: int) -> S3Store:
    """Return the bucket; asked *retries* times again, if that is within *patience*."""
    return S3Store.from_url(
        url,
        retry_config={"max_retries": retries, "retry_timeout": patience},
        client_options={"timeout": patience, "allow_http": _plain_allowed()},
    )


def _plain_allowed() -> bool:
    """Whether the environment allows HTTP without TLS; with options of ours nobody else asks."""
    return os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")


def _said(failure: Exception) -> str:
    """Return what failed in one line, without what may be an id of a key."""
    line = next(iter(str(failure).splitlines()), "")
    return f"{type(failure).__name__}: {_KEY_ID.sub('…', line)[:_SAID]}"
