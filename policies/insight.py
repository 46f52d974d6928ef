"""What a model has learned, in numbers that a person can read.

Every learner is asked the same: what it believes of an action where nothing is known,
and how that changes with one feature more. For linear learners these are their weights.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from policies.intervals import mean_of
from policies.learners.base import Learner
from policies.model import Action, Features

__all__ = ["Bucket", "Effect", "Expectation", "calibration", "effects", "expectations"]

_CONSTANT: Features = (("constant", 1.0),)


class Expectation(NamedTuple):
    """What an action is expected to earn where nothing is known, and how sure."""

    action: Action
    mean: float
    deviation: float


class Effect(NamedTuple):
    """How a feature changes what an action is expected to earn.

    Attributes:
        value: The value of the feature that was tried: its usual one.
    """

    action: Action
    feature: str
    value: float
    change: float


class Bucket(NamedTuple):
    """Decisions of which about the same was predicted.

    Attributes:
        predicted: What was, on average.
        observed: What they earned, on average; `low` and `high` bound it.
    """

    n: int
    predicted: float
    observed: float
    low: float
    high: float


def expectations(learner: Learner, actions: Sequence[Action]) -> list[Expectation]:
    """Return what is expected of each action where nothing is known, best first."""
    beliefs = learner.believe(_CONSTANT, actions)
    found = [
        Expectation(action, float(mean), float(deviation))
        for action, mean, deviation in zip(
            actions, beliefs.mean, beliefs.deviation, strict=True
        )
    ]
    return sorted(found, key=lambda one: -one.mean)


def effects(
    learner: Learner,
    actions: Sequence[Action],
    contexts: Iterable[Features],
    *,
    features_max: int = 200,
) -> list[Effect]:
    """Return how the features of contexts change what is expected, largest first.

    Args:
        learner: The learner.
        actions: At least one.
        contexts: Where the features and their usual values are taken from.
        features_max: How many features to try, those that are there most often.
    """
    seen: defaultdict[str, list[float]] = defaultdict(list)
    for context in contexts:
        for name, value in context:
            if name != "constant" and value != 0.0:
                seen[name].append(value)
    often = sorted(seen, key=lambda name: (-len(seen[name]), name))[:features_max]
    base = learner.believe(_CONSTANT, actions).mean
    found: list[Effect] = []
    for name in often:
        value = math.fsum(seen[name]) / len(seen[name])
        changed = learner.believe((*_CONSTANT, (name, value)), actions).mean - base
        found += [
            Effect(action, name, value, float(change))
            for action, change in zip(actions, changed, strict=True)
        ]
    return sorted(found, key=lambda one: -abs(one.change))


def calibration(
    predicted: Sequence[float], observed: Sequence[float], buckets: int = 5
) -> list[Bucket]:
    """Return whether what was predicted came true, for about as many decisions each.

    Decisions of which the same was predicted stay together.

    Args:
        predicted: What each decision was predicted to earn.
        observed: What it earned.
        buckets: How many; fewer where fewer things were predicted.

    Examples:
        >>> found = calibration([0.1, 0.1, 0.9, 0.9], [0.0, 0.0, 1.0, 1.0], buckets=2)
        >>> [(b.n, b.predicted, b.observed) for b in found]
        [(2, 0.1, 0.0), (2, 0.9, 1.0)]
        >>> [b.n for b in calibration([0.1, 0.1, 0.1, 0.9], [0.0] * 4, buckets=4)]
        [3, 1]
    """
    if not predicted:
        return []
    values, rewards = np.array(predicted, dtype=float), np.array(observed, dtype=float)
    order = np.argsort(values, kind="stable")
    cuts = len(order) * np.arange(1, buckets) // buckets
    alike = np.searchsorted(values[order], values[order][cuts])
    found: list[Bucket] = []
    for part in np.split(order, np.unique(alike[alike > 0])):
        earned = mean_of(rewards[part])
        mean = float(values[part].mean())
        found.append(Bucket(len(part), mean, earned.value, earned.low, earned.high))
    return found
