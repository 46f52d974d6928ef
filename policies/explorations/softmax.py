"""Better actions more often, by the exponential of their score."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from policies.model import FloatArray

__all__ = ["Softmax"]


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

    floor: ClassVar[float] = 0.0

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

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return 0: far below the best there is no chance."""
        del n_actions, learned
        return 0.0
