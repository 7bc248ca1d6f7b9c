"""What the demo prints: one timeline of each call, the bridge's side and the agent's."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import typer

from bridge.cli.timeline import line_of

EXPECTED = ("call_ringing", "call_answered", "call_hold", "call_resume", "call_ended")
AGENT_EXPECTED = ("joined", "greeting", "quiet", "talking again")


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was seen of one call."""

    label: str
    as_json: bool = False
    events: list[Mapping[str, Any]] = field(default_factory=list)
    agent: list[str] = field(default_factory=list)
    carrier: str | None = None  # what the carrier says went wrong

    def bridge_says(self, event: Mapping[str, Any]) -> None:
        """Note and print an event of the bridge."""
        self.events.append(event)
        if self.as_json:
            self._show_json(**event)
            return
        typer.echo(f"  {self.label:<9}{'bridge':<8}{line_of(event)}")

    def agent_says(self, note: Mapping[str, Any]) -> None:
        """Note and print what the agent did."""
        self.agent.append(str(note["agent"]))
        if self.as_json:
            self._show_json(**note)
            return
        stamp = datetime.fromtimestamp(float(note.get("at", time.time())), UTC)
        typer.echo(
            f"  {self.label:<9}{'agent':<8}{stamp:%H:%M:%S}.{stamp.microsecond // 1000:03d}"
            f"      {note['agent']}"
        )

    def conclude(self) -> None:
        """Print whether the call did what it should."""
        faults = self.faults()
        if self.as_json:
            self._show_json(faults=faults)
        else:
            typer.echo(f"{self.label}: {'; '.join(faults) if faults else 'as it should be'}")

    def _show_json(self, **fields: Any) -> None:
        typer.echo(json.dumps({"call": self.label, **fields}, ensure_ascii=False))

    def faults(self) -> list[str]:
        """Return what is not as it should be: empty when the call did what it should."""
        faults = []
        if self.carrier is not None:
            faults.append(f"the carrier: {self.carrier}")
        names = tuple(str(event["event"]) for event in self.events)
        if names != EXPECTED:
            faults.append(f"events were {', '.join(names) or 'none'}")
        elif self.events[-1]["outcome"] != "completed":
            faults.append(f"outcome {self.events[-1]['outcome']}/{self.events[-1]['reason']}")
        heard = tuple(note for note in self.agent if note in AGENT_EXPECTED)
        if heard != AGENT_EXPECTED:
            faults.append(f"the agent did {', '.join(self.agent) or 'nothing'}")
        return faults
