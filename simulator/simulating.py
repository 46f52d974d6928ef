"""Plays a world through the engine in memory, with the truth beside every decision.

Users come in the order of time. Each visit is decided by `policies.engine`, histories
are folded by `policies.history`, rewards are joined by `policies.joiner` and learned
by `policies.training`, and what was learned begins to decide at intervals, as in a
server: it is the same code. What users would have done about each eligible action is
known, and so is what each would have earned on average.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from policies.commands import LifeChange, StateChange, UserEvent, UserEventKind
from policies.features import context_features
from policies.identity import root_of
from policies.joiner import join
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Context,
    Features,
    FloatArray,
    Money,
    Outcome,
)
from policies.policy import EpsilonGreedy, Policy, PolicySettings, PrioritySettings
from simulator.candidates import policy_of
from simulator.desk import Desk, Pupil, Row
from simulator.evaluation import evaluate
from simulator.feedback import Feedback
from simulator.judging import QuestionError
from simulator.logs import LogError, Watcher
from simulator.logs.building import Building, Names
from simulator.logs.served import KINDS
from simulator.memory import Parts
from simulator.worlds import Mood, Person, Response, Visit, World, WorldError

__all__ = [
    "WORDS",
    "Figures",
    "Period",
    "Player",
    "Simulated",
    "Simulation",
    "player",
    "simulate",
]

WORDS = ("default", "uniform", "priority", "silent", "oracle")
"""Policies that need no file."""

_DAY_MS = 86_400_000
_FOREVER_MS = 2**52
_UNKNOWN = float("nan")
_BEST = "best"
_FOLDS = 5
_WATCH_EVERY = 64
_FOLLOWED = PolicySettings(PrioritySettings(), EpsilonGreedy(epsilon=0.0))


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a policy in a world.

    Attributes:
        decisions: How many decisions were made.
        shown: How many of them showed an offer.
        accepts: How many offers were accepted, sooner or later.
        dismissals: How many were dismissed.
        opt_outs: How many made the user opt out.
        refunds: How many accepts were taken back.
        reward: What a decision earned on average, as it was drawn.
        expected: What it earned by the truth: the mean of the chosen actions' true
            expected rewards, which no luck of the users is in.
        best: What the best eligible action would have earned each time.
        regret: `best` less `expected`, a decision.
        revenue: What was paid for offers, without renewals, less refunds, in minor
            units of the catalogue's currency.
        interruptions: How many offers that interrupt a user saw, on average.
        churned: The share of users who left.
        trust: The share of users who neither left nor opted out of anything.
        value: What a user paid in all, on average, in minor units: what they pay
            anyway while they are there, offers with their renewals, less refunds.
    """

    decisions: int
    shown: int
    accepts: int
    dismissals: int
    opt_outs: int
    refunds: int
    reward: float
    expected: float
    best: float
    regret: float
    revenue: float
    interruptions: float
    churned: float
    trust: float
    value: float


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one day.

    Attributes:
        day: Which day of the world, from 0.
        decisions: How many decisions were made.
        expected: What one earned by the truth, on average.
        regret: What the best action would have earned more, a decision.
        churned: How many users had left by its end.
    """

    day: int
    decisions: int
    expected: float
    regret: float
    churned: int


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What was estimated from the log of a simulation, beside the truth.

    Attributes:
        policy: The policy whose value was estimated: `uniform`, or `best`, which
            chooses what earns the most in truth.
        estimator: By what.
        value: The estimate; none where the log cannot tell.
        low: The lower end of its interval; none likewise.
        high: The upper end.
        truth: The true value, in the situations of the log.
        error: `value` less `truth`.
        verdict: Whether the log can tell.
    """

    policy: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    truth: float
    error: float | None
    verdict: str


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did in a world.

    Attributes:
        format: The version of these fields.
        world: The name of the world.
        seed: Its seed.
        users: How many users there were.
        days: How many days it lasted.
        policy: The policy, as it was named.
        version: The version of its settings.
        catalogue: The version of the catalogue.
        figures: What came of it.
        by_day: The same by day.
        estimates: How far estimates from its log are from the truth, where asked for.
    """

    format: str = "opportune.simulation.v1"
    world: str
    seed: int
    users: int
    days: float
    policy: str
    version: str
    catalogue: str
    figures: Figures
    by_day: tuple[Period, ...]
    estimates: tuple[Truth, ...] = ()


class Simulated(NamedTuple):
    """A simulation with its log.

    Attributes:
        result: What came of it.
        log: The decisions, in order of time, each with its final reward, and the
            probability that the best action has as `target:best`.
        truth: The true expected reward of each eligible action, beside the log's
            `actions`, shape (offsets[n],).
    """

    result: Simulation
    log: Feedback
    truth: FloatArray


class Player(NamedTuple):
    """A policy that is to play in worlds.

    Attributes:
        name: What it is called.
        settings: What it decides by, where it is one that learns.
        known: `oracle` or `silent`, which know what is best; empty for others.
    """

    name: str
    settings: PolicySettings
    known: str = ""


def player(text: str) -> Player:
    """Read what somebody calls a policy: a word of `WORDS`, or a settings file.

    Raises:
        TargetError: If the file cannot be read, or has no policy.
        WorldError: If there is no such policy.
    """
    name, _, what = text.partition("=")
    if not what or not name.replace("-", "_").isidentifier():
        name = what = text
    match what:
        case "default":
            return Player(name, PolicySettings())
        case "uniform":
            uniform = EpsilonGreedy(epsilon=1.0)
            return Player(name, PolicySettings(PrioritySettings(), uniform))
        case "priority":
            return Player(name, _FOLLOWED)
        case "silent" | "oracle":
            return Player(name, _FOLLOWED, what)
    if not Path(what).is_file():
        known = ", ".join(WORDS)
        raise WorldError(
            f"there is no policy and no settings file {what!r}: {known}, or the path of"
            " a settings file with [policy]"
        )
    return Player(name, policy_of(Path(what)))


class _Known(Policy):
    """A policy that is told what each action is worth.

    Attributes:
        judge: Says it, of what may be chosen now.
    """

    judge: Callable[[Sequence[Action]], Sequence[float]]

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what it is told, whatever the context."""
        del context
        return np.array(self.judge(actions), np.float64)


class _Guest(NamedTuple):
    """A user during a simulation."""

    person: Person
    mood: Mood
    visits: Iterator[Visit]


class _Event(NamedTuple):
    """Something that happens; what is first by time, then by user, goes first.

    Attributes:
        visit: For a visit, that; none for what is said of a decision.
        at: For what is said, the place of its decision.
        kind: For what is said, what.
    """

    at_ms: int
    user: int
    order: int
    visit: Visit | None = None
    at: int = 0
    outcome: Outcome | None = None


class _Run:
    """One simulation under way."""

    def __init__(
        self, world: World, who: Player, users: int, days: float, watcher: Watcher
    ) -> None:
        self.world = world
        self.who = who
        self.end_ms = world.start_ms + round(days * _DAY_MS)
        self.rows: list[Row] = []
        self.guests: list[_Guest] = []
        self._watcher = watcher
        policy = _Known(who.settings) if who.known else Policy(who.settings)
        self._desk = Desk(world.catalogue, policy)
        learns = not isinstance(who.settings.learner, PrioritySettings)
        self._pupil = Pupil(world, who.settings) if learns else None
        self._events: list[_Event] = []
        self._order = 0
        self._stale = False
        self._publish_ms = world.start_ms + int(world.spec.publish)
        for number in range(users):
            person = world.person(number)
            visits = world.visits(person, self.end_ms)
            self.guests.append(_Guest(person, world.mood(person), visits))
            if person.spec.owns:
                told = UserEvent(world.start_ms, "purchased", person.spec.owns)
                self._desk.tell(person.user_id, told)
            if person.states:
                life = {name: LifeChange(active=True) for name in person.states}
                self._desk.tell(person.user_id, StateChange(world.start_ms, life=life))
            self._come(number)

    def play(self) -> None:
        """Let everything happen."""
        events, done = self._events, 0
        while events:
            event = heapq.heappop(events)
            self._learn_until(event.at_ms)
            if event.visit is None:
                self._say(event)
            else:
                self._visit(event.user, event.visit)
            done += 1
            if done % _WATCH_EVERY == 0:
                start_ms = self.world.start_ms
                passed = min(event.at_ms, self.end_ms) - start_ms
                self._watcher("simulating", passed, self.end_ms - start_ms)

    def _push(self, at_ms: int, user: int, **what: object) -> None:
        self._order += 1
        event = _Event(at_ms, user, self._order, **what)  # type: ignore[arg-type]
        heapq.heappush(self._events, event)

    def _come(self, number: int) -> None:
        visit = next(self.guests[number].visits, None)
        if visit is not None:
            self._push(visit.at_ms, number, visit=visit)

    def _learn_until(self, now_ms: int) -> None:
        """Learn at every interval; what was learned decides from the next visit on."""
        every = int(self.world.spec.publish)
        while self._publish_ms <= now_ms:
            if self._pupil is not None:
                self._stale |= self._pupil.learn(self.rows, self._publish_ms)
            self._publish_ms += every

    def _visit(self, number: int, visit: Visit) -> None:
        world, desk = self.world, self._desk
        user, mood, _ = self.guests[number]
        if world.leaves(user, visit, mood):
            return
        name = desk.name(user.user_id, f"visit-{visit.number}")
        opportunity = world.opportunity(user, visit, mood, name)
        context = opportunity.context
        if self._stale and self._pupil is not None:
            desk.policy = self._pupil.published(desk.policy)
            self._stale = False
        self._inform(user, mood, context)
        decision = desk.decide(opportunity).decision
        actions = [world.catalogue.actions[index] for index in decision.actions]
        truth = world.expected(user, mood, context, actions)
        at = len(self.rows)
        kept = msgspec.structs.replace(decision, history=NO_HISTORY)
        row = Row(kept, truth)
        self.rows.append(row)
        if self._pupil is not None:
            self._pupil.note(row, at)
        action = world.catalogue.actions[decision.chosen]
        if decision.chosen != NO_OFFER:
            chances = world.answers(user, mood, context, action, visit.at_ms)
            answer = world.response(user, visit, chances)
            self._report(number, at, Outcome("shown", "shown", visit.at_ms))
            if answer.kind == "ignored":
                world.feel(mood, action, "ignored", visit.at_ms)
            else:
                if answer.kind == "accepted":
                    mood.deciding.add(action.offer_id)
                self._answer(number, at, visit.at_ms, answer)
        self._come(number)

    def _inform(self, user: Person, mood: Mood, context: Context) -> None:
        """Let a policy that knows everything know it."""
        policy = self._desk.policy
        if not isinstance(policy, _Known):
            return
        if self.who.known == "silent":
            policy.judge = lambda actions: [float(a.index == NO_OFFER) for a in actions]
        else:
            world = self.world
            policy.judge = lambda actions: world.expected(
                user, mood, context, list(actions)
            )

    def _answer(self, number: int, at: int, shown_ms: int, answer: Response) -> None:
        """Let an answer come when it comes, and a refund after it."""
        at_ms = shown_ms + answer.after_ms
        kind = answer.kind
        action = self.world.catalogue.actions[self.rows[at].decision.chosen]
        paid = None
        until_ms = None
        if kind == "accepted":
            paid = Money(self.world.catalogue.currency, action.merits.price)
        if kind == "snoozed":
            until_ms = at_ms + int(self.world.spec.answers.snooze_for)
        outcome = Outcome(kind, kind, at_ms, snoozed_until_ms=until_ms, revenue=paid)
        self._push(at_ms, number, at=at, outcome=outcome)
        if answer.refund_ms is not None:
            refund_ms = shown_ms + answer.refund_ms
            refund = Outcome("refunded", "refunded", refund_ms, revenue=paid)
            self._push(refund_ms, number, at=at, outcome=refund)

    def _say(self, event: _Event) -> None:
        if event.outcome is not None:
            self._report(event.user, event.at, event.outcome)

    def _report(self, number: int, at: int, outcome: Outcome) -> None:
        """Let something be known to the product, and leave its mark on the user."""
        row, guest = self.rows[at], self.guests[number]
        action = self.world.catalogue.actions[row.decision.chosen]
        self._desk.report(row.decision, outcome)
        row.outcomes.append(outcome)
        if self._pupil is not None:
            self._pupil.note(row, at)
        self.world.feel(guest.mood, action, outcome.kind, outcome.at_ms)
        grants = self.world.catalogue.offers[action.offer_id].spec.grants
        if grants and outcome.kind in ("accepted", "refunded"):
            what: UserEventKind = (
                "purchased" if outcome.kind == "accepted" else "cancelled"
            )
            told = UserEvent(outcome.at_ms, what, grants)
            self._desk.tell(guest.person.user_id, told)


def simulate(
    world: World,
    who: Player,
    *,
    users: int | None = None,
    days: float | None = None,
    estimates: bool = True,
    watcher: Watcher | None = None,
) -> Simulated:
    """Play a world by a policy, from its beginning until everything is known.

    Args:
        world: The world.
        who: The policy.
        users: How many users there are; as the world says without it.
        days: How many days it lasts; likewise.
        estimates: Whether to estimate from the log, and compare that with the truth.
        watcher: Is told how far it is.

    Raises:
        WorldError: If there are no users or no days, or nobody came.
    """
    users = world.spec.users if users is None else users
    days = world.spec.days if days is None else days
    if users < 1 or not 0.0 < days <= 3_660.0:
        raise WorldError("there must be 1 user or more, and above 0 to 3,660 days")
    watcher = watcher or (lambda *_: None)
    run = _Run(world, who, users, days, watcher)
    run.play()
    if not run.rows:
        raise WorldError("nobody came: let it last longer, or have more users")
    rewards = [_earned(world, row) for row in run.rows]
    log = _log(world, run.rows, rewards)
    truth = np.concatenate([row.truth for row in run.rows])
    policy = run.rows[0].decision.policy
    result = Simulation(
        world=world.name,
        seed=world.seed,
        users=users,
        days=days,
        policy=who.name,
        version=policy,
        catalogue=world.catalogue.version,
        figures=_figures(run, rewards),
        by_day=tuple(_by_day(run, days)),
        estimates=_estimates(log, truth) if estimates else (),
    )
    return Simulated(result, log, truth)


def _earned(world: World, row: Row) -> float:
    """Return what a decision earned in the end; not a number where nobody knows."""
    terms = world.terms(world.catalogue.actions[row.decision.chosen])
    reward = join(row.decision, row.outcomes, terms, _FOREVER_MS).reward
    return _UNKNOWN if reward is None else reward


def _figures(run: _Run, rewards: Sequence[float]) -> Figures:
    rows, guests, world = run.rows, run.guests, run.world
    actions = world.catalogue.actions
    counts: Counter[str] = Counter()
    interruptions = 0
    revenue = 0.0
    bothered: set[str] = set()
    for row in rows:
        action = actions[row.decision.chosen]
        counts.update({outcome.kind for outcome in row.outcomes})
        if row.outcomes:
            placement = world.catalogue.placements[action.placement_id]
            interruptions += placement.spec.interrupts
            kinds = {outcome.kind for outcome in row.outcomes}
            kept = ("accepted" in kinds) - ("refunded" in kinds)
            revenue += action.merits.price * kept
            if "opted_out" in kinds:
                bothered.add(row.decision.opportunity.user_id)
    expected = float(np.mean([row.expected for row in rows]))
    best = float(np.mean([row.best for row in rows]))
    left = {g.person.user_id for g in guests if g.mood.churned_ms is not None}
    return Figures(
        decisions=len(rows),
        shown=counts["shown"],
        accepts=counts["accepted"],
        dismissals=counts["dismissed"],
        opt_outs=counts["opted_out"],
        refunds=counts["refunded"],
        reward=float(np.nanmean(rewards)) if not np.isnan(rewards).all() else 0.0,
        expected=expected,
        best=best,
        regret=best - expected,
        revenue=revenue,
        interruptions=interruptions / len(guests),
        churned=len(left) / len(guests),
        trust=1.0 - len(left | bothered) / len(guests),
        value=(revenue + _kept(run)) / len(guests),
    )


def _kept(run: _Run) -> float:
    """Return what users paid beside what they paid for offers at first."""
    world = run.world
    ends = {
        guest.person.user_id: guest.mood.churned_ms or run.end_ms
        for guest in run.guests
    }
    paid = sum(
        guest.person.spec.worth_per_day
        * (ends[guest.person.user_id] - world.start_ms)
        / _DAY_MS
        for guest in run.guests
    )
    for row in run.rows:
        at_ms = {outcome.kind: outcome.at_ms for outcome in row.outcomes}
        if "accepted" not in at_ms or "refunded" in at_ms:
            continue
        action = world.catalogue.actions[row.decision.chosen]
        if world.catalogue.offers[action.offer_id].spec.renews:
            stayed = ends[row.decision.opportunity.user_id] - at_ms["accepted"]
            times = max(stayed, 0) // int(world.spec.renewal)
            paid += action.merits.price * times
    return paid


def _by_day(run: _Run, days: float) -> Iterator[Period]:
    start_ms = run.world.start_ms
    of_day: dict[int, list[Row]] = {}
    for row in run.rows:
        day = (row.decision.opportunity.at_ms - start_ms) // _DAY_MS
        of_day.setdefault(day, []).append(row)
    left = [
        (guest.mood.churned_ms - start_ms) // _DAY_MS
        for guest in run.guests
        if guest.mood.churned_ms is not None
    ]
    for day in range(math.ceil(days)):
        rows = of_day.get(day, [])
        expected = sum(row.expected for row in rows) / max(len(rows), 1)
        best = sum(row.best for row in rows) / max(len(rows), 1)
        yield Period(
            day=day,
            decisions=len(rows),
            expected=expected,
            regret=best - expected,
            churned=sum(gone <= day for gone in left),
        )


def _log(world: World, rows: Sequence[Row], rewards: Sequence[float]) -> Feedback:
    """Return the log as whoever evaluates reads it."""
    building = Building(Names())
    building.objectives = {name: [] for name in KINDS}
    building.targets = {_BEST: []}
    names, actions = building.names, world.catalogue.actions
    for at, (row, reward) in enumerate(zip(rows, rewards, strict=True)):
        decision = row.decision
        asked = decision.opportunity
        building.add(
            at + 1,
            reward=reward,
            chosen=names.action(actions[decision.chosen]),
            propensity=decision.propensity,
            actions=[names.action(actions[index]) for index in decision.actions],
            probabilities=[p / PROBABILITY_UNITS for p in decision.probabilities],
            context=context_features(asked.context, world.catalogue.features),
            time_ms=asked.at_ms,
            key=int(root_of(asked.decision_id), 16),
            logger=decision.policy,
            floor=decision.floor / PROBABILITY_UNITS,
        )
        building.segments.append(asked.context.segment)
        building.ids.append(asked.decision_id)
        building.splits.append(decision.split)
        kinds = {outcome.kind for outcome in row.outcomes}
        for kind in KINDS:
            building.objectives[kind].append(float(kind in kinds))
        liked = row.truth.index(row.best)
        building.targets[_BEST].append(
            float(decision.actions[liked] == decision.chosen)
        )
    return building.part()


def _estimates(log: Feedback, truth: FloatArray) -> tuple[Truth, ...]:
    """Estimate two policies from the log, and compare that with the truth."""
    known = log.rewarded
    sizes = np.diff(log.offsets)
    rows = np.repeat(np.arange(len(log)), sizes)
    means = np.bincount(rows, truth) / sizes
    bests = np.maximum.reduceat(truth, log.offsets[:-1])
    found: list[Truth] = []
    for name, policy, values, estimators in (
        ("uniform", "uniform", means, ("snips", "dr")),
        (_BEST, f"{_BEST}=column:{_BEST}", bests, ("snips",)),
    ):
        try:
            result = evaluate(
                Parts([log]), [policy], estimators=estimators, folds=_FOLDS
            )
        except (LogError, QuestionError):
            continue
        mean = float(values[known].mean())
        for estimator in estimators:
            value = result.of(name, estimator)
            found.append(
                Truth(
                    policy=name,
                    estimator=estimator,
                    value=value.value,
                    low=value.low,
                    high=value.high,
                    truth=mean,
                    error=None if value.value is None else value.value - mean,
                    verdict=value.verdict,
                )
            )
    return tuple(found)
