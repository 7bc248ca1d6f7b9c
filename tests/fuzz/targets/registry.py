"""Every fuzz target by name."""

from __future__ import annotations

from tests.fuzz.target import Target
from tests.fuzz.targets import challenges, description, endpoint, media, room, secure, text

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *text.TARGETS,
        *description.TARGETS,
        *challenges.TARGETS,
        *media.TARGETS,
        *secure.TARGETS,
        *endpoint.TARGETS,
        *room.TARGETS,
    )
}
