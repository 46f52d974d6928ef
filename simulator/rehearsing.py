"""What would have been under other rules: a log through another catalogue.

Root by root, each decision is asked again under the new rules, on the past that it
would have had (`simulator.pasts`). Where the same actions are eligible, whoever decided
then decides as it did. Where others are, the policy is asked anew: a new run that
chooses otherwise has **diverged** from the log there, and what was logged of that user
afterwards is no fact of it any more.

Facts are weighed: w of a decision is the product, over the user's decisions up to it,
of how likely the new rules make what was logged over how likely it was. What the new
rules do and the log could not (an offer that was blocked then) has no weight that could
stand for it. Its share of the trajectories, L, is known exactly, and what it earned is
not: each end of an interval counts it as the least or the most that anything earned,

    value = Σ (w r + L r*) / Σ (w + L),    r* in [smallest reward, largest reward],

so that the interval holds whatever such an offer would have earned. w + L is 1 on
average. The point in between counts what was blocked as what the same action earned
where it was chosen, in the same segment if it was there.

References:
    D. Precup, R. S. Sutton and S. Singh. Eligibility traces for off-policy policy
    evaluation. ICML 2000: per-decision importance sampling.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.comparison import compare
from policies.engine import Past, decide, eligible, explain
from policies.errors import FileError, plainly
from policies.estimators import Rows, snips
from policies.history import Chosen
from policies.identity import root_of
from policies.intervals import (
    SHARDS,
    Clusters,
    Estimate,
    Row,
    Sums,
    Worst,
    estimate_sums,
    shards_of,
    total,
)
from policies.intervals.student import student
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Decision,
    FloatArray,
    Opportunity,
    Outcome,
)
from policies.overlap import Verdict, worse
from policies.policy import Policy, PolicySettings, PrioritySettings
from policies.records import decode_outcome
from policies.specs import CatalogueSpec
from simulator.candidates import candidates, last_policy
from simulator.folding import Folding
from simulator.logs import Log, LogError, Watcher
from simulator.logs.building import uncollected
from simulator.logs.server import Record, Rooted
from simulator.pasts import Pasts, alike, prolonged
from simulator.sharded import Sharded
from simulator.surveying import REWARD, SETTLING
from simulator.targets import TargetError

__all__ = ["Effect", "Figure", "Rehearsal", "last_catalogue", "rehearse"]

Change = Literal["blocked", "allowed"]

KNOWN_MIN = 0.5
"""Below this share of trajectories that the log can tell of, no number is told."""

KNOWN_WEAK = 0.9
"""Below this one no winner is named."""

_ABSENT = "not in the catalogue"
_PART = 16_384


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What is earned a decision under the new rules, and under those of the log.

    Attributes:
        objective: `reward` or `dismissed`.
        logged: What the log has, a decision.
        value: What the new rules would have had; none where the log cannot tell.
        low: The lower end of its interval; none likewise.
        high: The upper end; none likewise.
        difference: By how much that is more; none likewise.
        difference_low: The lower end of its interval; none likewise.
        difference_high: The upper end; none likewise.
        alike_low: The lower end of a narrower interval of the difference, which holds
            if what was never tried earns as the same action did where it was tried in
            the same segment; none where that was nowhere.
        alike_high: The upper end; none likewise.
    """

    objective: str
    logged: float
    value: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    alike_low: float | None
    alike_high: float | None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate does otherwise, in decisions that the new rules lead to.

    Attributes:
        gate: The gate that rejects first: of the new rules where it blocks, of those of
            the log where they blocked.
        change: `blocked` or `allowed`.
        decisions: In how many decisions it does so.
        roots: Of how many users, or accounts.
        actions: How many actions of them.
        choices: How many of these were chosen: in the log where they are blocked now;
            expected of the new rules where they are allowed.
        reward: What these choices earned together in the log; where they are allowed,
            what the same actions earned elsewhere in the log, a guess; none where they
            were never tried.
        dismissals: How many of them were dismissed, likewise.
    """

    gate: str
    change: Change
    decisions: int
    roots: int
    actions: int
    choices: float
    reward: float | None
    dismissals: float | None


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been under other rules.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        catalogue: The version of the new catalogue.
        policy: What decides where the eligible actions are others.
        confidence: How often intervals are to hold.
        decisions: How many decisions there are.
        roots: Of how many users, or accounts.
        rewarded: How many decisions the figures are of: those with a reward, and
            silence, which earns nothing.
        changed: In how many others are eligible, of those that the new rules lead to.
        followed: How many the new run makes as the log did, with all before them.
        diverged: How many roots it leaves the log in.
        coverage: `followed` over `decisions`, 0 to 1.
        known: The share of the new rules' trajectories that the log can tell of, by its
            probabilities, 0 to 1.
        figures: Rewards, and dismissals.
        effects: What gates do otherwise, the most frequent first.
        lead: Whether the new rules earn more: `better`, `worse`, `same` where nothing
            changes, or `open`.
        verdict: `usable`; `weak`: no winner is to be named; `unusable`: the log cannot
            tell.
        doubts: Why it is not usable.
        notes: What else is to be known.
    """

    format: str = "opportune.rehearsal.v1"
    log: str
    catalogue: str
    policy: str
    confidence: float
    decisions: int
    roots: int
    rewarded: int
    changed: int
    followed: int
    diverged: int
    coverage: float
    known: float
    figures: tuple[Figure, ...]
    effects: tuple[Effect, ...]
    lead: Literal["better", "worse", "same", "open"]
    verdict: Verdict
    doubts: tuple[str, ...]
    notes: tuple[str, ...]

    def figure(self, objective: str) -> Figure:
        """Return the figure of an objective."""
        return next(f for f in self.figures if f.objective == objective)


def rehearse(
    log: Log,
    catalogue: str | Path | Catalogue,
    *,
    policy: str | None = None,
    snooze: float = 1.0,
    confidence: float = 0.95,
    thorough: bool = False,
    watcher: Watcher | None = None,
) -> Rehearsal:
    """Estimate what a log would have been under another catalogue.

    Args:
        log: The log of a server.
        catalogue: The path of the catalogue, or `logged` for the one that decided last;
            or one that is compiled.
        policy: The path of a settings file with `[policy]` that decides everywhere; the
            log's own policies without it.
        snooze: How many times as long snoozes last, above 0.
        confidence: How often intervals are to hold, above 0.5, below 1.
        thorough: Whether also to ask again what was decided on the same past where
            every rule of its placements is as it was: the result is the same.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read, or has no decision with a reward.
        TargetError: If the catalogue or the policy cannot be read.
    """
    if not 0.0 < snooze < math.inf:
        raise TargetError(f"snooze must be above 0, not {snooze:g}")
    if not 0.5 < confidence < 1.0:
        raise TargetError(f"confidence must be above 0.5, below 1, not {confidence:g}")
    if not log.last:
        raise LogError(log.path, "there is no decision in it")
    new = _catalogue(log, catalogue)
    decider = _Decider(log, policy)
    with uncollected():
        rehearsing = _Rehearsing(
            log, new, decider, snooze, watcher or _unwatched, thorough=thorough
        )
        return rehearsing.run(confidence)


def _unwatched(doing: str, done: int, total: int) -> None:
    del doing, done, total


def last_catalogue(log: Log) -> Catalogue:
    """Return the catalogue that decided last."""
    _, last = next(iter(_last(log)))
    return log.catalogue(last.catalogue)


def _catalogue(log: Log, name: str | Path | Catalogue) -> Catalogue:
    if isinstance(name, Catalogue):
        return name
    if str(name) == "logged":
        return last_catalogue(log)
    try:
        text = Path(name).read_text(encoding="utf-8")
        return catalogues.read(text, str(name), linted=False)
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{name} {plainly(error)}") from None
    except FileError as error:
        raise TargetError(str(error)) from None


def _last(log: Log) -> list[tuple[int, Decision]]:
    return [(r.position, log.read(r.record, "it")) for r in log.records(log.last)]


class _Decider:
    """Who decides under the new rules where the log does not say.

    Args:
        log: The log.
        name: The path of a settings file; the log's last policy without it.
    """

    def __init__(self, log: Log, name: str | None) -> None:
        self._log = log
        self.everywhere = name is not None
        self.asked = False
        self._policy: Policy | None = None
        if name is None:
            version = last_policy(log)
            self._settings: PolicySettings = log.policy(version)
            self.about = f"those of the log; policy {version} where others are eligible"
            return
        (candidate,) = candidates([name])
        if candidate.settings is None:
            raise TargetError(f"{name}: there must be a settings file with [policy]")
        self._settings = candidate.settings
        self.about = f"[policy] of {candidate.what}"

    @property
    def has_learned(self) -> bool:
        """Whether all is decided by what was learned from the rewards of this log."""
        return (
            self.everywhere
            and self._log.resolved > 0
            and not isinstance(self._settings.learner, PrioritySettings)
        )

    @property
    def policy(self) -> Policy:
        """The policy with all that the log teaches."""
        self.asked = True
        if self._policy is None:
            log, settings = self._log, self._settings
            snapshot = log.snapshot(settings.learner_version, log.epoch)
            folding = Folding(log, settings, log.epoch, snapshot)
            folding.advance(log.resolved)
            self._policy = folding.policy(settings)
        return self._policy


class _Setting(msgspec.Struct, frozen=True, gc=False):
    segment: str = ""


_NO_SETTING = _Setting()


class _Asked(msgspec.Struct, frozen=True):
    placements: tuple[str, ...]
    context: _Setting = _NO_SETTING


class _Brief(msgspec.Struct, frozen=True):
    """What is looked at of every decision."""

    opportunity: _Asked
    catalogue: str
    chosen: int


_decode = msgspec.json.Decoder(_Brief).decode


class _Pair:
    """A catalogue of the log beside the new one."""

    def __init__(self, old: Catalogue, new: Catalogue) -> None:
        self.old = old
        self.is_same = old.version == new.version
        self.alike = alike(old, new)
        self.names = [action.name for action in old.actions]
        here = {action.name: action for action in new.actions}
        self.moved: list[int] = []
        self.chosen: list[Chosen | None] = [None]
        for action in old.actions:
            there = here.get(action.name)
            same = there is not None and (
                msgspec.structs.replace(there, index=action.index) == action
            )
            self.moved.append(there.index if there is not None and same else -1)
            if action.index != NO_OFFER:
                of = (old, action) if there is None else (new, there)
                self.chosen.append(of[0].chosen(of[1]))
        self.is_scored_alike = (
            old.features == new.features and old.spec.holdout == new.spec.holdout
        )

        self.others, self._kept, self._like = _others(old, new)

    def asked_of(self, asked: Opportunity) -> Opportunity | None:
        """Return what is to be asked of the offers that are others alone.

        None where more is to be asked: a placement is another one, or has a fallback,
        which depends on all offers.
        """
        if not all(place in self._like for place in asked.placements):
            return None
        wanted = self.others.intersection(asked.offers) if asked.offers else self.others
        return msgspec.structs.replace(asked, offers=tuple(sorted(wanted)))

    def kept(self, logged: tuple[int, ...], new: Catalogue) -> list[Action]:
        """Return what was eligible of all other offers, which still is."""
        return [
            new.actions[self.moved[index]]
            for index in logged
            if self.old.actions[index].offer_id not in self.others
        ]

    def keeps(self, decision: _Brief) -> bool:
        """Say whether no rule that is asked is another one, of the same past."""
        return all(place in self._kept for place in decision.opportunity.placements)

    def same(self, logged: tuple[int, ...], now: list[Action]) -> bool:
        """Say whether the same is eligible, and looks the same to a policy."""
        if len(logged) != len(now):
            return False
        if self.is_same:
            return all(a == b.index for a, b in zip(logged, now, strict=True))
        moved = self.moved
        return self.is_scored_alike and (
            {moved[a] for a in logged} == {b.index for b in now}
        )


def _others(
    old: Catalogue, new: Catalogue
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the offers that are others, and the placements that are as they were.

    What may be shown in a placement follows from the request, the past, the placement,
    its offers, and what is said at the top of the catalogue.

    Returns:
        The offers; the placements in which no offer is another one either; and those
        that are as they were by themselves, and have no fallback. No placement where
        the top is another one.
    """
    before, after = old.spec.offers, new.spec.offers
    names = before.keys() | after.keys()
    others = frozenset([o for o in names if before.get(o) != after.get(o)])
    was, now = (
        msgspec.structs.replace(c.spec, offers={}, placements={}) for c in (old, new)
    )
    if was != now:
        return others, frozenset(), frozenset()
    alike = {
        place: spec
        for place, spec in old.spec.placements.items()
        if new.spec.placements.get(place) == spec
    }
    touched = {
        place
        for offer_id in others
        for spec in (before.get(offer_id), after.get(offer_id))
        if spec is not None
        for place in spec.placements
    }
    return (
        others,
        frozenset(alike.keys() - touched),
        frozenset([place for place, spec in alike.items() if not spec.fallback]),
    )


class _Walk:
    """Where the new rules are with one root."""

    __slots__ = ("follows", "lost", "weight")

    def __init__(self) -> None:
        self.weight = 1.0
        self.lost = 0.0
        self.follows = True


class _Row(NamedTuple):
    """One decision in the figures."""

    key: int
    weight: float
    lost: float
    reward: float
    dismissed: float
    quiet: float
    cell: int
    later: float


class _Untried(NamedTuple):
    """What the new rules do and the log could not: how much of it, by action."""

    gate: str
    segment: str
    name: str


class _Rehearsing:
    """One rehearsal under way."""

    def __init__(
        self,
        log: Log,
        new: Catalogue,
        decider: _Decider,
        snooze: float,
        watcher: Watcher,
        *,
        thorough: bool,
    ) -> None:
        self._log = log
        self._new = new
        self._decider = decider
        self._snooze = snooze
        self._watcher = watcher
        # What was decided by the same rules on the same past is not asked again.
        self._kept = snooze == 1.0 and not decider.everywhere and not thorough
        self._pairs: dict[str, _Pair] = {}
        self._rows: list[_Row] = []
        self._sums: dict[str, Sums] = {}
        self._weight_max = 1.0
        self._decisions = self._roots = self._changed = 0
        self._followed = self._diverged = self._rewarded = 0
        self._moved = False
        # By action, which gate makes the difference in the decision at hand.
        self._gates: dict[str, str] = {}
        # Which gates make a difference to the root at hand.
        self._here: set[tuple[str, Change]] = set()
        self._folded = False
        self._effects: Counter[tuple[str, Change, str]] = Counter()
        self._choices: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._masses: defaultdict[_Untried, float] = defaultdict(float)
        # By segment and action, and by shard: as `_earned`; and what was never tried.
        self._cells: dict[tuple[str, str], int] = {}
        self._tried = Sharded(3)
        self._later_by_shard = np.zeros(SHARDS)
        self._missing: dict[tuple[str, str], int] = {}
        self._untried: list[tuple[int, int, float]] = []
        self._lost_by_shard = Sharded(1)
        self._later = self._lost = self._total = 0.0
        # By segment and action: decisions, rewards and dismissals.
        self._earned: defaultdict[tuple[str, str], list[float]] = defaultdict(
            lambda: [0.0, 0.0, 0.0]
        )

    def run(self, confidence: float) -> Rehearsal:
        """Take every root through the new rules."""
        log = self._log
        log.keep_rewards()
        seen = log.reward_range() or (0.0, 0.0)
        self._range = min(seen[0], 0.0), max(seen[1], 0.0)
        size = log.last - log.first + 1
        for roots in log.by_root():
            for rooted in roots:
                self._root(rooted)
            if len(self._rows) >= _PART:
                self._add_up()
            self._watcher("rehearsing", self._decisions, size)
        self._add_up()
        if not self._rewarded:
            raise LogError(log.path, "no decision in it has a reward")
        return self._result(confidence)

    def _root(self, rooted: Rooted) -> None:
        self._roots += 1
        outcomes = {
            name: [self._outcome(name, text) for text in texts]
            for name, texts in rooted.outcomes.items()
        }
        briefs = [self._brief(record) for record in rooted.records]
        folded = not all(self._pair(brief.catalogue).alike for brief in briefs)
        pasts = Pasts(self._new, outcomes) if folded else None
        self._folded = self._folded or folded
        walk = _Walk()
        key = int(root_of(rooted.records[0].decision_id), 16)
        for record, decision in zip(rooted.records, briefs, strict=True):
            name = record.decision_id
            self._decisions += 1
            pair = self._pair(decision.catalogue)
            before = walk.weight, walk.lost
            untried: dict[_Untried, float] = {}
            if walk.weight > 0.0 and not (
                self._kept and not folded and pair.keeps(decision)
            ):
                logged = self._log.read(record.record, f"decision {record.position}")
                untried = self._step(logged, pair, walk, pasts)
            if walk.follows:
                self._followed += 1
            kinds = {outcome.kind for outcome in outcomes.get(name, ())}
            reward = rooted.rewards.get(name)
            if reward is None and decision.chosen == NO_OFFER:
                reward = 0.0
            if reward is not None:
                dismissed = float("dismissed" in kinds)
                cell = self._count(decision, pair, reward, dismissed)
                self._later += before[1]
                for each, mass in untried.items():
                    self._masses[each] += mass
                    at = self._missing.setdefault(
                        (each.segment, each.name), len(self._missing)
                    )
                    self._untried.append((at, key, mass))
                quiet = float(reward <= 0.0 and not SETTLING & kinds)
                self._rows.append(
                    _Row(
                        *(key, walk.weight, walk.lost, reward, dismissed),
                        *(quiet, cell, before[1]),
                    )
                )
            if before[0] > 0.0 == walk.weight:
                self._lose(
                    pair.names[decision.chosen],
                    reward or 0.0,
                    float("dismissed" in kinds),
                )
        self._diverged += not walk.follows
        for gate, change in self._here:
            self._effects[gate, change, "roots"] += 1
        self._here.clear()

    def _outcome(self, name: str, text: str) -> Outcome:
        try:
            return decode_outcome(text)
        except msgspec.DecodeError as error:
            wrong = f"an outcome of decision {name} cannot be read: {error}"
            raise LogError(self._log.path, wrong) from None

    def _pair(self, version: str) -> _Pair:
        pair = self._pairs.get(version)
        if pair is None:
            pair = self._pairs[version] = _Pair(self._log.catalogue(version), self._new)
        return pair

    def _brief(self, record: Record) -> _Brief:
        try:
            return _decode(record.record)
        except msgspec.DecodeError as error:
            wrong = f"decision {record.position} cannot be read: {error}"
            raise LogError(self._log.path, wrong) from None

    def _count(
        self, decision: _Brief, pair: _Pair, reward: float, dismissed: float
    ) -> int:
        """Count what was chosen; return the number of it in its segment."""
        key = decision.opportunity.context.segment, pair.names[decision.chosen]
        earned = self._earned[key]
        earned[0] += 1
        earned[1] += reward
        earned[2] += dismissed
        return self._cells.setdefault(key, len(self._cells))

    def _step(
        self, logged: Decision, pair: _Pair, walk: _Walk, pasts: Pasts | None
    ) -> dict[_Untried, float]:
        """Make one decision under the new rules, and weigh the logged one."""
        past = (
            Past(logged.history, logged.account, logged.conditions)
            if pasts is None
            else pasts.before(logged)
        )
        past = past._replace(history=prolonged(past.history, self._snooze))
        asked, new = logged.opportunity, self._new
        untried: dict[_Untried, float] = {}
        if pasts is None and self._kept and (some := pair.asked_of(asked)) is not None:
            actions = pair.kept(logged.actions, new)
            if some.offers:
                actions += eligible(some, new, past)[0][NO_OFFER + 1 :]
        else:
            actions, _ = eligible(asked, new, past, told=False)
        if self._decider.everywhere or not pair.same(logged.actions, actions):
            again = decide(
                asked,
                catalogue=new,
                past=past,
                policy=self._decider.policy,
                told=False,
            ).decision
            untried = self._weigh(logged, again, pair, walk)
        chosen = pair.chosen[logged.chosen]
        if pasts is not None and chosen is not None:
            pasts.follow(logged, chosen)
        return untried

    def _weigh(
        self, logged: Decision, again: Decision, pair: _Pair, walk: _Walk
    ) -> dict[_Untried, float]:
        names = [self._new.actions[index].name for index in again.actions]
        chances = dict(
            zip(
                names, (p / PROBABILITY_UNITS for p in again.probabilities), strict=True
            )
        )
        then = {
            pair.names[index]: p / PROBABILITY_UNITS
            for index, p in zip(logged.actions, logged.probabilities, strict=True)
        }
        blocked = [name for name in then if name not in chances]
        allowed = [name for name in chances if name not in then]
        gates = self._tell(logged, again, pair, blocked, allowed)
        segment = logged.opportunity.context.segment
        untried: dict[_Untried, float] = {}
        largest = 0.0
        for name, chance in chances.items():
            was = then.get(name, 0.0)
            if was > 0.0:
                largest = max(largest, chance / was)
            elif chance > 0.0:
                gate = gates.get(name, "")
                untried[_Untried(gate, segment, name)] = walk.weight * chance
                self._choices[gate, "allowed"] += walk.weight * chance
        mine = pair.names[logged.chosen]
        factor = chances.get(mine, 0.0) / then[mine]
        if factor != 1.0 or untried:
            self._moved = True
        walk.lost += sum(untried.values())
        self._weight_max = max(self._weight_max, walk.weight * largest + walk.lost)
        walk.weight *= factor
        if self._new.actions[again.chosen].name != mine:
            walk.follows = False
        return untried

    def _tell(
        self,
        logged: Decision,
        again: Decision,
        pair: _Pair,
        blocked: list[str],
        allowed: list[str],
    ) -> dict[str, str]:
        """Return by action the gate that makes the difference, and count."""
        gates = self._gates = {}
        if not blocked and not allowed:
            return gates
        self._changed += 1
        now = _refused(again, self._new) if blocked else {}
        before = _refused(logged, pair.old) if allowed else {}
        sides: tuple[tuple[Change, list[str], dict[str, str]], ...] = (
            ("blocked", blocked, now),
            ("allowed", allowed, before),
        )
        for change, names, refused in sides:
            told: set[str] = set()
            for name in names:
                gate = gates[name] = refused.get(name, _ABSENT)
                self._effects[gate, change, "actions"] += 1
                told.add(gate)
            for gate in told:
                self._effects[gate, change, "decisions"] += 1
                self._here.add((gate, change))
        return gates

    def _lose(self, name: str, reward: float, dismissed: float) -> None:
        """Count what was chosen and cannot be any more."""
        gate = self._gates.get(name)
        if gate is None:
            return
        self._choices[gate, "blocked"] += 1
        self._choices[gate, "reward"] += reward
        self._choices[gate, "dismissals"] += dismissed

    # --- Figures ------------------------------------------------------------------

    def _add_up(self) -> None:
        if not self._rows:
            return
        keys = np.array([row.key for row in self._rows], dtype=np.uint64)
        *columns, cells, later = np.array([row[1:] for row in self._rows]).T
        weights, lost, *facts_of, quiet = columns
        self._add_cells(keys, cells.astype(np.intp), later, facts_of)
        both = weights + lost
        self._rewarded += len(keys)
        self._lost += float(lost.sum())
        self._total += float(both.sum())
        ends = {"reward": self._range, "dismissed": (0.0, 1.0)}
        for (name, (low, high)), facts in zip(ends.items(), facts_of, strict=True):
            parts = {"logged": (np.ones_like(both), facts)}
            under = np.where(both > 0.0, both, 1.0)
            for end, unknown in (("low", low), ("high", high)):
                value = (weights * facts + lost * unknown) / under
                parts[end] = (both, np.where(both > 0.0, value, facts))
            parts["facts"] = (weights, facts)
            for end, (w, r) in parts.items():
                sums = Sums.of(
                    {"snips": snips(Rows(rewards=r, weights=w))},
                    keys,
                    weights=w,
                    rewards=r,
                    weight_max=1.0 if end == "logged" else self._weight_max,
                    quiet=(quiet > 0.0) & (r <= 0.0) if name == REWARD else None,
                )
                place = f"{name} {end}"
                known = self._sums.get(place)
                self._sums[place] = sums if known is None else total([known, sums])
        self._rows = []

    def _add_cells(
        self,
        keys: NDArray[np.uint64],
        cells: NDArray[np.intp],
        later: FloatArray,
        facts: list[FloatArray],
    ) -> None:
        """Add up by shard what the narrower intervals are made of."""
        self._tried.add(cells, keys, [np.ones(len(keys)), *facts])
        self._later_by_shard += np.bincount(shards_of(keys), later, SHARDS)
        if self._untried:
            at, theirs, masses = zip(*self._untried, strict=True)
            self._lost_by_shard.add(
                np.array(at), np.array(theirs, dtype=np.uint64), [np.array(masses)]
            )
            self._untried = []

    def _result(self, confidence: float) -> Rehearsal:
        known = 1.0 - self._lost / self._total if self._total else 0.0
        verdict, doubts = self._verdict(known, confidence)
        figures = tuple(
            self._figure(name, place, confidence, told=verdict != "unusable")
            for place, name in enumerate(("reward", "dismissed"), start=1)
        )
        return Rehearsal(
            log=str(self._log.path),
            catalogue=self._new.version,
            policy=self._decider.about,
            confidence=confidence,
            decisions=self._decisions,
            roots=self._roots,
            rewarded=self._rewarded,
            changed=self._changed,
            followed=self._followed,
            diverged=self._diverged,
            coverage=self._followed / self._decisions,
            known=known,
            figures=figures,
            effects=tuple(self._told_effects()),
            lead=_lead(figures[0], verdict, moved=self._moved),
            verdict=verdict,
            doubts=doubts,
            notes=tuple(self._notes()),
        )

    def _verdict(
        self, known: float, confidence: float
    ) -> tuple[Verdict, tuple[str, ...]]:
        whole = self._estimate("reward low", confidence)
        verdict, doubts = whole.verdict, list(whole.doubts)
        if self._decider.has_learned:
            verdict = worse(verdict, "weak")
            doubts.append(
                "the policy has learned from the rewards that it is judged by"
            )
        if known < KNOWN_WEAK:
            verdict = worse(verdict, "unusable" if known < KNOWN_MIN else "weak")
            doubts.insert(
                0,
                f"{1 - known:.1%} of what the new rules do was never tried in the log",
            )
        return verdict, tuple(doubts)

    def _estimate(self, place: str, confidence: float) -> Estimate:
        return estimate_sums(self._sums[place], "snips", confidence=confidence)

    def _figure(
        self, name: str, place: int, confidence: float, *, told: bool
    ) -> Figure:
        logged = self._estimate(f"{name} logged", confidence)
        figure = Figure(
            objective=name,
            logged=logged.value,
            value=None,
            low=None,
            high=None,
            difference=None,
            difference_low=None,
            difference_high=None,
            alike_low=None,
            alike_high=None,
        )
        if not told:
            return figure
        if not self._moved:
            return msgspec.structs.replace(
                figure,
                value=logged.value,
                low=logged.low,
                high=logged.high,
                difference=0.0,
                difference_low=0.0,
                difference_high=0.0,
                alike_low=0.0,
                alike_high=0.0,
            )
        low, high = (
            self._estimate(f"{name} {end}", confidence) for end in ("low", "high")
        )
        apart = [
            compare(
                {end: self._sums[f"{name} {end}"], "log": self._sums[f"{name} logged"]},
                "snips",
                base="log",
                confidence=confidence,
            )[0].difference
            for end in ("low", "high")
        ]
        alike = self._alike(name, place, confidence) or (None, None)
        value = min(max(self._guess(name, place), low.value), high.value)
        return msgspec.structs.replace(
            figure,
            value=value,
            low=low.low,
            high=high.high,
            difference=value - logged.value,
            difference_low=apart[0].low,
            difference_high=apart[1].high,
            alike_low=alike[0],
            alike_high=alike[1],
        )

    def _alike(
        self, name: str, place: int, confidence: float
    ) -> tuple[float, float] | None:
        """Bound the difference, if what was never tried earns as it does elsewhere.

        What an action earns elsewhere is an estimate too: each user moves the value by
        what they earned in the log, by what they would be shown, and by what they tell
        of what others would be shown.
        """
        logged, facts = (self._sums[f"{name} {of}"] for of in ("logged", "facts"))
        rows, earned = logged.rows, logged.terms["snips.over"]
        n, mean = rows.sum(), earned.sum() / rows.sum()
        theirs = facts.terms["snips.over"] + mean * self._later_by_shard
        theirs = theirs + self._later / n * (earned - mean * rows)
        for segment_and_name, at in self._missing.items():
            cell = self._cells.get(segment_and_name)
            if cell is None:
                return None
            (masses,) = self._lost_by_shard.of(at)
            tried, *facts_there = self._tried.of(cell)
            gained = facts_there[place - 1]
            expected = gained.sum() / tried.sum()
            theirs = theirs + masses * expected
            theirs = theirs + masses.sum() / tried.sum() * (gained - expected * tried)
        both = self._sums[f"{name} low"].weights
        value = theirs.sum() / both.sum()
        least, most = self._range if name == "reward" else (0.0, 1.0)
        # The worst that could have been logged: of what is done now, or of what was.
        now, then = 1.0 + self._weight_max, 0.0
        worst = [
            Worst(
                Row(added=self._weight_max * least, weight=now),
                Row(added=self._weight_max * most, weight=now),
            ),
            Worst(Row(added=-most, weight=then), Row(added=-least, weight=then)),
        ]
        clusters = Clusters(rows, theirs - earned, None, None, both)
        found = [student(clusters, rows, confidence) for rows in worst]
        low, high = min(f[0] for f in found), max(f[1] for f in found)
        return min(low, value - mean), max(high, value - mean)

    def _guess(self, name: str, place: int) -> float:
        """Return the value with what was never tried as it was elsewhere."""
        facts = self._sums[f"{name} facts"]
        mean = self._sums[f"{name} logged"].clusters("snips").value
        sure = float(facts.terms["snips.over"].sum())
        for each, mass in self._masses.items():
            known = self._elsewhere(each, place)
            sure += mass * (mean if known is None else known)
        return (sure + self._later * mean) / self._total

    def _elsewhere(self, untried: _Untried, place: int) -> float | None:
        """Return what an action earned where it was chosen; none if nowhere."""
        here = self._earned.get((untried.segment, untried.name))
        if here is not None:
            return here[place] / here[0]
        others = [e for (_, name), e in self._earned.items() if name == untried.name]
        if not others:
            return None
        return sum(e[place] for e in others) / sum(e[0] for e in others)

    def _told_effects(self) -> list[Effect]:
        found: list[Effect] = []
        for gate, change, kind in self._effects:
            if kind != "decisions":
                continue
            if change == "blocked":
                choices = self._choices[gate, "blocked"]
                reward: float | None = self._choices[gate, "reward"]
                dismissals: float | None = self._choices[gate, "dismissals"]
            else:
                choices = self._choices[gate, "allowed"]
                reward, dismissals = (self._worth(gate, place) for place in (1, 2))
            found.append(
                Effect(
                    gate=gate,
                    change=change,
                    decisions=self._effects[gate, change, "decisions"],
                    roots=self._effects[gate, change, "roots"],
                    actions=self._effects[gate, change, "actions"],
                    choices=choices,
                    reward=reward,
                    dismissals=dismissals,
                )
            )
        found.sort(key=lambda effect: (-effect.decisions, effect.gate, effect.change))
        return found

    def _worth(self, gate: str, place: int) -> float | None:
        worth = 0.0
        for each, mass in self._masses.items():
            if each.gate == gate:
                known = self._elsewhere(each, place)
                if known is None:
                    return None
                worth += mass * known
        return worth

    def _notes(self) -> list[str]:
        notes: list[str] = []
        if self._decider.asked and self._log.resolved:
            notes.append(
                "the policy has learned from the rewards that it is judged by: expect"
                " less"
            )
        if self._folded:
            notes.append(
                "the new catalogue remembers otherwise: histories are folded anew from"
                " the first that was logged of each user, and of what was before that"
                " they know what the log's catalogue remembered"
            )
        olds = [pair.old.spec for pair in self._pairs.values()]
        if any(_supplies(old) != _supplies(self._new.spec) for old in olds):
            notes.append(
                "budgets and inventories are used up when they were in the log: they"
                " are not spent anew"
            )
        return notes


def _supplies(spec: CatalogueSpec) -> object:
    inventories = {name: offer.inventory for name, offer in spec.offers.items()}
    return spec.budgets, {n: i for n, i in inventories.items() if i is not None}


def _refused(decision: Decision, catalogue: Catalogue) -> dict[str, str]:
    """Return by action which gate of a catalogue rejected it first."""
    return {
        f"{refusal.offer_id}/{refusal.creative_id}/{refusal.placement_id}": refusal.gate
        for refusal in explain(decision, catalogue).refusals
    }


def _lead(
    rewards: Figure, verdict: Verdict, *, moved: bool
) -> Literal["better", "worse", "same", "open"]:
    if not moved:
        return "same"
    if verdict != "usable":
        return "open"
    if rewards.difference_low is not None and rewards.difference_low > 0:
        return "better"
    if rewards.difference_high is not None and rewards.difference_high < 0:
        return "worse"
    return "open"
