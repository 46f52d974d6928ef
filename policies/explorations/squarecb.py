"""Actions in inverse proportion to how far they trail, as in Vowpal Wabbit."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from policies.explorations.base import inverse_gaps
from policies.model import FloatArray

__all__ = ["SquareCB"]


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
        the number of actions. There γ is fixed by the horizon, as `inverse_gap` can do;
        that it grows, and how, is as in Vowpal Wabbit.
    """

    floor: ClassVar[float] = 0.0

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
            Probabilities that sum to 1, shape (n_actions,). The best share what is
            left.
        """
        gamma = self.gamma_scale * float(learned) ** self.gamma_exponent
        return inverse_gaps(scores, gamma)

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return 0: how little an action gets depends on how far it trails."""
        del n_actions, learned
        return 0.0
