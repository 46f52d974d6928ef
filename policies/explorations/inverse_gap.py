"""Actions in inverse proportion to how far they trail, by the schedules of theory."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

from policies.explorations.base import SAFE_FLOOR, inverse_gaps
from policies.model import FloatArray

__all__ = ["InverseGap"]


class InverseGap(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="inverse_gap",
):
    """Like `squarecb`, with γ as the theory has it: √(n·t / error) for n actions.

    t is a horizon, or the largest power of 2 up to the rewards learned: γ then stays
    the same until as much again has been learned, and before the first reward the
    choice is uniform.

    Examples:
        >>> import numpy as np
        >>> inverse_gap = InverseGap(error=1.0)
        >>> scores = np.array([0.0, 0.5])
        >>> [inverse_gap.distribution(scores, learned=n) for n in (0, 128, 255)]
        [array([0.5, 0.5]), array([0.1, 0.9]), array([0.1, 0.9])]
        >>> InverseGap(horizon=128).distribution(scores, learned=0)
        array([0.1, 0.9])

    References:
        D. Foster and A. Rakhlin. Beyond UCB: optimal and efficient contextual bandits
        with regression oracles. ICML 2020, https://arxiv.org/abs/2002.04926: a γ of
        this form, fixed by the horizon; `error` is what they bound the regret of the
        regression by.

        D. Simchi-Levi and Y. Xu. Bypassing the monster: a faster and simpler optimal
        algorithm for contextual bandits under realizability. Mathematics of Operations
        Research 2022, https://arxiv.org/abs/2003.12699: a γ that grows from epoch to
        epoch. They learn anew once an epoch; here learning goes on within it.
    """

    floor: ClassVar[float] = SAFE_FLOOR

    error: float = 1.0
    """How wrong the learner is taken to be: 1e-9 to 1e9, in squared units of reward.

    The squared error of its estimates beyond that of the best possible ones, summed
    over all it learns. The smaller, the sooner the estimates are trusted. The default
    suits rewards of about 0 or 1; the theory's, for a linear model, is about the number
    of weights times the variance of rewards.
    """

    horizon: int = 0
    """For how many rewards γ is fixed from the beginning: 0 to 1e12; 0 to let it grow.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1e-9 <= self.error <= 1e9:
            raise ValueError(f"error must be from 1e-9 to 1e9, not {self.error}")
        if not 0 <= self.horizon <= 10**12:
            raise ValueError(f"horizon must be from 0 to 1e12, not {self.horizon}")

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: How many rewards the model has learned, 0 or more.

        Returns:
            Probabilities that sum to 1, shape (n_actions,). The best share what is
            left.
        """
        epoch = 1 << learned.bit_length() - 1 if learned else 0
        rewards = self.horizon or epoch
        return inverse_gaps(scores, math.sqrt(scores.size * rewards / self.error))

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return 0: how little an action gets depends on how far it trails."""
        del n_actions, learned
        return 0.0
