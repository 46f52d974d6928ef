"""Who waves an offer away does not see it again for a while, and then for longer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Per, Ruling, Scope, Situation
from policies.gates.wording import instant, span
from policies.model import NO_HISTORY, Action
from policies.specs import CategorySpec, DismissalSpec

__all__ = ["CategoryDismissal", "Dismissal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissal:
    """Rules an offer out for some time after the user dismissed it last.

    The time is `factor` times as long with each dismissal. Whoever snoozes an offer
    more than `repeats` times has dismissed it with each further time.

    Attributes:
        cool_down_ms: How long it is after the first dismissal.
        factor: By how much longer it is after each further one.
        longest_ms: How long it is at most.
        repeats: How often the offer may be snoozed.

    Examples:
        >>> from policies.model import History, Opportunity, Subject, Tally, Track
        >>> day = 86_400_000
        >>> tea = Subject("tea", "default", "home")
        >>> history = History((Track(tea, {"dismissed": Tally((0, 10 * day))}),))
        >>> gate = Dismissal(
        ...     cool_down_ms=7 * day, factor=2.0, longest_ms=180 * day, repeats=3
        ... )
        >>> asked = Opportunity("d", 20 * day, "ada", ("home",))
        >>> action = Action(1, "tea", "default", "home", ())
        >>> gate.reject(action, Situation(asked, history)).next_eligible_ms // day
        24
    """

    name: ClassVar[str] = "dismissal"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = True
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    cool_down_ms: int
    factor: float
    longest_ms: int
    repeats: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one as the offer says or, where it says nothing, the catalogue."""
        offer = facts.offer
        spec = offer.dismissal
        if spec is None and offer.dismissal_cool_down is not None:
            spec = DismissalSpec(cool_down=offer.dismissal_cool_down)
        spec = spec or facts.catalogue.dismissal
        if spec.cool_down > 0:
            yield cls(
                cool_down_ms=int(spec.cool_down),
                factor=spec.factor,
                # Who asks for a year for a start gets it.
                longest_ms=int(max(spec.longest, spec.cool_down)),
                repeats=(offer.snooze or facts.catalogue.snooze).repeats,
            )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return DISMISSED until the time is over."""
        if situation.at_ms >= self._longest_over_ms(action.offer_id, situation):
            return None
        often, last_ms = self._dismissed(action, situation)
        over_ms = last_ms + self._span_ms(often)
        return Ruling("DISMISSED", over_ms) if situation.at_ms < over_ms else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how often it was dismissed, and how long it stays away."""
        often, last_ms = self._dismissed(action, situation)
        times = "once" if often == 1 else f"{often} times"
        return Because(
            f"dismissed {times}, last at {instant(last_ms)}",
            f"not dismissed for {span(self._span_ms(often))}",
        )

    def _longest_over_ms(self, offer_id: str, situation: Situation) -> float:
        """Return when the longest time would be over, if it were that."""
        last_ms = situation.last_ms(offer_id, "dismissed")
        snooze = situation.history.snoozes.get(offer_id)
        if snooze is not None and snooze.count > self.repeats:
            last_ms = max(last_ms, snooze.at_ms)
        return last_ms + self.longest_ms

    def _dismissed(self, action: Action, situation: Situation) -> tuple[int, int]:
        """Return how often it was dismissed, and when last."""
        happenings = situation.happenings_of(action.offer_id, "dismissed")
        often = len(happenings)
        times = [happening.at_ms for happening in happenings]
        snooze = situation.history.snoozes.get(action.offer_id)
        if snooze is not None and snooze.count > self.repeats:
            often += snooze.count - self.repeats
            times.append(snooze.at_ms)
        return often, max(times, default=0)

    def _span_ms(self, often: int) -> int:
        try:
            span_ms = self.cool_down_ms * self.factor ** (often - 1)
        except OverflowError:
            return self.longest_ms
        return int(min(span_ms, self.longest_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryDismissal:
    """Rules a category out for some time after several of its offers were dismissed.

    They count as of the categories that they were of then.

    Attributes:
        dismissals: How many are several; 0 for never.
        window_ms: In what span they must be.
        cool_down_ms: How long the category stays away after the last of them.
        household: Whether it does so after any dismissal in the account.
    """

    name: ClassVar[str] = "category_dismissal"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    category: str
    dismissals: int
    window_ms: int
    cool_down_ms: int
    household: bool

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for each of the offer's categories."""
        for category in facts.offer.categories:
            spec = facts.catalogue.categories.get(category, CategorySpec())
            if spec.cool_down > 0 and (spec.dismissals > 0 or spec.household):
                yield cls(
                    category=category,
                    dismissals=spec.dismissals,
                    window_ms=int(spec.dismissals_window),
                    cool_down_ms=int(spec.cool_down),
                    household=spec.household,
                )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return CATEGORY_COOL_DOWN until the time is over."""
        del action
        if not self._lately(situation):
            return None
        since_ms = max(self._several_ms(situation), self._household_ms(situation))
        over_ms = since_ms + self.cool_down_ms
        if situation.at_ms >= over_ms:
            return None
        return Ruling("CATEGORY_COOL_DOWN", int(over_ms))

    def because(self, action: Action, situation: Situation) -> Because:
        """Return when it was dismissed, and how long it stays away."""
        del action
        several_ms = self._several_ms(situation)
        household_ms = self._household_ms(situation)
        if several_ms >= household_ms:
            within = f"{self.dismissals} in {span(self.window_ms)}"
            times, last_ms = (
                f"offers of {self.category} dismissed, {within}",
                several_ms,
            )
        else:
            times, last_ms = f"{self.category} dismissed in the account", household_ms
        return Because(
            f"{times}, last at {instant(int(last_ms))}",
            f"none dismissed for {span(self.cool_down_ms)}",
        )

    def _lately(self, situation: Situation) -> bool:
        """Say whether any of it was dismissed so lately that it could matter still."""
        category, from_ms = self.category, situation.at_ms - self.cool_down_ms
        for happening in situation.since("dismissed", from_ms):
            if category in happening.subject.categories:
                return True
        if not self.household or situation.account is NO_HISTORY:
            return False
        for happening in situation.since("dismissed", from_ms, "account"):
            if category in happening.subject.categories:
                return True
        return False

    def _several_ms(self, situation: Situation) -> float:
        """Return when the last of several was; long ago where there are not as many.

        What came of earlier ones stands, even if the last of all is not one of several.
        """
        times = self._times(situation, "user")
        back = self.dismissals - 1
        if back < 0:
            return -math.inf
        for at in range(len(times) - 1, back - 1, -1):
            if times[at - back] > times[at] - self.window_ms:
                return times[at]
        return -math.inf

    def _household_ms(self, situation: Situation) -> float:
        if not self.household or situation.account is NO_HISTORY:
            return -math.inf
        times = self._times(situation, "account")
        return times[-1] if times else -math.inf

    def _times(self, situation: Situation, per: Per) -> list[int]:
        # Of the last of several that still matters, the first is no longer ago.
        from_ms = situation.at_ms - self.cool_down_ms - self.window_ms
        happenings = situation.since("dismissed", from_ms, per)
        return sorted(
            [h.at_ms for h in happenings if self.category in h.subject.categories]
        )
