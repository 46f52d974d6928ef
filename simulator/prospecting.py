"""Where there is more to be had: what a log says that the catalogue does not answer.

Five questions are asked of a log: what is used together without a bundle that has both;
which tiers take an offer less than others; between which plans users stand; which
limits hurt; and who or what is never reached. What is found is counted in users, with
the key of the catalogue to edit. No group of fewer than a few users is told of.

Many things are compared, some of which differ by luck. Comparisons are tested exactly,
on roots (users, or accounts with their users), which are independent, and those are
told of which, on average, no more than 1 − confidence are luck (Benjamini and
Hochberg); intervals are adjusted for having been picked. What is merely counted (who is
between plans, whom no offer reaches) needs no test.

What an opportunity is worth is told where the log has tried it, with an interval; where
it has not, there is no number, and it says so.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from policies.comparison import difference
from policies.engine import explain
from policies.intervals import above, apart, mean_of, select
from policies.model import FloatArray
from policies.specs import CatalogueSpec, OfferSpec
from simulator.gathering import Adoption, Count, Gap, Gathering, Limit, Reach, Sample
from simulator.judging import opened
from simulator.logs import AnyLog, Log, Watcher
from simulator.logs.served import ServedReader
from simulator.rehearsing import last_catalogue
from simulator.remedies import key_of
from simulator.visits import fitting, of_log, of_source

__all__ = [
    "Held",
    "Kind",
    "Opportunities",
    "OpportunitySettings",
    "Prospect",
    "Worth",
    "opportunities",
]

Kind = Literal["together", "adoption", "gap", "limit", "unserved"]

_KINDS: tuple[Kind, ...] = ("together", "adoption", "gap", "limit", "unserved")
_KEYS_MAX = 20
_NEVER_TRIED = "nothing like it was ever offered: the log cannot tell"
_UNTRIED = "it was never tried: the log cannot tell"
_UNSHOWN = "nothing was ever shown there: the log cannot tell"
_TRY = "let the policy try it: give it a least share, or explore more"
_LOOSEN = "loosen the rule, and rehearse it before; or leave them alone"


class OpportunitySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as an opportunity."""

    users_min: int = 20
    """How many users or accounts there must be in whatever is told of: 5 to 1,000,000.

    Fewer than twenty are a handful of people, of whom a share tells nothing, and who
    might be recognised.
    """

    confidence: float = 0.95
    """How much of what is told is more than luck, on average: above 0.5, below 1."""

    lift_min: float = 1.2
    """How many times as often as by chance things must be used together, 1 to 100."""

    near: float = 0.8
    """From which share of a limit on it is near, above 0 to 1: as limits of offers."""

    price_step: float = 2.0
    """How many times as much as the rung before it a rung costs to be a gap, above 1 to
    100: as `max_step` of ladders."""

    uses: tuple[str, ...] = ()
    """Features of requests that say that a user uses something: flags that are true,
    numbers above 0. What users own, and usages above 0, count anyway."""

    sample: int = 200
    """How many decisions of a group are explained, to say which gate holds it back: 1
    to 100,000. By 200 a share is known to within 7 percent points."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 5 <= self.users_min <= 1_000_000:
            raise ValueError(
                f"users_min must be from 5 to 1000000, not {self.users_min}"
            )
        if not 0.5 < self.confidence < 1.0:
            raise ValueError(
                f"confidence must be above 0.5, below 1, not {self.confidence:g}"
            )
        if not 1.0 <= self.lift_min <= 100.0:
            raise ValueError(f"lift_min must be from 1 to 100, not {self.lift_min:g}")
        if not 0.0 < self.near <= 1.0:
            raise ValueError(f"near must be above 0, to 1, not {self.near:g}")
        if not 1.0 < self.price_step <= 100.0:
            raise ValueError(
                f"price_step must be above 1, to 100, not {self.price_step:g}"
            )
        if not 1 <= self.sample <= 100_000:
            raise ValueError(f"sample must be from 1 to 100000, not {self.sample}")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that holds something back.

    Attributes:
        gate: Its name.
        share: In which share of the decisions that were explained it is the first to
            reject something of it, 0 to 1.
        offers: The offers that it rejects, at most 20.
        keys: The keys of the catalogue that it follows from, at most 20.
    """

    gate: str
    share: float
    offers: tuple[str, ...]
    keys: tuple[str, ...]


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What an opportunity may be worth, over the time of the log.

    Attributes:
        value: In units of reward.
        low: The lower end of its interval.
        high: The upper end.
        confidence: How often such an interval holds, for having been picked.
        supposed: What it would be worth that for.
    """

    value: float
    low: float
    high: float
    confidence: float
    supposed: str


class Prospect(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found.

    Attributes:
        kind: `together`, `adoption`, `gap`, `limit` or `unserved`.
        what: What it is, in a sentence.
        users: How many users it is about.
        roots: How many users or accounts; all statistics are of these.
        decisions: How many decisions it was seen in.
        share: The share of the log's users or accounts, 0 to 1.
        adjusted: The share of luck among all that is at least as certain, 0 to 1
            (Benjamini and Hochberg); none for what is counted and not tested.
        evidence: The counts and ratios that say so, by name.
        held: Which gates hold it back, the most frequent first.
        worth: What it may be worth; none where the log cannot tell.
        untold: Why there is no number; empty where there is one.
        next: What to do.
        keys: The keys of the catalogue to edit, at most 20; `NEW` stands for a name to
            be chosen.
    """

    kind: Kind
    what: str
    users: int
    roots: int
    decisions: int
    share: float
    adjusted: float | None
    evidence: dict[str, float]
    held: tuple[Held, ...]
    worth: Worth | None
    untold: str
    next: str
    keys: tuple[str, ...]


class Opportunities(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says that the catalogue does not answer.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        log_format: What it is.
        catalogue: The version of the catalogue that decided last; empty where the log
            has none.
        settings: What counts.
        decisions: How many decisions were looked at.
        users: Of how many users.
        roots: Of how many users or accounts.
        enough: Whether these are as many as a group must have.
        tests: How many comparisons were tested.
        correction: By what they were corrected.
        found: What was found, by kind, what is about the most users first.
        small: How many tiers were left out, as they have too few users.
        unchecked: What could not be looked at, and why.
    """

    format: str = "opportune.opportunities.v1"
    log: str
    log_format: str
    catalogue: str
    settings: OpportunitySettings
    decisions: int
    users: int
    roots: int
    enough: bool
    tests: int
    correction: str = "Benjamini-Hochberg"
    found: tuple[Prospect, ...]
    small: int
    unchecked: tuple[str, ...]

    def of(self, kind: Kind) -> list[Prospect]:
        """Return what was found of a kind."""
        return [each for each in self.found if each.kind == kind]


def opportunities(
    log: AnyLog,
    settings: OpportunitySettings | None = None,
    *,
    watcher: Watcher | None = None,
) -> Opportunities:
    """Find what a log says that the catalogue does not answer.

    Args:
        log: The path of a log, the URL of a server's store, or an open log. That of a
            server answers all questions; others tell who adopts what, and what is
            never chosen.
        settings: What counts as an opportunity.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read.
    """
    settings = settings or OpportunitySettings()
    watch = watcher or _unwatched
    with opened(log) as source:
        served = source.log if isinstance(source, ServedReader) else None
        catalogue = None
        if served is not None and served.last:
            catalogue = last_catalogue(served)
        gathering = Gathering(catalogue, settings.near, settings.sample)
        roots = (
            of_source(source, settings.uses, watch)
            if served is None
            else of_log(served, settings.uses, watch)
        )
        for visits in roots:
            gathering.root(visits)
        finding = _Finding(gathering, settings, served)
        enough = gathering.all.roots >= settings.users_min
        found, tests = finding.run() if enough else ([], 0)
        return Opportunities(
            log=str(source.path),
            log_format=source.format,
            catalogue="" if catalogue is None else catalogue.version,
            settings=settings,
            decisions=gathering.all.decisions,
            users=gathering.all.users,
            roots=gathering.all.roots,
            enough=enough,
            tests=tests,
            found=tuple(found),
            small=sum(
                reach.all.roots < settings.users_min
                for reach in gathering.tiers.values()
            ),
            unchecked=(
                *finding.unchecked(),
                *(f"{why} rows: {n:,}" for why, n in source.left_out.reasons.items()),
            ),
        )


def _unwatched(doing: str, done: int, total: int) -> None:
    del doing, done, total


class _Test(NamedTuple):
    """What came of a test, together with all others.

    Attributes:
        adjusted: Its p, adjusted for all of them; none for what is only counted.
        selected: Whether it is more than luck.
        confidence: At which intervals are made.
    """

    adjusted: float | None
    selected: bool
    confidence: float


class _Candidate(NamedTuple):
    """Something that may be told, once all tests are made.

    Attributes:
        p: How likely it is by luck; none for what is only counted.
        told: Makes it of its test; none where it is not to be told after all.
    """

    p: float | None
    told: Callable[[_Test], Prospect | None]


class _Finding:
    """Makes findings of counts."""

    def __init__(
        self, gathering: Gathering, settings: OpportunitySettings, log: Log | None
    ) -> None:
        self._g = gathering
        self._s = settings
        self._log = log
        self._spec = gathering.spec
        self._known = gathering.known
        self._min = settings.users_min
        self._refusals: dict[str, _Refusals] = {}

    def run(self) -> tuple[list[Prospect], int]:
        """Return what is told, and how many comparisons were tested."""
        candidates = [
            *self._together(),
            *self._adoption(),
            *self._gaps(),
            *self._limits(),
            *self._unserved(),
        ]
        p_values = [c.p for c in candidates if c.p is not None]
        selection = select(p_values, 1.0 - self._s.confidence)
        results = zip(selection.adjusted, selection.selected, strict=True)
        found: list[Prospect] = []
        for candidate in candidates:
            adjusted, selected = (None, False)
            if candidate.p is not None:
                adjusted, selected = next(results)
            told = candidate.told(_Test(adjusted, selected, selection.confidence))
            if told is not None:
                found.append(told)
        found.sort(key=lambda each: (_KINDS.index(each.kind), -each.roots, each.what))
        return found, len(p_values)

    def unchecked(self) -> Iterator[str]:
        """Say what could not be looked at."""
        gathering = self._g
        if not self._known:
            yield (
                "what is used together, gaps between plans, limits, and which gates"
                " hold back: only a server's log has its catalogue"
            )
        elif not gathering.uses:
            yield "what is used together: no product, usage or --uses is in the log"
        if not any(dim == "segment" for dim, _ in gathering.tiers):
            yield "segments: no decision has one"
        if not gathering.accepts:
            yield "who adopts what: no offer was accepted"
        for name, ladder in self._spec.ladders.items():
            if not ladder.usage:
                yield f"gaps of ladder {name}: it does not say which usage it is for"

    def _share(self, count: Count) -> float:
        return count.roots / self._g.all.roots

    def _made(
        self,
        kind: Kind,
        what: str,
        count: Count,
        *,
        keys: Collection[str],
        next_: str,
        adjusted: float | None = None,
        evidence: dict[str, float] | None = None,
        held: tuple[Held, ...] = (),
        worth: Worth | None = None,
        untold: str = "",
    ) -> Prospect:
        return Prospect(
            kind=kind,
            what=what,
            users=count.users,
            roots=count.roots,
            decisions=count.decisions,
            share=self._share(count),
            adjusted=adjusted,
            evidence=evidence or {},
            held=held,
            worth=worth,
            untold="" if worth is not None else untold,
            next=next_,
            keys=tuple(dict.fromkeys(key for key in keys if key))[:_KEYS_MAX],
        )

    # --- Used together, without a bundle ------------------------------------------

    def _together(self) -> Iterator[_Candidate]:
        if not self._known:
            return
        often = {use for use, n in self._g.uses.items() if n >= self._min}
        gives = {use: _gives(use, self._spec) for use in often}
        bundles = [
            frozenset(offer.grants)
            for offer in self._spec.offers.values()
            if len(offer.grants) > 1 and offer.state != "archived"
        ]
        names = sorted(often)
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                mine, theirs = gives[one], gives[other]
                if _of_one_ladder(mine, theirs, self._spec) or any(
                    b & mine and b & theirs for b in bundles
                ):
                    continue
                yield self._pair(one, other, mine, theirs)

    def _pair(
        self, one: str, other: str, mine: frozenset[str], theirs: frozenset[str]
    ) -> _Candidate:
        uses, n = self._g.uses, self._g.all.roots
        both = self._g.pairs.get((one, other), Count())
        by_chance = uses[one] * uses[other] / n

        def told(test: _Test) -> Prospect | None:
            lift = both.roots / by_chance
            if not test.selected or both.roots < self._min or lift < self._s.lift_min:
                return None
            grants = sorted([*mine, *theirs])
            missing = [use for use, p in ((one, mine), (other, theirs)) if not p]
            next_ = "offer a bundle that grants both"
            if missing:
                next_ = f"declare a product for {' and '.join(missing)}, then {next_}"
            return self._made(
                "together",
                f"{one} and {other} are used together, and no bundle has both",
                both,
                adjusted=test.adjusted,
                evidence={
                    "use_both": both.roots,
                    f"use {one}": uses[one],
                    f"use {other}": uses[other],
                    "use_both_by_chance": by_chance,
                    "lift": lift,
                    "use_only_one": uses[one] + uses[other] - 2 * both.roots,
                },
                untold=_NEVER_TRIED,
                next_=next_ + (f": {', '.join(grants)}" if grants else ""),
                keys=["offers.NEW.grants", *(["products.NEW"] if missing else [])],
            )

        return _Candidate(above(both.roots, uses[one], uses[other], n), told)

    # --- Low adoption by tier -----------------------------------------------------

    def _adoption(self) -> Iterator[_Candidate]:
        if not self._g.accepts:
            return
        for (offer_id, dim), tiers in sorted(self._g.adoption.items()):
            for tier, mine in sorted(tiers.items()):
                rest = [other for name, other in tiers.items() if name != tier]
                if mine.offered >= self._min <= sum(other.offered for other in rest):
                    yield self._tier(offer_id, dim, tier, mine, rest)

    def _tier(
        self, offer_id: str, dim: str, tier: str, mine: Adoption, rest: list[Adoption]
    ) -> _Candidate:
        others = sum(other.offered for other in rest)
        taken = sum(other.accepted for other in rest)
        all_taken = mine.accepted + taken

        def told(test: _Test) -> Prospect | None:
            if not test.selected:
                return None
            earned = array("d")
            for other in rest:
                earned.extend(other.rewards)
            gap, (low, high) = apart(
                mean_of(np.array(earned), confidence=test.confidence),
                mean_of(np.array(mine.rewards), confidence=test.confidence),
            )
            n = mine.offered
            count = Count()
            count.roots, count.users, count.decisions = n, mine.users, mine.decisions
            return self._made(
                "adoption",
                f"offer {offer_id} is taken less by users of {_called(dim, tier)}",
                count,
                adjusted=test.adjusted,
                evidence={
                    "could_buy": mine.could,
                    "offered": n,
                    "accepted": mine.accepted,
                    "dismissed": mine.dismissed,
                    "accept_rate": mine.accepted / n,
                    "others_offered": others,
                    "others_accepted": taken,
                    "others_accept_rate": taken / others,
                },
                worth=Worth(
                    value=gap * n,
                    low=low * n,
                    high=high * n,
                    confidence=test.confidence,
                    supposed="had they earned as others to whom it was offered",
                ),
                next_="word it for them, price it for them, or leave them alone",
                keys=[
                    f"offers.{offer_id}.creatives",
                    f"offers.{offer_id}.suitable",
                    f"offers.{offer_id}.price",
                ],
            )

        return _Candidate(above(taken, others, all_taken, others + mine.offered), told)

    # --- Gaps between plans -------------------------------------------------------

    def _gaps(self) -> Iterator[_Candidate]:
        for (name, rung), gap in sorted(self._g.gaps.items()):
            if gap.between.roots >= self._min:
                found = self._gap(name, rung, gap)
                if found is not None:
                    yield _counted(found)

    def _gap(self, name: str, rung: int, gap: Gap) -> Prospect | None:
        rungs = self._spec.ladders[name].rungs
        low, high = (self._spec.products[rungs[at]] for at in (rung, rung + 1))
        jump = high.price / low.price if low.price else math.inf
        unit = math.nan
        if low.limit and high.limit and low.price:
            unit = (high.price / high.limit) / (low.price / low.limit)
        if not high.price or (jump < self._s.price_step and not unit > 1.0):
            return None
        evidence: dict[str, float] = {
            "own_the_lower": gap.owners.roots,
            "between": gap.between.roots,
            "lower_price": low.price,
            "upper_price": high.price,
        }
        if low.price:
            evidence["price_ratio"] = jump
        if not math.isnan(unit):
            evidence["price_per_unit_ratio"] = unit
        evidence |= {
            "offered_the_upper": gap.offered,
            "accepted_it": gap.accepted,
            "dismissed_it": gap.dismissed,
        }
        if low.limit and high.limit:
            evidence["middle_limit"] = math.sqrt(low.limit * high.limit)
        costs = f"costs {jump:.3g} times as much"
        if not low.price:
            costs = f"costs {high.price:,} where the other is free"
        return self._made(
            "gap",
            f"users outgrow {rungs[rung]}, and need far less than {rungs[rung + 1]},"
            f" which {costs}",
            gap.between,
            evidence=evidence,
            untold=_NEVER_TRIED,
            next_=f"put a plan between {rungs[rung]} and {rungs[rung + 1]}, or a pack"
            " of usage",
            keys=["products.NEW", f"ladders.{name}.rungs", "offers.NEW.grants"],
        )

    # --- Limits that hurt ---------------------------------------------------------

    def _limits(self) -> Iterator[_Candidate]:
        for name, limit in sorted(self._g.limits.items()):
            if limit.near.roots < self._min:
                continue
            (near, left), (far, gone) = limit.left[True], limit.left[False]
            p: float | None = None
            if near >= self._min <= far and left + gone:
                p = above(left, near, left + gone, near + far)
            yield _Candidate(p, self._limit(name, limit))

    def _limit(self, name: str, limit: Limit) -> Callable[[_Test], Prospect | None]:
        fits = sorted(fitting(self._spec).get(name, ()))

        def told(test: _Test) -> Prospect | None:
            worth, untold = self._fitting(limit, fits, test.confidence)
            hurts: list[str] = []
            if limit.without.roots >= self._min:
                hurts.append("nothing that fits is offered")
            if test.selected:
                hurts.append("more of them leave")
            if limit.outcomes["dismissed"] > limit.outcomes["accepted"]:
                hurts.append("what fits is dismissed more often than accepted")
            if worth is not None and worth.low > 0:
                hurts.append("what fits is shown too rarely")
            if not hurts:
                return None
            held: tuple[Held, ...] = ()
            if limit.without.roots >= self._min and fits:
                held = self._held(limit.sample, offers=frozenset(fits))
            (near, left), (far, gone) = limit.left[True], limit.left[False]
            evidence: dict[str, float] = {
                "near": limit.near.roots,
                "over": limit.over.roots,
                "limit_known": limit.known,
                "decisions_each": limit.near.decisions / limit.near.roots,
                "nothing_fits": limit.without.roots,
                "offered": limit.outcomes["offered"],
                "accepted": limit.outcomes["accepted"],
                "dismissed": limit.outcomes["dismissed"],
                "left": left,
            }
            if near and far:
                evidence |= {"left_rate": left / near, "others_left_rate": gone / far}
            keys = [f"offers.{offer_id}.limit" for offer_id in fits]
            keys = [key for each in held for key in each.keys] or keys
            next_ = "let what fits through, or offer more of it earlier"
            if not fits:
                keys = ["offers.NEW.limit"]
                next_ = f"offer more of {name}: no offer is for its limit"
            return self._made(
                "limit",
                f"users near the limit of {name}: {', '.join(hurts)}",
                limit.near,
                adjusted=test.adjusted,
                evidence=evidence,
                held=held,
                worth=worth,
                untold=untold,
                next_=next_,
                keys=keys,
            )

        return told

    def _fitting(
        self, limit: Limit, fits: list[str], confidence: float
    ) -> tuple[Worth | None, str]:
        """Say what it is worth to show what fits wherever it may be shown."""
        if not fits:
            return None, _NEVER_TRIED
        if limit.fitting.roots < self._min or not limit.rewards:
            return None, "what fits was hardly ever eligible: the log cannot tell"
        weights: FloatArray = np.array(limit.weights)
        if not weights.any():
            return None, "what fits was never shown: the log cannot tell"
        found = difference(
            np.array(limit.rewards),
            weights,
            np.ones(len(weights)),
            np.array(limit.keys, dtype=np.uint64),
            weight_max=1.0 / limit.least,
            confidence=confidence,
        )
        if found.verdict == "unusable" or not math.isfinite(found.high - found.low):
            return None, f"the log cannot tell: {'; '.join(found.doubts)}"
        n = len(weights)
        doubt = "" if found.verdict == "usable" else f" ({'; '.join(found.doubts)})"
        return Worth(
            value=found.value * n,
            low=found.low * n,
            high=found.high * n,
            confidence=confidence,
            supposed=f"were what fits always shown where it may be{doubt}",
        ), ""

    # --- Who and what is never reached --------------------------------------------

    def _unserved(self) -> Iterator[_Candidate]:
        for (dim, tier), reach in sorted(self._g.tiers.items()):
            yield from self._never(f"users of {_called(dim, tier)}", reach)
        for placement, reach in sorted(self._g.placements.items()):
            yield from self._never(f"placement {placement}", reach, placement=placement)
        for offer_id in sorted({*self._g.offers, *self._spec.offers}):
            yield from self._never_shown(offer_id)

    def _never_shown(self, offer_id: str) -> Iterator[_Candidate]:
        """Tell of an offer that is never eligible, or never chosen."""
        reach = self._g.offers.get(offer_id, Reach(1))
        spec = self._spec.offers.get(offer_id)
        if reach.chosen.roots or (spec is not None and spec.state != "approved"):
            return
        came = reach.open if spec is None else self._g.asked(spec.placements)
        if came.roots < self._min:
            return
        evidence: dict[str, float] = {
            "decisions": came.decisions,
            "eligible_in": reach.open.decisions,
            "chosen_in": 0,
        }
        if reach.open.roots:
            yield _counted(
                self._made(
                    "unserved",
                    f"offer {offer_id} is eligible, and never chosen",
                    reach.open,
                    evidence=evidence,
                    untold=_UNTRIED,
                    next_=_TRY,
                    keys=[f"offers.{offer_id}.traffic.least"],
                )
            )
            return
        held = self._held_offer(offer_id, () if spec is None else spec.placements)
        yield _counted(
            self._made(
                "unserved",
                f"offer {offer_id} is never eligible",
                came,
                evidence=evidence,
                held=held,
                untold=_UNSHOWN,
                next_=_LOOSEN,
                keys=[key for each in held for key in each.keys],
            )
        )

    def _never(
        self, who: str, reach: Reach, *, placement: str = ""
    ) -> Iterator[_Candidate]:
        """Tell of users, or a placement, that nothing reaches."""
        if reach.all.roots < self._min or reach.chosen.roots:
            return
        evidence: dict[str, float] = {
            "decisions": reach.all.decisions,
            "eligible_in": reach.open.decisions,
            "chosen_in": 0,
        }
        are = "is" if placement else "are"
        if reach.open.roots:
            yield _counted(
                self._made(
                    "unserved",
                    f"{who} {are} never reached, though something is eligible",
                    reach.all,
                    evidence=evidence,
                    untold=_UNTRIED,
                    next_=_TRY,
                    keys=["traffic"],
                )
            )
            return
        held = self._held(reach.shut, placement=placement)
        keys = [key for each in held for key in each.keys]
        next_ = _LOOSEN
        if not held:
            next_, keys = "add an offer that is for them", ["offers.NEW.placements"]
        yield _counted(
            self._made(
                "unserved",
                f"{who} {are} never reached: no offer is ever eligible",
                reach.all,
                evidence=evidence,
                held=held,
                untold=_UNSHOWN,
                next_=next_,
                keys=keys,
            )
        )

    def _held_offer(
        self, offer_id: str, placements: Collection[str]
    ) -> tuple[Held, ...]:
        """Ask which gates hold an offer back, where most would see it."""
        if self._log is None or not placements:
            return ()
        place = max(placements, key=lambda p: self._g.placements[p].all.decisions)
        if place not in self._refusals:
            self._refusals[place] = _Refusals(self._log, self._g.visits[place], place)
        refusals = self._refusals[place]
        counts = refusals.gates.get(offer_id, Counter())
        return tuple(
            Held(
                gate=gate,
                share=n / refusals.decisions,
                offers=(offer_id,),
                keys=tuple(filter(None, [key_of(gate, self._spec, offer_id, place)])),
            )
            for gate, n in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        )

    def _held(
        self,
        sample: Sample,
        *,
        offers: frozenset[str] = frozenset(),
        placement: str = "",
    ) -> tuple[Held, ...]:
        """Ask which gates hold back, in a sample of decisions."""
        if self._log is None:
            return ()
        counts: dict[str, int] = {}
        rejected: dict[str, dict[str, str]] = {}
        records = sample.records
        for record in records:
            decision = self._log.read(record, "a decision")
            catalogue = self._log.catalogue(decision.catalogue)
            told: set[str] = set()
            for refusal in explain(decision, catalogue).refusals:
                if (offers and refusal.offer_id not in offers) or (
                    placement and refusal.placement_id != placement
                ):
                    continue
                told.add(refusal.gate)
                key = key_of(
                    *(refusal.gate, catalogue.spec),
                    *(refusal.offer_id, refusal.placement_id),
                )
                rejected.setdefault(refusal.gate, {})[refusal.offer_id] = key
            for gate in told:
                counts[gate] = counts.get(gate, 0) + 1
        return tuple(
            Held(
                gate=gate,
                share=counts[gate] / len(records),
                offers=tuple(sorted(rejected[gate]))[:_KEYS_MAX],
                keys=tuple(sorted({k for k in rejected[gate].values() if k}))[
                    :_KEYS_MAX
                ],
            )
            for gate in sorted(counts, key=lambda gate: (-counts[gate], gate))
        )


class _Refusals:
    """Which gates reject what in a placement, in a sample of decisions.

    Attributes:
        decisions: How many there are.
        gates: By offer, in how many of them each gate is the first to reject it.
    """

    def __init__(self, log: Log, sample: Sample, placement: str) -> None:
        self.gates: dict[str, Counter[str]] = {}
        records = sample.records
        self.decisions = len(records)
        for record in records:
            decision = log.read(record, "a decision")
            refused = {
                (refusal.offer_id, refusal.gate)
                for refusal in explain(
                    decision, log.catalogue(decision.catalogue)
                ).refusals
                if refusal.placement_id == placement
            }
            for offer_id, gate in refused:
                self.gates.setdefault(offer_id, Counter())[gate] += 1


def _counted(found: Prospect) -> _Candidate:
    def told(test: _Test) -> Prospect | None:
        del test
        return found

    return _Candidate(None, told)


def _called(dim: str, tier: str) -> str:
    return f"{dim}: {tier}" if dim.startswith("ladder") else f"{dim} {tier}"


def _gives(use: str, spec: CatalogueSpec) -> frozenset[str]:
    """Return the products that stand for something that is used."""
    kind, _, name = use.partition(" ")
    found = {name} if name in spec.products else set[str]()
    if kind == "usage":
        for ladder in spec.ladders.values():
            if ladder.usage == name:
                found.update(ladder.rungs)
        for offer in spec.offers.values():
            if offer.limit is not None and offer.limit.usage == name:
                found.update(_alone(offer))
    return frozenset(found)


def _alone(offer: OfferSpec) -> tuple[str, ...]:
    """Return what an offer gives, unless it is a bundle of other things too."""
    return () if len(offer.grants) > 1 else offer.grants


def _of_one_ladder(
    mine: frozenset[str], theirs: frozenset[str], spec: CatalogueSpec
) -> bool:
    """Say whether two things are one, or steps of one ladder."""
    if mine & theirs:
        return True
    return any(
        mine.intersection(ladder.rungs) and theirs.intersection(ladder.rungs)
        for ladder in spec.ladders.values()
    )
