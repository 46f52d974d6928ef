"""Models are tried before they serve."""

from __future__ import annotations

import numpy as np
import pytest

from policies import catalogue as catalogues
from policies.health import UnfitModelError, check
from policies.learners.base import Beliefs
from policies.policy import Policy, PolicySettings

SHOP = catalogues.read(
    """
    [placements.home]
    [offers.tea]
    placements = ["home"]
    [features.plan]
    type = "category"
    [features.age]
    type = "number"
    """
)


def test_a_model_that_decides_is_fit() -> None:
    check(Policy(PolicySettings()))
    check(Policy(PolicySettings()), SHOP)


class _Broken:
    """A learner that is wrong where features are known."""

    def __init__(self, scores: float, beliefs: float) -> None:
        self._scores = scores
        self._beliefs = beliefs

    def score(self, context: object, actions: list[object]) -> np.ndarray:
        known = len(context) > 1  # type: ignore[arg-type] # It is a tuple.
        return np.full(len(actions), self._scores if known else 0.0)

    def believe(self, context: object, actions: list[object]) -> Beliefs:
        del context
        mean = np.full(len(actions), self._beliefs)
        return Beliefs(mean, np.zeros_like(mean))


@pytest.mark.parametrize(
    ("scores", "beliefs", "said"),
    [
        (np.nan, 0.0, "finite"),
        (np.inf, 0.0, "finite"),
        (0.0, np.nan, "finite"),
    ],
)
def test_a_model_with_numbers_that_are_none_is_refused(
    scores: float, beliefs: float, said: str
) -> None:
    policy = Policy(PolicySettings(), model="1.7")
    policy.learner = _Broken(scores, beliefs)  # type: ignore[assignment] # It is enough.

    with pytest.raises(UnfitModelError, match=rf"model 1\.7: .*{said}"):
        check(policy, SHOP)


def test_a_model_whose_distribution_is_none_is_refused() -> None:
    policy = Policy(PolicySettings(), model="1.7")
    policy.distribution = lambda *_: np.array([0.5])  # type: ignore[method-assign]

    with pytest.raises(UnfitModelError, match="no distribution"):
        check(policy)
