"""Nothing is shown too often: no offer, no creative, no category, no placement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from policies.gates.base import (
    Because,
    Facts,
    Happening,
    Per,
    Ruling,
    Scope,
    Situation,
)
from policies.gates.clocks import Calendar, period
from policies.gates.engagement import Engagement
from policies.gates.wording import number, span
from policies.history import VISIT_MS
from policies.model import Action, EventKind
from policies.specs import CapSpec, CategorySpec

__all__ = [
    "Cap",
    "CategoryCap",
    "CreativeCap",
    "FrequencyCap",
    "OfferCap",
    "PlacementCap",
]

_DAY_MS = 86_400_000
_LONGEST_MS = {"day": 3 * _DAY_MS, "week": 10 * _DAY_MS, "month": 34 * _DAY_MS}
"""Longer than any, whatever clocks do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most `limit` events in a window, of what somebody else has picked.

    A window of `window_ms` rolls and is half-open, (now - window, now]: what was
    exactly a window ago no longer counts. A calendar's window begins when the day, the
    week (on Monday) or the month began where the user is, a session's with the visit.
    Without any of them the cap is for life. What was decided and may still be shown
    counts until it may not; what seems to lie in the future, since a clock went back,
    counts as well.

    Attributes:
        engagement: What scales the limit; none where nothing does.
        least: What the limit is at the least, however little engaged somebody is.
    """

    limit: int
    window_ms: int | None = None
    calendar: Calendar | None = None
    session: bool = False
    counts: EventKind = "shown"
    per: Per = "user"
    engagement: Engagement | None = None
    least: int = field(init=False)

    def __post_init__(self) -> None:
        """Find out what the limit is at the least."""
        engagement = self.engagement
        least = self.limit if engagement is None else engagement.least(self.limit)
        object.__setattr__(self, "least", least)

    @classmethod
    def of(cls, spec: CapSpec, facts: Facts) -> Self:
        """Make it as a catalogue says."""
        life = spec.window is None and spec.calendar is None and not spec.session
        return cls(
            limit=spec.limit,
            window_ms=None if spec.window is None else int(spec.window),
            calendar=spec.calendar,
            session=spec.session,
            counts=spec.counts,
            per=spec.per,
            engagement=Engagement.of(facts) if spec.scales and not life else None,
        )

    def counting(self, situation: Situation) -> Sequence[Happening]:
        """Return all that may count: nothing less, and little more."""
        since_ms = self._counting_ms(situation)
        if since_ms == math.inf:
            return ()
        if since_ms == -math.inf:
            return situation.happenings(self.counts, self.per)
        return situation.since(self.counts, int(since_ms), self.per)

    def counting_of(self, offer_id: str, situation: Situation) -> Sequence[Happening]:
        """Return of one offer all that may count, or nothing where nothing does."""
        last_ms = situation.last_ms(offer_id, self.counts, self.per)
        if last_ms == -math.inf or last_ms < self._counting_ms(situation):
            return ()
        return situation.happenings_of(offer_id, self.counts, self.per)

    def reject(
        self,
        picked: Sequence[Happening],
        situation: Situation,
        reason: str = "FREQUENCY_CAP",
    ) -> Ruling | None:
        """Return the reason where as many of the picked count as may, or more."""
        if len(picked) < self.least:
            return None
        ends = self._ends(picked, situation)
        if len(ends) < self.least:
            return None
        limit = self._limit(situation)
        if len(ends) < limit:
            return None
        free_ms = sorted(ends)[-limit]
        return Ruling(reason, None if free_ms == math.inf else int(free_ms))

    def because(
        self, what: str, picked: Sequence[Happening], situation: Situation
    ) -> Because:
        """Say how many of the picked count, and how many may."""
        count = len(self._ends(picked, situation))
        limit = self._limit(situation)
        times = "1 time" if count == 1 else f"{count} times"
        by = " by the account" if self.per == "account" else ""
        found = f"{what} {self.counts} {times} {self._since()}{by}"
        held = sum(happening.reserved for happening in picked)
        if held:
            found += f", {held} of them decided and not reported yet"
        needed = f"fewer than {limit}"
        if limit != self.limit and self.engagement is not None:
            factor = number(self.engagement.factor(situation))
            needed += f" ({self.limit} × {factor} for the user's engagement)"
        return Because(found, needed)

    def _counting_ms(self, situation: Situation) -> float:
        """Return since when what happens may count; infinity where nothing does."""
        if self.window_ms is not None:
            return situation.at_ms - self.window_ms + 1
        if self.session:
            since_ms = situation.session_since_ms(self.per)
            return math.inf if since_ms is None else since_ms
        if self.calendar is not None:
            return situation.at_ms - _LONGEST_MS[self.calendar]
        return -math.inf

    def _limit(self, situation: Situation) -> int:
        if self.engagement is None:
            return self.limit
        return self.engagement.scaled(self.limit, situation)

    def _since(self) -> str:
        if self.session:
            return "in this visit"
        if self.calendar is not None:
            return f"this {self.calendar}"
        return (
            "ever" if self.window_ms is None else f"in the last {span(self.window_ms)}"
        )

    def _ends(self, picked: Sequence[Happening], situation: Situation) -> list[float]:
        """Return of those that count when they will no longer, in no certain order."""
        if self.calendar is not None:
            return self._calendar_ends(self.calendar, picked, situation)
        if self.session:
            return self._visit_ends(picked, situation)
        window_ms: float = math.inf
        opened_ms: float = -math.inf
        if self.window_ms is not None:
            window_ms, opened_ms = self.window_ms, situation.at_ms - self.window_ms
        return [
            at_ms if reserved else at_ms + window_ms
            for at_ms, _, reserved in picked
            if reserved or at_ms > opened_ms
        ]

    def _visit_ends(
        self, picked: Sequence[Happening], situation: Situation
    ) -> list[float]:
        since_ms = situation.session_since_ms(self.per)
        if since_ms is None or situation.at_ms >= since_ms + VISIT_MS:
            return []
        over_ms = since_ms + VISIT_MS
        return [
            min(at_ms, over_ms) if reserved else over_ms
            for at_ms, _, reserved in picked
            if reserved or at_ms >= since_ms
        ]

    @staticmethod
    def _calendar_ends(
        calendar: Calendar, picked: Sequence[Happening], situation: Situation
    ) -> list[float]:
        zone = situation.zone
        since_ms, until_ms = period(situation.at_ms, calendar, zone)
        ends: list[float] = []
        for at_ms, _, reserved in picked:
            if reserved:
                ends.append(at_ms)
            elif at_ms >= until_ms:
                ends.append(period(at_ms, calendar, zone)[1])
            elif at_ms >= since_ms:
                ends.append(until_ms)
        return ends


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyCap(ABC):
    """Rules out what has happened too often; each kind of them picks what counts."""

    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = True
    indexed: ClassVar[bool] = False

    cap: Cap

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return FREQUENCY_CAP where as much has happened as may."""
        picked = self._picked(action, situation)
        return self.cap.reject(picked, situation) if picked else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Say how often it happened, and how often it may."""
        picked = self._picked(action, situation)
        return self.cap.because(self._what(action), picked, situation)

    @abstractmethod
    def _picked(self, action: Action, situation: Situation) -> Sequence[Happening]:
        """Return what may count."""
        ...

    @abstractmethod
    def _what(self, action: Action) -> str:
        """Say of what there is enough."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementCap(FrequencyCap):
    """Rules a placement out in which, or all where in any, enough has happened.

    Attributes:
        placement_id: Where it counts; empty for everywhere.
    """

    name: ClassVar[str] = "placement_cap"
    scope: ClassVar[Scope] = "placement"

    placement_id: str = ""

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make the placement's own, and those over everything."""
        here = facts.placement_id
        for spec in _on(facts.placement.caps):
            yield cls(cap=Cap.of(spec, facts), placement_id=here)
        for spec in _on(facts.catalogue.caps):
            where = here if spec.across == "placement" else ""
            yield cls(cap=Cap.of(spec, facts), placement_id=where)

    def _picked(self, action: Action, situation: Situation) -> Sequence[Happening]:
        del action
        happenings, here = self.cap.counting(situation), self.placement_id
        if not happenings or not here:
            return happenings
        return [h for h in happenings if h.subject.placement_id == here]

    def _what(self, action: Action) -> str:
        del action
        return f"offers in {self.placement_id}" if self.placement_id else "offers"


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCap(FrequencyCap):
    """Rules a category out of which enough has happened.

    What was shown belongs to the categories that it belonged to when it was.
    """

    name: ClassVar[str] = "category_cap"
    scope: ClassVar[Scope] = "offer"

    category: str

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make those of the offer's categories."""
        categories = facts.catalogue.categories
        for category in facts.offer.categories:
            for spec in _on(categories.get(category, CategorySpec()).caps):
                yield cls(cap=Cap.of(spec, facts), category=category)

    def _picked(self, action: Action, situation: Situation) -> Sequence[Happening]:
        del action
        happenings = self.cap.counting(situation)
        if not happenings:
            return happenings
        return [h for h in happenings if self.category in h.subject.categories]

    def _what(self, action: Action) -> str:
        del action
        return f"offers of {self.category}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferCap(FrequencyCap):
    """Rules an offer out of which enough has happened, wherever it was."""

    name: ClassVar[str] = "offer_cap"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = True

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make the offer's, but for those that each placement has for itself."""
        for spec in _on(facts.offer.caps):
            if spec.across == "all":
                yield cls(cap=Cap.of(spec, facts))

    def _picked(self, action: Action, situation: Situation) -> Sequence[Happening]:
        return self.cap.counting_of(action.offer_id, situation)

    def _what(self, action: Action) -> str:
        return action.offer_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CreativeCap(FrequencyCap):
    """Rules an action out of which enough has happened.

    Attributes:
        creative: Whether only the same creative counts.
        placement: Whether only the same placement counts.
    """

    name: ClassVar[str] = "creative_cap"
    scope: ClassVar[Scope] = "action"
    of_history: ClassVar[bool] = True

    creative: bool = False
    placement: bool = False

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make the creative's, and of the offer's those for each placement."""
        for spec in _on(facts.creative.caps):
            here = spec.across == "placement"
            yield cls(cap=Cap.of(spec, facts), creative=True, placement=here)
        for spec in _on(facts.offer.caps):
            if spec.across == "placement":
                yield cls(cap=Cap.of(spec, facts), placement=True)

    def _picked(self, action: Action, situation: Situation) -> Sequence[Happening]:
        happenings = self.cap.counting_of(action.offer_id, situation)
        if not happenings:
            return happenings
        creative = action.creative_id if self.creative else ""
        placement = action.placement_id if self.placement else ""
        return [
            happening
            for happening in happenings
            if creative in ("", happening.subject.creative_id)
            and placement in ("", happening.subject.placement_id)
        ]

    def _what(self, action: Action) -> str:
        named = action.offer_id
        if self.creative:
            named += f"/{action.creative_id}"
        return f"{named} in {action.placement_id}" if self.placement else named


def _on(specs: Iterable[CapSpec]) -> list[CapSpec]:
    return [spec for spec in specs if spec.limit > 0]
