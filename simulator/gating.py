"""What gating cost: what each gate held back, and what that may have been worth.

How often a gate holds something back follows from the log: every decision is explained
again. What it is worth is asked of a rehearsal, in which that gate alone is not asked
(`simulator.rehearsing`), so that a gate that only holds back what others hold back too
costs nothing. What a gate has always held back nobody has seen the worth of: the
intervals of a rehearsal hold whatever it was, and where too much of it was never tried
there is no number.

All intervals hold at once: each is made for its part of the doubt (Bonferroni).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from policies.catalogue import Catalogue, without
from policies.engine import explain
from policies.gates import GATES
from policies.linting.settings import ALWAYS_ON
from policies.overlap import Verdict, worse
from simulator.comparing import DISMISSED, Comparison
from simulator.comparing import compare as compare_log
from simulator.logs import Log, LogError, Watcher, open_log
from simulator.rehearsing import Figure, Rehearsal, last_catalogue, rehearse
from simulator.surveying import REWARD
from simulator.targets import TargetError

__all__ = ["ELIGIBILITY", "Alternative", "Cost", "Gating", "gates"]

ELIGIBILITY: frozenset[str] = frozenset(
    [
        "placement_stop",
        "holdout",
        "opt_out",
        "slots",
        "offer_stop",
        "offer_opt_out",
        "lifecycle",
        "dates",
        "inventory",
        "budget",
        "moments",
        "chosen",
        "ownership",
        "requires",
        "buyer",
        "eligible",
        "room",
        "parameters",
    ]
)
"""The gates that say who may see an offer at all; the others say when it is good."""

Lead = Literal["costs", "pays", "nothing", "open"]

_LEADS: dict[str, Lead] = {
    "better": "costs",
    "worse": "pays",
    "same": "nothing",
    "open": "open",
}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What would be more without something, over all decisions that have a reward.

    Attributes:
        reward: The reward; none where the log cannot tell.
        reward_low: The lower end of its interval; none likewise.
        reward_high: The upper end; none likewise.
        reward_alike_low: The lower end of a narrower interval, which holds if what was
            held back earns as the same did where it was tried in the same segment; none
            where it never was, or the log cannot tell.
        reward_alike_high: The upper end; none likewise.
        dismissals: The dismissals, likewise: how many were avoided.
        dismissals_low: The lower end of its interval; none likewise.
        dismissals_high: The upper end; none likewise.
        dismissals_alike_low: As of rewards.
        dismissals_alike_high: As of rewards.
        known: The share of what would be done that the log can tell of, 0 to 1.
        lead: `costs` where the reward would be more for certain, `pays` where it would
            be less, `nothing` where nothing would change, else `open`.
        verdict: Whether the log can tell: `usable`, `weak` or `unusable`.
        doubts: Why it is not usable.
    """

    reward: float | None
    reward_low: float | None
    reward_high: float | None
    reward_alike_low: float | None
    reward_alike_high: float | None
    dismissals: float | None
    dismissals_low: float | None
    dismissals_high: float | None
    dismissals_alike_low: float | None
    dismissals_alike_high: float | None
    known: float
    lead: Lead
    verdict: Verdict
    doubts: tuple[str, ...]


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate held back.

    Attributes:
        gate: Its name; gates of one name are taken together.
        decisions: In how many decisions it is the first to reject something.
        users: Of how many users.
        actions: How many actions of them.
        offers: By offer, in how many decisions.
        alone: In how many decisions something would be eligible without it, for no
            other gate rejects that too.
        alone_roots: Of how many users, or accounts.
        choices: How many of these would be chosen, as far as can be expected.
        cost: What would be more without it; none for gates that are always asked, as
            they cannot be switched off.
    """

    gate: str
    decisions: int
    users: int
    actions: int
    offers: dict[str, int]
    alone: int
    alone_roots: int
    choices: float
    cost: Cost | None


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """What another way to decide would change.

    Attributes:
        name: `eligibility only` or `no levers`.
        about: What it is.
        cost: What would be more; none where it cannot be asked.
        untold: Why it cannot be asked; empty where it can.
    """

    name: str
    about: str
    cost: Cost | None
    untold: str = ""


class Gating(msgspec.Struct, frozen=True, kw_only=True):
    """What gating cost.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        catalogue: The version of the catalogue that decided last; its gates are asked.
        confidence: How often all intervals at once are to hold.
        intervals: How many there are, of each objective.
        decisions: How many decisions there are.
        roots: Of how many users, or accounts.
        rewarded: How many of the decisions the sums are of: those with a reward, and
            silence.
        reward: What all of them earned together.
        gates: What each gate held back, those first that hold back the most.
        alternatives: What other ways to decide would change.
        verdict: The worst of all.
        notes: What else is to be known.
    """

    format: str = "opportune.gates.v1"
    log: str
    catalogue: str
    confidence: float
    intervals: int
    decisions: int
    roots: int
    rewarded: int
    reward: float
    gates: tuple[Gate, ...]
    alternatives: tuple[Alternative, ...]
    verdict: Verdict
    notes: tuple[str, ...]

    def gate(self, name: str) -> Gate:
        """Return what a gate held back."""
        return next(each for each in self.gates if each.gate == name)


def gates(
    log: Log, *, confidence: float = 0.95, watcher: Watcher | None = None
) -> Gating:
    """Estimate what each gate cost, from the log of a server.

    Args:
        log: The log of a server.
        confidence: How often all intervals at once are to hold, above 0.5, below 1.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read, or has no decision with a reward.
        TargetError: If the confidence is out of its range.
    """
    if not 0.5 < confidence < 1.0:
        raise TargetError(f"confidence must be above 0.5, below 1, not {confidence:g}")
    if not log.last:
        raise LogError(log.path, "there is no decision in it")
    return _Asking(log, confidence, watcher or _unwatched).run()


def _unwatched(doing: str, done: int, total: int) -> None:
    del doing, done, total


class _Held:
    """What one gate holds back, counted."""

    def __init__(self) -> None:
        self.decisions = self.users = self.actions = 0
        self.offers: Counter[str] = Counter()


class _Asking:
    """One such question under way."""

    def __init__(self, log: Log, confidence: float, watcher: Watcher) -> None:
        self._log = log
        self._confidence = confidence
        self._watcher = watcher
        self._catalogue = last_catalogue(log)
        self._decisions = 0
        # What rehearsals want to be known, each once.
        self._notes: dict[str, None] = {}

    def run(self) -> Gating:
        held = self._held()
        asked = [name for name in held if name not in ALWAYS_ON]
        settings = self._log.policy(self._last_policy())
        levers = settings.objective.levers
        looks = len(asked) + 1 + levers
        each = 1.0 - (1.0 - self._confidence) / looks
        same = self._rehearsed([], each)
        found = [self._gate(name, held[name], each) for name in held]
        alternatives = (
            self._eligibility(each),
            self._no_levers(each, same.rewarded, levers=levers),
        )
        costs = [gate.cost for gate in found if gate.cost is not None]
        costs += [each.cost for each in alternatives if each.cost is not None]
        verdict: Verdict = "usable"
        for cost in costs:
            verdict = worse(verdict, cost.verdict)
        return Gating(
            log=str(self._log.path),
            catalogue=self._catalogue.version,
            confidence=self._confidence,
            intervals=looks,
            decisions=same.decisions,
            roots=same.roots,
            rewarded=same.rewarded,
            reward=same.figure(REWARD).logged * same.rewarded,
            gates=tuple(found),
            alternatives=alternatives,
            verdict=verdict,
            notes=(*self._notes, *_notes(same, self._catalogue)),
        )

    def _last_policy(self) -> str:
        (record,) = self._log.records(self._log.last)
        return self._log.read(record.record, "the last decision").policy

    def _held(self) -> dict[str, _Held]:
        """Count what each gate rejects first, those first that reject the most."""
        log, held = self._log, dict[str, _Held]()
        log.keep_rewards()
        size = log.last - log.first + 1
        for roots in log.by_root():
            for rooted in roots:
                users: set[tuple[str, str]] = set()
                for record in rooted.records:
                    decision = log.read(record.record, f"decision {record.position}")
                    catalogue = log.catalogue(decision.catalogue)
                    user_id = decision.opportunity.user_id
                    self._decisions += 1
                    told: set[tuple[str, str]] = set()
                    for refusal in explain(decision, catalogue).refusals:
                        gate = held.setdefault(refusal.gate, _Held())
                        gate.actions += 1
                        told.add((refusal.gate, refusal.offer_id))
                    for name, offer_id in told:
                        held[name].offers[offer_id] += 1
                    for name in {name for name, _ in told}:
                        held[name].decisions += 1
                        users.add((name, user_id))
                for name, _ in users:
                    held[name].users += 1
            self._watcher("explaining", self._decisions, size)
        # What is only a fallback is no gate's doing.
        held.pop("fallback", None)
        order = sorted(held, key=lambda name: (-held[name].decisions, name))
        return {name: held[name] for name in order}

    def _gate(self, name: str, held: _Held, confidence: float) -> Gate:
        cost: Cost | None = None
        alone = alone_roots = 0
        choices = 0.0
        if name not in ALWAYS_ON:
            result = self._rehearsed([name], confidence)
            cost = _cost(result)
            for effect in result.effects:
                if (effect.gate, effect.change) == (name, "allowed"):
                    alone, alone_roots = effect.decisions, effect.roots
                    choices = effect.choices
        return Gate(
            gate=name,
            decisions=held.decisions,
            users=held.users,
            actions=held.actions,
            offers=dict(held.offers.most_common()),
            alone=alone,
            alone_roots=alone_roots,
            choices=choices,
            cost=cost,
        )

    def _rehearsed(self, off: list[str], confidence: float) -> Rehearsal:
        catalogue = without(self._catalogue, off) if off else self._catalogue
        what = f"without {', '.join(off)}" if len(off) == 1 else "with other gates"

        def watch(doing: str, done: int, total: int) -> None:
            del doing
            self._watcher(what, done, total)

        result = rehearse(self._log, catalogue, confidence=confidence, watcher=watch)
        self._notes |= dict.fromkeys(result.notes)
        return result

    def _eligibility(self, confidence: float) -> Alternative:
        off = {kind.name for kind in GATES} | set(self._catalogue.spec.gates.plugins)
        result = self._rehearsed(sorted(off - ELIGIBILITY), confidence)
        return Alternative(
            name="eligibility only",
            about="who may see an offer is asked, and not when it is good",
            cost=_cost(result),
        )

    def _no_levers(
        self, confidence: float, rewarded: int, *, levers: bool
    ) -> Alternative:
        name, about = "no levers", "the last policy, by which nobody favours an offer"
        if not levers:
            told = "levers do not count in the last policy"
            return Alternative(name=name, about=about, cost=None, untold=told)
        with open_log(self._log.path) as source:
            result = compare_log(
                source,
                ["latest", "no_levers"],
                objectives=(REWARD, DISMISSED),
                confidence=confidence,
                watcher=self._watcher,
            )
        return Alternative(name=name, about=about, cost=_levers(result, rewarded))


def _cost(result: Rehearsal) -> Cost:
    """Return what would be more, over all decisions."""
    return Cost(
        **_times(result.figure(REWARD), result.rewarded, "reward"),
        **_times(result.figure(DISMISSED), result.rewarded, "dismissals"),
        known=result.known,
        lead=_LEADS[result.lead],
        verdict=result.verdict,
        doubts=result.doubts,
    )


def _times(figure: Figure, rows: int, name: str) -> dict[str, float | None]:
    ends = {
        name: figure.difference,
        f"{name}_low": figure.difference_low,
        f"{name}_high": figure.difference_high,
        f"{name}_alike_low": figure.alike_low,
        f"{name}_alike_high": figure.alike_high,
    }
    return {k: None if end is None else end * rows for k, end in ends.items()}


def _levers(result: Comparison, rows: int) -> Cost:
    rewards, dismissals = (
        next(one for one in result.differences if one.objective == objective)
        for objective in (REWARD, DISMISSED)
    )
    numbers: dict[str, float | None] = {}
    for name, one in (("reward", rewards), ("dismissals", dismissals)):
        # Levers change no rule: whatever is done was tried.
        for key, end in (
            ("", one.value),
            ("_low", one.low),
            ("_high", one.high),
            ("_alike_low", one.low),
            ("_alike_high", one.high),
        ):
            numbers[name + key] = None if end is None else end * rows
    return Cost(
        **numbers,
        known=1.0,
        lead=_LEADS[rewards.lead],
        verdict=worse(rewards.verdict, dismissals.verdict),
        doubts=tuple(dict.fromkeys([*rewards.doubts, *dismissals.doubts])),
    )


def _notes(same: Rehearsal, catalogue: Catalogue) -> list[str]:
    notes: list[str] = []
    if same.changed:
        notes.append(
            f"the gates are those of catalogue {catalogue.version}, under which"
            f" {same.changed:,} decisions of the log have other eligible actions"
        )
    if catalogue.spec.gates.off:
        off = ", ".join(catalogue.spec.gates.off)
        notes.append(f"not asked by the catalogue itself: {off}")
    return notes
