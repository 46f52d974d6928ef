"""The learner process: joins, learns, publishes.

It alone writes the training stream, and whatever it knows it has from the store:
killed at any point and started again, it goes on where the last transaction ended.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import structlog

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.clipping import REMEMBERED, Clipping
from policies.joiner import Terms, join, terms_of
from policies.model import Decision, Resolution
from policies.policy import PolicySettings
from policies.rewards import RewardSettings
from server import telemetry
from server.contests import Contests
from server.lineage import Lineage
from server.settings import Settings
from server.stores.base import (
    Joinable,
    Judge,
    Judgement,
    StreamRow,
    TrainingStore,
    Watermark,
)
from server.watching import Watch

__all__ = ["Learning"]

_BATCH = 1_000

_log = structlog.get_logger()


class Learning:
    """One learner over one store.

    Args:
        store: Where outcomes come from and the model goes.
        policy: What learns.
        rewards: What outcomes are worth.
        keep: How many snapshots to keep.
        clock: Returns the time in milliseconds since 1970.
        settings: How models are published and compared; the defaults where left out.
    """

    def __init__(
        self,
        store: TrainingStore,
        policy: PolicySettings,
        rewards: RewardSettings,
        *,
        keep: int,
        clock: Callable[[], int],
        settings: Settings | None = None,
    ) -> None:
        self._store = store
        self._rewards = rewards
        self._keep = keep
        self._clock = clock
        self._settings = settings or Settings(policy=policy, rewards=rewards)
        self._compiled = lru_cache(maxsize=8)(self._compile)
        self._watch = Watch(store, self._settings, self._catalogue_of, clock)
        self._begin()

    def _begin(self) -> None:
        """Take up the models of the current epoch where they are."""
        self._epoch = self._store.epoch()
        self._clipping = Clipping(self._rewards, self._store.recent_rewards(REMEMBERED))
        self._lineages: dict[str, Lineage] = {}
        for policy in self._settings.policies.values():
            if policy.learner_version not in self._lineages:
                self._lineages[policy.learner_version] = Lineage(
                    self._store,
                    policy,
                    self._epoch,
                    learning=self._settings.learning,
                    keep=self._keep,
                    clock=self._clock,
                )
        self._contests = Contests(
            self._store,
            self._settings,
            self._lineages,
            self._clock,
            epoch=self._epoch,
            catalogue_of=self._catalogue_of,
        )
        _log.info("learning", epoch=self._epoch, position=self.position)

    @property
    def position(self) -> int:
        """How many rows of the training stream the model that decides has learned."""
        return self._lineages[self._contests.champion.learner_version].position

    def step(self) -> bool:
        """Join what is new, learn what was joined; say whether there was any.

        A new epoch is begun where somebody has asked for one.
        """
        wanted = self._store.rebuild_asked()
        if wanted != "none":
            self.rebuild(judged_anew=wanted == "judged_anew")
        joined = self._join()
        return self._learn() or joined

    def publish(self) -> None:
        """Publish what has been learned since the last time, if anything has."""
        self._contests.judge()
        for lineage in self._lineages.values():
            lineage.publish()

    def watch(self) -> None:
        """Look for signs that the world or the policy is not what it was."""
        self._watch.look()

    def rebuild(self, *, judged_anew: bool = False) -> None:
        """Begin a new epoch of the training stream, in which no reward was wrong.

        Each decision is in it once, with what it turned out to earn: whatever the
        learner, it ends in the model that would have been, had that been known at
        once. What it learned before serves until all of it is learned anew.

        Args:
            judged_anew: Whether outcomes are worth what the settings say today, and not
                what was learned of them. What is open by today's settings stays.
        """
        _log.info("rebuilding", epoch=self._epoch, judged_anew=judged_anew)
        self._store.begin_epoch(self._judge() if judged_anew else None)
        self._begin()

    def _judge(self) -> Judge:
        """Return what judges decisions, one part of the stream after the other."""
        clipping, now_ms = Clipping(self._rewards, ()), self._clock()

        def judged(joinable: Joinable) -> Judgement | None:
            decision, outcomes, _ = joinable
            earned = join(decision, outcomes, self._terms_of(decision), now_ms).reward
            if earned is None:
                return None
            reward = clipping.clip(earned)
            if decision.split == "train":
                clipping.remember(earned)
            return Judgement(reward, None if reward == earned else earned)

        return lambda joinables: [judged(joinable) for joinable in joinables]

    def _join(self) -> bool:
        """Append what is now known to the training stream."""
        silences = self._rewards.silence_confirms_itself
        changed, watermark = self._store.changed(_BATCH, silences=silences)
        if changed:
            self._resolve(changed, watermark)
        due = self._store.due(self._clock(), _BATCH)
        if due:
            self._resolve(due, None)
        return bool(changed or due)

    def _resolve(self, decision_ids: list[str], watermark: Watermark | None) -> None:
        now_ms = self._clock()
        resolutions: list[Resolution] = []
        # One that the store does not hold any more is not waited for again.
        waits: dict[str, int | None] = dict.fromkeys(decision_ids)
        for joinable in self._store.joinable(decision_ids):
            decision_id = joinable.decision.opportunity.decision_id
            rows, waits[decision_id] = self._look(joinable, now_ms)
            resolutions += rows
        self._store.append(resolutions, waits, watermark)

    def _look(
        self, joinable: Joinable, now_ms: int
    ) -> tuple[list[Resolution], int | None]:
        """Return what a decision adds to the stream, and when to look again.

        Its first reward is what it earned within the wait, even if the learner was
        not there when the wait was over; what came later is a correction. Where limits
        follow from rewards, a correction counts towards them, though it may be clipped
        to what was learned already: where all money comes late, they would else be
        those of no money.
        """
        decision, outcomes, (revision, known, earned) = joinable
        decision_id = decision.opportunity.decision_id
        terms = self._terms_of(decision)
        rows: list[Resolution] = []
        for late in (False, True) if revision == 0 else (True,):
            now = join(decision, outcomes, terms, now_ms, late=late)
            if now.reward is None:
                return rows, now.due_ms
            if revision and now.reward == earned:
                continue
            earned, reward = now.reward, self._clipping.clip(now.reward)
            if revision and reward == known and not self._clipping.follows:
                continue
            if decision.split == "train":
                self._clipping.remember(earned)
            revision += 1
            clipped = None if earned == reward else earned
            rows.append(Resolution(decision_id, reward, revision, known, clipped))
            known = reward
        return rows, None

    def _terms_of(self, decision: Decision) -> Terms:
        catalogue = self._catalogue_of(decision)
        action = catalogue.actions[decision.chosen]
        return terms_of(self._rewards, catalogue.spec, action)

    def _learn(self) -> bool:
        """Learn one batch of the training stream, the models that are behind too."""
        position = self.position
        rows = self._store.stream(self._epoch, position, _BATCH)
        for row in rows:
            self._contests.score(row, self._catalogue_of(row.decision))
            self._learn_row(row)
        end = position + len(rows)
        behind = [one for one in self._lineages.values() if one.position < end]
        more = len(rows) == _BATCH
        for start in {one.position for one in behind}:
            caught_up = self._store.stream(self._epoch, start, _BATCH)
            for row in caught_up[: end - start]:
                self._learn_row(row)
            more |= bool(caught_up)
        for lineage in self._lineages.values():
            if lineage.position >= end and len(rows) < _BATCH:
                lineage.waiting = False
        telemetry.LEARNED.inc(len(rows))
        return bool(rows) or more

    def _learn_row(self, row: StreamRow) -> None:
        catalogue = self._catalogue_of(row.decision)
        for lineage in self._lineages.values():
            if lineage.position == row.position - 1:
                lineage.learn(row, catalogue)

    def _catalogue_of(self, decision: Decision) -> Catalogue:
        return self._compiled(decision.catalogue)

    def _compile(self, version: str) -> Catalogue:
        text = self._store.catalogue(version)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {version}")
        return catalogues.read(text, linted=False)
