"""LiveKit access tokens: ours, a phone's place in a room, and a web caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from livekit import api

BRIDGE_TTL = timedelta(hours=24)
"""As livekit/sip; longer than any call, since a rejoin uses the same token."""

CALLER_TTL = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKitKeys:
    """The server's API key. The secret never shows in a repr."""

    api_key: str
    api_secret: str = field(repr=False)


def bridge_token(
    keys: LiveKitKeys,
    *,
    room: str,
    identity: str,
    name: str,
    metadata: str,
    attributes: Mapping[str, str],
    ttl: timedelta = BRIDGE_TTL,
) -> str:
    """Return the token with which the bridge joins *room* as a phone.

    Kind SIP, visible, and allowed to update its own attributes: without that
    grant the SDK's ``set_attributes`` fails silently.
    """
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_subscribe=True,
        can_publish_data=True,
        can_update_own_metadata=True,
    )
    return (
        _token(keys, identity, name, metadata, attributes, ttl)
        .with_kind("sip")
        .with_grants(grants)
        .to_jwt()
    )


def listener_token(
    keys: LiveKitKeys, *, room: str, identity: str, ttl: timedelta = BRIDGE_TTL
) -> str:
    """Return the token of one who only reads what is streamed in *room*.

    Nobody there sees it. Its kind is that of an agent, because a room lives no longer for those
    (livekit-server counts who is hidden, but not who is dependent on others).
    """
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=False,
        can_publish_data=False,
        can_subscribe=True,
        hidden=True,
    )
    return _token(keys, identity, "", "", {}, ttl).with_kind("agent").with_grants(grants).to_jwt()


def caller_token(
    keys: LiveKitKeys,
    *,
    room: str,
    identity: str,
    name: str = "",
    metadata: str = "",
    attributes: Mapping[str, str] | None = None,
    ttl: timedelta = CALLER_TTL,
) -> str:
    """Return the token an API caller gets: a plain participant of *room*, nothing more."""
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_subscribe=True,
        can_publish_data=True,
    )
    return (
        _token(keys, identity, name, metadata, attributes or {}, ttl)
        .with_kind("standard")
        .with_grants(grants)
        .to_jwt()
    )


def _token(
    keys: LiveKitKeys,
    identity: str,
    name: str,
    metadata: str,
    attributes: Mapping[str, str],
    ttl: timedelta,
) -> api.AccessToken:
    return (
        api.AccessToken(keys.api_key, keys.api_secret)
        .with_identity(identity)
        .with_name(name)
        .with_metadata(metadata)
        .with_attributes(dict(attributes))
        .with_ttl(ttl)
    )
