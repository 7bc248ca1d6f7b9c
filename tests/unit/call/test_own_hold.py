"""Our own hold, and the probe while anybody holds (contract 4, Hold)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.call.commands import (
    ApplyLevels,
    Bye,
    HoldResult,
    PlayDigits,
    Probe,
    Reoffer,
    ReplyTo,
    SetAttributes,
    SetMute,
)
from bridge.call.inputs import By, DigitsAsked, HangUp, HoldAsked
from bridge.call.machine import restore, snapshot
from bridge.call.own_hold import REOFFER_PATIENCE
from bridge.call.saved import dump, load
from bridge.events import CallHold, CallResume
from bridge.media.seam import MediaLevels, MediaTimedOut
from bridge.sip.events import EndCause, Ended, Probed, Reoffered
from sdp.model import Direction
from sdp.negotiated import Hold
from tests.unit.call.kit import SID, Bench, answered, bye, changed, inbound, plan

pytestmark = pytest.mark.unit

HOLD = HoldAsked(hold=True, ticket=1)
RESUME = HoldAsked(hold=False, ticket=2)
TAKEN = Reoffered(session=SID, ok=True)
NOT_TAKEN = Reoffered(session=SID, ok=False)
MISSED = Probed(session=SID, alive=False)
THERE = Probed(session=SID, alive=True)


def ours(bench: Bench) -> Bench:
    """Put the far end on our hold, as a peer that answers recvonly does."""
    return bench.feed(HOLD, changed(receive=False), TAKEN)


def replies(bench: Bench) -> list[tuple[int, HoldResult]]:
    return [(command.ticket, command.result) for command in bench.of(ReplyTo)]


def offers(bench: Bench) -> list[Direction]:
    return [command.direction for command in bench.of(Reoffer)]


def test_hold_is_in_force_from_the_answer_on_and_nothing_is_published() -> None:
    """Row 70. RFC 3264 8.4."""
    bench = Bench().talking()
    before, told = bench.state.media_levels, len(bench.events)
    bench.feed(HOLD)
    assert offers(bench) == [Direction.SENDONLY]
    assert bench.state.media_levels == before
    assert replies(bench) == []
    bench.feed(changed(receive=False), TAKEN)
    assert replies(bench) == [(1, HoldResult.DONE)]
    assert bench.state.media_levels == MediaLevels(
        transmit=True, agent_audio=False, caller_audio=False, watchdog=None
    )
    assert len(bench.events) == told
    assert not any(command.muted for command in bench.of(SetMute))
    assert bench.state.room_levels is not None
    assert bench.state.room_levels.attributes["bridge.hold"] == "false"


@pytest.mark.parametrize("way", ["outbound", "inbound"])
def test_resume_brings_back_exactly_what_was(way: str) -> None:
    bench = Bench(plan() if way == "outbound" else inbound()).talking()
    before = replace(bench.state, media_levels=bench.state.media_levels)
    ours(bench).feed(RESUME)
    assert offers(bench) == [Direction.SENDONLY, Direction.SENDRECV]
    assert not bench.state.media_levels.agent_audio, "not before it is answered"
    bench.feed(changed(), TAKEN)
    assert replies(bench) == [(1, HoldResult.DONE), (2, HoldResult.DONE)]
    assert replace(bench.state, deadlines=before.deadlines) == before
    assert bench.of(ApplyLevels)[-1].levels == before.media_levels


def test_peer_that_answers_inactive_gets_no_packets_and_is_not_on_hold() -> None:
    bench = Bench().talking().feed(HOLD, changed(send=False, receive=False), TAKEN)
    assert not bench.state.media_levels.transmit
    assert not bench.has(CallHold)


def test_no_audio_passes_although_the_peer_answers_as_if_nothing_were() -> None:
    bench = Bench(plan(hold_music=True)).talking().feed(HOLD, TAKEN)
    levels = bench.state.media_levels
    assert (levels.agent_audio, levels.caller_audio, levels.watchdog) == (False, False, None)


def test_refused_hold_leaves_everything_as_it_was() -> None:
    """Row 70. RFC 3264 8.4."""
    bench = Bench().talking()
    before = bench.state
    bench.feed(HOLD, NOT_TAKEN)
    assert bench.state == before
    assert replies(bench) == [(1, HoldResult.REFUSED)]
    assert replies(bench.feed(HoldAsked(hold=True, ticket=3))) == [(1, HoldResult.REFUSED)]
    assert offers(bench) == [Direction.SENDONLY, Direction.SENDONLY], "it may be tried again"


def test_refused_resume_leaves_our_hold() -> None:
    bench = ours(Bench().talking())
    before = bench.state
    bench.feed(RESUME, NOT_TAKEN)
    assert bench.state == before
    assert replies(bench)[-1] == (2, HoldResult.REFUSED)


@pytest.mark.parametrize(
    ("bench", "asked", "result"),
    [
        (Bench().dialing(), HOLD, HoldResult.NOT_ANSWERED),
        (Bench(inbound()).in_room(), HOLD, HoldResult.NOT_ANSWERED),
        (Bench().talking(), RESUME, HoldResult.ALREADY),
        (ours(Bench().talking()), HoldAsked(hold=True, ticket=2), HoldResult.ALREADY),
        (Bench().talking().feed(HOLD), RESUME, HoldResult.UNDER_WAY),
        (Bench().talking().feed(HOLD), HoldAsked(hold=True, ticket=2), HoldResult.UNDER_WAY),
        (Bench().talking().feed(bye()), HOLD, HoldResult.ENDED),
    ],
    ids=["dialing", "ringing", "not ours", "ours", "resume crosses", "twice", "over"],
)
def test_what_the_state_forbids_is_refused_at_once(
    bench: Bench, asked: HoldAsked, result: HoldResult
) -> None:
    sent = len(bench.of(Reoffer))
    assert replies(bench.feed(asked))[-1] == (asked.ticket, result)
    assert len(bench.of(Reoffer)) == sent


def test_answer_that_comes_too_late_is_undone() -> None:
    bench = Bench().talking().feed(HOLD).wait(REOFFER_PATIENCE - 0.1)
    assert replies(bench) == []
    bench.wait(0.2)
    assert replies(bench) == [(1, HoldResult.TIMED_OUT)]
    assert replies(bench.feed(RESUME))[-1] == (2, HoldResult.UNDER_WAY)
    bench.feed(changed(receive=False), TAKEN)
    assert offers(bench) == [Direction.SENDONLY, Direction.SENDRECV]
    bench.wait(30).feed(changed(), TAKEN)
    assert not bench.state.own_hold
    assert bench.state.reoffer is None
    assert bench.state.media_levels.agent_audio
    assert len(offers(bench)) == 2, "an undoing is not undone"


def test_late_refusal_needs_no_undoing() -> None:
    bench = Bench().talking().feed(HOLD).wait(REOFFER_PATIENCE).feed(NOT_TAKEN)
    assert offers(bench) == [Direction.SENDONLY]
    assert bench.state.reoffer is None


def test_wish_that_nobody_waits_for_has_no_deadline() -> None:
    bench = Bench().talking().feed(HoldAsked(hold=True)).wait(20)
    bench.feed(changed(receive=False), TAKEN)
    assert bench.state.own_hold
    assert offers(bench) == [Direction.SENDONLY]
    assert replies(bench) == []


@pytest.mark.parametrize("end", [bye(), HangUp(by=By.API)])
def test_end_of_the_call_answers_who_waits(end: Ended | HangUp) -> None:
    bench = Bench().talking().feed(HOLD, end)
    assert replies(bench) == [(1, HoldResult.ENDED)]
    bench.feed(TAKEN)
    assert len(replies(bench)) == 1


def test_hold_of_the_far_end_on_top_of_ours_is_published_as_usual() -> None:
    bench = ours(Bench().talking()).feed(changed(Hold.INACTIVE, receive=False))
    assert bench.of(CallHold)[0].direction == "inactive"
    assert bench.of(SetMute)[-1].muted
    assert not bench.state.media_levels.transmit
    bench.now += 2
    bench.feed(changed(receive=False))
    assert bench.of(CallResume)[0].held_ms == 2000
    assert bench.of(SetAttributes)[-1].attributes["bridge.hold"] == "false"
    bench.wait(1)
    levels = bench.state.media_levels
    assert (levels.transmit, levels.agent_audio, levels.caller_audio) == (True, False, False)
    bench.feed(RESUME, changed(), TAKEN)
    assert bench.state.media_levels.agent_audio
    assert bench.names()[2:] == ["call_hold", "call_resume"]


def test_our_resume_while_they_hold_opens_nothing_until_they_resume() -> None:
    bench = ours(Bench().talking()).feed(changed(Hold.SENDONLY))
    bench.feed(RESUME, changed(Hold.SENDONLY, receive=True), TAKEN)
    levels = bench.state.media_levels
    assert (levels.transmit, levels.agent_audio, levels.caller_audio) == (False, False, False)
    bench.feed(changed()).wait(1)
    assert bench.state.media_levels.agent_audio


def test_we_may_hold_who_holds_us() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), HOLD)
    bench.feed(changed(Hold.INACTIVE), TAKEN)
    assert replies(bench) == [(1, HoldResult.DONE)]
    assert bench.names().count("call_hold") == 1
    assert not bench.has(CallResume)


def test_their_answer_to_our_resume_may_be_a_hold() -> None:
    bench = ours(Bench().talking()).feed(RESUME, changed(Hold.SENDONLY), TAKEN)
    assert bench.names()[-1] == "call_hold"
    assert not bench.state.media_levels.agent_audio


def test_media_timeout_is_suspended_while_we_hold() -> None:
    bench = ours(Bench().talking()).feed(MediaTimedOut(ever=True))
    assert not bench.has(Bye)
    bench.wait(50).feed(THERE, RESUME, changed(), TAKEN)
    assert bench.state.media_levels.watchdog is not None
    assert bench.feed(MediaTimedOut(ever=True)).has(Bye)


def test_keys_go_out_on_our_hold_where_the_direction_allows() -> None:
    bench = ours(Bench().talking()).feed(DigitsAsked(digits="1"))
    assert len(bench.of(PlayDigits)) == 1
    bench.feed(changed(send=False, receive=False), DigitsAsked(digits="2"))
    assert len(bench.of(PlayDigits)) == 1


def test_our_hold_survives_a_restart_with_its_open_wish() -> None:
    bench = ours(Bench().talking()).feed(RESUME)
    saved = load(json.loads(json.dumps(dump(snapshot(bench.state, bench.now, bench.wall)))))
    bench.state = restore(saved, bench.now, bench.wall)
    assert bench.state.own_hold
    bench.feed(changed(), TAKEN)
    assert not bench.state.own_hold
    assert bench.state.media_levels.agent_audio


# --- the probe


def test_nobody_is_probed_while_nobody_holds() -> None:
    assert not Bench().talking().wait(600).has(Probe)
    assert not Bench().dialing().feed(answered()).wait(600).has(Probe)


@pytest.mark.parametrize("who", ["they", "we", "both"])
def test_far_end_is_probed_every_minute_while_anybody_holds(who: str) -> None:
    bench = Bench().talking()
    if who != "we":
        bench.feed(changed(Hold.SENDONLY))
    if who != "they":
        bench.feed(HOLD, TAKEN)
    bench.wait(59)
    assert not bench.has(Probe)
    bench.wait(2).feed(THERE)
    assert len(bench.of(Probe)) == 1
    bench.wait(60).feed(THERE).wait(60).feed(THERE)
    assert len(bench.of(Probe)) == 3
    assert not bench.has(Bye)


def test_second_hold_does_not_put_the_probe_off() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY)).wait(40).feed(HOLD, TAKEN)
    bench.feed(changed()).wait(21)
    assert len(bench.of(Probe)) == 1


def test_two_missed_probes_in_a_row_end_the_call() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY)).wait(60).feed(MISSED)
    assert not bench.has(Bye)
    bench.wait(60).feed(MISSED)
    assert bench.has(Bye)
    assert bench.verdict() == ("dropped", "peer_gone", "carrier")
    bench.feed(Ended(session=SID, cause=EndCause.PEER_GONE, status=None, q850=None))
    assert bench.verdict() == ("dropped", "peer_gone", "carrier"), "the endpoint says so, too"
    assert bench.leave().done


def test_missed_probes_count_only_in_a_row_and_in_one_hold() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY), MISSED, THERE, MISSED)
    bench.feed(changed(), changed(Hold.SENDONLY), MISSED)
    assert not bench.has(Bye)
    assert bench.feed(MISSED).has(Bye)


def test_probe_answered_with_481_ends_the_call_without_a_bye() -> None:
    bench = ours(Bench().talking()).wait(60)
    bench.feed(Ended(session=SID, cause=EndCause.PEER_GONE, status=481, q850=None))
    assert bench.verdict() == ("dropped", "peer_gone", "carrier")
    assert bench.end.sip_status == 481
    assert not bench.has(Bye)
