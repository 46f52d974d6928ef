"""Joins a decision with its outcomes: what it earned, once that can be known.

Nothing is learned from a decision that did not take effect, whatever else is said
of it. From one that did, the first outcome that settles it counts, or that none came
within the wait. The result depends on what is known, not on the order in which it
became known; when more becomes known the reward may change, which is a correction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from policies.model import NO_OFFER, Decision, Outcome
from policies.rewards import RewardSettings

__all__ = ["Join", "join"]


class Join(NamedTuple):
    """What can be said about a decision now.

    Attributes:
        reward: What it earned; none while that is open.
        due_ms: When to look again even if nothing is reported; none for never.
    """

    reward: float | None = None
    due_ms: int | None = None


def join(
    decision: Decision,
    outcomes: Iterable[Outcome],
    rewards: RewardSettings,
    now_ms: int,
    *,
    late: bool = True,
) -> Join:
    """Say what a decision earned, given all that was reported about it.

    Args:
        decision: The decision.
        outcomes: All its outcomes, in any order, each once.
        rewards: What outcomes are worth.
        now_ms: The time.
        late: Whether what came after the wait counts too. It is a correction, and
            never the first that is said of a decision, whenever it is looked at.
    """
    ordered = sorted(outcomes, key=lambda outcome: (outcome.at_ms, outcome.outcome_id))
    silent = decision.chosen == NO_OFFER
    shown = [outcome.at_ms for outcome in ordered if outcome.kind == "shown"]
    withdrawn = any(outcome.kind == "not_shown" for outcome in ordered)
    if silent and rewards.silence_confirms_itself and not (shown or withdrawn):
        shown = [decision.opportunity.at_ms]
    if not shown:
        return Join()
    cost = 0.0 if silent else rewards.attention_cost
    due_ms = shown[0] + rewards.wait
    values = (
        rewards.of(outcome.kind)
        for outcome in ordered
        if late or outcome.at_ms <= due_ms
    )
    earned = next((value for value in values if value is not None), None)
    if now_ms < due_ms and (earned is None or rewards.settle == "after_wait"):
        return Join(due_ms=due_ms)
    return Join(reward=(earned or 0.0) - cost)
