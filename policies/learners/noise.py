"""Learns how far rewards are from what is expected of them."""

from __future__ import annotations

import msgspec

__all__ = ["Noise", "NoiseState"]


class NoiseState(msgspec.Struct, array_like=True):
    """What is saved."""

    count: float
    loss: float


class Noise:
    """The variance of rewards around a linear regression, by their conjugate prior.

    With a normal prior of the weights, whose variance is in units of the noise's, and
    an inverse gamma one of the noise, IG(weight / 2, weight · deviation² / 2), the
    noise after n rewards is IG((weight + n) / 2, (weight · deviation² + loss) / 2):
    `loss` is the sum of squared errors of prediction, each over its variance where
    the noise has variance 1. What is expected at x has a Student distribution with
    weight + n degrees of freedom, and the scale √(variance · xᵀA⁻¹x).

    Args:
        deviation: The standard deviation that is believed beforehand, above 0.
        weight: How many rewards that belief is worth, above 0.
        forgetting: How much less the rewards before each count; 1 for not.

    Examples:
        >>> noise = Noise(deviation=2.0, weight=1.0)
        >>> noise.variance
        4.0
        >>> noise.learn(error=1.0, scale=2.0)
        >>> noise.variance
        2.25

    References:
        Bayesian linear models: a compact general set of results,
        https://arxiv.org/abs/2406.01819, has the posterior, by precision instead of
        variance. Here its sum of squares is found reward by reward.
    """

    def __init__(
        self, deviation: float, weight: float, forgetting: float = 1.0
    ) -> None:
        self._deviation = deviation
        self._weight = weight
        self._forgetting = forgetting
        self._count = 0.0
        self._loss = 0.0

    def load(self, state: NoiseState) -> None:
        """Go on from a saved state."""
        self._count, self._loss = state.count, state.loss

    def save(self) -> NoiseState:
        """Return all it has learned."""
        return NoiseState(self._count, self._loss)

    @property
    def variance(self) -> float:
        """The square of the scale of rewards around what is expected of them."""
        believed = self._weight * self._deviation**2
        return (believed + self._loss) / (self._weight + self._count)

    def learn(self, error: float, scale: float) -> None:
        """Learn how far a reward was from what was expected of it.

        Args:
            error: The distance.
            scale: Its variance where the noise has variance 1, 1 or more.
        """
        self._count = self._forgetting * self._count + 1.0
        self._loss = self._forgetting * self._loss + error * error / scale

    def correct(
        self, *, reward: float, before: float, mean: float, variance: float
    ) -> None:
        """Learn that a reward was another.

        Args:
            reward: What it is.
            before: What was learned.
            mean: What is expected at that x, before the regression is corrected.
            variance: xᵀA⁻¹x.
        """
        by = reward - before
        change = by * (reward + before - 2.0 * mean - by * variance)
        self._loss = max(self._loss + change, 0.0)
