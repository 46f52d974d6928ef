"""Profiles: what a product tells of its users, and what is remembered of it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import (
    Command,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.errors import InvalidRequestError
from policies.model import (
    NO_HISTORY,
    History,
    Lease,
    LifeState,
    Preferences,
    QuietHours,
    State,
)
from policies.profiles import apply

DAY = 86_400_000


def told(*commands: Command, history: History = NO_HISTORY) -> History:
    for command in commands:
        history = apply(history, command)
    return history


# --- State --------------------------------------------------------------------------


def test_what_is_not_said_stays_as_it_is() -> None:
    known = StateChange(at_ms=1, role="admin", engagement="low", value_discovered=True)

    state = told(known, StateChange(at_ms=2)).state

    assert state == State(role="admin", engagement="low", value_discovered=True)
    changed = told(StateChange(at_ms=3, role="", engagement=""), history=told(known))
    assert changed.state == State(value_discovered=True)


def test_a_product_is_owned_since_it_was_told_first() -> None:
    history = told(
        StateChange(at_ms=1, added=("tv",)),
        StateChange(at_ms=5, added=("tv", "box")),
        UserEvent(at_ms=7, kind="purchased", products=("tv", "disk")),
    )

    assert history.state.owned == {"tv": 1, "box": 5, "disk": 7}


@pytest.mark.parametrize(
    "gone",
    [
        StateChange(at_ms=9, removed=("tv",)),
        UserEvent(at_ms=9, kind="cancelled", products=("tv",)),
    ],
)
def test_what_is_given_up_is_not_owned_nor_about_to_be(gone: Command) -> None:
    history = told(
        StateChange(at_ms=1, added=("tv", "box")),
        StateChange(at_ms=2, pending=("tv", "disk"), pending_until_ms=50),
    )

    assert history.state.pending == {"tv": 50, "disk": 50}
    after = told(gone, history=history).state
    assert (after.owned, after.pending) == ({"box": 1}, {"disk": 50})


def test_what_has_come_is_no_longer_expected() -> None:
    history = told(StateChange(at_ms=1, pending=("tv",), pending_until_ms=50))

    after = told(StateChange(at_ms=2, added=("tv",)), history=history)

    assert (after.state.owned, after.state.pending) == ({"tv": 2}, {})


def test_nothing_that_is_owned_is_forgotten() -> None:
    many = tuple(f"{number}" for number in range(2_500))
    history = told(StateChange(at_ms=1, added=many))

    assert [*history.state.owned] == [*many]


# --- Life-states --------------------------------------------------------------------


def life(*changes: tuple[int, LifeChange]) -> LifeState:
    """Return what is known of a life-state after some changes, each at a time."""
    commands = [
        StateChange(at_ms=at_ms, life={"moving": change}) for at_ms, change in changes
    ]
    return told(*commands).state.life["moving"]


def test_a_life_state_begins_once_and_ends_when_that_is_said() -> None:
    begun = (1, LifeChange(active=True, until_ms=90, topics=("tv",)))
    on = (5, LifeChange(active=True, until_ms=95))
    over = (9, LifeChange(active=False, negative=True))

    assert life(begun) == LifeState(1, 90, topics=("tv",))
    assert life(begun, on) == LifeState(1, 95)
    assert life(begun, over) == LifeState(1, 90, 9, ("tv",), negative=True)
    # That it is over is said once, and what begins then is another one.
    again = (20, LifeChange(active=False))
    assert life(begun, over, again) == life(begun, over)
    anew = (30, LifeChange(active=True))
    assert life(begun, over, anew) == LifeState(30)


def test_what_has_run_out_begins_anew() -> None:
    begun = (1, LifeChange(active=True, until_ms=10))

    assert life(begun, (9, LifeChange(active=True))) == LifeState(1)
    assert life(begun, (10, LifeChange(active=True))) == LifeState(10)


def test_what_never_began_is_not_over() -> None:
    over = StateChange(at_ms=1, life={"moving": LifeChange(active=False)})

    assert told(over).state.life == {}


def test_an_open_ticket_is_a_life_state() -> None:
    opened = UserEvent(at_ms=3, kind="ticket_opened", categories=("seats",))
    closed = UserEvent(at_ms=8, kind="ticket_closed", negative=True)

    assert told(opened).state.life == {"support_open": LifeState(3, topics=("seats",))}
    assert told(opened, closed).state.life == {
        "support_open": LifeState(3, None, 8, ("seats",), negative=True)
    }
    # What it was about is known best in the end.
    about = msgspec.structs.replace(closed, categories=("disk",))
    assert told(opened, about).state.life["support_open"].topics == ("disk",)


def test_no_life_state_is_forgotten_that_may_still_bind() -> None:
    on, over = LifeChange(active=True), LifeChange(active=False)
    history = told(
        StateChange(at_ms=1, life={f"{number}": on for number in range(200)}),
        StateChange(at_ms=2, life={"0": over}),
    )
    more = StateChange(at_ms=3, life={"more": on})
    with pytest.raises(InvalidRequestError, match="201 at once; at most 200"):
        apply(history, more)

    # A year after it was over, there is room.
    later = told(StateChange(at_ms=400 * DAY, life={"more": on}), history=history)
    assert later.state.life.keys() >= {"1", "199", "more"}
    assert "0" not in later.state.life


# --- Preferences --------------------------------------------------------------------


def test_an_opt_out_lasts_until_it_is_taken_back() -> None:
    out = PreferencesChange(at_ms=1, opt_out=("category:tv", "offer:box"))
    more = PreferencesChange(at_ms=5, opt_out=("category:tv", "all"))
    back = PreferencesChange(at_ms=9, opt_in=("category:tv",))

    preferences = told(out, more).preferences
    assert preferences.opt_outs == {"category:tv": 1, "offer:box": 1, "all": 5}
    assert told(out, more, back).preferences.opt_outs == {"offer:box": 1, "all": 5}


def test_each_change_of_preferences_is_a_version_of_consent() -> None:
    change = PreferencesChange(at_ms=1, zone="Asia/Tokyo")

    assert [told(*[change] * count).preferences.version for count in range(4)] == [
        0,
        1,
        2,
        3,
    ]


def test_zone_and_quiet_hours_stay_until_others_are_named() -> None:
    night = QuietHours(22 * 60, 8 * 60)
    known = told(PreferencesChange(at_ms=1, zone="Asia/Tokyo", quiet=night))
    same = told(PreferencesChange(at_ms=2), history=known).preferences
    none = PreferencesChange(at_ms=3, zone="", quiet_cleared=True)

    assert (same.zone, same.quiet) == ("Asia/Tokyo", night)
    assert told(none, history=known).preferences == Preferences(version=2)


# --- Critical workflows -------------------------------------------------------------


def test_a_workflow_is_critical_until_it_is_over() -> None:
    pay = LeaseBegin(at_ms=1, key="pay", until_ms=50)
    call = LeaseBegin(at_ms=2, key="call", until_ms=20, inline=True)

    both = told(pay, call)
    assert both.leases == {"pay": Lease(50), "call": Lease(20, inline=True)}
    assert told(LeaseEnd(at_ms=3, key="pay"), history=both).leases == {
        "call": Lease(20, inline=True)
    }
    assert told(LeaseEnd(at_ms=3, key="other"), history=both) == both
    # Who says so again says until when.
    longer = LeaseBegin(at_ms=4, key="pay", until_ms=90)
    assert told(longer, history=both).leases["pay"] == Lease(90)
    # What has run out goes when another begins.
    later = told(LeaseBegin(at_ms=20, key="chat", until_ms=99), history=both)
    assert [*later.leases] == ["pay", "chat"]


def test_more_workflows_at_once_than_can_be_remembered_are_refused() -> None:
    history = told(
        *(
            LeaseBegin(at_ms=0, key=f"{number}", until_ms=100 + number)
            for number in range(50)
        )
    )
    more = LeaseBegin(at_ms=0, key="more", until_ms=10)
    with pytest.raises(InvalidRequestError, match="key: would make 51"):
        apply(history, more)

    # Once one is over, there is room.
    later = msgspec.structs.replace(more, at_ms=100, until_ms=200)
    assert len(apply(history, later).leases) == 50


# --- Events -------------------------------------------------------------------------


def test_a_contact_is_remembered_by_what_it_was_about() -> None:
    mail = UserEvent(at_ms=5, kind="contacted", categories=("seats", "disk"))
    late = UserEvent(at_ms=3, kind="contacted", categories=("disk",))
    call = UserEvent(at_ms=4, kind="contacted")

    history = told(mail, late, call)

    assert history.contacts == {"seats": 5, "disk": 5, "": 4}


@pytest.mark.parametrize(
    ("event", "negative"),
    [
        (UserEvent(at_ms=5, kind="complained"), True),
        (UserEvent(at_ms=5, kind="uninstalled"), True),
        (UserEvent(at_ms=5, kind="rated", score=0.49), True),
        (UserEvent(at_ms=5, kind="rated", score=0.0), True),
        (UserEvent(at_ms=5, kind="rated", score=0.5), False),
        (UserEvent(at_ms=5, kind="contacted"), False),
        (UserEvent(at_ms=5, kind="purchased", products=("tv",)), False),
    ],
)
def test_what_shows_displeasure_is_remembered(event: UserEvent, negative: bool) -> None:
    assert told(event).negative_ms == (5 if negative else None)
    # The latest counts, whenever it is heard of.
    assert told(event, history=History(negative_ms=9)).negative_ms == 9
    assert told(event, history=History(negative_ms=1)).negative_ms == (
        5 if negative else 1
    )


commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        StateChange,
        at_ms=st.integers(0, 99),
        added=st.just(("tv",)),
        life=st.just({"moving": LifeChange(active=True)}),
    ),
    st.builds(PreferencesChange, at_ms=st.integers(0, 99), opt_out=st.just(("all",))),
    st.builds(
        LeaseBegin, at_ms=st.integers(0, 99), key=st.just("k"), until_ms=st.just(9)
    ),
    st.builds(LeaseEnd, at_ms=st.integers(0, 99), key=st.just("k")),
    st.builds(
        UserEvent,
        at_ms=st.integers(0, 99),
        kind=st.sampled_from(["contacted", "complained", "ticket_opened"]),
    ),
)


@given(st.lists(commands, max_size=5), commands)
def test_a_command_is_read_back_and_what_goes_in_is_not_changed(
    earlier: list[Command], command: Command
) -> None:
    history = told(*earlier)
    before = msgspec.json.encode(history)

    after = apply(history, command)

    assert msgspec.json.encode(history) == before
    text = msgspec.json.encode(command)
    again = msgspec.json.decode(text, type=Command)
    assert again == command
    assert apply(history, again) == after
