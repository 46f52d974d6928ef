"""Who ignores one offer after another is left alone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.frequency import Cap
from policies.gates.wording import span
from policies.model import Action

__all__ = ["Fatigue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fatigue:
    """Rules everything out for a user who has shown no interest of late.

    After the pause one offer is tried. If that is ignored too, there is another pause.

    Attributes:
        ignored: How many offers without any interest in a row make a pause.
        pause_ms: How long nothing is shown after the last of them.
    """

    name: ClassVar[str] = "fatigue"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = True
    indexed: ClassVar[bool] = False

    ignored: int
    pause_ms: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one where the catalogue asks for pauses."""
        spec = facts.catalogue.fatigue
        if spec.ignored > 0 and spec.pause > 0:
            yield cls(ignored=spec.ignored, pause_ms=int(spec.pause))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return FATIGUE until the pause is over."""
        del action
        if situation.history.ignored < self.ignored:
            return None
        once = Cap(limit=1, window_ms=self.pause_ms)
        return once.reject(once.counting(situation), situation, "FATIGUE")

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how many were ignored, and how long the pause is."""
        del action
        return Because(
            f"the last {situation.history.ignored} offers were ignored",
            f"any interest, or nothing shown for {span(self.pause_ms)}",
        )
