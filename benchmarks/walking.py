"""How fast a learning LinUCB is replayed on a log, beside others on the same rows.

The log chose uniformly. A row is a decision: the policy says how likely it is to do
what the log did, and where a draw says that it would have, it learns the reward. Ours
is `simulator.walk` with the evaluator `replay`, from reading the rows to the interval;
`numpy` is LinUCB as one writes it in a few lines, on vectors that are there already,
and does the same walk; gittins takes names, decides for itself, and learns where it
agrees.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.model import Action, FloatArray
from simulator import Feedback, Parts, walk
from simulator.feedback import Contexts

__all__ = ["KINDS", "World", "gittins", "ours", "plain", "world"]

KINDS = {"small": (10, 20), "large": (50, 50)}
"""How many actions there are, and how many numbers of context."""

_EPSILON = 0.1
_SETTINGS = """\
[policy.learner]
kind = "linucb"
dim = {dim}
alpha = 1.0
[policy.exploration]
kind = "epsilon_greedy"
epsilon = {epsilon}
"""


class World(NamedTuple):
    """A log as arrays.

    Attributes:
        X: Contexts, shape (n, d).
        chosen: What the log chose, shape (n,).
        rewards: What that earned, shape (n,).
        n_actions: How many actions there are.
    """

    X: FloatArray
    chosen: NDArray[np.int64]
    rewards: FloatArray
    n_actions: int


def world(kind: str, rows: int) -> World:
    """Return a log whose rewards are linear in the context, and noisy."""
    n_actions, d = KINDS[kind]
    rng = np.random.default_rng(7)
    contexts = rng.standard_normal((rows, d))
    weights = rng.standard_normal((n_actions, d)) / np.sqrt(d)
    chosen = rng.integers(n_actions, size=rows)
    rewards = (contexts * weights[chosen]).sum(axis=1)
    rewards += 0.1 * rng.standard_normal(rows)
    return World(contexts, chosen, rewards, n_actions)


def ours(log: World) -> tuple[float, float]:
    """Replay; return the seconds, and how many rows were learned from."""
    part = _feedback(log)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "learning.toml"
        text = _SETTINGS.format(dim=log.X.shape[1], epsilon=_EPSILON)
        path.write_text(text, encoding="utf-8")
        began = time.process_time()
        result = walk(Parts([part]), [str(path)], evaluators=["replay"])
        return time.process_time() - began, result.runs[0].updates


def _feedback(log: World) -> Feedback:
    (n, d), n_actions = log.X.shape, log.n_actions
    names = [f"x{number}" for number in range(d)]
    codes = np.tile(np.arange(d, dtype=np.int32), n)
    return Feedback(
        positions=np.arange(1, n + 1),
        times_ms=np.arange(1, n + 1),
        keys=np.arange(n).astype(np.uint64),
        loggers=np.zeros(n, np.int32),
        rewards=log.rewards,
        propensities=np.full(n, 1.0 / n_actions),
        chosen=log.chosen.astype(np.int32),
        floors=np.full(n, 1.0 / n_actions),
        offsets=np.arange(n + 1) * n_actions,
        actions=np.tile(np.arange(n_actions, dtype=np.int32), n),
        probabilities=np.full(n * n_actions, 1.0 / n_actions),
        contexts=Contexts(names, np.arange(n + 1) * d, codes, log.X.ravel()),
        segments=(),
        objectives={},
        vocabulary=[
            Action(number, f"offer-{number}", "creative", "placement", ())
            for number in range(n_actions)
        ],
        policies=["uniform"],
    )


def plain(log: World) -> tuple[float, float]:
    """Replay in a few lines of numpy; return the seconds, and how many it learned."""
    n_actions, d = log.n_actions, log.X.shape[1]
    inverse = np.tile(np.eye(d), (n_actions, 1, 1))
    flat = inverse.reshape(-1, d)
    sums, theta = np.zeros((n_actions, d)), np.zeros((n_actions, d))
    rows = list(zip(log.X, log.chosen.tolist(), log.rewards.tolist(), strict=True))
    learned, earned = 0, 0.0
    began = time.process_time()
    draws = np.random.default_rng(7).random(len(rows)).tolist()
    for (x, chosen, reward), draw in zip(rows, draws, strict=True):
        spread = flat.dot(x).reshape(n_actions, d)
        bounds = theta.dot(x) + np.sqrt(spread.dot(x))
        best = int(bounds.argmax()) == chosen
        if draw < _EPSILON / n_actions + (1.0 - _EPSILON) * best:
            moved = spread[chosen]
            inverse[chosen] -= np.outer(moved, moved) / (1.0 + x.dot(moved))
            sums[chosen] += reward * x
            theta[chosen] = inverse[chosen].dot(sums[chosen])
            learned += 1
            earned += reward
    return time.process_time() - began, float(learned)


def gittins(log: World) -> float | None:
    """Replay with gittins; return the seconds, or none where it is not installed."""
    if importlib.util.find_spec("gittins") is None:
        return None
    module: Any = importlib.import_module("gittins")
    state = module.create(18, 3600.0)
    names = [f"x{number}" for number in range(log.X.shape[1])]
    rows = [dict(zip(names, row, strict=True)) for row in log.X.tolist()]
    actions: list[tuple[str, dict[str, float]]]
    actions = [(f"offer-{number}", {}) for number in range(log.n_actions)]
    chosen, rewards = log.chosen.tolist(), log.rewards.tolist()
    began = time.process_time()
    for row, context in enumerate(rows):
        record = module.decide(state, context, actions, float(row), "salt")
        if record.chosen == chosen[row]:
            module.learn(state, record.decision_id, rewards[row], float(row))
    return time.process_time() - began
