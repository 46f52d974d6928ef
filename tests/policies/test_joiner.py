"""The joiner: what a decision earned, by the truth table of what was said of it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import catalogue as catalogues
from policies.joiner import Join, Terms, join, terms_of
from policies.model import (
    NO_OFFER,
    Decision,
    Money,
    Opportunity,
    Outcome,
    OutcomeKind,
)
from policies.rewards import Aggregate, Amount, RewardSettings, Worth
from policies.specs import OfferSpec
from policies.toml import Duration
from tests.server.till import CATALOGUE

REWARDS = RewardSettings(wait=Duration(1_000))
SILENT = Terms(REWARDS)
OFFERED = Terms(REWARDS, OfferSpec(price=900, margin=300), "USD", cost=0.1)
OPEN, UNKNOWN = Join(due_ms=1_100), Join()


def decision(chosen: int) -> Decision:
    return Decision(
        opportunity=Opportunity("d", 50, "ada", ("home",)),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=(0, 1),
        probabilities=(5 * 10**8, 5 * 10**8),
        chosen=chosen,
        valid_until_ms=600,
    )


def said(*kinds: OutcomeKind, start: int = 100) -> list[Outcome]:
    return [Outcome(f"{n}", kind, start + n) for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "now_ms", "joined"),
    [
        ((), 10**9, UNKNOWN),
        (("accepted",), 10**9, UNKNOWN),
        (("not_shown",), 10**9, UNKNOWN),
        (("not_shown", "dismissed", "clicked"), 10**9, UNKNOWN),
        (("shown",), 1_099, OPEN),
        (("shown",), 1_100, Join(0.0 - 0.1)),
        (("shown", "clicked", "viewed"), 1_099, OPEN),
        (("shown", "ignored"), 1_100, Join(0.0 - 0.1)),
        (("shown", "accepted"), 102, Join(1.0 - 0.1)),
        (("shown", "converted"), 102, Join(1.0 - 0.1)),
        (("shown", "dismissed"), 102, Join(-0.2 - 0.1)),
        (("shown", "snoozed"), 102, Join(0.0 - 0.1)),
        (("shown", "opted_out"), 102, Join(-1.0 - 0.1)),
        (("shown", "dismissed", "accepted"), 10**9, Join(-0.2 - 0.1)),
        (("shown", "clicked", "accepted"), 10**9, Join(1.0 - 0.1)),
    ],
)
def test_an_offer_earns_what_came_first_once_it_was_shown(
    kinds: tuple[OutcomeKind, ...], now_ms: int, joined: Join
) -> None:
    for order in itertools.permutations(said(*kinds)):
        assert joined == join(decision(1), order, OFFERED, now_ms)


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        ((), UNKNOWN),
        (("converted",), UNKNOWN),
        (("not_shown",), UNKNOWN),
        (("shown",), Join(0.0)),
        (("shown", "converted"), Join(1.0)),
    ],
)
def test_silence_trains_when_it_is_confirmed_and_costs_nothing(
    kinds: tuple[OutcomeKind, ...], joined: Join
) -> None:
    assert joined == join(decision(NO_OFFER), said(*kinds), SILENT, 10**9)


@pytest.mark.parametrize("kind", ["accepted", "dismissed"])
def test_good_and_bad_news_may_wait_for_those_that_none_comes_for(
    kind: OutcomeKind,
) -> None:
    patient = OFFERED._replace(
        rewards=msgspec.structs.replace(REWARDS, settle="after_wait")
    )
    outcomes = said("shown", kind)

    assert join(decision(1), outcomes, patient, 1_099) == OPEN
    settled = join(decision(1), outcomes, OFFERED, 1_099)
    assert join(decision(1), outcomes, patient, 1_100) == settled


def test_what_comes_after_the_wait_is_never_the_first_that_is_said() -> None:
    outcomes = [*said("shown"), Outcome("late", "accepted", 1_101)]

    first = join(decision(1), outcomes, OFFERED, 10**9, late=False)

    assert first == Join(0.0 - 0.1)
    assert join(decision(1), outcomes, OFFERED, 10**9) == Join(1.0 - 0.1)


def test_a_silence_that_was_not_kept_does_not_confirm_itself() -> None:
    trusting = Terms(msgspec.structs.replace(REWARDS, silence_confirms_itself=True))

    joined = join(decision(NO_OFFER), said("not_shown"), trusting, 10**9)

    assert joined == UNKNOWN


def test_silence_may_confirm_itself_when_it_was_decided() -> None:
    terms = Terms(RewardSettings(wait=Duration(1_000), silence_confirms_itself=True))

    assert join(decision(NO_OFFER), [], terms, 1_049) == Join(due_ms=1_050)
    assert join(decision(NO_OFFER), [], terms, 1_050) == Join(0.0)
    assert join(decision(NO_OFFER), said("converted"), terms, 200) == Join(1.0)
    assert join(decision(1), [], terms, 10**9) == UNKNOWN


# --- What outcomes are worth ------------------------------------------------------


def earned(
    outcomes: Sequence[Outcome],
    rewards: RewardSettings,
    offer: OfferSpec | None = None,
    now_ms: int = 10**9,
) -> float | None:
    """Return what an offer earned at last, at no cost."""
    terms = Terms(rewards, offer or OfferSpec(price=900, margin=300), "USD")
    return join(decision(1), outcomes, terms, now_ms).reward


def bought(revenue: Money | None = None, margin: Money | None = None) -> list[Outcome]:
    accepted = Outcome("buy", "accepted", 110, revenue=revenue, margin=margin)
    return [*said("shown"), accepted]


USD, EUR = functools.partial(Money, "USD"), functools.partial(Money, "EUR")


@pytest.mark.parametrize(
    ("worth", "outcomes", "reward"),
    [
        (2.5, bought(), 2.5),
        (Amount("revenue"), bought(revenue=USD(1_000)), 10.0),
        (Amount("revenue"), bought(), 9.0),
        (Amount("revenue", factor=0.001, plus=0.5), bought(), 1.4),
        (Amount("margin"), bought(margin=USD(250)), 2.5),
        (Amount("margin"), bought(revenue=USD(1_000)), 3.0),
        (Amount("price"), bought(revenue=USD(1_000)), 9.0),
        (Amount("revenue"), bought(revenue=EUR(1_000)), 11.0),
        (Amount("revenue", unknown=0.3), bought(revenue=Money("GBP", 99)), 0.3),
        (Amount("revenue"), bought(revenue=Money("JPY", 1_000)), 6.4),
    ],
)
def test_a_reward_is_a_number_or_comes_of_money(
    worth: Worth, outcomes: list[Outcome], reward: float
) -> None:
    rewards = RewardSettings({"accepted": worth}, rates={"EUR": 1.1, "JPY": 0.64})

    assert earned(outcomes, rewards) == pytest.approx(reward)


def test_a_margin_that_nobody_knows_earns_what_the_settings_say() -> None:
    rewards = RewardSettings({"accepted": Amount("margin", unknown=0.7)})

    assert earned(bought(), rewards, OfferSpec(price=900)) == 0.7


@pytest.mark.parametrize("kind", ["viewed", "clicked", "ignored", "converted"])
def test_any_outcome_may_be_given_a_worth(kind: OutcomeKind) -> None:
    assert earned(said("shown", kind), RewardSettings({kind: 0.25})) == 0.25


@pytest.mark.parametrize(
    ("aggregate", "reward"),
    [
        ("earliest", 0.1),
        ("sum", 0.9),
        ("max", 1.0),
        ("min", -0.2),
        ("mean", 0.3),
        ("median", 0.1),
    ],
)
def test_several_rewards_become_one(aggregate: Aggregate, reward: float) -> None:
    rewards = RewardSettings({"clicked": 0.1}, aggregate=aggregate)
    outcomes = said("shown", "clicked", "accepted", "dismissed")

    assert earned(outcomes, rewards) == pytest.approx(reward)
    own = OfferSpec(reward_aggregate=aggregate)
    assert earned(outcomes, RewardSettings({"clicked": 0.1}), own) == pytest.approx(
        reward
    )


@pytest.mark.parametrize(
    ("accepted", "refunded", "returned", "reward"),
    [
        (1.0, 0.0, None, 0.0),
        (1.0, -0.5, None, -0.5),
        (-1.0, 0.0, None, -1.0),
        (Amount("revenue"), Amount("revenue"), None, 0.0),
        (Amount("revenue"), Amount("revenue"), 200, 7.0),
        (Amount("revenue"), 0.0, 200, 0.0),
    ],
)
def test_what_is_taken_back_replaces_the_reward_or_is_taken_off_it(
    accepted: Worth, refunded: Worth, returned: int | None, reward: float
) -> None:
    rewards = RewardSettings({"accepted": accepted, "refunded": refunded})
    money = None if returned is None else USD(returned)
    outcomes = [*bought(), Outcome("back", "refunded", 120, revenue=money)]

    assert earned(outcomes, rewards) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("at_ms", "reward"), [(109, 1.0), (110, 0.0), (1_109, 0.0), (1_110, 1.0)]
)
def test_it_is_taken_back_only_after_it_was_earned_and_within_the_time(
    at_ms: int, reward: float
) -> None:
    rewards = RewardSettings(clawback=Duration(1_000))

    assert earned([*bought(), Outcome("c", "churned", at_ms)], rewards) == reward


def test_what_earned_nothing_cannot_be_taken_back() -> None:
    outcomes = said("shown", "refunded")

    assert earned(outcomes, RewardSettings(default=0.3)) == 0.3


@pytest.mark.parametrize(("at_ms", "reward"), [(1_600, 1.0), (1_601, 0.0)])
def test_what_comes_too_late_teaches_nothing(at_ms: int, reward: float) -> None:
    rewards = RewardSettings(wait=Duration(1_000), late=Duration(500))
    outcomes = [*said("shown"), Outcome("late", "accepted", at_ms)]

    assert earned(outcomes, rewards) == reward


def test_an_offer_has_its_own_worths_wait_and_default() -> None:
    offer = OfferSpec(
        rewards={"dismissed": -0.7},
        reward_wait=Duration(60_000),
        reward_default=-0.05,
    )
    rewards = RewardSettings(default=0.2)

    assert earned(said("shown", "dismissed"), rewards, offer) == -0.7
    assert earned(said("shown", "accepted"), rewards, offer) == 1.0
    assert earned(said("shown"), rewards, offer, 60_099) is None
    assert earned(said("shown"), rewards, offer, 60_100) == -0.05
    assert earned(said("shown"), rewards, now_ms=10**9) == 0.2
    silence = join(decision(NO_OFFER), said("shown"), Terms(rewards), 10**9)
    assert silence == Join(0.0)


@pytest.mark.parametrize(
    ("placement", "cost"),
    [("list", 0.2), ("strip", 1.0), ("popup", 5.0), ("corner", 0.5), ("", 0.0)],
)
def test_attention_costs_by_how_much_a_placement_interrupts(
    placement: str, cost: float
) -> None:
    catalogue = catalogues.read(CATALOGUE)
    action = next(a for a in catalogue.actions if a.placement_id == placement)
    rewards = RewardSettings(attention_cost=1.0, attention_costs={"modal": 5.0})

    terms = terms_of(rewards, catalogue.spec, action)

    assert terms.cost == pytest.approx(cost)
    now = join(decision(action.index), said("shown"), terms, 10**9)
    assert now.reward == pytest.approx(-cost)


@given(
    st.lists(
        st.builds(
            Outcome,
            st.text("abc", min_size=1, max_size=2),
            st.sampled_from(
                ["shown", "clicked", "accepted", "dismissed", "not_shown", "refunded"]
            ),
            st.integers(0, 20),
        ),
        max_size=6,
        unique_by=lambda outcome: outcome.outcome_id,
    ),
    st.randoms(use_true_random=False),
    st.integers(0, 2_000),
)
def test_what_is_earned_does_not_depend_on_what_arrived_first(
    outcomes: list[Outcome], shuffler: object, now_ms: int
) -> None:
    shuffled = list(outcomes)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined] # A random.Random.

    first = join(decision(1), outcomes, OFFERED, now_ms)

    assert first == join(decision(1), shuffled, OFFERED, now_ms)
