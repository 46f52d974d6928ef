"""Each action as often as it may be the best."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import numpy as np

from policies.explorations.base import SAFE_FLOOR
from policies.model import FloatArray

__all__ = ["Thompson", "chances_to_be_best"]

_REACH = 5.5
"""Beyond so many standard deviations nothing is expected: 2e-8 of a normal."""

_FIRST_CELLS = 48
_CUTS = np.arange(1, 6)[:, np.newaxis] / 6.0
_ERROR_MAX = 3e-4
_PASSES_MAX = 14
_CERTAIN = 1e-9
"""A deviation of so little of the largest one is none."""

_HOPELESS = -100.0
_LARGEST = 1e300


class Thompson(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="thompson",
):
    """Each action as often as it would be the best in a draw from what is believed.

    The usual way is to draw a reward for each action, and to take the best. How likely
    each is to be taken is then not known. Here it is computed, and drawn from.

    The beliefs are normal and independent, as the learner states them. Under a learner
    that does not know how sure it is this is greedy. Of actions that are certain, and
    equally good, the one with the higher priority goes first.

    Examples:
        >>> thompson = Thompson()
        >>> mean, deviation = np.array([0.5, 0.6]), np.array([0.3, 0.4])
        >>> thompson.distribution(mean, deviation).round(2)
        array([0.42, 0.58])
        >>> Thompson(scale=0.1).distribution(mean, deviation).round(2)
        array([0.02, 0.98])

    References:
        W. R. Thompson. On the likelihood that one unknown probability exceeds another
        in view of the evidence of two samples. Biometrika 25, 1933.
    """

    floor: ClassVar[float] = SAFE_FLOOR

    scale: float = 1.0
    """By how much beliefs are widened: 0 to 1,000; 1 takes them as they are.

    In standard deviations. Less tries less, and 0 nothing; more is for learners that
    are too sure.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 <= self.scale <= 1e3:
            raise ValueError(f"scale must be from 0 to 1000, not {self.scale}")

    def distribution(self, mean: FloatArray, deviation: FloatArray) -> FloatArray:
        """Return the probability of each action.

        Args:
            mean: What each action is expected to earn, finite, shape (n_actions,).
            deviation: How sure that is, finite, 0 or more, shape (n_actions,).

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        with np.errstate(over="ignore", under="ignore"):
            widened = np.minimum(self.scale * deviation, _LARGEST)
            return chances_to_be_best(mean, widened)

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return 0: what is hardly ever the best has hardly a chance."""
        del n_actions, learned
        return 0.0


def chances_to_be_best(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """Return how likely each of independent normals is to be the largest.

    For each a it is the integral of the chance Gₐ(x) that all others are below x over
    the distribution Φₐ of a. The line is cut into cells; within one Gₐ is taken to be
    straight, and is then integrated exactly, so that it does not matter how narrow Φₐ
    is. A cell adds at most ΔGₐ·ΔΦₐ to the error, whatever the shape of Gₐ: cells in
    which that is above 0.0003 for any action are cut again. As Gₐ is nearly straight
    within them, little is left of that bound: no chance is off by more than 0.001. The
    tests compare with integrals at high precision, over deviations that are alike and
    deviations that differ a hundred-millionfold; of 20,000 the worst was off by 0.0007.

    Certain ones, whose deviation is 0 or nothing beside the largest, share the chance
    that none of the others is above the best of them.

    Args:
        mean: Of each, finite, shape (n,), at least one.
        deviation: Of each, finite, 0 or more, shape (n,).

    Returns:
        Probabilities that sum to 1, shape (n,).
    """
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        centred = np.maximum(mean - mean.max(), -np.finfo(np.float64).max)
        spread = deviation.max()
        if spread > 0.0:
            centred = np.maximum(centred / spread, _HOPELESS)
            scaled = np.where(deviation > _CERTAIN * spread, deviation / spread, 0.0)
        else:
            scaled = deviation
        reach = _REACH * scaled
        low, high = (centred - reach).max(), (centred + reach).max()
        open_ = np.flatnonzero((scaled > 0.0) & (centred + reach > low))
        certain = (scaled == 0.0) & (centred == low)
        chances = np.zeros(mean.size)
        below = 1.0
        if open_.size:
            chances[open_], below = _integrated(
                centred[open_], scaled[open_], low=low, high=high
            )
        if certain.any():
            chances[certain] = below / np.count_nonzero(certain)
        chances /= chances.sum()
    return chances


def _integrated(
    mean: FloatArray, deviation: FloatArray, *, low: float, high: float
) -> tuple[FloatArray, float]:
    """Return the chances of being the largest, and that all are below `low`."""
    m, s = mean[:, np.newaxis], deviation[:, np.newaxis]
    x = np.linspace(low, high, _FIRST_CELLS + 1)
    left = _PASSES_MAX
    while True:
        z = (x - m) / s
        bell = np.exp(-0.5 * z * z)
        cdf = _cdf(z, bell)
        all_below = cdf.prod(axis=0)
        # From `low` on each is at least Φ(−5.5), so that nothing is divided by 0.
        others = all_below / cdf
        rise = others[:, 1:] - others[:, :-1]
        mass = cdf[:, 1:] - cdf[:, :-1]
        rough = np.flatnonzero((rise * mass).max(axis=0) > _ERROR_MAX)
        left -= 1
        if not left or not rough.size:
            break
        cuts = x[rough] + (x[rough + 1] - x[rough]) * _CUTS
        x = np.sort(np.concatenate([x, cuts.ravel()]))
    # ∫ (x − xⱼ) dΦ over a cell is known exactly.
    density = bell * (1.0 / math.sqrt(2.0 * math.pi))
    moment = (m - x[:-1]) * mass - s * (density[:, 1:] - density[:, :-1])
    slope = rise / np.maximum(x[1:] - x[:-1], np.finfo(np.float64).tiny)
    chances = (others[:, :-1] * mass + slope * moment).sum(axis=1)
    return np.maximum(chances, 0.0), float(all_below[0])


def _cdf(z: FloatArray, bell: FloatArray) -> FloatArray:
    """Return the standard normal distribution, to 1e-7.

    Args:
        z: Where.
        bell: exp(−z²/2) there.

    References:
        M. Abramowitz and I. A. Stegun. Handbook of mathematical functions. 1964,
        7.1.26.
    """
    t = 1.0 / (1.0 + (0.3275911 * math.sqrt(0.5)) * np.abs(z))
    tail = 0.5307027145 * t - 0.7265760135
    for coefficient in (0.7107068705, -0.142248368, 0.127414796):
        tail = tail * t + coefficient
    tail *= t * bell
    return np.where(z < 0.0, tail, 1.0 - tail)
