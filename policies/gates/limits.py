"""More is offered to those who are about to need it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Happening, Ruling, Scope, Situation
from policies.gates.wording import instant, number, percent, span
from policies.model import Action, Usage

__all__ = ["OncePerCycle", "UsageLimit"]

_DAY_MS = 86_400_000
_FAR = Ruling("NOT_NEAR_LIMIT")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLimit:
    """Rules an offer out for users who are not near the limit of a usage.

    Near is who has used from `from_share` to `to_share` of the limit, or has used less
    and reaches it within `forecast_ms` at the pace of late. A user whose count starts
    anew before the limit is reached is not near it, however much they have used; nor is
    one whose count has started anew since it was taken.

    The pace is what the request says or else the mean of the cycle, in which a cycle of
    less than a day counts as one: an hour's work says nothing about a week.

    Attributes:
        usage: The name of the usage in requests.
        from_share: From which share of the limit on.
        to_share: Up to which share; who has used more does not see the offer.
        forecast_ms: How soon the limit must be reached; 0 for no forecast.

    Examples:
        >>> from policies.model import NO_HISTORY, Action, Context, Opportunity
        >>> gate = UsageLimit(
        ...     usage="gb", from_share=0.8, to_share=1.0, forecast_ms=7 * 86_400_000
        ... )
        >>> def ruling(usage):
        ...     context = Context(usage={"gb": usage})
        ...     asked = Opportunity("d", 0, "ada", ("home",), context=context)
        ...     action = Action(1, "more", "default", "home", ())
        ...     return gate.reject(action, Situation(asked, NO_HISTORY))
        >>> ruling(Usage(92.0, 100.0)) is None
        True
        >>> ruling(Usage(40.0, 100.0, per_day=10.0)) is None
        True
        >>> ruling(Usage(40.0, 100.0, per_day=1.0)).reason
        'NOT_NEAR_LIMIT'
    """

    name: ClassVar[str] = "limit"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    usage: str
    from_share: float
    to_share: float
    forecast_ms: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that names a usage."""
        limit = facts.offer.limit
        if limit is not None:
            yield cls(
                usage=limit.usage,
                from_share=limit.from_share,
                to_share=limit.to_share,
                forecast_ms=int(limit.forecast),
            )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NOT_NEAR_LIMIT for users who do not need more soon."""
        del action
        usage = situation.opportunity.context.usage.get(self.usage)
        if usage is not None and self._near(usage, situation.at_ms):
            return None
        return _FAR

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how much is used, and when the limit is reached."""
        del action
        usage = situation.opportunity.context.usage.get(self.usage)
        found = self._found(usage, situation.at_ms)
        needed = f"{percent(self.from_share)} to {percent(self.to_share)} of the limit"
        if self.forecast_ms:
            needed += f", or the limit within {span(self.forecast_ms)}"
        if usage is not None and usage.until_ms is not None:
            needed += ", before the count starts anew"
        return Because(found, needed)

    def _near(self, usage: Usage, at_ms: int) -> bool:
        # A share that is not a number is of no use either.
        share = _share(usage)
        if not share <= self.to_share:
            return False
        left_ms = _left_ms(usage, at_ms)
        if usage.until_ms is not None:
            cycle_ms = usage.until_ms - at_ms
            if cycle_ms <= 0 or (left_ms is not None and left_ms >= cycle_ms):
                return False
        if share >= self.from_share:
            return True
        return left_ms is not None and 0 < left_ms <= self.forecast_ms

    def _found(self, usage: Usage | None, at_ms: int) -> str:
        if usage is None:
            return f"the request does not say how much {self.usage} is used"
        if not usage.limit or usage.limit < 0:
            return f"{self.usage} has no limit"
        if usage.until_ms is not None and usage.until_ms <= at_ms:
            return f"{self.usage} is counted anew since {instant(usage.until_ms)}"
        found = f"{self.usage} is at {percent(_share(usage))} of {number(usage.limit)}"
        left_ms = _left_ms(usage, at_ms)
        if left_ms == math.inf:
            found += ", not growing"
        elif left_ms:
            found += f", at the limit in {number(left_ms / _DAY_MS)} d"
        if usage.until_ms is not None:
            left = number((usage.until_ms - at_ms) / _DAY_MS)
            found += f", counted anew in {left} d"
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OncePerCycle:
    """Rules an offer out that the user has seen since the count of a usage began.

    Where the request does not say when that was, nothing is ruled out.

    Attributes:
        usage: The name of the usage in requests.
    """

    name: ClassVar[str] = "once_per_cycle"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = True
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    usage: str

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that is shown once a cycle."""
        limit = facts.offer.limit
        if limit is not None and limit.once_per_cycle:
            yield cls(usage=limit.usage)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return ALREADY_THIS_CYCLE until the count starts anew."""
        usage = situation.opportunity.context.usage.get(self.usage)
        if usage is None or usage.since_ms is None:
            return None
        over_ms = usage.until_ms
        if over_ms is not None and over_ms <= situation.at_ms:
            return None
        if situation.last_ms(action.offer_id, "shown") < usage.since_ms:
            return None
        shown = _shown_since(usage.since_ms, action.offer_id, situation)
        if not shown:
            return None
        if all(happening.reserved for happening in shown):
            # It is free again as soon as none of them can be shown any more.
            free_ms = max(happening.at_ms for happening in shown)
            over_ms = free_ms if over_ms is None else min(over_ms, free_ms)
        return Ruling("ALREADY_THIS_CYCLE", over_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return when it was shown, and when the count began."""
        since_ms = situation.opportunity.context.usage[self.usage].since_ms or 0
        shown = _shown_since(since_ms, action.offer_id, situation)
        times = [happening.at_ms for happening in shown if not happening.reserved]
        return Because(
            f"shown at {instant(max(times))}"
            if times
            else "decided, and may still be shown",
            f"not shown since {self.usage} is counted anew: {instant(since_ms)}",
        )


def _share(usage: Usage) -> float:
    """Return the share of the limit that is used; not a number where there is none."""
    if usage.limit is None or usage.limit <= 0:
        return math.nan
    return usage.value / usage.limit


def _left_ms(usage: Usage, at_ms: int) -> float | None:
    """Return in what time the limit is reached: 0 if it is, none if nobody can say."""
    if usage.limit is None or usage.value >= usage.limit:
        return 0.0
    pace = usage.per_day
    if pace is None:
        if usage.since_ms is None:
            return None
        pace = usage.value / max((at_ms - usage.since_ms) / _DAY_MS, 1.0)
    return (usage.limit - usage.value) / pace * _DAY_MS if pace > 0 else math.inf


def _shown_since(since_ms: int, offer_id: str, situation: Situation) -> list[Happening]:
    return [
        happening
        for happening in situation.happenings_of(offer_id, "shown")
        if happening.reserved or happening.at_ms >= since_ms
    ]
