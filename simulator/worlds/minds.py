"""What goes on in a user: fatigue, annoyance, and how likely each answer is then."""

from __future__ import annotations

import math
from typing import NamedTuple

from simulator.worlds.spec import AnswerSpec, FatigueSpec, WorldSpec

__all__ = ["SILENT", "Answers", "Mood", "answers"]


class Answers(NamedTuple):
    """How likely a user gives each answer to an offer; the rest ignores it.

    Attributes:
        accepted: The probability of an accept, sooner or later.
        opted_out: That of an opt-out.
        dismissed: That of a dismissal.
        snoozed: That of a snooze.
    """

    accepted: float = 0.0
    opted_out: float = 0.0
    dismissed: float = 0.0
    snoozed: float = 0.0

    @property
    def ignored(self) -> float:
        """The probability that nothing comes of it."""
        return 1.0 - self.accepted - self.opted_out - self.dismissed - self.snoozed


SILENT = Answers()
"""Nobody answers where nothing is shown."""


class Mood:
    """What a user has of offers so far.

    Args:
        spec: The world.
        at_ms: The time.

    Attributes:
        fatigue: What is left of the interruptions.
        annoyance: What is left of offers that were not wanted.
        owned: The products that they have.
        deciding: The offers that they will accept, but have not yet.
        churned_ms: When they left; none while they are there.
        seen_ms: When they were there last.
    """

    def __init__(self, spec: WorldSpec, at_ms: int) -> None:
        self._spec = spec
        self._at_ms = at_ms
        self.fatigue = 0.0
        self.annoyance = 0.0
        self.owned: set[str] = set()
        self.deciding: set[str] = set()
        self.churned_ms: int | None = None
        self.seen_ms = at_ms

    def pass_to(self, at_ms: int) -> None:
        """Let time go on: half of what there is goes in each half-life."""
        passed = at_ms - self._at_ms
        if passed > 0:
            self.fatigue *= 0.5 ** (passed / self._spec.fatigue.half_life)
            self.annoyance *= 0.5 ** (passed / self._spec.annoyance.half_life)
            self._at_ms = at_ms

    def hazard(self) -> float:
        """Return how fast users in this mood leave, per day."""
        churn = self._spec.churn
        power = churn.annoyance * self.annoyance + churn.fatigue * self.fatigue
        return churn.per_day * math.exp(min(power, 50.0))

    def leaves(self, days: float, drawn: float) -> bool:
        """Say whether they have left within so many days.

        Args:
            days: How many.
            drawn: A number in [0, 1).
        """
        return drawn < -math.expm1(-self.hazard() * days)


def answers(spec: AnswerSpec, tired: FatigueSpec, odds: float, mood: Mood) -> Answers:
    """Return how likely each answer is.

    Args:
        spec: How users answer where nothing else is said.
        tired: What fatigue does to that.
        odds: What tastes add to the log-odds of an accept.
        mood: The user's mood.
    """
    fatigue = mood.fatigue
    accepted = _chance(spec.accept + odds - tired.accept * fatigue)
    opted_out = (1.0 - accepted) * _chance(spec.opt_out + tired.opt_out * fatigue)
    rest = 1.0 - accepted - opted_out
    waved = rest * _chance(spec.dismiss + tired.dismiss * fatigue)
    return Answers(
        accepted, opted_out, waved * (1.0 - spec.snooze), waved * spec.snooze
    )


def _chance(log_odds: float) -> float:
    if log_odds < 0.0:
        odds = math.exp(max(log_odds, -700.0))
        return odds / (1.0 + odds)
    return 1.0 / (1.0 + math.exp(-min(log_odds, 700.0)))
