"""The one way in which a policy learns from a resolution.

The learner process and whoever replays its log both fold the training stream with
this, so that they end in the same model.
"""

from __future__ import annotations

from policies.catalogue import Catalogue
from policies.features import context_features
from policies.model import Decision, Resolution
from policies.policy import Policy

__all__ = ["fold"]


def fold(
    policy: Policy, resolution: Resolution, decision: Decision, catalogue: Catalogue
) -> None:
    """Let a policy learn what a decision earned.

    A correction, whose revision is above 1, moves no model that has learned the
    first reward: it takes effect where the stream is folded anew.

    Args:
        policy: It learns in place.
        resolution: A row of the training stream.
        decision: The decision that it is about.
        catalogue: The catalogue of that decision.
    """
    if resolution.revision > 1:
        return
    actions = catalogue.actions
    policy.learn(
        context_features(decision.opportunity.context, catalogue.features),
        actions[decision.chosen],
        reward=resolution.reward,
        propensity=decision.propensity,
        among=[actions[at] for at in decision.actions] if policy.learns_among else (),
    )
