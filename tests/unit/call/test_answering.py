"""From the start to the answer, both ways (contract 4, Answering)."""

from __future__ import annotations

import pytest

from bridge.call.commands import (
    Answer,
    Bye,
    Cancel,
    ConnectMedia,
    Dial,
    DispatchAgent,
    JoinRoom,
    LeaveRoom,
    Reject,
    Ring,
)
from bridge.call.inputs import AgentReady, Begun, Dispatched, DispatchFailed, Joined, JoinFailed
from bridge.call.plan import AnswerMode
from bridge.call.state import Phase
from bridge.events import CallAnswered, CallRinging
from bridge.room.seam import AudioPublished, LeaveReason, ParticipantJoined
from bridge.sip.events import Cancelled, EndCause, Ended, Failed, FailureCause
from tests.unit.call.kit import (
    SID,
    Bench,
    answered,
    bye,
    confirmed,
    inbound,
    negotiated,
    plan,
    progressed,
    refused,
)

pytestmark = pytest.mark.unit


def agent_joined(identity: str = "a", kind: str = "agent") -> ParticipantJoined:
    return ParticipantJoined(identity=identity, kind=kind, at_join=False)


# Outbound.


def test_outbound_joins_then_dispatches_then_dials() -> None:
    bench = Bench().feed(Begun())
    assert bench.has(JoinRoom)
    assert not bench.has(Dial)
    bench.feed(Joined())
    assert bench.has(DispatchAgent)
    assert not bench.has(Dial)
    bench.feed(Dispatched())
    assert len(bench.of(Dial)) == 1
    assert bench.state.phase is Phase.DIALING


def test_outbound_without_an_agent_dials_at_the_join() -> None:
    bench = Bench(plan(agent="")).feed(Begun(), Joined())
    assert bench.has(Dial)
    assert not bench.has(DispatchAgent)


def test_outbound_does_not_wait_for_the_agent_to_come() -> None:
    assert Bench().dialing().has(Dial)


def test_failed_join_dials_nothing() -> None:
    bench = Bench().feed(Begun(), JoinFailed())
    assert not bench.has(Dial)
    assert bench.verdict() == ("failed", "room_unavailable", "bridge")


def test_join_that_takes_too_long_dials_nothing_and_is_left_when_it_ends() -> None:
    bench = Bench().feed(Begun()).wait(19)
    assert not bench.events
    bench.wait(2)
    assert bench.verdict()[:2] == ("failed", "room_unavailable")
    assert not bench.has(LeaveRoom)
    bench.feed(Joined()).leave()
    assert bench.has(LeaveRoom)
    assert bench.done
    assert not bench.has(Dial)


def test_failed_dispatch_dials_nothing() -> None:
    bench = Bench().feed(Begun(), Joined(), DispatchFailed())
    assert not bench.has(Dial)
    assert bench.verdict()[:2] == ("failed", "no_agent")


def test_failed_dispatch_does_not_matter_when_the_agent_is_there() -> None:
    bench = Bench().feed(Begun(), Joined(), agent_joined(), DispatchFailed())
    assert bench.has(Dial)


def test_first_18x_rings_once() -> None:
    bench = Bench().dialing().feed(progressed(183), progressed(180))
    assert bench.names() == ["call_ringing"]
    assert bench.of(CallRinging)[0].early_media is False


def test_a_180_without_sdp_after_a_183_keeps_the_early_media() -> None:
    """Row 57. RFC 3960 3.2: the early media of the 183 goes on until the answer."""
    bench = Bench(plan(early_media=True)).dialing()
    bench.feed(progressed(183, negotiated(remote_port=31000)), progressed(180))
    assert [c.negotiated.remote_port for c in bench.of(ConnectMedia)] == [31000]
    assert bench.state.media_levels.caller_audio
    assert not bench.state.media_levels.transmit
    bench.feed(progressed(183, negotiated(remote_port=32000)), answered())
    assert [c.negotiated.remote_port for c in bench.of(ConnectMedia)][:2] == [31000, 32000]
    assert bench.of(ConnectMedia)[-1].negotiated == answered().negotiated


def test_ringing_that_is_never_acknowledged_ends_a_call_that_came_in() -> None:
    """RFC 3262 3: our reliable 180 found no PRACK for 64*T1, and 504 went out."""
    bench = Bench(inbound()).in_room()
    assert bench.state.phase is Phase.RINGING
    bench.feed(Ended(session=SID, cause=EndCause.NO_ACK, status=504, q850=None))
    assert bench.verdict() == ("failed", "no_ack", "timer")
    assert bench.end.sip_status == 504
    assert not bench.has(Reject)
    assert not bench.has(Bye)


def test_ringing_tells_whether_there_is_early_media() -> None:
    bench = Bench().dialing().feed(progressed(183, negotiated()))
    assert bench.of(CallRinging)[0].early_media is True
    assert not bench.has(ConnectMedia), "nobody asked for it"


def test_answer_tells_codec_and_ring_time() -> None:
    bench = Bench().dialing().feed(progressed())
    bench.now += 2.5
    bench.feed(answered())
    event = bench.of(CallAnswered)[0]
    assert (event.codec, event.ring_ms, event.seq) == ("PCMA", 2500, 2)


def test_answer_without_ringing_has_no_ring_time() -> None:
    bench = Bench().dialing()
    bench.now += 1
    assert bench.feed(answered()).of(CallAnswered)[0].ring_ms == 0


def test_ring_timer_cancels_and_the_487_does_not_decide() -> None:
    """R1 7.1.10. Status 487 after our ring timer, no final response. Contract 5: who cancelled
    decides.
    """
    bench = Bench(plan(ring_timeout=30)).dialing().feed(progressed()).wait(31)
    assert bench.has(Cancel)
    assert not bench.has(LeaveRoom)
    bench.feed(refused(487, q850=17, cause=FailureCause.CANCELLED))
    assert bench.verdict() == ("no_answer", "ring_timeout", "timer")
    assert bench.end.sip_status == 487
    assert bench.leave().of(LeaveRoom)[0].reason is LeaveReason.USER_UNAVAILABLE


def test_unanswered_cancel_ends_the_call_all_the_same() -> None:
    bench = Bench(plan(ring_timeout=30)).dialing().wait(33)
    assert bench.verdict()[:2] == ("no_answer", "ring_timeout")
    assert bench.end.sip_status is None
    bench.leave()
    assert not bench.done, "the session is still open"
    assert bench.feed(refused(487)).done


def test_200_that_crosses_our_cancel_gets_a_bye() -> None:
    bench = Bench(plan(ring_timeout=30)).dialing().wait(31).feed(answered())
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("no_answer", "ring_timeout")
    assert not bench.has(CallAnswered)


def test_200_after_the_end_gets_a_bye() -> None:
    bench = Bench(plan(ring_timeout=30)).dialing().wait(40).feed(answered())
    assert bench.has(Bye)
    assert not bench.has(CallAnswered)


@pytest.mark.parametrize(
    ("failure", "outcome", "reason", "leave"),
    [
        (refused(486), "busy", "busy", LeaveReason.USER_REJECTED),
        (refused(603), "rejected", "declined", LeaveReason.USER_REJECTED),
        (refused(480, rang=True), "no_answer", "unavailable", LeaveReason.USER_UNAVAILABLE),
        (refused(480), "unreachable", "unavailable", LeaveReason.USER_UNAVAILABLE),
        (refused(480, 17), "busy", "busy", LeaveReason.USER_REJECTED),
        (refused(503), "failed", "carrier_failure", LeaveReason.CLIENT_INITIATED),
        (refused(487), "failed", "carrier_terminated", LeaveReason.CLIENT_INITIATED),
    ],
)
def test_refusal_decides_outcome_and_leave_reason(
    failure: Failed, outcome: str, reason: str, leave: LeaveReason
) -> None:
    bench = Bench().dialing().feed(failure).leave()
    assert bench.verdict()[:2] == (outcome, reason)
    assert bench.of(LeaveRoom)[0].reason is leave
    assert bench.done


def test_no_agent_in_time_after_the_answer_gets_a_bye() -> None:
    bench = Bench().dialing().feed(answered()).wait(19.9)
    assert not bench.has(Bye)
    bench.wait(0.2)
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("failed", "no_agent")


@pytest.mark.parametrize("sign", [agent_joined(), AudioPublished(identity="a")])
def test_agent_that_comes_in_time_keeps_the_call(
    sign: ParticipantJoined | AudioPublished,
) -> None:
    bench = Bench().dialing().feed(answered()).wait(10).feed(sign).wait(15)
    assert bench.state.phase is Phase.ANSWERED


def test_call_that_wants_no_agent_is_not_ended_for_lack_of_one() -> None:
    bench = Bench(plan(agent="", media_timeout_initial=1e6)).dialing().feed(answered()).wait(100)
    assert bench.state.phase is Phase.ANSWERED


def test_required_agent_counts_without_a_name() -> None:
    bench = Bench(plan(agent="", agent_required=True)).dialing().feed(answered()).wait(21)
    assert bench.verdict()[:2] == ("failed", "no_agent")


# Inbound.


def test_inbound_rings_at_once_and_answers_when_audio_is_published() -> None:
    """R1 7.1.20. Failure 7.3: 180 until the agent speaks."""
    bench = Bench(inbound()).feed(Begun())
    assert bench.has(Ring)
    assert bench.names() == ["call_ringing"]
    bench.feed(Joined(), Dispatched(), agent_joined())
    assert not bench.has(Answer), "being there is not enough"
    bench.feed(AudioPublished(identity="a"), AudioPublished(identity="b"))
    assert len(bench.of(Answer)) == 1
    assert not bench.has(CallAnswered), "the ACK has not come"
    bench.feed(confirmed())
    assert bench.has(CallAnswered)


def test_inbound_answers_when_the_agent_says_it_is_ready() -> None:
    bench = Bench(inbound()).in_room().feed(AgentReady(identity="a"))
    assert len(bench.of(Answer)) == 1


def test_inbound_now_answers_before_the_room_is_joined() -> None:
    bench = Bench(inbound(answer_mode=AnswerMode.NOW)).feed(Begun())
    assert bench.has(Answer)
    assert bench.has(JoinRoom)
    assert not bench.has(Ring)
    bench.feed(confirmed())
    assert bench.of(CallAnswered)[0].seq == 1


def test_inbound_without_an_agent_in_time_is_refused_480() -> None:
    bench = Bench(inbound(agent="")).in_room().wait(20)
    assert bench.of(Reject)[0].status == 480
    assert bench.verdict() == ("failed", "no_agent", "bridge")
    assert bench.end.sip_status == 480


def test_inbound_now_without_an_agent_in_time_gets_a_bye() -> None:
    bench = Bench(inbound(answer_mode=AnswerMode.NOW)).in_room().feed(confirmed()).wait(20)
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("failed", "no_agent")


def test_inbound_failed_join_is_refused_503() -> None:
    bench = Bench(inbound()).feed(Begun(), JoinFailed())
    assert bench.of(Reject)[0].status == 503
    assert bench.verdict()[:2] == ("failed", "room_unavailable")


def test_inbound_now_failed_join_gets_a_bye() -> None:
    bench = Bench(inbound(answer_mode=AnswerMode.NOW)).feed(Begun(), confirmed(), JoinFailed())
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("failed", "room_unavailable")


def test_caller_who_gives_up_cancels() -> None:
    bench = Bench(inbound()).in_room().feed(Cancelled(session=SID, q850=None)).leave()
    assert bench.verdict() == ("cancelled", "caller_cancelled", "caller")
    assert not bench.has(Reject)
    assert bench.done


def test_cancel_gets_through_while_the_join_hangs() -> None:
    bench = Bench(inbound()).feed(Begun(), Cancelled(session=SID, q850=None))
    assert bench.verdict()[0] == "cancelled"
    assert not bench.has(LeaveRoom)
    assert bench.feed(Joined()).leave().done


def test_200_that_is_never_acked_is_failed_no_ack() -> None:
    bench = Bench(inbound()).in_room().feed(AgentReady(identity="a"))
    bench.feed(Ended(session=SID, cause=EndCause.NO_ACK, status=None, q850=None))
    assert bench.verdict()[:2] == ("failed", "no_ack")
    assert not bench.has(CallAnswered)


def test_bye_before_the_ack_is_never_completed() -> None:
    bench = Bench(inbound()).in_room().feed(AgentReady(identity="a"), bye())
    assert bench.verdict() == ("cancelled", "remote_hangup", "caller")
