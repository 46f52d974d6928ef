"""A user has only so much attention, whatever asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import number, span
from policies.model import Action

__all__ = ["AttentionBudget"]

_UNIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBudget:
    """Rules a placement out that takes more attention than is left in the window.

    The window rolls and is half-open, as those of caps. All that was shown in it took
    the attention that its placement asked for then, and what may still be shown takes
    it as well.

    Attributes:
        budget: How much attention all offers may take in the window, in millionths, so
            that sums are exact.
        window_ms: The length of the window.
        weight: How much the placement takes, in millionths.
    """

    name: ClassVar[str] = "attention"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = True
    indexed: ClassVar[bool] = False

    budget: int
    window_ms: int
    weight: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one where there is a budget, and the placement takes of it."""
        spec = facts.catalogue.attention
        budget, weight = _millionths(spec.budget), _millionths(facts.placement.weight)
        if budget > 0 and weight > 0:
            yield cls(budget=budget, window_ms=int(spec.window), weight=weight)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return ATTENTION_BUDGET until enough has left the window."""
        del action
        taken = self._taken(situation)
        if sum(weight for _, weight in taken) + self.weight <= self.budget:
            return None
        return Ruling("ATTENTION_BUDGET", self._enough_ms(taken))

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how much attention is taken, and how much there is."""
        del action
        taken = sum(weight for _, weight in self._taken(situation))
        return Because(
            f"{number(taken / _UNIT)} taken in the last {span(self.window_ms)},"
            f" and the placement takes {number(self.weight / _UNIT)}",
            f"at most {number(self.budget / _UNIT)} altogether",
        )

    def _taken(self, situation: Situation) -> list[tuple[int, int]]:
        """Return until when what takes how much, in no certain order."""
        opened_ms, window_ms = situation.at_ms - self.window_ms, self.window_ms
        return [
            (at_ms if reserved else at_ms + window_ms, _millionths(subject.weight))
            for at_ms, subject, reserved in situation.since("shown", opened_ms + 1)
        ]

    def _enough_ms(self, taken: list[tuple[int, int]]) -> int | None:
        """Return when so much has left the window that there is room for the weight."""
        left = self.budget - self.weight
        if left < 0:
            return None
        latest = sorted(taken, reverse=True)
        sums = accumulate([weight for _, weight in latest])
        each = zip(latest, sums, strict=True)
        return next((until_ms for (until_ms, _), total in each if total > left), None)


def _millionths(weight: float) -> int:
    return round(weight * _UNIT)
