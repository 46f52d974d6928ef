"""What outcomes are worth, by settings."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from policies.model import OutcomeKind
from policies.toml import Duration

__all__ = ["RewardSettings"]

_DEFAULTS: dict[OutcomeKind, float] = {
    "accepted": 1.0,
    "converted": 1.0,
    "dismissed": -0.2,
    "snoozed": 0.0,
    "opted_out": -1.0,
}


class RewardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each outcome is worth, and how long to wait for one.

    Attributes:
        outcomes: The reward of each outcome that settles a decision, a finite
            number. The first of them, by the user's time, counts. Those that are not
            named have their defaults: accepted 1, converted 1, dismissed -0.2,
            snoozed 0, opted_out -1; the others settle nothing.
        attention_cost: What it costs to show an offer, 0 or more; silence is free.
        wait: How long after it was shown a decision waits for an outcome. One that
            none came for earns 0, less the attention cost.
        settle: When an outcome settles a decision: `at_once`, or `after_wait`, together
            with those that none comes for. At once learns sooner. But then good news
            travels faster than no news, and what was chosen last looks better than it
            is; with a short wait, wait.
        silence_confirms_itself: Whether a decision for no offer counts as carried
            out without a report. If not, it trains only when it is reported shown.
    """

    outcomes: dict[OutcomeKind, float] = {}
    attention_cost: float = 0.01
    wait: Duration = Duration(600_000)
    settle: Literal["at_once", "after_wait"] = "at_once"
    silence_confirms_itself: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be a reward."""
        for kind, reward in self.outcomes.items():
            if kind in ("shown", "not_shown"):
                raise ValueError(f"outcomes: {kind} is no outcome that earns a reward")
            if not math.isfinite(reward):
                raise ValueError(f"outcomes.{kind} must be finite, not {reward}")
        if not 0.0 <= self.attention_cost < math.inf:
            raise ValueError(
                f"attention_cost must be 0 or more, not {self.attention_cost}"
            )
        if self.wait <= 0:
            raise ValueError("wait must be above 0")

    def of(self, kind: OutcomeKind) -> float | None:
        """Return what an outcome is worth; none where it settles nothing.

        Examples:
            >>> RewardSettings().of("accepted"), RewardSettings().of("clicked")
            (1.0, None)
        """
        return self.outcomes.get(kind, _DEFAULTS.get(kind))
