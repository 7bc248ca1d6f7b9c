"""What is to be said of a configuration that is right."""

from __future__ import annotations

from collections.abc import Iterator

from bridge import native
from bridge.config.config import Config


def not_yet(config: Config) -> Iterator[str]:
    """Yield one line per setting that is understood but not served by this version."""
    if config.media.engine == "direct" and not native.is_built():
        yield (
            "media.engine: direct needs the native core (trunkbridge-native), which is not "
            "installed, allowed: sdk, auto"
        )


def advice(config: Config) -> Iterator[str]:
    """Yield one line per setting that is served, but perhaps not as one would think."""
    if config.recording.url and config.route:
        yield (
            "recording.url: every call that comes in is recorded, and those of /call/outbound: "
            "tell the people, or leave it empty"
        )
    for index, trunk in enumerate(config.trunk):
        if trunk.register_ and not trunk.allow:
            yield (
                f"trunk[{index}].allow: empty, so no call comes in although the trunk registers: "
                "new calls need the carrier's addresses in allow"
            )


def clear_keys(config: Config) -> Iterator[str]:
    """Yield one line per trunk whose SRTP keys can be read by whoever reads its SIP.

    RFC 4568 8.3: the crypto attribute needs a secured signalling path.
    """
    for index, trunk in enumerate(config.trunk):
        if trunk.srtp != "off" and trunk.transport != "tls":
            yield f"trunk[{index}].srtp: its keys are sent in clear over {trunk.transport}, use tls"


def cannot_start(config: Config) -> list[str]:
    """Return the `not_yet` lines that make a start impossible rather than poorer."""
    return [line for line in not_yet(config) if not line.endswith("ignored")]
