"""The joiner: what a decision earned, by the truth table of what was said of it."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.joiner import Join, Terms, join
from policies.model import NO_OFFER, Decision, Opportunity, Outcome, OutcomeKind
from policies.rewards import RewardSettings
from policies.specs import OfferSpec
from policies.toml import Duration

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


@given(
    st.lists(
        st.builds(
            Outcome,
            st.text("abc", min_size=1, max_size=2),
            st.sampled_from(["shown", "clicked", "accepted", "dismissed", "not_shown"]),
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
