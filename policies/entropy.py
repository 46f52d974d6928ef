"""How much choice a distribution leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["selection_entropy"]


def selection_entropy(weights: Sequence[float]) -> float:
    """Return the entropy of a distribution, as a share of the largest there is.

    1 is any of them alike, 0 is always the same one. Of the chances of one decision it
    says how much was tried; of how often each action was chosen, how much is still
    tried at all: where that falls below 0.2, and nothing is proven to be the best,
    exploration has collapsed.

    Args:
        weights: Chances or counts, each 0 or more, at least two, together above 0.

    Raises:
        ValueError: If they are not that.

    Examples:
        >>> selection_entropy([0.5, 0.5]), selection_entropy([1.0, 0.0])
        (1.0, 0.0)
        >>> round(selection_entropy([950, 25, 25]), 2)
        0.21
    """
    if len(weights) < 2:
        raise ValueError(f"there must be at least 2 weights, not {len(weights)}")
    total = math.fsum(weights)
    if not (min(weights) >= 0.0 and 0.0 < total < math.inf):
        raise ValueError(f"weights must be 0 or more, together above 0: {weights}")
    shares = [weight / total for weight in weights]
    nats = 0.0 - math.fsum([share * math.log(share) for share in shares if share])
    return min(max(nats / math.log(len(weights)), 0.0), 1.0)
