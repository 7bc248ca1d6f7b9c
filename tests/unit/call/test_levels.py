"""Gate, hold, watchdog, mute, attributes (contract 4, Gate and Hold)."""

from __future__ import annotations

import pytest

from bridge.call.commands import (
    ApplyLevels,
    Bye,
    ConnectMedia,
    RestoreRoom,
    SetAttributes,
    SetMute,
    SetSubscribed,
)
from bridge.call.inputs import AgentReady, Begun, DialogFormed, Joined, Published
from bridge.call.levels import attributes, plan_attributes
from bridge.call.plan import AnswerMode
from bridge.call.state import CLOSED
from bridge.events import CallAnswered, CallHold, CallResume
from bridge.media.seam import MediaLevels, MediaTimedOut
from bridge.room.convention import VALUE_LIMIT
from bridge.room.seam import RoomReconnected, RoomReconnecting
from sdp.negotiated import Hold
from tests.unit.call.kit import (
    Bench,
    answered,
    bye,
    changed,
    confirmed,
    inbound,
    negotiated,
    plan,
    progressed,
)

pytestmark = pytest.mark.unit


def now(bench: Bench) -> MediaLevels:
    applied = bench.of(ApplyLevels)
    assert not applied or applied[-1].levels == bench.state.media_levels
    return bench.state.media_levels


def published(bench: Bench) -> Bench:
    return bench.feed(Published(seq=bench.state.seq))


def test_nothing_flows_before_the_answer() -> None:
    bench = Bench().dialing().feed(progressed(183, negotiated()))
    assert not bench.has(ApplyLevels)
    assert not bench.has(ConnectMedia)
    assert not now(bench).caller_audio


def test_early_media_reaches_the_room_when_asked_for_and_nothing_goes_out() -> None:
    bench = Bench(plan(early_media=True)).dialing().feed(progressed(183, negotiated()))
    assert bench.has(ConnectMedia)
    levels = now(bench)
    assert (levels.caller_audio, levels.agent_audio, levels.transmit) == (True, False, False)
    bench.feed(answered())
    assert now(bench).caller_audio, "it does not break off at the answer"


def test_inbound_sends_nothing_before_the_ack() -> None:
    bench = Bench(inbound()).in_room().feed(AgentReady(identity="a"))
    assert not now(bench).transmit
    bench.feed(confirmed())
    assert now(bench).transmit


def test_gate_opens_when_call_answered_has_reached_the_room() -> None:
    bench = Bench().dialing().feed(progressed(), answered())
    levels = now(bench)
    assert levels.transmit, "silence goes out at once"
    assert not levels.agent_audio
    assert not levels.caller_audio
    bench.feed(Published(seq=1))
    assert not now(bench).agent_audio, "that was call_ringing"
    bench.feed(Published(seq=2))
    assert now(bench).agent_audio
    assert now(bench).caller_audio
    assert bench.of(SetSubscribed)[-1].subscribed


def test_gate_opens_after_half_a_second_at_the_latest() -> None:
    bench = Bench().dialing().feed(answered()).wait(0.49)
    assert not now(bench).agent_audio
    bench.wait(0.02)
    assert now(bench).agent_audio


@pytest.mark.parametrize("hold", list(Hold))
def test_hold_closes_at_once_before_anything_else(hold: Hold) -> None:
    """Failure 7.3: no hold signal."""
    bench = Bench().talking().feed(changed(hold))
    assert isinstance(bench.last[0], ApplyLevels), "closing comes first"
    levels = now(bench)
    assert (levels.transmit, levels.agent_audio, levels.caller_audio) == (False, False, False)
    assert levels.watchdog is None
    assert bench.of(CallHold)[0].direction == hold.value
    assert bench.of(SetMute)[-1].muted
    assert bench.of(SetAttributes)[-1].attributes["bridge.hold"] == "true"


def test_hold_closes_whatever_the_directions_allow() -> None:
    bench = Bench().talking().feed(changed(Hold.ZERO_ADDRESS, send=True, receive=True))
    levels = now(bench)
    assert levels == CLOSED


def test_resume_opens_when_call_resume_has_reached_the_room() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY))
    bench.now += 3.2
    bench.feed(changed())
    assert bench.of(CallResume)[0].held_ms == 3200
    levels = now(bench)
    assert levels.transmit
    assert not levels.agent_audio
    assert not bench.of(SetMute)[-1].muted
    assert now(published(bench)).agent_audio


def test_resume_opens_after_half_a_second_at_the_latest() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), changed()).wait(0.6)
    assert now(bench).agent_audio


def test_hold_while_a_resume_waits_closes_again() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), changed(), changed(Hold.INACTIVE))
    published(bench).wait(1)
    assert now(bench).agent_audio is False
    assert bench.names()[-3:] == ["call_hold", "call_resume", "call_hold"]


def test_switch_between_hold_dialects_is_silent() -> None:
    """Hold rule 2.3: events on the edge only."""
    bench = Bench().talking().feed(changed(Hold.SENDONLY))
    count = len(bench.events)
    bench.feed(changed(Hold.INACTIVE), changed(Hold.SENDONLY))
    assert len(bench.events) == count


def test_change_that_changes_nothing_does_nothing() -> None:
    bench = Bench().talking()
    before = bench.state
    assert bench.feed(changed()).state == before
    assert bench.last == ()


def test_new_address_is_connected_without_an_event() -> None:
    """Row 66. R1 7.1.7. RFC 3264 8.3.1."""
    bench = Bench().talking()
    count = len(bench.events)
    bench.feed(changed(remote_port=5000))
    assert bench.of(ConnectMedia)[-1].negotiated.remote_port == 5000
    assert len(bench.events) == count


@pytest.mark.parametrize("way", ["outbound", "inbound"])
def test_first_answer_that_is_a_hold_is_told_after_call_answered(way: str) -> None:
    bench = Bench(plan() if way == "outbound" else inbound()).talking(Hold.SENDONLY)
    assert bench.names() == ["call_ringing", "call_answered", "call_hold"]
    assert not now(bench).transmit
    bench.wait(1)
    assert not now(bench).agent_audio
    bench.feed(changed())
    assert now(published(bench)).agent_audio


def test_recvonly_is_not_a_hold_and_suspends_the_watchdog() -> None:
    """Hold rule 2.3: recvonly is no hold. RFC 3264 6.1."""
    bench = Bench().talking().feed(changed(receive=False))
    assert not bench.has(CallHold)
    assert now(bench).watchdog is None
    assert now(bench).agent_audio


def test_hold_music_passes_when_asked_for() -> None:
    bench = Bench(plan(hold_music=True)).talking().feed(changed(Hold.SENDONLY))
    levels = now(bench)
    assert (levels.caller_audio, levels.agent_audio, levels.transmit) == (True, False, False)
    assert not any(command.muted for command in bench.of(SetMute))
    assert bench.of(CallHold)


def test_watchdog_knows_both_times() -> None:
    bench = Bench(plan(media_timeout_initial=10, media_timeout=5)).talking()
    assert (now(bench).watchdog, now(bench).watchdog_initial) == (5, 10)


@pytest.mark.parametrize(
    ("ever", "verdict"),
    [
        (True, ("dropped", "media_timeout", "timer")),
        (False, ("failed", "no_media_after_answer", "timer")),
    ],
)
def test_media_timeout_ends_the_call(ever: bool, verdict: tuple[str, str, str]) -> None:
    bench = Bench().talking().feed(MediaTimedOut(ever=ever))
    assert bench.has(Bye)
    assert bench.verdict() == verdict


def test_media_timeout_that_crosses_a_hold_is_ignored() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), MediaTimedOut(ever=True))
    assert not bench.has(Bye)


def test_end_closes_at_once() -> None:
    bench = Bench().talking().feed(bye())
    assert isinstance(bench.last[0], ApplyLevels)
    assert not now(bench).transmit
    assert bench.of(SetSubscribed)[-1].subscribed is False


def test_levels_wait_for_the_room_and_come_whole() -> None:
    bench = Bench(inbound(answer_mode=AnswerMode.NOW)).feed(Begun(), confirmed(Hold.INACTIVE))
    assert not bench.has(SetMute)
    assert not bench.has(SetAttributes)
    restored = bench.feed(Joined()).of(RestoreRoom)[0]
    assert restored.muted
    assert restored.attributes["sip.callStatus"] == "active"
    assert restored.attributes["bridge.hold"] == "true"
    assert restored.attributes["bridge.seq"] == "2"


def test_levels_come_whole_after_a_reconnect() -> None:
    bench = Bench().talking().feed(RoomReconnecting(), changed(Hold.SENDONLY))
    assert not any(command.muted for command in bench.of(SetMute))
    restored = bench.feed(RoomReconnected()).of(RestoreRoom)[-1]
    assert restored.muted
    assert restored.subscribed
    assert restored.attributes == attributes(bench.state)


def status(bench: Bench) -> str:
    return attributes(bench.state)["sip.callStatus"]


def test_call_status_of_an_outbound_call() -> None:
    bench = Bench().dialing()
    seen = [status(bench)]
    for item in (progressed(), answered(), bye()):
        seen.append(status(bench.feed(item)))
    assert seen == ["dialing", "ringing", "active", "hangup"]


def test_call_status_of_an_inbound_call() -> None:
    bench = Bench(inbound()).in_room()
    assert status(bench) == "ringing"
    bench.feed(AgentReady(identity="a"))
    assert status(bench) == "ringing"
    assert status(bench.feed(confirmed())) == "active"


def test_only_inbound_has_a_rule() -> None:
    assert "sip.ruleID" not in plan_attributes(plan(rule_id="r"))
    assert plan_attributes(inbound(rule_id="r"))["sip.ruleID"] == "r"
    assert plan_attributes(inbound())["sip.ruleID"]


def test_attributes_a_peer_wrote_are_cleaned_and_bounded() -> None:
    headers = {f"X-{n}": "v\r\n\x00" + "é" * 9999 for n in range(99)}
    values = plan_attributes(plan(headers=headers))
    assert values["sip.h.x-0"].startswith("vé")
    assert all(len(value.encode()) <= VALUE_LIMIT for value in values.values())
    assert len(values) < 50


def test_dialog_identifiers_reach_the_attributes() -> None:
    bench = Bench().dialing().feed(DialogFormed(sip_call_id="abc", sip_tag="t"))
    assert bench.of(SetAttributes)[-1].attributes == {"sip.callIDFull": "abc", "sip.callTag": "t"}


def test_call_answered_is_told_before_anything_opens() -> None:
    bench = Bench().dialing().feed(progressed(), answered())
    assert bench.has(CallAnswered)
    assert not any(c.levels.agent_audio for c in bench.of(ApplyLevels))
