"""Joins a decision with its outcomes: what it earned, once that can be known.

Nothing is learned from a decision that did not take effect, whatever else is said
of it. From one that did, the outcomes that settle it count, or that none came
within the wait. The result depends on what is known, not on the order in which it
became known; when more becomes known the reward may change, which is a correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from policies.model import NO_OFFER, Action, Decision, Money, Outcome, OutcomeKind
from policies.rewards import CLAWBACKS, Aggregate, Amount, RewardSettings, Worth
from policies.specs import CatalogueSpec, OfferSpec

__all__ = ["Join", "Terms", "join", "terms_of"]

_AGGREGATES: Mapping[Aggregate, Callable[[Sequence[float]], float]] = {
    "earliest": lambda values: values[0],
    "sum": sum,
    "max": max,
    "min": min,
    "mean": fmean,
    "median": median,
}


class Join(NamedTuple):
    """What can be said about a decision now.

    Attributes:
        reward: What it earned; none while that is open.
        due_ms: When to look again even if nothing is reported; none for never.
    """

    reward: float | None = None
    due_ms: int | None = None


class Terms(NamedTuple):
    """By what the outcomes of one action are judged.

    Attributes:
        rewards: The settings.
        offer: What the catalogue says of the offer; none for no offer.
        currency: The currency of its money.
        cost: What it costs to show it.
    """

    rewards: RewardSettings
    offer: OfferSpec | None = None
    currency: str = ""
    cost: float = 0.0

    @property
    def wait_ms(self) -> int:
        """How long after it was shown a decision waits for an outcome."""
        own = None if self.offer is None else self.offer.reward_wait
        return int(self.rewards.wait if own is None else own)

    @property
    def default(self) -> float:
        """What is earned where no outcome comes; silence earns nothing then."""
        if self.offer is None:
            return 0.0
        own = self.offer.reward_default
        return self.rewards.default if own is None else own

    @property
    def aggregate(self) -> Callable[[Sequence[float]], float]:
        """What makes one reward of several."""
        own = None if self.offer is None else self.offer.reward_aggregate
        return _AGGREGATES[own or self.rewards.aggregate]

    def of(self, outcome: Outcome) -> float | None:
        """Return what an outcome is worth; none where it settles nothing."""
        worth = self._worth(outcome.kind)
        if not isinstance(worth, Amount):
            return worth
        minor = self._minor(worth, outcome)
        return worth.unknown if minor is None else worth.plus + worth.factor * minor

    def taken_off(self, outcome: Outcome, earned: float) -> float:
        """Return what a clawback leaves of what was earned."""
        value = self.of(outcome)
        if value is None:
            return earned
        amount = isinstance(self._worth(outcome.kind), Amount)
        return earned - value if amount else min(earned, value)

    def normalised(self, money: Money) -> float | None:
        """Return an amount in minor units of the catalogue's currency, if it can be."""
        rate = self.rewards.rates.get(
            money.currency, 1.0 if money.currency == self.currency else None
        )
        return None if rate is None else money.minor * rate

    def _worth(self, kind: OutcomeKind) -> Worth | None:
        if self.offer is not None and kind in self.offer.rewards:
            return self.offer.rewards[kind]
        return self.rewards.of(kind)

    def _minor(self, worth: Amount, outcome: Outcome) -> float | None:
        offer = self.offer
        if worth.money == "price":
            return None if offer is None else offer.price
        reported = outcome.revenue if worth.money == "revenue" else outcome.margin
        if reported is not None:
            return self.normalised(reported)
        if offer is None:
            return None
        return offer.price if worth.money == "revenue" else offer.margin


def terms_of(rewards: RewardSettings, spec: CatalogueSpec, action: Action) -> Terms:
    """Return by what the outcomes of an action are judged.

    Args:
        rewards: The settings.
        spec: The catalogue of the decision.
        action: What was chosen.
    """
    if action.index == NO_OFFER:
        return Terms(rewards, currency=spec.currency)
    placement = spec.placements[action.placement_id]
    cost = rewards.attention_costs.get(
        placement.kind, rewards.attention_cost * placement.weight
    )
    return Terms(rewards, spec.offers[action.offer_id], spec.currency, cost)


def join(
    decision: Decision,
    outcomes: Iterable[Outcome],
    terms: Terms,
    now_ms: int,
    *,
    late: bool = True,
) -> Join:
    """Say what a decision earned, given all that was reported about it.

    Args:
        decision: The decision.
        outcomes: All its outcomes, in any order, each once.
        terms: What outcomes are worth.
        now_ms: The time.
        late: Whether what came after the wait counts too. It is a correction, and
            never the first that is said of a decision, whenever it is looked at.
    """
    rewards = terms.rewards
    ordered = sorted(outcomes, key=lambda outcome: (outcome.at_ms, outcome.outcome_id))
    shown = [outcome.at_ms for outcome in ordered if outcome.kind == "shown"]
    withdrawn = any(outcome.kind == "not_shown" for outcome in ordered)
    silent = decision.chosen == NO_OFFER
    if silent and rewards.silence_confirms_itself and not (shown or withdrawn):
        shown = [decision.opportunity.at_ms]
    if not shown:
        return Join()
    due_ms = shown[0] + terms.wait_ms
    earned = _earned(ordered, terms, due_ms, late=late)
    if now_ms < due_ms and (earned is None or rewards.settle == "after_wait"):
        return Join(due_ms=due_ms)
    return Join(reward=(terms.default if earned is None else earned) - terms.cost)


def _earned(
    ordered: Sequence[Outcome], terms: Terms, due_ms: int, *, late: bool
) -> float | None:
    """Return what the outcomes come to, less what was taken back."""
    end_ms = due_ms + terms.rewards.late if late else due_ms
    settling = [
        (outcome.at_ms, value)
        for outcome in ordered
        if outcome.kind not in CLAWBACKS
        and outcome.at_ms <= end_ms
        and (value := terms.of(outcome)) is not None
    ]
    if not settling:
        return None
    earned = terms.aggregate([value for _, value in settling])
    first_ms, last_ms = settling[0][0], settling[-1][0]
    until_ms = last_ms + terms.rewards.clawback
    if not late:
        until_ms = min(until_ms, due_ms)
    for outcome in ordered:
        if outcome.kind in CLAWBACKS and first_ms <= outcome.at_ms < until_ms:
            earned = terms.taken_off(outcome, earned)
    return earned
