"""Nobody is disturbed in what must not be disturbed, like a payment or a call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, listed
from policies.model import Action, Lease

__all__ = ["CriticalWorkflow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalWorkflow:
    """Rules a placement out while a critical workflow is on.

    It may be the user's or the account's. One that nobody ends is over when its lease
    is.

    Attributes:
        inline: Whether the placement interrupts nothing, so that it may be used in
            workflows that allow that.
    """

    name: ClassVar[str] = "critical_workflow"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    inline: bool

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every placement."""
        yield cls(inline=not facts.placement.interrupts)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return CRITICAL_WORKFLOW until the last lease ends."""
        del action
        for history in situation.histories:
            if history.leases:
                break
        else:
            return None
        running = self._running(situation)
        if not running:
            return None
        end_ms = max(lease.until_ms for lease in running.values())
        return Ruling("CRITICAL_WORKFLOW", end_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what is on, and until when."""
        del action
        running = self._running(situation)
        until = instant(max(lease.until_ms for lease in running.values()))
        needed = "no workflow, or one that allows inline offers"
        return Because(
            f"in {listed(sorted(running))}, until {until} at the latest",
            needed if self.inline else "no workflow",
        )

    def _running(self, situation: Situation) -> dict[str, Lease]:
        """Return the leases that hold the placement back; of equal keys the longer."""
        leases = [
            (key, lease)
            for history in situation.histories
            for key, lease in history.leases.items()
            if lease.until_ms > situation.at_ms and not (self.inline and lease.inline)
        ]
        return dict(sorted(leases, key=lambda pair: pair[1].until_ms))
