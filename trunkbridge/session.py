"""Voice sessions (seed 004): a room that a browser joins, and an agent who is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload
from urllib.parse import quote

if TYPE_CHECKING:
    from trunkbridge.client import Client


class Session:
    """One voice session. ``created`` is the daemon's answer, with ``ws_url`` and ``token``.

    The token is told once; a session that was found by its id has none.
    """

    def __init__(self, client: Client, session_id: str, created: Mapping[str, Any]) -> None:
        self._client = client
        self.id = session_id
        self.created = dict(created)
        self._path = f"/v1/voice/sessions/{quote(session_id, safe='')}"

    async def status(self) -> dict[str, Any]:
        """Return the session as it is now."""
        session: dict[str, Any] = await self._client._ask("GET", self._path)
        return session

    @overload
    async def transcript(self, form: Literal["json"] = "json") -> list[dict[str, Any]]: ...
    @overload
    async def transcript(self, form: Literal["txt", "srt"]) -> str: ...
    async def transcript(self, form: Literal["json", "txt", "srt"] = "json") -> Any:
        """Return what was said: turns, lines of text, or SubRip subtitles."""
        path, wanted = f"{self._path}/transcript", {"format": form}
        if form == "json":
            return await self._client._ask("GET", path, params=wanted)
        return (await self._client._send("GET", path, params=wanted)).text

    async def end(self) -> None:
        """End it and send everybody away; one that has ended stays as it is."""
        await self._client._send("DELETE", self._path)
