"""The machine against what a real livekit-server said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from livekit.protocol import rtc

from bridge.room.seam import AudioPublished, ParticipantJoined, ParticipantLeft, RoomGone
from bridge.room.signal.messages import Law, OwnTrack, Way
from bridge.room.signal.outputs import (
    AcceptAnswer,
    Action,
    AddCandidate,
    AddReceivers,
    Confirmed,
    Dismissed,
    FoundUnsuitable,
    JoinedRoom,
    Output,
    Resumed,
    TokenRefreshed,
    TrackTaken,
    Transmit,
)
from bridge.room.signal.protocol import Signalling
from tests.unit.room.signal.wire import kinds, notices, of

pytestmark = pytest.mark.unit

VECTORS = Path(__file__).parents[3] / "vectors" / "livekit"


def recorded(name: str) -> Iterator[bytes]:
    """Yield the messages of a recording."""
    data = (VECTORS / f"{name}.bin").read_bytes()
    while data:
        length = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + length]
        data = data[4 + length :]


def track_id() -> str:
    """Return the id under which the recorded client published its track."""
    responses = (rtc.SignalResponse.FromString(message) for message in recorded("join"))
    return next(one.track_published.cid for one in responses if one.HasField("track_published"))


def replayed(machine: Signalling, name: str) -> list[Output]:
    """Feed a recording; make each offer that is asked for, confirm nothing else."""
    outputs: list[Output] = []
    for message in recorded(name):
        machine.receive(message, 10.0)
        new = machine.take()
        if of(new, AddReceivers):
            machine.offer_made("another offer", 10.0)
            new += machine.take()
        outputs += new
    return outputs


@pytest.fixture
def machine() -> Signalling:
    track = OwnTrack(cid=track_id(), name="sip_audio", law=Law.PCMU)
    machine = Signalling(way=Way.V1, track=track, muted=False, wanted=True)
    machine.join_path("offer", {})
    machine.opened(10.0)
    return machine


def test_a_join_of_a_real_server_is_understood(machine: Signalling) -> None:
    outputs = replayed(machine, "join")
    assert len(of(outputs, JoinedRoom)) == 1
    assert len(of(outputs, TrackTaken)) == 1
    assert of(outputs, FoundUnsuitable) == []
    assert len(of(outputs, AcceptAnswer)) == 2
    assert len(of(outputs, AddReceivers)) == 1
    assert of(outputs, TokenRefreshed)[0].token == "token"
    assert [one.accepted for one in of(outputs, Confirmed)] == [True]
    assert kinds(outputs) == ["subscription", "offer"]
    assert notices(outputs) == [
        ParticipantJoined(identity="agent", kind="standard", at_join=True),
        AudioPublished(identity="agent"),
    ]
    assert machine.track_of("1") is not None
    assert machine.paths.udp
    assert not machine.paths.relayed_only
    assert len(of(outputs, AddCandidate)) == 4


def test_a_resume_at_a_real_server_is_understood(machine: Signalling) -> None:
    replayed(machine, "join")
    sid = machine.sid
    machine.closed()
    machine.resume_path(media_lost=False)
    machine.opened(10.0)
    outputs = replayed(machine, "resume")
    assert isinstance(outputs[0], Resumed)
    assert isinstance(outputs[1], Transmit)
    assert kinds(outputs)[:2] == ["sync_state", "mute"]
    assert machine.sid == sid
    assert notices(outputs) == [ParticipantLeft(identity="agent", others=0)]
    assert outputs[-1] == Dismissed(action=Action.DISCONNECT, gone=RoomGone.DELETED, replaced=False)


def test_every_message_cut_anywhere_is_survived(machine: Signalling) -> None:
    for message in recorded("join"):
        for end in range(0, len(message), 7):
            machine.receive(message[:end], 10.0)
            machine.take()
    assert machine.others() in ([], ["agent"])
