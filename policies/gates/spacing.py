"""What interrupts a user does so seldom: not soon again, not often in one visit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Happening, Ruling, Scope, Situation
from policies.gates.frequency import Cap
from policies.model import Action

__all__ = ["SessionLimit", "Spacing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Rules a placement out that interrupts, too soon after another that did.

    Attributes:
        cap: What makes out how far apart they are.
        interrupting: The placements that interrupt.
        known: All placements there are. One that was there once interrupted if it took
            as much attention as a banner.
    """

    name: ClassVar[str] = "spacing"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = True
    indexed: ClassVar[bool] = False

    reason: ClassVar[str] = "SPACING"

    cap: Cap
    interrupting: frozenset[str]
    known: frozenset[str]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a placement that interrupts."""
        window_ms = int(facts.catalogue.spacing.interruptive)
        if window_ms > 0:
            yield from cls.for_cap(Cap(limit=1, window_ms=window_ms), facts)

    @classmethod
    def for_cap(cls, cap: Cap, facts: Facts) -> Iterator[Self]:
        """Make one of a cap on what interrupts, for a placement that does."""
        if facts.placement.interrupts:
            yield cls(
                cap=cap,
                interrupting=facts.catalogue.interrupting,
                known=frozenset(facts.catalogue.placements),
            )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return SPACING until the last interruption is long enough ago."""
        del action
        picked = self._interruptions(situation)
        return self.cap.reject(picked, situation, self.reason) if picked else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what has interrupted, and what may."""
        del action
        picked = self._interruptions(situation)
        return self.cap.because("offers that interrupt", picked, situation)

    def _interruptions(self, situation: Situation) -> list[Happening]:
        interrupting, known = self.interrupting, self.known
        return [
            happening
            for happening in self.cap.counting(situation)
            if (where := happening.subject.placement_id) in interrupting
            or (where not in known and happening.subject.weight >= 1.0)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimit(Spacing):
    """Rules a placement out that interrupts, after enough others in the same visit."""

    name: ClassVar[str] = "session_limit"
    reason: ClassVar[str] = "SESSION_LIMIT"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a placement that interrupts."""
        limit = facts.catalogue.spacing.per_session
        if limit > 0:
            yield from cls.for_cap(Cap(limit=limit, session=True), facts)
