"""Products of a context's features and an action's, in one vector of fixed length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.hashing import Hasher
from policies.learners.bounds import FEATURE_MAX, bounded
from policies.model import Action, Features, FloatArray

__all__ = ["Pairing"]

_ACTIONS_MAX = 4_096


class Pairing:
    """Pairs the vector of a context with what is known of actions.

    The vector of all products is the circular convolution of the two vectors: the
    product of two features has the places that the sums of their places are, without
    that any product is named or hashed.

    An action is known by its features, and a constant for what all have in common; one
    without features by its name; and by the names of those that it is like.

    Args:
        dim: How long the vectors are.

    References:
        N. Pham and R. Pagh. Fast and scalable polynomial kernels via explicit feature
        maps. KDD 2013.
    """

    def __init__(self, dim: int) -> None:
        self._hasher = Hasher(dim)
        places = np.arange(dim)
        # Row i, column j: what is at i − j of one meets what is at j of the other.
        self._turned = (places[:, np.newaxis] - places) % dim
        self._kept: dict[Action, FloatArray] = {}

    def pairs(self, x: FloatArray, actions: Sequence[Action]) -> FloatArray:
        """Return the products for each action, shape (n_actions, dim).

        Args:
            x: A context's vector, shape (dim,).
            actions: At least one.
        """
        known = np.array([self._of(action) for action in actions])
        pairs: FloatArray = np.vecdot(x.take(self._turned), known[:, np.newaxis])
        return pairs

    def _of(self, action: Action) -> FloatArray:
        """Return the vector of an action; the latest are kept."""
        vector = self._kept.get(action)
        if vector is None:
            if len(self._kept) >= _ACTIONS_MAX:
                self._kept.clear()
            vector = self._hasher.vector(_features_of(action))
            self._kept[action] = vector
        return vector


def _features_of(action: Action) -> Features:
    """Return what an action is known by; no two kinds of it have the same name."""
    like = [(f"name {name}", 1.0) for name in action.like]
    if not action.features:
        return ((f"name {action.name}", 1.0), *like)
    features = [
        (f"feature {name}", bounded(value, FEATURE_MAX))
        for name, value in action.features
    ]
    return (("constant", 1.0), *features, *like)
