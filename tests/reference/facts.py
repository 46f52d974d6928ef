"""What can be said of a user at a moment: all that the rules look at."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import cache, cached_property
from zoneinfo import ZoneInfo

from policies.model import EventKind
from policies.specs import CapSpec, CatalogueSpec
from tests.reference.nouns import Asked, Moment, Rules
from tests.reference.past import Decided, Happened, Lease, Life, Past, Who

__all__ = ["Facts", "exact", "local", "milliseconds"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS = dt.timedelta(milliseconds=1)
_DAY = dt.timedelta(days=1)


class Facts:
    """Everything that can be said about one request.

    Args:
        past: What has happened before it.
        asked: The request.
        spec: What the catalogue says.
        rules: What its rules mean.
        stopped: What was switched off.
        exhausted: The inventories and budgets of which nothing is left or, with `>N`
            behind their names, not more than N.
        without: A decision to take no notice of unless it was shown.
    """

    def __init__(
        self,
        past: Past,
        asked: Asked,
        spec: CatalogueSpec,
        rules: Rules,
        *,
        stopped: Collection[str] = (),
        exhausted: Collection[str] = (),
        without: Decided | None = None,
    ) -> None:
        self.past = past
        self.asked = asked
        self.spec = spec
        self.rules = rules
        self.stopped = stopped
        self.exhausted = exhausted
        self.without = without
        self.at_ms = asked.at_ms
        self._happened: dict[tuple[EventKind, bool], list[Happened]] = {}

    def holds(self, source: str) -> bool:
        return self.rules.holds[source](self.moment)

    @cached_property
    def moment(self) -> Moment:
        return Moment(
            at_ms=self.at_ms,
            context=self.asked.context,
            role=self.asked.context.role or self.past.role(self.asked.who),
            owned=frozenset(self.owned),
            states=frozenset(
                name
                for lives in self.lives
                for name, life in lives.items()
                if life.since_ms <= self.at_ms and not life.over_by(self.at_ms)
            ),
            engagement=self.told_engagement,
            value_discovered=any(
                self.past.value_discovered(whose) for whose in self.whose
            ),
        )

    @cached_property
    def whose(self) -> list[Who]:
        """The user and, for one of an account, the account."""
        who = self.asked.who
        return [who, Who(who.account_id, "")] if who.account_id else [who]

    @cached_property
    def lives(self) -> list[dict[str, Life]]:
        return [self.past.life(whose) for whose in self.whose]

    @cached_property
    def told_engagement(self) -> str:
        told = [self.past.engagement(whose) for whose in self.whose]
        return next((tier for tier in told if tier), "")

    @cached_property
    def owned(self) -> set[str]:
        return set().union(*(self.past.owned(whose) for whose in self.whose))

    @cached_property
    def pending(self) -> set[str]:
        return set().union(
            *(self.past.pending(whose, self.at_ms) for whose in self.whose)
        )

    @cached_property
    def opt_outs(self) -> set[str]:
        return set().union(*(self.past.opt_outs(whose) for whose in self.whose))

    @cached_property
    def leases(self) -> list[Lease]:
        return [
            lease
            for whose in self.whose
            for lease in self.past.leases(whose, self.at_ms)
        ]

    @cached_property
    def zone(self) -> ZoneInfo:
        told = [self.past.zone(whose) for whose in self.whose]
        return ZoneInfo(next((zone for zone in told if zone), self.spec.zone))

    @cached_property
    def ignored(self) -> int:
        return self.past.ignored(self.asked.who)

    def counted(
        self,
        cap: CapSpec,
        *,
        offer_id: str = "",
        creative_id: str = "",
        placement_id: str = "",
        category: str = "",
    ) -> list[Happened]:
        return [
            event
            for event in self.events(cap.counts, account=cap.per == "account")
            if (not offer_id or event.decided.offer_id == offer_id)
            and (not creative_id or event.decided.creative_id == creative_id)
            and (not placement_id or event.decided.placement_id == placement_id)
            and (not category or category in event.decided.categories)
        ]

    def full(self, cap: CapSpec, events: Sequence[Happened]) -> bool:
        """Say whether as much has happened as a cap allows."""
        if not cap.limit:
            return False
        limit = cap.limit
        if cap.session:
            since_ms = self.past.session_since_ms(
                self.asked.who, self.asked.session_id, self.at_ms
            )
            if since_ms is None:
                return False
        elif cap.calendar is not None:
            since_ms = self.began_ms(cap.calendar)
        elif cap.window is not None:
            since_ms = self.at_ms - int(cap.window) + 1
        else:
            since_ms = -1
        for_life = not cap.session and cap.calendar is None and cap.window is None
        if cap.scales and not for_life:
            limit = max(1, math.floor(exact(self.factor) * limit))
        counted = [e for e in events if e.reserved or e.at_ms >= since_ms]
        return len(counted) >= limit

    @cached_property
    def factor(self) -> float:
        spec = self.spec.engagement
        tier = self.told_engagement
        if not tier and spec.low is not None and self.holds(spec.low):
            tier = "low"
        if not tier and spec.high is not None and self.holds(spec.high):
            tier = "high"
        return {"low": spec.low_factor, "high": spec.high_factor}.get(tier, 1.0)

    def began_ms(self, calendar: str) -> int:
        """Return when the day, the week or the month began where the user is."""
        day = local(self.at_ms, self.zone).date()
        if calendar == "week":
            day -= day.weekday() * _DAY
        if calendar == "month":
            day = day.replace(day=1)
        return milliseconds(dt.datetime(day.year, day.month, day.day, tzinfo=self.zone))

    def within(self, kind: EventKind, window: int) -> list[Happened]:
        """Return what happened less than a window ago, or may still be shown."""
        return [
            event
            for event in self.events(kind)
            if event.reserved or event.at_ms > self.at_ms - int(window)
        ]

    def events(self, kind: EventKind, *, account: bool = False) -> list[Happened]:
        key = (kind, account)
        if key not in self._happened:
            self._happened[key] = [
                event
                for event in self.past.happened(
                    kind, self.asked.who, self.at_ms, account=account
                )
                if not (event.reserved and event.decided is self.without)
            ]
        return self._happened[key]

    @cached_property
    def contacts(self) -> list[tuple[str, int]]:
        return [c for whose in self.whose for c in self.past.contacts(whose)]

    @cached_property
    def complaints(self) -> list[int]:
        return [ms for whose in self.whose for ms in self.past.complaints(whose)]


@cache
def exact(number: float) -> Fraction:
    """Return what is written in the file: 0.1 is a tenth."""
    return Fraction(str(number))


def local(at_ms: int, zone: ZoneInfo) -> dt.datetime:
    return (_EPOCH + at_ms * _MS).astimezone(zone)


def milliseconds(time: dt.datetime) -> int:
    return (time - _EPOCH) // _MS
