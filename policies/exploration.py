"""Turns scores into a distribution: what is tried though it may not be the best.

Each is settings, with a method that is pure mathematics.
"""

from __future__ import annotations

import msgspec
import numpy as np

from policies.model import FloatArray

__all__ = ["EpsilonGreedy", "Exploration", "Softmax", "SquareCB"]


class EpsilonGreedy(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="epsilon_greedy",
):
    """Mostly the best action, and now and then any.

    Examples:
        >>> import numpy as np
        >>> EpsilonGreedy(epsilon=0.1).distribution(np.array([0.2, 0.7]), learned=0)
        array([0.05, 0.95])
    """

    epsilon: float = 0.1
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be from 0 to 1, not {self.epsilon}")

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action; the best share what is left.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: Not used.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        del learned
        best = scores == scores.max()
        probabilities: FloatArray = np.where(
            best, (1.0 - self.epsilon) / np.count_nonzero(best), 0.0
        )
        probabilities += self.epsilon / scores.size
        return probabilities


class Softmax(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="softmax",
):
    """Better actions more often, by the exponential of their score.

    Examples:
        >>> import numpy as np
        >>> softmax = Softmax(temperature=0.5)
        >>> softmax.distribution(np.array([0.0, np.log(2)]), learned=0)
        array([0.2, 0.8])
    """

    temperature: float
    """The lead in score, in units of reward, that makes e times likelier: 1e-9 to 1e9.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1e-9 <= self.temperature <= 1e9:
            raise ValueError(
                f"temperature must be from 1e-9 to 1e9, not {self.temperature}"
            )

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action; far below the best it is 0.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: Not used.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).
        """
        del learned
        # At most 0, at the best, so that nothing but -inf can overflow.
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp((scores - scores.max()) / self.temperature)
            probabilities: FloatArray = weights / weights.sum()
        return probabilities


class SquareCB(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="squarecb",
):
    """Actions that trail the best are tried in inverse proportion to how far.

    With n actions, one that trails the best by `gap` has the probability
    1 / (n + γ·gap), and the best what is left. γ grows with what was learned, as
    gamma_scale · learned ** gamma_exponent: from a uniform choice towards the best.

    Examples:
        >>> import numpy as np
        >>> squarecb = SquareCB(gamma_scale=1.0, gamma_exponent=0.5)
        >>> squarecb.distribution(np.array([0.0, 0.5]), learned=0)
        array([0.5, 0.5])
        >>> squarecb.distribution(np.array([0.0, 0.5]), learned=256)
        array([0.1, 0.9])

    References:
        D. Foster and A. Rakhlin. Beyond UCB: optimal and efficient contextual bandits
        with regression oracles. ICML 2020, https://arxiv.org/abs/2002.04926, with μ
        the number of actions. There γ is fixed by the horizon; that it grows, and how,
        is as in Vowpal Wabbit.
    """

    gamma_scale: float = 100.0
    """γ at the first reward learned, in 1 / units of reward: above 0, to 1e9.

    The larger, the less is tried. The default suits rewards of about 0 or 1.
    """

    gamma_exponent: float = 0.5
    """The power of the rewards learned with which γ grows: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0.0 < self.gamma_scale <= 1e9:
            raise ValueError(
                f"gamma_scale must be above 0, to 1e9, not {self.gamma_scale}"
            )
        if not 0.0 <= self.gamma_exponent <= 1.0:
            raise ValueError(
                f"gamma_exponent must be from 0 to 1, not {self.gamma_exponent}"
            )

    def distribution(self, scores: FloatArray, *, learned: int) -> FloatArray:
        """Return the probability of each action.

        Args:
            scores: What each action is expected to earn, finite, shape (n_actions,).
            learned: How many rewards the model has learned, 0 or more.

        Returns:
            Probabilities that sum to 1, shape (n_actions,). Of actions that are
            equally good, the first is the best.
        """
        gamma = self.gamma_scale * float(learned) ** self.gamma_exponent
        best = scores.argmax()
        with np.errstate(over="ignore"):
            # A gap that overflows stays finite, for 0 · ∞ is not a number.
            gaps = np.minimum(scores[best] - scores, np.finfo(np.float64).max)
            probabilities: FloatArray = 1.0 / (scores.size + gamma * gaps)
        probabilities[best] = 0.0
        probabilities[best] = 1.0 - probabilities.sum()
        return probabilities


Exploration = EpsilonGreedy | Softmax | SquareCB
"""Every way to explore; `kind` says in a file of settings which one is meant."""
