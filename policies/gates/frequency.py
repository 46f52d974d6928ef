"""An offer is not shown too often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from policies.gates.base import Ruling, Situation

__all__ = ["FrequencyCap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyCap:
    """Rules an offer out that the user has seen `limit` times in `window_ms`.

    The window rolls and is half-open, (now - window, now]: an impression exactly a
    window ago no longer counts. An offer that was decided and may still be shown
    counts as shown. Without a window the cap is for life.

    Examples:
        >>> from policies.model import History, Impression, Opportunity
        >>> hour = 3_600_000
        >>> cap = FrequencyCap(limit=1, window_ms=24 * hour)
        >>> history = History(impressions=(Impression(23 * hour, "tea", "home"),))
        >>> night = Opportunity("d", 24 * hour + 60_000, "ada", ("home",))
        >>> cap.reject("tea", Situation(night, history)).reason
        'FREQUENCY_CAP'
        >>> later = Opportunity("d", 47 * hour, "ada", ("home",))
        >>> cap.reject("tea", Situation(later, history)) is None
        True
    """

    of_history: ClassVar[bool] = True

    limit: int
    window_ms: int | None = None

    def reject(self, offer_id: str, situation: Situation) -> Ruling | None:
        """Return FREQUENCY_CAP when the offer has been shown too often."""
        shown = situation.shown(offer_id)
        if len(shown) < self.limit:
            return None
        # When each of them stops counting: a reservation when its time is over.
        window_ms = math.inf if self.window_ms is None else self.window_ms
        ends = sorted(
            at_ms if reserved else at_ms + window_ms for at_ms, reserved in shown
        )
        counting = [end for end in ends if end > situation.at_ms]
        if len(counting) < self.limit:
            return None
        free = counting[-self.limit]
        return Ruling("FREQUENCY_CAP", None if free == math.inf else int(free))
