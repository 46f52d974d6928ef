"""Whether a model may serve: it is tried on a few contexts before anybody sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from policies.catalogue import Catalogue
from policies.features import context_features
from policies.model import Action, Context, Features, FeatureValue, Moment
from policies.policy import Policy

__all__ = ["UnfitModelError", "check"]

_ACTIONS_MAX = 32
_CONSTANT: Features = (("constant", 1.0),)


class UnfitModelError(ValueError):
    """A model does not give what a decision needs."""


def check(policy: Policy, catalogue: Catalogue | None = None) -> None:
    """Refuse a policy whose model is not fit to decide.

    It has to give a distribution over the catalogue's actions, and finite beliefs,
    where nothing is known of the user and where all features of the catalogue are. The
    first 32 actions stand for all, so that who serves meanwhile is not held up.

    Args:
        policy: The policy.
        catalogue: What it would decide about; none where nothing is offered yet.

    Raises:
        UnfitModelError: If it does not.
    """
    actions: list[Action] = [Action(0, "", "", "", ())]
    contexts = [_CONSTANT]
    if catalogue is not None:
        actions = list(islice(catalogue.actions, _ACTIONS_MAX))
        contexts += [_sample(catalogue, 1.0), _sample(catalogue, -1e6)]
    for context in contexts:
        try:
            _try(policy, context, actions)
        except (ArithmeticError, ValueError) as error:
            raise UnfitModelError(f"model {policy.model}: {error}") from error


def _try(policy: Policy, context: Features, actions: Sequence[Action]) -> None:
    probabilities = policy.distribution(context, actions)
    if not (np.isfinite(probabilities).all() and abs(probabilities.sum() - 1) < 1e-6):
        raise ValueError("its probabilities are no distribution")
    for believed in policy.learner.believe(context, actions):
        if not np.isfinite(believed).all():
            raise ValueError("what it believes is not finite")


def _sample(catalogue: Catalogue, number: float) -> Features:
    """Return a context in which every feature that is declared has a value."""
    values: dict[str, FeatureValue] = {
        name: number if spec.type == "number" else spec.sample
        for name, spec in catalogue.features.items()
    }
    context = Context("a", "a", moment=Moment("limit_near"), features=values)
    return context_features(context, catalogue.features)
