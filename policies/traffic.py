"""Bounds of how often actions and offers are chosen, whatever an exploration says.

Three things are asked of a distribution, in this order:

1. The **floor**: a share of the decisions that all eligible actions have in equal
   parts, silence among them. It is mixed in, so that each of n actions has at least
   floor / n. It is never given up for the others.
2. The **bounds** of each offer: the least and the most that its actions have together.
   Silence has none, so that somebody can always take what offers may not have.
3. The **ratios** of what is neither at a bound nor at the floor stay as they were: what
   is above the floor is multiplied by the same number for all such offers, and within
   an offer for all its actions.

There is exactly one such distribution. Where an offer has nothing to multiply, it has
its least; where something is left over that only such offers may still have, they get
it in proportion to the number of their actions.

What cannot be is made possible as follows. An offer's most is never below its part of
the floor, and its least never above its most. Where the leasts are together more than
there is, what they ask above the floor is reduced in proportion. Where the mosts are
together less than there is, which silence prevents wherever it is eligible, what they
leave above the floor is raised in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import NO_TRAFFIC, Action, FloatArray, Traffic

__all__ = ["Chances", "TrafficSettings", "bounded", "floored"]

_TINY = 1e-12
"""Smaller chances count as this where they are multiplied, lest something overflows."""

_NOTHING = 1e-200
"""Smaller chances count as none where offers are bounded, for the same reason."""

_ROUNDING = 1e-12


class TrafficSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is tried at least, and how often offers are chosen.

    The bounds are shares of the decisions in which an offer is eligible, over all of
    its creatives and placements. An offer of the catalogue may have its own, under
    `traffic`. Silence has no bounds; it takes what offers may not have.

    Examples:
        >>> TrafficSettings(new_least=0.1, new_most=0.05)
        Traceback (most recent call last):
        ValueError: new_least must be at most new_most, 0.05, not 0.1
    """

    floor: float | None = None
    """The share of decisions that all eligible actions have in equal parts: 0 to 1.

    Silence is one of them. With it every action of n has a logged chance of floor / n
    at least, so that any policy can be evaluated on the log. Left out, it is 0.01 under
    explorations that by themselves may give an action no chance (`thompson`, `ucb`,
    `first` and `inverse_gap`), and 0 under the others.
    """

    least: float = 0.0
    """The least share of each offer: 0 to 1."""

    most: float = 1.0
    """The most share of each offer: 0 to 1. Never below its part of the floor."""

    new_outcomes: int = 0
    """Until how many of its rewards are learned an offer is new: 0 to 1e9; 0 for never.

    While it is new, `new_least` and `new_most` bound it too. In a catalogue in which
    every offer is new, silence takes the rest: this is for offers that join others.
    """

    new_least: float = 0.0
    """The least share of an offer that is new: 0 to 1."""

    new_most: float = 1.0
    """The most share of an offer that is new: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for key in ("floor", "least", "most", "new_least", "new_most"):
            share = getattr(self, key)
            if share is not None and not 0.0 <= share <= 1.0:
                raise ValueError(f"{key} must be from 0 to 1, not {share}")
        if not 0 <= self.new_outcomes <= 10**9:
            raise ValueError(
                f"new_outcomes must be from 0 to 1e9, not {self.new_outcomes}"
            )
        for least, most in (("least", "most"), ("new_least", "new_most")):
            low, high = getattr(self, least), getattr(self, most)
            if low > high:
                raise ValueError(f"{least} must be at most {most}, {high}, not {low}")

    @property
    def unbounded(self) -> bool:
        """Whether offers are bounded by nothing that is said here."""
        return not (
            self.least > 0.0
            or self.most < 1.0
            or (self.new_outcomes and (self.new_least > 0.0 or self.new_most < 1.0))
        )

    def bounds(self, own: Traffic, *, learned: int) -> tuple[float, float]:
        """Return the least and the most share of an offer.

        Args:
            own: What the catalogue says of it.
            learned: How many of its rewards the model has learned.
        """
        least = self.least if own.least is None else own.least
        most = self.most if own.most is None else own.most
        outcomes = self.new_outcomes if own.new_outcomes is None else own.new_outcomes
        if learned < outcomes:
            least = max(
                least, self.new_least if own.new_least is None else own.new_least
            )
            most = min(most, self.new_most if own.new_most is None else own.new_most)
        return min(least, most), most


class Chances(NamedTuple):
    """A distribution, and what it promises.

    Attributes:
        probabilities: Of each action, together 1, shape (n_actions,).
        floor: The least probability that any action was sure to have, whatever its
            score; no probability is below it.
    """

    probabilities: FloatArray
    floor: float


def floored(explored: Chances, floor: float) -> Chances:
    """Give all actions a share in equal parts.

    Args:
        explored: What an exploration says; several distributions are rows of one.
        floor: That share, 0 to 1.

    Examples:
        >>> floored(Chances(np.array([0.0, 1.0]), 0.0), 0.1)
        Chances(probabilities=array([0.05, 0.95]), floor=0.05)
    """
    if floor == 0.0:
        return explored
    part = floor / explored.probabilities.shape[-1]
    # Rounding keeps the order: no probability ends below the floor.
    return Chances(
        part + (1.0 - floor) * explored.probabilities,
        part + (1.0 - floor) * explored.floor,
    )


def bounded(
    explored: Chances,
    actions: Sequence[Action],
    settings: TrafficSettings,
    floor: float,
    learned: Mapping[str, int],
) -> Chances:
    """Return the distribution within the floor and the bounds, as the module says.

    Args:
        explored: What an exploration says.
        actions: The eligible actions.
        settings: The bounds of offers that have none of their own.
        floor: The share that all actions have in equal parts, 0 to 1.
        learned: By offer, how many of its rewards were learned; 0 where it is not
            named.

    Examples:
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> actions = [Action(0, "", "", "", ()), tea, jam]
        >>> greedy = Chances(np.array([0.0, 0.0, 1.0]), 0.0)
        >>> settings = TrafficSettings(least=0.1, most=0.7)
        >>> bounded(greedy, actions, settings, 0.0, {}).probabilities.round(2)
        array([0.15, 0.15, 0.7 ])
    """
    if settings.unbounded and all(a.traffic is NO_TRAFFIC for a in actions):
        return floored(explored, floor)
    groups, sizes, bounds = _grouped(actions, settings, learned)
    part = floor / len(actions)
    # From here on it is about what is above the floor.
    total = 1.0 - floor
    above = total * explored.probabilities
    weights = np.bincount(groups, weights=above).astype(np.float64)
    lower, upper = (bounds - part * sizes[:, np.newaxis]).clip(min=0.0).T
    held = (weights >= lower - _ROUNDING) & (weights <= upper + _ROUNDING)
    if total == 0.0 or held.all():
        return floored(explored, floor)
    lower, upper = _possible(lower, upper, sizes, total)
    weights[weights < _NOTHING] = 0.0
    fitted = _fit(weights, lower, upper, sizes, total)
    some = weights > 0.0
    ratios = np.divide(fitted, weights, out=np.zeros_like(fitted), where=some)
    # An offer that had nothing has it in equal parts.
    given = np.where(some, 0.0, fitted / sizes)
    worst = min(1.0, float(ratios.min())) if some.all() else 0.0
    return Chances(
        part + (above * ratios[groups] + given[groups]),
        part + total * explored.floor * worst,
    )


def _grouped(
    actions: Sequence[Action], settings: TrafficSettings, learned: Mapping[str, int]
) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """Return the number of each action's offer; of offers, actions and bounds.

    Silence is an offer without bounds.
    """
    group_of: dict[str, int] = {}
    bounds: list[tuple[float, float]] = []
    for action in actions:
        if action.offer_id not in group_of:
            group_of[action.offer_id] = len(bounds)
            count = learned.get(action.offer_id, 0)
            bounds.append(
                settings.bounds(action.traffic, learned=count)
                if action.offer_id
                else (0.0, 1.0)
            )
    groups = np.array([group_of[action.offer_id] for action in actions])
    return groups, np.bincount(groups).astype(np.float64), np.array(bounds)


def _possible(
    lower: FloatArray, upper: FloatArray, sizes: FloatArray, total: float
) -> tuple[FloatArray, FloatArray]:
    """Loosen bounds in proportion until there is a distribution within them."""
    if lower.sum() > total:
        lower = lower * (total / lower.sum())
    if upper.sum() < total:
        if not upper.any():
            upper = sizes
        upper = upper / upper.max()  # Whose sum may be too small to divide by.
        upper = upper * (total / upper.sum())
    return lower, np.maximum(lower, upper)


def _fit(
    weights: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    sizes: FloatArray,
    total: float,
) -> FloatArray:
    """Return weights times one number, each within its bounds, that sum to a total.

    Args:
        weights: Each 0 or more, shape (n,).
        lower: Together at most the total.
        upper: Together at least the total, each at least the lower one.
        sizes: Above 0: the weights of those that have none, if there is a rest.
        total: 0 or more.
    """
    some = weights > 0.0
    most = np.where(some, upper, lower)
    if most.sum() >= total:
        weights = np.where(some, np.maximum(weights, _TINY), 0.0)
        return _scaled(weights, lower, upper, total)
    # What has weights is full; the rest is for what has none.
    left = total - float(upper[some].sum())
    others = np.where(some, 0.0, sizes)
    fitted = _scaled(others, np.where(some, 0.0, lower), upper, left)
    return np.where(some, upper, fitted)


def _scaled(
    weights: FloatArray, lower: FloatArray, upper: FloatArray, total: float
) -> FloatArray:
    """Fit where the weights suffice; those without one have the lower bound.

    Of the numbers to multiply with, those at which a weight meets a bound are looked
    through by halving; between two of them the sum is a straight line.
    """
    some = weights > 0.0
    fixed = float(lower[~some].sum())
    if not some.any():
        return lower
    w, low, high = weights[some], lower[some], upper[some]
    meets = np.sort(np.concatenate([low / w, high / w]))
    first, last = 0, meets.size - 1
    while first < last:
        middle = (first + last) // 2
        if fixed + np.clip(meets[middle] * w, low, high).sum() < total:
            first = middle + 1
        else:
            last = middle
    # The sum reaches the total between the meeting before `first` and that one.
    before = meets[first - 1] if first else 0.0
    at = 0.5 * (before + meets[first])
    free = (low < at * w) & (at * w < high)
    held = np.where(at * w <= low, low, high)
    if free.any():
        left = total - fixed - float(held[~free].sum())
        held = np.where(free, np.clip(w * (left / w[free].sum()), low, high), held)
    fitted = lower.copy()
    fitted[some] = held
    return fitted
