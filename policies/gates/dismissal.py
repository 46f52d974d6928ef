"""Who waves an offer away does not see it again for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.gates.base import Ruling, Situation

__all__ = ["DismissalCoolDown"]


@dataclass(frozen=True, slots=True)
class DismissalCoolDown:
    """Rules an offer out for some time after the user dismissed it last."""

    of_history: ClassVar[bool] = True

    cool_down_ms: int

    def reject(self, offer_id: str, situation: Situation) -> Ruling | None:
        """Return DISMISSED until the cool-down is over."""
        dismissal = situation.history.dismissals.get(offer_id)
        if dismissal is None:
            return None
        over_ms = dismissal.at_ms + self.cool_down_ms
        return Ruling("DISMISSED", over_ms) if situation.at_ms < over_ms else None
