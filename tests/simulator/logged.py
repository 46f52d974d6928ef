"""Logs of users whose tastes are known, made in memory.

Users are in segments; what an offer earns there is a table, and so is how likely the
logging policy offers it: the value of any policy can be worked out by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from policies.model import Action, FloatArray
from simulator import Feedback

OFFERS = ("", "tea", "jam", "bun")
SEGMENTS = ("free", "team", "old")
TASTES = np.array(
    [[0.0, 0.50, 0.20, 0.30], [0.0, 0.10, 0.40, 0.20], [0.0, 0.30, 0.30, 0.10]]
)
ANNOYED = np.array([0.0, 0.05, 0.20, 0.02])
NOON_MS = 1_795_262_400_000
VOCABULARY = tuple(
    Action(place, offer, "default", "home", ()) for place, offer in enumerate(OFFERS)
)
_MINUTE_MS = 60_000


def shares(liked: Mapping[str, str], explored: float) -> FloatArray:
    """Return a policy: by segment what it likes, and how much it tries."""
    found = np.full(TASTES.shape, explored / len(OFFERS))
    for row, segment in enumerate(SEGMENTS):
        found[row, OFFERS.index(liked[segment])] += 1.0 - explored
    return found


LOGGING = shares({"free": "tea", "team": "tea", "old": "bun"}, 0.4)
BEST = shares({"free": "tea", "team": "jam", "old": "jam"}, 0.0)


def value(policy: FloatArray) -> float:
    """Return what a policy earns, where segments are alike in number."""
    return float((policy * TASTES).sum(axis=1).mean())


def log(
    n: int,
    seed: int = 0,
    *,
    users: int | None = None,
    logging: FloatArray = LOGGING,
    scale: float = 1.0,
) -> Feedback:
    """Return a log of n decisions.

    Args:
        n: How many there are, a minute apart.
        seed: Of what is random.
        users: How many users they are of, each always in one segment and mood; each
            decision has its own without it.
        logging: The logging policy.
        scale: What an acceptance is worth.
    """
    rng = np.random.default_rng(seed)
    keys = rng.integers(2**63, size=users or n).astype(np.uint64)
    segment = rng.integers(len(SEGMENTS), size=users or n)
    mood = rng.random(users or n)
    whose = np.arange(n) if users is None else rng.integers(users, size=n)
    keys, segment, mood = keys[whose], segment[whose], mood[whose]
    cells = logging[segment]
    drawn = rng.random(n)
    chosen = (drawn[:, None] >= cells.cumsum(axis=1)[:, :-1]).sum(axis=1)
    accepted = (mood < TASTES[segment, chosen]).astype(float)
    dismissed = (rng.random(n) < ANNOYED[chosen]) * (1.0 - accepted)
    mine: FloatArray = BEST[segment, chosen]
    return Feedback(
        positions=np.arange(1, n + 1),
        times_ms=NOON_MS + np.arange(n) * _MINUTE_MS,
        keys=keys,
        loggers=np.zeros(n, np.int32),
        rewards=accepted * scale,
        propensities=cells[np.arange(n), chosen],
        chosen=chosen.astype(np.int32),
        floors=np.full(n, LOGGING.min()),
        offsets=np.arange(n + 1) * len(OFFERS),
        actions=np.tile(np.arange(len(OFFERS), dtype=np.int32), n),
        probabilities=cells.ravel(),
        contexts=[
            (("constant", 1.0), (f"segment={SEGMENTS[s]}", 1.0)) for s in segment
        ],
        segments=[SEGMENTS[s] for s in segment],
        objectives={"accepted": accepted, "dismissed": dismissed},
        vocabulary=VOCABULARY,
        policies=["first"],
        targets={"best": mine},
    )


def cut(whole: Feedback, size: int, seed: int | None = None) -> list[Feedback]:
    """Return a log in parts, shuffled if there is a seed."""
    order: NDArray[np.intp] = np.arange(len(whole))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
    return [whole.take(order[at : at + size]) for at in range(0, len(whole), size)]
