"""What the tokens grant, read back with the server's own verifier."""

from __future__ import annotations

from datetime import timedelta

import pytest
from livekit import api

from bridge.room.dispatch import person_of
from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token, listener_token

pytestmark = pytest.mark.unit

KEYS = LiveKitKeys(api_key="key", api_secret="s" * 32)


def verify(token: str) -> api.Claims:
    return api.TokenVerifier(KEYS.api_key, KEYS.api_secret).verify(token)


def test_the_bridge_joins_as_a_visible_phone_that_may_update_itself() -> None:
    """Threat 5.2: Bridge tokens."""
    claims = verify(
        bridge_token(
            KEYS,
            room="r",
            identity="sip-1",
            name="Phone 1",
            metadata="{}",
            attributes={"sip.callStatus": "dialing"},
        )
    )
    assert (claims.identity, claims.name, claims.kind) == ("sip-1", "Phone 1", "sip")
    assert claims.attributes == {"sip.callStatus": "dialing"}
    assert claims.video is not None
    assert claims.video.room == "r"
    assert claims.video.room_join
    assert claims.video.can_publish
    assert claims.video.can_subscribe
    assert claims.video.can_publish_data
    assert claims.video.can_update_own_metadata
    assert not claims.video.hidden
    assert not claims.video.room_admin


def test_a_caller_gets_a_plain_participant_of_one_room() -> None:
    """Threat 5.2: Bridge tokens."""
    claims = verify(caller_token(KEYS, room="r", identity="web-1", name="Ana"))
    assert (claims.identity, claims.name, claims.kind) == ("web-1", "Ana", "standard")
    assert claims.video is not None
    assert claims.video.room == "r"
    assert claims.video.room_join
    assert not claims.video.can_update_own_metadata
    assert not claims.video.room_admin
    assert not claims.video.room_create
    assert not claims.video.room_list


def test_an_expired_token_is_worth_nothing() -> None:
    """Threat 5.2: Bridge tokens."""
    token = caller_token(KEYS, room="r", identity="web-1", ttl=timedelta(minutes=-5))
    with pytest.raises(Exception, match="expired"):
        verify(token)


def test_the_secret_does_not_show() -> None:
    assert KEYS.api_secret not in repr(KEYS)


def test_a_listener_reads_and_is_seen_by_nobody() -> None:
    claims = verify(listener_token(KEYS, room="r", identity="bridge-listener-c"))
    assert claims.identity == "bridge-listener-c"
    assert claims.kind == "agent"  # no room lives longer for one
    video = claims.video
    assert video is not None
    assert (video.room, video.room_join, video.hidden) == ("r", True, True)
    assert (video.can_subscribe, video.can_publish, video.can_publish_data) == (True, False, False)
    assert not video.recorder  # clients would show that they are recorded


def test_a_listener_is_neither_the_user_nor_the_agent() -> None:
    """Who is in a room is asked of the server, which lists also those whom nobody sees."""
    permission = api.ParticipantPermission(hidden=True)
    info = api.ParticipantInfo(sid="PA", kind=api.ParticipantInfo.AGENT, permission=permission)
    seen = person_of(info)
    assert (seen.agent, seen.helper) == (False, True)
    info.permission.hidden = False
    assert person_of(info).agent
