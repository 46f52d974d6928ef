"""What discounts were worth: how much of them went to those who had bought anyway.

An offer with a discount is compared with the same one without: the offer that it says
it is `like`, or that says so of it, or that grants the same products. Where both could
have been chosen, the log holds with which chance each was. Those who were shown the
full price, each counted as much more often as the discount would have been chosen for
them, stand for those who were shown the discount.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from policies.catalogue import Catalogue
from policies.estimators import Rows, snips
from policies.intervals import Estimate, estimate, worst_rows
from policies.joiner import Terms, terms_of
from policies.model import PROBABILITY_UNITS, Decision, Outcome
from policies.overlap import OverlapSettings
from policies.rewards import RewardSettings
from policies.specs import CatalogueSpec

__all__ = ["Discount", "Discounts", "Range", "undiscounted"]

_NEEDED = OverlapSettings()


class Range(msgspec.Struct, frozen=True):
    """An estimate with its interval of 95 %."""

    value: float
    low: float
    high: float


class Discount(msgspec.Struct, frozen=True):
    """What became of a discount.

    Amounts are in minor units of the catalogue's currency.

    Attributes:
        offer_id: The offer with the discount.
        instead: The same one without: offers.
        shown: How often it was shown to users who could have been shown the full price.
        accepted: How often they accepted it, and did not give it back.
        given: The discounts of those accepts, together.
        wasted: How much of it went, by estimate, to those who would have accepted the
            full price: at most what was given. None where nobody was shown that.
        share: The same as a share of what was given; none where nothing was.
        gained: What the discount left over in margins above what the full price would
            have left with those users. None as for `wasted`, or where a margin is not
            known.
        alone: How often it was shown to users who could not have been shown the full
            price; they are in none of the other numbers.
        doubts: Why not to decide on these numbers; empty where nothing speaks against
            it.
        currency: The currency of the amounts.
    """

    offer_id: str
    instead: tuple[str, ...]
    shown: int
    accepted: int
    given: float
    wasted: Range | None
    share: Range | None
    gained: Range | None
    alone: int
    doubts: tuple[str, ...]
    currency: str


def undiscounted(spec: CatalogueSpec) -> dict[str, tuple[str, ...]]:
    """Return by each offer with a discount the same ones without.

    Examples:
        >>> from policies.specs import OfferSpec
        >>> spec = CatalogueSpec(
        ...     offers={
        ...         "tea": OfferSpec(price=900),
        ...         "tea_less": OfferSpec(price=600, discount=300, like="tea"),
        ...         "gift": OfferSpec(price=100, discount=100),
        ...     }
        ... )
        >>> undiscounted(spec)
        {'tea_less': ('tea',)}
    """
    full = {name: offer for name, offer in spec.offers.items() if not offer.discount}
    found: dict[str, tuple[str, ...]] = {}
    for name, offer in spec.offers.items():
        if not offer.discount:
            continue
        same = [
            other
            for other, its in full.items()
            if other == offer.like
            or its.like == name
            or (offer.grants and set(its.grants) == set(offer.grants))
        ]
        if same:
            found[name] = tuple(same)
    return found


class Discounts:
    """Adds up decisions that were shown, and says what their discounts were worth.

    That those whom the full price was shown stand for the others needs true
    propensities, and nothing else: no model of who buys. What was given, and what was
    earned with it, is counted; the intervals are about what the full price would have
    come to. That who accepts the full price accepts less as well is taken for granted.

    Args:
        rewards: The rates of currencies.
    """

    def __init__(self, rewards: RewardSettings) -> None:
        self._rewards = rewards
        self._pairs: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)

    def add(
        self, decision: Decision, outcomes: Sequence[Outcome], catalogue: Catalogue
    ) -> None:
        """Add a decision; one that was not shown, or is for no offer, adds nothing.

        Args:
            decision: Made by the catalogue.
            outcomes: All that was reported of it.
            catalogue: The catalogue.
        """
        kinds = {outcome.kind for outcome in outcomes}
        chosen = catalogue.actions[decision.chosen]
        if "shown" not in kinds or not chosen.offer_id:
            return
        pairs = self._pairs.get(catalogue.version)
        if pairs is None:
            pairs = self._pairs[catalogue.version] = undiscounted(catalogue.spec)
        if not any(chosen.offer_id in (name, *pairs[name]) for name in pairs):
            return
        chances: defaultdict[str, float] = defaultdict(float)
        for at, units in zip(decision.actions, decision.probabilities, strict=True):
            chances[catalogue.actions[at].offer_id] += units / PROBABILITY_UNITS
        terms = terms_of(self._rewards, catalogue.spec, chosen)
        bought = None
        if "accepted" in kinds and "refunded" not in kinds:
            bought = next(o for o in outcomes if o.kind == "accepted")
        for name, instead in pairs.items():
            tally, with_ = self._tallies[name], chances[name]
            tally.currency = catalogue.spec.currency
            without = sum(chances[other] for other in instead)
            if with_ and without:
                tally.instead.update(dict.fromkeys(instead))
                tally.weight_max = max(tally.weight_max, with_ / without)
            if chosen.offer_id == name and not without:
                tally.alone += 1
            elif chosen.offer_id == name:
                tally.add_shown(bought, terms)
            elif chosen.offer_id in instead and with_:
                discount = catalogue.spec.offers[name].discount
                tally.add_full(with_ / without, bought, terms, discount)

    def report(self) -> list[Discount]:
        """Return what became of each discount that was shown, by its offer's name."""
        return [
            tally.of(name)
            for name, tally in sorted(self._tallies.items())
            if tally.shown or tally.alone
        ]


class _Tally:
    """What was seen of one discount."""

    def __init__(self) -> None:
        self.currency = ""
        self.instead: dict[str, None] = {}
        self.weight_max = 0.0
        self.alone = self.shown = self.accepted = 0
        self.given = 0.0
        self.earned: float | None = 0.0
        self._full: list[_Full] = []

    def add_shown(self, bought: Outcome | None, terms: Terms) -> None:
        """Add a user who was shown the discount, and could have been otherwise."""
        self.shown += 1
        if bought is None:
            return
        self.accepted += 1
        self.given += _discount(bought, terms) or 0.0
        margin = _margin(bought, terms)
        if self.earned is not None:
            self.earned = None if margin is None else self.earned + margin

    def add_full(
        self, weight: float, bought: Outcome | None, terms: Terms, discount: float
    ) -> None:
        """Add a user who was shown the full price, and could have been otherwise."""
        margin = _margin(bought, terms)
        self._full.append(_Full(weight, discount, margin, bought is not None))

    def of(self, name: str) -> Discount:
        """Return what is known of an offer."""
        wasted = share = gained = None
        doubts = ["nobody was shown the full price"] if self.shown else []
        if self._full and self.shown:
            found = self._expected([row.discount for row in self._full])
            doubts = _doubts(found)
            wasted = _times(found, self.shown, most=self.given)
            if self.given:
                low, high = wasted.low / self.given, wasted.high / self.given
                share = Range(wasted.value / self.given, low, high)
            margins = [row.margin for row in self._full if row.margin is not None]
            if self.earned is not None and len(margins) == len(self._full):
                other = _times(self._expected(margins), self.shown)
                low, high = self.earned - other.high, self.earned - other.low
                gained = Range(self.earned - other.value, low, high)
        return Discount(
            name,
            tuple(self.instead),
            self.shown,
            self.accepted,
            self.given,
            wasted,
            share,
            gained,
            self.alone,
            tuple(doubts),
            self.currency,
        )

    def _expected(self, amounts: Sequence[float]) -> Estimate:
        """Return what comes of the full price, for each who was shown the discount.

        Args:
            amounts: What comes of each accept of it, or would.
        """
        accepted = [row.accepted for row in self._full]
        rows = Rows(
            rewards=np.where(accepted, amounts, 0.0),
            weights=np.array([row.weight for row in self._full]),
        )
        reward_range = min(0.0, *amounts), max(0.0, *amounts)
        worst = worst_rows(rows, weight_max=self.weight_max, reward_range=reward_range)
        return estimate(
            snips(rows),
            weights=rows.weights,
            rewards=rows.rewards,
            weight_max=self.weight_max,
            reward_range=reward_range,
            worst=snips(worst),
        )


class _Full(NamedTuple):
    """A user who was shown the full price.

    Attributes:
        weight: How much likelier the discount was.
        discount: What the discount would have been.
        margin: What was left of the full price, or would have been.
        accepted: Whether they accepted it, and did not give it back.
    """

    weight: float
    discount: float
    margin: float | None
    accepted: bool


def _discount(bought: Outcome, terms: Terms) -> float | None:
    if bought.discount is not None:
        return terms.normalised(bought.discount)
    return None if terms.offer is None else terms.offer.discount


def _margin(bought: Outcome | None, terms: Terms) -> float | None:
    if bought is not None and bought.margin is not None:
        return terms.normalised(bought.margin)
    return None if terms.offer is None else terms.offer.margin


def _times(found: Estimate, count: int, most: float = math.inf) -> Range:
    low, high = min(count * found.low, most), min(count * found.high, most)
    return Range(min(count * found.value, most), low, high)


def _doubts(found: Estimate) -> list[str]:
    doubts = []
    if found.ess < _NEEDED.ess_min:
        doubts.append(
            f"those who were shown the full price are worth {found.ess:.0f} of those"
            f" who were shown the discount, and {_NEEDED.ess_min:g} are needed"
        )
    if found.events < _NEEDED.events_min:
        doubts.append(
            f"{found.events} of them accepted it, and {_NEEDED.events_min} are needed"
        )
    return doubts
