"""Draws from a distribution by a hash of the decision's id.

There is no generator, so there is nothing to share, to lock or to seed: the same id
makes the same draw on another machine, years later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

import numpy as np

from policies.model import ACTIONS_MAX, PROBABILITY_UNITS, FloatArray

__all__ = ["draw", "to_units"]


def to_units(distribution: FloatArray) -> tuple[int, ...]:
    """Return the distribution in billionths that sum to one exactly.

    What is possible stays so: a positive probability is at least one billionth. The
    largest (the first of equals) takes up the rounding, less than one billionth for
    each action.

    Args:
        distribution: Probabilities that sum to 1 within 1e-6, shape (n_actions,),
            for 1 to `ACTIONS_MAX` actions.

    Raises:
        ValueError: If it is not a distribution, or over too many actions.

    Examples:
        >>> import numpy as np
        >>> to_units(np.array([1 / 3, 1 / 3, 1 / 3]))
        (333333334, 333333333, 333333333)
        >>> to_units(np.array([0.0, 1e-30, 1.0]))
        (0, 1, 999999999)
    """
    if not 1 <= distribution.size <= ACTIONS_MAX:
        raise ValueError(
            f"there must be from 1 to {ACTIONS_MAX} actions, not {distribution.size}"
        )
    # Said this way round, a NaN is refused too.
    if not (distribution.min() >= 0.0 and abs(distribution.sum() - 1.0) <= 1e-6):
        raise ValueError(f"probabilities must sum to 1, each 0 or more: {distribution}")
    # Rounded down, so that the largest only ever loses what makes others possible:
    # n billionths at the most, of at least 1 / n.
    units = (distribution * PROBABILITY_UNITS).astype(np.int64)
    np.maximum(units, distribution > 0.0, out=units)
    units[units.argmax()] += PROBABILITY_UNITS - units.sum()
    return tuple(units.tolist())


def draw(units: Sequence[int], decision_id: str, salt: str) -> int:
    """Return the position that the decision's id draws.

    The first 64 bits of a keyed hash, as a fraction of 2**64, pick one of the billion
    units.

    Args:
        units: Probabilities in billionths, together one.
        decision_id: What the draw is a function of.
        salt: What makes draws of one policy independent of those of another, at most
            64 bytes in UTF-8.

    Raises:
        ValueError: If the units do not sum to a billion, or the salt is too long.

    Examples:
        >>> draw((500_000_000, 0, 500_000_000), "decision-1", "salt")
        2
    """
    upper = list(accumulate(units))
    if not upper or upper[-1] != PROBABILITY_UNITS:
        raise ValueError(
            f"units must sum to {PROBABILITY_UNITS}, not {upper[-1] if upper else 0}"
        )
    digest = blake2b(decision_id.encode(), key=salt.encode(), digest_size=8).digest()
    unit = int.from_bytes(digest, "big") * PROBABILITY_UNITS >> 64
    return bisect_right(upper, unit)
