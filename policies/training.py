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
    """Let a policy learn what a decision earned, or turned out to earn.

    A correction takes the place of what was learned before. One that does not say what
    that was is from a time when corrections were not learned, and still is not. Nothing
    is learned of users who are there to find out what was learned.

    Args:
        policy: It learns in place.
        resolution: A row of the training stream.
        decision: The decision that it is about.
        catalogue: The catalogue of that decision.
    """
    if decision.split != "train":
        return
    actions = catalogue.actions
    context = context_features(decision.opportunity.context, catalogue.features)
    action = actions[decision.chosen]
    reward, propensity = resolution.reward, decision.propensity
    among = [actions[at] for at in decision.actions] if policy.learns_among else ()
    if resolution.revision == 1:
        policy.learn(context, action, reward=reward, propensity=propensity, among=among)
    elif resolution.before is not None:
        policy.correct(
            context,
            action,
            reward=reward,
            before=resolution.before,
            propensity=propensity,
            among=among,
        )
