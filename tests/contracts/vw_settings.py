"""Every way in which settings can have Vowpal Wabbit learn and explore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.learners.vw_explorers import (
    VwBag,
    VwCover,
    VwEpsilonGreedy,
    VwExplorer,
    VwFirst,
    VwRegCB,
    VwRnd,
    VwSoftmax,
    VwSquareCB,
    VwSynthCover,
)
from policies.model import Action, Features

__all__ = [
    "EXPLORERS",
    "EXPLORING",
    "OFFERS",
    "ONE_EACH",
    "REGRESSIONS",
    "Row",
    "case_id",
    "learn",
    "rows_of_a_world",
]

EXPLORERS: tuple[VwExplorer, ...] = (
    VwEpsilonGreedy(epsilon=0.2),
    VwFirst(rewards=60),
    VwSoftmax(inverse_temperature=4.0),
    VwSquareCB(gamma_scale=2.0),
    VwSquareCB(elim=True, mellowness=0.1),
    VwRegCB(mellowness=0.01),
    VwRegCB(mellowness=0.01, optimistic=True),
    VwBag(bags=3, epsilon=0.1),
    VwBag(bags=3, greedify=True),
    VwCover(policies=3),
    VwCover(policies=3, nounif=True),
    VwSynthCover(policies=20),
    VwRnd(predictors=2),
)

EXPLORING = [
    VowpalWabbitSettings(bits=12, learning_rate=0.5, cb_type=cb_type, explorer=explorer)
    for explorer in EXPLORERS
    for cb_type in explorer.cb_types
]
"""With every explorer, by every `cb_type` that it learns with."""

REGRESSIONS = [
    VowpalWabbitSettings(bits=12, learning_rate=0.5),
    VowpalWabbitSettings(bits=12, learning_rate=0.5, cb_type="ips"),
    VowpalWabbitSettings(bits=12, learning_rate=0.5, cb_type="dr"),
    VowpalWabbitSettings(bits=12, power_t=0.0, learning_rate=0.05, l2=1e-5),
    VowpalWabbitSettings(bits=12, power_t=0.0, learning_rate=0.05, cb_type="dr"),
]

ONE_EACH = [
    VowpalWabbitSettings(
        bits=12,
        learning_rate=0.5,
        cb_type=explorer.cb_types[at % len(explorer.cb_types)],
        explorer=explorer,
    )
    for at, explorer in enumerate(EXPLORERS)
]
"""With every explorer, by one `cb_type` or another."""

Row = tuple[Features, Action, float, float]
"""What was known, what was chosen, what it earned, and how likely it was chosen."""

OFFERS = tuple(
    Action(i, name, "text", "home", (("price", 0.25 * i),))
    for i, name in enumerate(("tea", "jam", "oats", "rice"), 1)
)


def case_id(settings: VowpalWabbitSettings) -> str:
    """Name a case by VW's options, as far as cases differ in them."""
    options = settings.options
    return " ".join(options[: options.index("--interactions")]).replace("--", "")


def rows_of_a_world(count: int, seed: int = 0) -> Iterator[Row]:
    """Return rewards of 0 and 1; features come anew, in many scales."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        words = generator.choice(5 + number // 10, 3, replace=False)
        scales = generator.lognormal(0.0, 1.0, 3) * generator.choice([-1.0, 1.0], 3)
        features = zip((f"x{word}" for word in words), scales.tolist(), strict=True)
        shares = generator.dirichlet(np.ones(len(OFFERS))) * 0.8 + 0.05
        at = int(generator.choice(len(OFFERS), p=shares))
        pleased = generator.random() < 0.2 * (at + 1)
        context = (("constant", 1.0), *features)
        yield context, OFFERS[at], float(pleased), float(shares[at])


def learn(learner: VowpalWabbit, rows: Sequence[Row]) -> None:
    """Let a learner learn what was chosen among all offers."""
    for context, action, reward, propensity in rows:
        learner.learn(
            context, action, reward=reward, propensity=propensity, among=OFFERS
        )
