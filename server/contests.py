"""Compares challengers with the champion, on the decisions that were made.

Each decision is made again by every policy, before any has learned from it: nothing is
asked of those who serve. How likely a policy makes the logged choice, and whether it
would have chosen the same, is a trial. Offers are tried as they come up in the training
stream, by policies as they were at that row. Silences are tried as they were made: most
of them are never heard of again, and have earned 0. An offer that was never shown says
nothing of anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

import numpy as np
import structlog

from policies.catalogue import Catalogue
from policies.comparison import difference
from policies.engine import decide, past_of
from policies.intervals import Estimate
from policies.model import NO_OFFER, PROBABILITY_UNITS, Decision
from policies.policy import Policy, PolicySettings
from policies.promotion import Lineup, Standing, Verdict, judge, standing
from server import telemetry
from server.lineage import Lineage
from server.settings import Settings
from server.stores.base import (
    Contest,
    ModelChange,
    StreamRow,
    TrainingStore,
    Trial,
    TrialRow,
    Tried,
)

__all__ = ["Contests"]

_LATEST = 1_000
_SILENCES = 5_000
_VERDICTS: dict[str, Verdict] = {verdict: verdict for verdict in get_args(Verdict)}

_log = structlog.get_logger()


class Contests:
    """All challengers of one champion.

    Args:
        store: Where trials are kept.
        settings: Which policies there are, and when one is promoted.
        lineages: What learns, by the version of the learner.
        clock: Returns the time in milliseconds since 1970.
        epoch: Which stream is learned.
        catalogue_of: Returns the catalogue of a decision.
    """

    def __init__(
        self,
        store: TrainingStore,
        settings: Settings,
        lineages: Mapping[str, Lineage],
        clock: Callable[[], int],
        *,
        epoch: int,
        catalogue_of: Callable[[Decision], Catalogue],
    ) -> None:
        self._store = store
        self._settings = settings
        self._lineages = lineages
        self._clock = clock
        self._epoch = epoch
        self._catalogue_of = catalogue_of
        self._policies: dict[str, Policy] = {}
        self._trials: list[Trial] = []
        self._tried = self._kept = store.tried()
        self._counts: dict[str, int] = {}
        self._lineup = settings.lineup(store.lineup())
        self._tell()

    @property
    def champion(self) -> PolicySettings:
        """The policy that decides."""
        return self._settings.policies[self._lineup.champion]

    def score(self, row: StreamRow, catalogue: Catalogue) -> None:
        """Let all that have learned the stream up to a row decide it again.

        Silences are tried by themselves, for most of them nobody reports.

        Args:
            row: The row.
            catalogue: The catalogue of its decision.
        """
        if len(self._settings.policies) == 1 or row.resolution.revision > 1:
            return
        place = (self._epoch, row.position)
        if place <= self._tried[1:] or row.decision.chosen == NO_OFFER:
            return
        lineage = self._lineages[self.champion.learner_version]
        if not lineage.waiting:
            self._try(row.decision, catalogue, row.position - 1)
        self._tried = Tried(self._tried.silences, *place)

    def judge(self) -> None:
        """Try what was silence, keep all trials, judge every window that is full."""
        self._lineup = self._settings.lineup(self._store.lineup())
        self._tell()
        if len(self._settings.policies) == 1:
            return
        if self._lineages[self.champion.learner_version].waiting:
            # What it has learned so far is less than what serves knows.
            return
        silences, seen = self._store.silences(self._tried.silences, _SILENCES)
        position = self._lineages[self.champion.learner_version].position
        for decision in silences:
            self._try(decision, self._catalogue_of(decision), position)
        tried = self._tried._replace(silences=seen)
        if self._trials or tried != self._kept:
            self._store.record_trials(self._trials, tried)
        for trial in self._trials:
            if trial.challenger in self._counts:
                self._counts[trial.challenger] += 1
        self._trials, self._tried, self._kept = [], tried, tried
        for name in self._settings.policies:
            if name != self._lineup.champion:
                self._judge(name)

    def _try(self, logged: Decision, catalogue: Catalogue, position: int) -> None:
        """Let all that have learned so much decide again."""
        champion = self._lineup.champion
        ready = dict(self._ready(position))
        if champion not in ready:
            return
        base, _ = _again(logged, catalogue, ready.pop(champion))
        for name, policy in ready.items():
            weight, agrees = _again(logged, catalogue, policy)
            decision_id = logged.opportunity.decision_id
            trial = Trial(name, champion, decision_id, weight, base, agrees)
            self._trials.append(trial)

    def _ready(self, position: int) -> Iterator[tuple[str, Policy]]:
        """Yield the policies that have learned so many rows, by name."""
        for name, settings in self._settings.policies.items():
            lineage = self._lineages[settings.learner_version]
            if lineage.position != position:
                continue
            policy = self._policies.get(name)
            if policy is None:
                policy = Policy(settings, previous=lineage.policy)
                policy.learner = lineage.policy.learner
                policy.outcomes = lineage.policy.outcomes
                self._policies[name] = policy
            policy.learned = position
            yield name, policy

    def _judge(self, name: str) -> None:
        window = self._settings.promotion.window
        if self._counts.get(name, window) < window:
            return
        champion = self._lineup.champion
        after = self._after(name)
        rows = self._store.trials(name, champion, after=after, limit=window)
        self._counts[name] = len(rows)
        if len(rows) < window:
            return
        self._counts[name] = 0
        contest = self._contest(name, rows)
        self._store.record_contest(contest)
        telemetry.LEAD.labels(name, "low").set(contest.low)
        telemetry.LEAD.labels(name, "high").set(contest.high)
        _log.info("a window was judged", **contest._asdict())
        self._step(name, contest.position)

    def _after(self, name: str) -> int:
        """Return the last trial that was judged."""
        last = self._store.contests(name, self._lineup.champion, 1)
        judged = last[0].position if last else 0
        return max(judged, self._lineup.since.get(name, 0))

    def _contest(self, name: str, rows: list[TrialRow]) -> Contest:
        found = _difference(rows)
        agreement = sum(row.agrees for row in rows) / len(rows)
        apprentice = any(
            one.name == name and one.mode == "apprentice"
            for one in self._settings.challengers
        )
        needed = self._settings.promotion.agreement if apprentice else 0.0
        return Contest(
            name,
            self._lineup.champion,
            rows[-1].position,
            self._clock(),
            found.n,
            agreement,
            found.value,
            found.low,
            found.high,
            judge(found, agreement=agreement, needed=needed),
        )

    def _step(self, name: str, at: int) -> None:
        """Give a challenger another share, where it has won or lost often enough."""
        share = self._lineup.shares.get(name, 0.0)
        reached = self._standing(name, share)
        if reached.share == share:
            return
        if not self._settings.promotion.automatic:
            _log.info("a challenger could move", challenger=name, share=reached.share)
            return
        recorded = self._store.lineup() or Lineup()
        shares, since = recorded.shares | {name: reached.share}, recorded.since
        after = Lineup(self._lineup.champion, shares, since | {name: at})
        what = "share"
        if reached.share == 1.0:
            del shares[name]
            after, what = Lineup(name, {}, since | {name: at}), "promote"
        reason = f"{what} {reached.share:g}, by the last windows"
        note = ModelChange(0, name, what, "", self._clock(), "the learner", reason)
        self._store.change_lineup(after, note)
        self._lineup = self._settings.lineup(after)
        self._counts.clear()
        self._tell()
        _log.info("a challenger moves", challenger=name, share=reached.share)

    def _standing(self, name: str, share: float) -> Standing:
        contests = self._store.contests(name, self._lineup.champion, _LATEST)
        since = self._lineup.since.get(name, 0)
        verdicts = [
            _VERDICTS[contest.verdict]
            for contest in reversed(contests)
            if contest.position > since
        ]
        promotion = self._settings.promotion
        # What could have been a step before, had it been taken, is none now.
        return standing(share, verdicts[-promotion.windows :], promotion)

    def _tell(self) -> None:
        for name in self._settings.policies:
            share = self._lineup.shares.get(name, 0.0)
            if name == self._lineup.champion:
                share = 1.0 - sum(self._lineup.shares.values())
            telemetry.SHARE.labels(name).set(share)


def _again(
    logged: Decision, catalogue: Catalogue, policy: Policy
) -> tuple[float, bool]:
    """Return how much likelier a policy makes a choice, and whether it makes it too."""
    if logged.policy == policy.version:
        return 1.0, True
    again = decide(
        logged.opportunity,
        catalogue=catalogue,
        past=past_of(logged),
        policy=policy,
        told=False,
    ).decision
    if logged.chosen not in again.actions:
        return 0.0, False
    units = again.probabilities[again.actions.index(logged.chosen)]
    chance = units / PROBABILITY_UNITS
    return chance / logged.propensity, again.chosen == logged.chosen


def _difference(rows: list[TrialRow]) -> Estimate:
    return difference(
        np.array([row.reward for row in rows]),
        np.array([row.weight for row in rows]),
        np.array([row.base for row in rows]),
    )
