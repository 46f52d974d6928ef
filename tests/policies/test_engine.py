"""The engine: what may be chosen, and why nothing is shown."""

from __future__ import annotations

import msgspec
import pytest

from policies.catalogue import Catalogue, read
from policies.engine import (
    Past,
    Silence,
    decide,
    eligible,
    explain,
    silence,
)
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Conditions,
    Context,
    Decision,
    History,
    Lease,
    Moment,
    Opportunity,
    Preferences,
    Rejection,
    Reservation,
    Snooze,
    State,
    Stuck,
    Subject,
    Tally,
    Track,
)
from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    Policy,
    PolicySettings,
)
from tests.policies.shops import DAY, HOUR, NOW, asked

ANY = Policy(PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=1.0)))


def shown(*times: int, offer: str = "tea") -> Track:
    return Track(Subject(offer, "default", "home"), {"shown": Tally(times)})


def could(catalogue: Catalogue, past: Past, question: Opportunity) -> list[str]:
    """Return the names of what may be chosen, but for no offer."""
    actions, _ = eligible(question, catalogue, past)
    return [action.name for action in actions[NO_OFFER + 1 :]]


SEEN = Past(History((shown(NOW - 1),)))

# --- Why nothing is shown -----------------------------------------------------------

SHOP = read(
    """
    [placements.home]
    [placements.till]
    [offers.tea]
    placements = ["home", "till"]
    caps = [{ limit = 1, window = "1d" }]
    dismissal_cool_down = "3d"
    [offers.oats]
    placements = ["home"]
    eligible = "segment == 'new'"
    [offers.past]
    placements = ["till"]
    end = 1970-01-02T00:00:00Z
    [offers.soon]
    placements = ["till"]
    start = 2099-01-01T00:00:00Z
    """
)


def test_where_nothing_may_be_chosen_each_candidate_says_why() -> None:
    question = asked(0, "home", "till")

    verdict = decide(question, catalogue=SHOP, past=SEEN, policy=ANY)

    soon_ms = 4_070_908_800_000
    assert verdict.decision.actions == (NO_OFFER,)
    assert verdict.rejections == (
        Rejection(
            "tea", "default", "home", "FREQUENCY_CAP", "offer_cap", NOW - 1 + DAY
        ),
        Rejection(
            "tea", "default", "till", "FREQUENCY_CAP", "offer_cap", NOW - 1 + DAY
        ),
        Rejection("oats", "default", "home", "NOT_ELIGIBLE", "eligible"),
        Rejection("past", "default", "till", "EXPIRED", "dates"),
        Rejection("soon", "default", "till", "NOT_STARTED", "dates", soon_ms),
    )
    assert silence(*verdict) == Silence("FREQUENCY_CAP", NOW - 1 + DAY)


def test_where_something_may_be_chosen_nobody_asks_for_reasons() -> None:
    question = asked(0, "home", "till", context=Context(segment="new"))

    verdict = decide(question, catalogue=SHOP, past=SEEN, policy=ANY)

    assert verdict.rejections == ()
    assert could(SHOP, SEEN, question) == ["oats/default/home"]


def test_who_wants_no_reasons_gets_the_same_decision_without_them() -> None:
    question = asked(0, "home", "till")

    verdict = decide(question, catalogue=SHOP, past=SEEN, policy=ANY, told=False)

    full = decide(question, catalogue=SHOP, past=SEEN, policy=ANY)
    assert full.rejections
    assert verdict == (full.decision, ())


def test_when_an_offer_is_eligible_again_depends_on_all_its_gates() -> None:
    tallies = {"shown": Tally((NOW - 1,)), "dismissed": Tally((NOW - 1,))}
    dismissed = Past(History((Track(Subject("tea", "default", "home"), tallies),)))  # type: ignore[arg-type]

    _, rejections = eligible(asked(), SHOP, dismissed)

    assert rejections[0] == Rejection(
        "tea", "default", "home", "DISMISSED", "dismissal", NOW - 1 + 3 * DAY
    )


def test_where_there_is_no_candidate_it_is_said_why_there_is_none() -> None:
    catalogue = read(
        """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        moments = ["renewal"]
        [offers.jam]
        placements = ["home"]
        state = "paused"
        """
    )

    verdict = decide(asked(), catalogue=catalogue, past=Past(), policy=ANY)

    reasons = [(r.offer_id, r.reason, r.gate) for r in verdict.rejections]
    assert reasons == [
        ("tea", "NOT_ELIGIBLE", "moments"),
        ("jam", "PAUSED", "lifecycle"),
    ]


def decision_between(probabilities: tuple[int, ...]) -> Decision:
    return Decision(
        opportunity=asked(),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=tuple(range(len(probabilities))),
        probabilities=probabilities,
        chosen=NO_OFFER,
        valid_until_ms=0,
    )


def rejected(reason: str, next_eligible_ms: int | None = None) -> Rejection:
    return Rejection("tea", "default", "home", reason, "gate", next_eligible_ms)


@pytest.mark.parametrize(
    ("probabilities", "rejections", "why"),
    [
        ((900, 100), [], ("LOW_VALUE", None)),
        ((500, 500), [], ("LOW_VALUE", None)),
        ((100, 900), [], ("EXPLORATION", None)),
        ((1_000,), [], ("NO_CANDIDATE", None)),
        ((1_000,), [rejected("EXPIRED")], ("EXPIRED", None)),
        (
            (1_000,),
            [
                rejected("EXPIRED"),
                rejected("DISMISSED", 7),
                rejected("FREQUENCY_CAP", 5),
            ],
            ("FREQUENCY_CAP", 5),
        ),
    ],
)
def test_silence_says_why(
    probabilities: tuple[int, ...],
    rejections: list[Rejection],
    why: tuple[str, int | None],
) -> None:
    assert silence(decision_between(probabilities), rejections) == why


# --- Overrides, fallbacks, snoozes --------------------------------------------------

URGENT = read(
    """
    [spacing]
    interruptive = "1h"
    [placements.home]
    kind = "modal"
    caps = [{ limit = 1, window = "1d" }]
    [categories.news]
    [offers.recall]
    placements = ["home"]
    categories = ["news"]
    override = "critical"
    caps = [{ limit = 1, window = "7d" }]
    [offers.tea]
    placements = ["home"]
    """
)
SHOWN = Past(History((shown(NOW - 1, offer="recall"),)))


def test_a_critical_offer_goes_past_caps_and_each_is_told() -> None:
    decision = decide(asked(), catalogue=URGENT, past=SHOWN, policy=ANY).decision

    explanation = explain(decision, URGENT)

    assert could(URGENT, SHOWN, asked()) == ["recall/default/home"]
    assert [(b.gate, b.reason) for b in explanation.bypasses] == [
        ("spacing", "SPACING"),
        ("placement_cap", "FREQUENCY_CAP"),
        ("offer_cap", "FREQUENCY_CAP"),
    ]
    assert [(r.offer_id, r.gate) for r in explanation.refusals] == [("tea", "spacing")]


@pytest.mark.parametrize(
    "history",
    [
        History(preferences=Preferences(opt_outs={"all": NOW})),
        History(preferences=Preferences(opt_outs={"category:news": NOW})),
        History(preferences=Preferences(opt_outs={"offer:recall": NOW})),
        History(snoozes={"recall": Snooze(NOW + 1, 1, NOW)}),
    ],
)
def test_a_critical_offer_does_not_go_past_what_the_user_has_asked_for(
    history: History,
) -> None:
    for past in (Past(history), Past(NO_HISTORY, history)):
        if past.account is history and history.snoozes:
            continue  # A snooze is the user's own.
        assert "recall/default/home" not in could(URGENT, past, asked())


def test_a_critical_offer_is_stopped_like_any_other() -> None:
    past = Past(conditions=Conditions(stopped=("offer:recall",)))

    assert could(URGENT, past, asked()) == ["tea/default/home"]


LAST = """
    [products.card]
    [categories.plans]
    [placements.home]
    fallback = "water"
    {}
    [offers.tea]
    placements = ["home"]
    eligible = "segment == 'new'"
    [offers.water]
    placements = ["home"]
    {}
    """


def test_a_fallback_is_for_where_nothing_else_may_be_shown() -> None:
    catalogue = read(LAST.format("", ""))
    new = asked(context=Context(segment="new"))

    assert could(catalogue, Past(), new) == ["tea/default/home"]
    assert could(catalogue, Past(), asked()) == ["water/default/home"]

    decision = decide(new, catalogue=catalogue, past=Past(), policy=ANY).decision
    (refusal,) = explain(decision, catalogue).refusals
    assert (refusal.offer_id, refusal.reason, refusal.gate) == (
        "water",
        "NO_CANDIDATE",
        "fallback",
    )


@pytest.mark.parametrize(
    ("placement", "offer"),
    [
        ("", 'state = "paused"'),
        ("", 'state = "draft"'),
        ("", "end = 1970-01-02T00:00:00Z"),
        ("", 'moments = ["renewal"]'),
        ("", 'requires = ["card"]'),
        ("", "eligible = \"segment == 'old'\""),
        ("", 'caps = [{ limit = 1, window = "1d" }]'),
        ('categories = ["plans"]', ""),
    ],
)
def test_a_fallback_passes_its_own_gates_or_is_not_shown(
    placement: str, offer: str
) -> None:
    catalogue = read(LAST.format(placement, offer), linted=False)
    past = Past(History((shown(NOW - 1, offer="water"),)))

    verdict = decide(asked(), catalogue=catalogue, past=past, policy=ANY)

    assert verdict.decision.actions == (NO_OFFER,)
    assert {r.offer_id for r in verdict.rejections} >= {"water"}


RENEWAL = read(
    """
    [products.card]
    [categories.plans]
    [placements.home]
    [placements.side]
    categories = ["plans"]
    [placements.bar]
    fallback = "tea"
    [offers.tea]
    placements = ["home", "side", "bar"]
    moments = ["renewal"]
    requires = ["card"]
    """,
    linted=False,
)


def test_a_snoozed_offer_comes_back_once_at_any_moment() -> None:
    owner = History(state=State(owned={"card": 0}))

    def at(now_ms: int, snooze: Snooze, moment: str = "") -> list[str]:
        history = msgspec.structs.replace(owner, snoozes={"tea": snooze})
        context = Context(moment=Moment(moment))
        return could(RENEWAL, Past(history), asked(0, at_ms=now_ms, context=context))

    snooze = Snooze(NOW, 1, NOW - HOUR)
    assert at(NOW - 1, snooze) == []
    assert at(NOW, snooze) == ["tea/default/home"]
    # At its own moment it is there as well, but not twice.
    assert at(NOW, snooze, "renewal") == ["tea/default/home"]
    assert at(NOW, msgspec.structs.replace(snooze, returned=True)) == []


def test_what_comes_back_passes_all_other_gates() -> None:
    due = {"tea": Snooze(NOW, 1, NOW - HOUR)}

    assert could(RENEWAL, Past(History(snoozes=due)), asked()) == []
    owner = Past(History(snoozes=due, state=State(owned={"card": 0})))
    assert could(RENEWAL, owner, asked(0, "side")) == []
    # Where it is the fallback it has its place already.
    assert could(RENEWAL, owner, asked(0, "bar")) == ["tea/default/bar"]
    assert could(RENEWAL, owner, asked(0, "home", offers=("jam",))) == []


def test_a_fallback_that_was_snoozed_stays_a_fallback() -> None:
    catalogue = read(LAST.format("", 'moments = ["renewal"]'))
    due = Past(History(snoozes={"water": Snooze(NOW, 1, NOW - HOUR)}))
    new = asked(context=Context(segment="new"))

    assert could(catalogue, due, new) == ["tea/default/home"]
    assert could(catalogue, due, asked()) == ["water/default/home"]


def test_what_is_required_is_required_together() -> None:
    catalogue = read(
        """
        [products.basic]
        [products.tv]
        [placements.home]
        [offers.tea]
        placements = ["home"]
        requires = ["basic", "tv"]
        """
    )

    def owning(*products: str) -> list[str]:
        state = State(owned=dict.fromkeys(products, 0))
        return could(catalogue, Past(History(state=state)), asked())

    assert owning() == owning("basic") == owning("tv") == []
    assert owning("tv", "basic") == ["tea/default/home"]


# --- What is logged -----------------------------------------------------------------


def test_of_a_past_only_what_a_gate_can_look_at_is_logged() -> None:
    elsewhere = Track(Subject("past", "default", "till"), {"shown": Tally((5,))})
    known = History(
        tracks=(shown(NOW - 1), elsewhere),
        reservations=(Reservation(NOW, "over", Subject("tea", "default", "home")),),
        stuck=(Stuck("home", "d", NOW + HOUR),),
        leases={"pay": Lease(NOW)},
        state=State(role="admin"),
    )

    decision = decide(
        asked(), catalogue=SHOP, past=Past(known, known), policy=ANY
    ).decision

    # What was seen at the till is nothing to the gates of what home can show.
    assert decision.history == History(
        tracks=(shown(NOW - 1),), state=State(role="admin")
    )
    # No cap counts what the account has seen.
    assert decision.account == History(state=State(role="admin"))


# --- Until when ---------------------------------------------------------------------


def test_an_offer_may_be_shown_for_a_while_but_not_beyond_its_end() -> None:
    text = '[placements.home]\n[offers.tea]\nplacements = ["home"]\nend = {}'
    ends = {"1970-01-11T00:05:00Z": 300_000, "1970-01-12T00:00:00Z": 600_000}
    for end, span_ms in ends.items():
        catalogue = read(text.format(end))
        spans = {
            (decision.chosen, decision.valid_until_ms - 10 * DAY)
            for decision in (
                decide(
                    asked(number, at_ms=10 * DAY),
                    catalogue=catalogue,
                    past=Past(),
                    policy=ANY,
                ).decision
                for number in range(30)
            )
        }
        assert spans == {(NO_OFFER, 600_000), (1, span_ms)}
