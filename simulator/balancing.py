"""What tells the decisions of a log from those of targets, for balanced weights.

A sample of the rows, the same in every order, teaches one logistic regression for each
target and action: by what is known of the moment, how much likelier the target takes
the action than the log does. No propensity is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.estimators.balancing import balancing_model
from policies.hashing import Hasher
from policies.model import FloatArray
from policies.reward_model import design
from simulator.batches import Batch, BatchError, mixed
from simulator.surveying import contexts_of
from simulator.targets import Logged, Target

__all__ = ["Balancing", "Sampled", "sampled"]

_DIM = 16
_HASHER = Hasher(_DIM)
_SALT = 0x5EED_0005
_ROWS_MAX = 20_000
_ROWS_MIN = 200
_NUMBERS_MAX = 5_000_000
_LOG_ODDS_MAX = 30.0


class Balancing(NamedTuple):
    """A classifier for each action, by which a row is rather a target's.

    Attributes:
        names: The actions, by name; the last one is for all others.
        theta: What each feature adds to the log-odds, shape (n_actions, dim + 1).
    """

    names: Sequence[str]
    theta: FloatArray

    def weights(self, batch: Batch) -> FloatArray:
        """Return the balanced weight of each row, shape (n,), each above 0."""
        part = batch.feedback
        features = design(contexts_of(part), _HASHER)
        theta = self.theta[_places(batch, self.names)[part.chosen]]
        odds = (features * theta).sum(axis=1)
        return np.asarray(np.exp(np.clip(odds, -_LOG_ODDS_MAX, _LOG_ODDS_MAX)))


class Sampled(NamedTuple):
    """The rows of a log with the smallest hashes, and what targets would do with them.

    Attributes:
        names: The actions, by name; the last one is for all others.
        size: How many rows are kept at most.
        hashes: Of each row, shape (n,), ascending.
        features: What was known, shape (n, dim + 1).
        chosen: Which action the log has, shape (n,), a place in `names`.
        masses: What each target would do, shape (targets, n, n_actions).
    """

    names: Sequence[str]
    size: int
    hashes: NDArray[np.uint64]
    features: FloatArray
    chosen: NDArray[np.intp]
    masses: FloatArray

    def __add__(self, other: Sampled) -> Sampled:  # type: ignore[override]
        hashes = np.concatenate([self.hashes, other.hashes])
        kept = np.argsort(hashes, kind="stable")[: self.size]
        return Sampled(
            self.names,
            self.size,
            hashes[kept],
            np.concatenate([self.features, other.features])[kept],
            np.concatenate([self.chosen, other.chosen])[kept],
            np.concatenate([self.masses, other.masses], axis=1)[:, kept],
        )

    def solve(self) -> list[Balancing]:
        """Return the classifiers of each target."""
        return [Balancing(self.names, self._theta(masses)) for masses in self.masses]

    def _theta(self, masses: FloatArray) -> FloatArray:
        theta = np.zeros((len(self.names), self.features.shape[1]))
        for action in range(len(self.names)):
            logged = self.features[self.chosen == action]
            theirs = masses[:, action] > 0.0
            if len(logged) or theirs.any():
                theta[action] = balancing_model(
                    logged, self.features[theirs], masses[theirs, action]
                )
        return theta


def sampled(batch: Batch, targets: Sequence[Target], names: Sequence[str]) -> Sampled:
    """Take a sample of a part of a log.

    Args:
        batch: The part, of which every row has a reward.
        targets: Whom to ask.
        names: The actions, by name; the last one is for all others.

    Raises:
        BatchError: If nobody knows what a target would do with every eligible action.
    """
    size = _NUMBERS_MAX // (len(names) * len(targets))
    size = min(max(size, _ROWS_MIN), _ROWS_MAX)
    part = batch.feedback
    places = part.positions if len(part.positions) else np.arange(len(part))
    hashes = mixed(part.keys ^ mixed(places.astype(np.uint64), _SALT), _SALT)
    kept = np.argsort(hashes, kind="stable")[:size]
    few = Batch(part.take(kept))
    place_of = _places(few, names)
    masses = np.zeros((len(targets), len(kept), len(names)))
    for mine, target in zip(masses, targets, strict=True):
        if isinstance(target, Logged):
            continue
        eligible = target.answer(few).eligible
        if eligible is None:
            raise BatchError(
                f"balanced_ips needs to know what {target.name} would do with every"
                " eligible action"
            )
        np.add.at(mine, (few.rows, place_of[few.feedback.actions]), eligible)
    return Sampled(
        names,
        size,
        hashes[kept],
        design(contexts_of(few.feedback), _HASHER),
        place_of[few.feedback.chosen],
        masses,
    )


def _places(batch: Batch, names: Sequence[str]) -> NDArray[np.intp]:
    """Return the place of each action of the vocabulary among names."""
    places = {name: place for place, name in enumerate(names)}
    return np.array(
        [
            places.get(action.name, len(names) - 1)
            for action in batch.feedback.vocabulary
        ],
        np.intp,
    )
