"""Counts of a log in which opportunities show: who uses, sees and takes what.

Visits come root by root. A root (a user, or an account with its users) counts once in
whatever it is counted in, so that the counts of roots are of independent things.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

from policies.catalogue import Catalogue
from policies.model import Usage
from policies.specs import CatalogueSpec
from simulator.visits import Visit, fitting

__all__ = ["Adoption", "Count", "Gap", "Gathering", "Limit", "Sample", "share_of"]

_USES_MAX = 60
_LEAVING = frozenset(["churned", "downgraded", "opted_out"])

Tier = tuple[str, str]


class Count:
    """Roots, users and decisions."""

    def __init__(self) -> None:
        self.roots = self.users = self.decisions = 0

    def add(self, visits: Iterable[Visit]) -> None:
        """Count some visits of one root, if there are any."""
        visits = list(visits)
        if visits:
            self.roots += 1
            self.users += len({visit.user for visit in visits})
            self.decisions += len(visits)


class Sample:
    """The records with the smallest ids: the same ones in whatever order they come.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, str]] = []

    def add(self, visit: Visit) -> None:
        """Keep a visit, if it is among them."""
        if not visit.record:
            return
        # The end of an id is a hash.
        place = (-int(visit.name[16:], 16), visit.record)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, place)
        elif place > self._heap[0]:
            heapq.heapreplace(self._heap, place)

    @property
    def records(self) -> list[str]:
        """The records, in the order of their ids."""
        return [record for _, record in sorted(self._heap, reverse=True)]


class Reach:
    """How far offers reach a tier, or fill a placement."""

    def __init__(self, size: int) -> None:
        self.all = Count()
        self.open = Count()
        self.chosen = Count()
        self.shut = Sample(size)


class Adoption:
    """What became of an offer in one tier, by roots."""

    def __init__(self) -> None:
        self.could = 0
        self.users = 0
        self.decisions = 0
        self.accepted = 0
        self.dismissed = 0
        self.rewards = array("d")

    @property
    def offered(self) -> int:
        """To how many roots it was offered, as far as is known what they did."""
        return len(self.rewards)


class Limit:
    """Who is near a limit of a usage, what they are offered, and what they do."""

    def __init__(self, size: int) -> None:
        self.known = 0
        self.near = Count()
        self.over = Count()
        self.without = Count()
        self.fitting = Count()
        self.outcomes: Counter[str] = Counter()
        # Of those near the limit and of the others: how many, and how many left.
        self.left = {True: [0, 0], False: [0, 0]}
        self.sample = Sample(size)
        # Of the decisions near the limit in which something that fits was eligible.
        self.keys = array("Q")
        self.weights = array("d")
        self.rewards = array("d")
        self.least = 1.0


class Gap:
    """Who is between two rungs of a ladder."""

    def __init__(self) -> None:
        self.owners = Count()
        self.between = Count()
        self.offered = self.accepted = self.dismissed = 0


class Gathering:
    """All of it, of one log.

    Args:
        catalogue: The catalogue that decided last; none where the log has none.
        near: From which share of a limit on it is near.
        size: How many decisions are kept of each group as a sample.

    Attributes:
        known: Whether there is a catalogue.
        spec: What it says.
        all: All visits.
        uses: By what is used, how many roots use it.
        pairs: By two of these, in the order of their names, who uses both.
        tiers: How far offers reach each tier.
        placements: How far they fill each placement.
        visits: Some visits to each placement.
        offers: How far each offer gets that ever was eligible.
        adoption: By an offer and what tells tiers apart, what became of it by tier.
        limits: By usage, who is near its limit.
        gaps: By a ladder and the place of a rung, who is between it and the next.
        accepts: Whether anything was accepted.
    """

    def __init__(self, catalogue: Catalogue | None, near: float, size: int) -> None:
        self._near = near
        self._size = size
        self.known = catalogue is not None
        self.spec = CatalogueSpec() if catalogue is None else catalogue.spec
        self._fitting = fitting(self.spec)
        self.all = Count()
        self.uses: Counter[str] = Counter()
        self.pairs: defaultdict[tuple[str, str], Count] = defaultdict(Count)
        self.tiers: defaultdict[Tier, Reach] = defaultdict(self._reach)
        self.placements: defaultdict[str, Reach] = defaultdict(self._reach)
        self.visits: defaultdict[str, Sample] = defaultdict(lambda: Sample(size))
        self.offers: defaultdict[str, Reach] = defaultdict(self._reach)
        # By sets of placements, who came to all of them and to no other.
        self._roots_by: Counter[frozenset[str]] = Counter()
        self._users_by: Counter[frozenset[str]] = Counter()
        self._decisions_by: Counter[frozenset[str]] = Counter()
        self.adoption: defaultdict[tuple[str, str], defaultdict[str, Adoption]] = (
            defaultdict(lambda: defaultdict(Adoption))
        )
        self.limits: defaultdict[str, Limit] = defaultdict(lambda: Limit(size))
        self.gaps: defaultdict[tuple[str, int], Gap] = defaultdict(Gap)
        self.accepts = False

    def _reach(self) -> Reach:
        return Reach(self._size)

    def root(self, visits: Sequence[Visit]) -> None:
        """Count the visits of one root, in the order of time."""
        self.all.add(visits)
        self._together(visits)
        self._reached(visits)
        self._adopted(visits)
        usages = {name for visit in visits for name in visit.usage}
        for usage in usages:
            self._limited(usage, visits)
        self._between(visits)

    # --- What is used together ----------------------------------------------------

    def _together(self, visits: Sequence[Visit]) -> None:
        uses = sorted({use for visit in visits for use in visit.uses})[:_USES_MAX]
        self.uses.update(uses)
        for pair in combinations(uses, 2):
            self.pairs[pair].add(visits)

    # --- Who is reached -----------------------------------------------------------

    def _reached(self, visits: Sequence[Visit]) -> None:
        tiers: defaultdict[Tier, list[Visit]] = defaultdict(list)
        places: defaultdict[str, list[Visit]] = defaultdict(list)
        offers: defaultdict[str, list[Visit]] = defaultdict(list)
        for visit in visits:
            for tier in visit.tiers:
                tiers[tier].append(visit)
            for placement in dict.fromkeys(visit.placements or visit.open):
                places[placement].append(visit)
                self.visits[placement].add(visit)
            for offer_id in visit.offers:
                offers[offer_id].append(visit)
        self._asked_for(visits)
        for tier, those in tiers.items():
            self._count(
                self.tiers[tier],
                those,
                [bool(visit.offers) for visit in those],
                [bool(visit.chosen) for visit in those],
            )
        for placement, those in places.items():
            self._count(
                self.placements[placement],
                those,
                [placement in visit.open for visit in those],
                [placement == visit.placement for visit in those],
            )
        for offer_id, those in offers.items():
            reach = self.offers[offer_id]
            reach.open.add(those)
            reach.chosen.add([visit for visit in those if visit.chosen == offer_id])

    def _asked_for(self, visits: Sequence[Visit]) -> None:
        """Count by placements who came to any of them."""
        users: defaultdict[str, set[str]] = defaultdict(set)
        for visit in visits:
            users[visit.user].update(visit.placements)
            self._decisions_by[frozenset(visit.placements)] += 1
        self._users_by.update(map(frozenset, users.values()))
        self._roots_by[frozenset().union(*users.values())] += 1

    def asked(self, placements: Collection[str]) -> Count:
        """Return who came to any of these placements."""
        count = Count()
        count.roots, count.users, count.decisions = (
            sum(n for asked, n in by.items() if not asked.isdisjoint(placements))
            for by in (self._roots_by, self._users_by, self._decisions_by)
        )
        return count

    def _count(
        self,
        reach: Reach,
        visits: Sequence[Visit],
        is_open: Sequence[bool],
        is_chosen: Sequence[bool],
    ) -> None:
        reach.all.add(visits)
        reach.open.add([v for v, told in zip(visits, is_open, strict=True) if told])
        reach.chosen.add([v for v, told in zip(visits, is_chosen, strict=True) if told])
        for visit, told in zip(visits, is_open, strict=True):
            if not told:
                reach.shut.add(visit)

    # --- Who adopts what ----------------------------------------------------------

    def _adopted(self, visits: Sequence[Visit]) -> None:
        """Count a root in the tier in which each offer first came to it."""
        could: dict[tuple[str, str], str] = {}
        taken: dict[tuple[str, str], Adoption] = {}
        earned: defaultdict[tuple[str, str], float] = defaultdict(float)
        kinds: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for visit in visits:
            for dim, tier in visit.tiers:
                for offer_id in visit.offers:
                    could.setdefault((offer_id, dim), tier)
                if not visit.chosen or visit.reward is None:
                    continue
                key = (visit.chosen, dim)
                if key not in taken:
                    taken[key] = self.adoption[key][tier]
                taken[key].decisions += 1
                earned[key] += visit.reward
                kinds[key] |= visit.kinds
                users[key].add(visit.user)
        for key, tier in could.items():
            self.adoption[key][tier].could += 1
        for key, adoption in taken.items():
            adoption.users += len(users[key])
            adoption.rewards.append(earned[key])
            adoption.accepted += "accepted" in kinds[key]
            adoption.dismissed += "dismissed" in kinds[key]
            self.accepts = self.accepts or "accepted" in kinds[key]

    # --- Limits -------------------------------------------------------------------

    def _limited(self, name: str, visits: Sequence[Visit]) -> None:
        shares = [share_of(visit.usage.get(name)) for visit in visits]
        if all(math.isnan(share) for share in shares):
            return
        limit = self.limits[name]
        limit.known += 1
        fits = self._fitting.get(name, frozenset())
        near = [
            visit
            for visit, share in zip(visits, shares, strict=True)
            if share >= self._near
        ]
        limit.near.add(near)
        limit.over.add(
            [v for v, share in zip(visits, shares, strict=True) if share >= 1.0]
        )
        fitted = [visit for visit in near if not fits.isdisjoint(visit.offers)]
        limit.fitting.add(fitted)
        if not fitted:
            limit.without.add(near)
            for visit in near:
                limit.sample.add(visit)
        for visit in near:
            if visit.chosen in fits:
                limit.outcomes["offered"] += 1
                limit.outcomes.update(visit.kinds)
        start = next((i for i, share in enumerate(shares) if share >= self._near), 0)
        self._leaving(limit, visits[start:], near=bool(near))
        for visit in fitted:
            self._worth(limit, visit, fits)

    @staticmethod
    def _leaving(limit: Limit, after: Sequence[Visit], *, near: bool) -> None:
        """Count whether a root left after it came near, or after it first came."""
        if after[0].opted_out:
            return
        left = any(visit.opted_out or visit.kinds & _LEAVING for visit in after)
        limit.left[near][0] += 1
        limit.left[near][1] += left

    def _worth(self, limit: Limit, visit: Visit, fits: frozenset[str]) -> None:
        """Weigh a decision as if something that fits were always shown."""
        chance = sum(p for offer_id, p in visit.offers.items() if offer_id in fits)
        if visit.reward is None or not chance:
            return
        limit.least = min(limit.least, chance)
        limit.keys.append(visit.key)
        limit.weights.append(1.0 / chance if visit.chosen in fits else 0.0)
        limit.rewards.append(visit.reward)

    # --- Steps of ladders ---------------------------------------------------------

    def _between(self, visits: Sequence[Visit]) -> None:
        """Count a root that outgrows its rung, and needs far less than the next."""
        products = self.spec.products
        for name, ladder in self.spec.ladders.items():
            found: defaultdict[int, list[Visit]] = defaultdict(list)
            owners: defaultdict[int, list[Visit]] = defaultdict(list)
            for visit in visits:
                rung = max(
                    (i for i, p in enumerate(ladder.rungs) if p in visit.owned),
                    default=-1,
                )
                if not 0 <= rung < len(ladder.rungs) - 1:
                    continue
                owners[rung].append(visit)
                low, high = (
                    products[ladder.rungs[at]].limit
                    if ladder.rungs[at] in products
                    else None
                    for at in (rung, rung + 1)
                )
                usage = visit.usage.get(ladder.usage)
                if usage is None or not low:
                    continue
                middle = math.inf if high is None else math.sqrt(low * high)
                if self._near * low <= usage.value <= middle:
                    found[rung].append(visit)
            for rung, those in owners.items():
                gap = self.gaps[name, rung]
                gap.owners.add(those)
                gap.between.add(found[rung])
                following = ladder.rungs[rung + 1]
                offers = [v for v in found[rung] if self._gives(v.chosen, following)]
                gap.offered += bool(offers)
                gap.accepted += any("accepted" in v.kinds for v in offers)
                gap.dismissed += any("dismissed" in v.kinds for v in offers)

    def _gives(self, offer_id: str, product: str) -> bool:
        offer = self.spec.offers.get(offer_id)
        return offer is not None and product in offer.grants


def share_of(usage: Usage | None) -> float:
    """Return the share of a limit that is used; not a number where there is none."""
    if usage is None or not usage.limit or usage.limit < 0:
        return math.nan
    return usage.value / usage.limit
