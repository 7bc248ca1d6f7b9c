"""The life of a web call: webhooks in any order, twice or never, and looks at the room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.call.outcome import Result, SessionEnd, session_outcome, status_of
from bridge.sessions.state import (
    STAYS_KEPT,
    Came,
    EndAsked,
    Ended,
    Input,
    Joined,
    Leaving,
    Looked,
    Output,
    Participant,
    Phase,
    RoomEnd,
    RoomFinished,
    RoomMade,
    RoomWanted,
    ServerAway,
    SessionState,
    Tick,
    Timing,
    Went,
    new_state,
    next_deadline,
    restored_state,
    step,
    wants_look,
)

pytestmark = pytest.mark.unit

T0 = 1_000_000.0
TIMING = Timing()
USER = Participant(sid="PA_user", agent=False)
AGENT = Participant(sid="PA_agent", agent=True)
ROOM = "RM_1"


class Play:
    """One session, fed at times after its creation."""

    def __init__(self, state: SessionState | None = None, *, wants_agent: bool = False) -> None:
        self.state = state or new_state(
            created_at=T0, max_duration=300, wants_agent=wants_agent, timing=TIMING
        )
        self.out: list[Output] = []

    def at(self, seconds: float, *events: Input) -> list[Output]:
        new: list[Output] = []
        for event in events:
            self.state, found = step(self.state, event, T0 + seconds)
            new += found
        self.out += new
        return new

    def look(self, seconds: float, *present: Participant, room: str | None = ROOM) -> list[Output]:
        return self.at(seconds, Looked(asked_at=T0 + seconds, room_sid=room, present=list(present)))

    @property
    def ends(self) -> list[Ended]:
        return [one for one in self.out if isinstance(one, Ended)]


def joined(*, wants_agent: bool = False, agent: bool = False) -> Play:
    play = Play(wants_agent=wants_agent)
    play.at(0, RoomMade(room_sid=ROOM))
    if agent:
        play.at(1, Came(who=AGENT))
    play.at(2, Came(who=USER))
    return play


def test_it_is_active_when_its_user_joins_and_not_when_its_agent_does() -> None:
    play = Play()
    assert play.at(1, Came(who=AGENT)) == []
    assert play.state.phase is Phase.WAITING
    assert play.at(2, Came(who=USER)) == [Joined(at=T0 + 2)]
    assert play.at(3, Came(who=USER)) == []


def test_who_is_on_the_way_in_has_not_joined() -> None:
    play = Play()
    coming = Participant(sid="PA_user", agent=False, here=False)
    assert play.look(5, coming) == []
    assert play.look(10, USER) == [Joined(at=T0 + 10)]


@pytest.mark.parametrize(
    ("said", "taken"), [(3.5, 3.5), (-10.0, 0.0), (100.0, 4.0)], ids=["theirs", "before", "after"]
)
def test_the_servers_moment_of_joining_counts_where_it_is_possible(
    said: float, taken: float
) -> None:
    play = Play()
    who = Participant(sid="PA_user", agent=False, joined_at=T0 + said)
    assert play.at(4, Came(who=who)) == [Joined(at=T0 + taken)]


def test_a_user_who_left_may_come_back_within_the_grace() -> None:
    play = joined()
    play.at(10, Went(who=USER))
    again = Participant(sid="PA_again", agent=False)
    play.at(15, Came(who=again))
    assert play.look(25, again) == []
    assert play.state.phase is Phase.ACTIVE


def test_it_ends_at_the_moment_its_user_left_once_a_look_shows_nobody() -> None:
    play = joined()
    play.at(10, Went(who=USER))
    assert play.at(20, Tick()) == []  # nobody has looked
    assert wants_look(play.state, T0 + 20)
    assert play.look(20.5) == [Ended(why=SessionEnd.USER_LEFT, at=T0 + 10)]
    assert play.look(30) == []


def test_without_webhooks_the_looks_alone_tell_the_same() -> None:
    play = Play()
    play.at(0, RoomMade(room_sid=ROOM))
    assert play.look(5) == []
    assert play.look(10, USER) == [Joined(at=T0 + 10)]
    assert play.look(15, USER) == []
    assert play.look(20) == []
    assert play.look(31) == [Ended(why=SessionEnd.USER_LEFT, at=T0 + 20)]


def test_nobody_within_the_time_to_join_is_a_timeout_but_not_while_livekit_is_away() -> None:
    play = Play()
    play.look(50)
    assert play.at(61, ServerAway(), Tick()) == []
    assert play.at(500, ServerAway(), Tick()) == []
    assert play.look(505) == [Ended(why=SessionEnd.NEVER_JOINED, at=T0 + 505)]


def test_who_joined_while_livekit_was_away_is_found_and_nothing_ends() -> None:
    play = Play()
    play.at(61, ServerAway(), Tick())
    who = Participant(sid="PA_user", agent=False, joined_at=T0 + 30)
    assert play.look(70, who) == [Joined(at=T0 + 30)]


def test_the_longest_duration_ends_it_whatever_livekit_says() -> None:
    play = joined()
    assert play.at(301.9, ServerAway(), Tick()) == []
    assert next_deadline(play.state) == T0 + 302
    assert play.at(302, Tick()) == [Ended(why=SessionEnd.MAX_DURATION, at=T0 + 302)]


def test_a_room_that_somebody_deleted_ends_it_at_once() -> None:
    play = joined()
    ended = play.at(9, RoomFinished(room_sid=ROOM, how=RoomEnd.DELETED))
    assert ended == [Ended(why=SessionEnd.ROOM_DELETED, at=T0 + 9)]


def test_a_user_who_was_removed_with_the_room_did_not_hang_up() -> None:
    play = joined()
    play.at(9, Went(who=USER, how=Leaving.REMOVED))
    ended = play.at(9, RoomFinished(room_sid=ROOM, how=RoomEnd.DELETED))
    assert ended == [Ended(why=SessionEnd.ROOM_DELETED, at=T0 + 9)]


def test_an_agent_that_deletes_the_room_after_its_user_left_changes_nothing() -> None:
    play = joined(agent=True)
    play.at(9, Went(who=USER))
    ended = play.at(10, RoomFinished(room_sid=ROOM, how=RoomEnd.DELETED))
    assert ended == [Ended(why=SessionEnd.USER_LEFT, at=T0 + 9)]


def test_a_room_of_an_earlier_life_of_the_server_ends_nothing() -> None:
    play = joined()
    play.look(20, Participant(sid="PA_2", agent=False), room="RM_2")
    assert play.at(21, RoomFinished(room_sid=ROOM, how=RoomEnd.EMPTY)) == []
    assert play.state.phase is Phase.ACTIVE


def test_a_server_that_came_back_without_the_room_drops_it_after_a_while() -> None:
    play = joined()
    play.at(10, ServerAway())
    assert play.look(15, room=None) == []
    assert play.look(44, room=None) == []
    assert play.look(46, room=None) == [Ended(why=SessionEnd.ROOM_LOST, at=T0 + 15)]


def test_a_server_that_came_back_sends_for_the_agent_again_once() -> None:
    play = joined(wants_agent=True, agent=True)
    play.at(10, ServerAway())
    play.look(15, room=None)
    again = Participant(sid="PA_2", agent=False)
    assert play.look(20, again, room="RM_2") == [RoomWanted(there=True)]
    assert play.look(25, again, room="RM_2") == []
    assert play.look(30, again, AGENT, room="RM_2") == []
    assert play.look(60, again, AGENT, room="RM_2") == []


def test_a_room_that_is_gone_before_its_user_came_is_made_again() -> None:
    play = Play(wants_agent=True)
    play.at(0, RoomMade(room_sid=ROOM))
    assert play.at(5, RoomFinished(room_sid=ROOM, how=RoomEnd.SERVER)) == []
    assert play.look(10, room=None) == [RoomWanted(there=False)]


def test_an_agent_that_never_comes_fails_it() -> None:
    play = joined(wants_agent=True)
    assert play.look(21, USER) == []
    assert play.look(22.5, USER) == [Ended(why=SessionEnd.NO_AGENT, at=T0 + 22.5)]


def test_without_an_agent_wanted_nobody_waits_for_one() -> None:
    play = joined()
    assert play.look(100, USER) == []


@pytest.mark.parametrize(
    ("how", "why"),
    [(Leaving.WANTED, SessionEnd.AGENT_GONE), (Leaving.FAILED, SessionEnd.AGENT_LOST)],
)
def test_an_agent_that_goes_ends_it(how: Leaving, why: SessionEnd) -> None:
    play = joined(wants_agent=True, agent=True)
    play.at(10, Went(who=AGENT, how=how))
    assert play.look(15, USER) == []
    assert play.look(21, USER) == [Ended(why=why, at=T0 + 21)]


def test_a_look_asked_for_just_before_a_webhook_does_not_contradict_it() -> None:
    play = Play()
    play.at(5.2, Came(who=USER))
    late = Looked(asked_at=T0 + 5.1, room_sid=ROOM, present=())
    assert play.at(5.3, late) == []
    assert play.state.users_since is None


def test_what_a_webhook_said_is_not_contradicted_by_a_list_that_lags() -> None:
    play = joined()
    play.at(10, Went(who=USER))
    assert play.look(11, USER) == []
    assert play.look(21, USER) == [Ended(why=SessionEnd.USER_LEFT, at=T0 + 10)]


def test_an_older_look_that_took_longer_changes_nothing() -> None:
    play = joined()
    play.look(20, USER)
    assert play.at(21, Looked(asked_at=T0 + 10, room_sid=None)) == []
    assert play.state.room_since is None


def test_after_a_restart_the_first_look_tells_who_is_there() -> None:
    state = restored_state(
        created_at=T0, joined_at=T0 + 2, max_duration=300, wants_agent=True, timing=TIMING,
        wall=T0 + 100,
    )  # fmt: skip
    play = Play(state)
    assert play.look(101, USER, AGENT) == []
    assert play.look(200, USER, AGENT) == []
    assert play.state.phase is Phase.ACTIVE


@pytest.mark.parametrize("room", [ROOM, None])
def test_after_a_restart_a_user_who_is_gone_has_left(room: str | None) -> None:
    state = restored_state(
        created_at=T0, joined_at=T0 + 2, max_duration=300, wants_agent=False, timing=TIMING,
        wall=T0 + 100,
    )  # fmt: skip
    play = Play(state)
    assert play.look(101, room=room) == []
    (end,) = play.look(112, room=room)
    assert isinstance(end, Ended)
    assert end.why is SessionEnd.USER_LEFT


def test_a_room_that_people_come_and_go_in_is_remembered_within_bounds() -> None:
    play = joined()
    for n in range(3 * STAYS_KEPT):
        who = Participant(sid=f"PA_{n}", agent=False)
        play.at(3 + n * 0.01, Came(who=who), Went(who=who))
    assert len(play.state.stays) <= STAYS_KEPT
    assert play.state.users_since is None  # the first one never left
    assert play.look(60, USER) == []


WEBHOOKS: list[Input] = [
    Came(who=AGENT),
    Came(who=USER),
    Went(who=AGENT),
    Went(who=USER),
    RoomFinished(room_sid=ROOM, how=RoomEnd.EMPTY),
]


@given(st.permutations(WEBHOOKS), st.booleans())
def test_the_webhooks_of_one_visit_end_the_same_in_any_order(
    order: list[Input], made: bool
) -> None:
    play = Play()
    if made:
        play.at(0, RoomMade(room_sid=ROOM))
    for n, event in enumerate(order):
        play.at(1 + n, event)
    play.look(120, room=None)
    assert [type(one) for one in play.out if not isinstance(one, RoomWanted)] == [Joined, Ended]
    (end,) = play.ends
    assert status_of(Result(session_outcome(end.why, joined=True).outcome), "") == "completed"


INPUTS = st.one_of(
    st.sampled_from(WEBHOOKS),
    st.sampled_from(
        [
            Tick(),
            ServerAway(),
            RoomMade(room_sid=ROOM),
            RoomMade(room_sid="RM_2"),
            RoomFinished(room_sid=ROOM, how=RoomEnd.SERVER),
            RoomFinished(room_sid="RM_9", how=RoomEnd.DELETED),
            RoomFinished(room_sid=ROOM, how=RoomEnd.UNKNOWN),
            Went(who=USER, how=Leaving.REMOVED),
            EndAsked(why=SessionEnd.DELETED),
        ]
    ),
    st.builds(
        Looked,
        asked_at=st.floats(T0, T0 + 1000),
        room_sid=st.sampled_from([None, ROOM, "RM_2"]),
        present=st.lists(st.sampled_from([USER, AGENT]), max_size=2, unique=True),
    ),
)


@given(
    st.lists(st.tuples(st.floats(0, 30), INPUTS), max_size=30),
    st.booleans(),
)
def test_whatever_is_told_it_is_joined_at_most_once_and_ends_at_most_once(
    told: list[tuple[float, Input]], wants_agent: bool
) -> None:
    play = Play(wants_agent=wants_agent)
    now = 0.0
    for pause, event in told:
        now += pause
        play.at(now, event)
    kinds = [type(one) for one in play.out]
    assert kinds.count(Joined) <= 1
    assert kinds.count(Ended) <= 1
    if Ended in kinds:
        assert kinds[-1] is Ended
        assert play.state.phase is Phase.ENDED
        assert T0 <= play.ends[0].at <= T0 + now
        assert next_deadline(play.state) is None
    elif play.state.joined_at is None:
        assert next_deadline(play.state) == T0 + 60


@given(st.lists(st.tuples(st.floats(0, 30), INPUTS), max_size=30))
def test_whatever_was_told_a_look_at_an_empty_house_ends_it(
    told: list[tuple[float, Input]],
) -> None:
    play = Play(wants_agent=True)
    now = 0.0
    for pause, event in told:
        now += pause
        play.at(now, event)
    for later in range(1, 5):
        play.look(max(now, 1000) + later * 100, room=None)
    assert len(play.ends) == 1


@pytest.mark.parametrize("why", list(SessionEnd))
def test_a_session_that_nobody_joined_never_has_the_outcome_completed(why: SessionEnd) -> None:
    assert session_outcome(why, joined=False).outcome is not Result.COMPLETED


def test_a_session_deleted_before_its_user_came_is_marked_completed() -> None:
    found = session_outcome(SessionEnd.DELETED, joined=False)
    assert status_of(found.outcome, found.reason) == "completed"


def test_a_session_that_was_never_joined_is_a_timeout() -> None:
    found = session_outcome(SessionEnd.NEVER_JOINED, joined=False)
    assert status_of(found.outcome, found.reason) == "timeout"
