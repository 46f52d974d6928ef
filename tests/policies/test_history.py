"""Histories: what is remembered of a user and an account, and that it stays small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.gates import Situation
from policies.history import (
    CONFIRMING,
    ENGAGING,
    OFFERS_MAX,
    TIMES_MAX,
    TRACKS_MAX,
    Chosen,
    Memory,
    released,
    relevant,
    report,
    reserve,
)
from policies.model import (
    NO_HISTORY,
    Decision,
    EventKind,
    History,
    Lease,
    Opportunity,
    Outcome,
    OutcomeKind,
    Preferences,
    Reservation,
    Session,
    Snooze,
    Stuck,
    Subject,
    Tally,
    Track,
)

DAY = 86_400_000
TEA = Subject("tea", "bold", "home", ("hot",), 1.0)
JAM = Subject("jam", "bold", "home", ("sweet", "red"), 1.0)
MEMORY = Memory(window_ms=35 * DAY)
COARSE = MEMORY._replace(shared=False, fine=False)
MORE: list[OutcomeKind] = [
    "not_shown",
    "converted",
    "refunded",
    "downgraded",
    "churned",
]


def decision(
    name: str = "d", at_ms: int = 1_000, until_ms: int = 2_000, session: str = ""
) -> Decision:
    return Decision(
        opportunity=Opportunity(name, at_ms, "ada", ("home",), session_id=session),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=(0, 1),
        probabilities=(0, 10**9),
        chosen=1,
        valid_until_ms=until_ms,
    )


def hold(
    history: History,
    made: Decision,
    chosen: Chosen | Subject = TEA,
    memory: Memory = MEMORY,
    *,
    account: bool = False,
) -> History:
    if isinstance(chosen, Subject):
        chosen = Chosen(chosen)
    return reserve(history, chosen, made, memory, account=account)


def tell(
    history: History,
    kind: OutcomeKind,
    at_ms: int = 1_100,
    name: str = "d",
    chosen: Chosen | Subject = TEA,
    *,
    memory: Memory = MEMORY,
    until_ms: int | None = None,
    confirmed: bool = False,
    account: bool = False,
) -> History:
    outcome = Outcome("o", kind, at_ms, snoozed_until_ms=until_ms)
    if isinstance(chosen, Subject):
        chosen = Chosen(chosen)
    return report(
        history, chosen, name, outcome, memory, confirmed=confirmed, account=account
    )


def tallies(history: History, subject: Subject = TEA) -> dict[EventKind, Tally]:
    """Return what is remembered of a subject."""
    found = [track.tallies for track in history.tracks if track.subject == subject]
    return found[0] if found else {}


HELD = hold(History(), decision())


# --- What was decided, and what became of it ----------------------------------------


def test_what_is_decided_is_held_until_it_may_not_be_shown() -> None:
    assert HELD.reservations == (Reservation(2_000, "d", TEA),)
    assert HELD.tracks == ()

    later = hold(HELD, decision("e", 1_999, 3_000), JAM)
    last = hold(later, decision("f", 2_000, 3_000), JAM)

    assert [r.decision_id for r in later.reservations] == ["d", "e"]
    assert [r.decision_id for r in last.reservations] == ["e", "f"]


def test_a_report_may_take_its_time_to_arrive() -> None:
    held = hold(History(), decision(), Chosen(TEA, grace_ms=500))

    assert held.reservations[0].until_ms == 2_500


@pytest.mark.parametrize("kind", sorted(CONFIRMING))
def test_what_only_a_shown_offer_can_have_makes_it_count_as_shown(
    kind: OutcomeKind,
) -> None:
    after = tell(HELD, kind)

    assert after.reservations == ()
    assert tallies(after)["shown"] == Tally((1_100,))
    # It does so once, whatever else is said of the same decision.
    again = tell(after, kind, 1_200, confirmed=True)
    assert tallies(again)["shown"] == Tally((1_100,))


@pytest.mark.parametrize("kind", [kind for kind in MORE if kind != "not_shown"])
def test_what_can_be_without_an_offer_says_nothing_about_it(kind: OutcomeKind) -> None:
    assert tell(HELD, kind) == HELD


def test_what_was_not_shown_is_free_unless_it_was() -> None:
    shown = tell(HELD, "shown")

    assert tell(HELD, "not_shown") == History()
    assert tell(shown, "not_shown", confirmed=True) == shown
    assert tell(HELD, "not_shown", name="other") == HELD
    assert tell(tell(HELD, "not_shown"), "shown") == shown


def test_a_decision_is_freed_of_what_it_has_reserved_itself() -> None:
    both = hold(HELD, decision("e"), JAM)

    assert [r.decision_id for r in released(both, "d").reservations] == ["e"]
    assert released(both, "other") is both


def test_what_does_not_count_is_not_counted() -> None:
    free = Chosen(TEA, counted=False)
    history = tell(hold(History(), decision(), free), "dismissed", chosen=free)

    # But that it was waved away is remembered.
    assert history.reservations == ()
    assert tallies(history) == {"dismissed": Tally((1_100,))}


@pytest.mark.parametrize("kind", ["clicked", "accepted", "dismissed"])
def test_what_a_user_did_is_remembered_each_time(kind: EventKind) -> None:
    once = tell(HELD, kind, 1_500)  # type: ignore[arg-type] # They are outcomes.
    twice = tell(once, kind, 1_200, "e")  # type: ignore[arg-type]

    assert tallies(twice)[kind] == Tally((1_200, 1_500))
    assert tallies(twice)["shown"] == Tally((1_200, 1_500))


def test_decisions_are_counted_where_something_counts_them() -> None:
    counting = MEMORY._replace(decided=True)

    counted = hold(History(), decision(), memory=counting)

    assert tallies(counted) == {"decided": Tally((1_000,))}
    assert tallies(tell(counted, "not_shown")) == {"decided": Tally((1_000,))}


def test_each_wording_at_each_place_is_remembered_as_it_was_then() -> None:
    moved = msgspec.structs.replace(TEA, categories=("sweet",), weight=3.0)

    history = tell(tell(History(), "shown"), "shown", 1_200, chosen=moved)

    assert [track.subject for track in history.tracks] == [TEA, moved]


def test_what_goes_in_is_not_changed() -> None:
    before = msgspec.json.encode(HELD)

    tell(HELD, "dismissed")
    hold(HELD, decision("e"), JAM)

    assert msgspec.json.encode(HELD) == before


# --- What follows from it -----------------------------------------------------------


def test_interest_ends_a_row_of_ignored_offers() -> None:
    history = History()
    for number in range(3):
        history = tell(history, "shown", number, f"{number}")

    assert history.ignored == 3
    assert tell(history, "viewed", 9, "2", confirmed=True).ignored == 3
    assert tell(history, "dismissed", 9, "3").ignored == 4
    for kind in sorted(ENGAGING):
        assert tell(history, kind, 9, "0", confirmed=True).ignored == 0
        assert tell(history, kind, 9, "3").ignored == 0


def test_a_snoozed_offer_is_back_once_it_was_shown_again() -> None:
    snoozed = tell(History(), "snoozed", 1_000, until_ms=5_000)
    early = tell(snoozed, "shown", 4_999, "e")
    back = tell(early, "shown", 5_000, "f")

    assert snoozed.snoozes == early.snoozes == {"tea": Snooze(5_000, 1, 1_000)}
    assert back.snoozes == {"tea": Snooze(5_000, 1, 1_000, returned=True)}
    # Another offer does not bring it back.
    assert tell(early, "shown", 5_000, "f", JAM).snoozes == early.snoozes

    again = tell(back, "snoozed", 6_000, "g", until_ms=9_000)
    assert again.snoozes == {"tea": Snooze(9_000, 2, 6_000)}


def test_who_opts_out_of_an_offer_opts_out_of_its_kind() -> None:
    before = Preferences(opt_outs={"category:red": 5}, zone="Asia/Tokyo", version=2)

    out = tell(History(preferences=before), "opted_out", 1_000, chosen=JAM).preferences

    assert out.opt_outs == {
        "offer:jam": 1_000,
        "category:sweet": 1_000,
        "category:red": 5,
    }
    assert (out.zone, out.version) == ("Asia/Tokyo", 3)


SALE = Chosen(TEA, grants=("pot", "cup"), shared=("pot",), pending_ms=100)


def test_what_is_accepted_is_about_to_be_owned_for_a_while() -> None:
    sold = tell(History(), "accepted", 1_000, chosen=SALE)
    later = tell(sold, "accepted", 1_100, "e", Chosen(JAM, True, ("jar",), (), 50))

    assert sold.state.pending == {"pot": 1_100, "cup": 1_100}
    assert later.state.pending == {"jar": 1_150}
    assert tell(sold, "refunded", 1_050, chosen=SALE).state.pending == {}
    assert tell(sold, "downgraded", 1_050, chosen=SALE).state.pending == {}
    assert tell(sold, "refunded", 1_050, chosen=JAM) == sold


def test_what_was_accepted_last_counts_whenever_it_is_heard_of() -> None:
    late = tell(History(), "accepted", 1_050, "e", SALE)

    assert tell(late, "accepted", 1_000, "d", SALE).state.pending["pot"] == 1_150


def test_a_visit_begins_with_its_first_decision() -> None:
    history = hold(History(), decision(session="a"))
    for number in range(2, 12):
        history = hold(history, decision(f"{number}", number * 1_000, session="b"))
    assert history.sessions == (Session("a", 1_000), Session("b", 2_000))

    # The next day it begins anew.
    again = hold(history, decision("z", 1_000 + DAY, session="a"))
    assert again.sessions == (Session("b", 2_000), Session("a", 1_000 + DAY))


def test_a_visit_that_may_have_been_forgotten_counts_from_the_first_known() -> None:
    history = History()
    for number in range(60):
        history = hold(history, decision(f"{number}", number, session=f"v{number}"))
    assert len(history.sessions) == 50

    sliced = relevant(history, 100, MEMORY, session_id="v0")
    assert sliced.sessions == (Session("v0", 0),)


def test_a_placement_keeps_to_a_decision_until_it_was_answered() -> None:
    sticky = Chosen(TEA, sticky_ms=500)
    stuck = hold(History(), decision("d", 1_000, 2_000), sticky)
    assert stuck.stuck == (Stuck("home", "d", 1_500),)

    long = hold(History(), decision("d", 1_000, 1_100), sticky)
    assert long.stuck == (Stuck("home", "d", 1_100),)

    for kind in [*sorted(CONFIRMING), *MORE]:
        kept = stuck.stuck if kind in ("shown", "viewed") else ()
        assert tell(stuck, kind).stuck == kept
        assert tell(stuck, kind, name="other").stuck == stuck.stuck
    # What is over by itself goes when there is another.
    later = hold(stuck, decision("e", 1_500, 2_000), sticky)
    assert later.stuck == (Stuck("home", "e", 2_000),)


# --- The account --------------------------------------------------------------------


def test_an_account_remembers_what_all_its_users_have_seen_and_will_have() -> None:
    visit = decision(session="a")
    chosen = SALE._replace(sticky_ms=9)

    account = hold(History(), visit, chosen, account=True)
    account = tell(account, "accepted", 1_000, chosen=chosen, account=True)

    assert tallies(account) == {"shown": Tally((1_000,)), "accepted": Tally((1_000,))}
    assert account.state.pending == {"pot": 1_100}
    # What one user sees, says and wants is not what the others do.
    kinds: list[OutcomeKind] = ["snoozed", "opted_out", "ignored", "dismissed"]
    for kind in kinds:
        account = tell(account, kind, 2_000, "e", chosen, until_ms=3_000, account=True)
    assert account.snoozes == {}
    assert account.preferences == Preferences()
    assert account.ignored == 0
    assert account.sessions == ()
    assert account.stuck == ()


# --- How much of it -----------------------------------------------------------------


def test_a_tally_keeps_the_latest_times_and_the_number_of_the_others() -> None:
    history = History()
    for at_ms in range(3 * TIMES_MAX):
        history = tell(history, "shown", at_ms)

    many = tallies(history)["shown"]
    assert many.times == tuple(range(2 * TIMES_MAX, 3 * TIMES_MAX))
    assert (many.past, many.past_ms) == (2 * TIMES_MAX, 2 * TIMES_MAX - 1)

    # Beyond what any cap counts, a number is enough.
    later = tell(history, "shown", 35 * DAY + 250)
    assert tallies(later)["shown"] == Tally(
        (*range(251, 300), 35 * DAY + 250), 251, 250
    )


def test_no_offer_that_was_seen_is_forgotten_among_hundreds_of_others() -> None:
    history = tell(History(), "dismissed", 0, chosen=TEA)
    for at_ms in range(1, TRACKS_MAX + 100):
        other = Subject(f"{at_ms}", "", "")
        history = tell(history, "shown", at_ms + 40 * DAY, chosen=other)

    assert tallies(history)["dismissed"] == Tally((), 1, 0)


def test_beyond_thousands_of_offers_the_longest_untouched_is_forgotten() -> None:
    tracks = [
        Track(Subject(f"{n}", "", ""), {"shown": Tally((), 1, n)})
        for n in range(OFFERS_MAX)
    ]
    history = tell(History(tracks=tuple(tracks)), "shown", OFFERS_MAX, chosen=TEA)

    assert len(history.tracks) == OFFERS_MAX
    assert history.tracks[0].subject.offer_id == "1"


def test_beyond_the_bound_old_wordings_of_an_offer_are_taken_together() -> None:
    history = History()
    for number in range(TRACKS_MAX + 50):
        wording = Subject("tea", f"{number}", "home", (f"{number % 3}",), number % 4)
        history = tell(history, "shown", number, chosen=wording)
    late = Subject("tea", "late", "home")
    history = tell(history, "shown", 50 * DAY, chosen=late)

    # Nothing is lost, and it counts wherever any of it would; what has times counts as
    # what it was.
    old, new = history.tracks
    assert old.tallies["shown"] == Tally((), TRACKS_MAX + 50, TRACKS_MAX + 49)
    assert set(old.subject.categories) == {"0", "1", "2"}
    assert old.subject.weight == 3
    assert new == Track(late, {"shown": Tally((50 * DAY,))})


def test_what_is_old_is_kept_once_an_offer_where_nothing_looks_closer() -> None:
    calm = msgspec.structs.replace(TEA, creative_id="calm")
    history = History()
    for at_ms, subject in enumerate((TEA, JAM, calm, JAM)):
        history = tell(history, "dismissed", at_ms, f"{at_ms}", subject, memory=COARSE)

    later = tell(history, "shown", 40 * DAY, "e", calm, memory=COARSE)

    assert later.tracks == (
        Track(JAM, {"shown": Tally((), 2, 3), "dismissed": Tally((), 2, 3)}),
        Track(calm, {"shown": Tally((40 * DAY,), 2, 2), "dismissed": Tally((), 2, 2)}),
    )
    # Where a cap for life counts a wording by itself, it stays by itself.
    finer = tell(history, "shown", 40 * DAY, "e", calm, memory=MEMORY)
    assert [track.subject for track in finer.tracks] == [TEA, JAM, calm]


def test_of_one_subject_as_many_are_reserved_as_a_cap_may_count() -> None:
    history = hold(History(), decision("once", 0, 20_000), Chosen(JAM))
    for number in range(450):
        history = hold(history, decision(f"{number}", 0, 10_000 + number))

    # Those that end first are missed the least, and of no other subject.
    ends = [r.until_ms for r in history.reservations]
    assert ends == [20_000, *range(10_350, 10_450)]


def test_no_snooze_that_runs_is_forgotten() -> None:
    history = History()
    for number in range(300):
        subject = Subject(f"{number}", "", "")
        history = tell(history, "snoozed", 0, "d", subject, until_ms=1_000 + number)
    assert len(history.snoozes) == 300

    much_later = tell(history, "snoozed", 400 * DAY, "d", TEA, until_ms=500 * DAY)
    assert [*much_later.snoozes] == ["tea"]


def test_what_was_accepted_is_pending_however_much_there_is() -> None:
    history = History()
    for number in range(300):
        sale = Chosen(TEA, grants=(f"{number}",), pending_ms=1_000 + number)
        history = tell(history, "accepted", 0, chosen=sale)

    assert len(history.state.pending) == 300


# --- What it is for: counting -------------------------------------------------------

SUBJECTS = [
    Subject(offer, creative, place, ("hot",))
    for offer in ("tea", "jam")
    for creative in ("bold", "calm")
    for place in ("home", "till")
]
Event = tuple[EventKind, int, Subject]
events: st.SearchStrategy[Event] = st.tuples(
    st.sampled_from(["shown", "clicked", "dismissed"]),
    st.integers(0, 100 * DAY) | st.integers(0, 20).map(lambda n: n * 5 * DAY),
    st.sampled_from(SUBJECTS),
)


def folded(told: Iterable[Event], memory: Memory) -> History:
    history = NO_HISTORY
    for number, (kind, at_ms, subject) in enumerate(told):
        # Told one by one, so that a click does not count as shown, too.
        outcome: OutcomeKind = "shown" if kind == "shown" else kind  # type: ignore[assignment]
        history = tell(
            history,
            outcome,
            at_ms,
            f"{number}",
            subject,
            memory=memory,
            confirmed=kind != "shown",
        )
    return history


def counted(
    history: History, kind: EventKind, now_ms: int, since_ms: int
) -> list[Subject]:
    asked = Opportunity("d", now_ms, "ada", ("home",))
    happenings = Situation(asked, history).happenings(kind)
    return [h.subject for h in happenings if h.at_ms > since_ms]


@settings(deadline=None)
@given(
    told=st.lists(events, max_size=25),
    window_ms=st.sampled_from([DAY, 30 * DAY, 35 * DAY]),
    memory=st.sampled_from([MEMORY, COARSE]),
)
def test_nothing_is_ever_counted_less_than_it_happened(
    told: list[Event], window_ms: int, memory: Memory
) -> None:
    # Given what is remembered of all that happened, told in whatever order
    history = folded(told, memory)
    now_ms = max([at_ms for _, at_ms, _ in told], default=0)

    for kind in ("shown", "clicked", "dismissed"):
        mine: list[tuple[int, Subject]] = [(at, s) for k, at, s in told if k == kind]
        # Then in a window every subject counts as often as it happened, or more,
        since_ms = now_ms - window_ms
        seen = counted(history, kind, now_ms, since_ms)
        for subject in SUBJECTS:
            real = sum(s == subject and at > since_ms for at, s in mine)
            assert seen.count(subject) >= real
        # and for life every offer counts exactly as often.
        ever = counted(history, kind, now_ms, -1)
        assert by_offer(ever) == by_offer([s for _, s in mine])


def by_offer(subjects: Sequence[Subject]) -> list[str]:
    return sorted(subject.offer_id for subject in subjects)


@settings(deadline=None)
@given(told=st.lists(events, max_size=25), memory=st.sampled_from([MEMORY, COARSE]))
def test_in_time_order_windows_are_counted_exactly(
    told: list[Event], memory: Memory
) -> None:
    told = sorted(told, key=lambda event: event[1])
    history = folded(told, memory)
    now_ms = max([at_ms for _, at_ms, _ in told], default=0)

    for kind in ("shown", "clicked", "dismissed"):
        since_ms = now_ms - MEMORY.window_ms
        real = [s for k, at, s in told if k == kind and at > since_ms]
        seen = counted(history, kind, now_ms, since_ms)
        assert sorted(seen, key=repr) == sorted(real, key=repr)


TOLD: list[tuple[str, Subject, int, OutcomeKind]] = [
    ("a", TEA, 3, "shown"),
    ("b", TEA, 1, "dismissed"),
    ("c", JAM, 2, "clicked"),
    ("d", JAM, 2, "snoozed"),
    ("e", TEA, 9, "accepted"),
    ("f", TEA, 7, "opted_out"),
    ("g", JAM, 5, "not_shown"),
    ("h", JAM, 8, "snoozed"),
]


@given(st.permutations(TOLD))
def test_the_order_in_which_decisions_are_heard_of_does_not_matter(
    told: list[tuple[str, Subject, int, OutcomeKind]],
) -> None:
    history = History()
    for name, _, _, _ in TOLD:
        history = hold(history, decision(name))
    for name, subject, at_ms, kind in told:
        sale = Chosen(subject, grants=("pot",), pending_ms=50)
        history = tell(history, kind, at_ms, name, sale, until_ms=100 + at_ms)

    assert tallies(history) == {
        "shown": Tally((1, 3, 7, 9)),
        "dismissed": Tally((1,)),
        "accepted": Tally((9,)),
    }
    assert tallies(history, JAM) == {
        "shown": Tally((2, 2, 8)),
        "clicked": Tally((2,)),
    }
    assert history.reservations == ()
    assert history.snoozes == {"jam": Snooze(108, 2, 8)}
    assert history.state.pending == {"pot": 59}
    assert history.preferences.opt_outs == {"offer:tea": 7, "category:hot": 7}


# --- What is logged of it -----------------------------------------------------------

LONG = History(
    tracks=(Track(TEA, {"shown": Tally((1,))}), Track(JAM, {"shown": Tally((2,))})),
    reservations=(Reservation(100, "d", TEA), Reservation(101, "e", TEA)),
    snoozes={"jam": Snooze(7, 1, 3)},
    sessions=(Session("a", 1), Session("b", 2)),
    stuck=(Stuck("home", "d", 900),),
    leases={"pay": Lease(100), "call": Lease(101)},
    preferences=Preferences(opt_outs={"all": 1}),
)


def test_only_what_a_gate_can_look_at_is_logged() -> None:
    wide = relevant(LONG, 100, MEMORY, session_id="b")
    narrow = relevant(LONG, 100, MEMORY._replace(wide=False), offers=["jam"])
    account = relevant(LONG, 100, COARSE, account=True)

    assert wide.tracks == LONG.tracks
    assert wide.reservations == (Reservation(101, "e", TEA),)
    assert wide.sessions == (Session("b", 2),)
    assert wide.stuck == ()
    assert wide.leases == {"call": Lease(101)}
    assert (wide.snoozes, wide.preferences) == (LONG.snoozes, LONG.preferences)
    assert [track.subject for track in narrow.tracks] == [JAM]
    assert narrow.sessions == ()
    assert account.tracks == ()


def test_of_nothing_nothing_is_logged() -> None:
    over = History(reservations=(Reservation(100, "d", TEA),))

    assert relevant(NO_HISTORY, 100, MEMORY) is NO_HISTORY
    assert relevant(History(), 100, MEMORY) is NO_HISTORY
    assert relevant(over, 100, MEMORY) is NO_HISTORY
    assert relevant(over, 99, MEMORY) == over
