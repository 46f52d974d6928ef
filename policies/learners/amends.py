"""How far corrections may move a model whose weights do not know of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.learners.waves import Seen
from policies.model import FloatArray

__all__ = ["ACCOUNT", "amend", "overlap", "within"]

ACCOUNT = 6
"""How many numbers an account has.

How many rewards of the action were learned; how many that were at its last correction,
and at which rate; what was owed, and what was paid by each model.
"""


def overlap(seen: Seen, variances: FloatArray) -> float:
    """Return how many times over the weights of a context would learn a common shift.

    Each weight by itself would make up for what all rewards of an action have in
    common. So all of them together would do so as often as there are weights that
    are usually there: a variance says how often one was, beside the first.

    Args:
        seen: The context.
        variances: Of the weights by group, shape (n_groups, n_features); the first of
            each group is always there, the first group is the action's own.

    Returns:
        1 or more.
    """
    own = variances[0]
    lengths = np.maximum(seen.x * seen.x, 1e-12)
    there = (1.0 / own - 1.0) / lengths
    usual = np.minimum(there / max(there.item(0), 1e-12), 1.0) * seen.steady
    first = variances[:, :1]
    times = (variances / first * (1.0 - first)) @ (usual * lengths)
    return max(float(times.sum()), 1.0)


def amend(
    account: FloatArray,
    by: float,
    *,
    rate: float,
    overlaps: Sequence[float],
    scales: Sequence[float],
) -> list[float]:
    """Return which part of its step each model takes, 0 to 1, to make up for a reward.

    Corrections are owed their mean over all rewards of the action, and no more: that
    is how far they would have moved what is expected on average. Rewards that are
    learned afterwards take back what was paid too much, and what was rightly paid
    with it: the faster, the more the weights overlap.

    Args:
        account: Of the action, shape (6,). The first number is how many of its
            rewards were learned; the others are changed.
        by: How far the reward was off, not 0.
        rate: How far one unit moves a weight that is always there, above 0 to 1.
        overlaps: How many times over each model would pay, 1 or more.
        scales: What each model divides its steps by.
    """
    learned = max(float(account[0]), 1.0)
    owed = float(account[3]) * min(float(account[1]) / learned, 1.0) + by / learned
    left = min(rate / float(account[2]), 1.0) if account[2] else 1.0
    parts = []
    for model, (times, scale) in enumerate(zip(overlaps, scales, strict=True), 4):
        paid = float(account[model]) * left**times
        step = times * by * rate / scale
        part = min(max((owed - paid) / step, 0.0), 1.0)
        account[model] = paid + part * step
        parts.append(part)
    account[1:4] = learned, rate, owed
    return parts


def within(move: float, spread: float, room: float) -> float:
    """Return a move that carries a prediction no further than there is room.

    Args:
        move: By how much times `spread` the prediction is to be moved.
        spread: 0 or more.
        room: How far it may be moved; in the other direction, not at all.

    Examples:
        >>> within(-0.5, 1.0, -0.25), within(-0.5, 1.0, -4.0), within(-0.5, 1.0, 0.1)
        (-0.25, -0.5, 0.0)
    """
    if move * room <= 0.0:
        return 0.0
    if abs(move) * spread <= abs(room):
        return move
    return math.copysign(abs(room) / spread, move)
