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
from policies.policy import Policy, PolicySettings
from policies.rewards import RewardSettings
from policies.training import fold
from server import telemetry
from server.stores.base import (
    Joinable,
    Judge,
    Judgement,
    Snapshot,
    TrainingStore,
    Watermark,
)

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
    """

    def __init__(
        self,
        store: TrainingStore,
        policy: PolicySettings,
        rewards: RewardSettings,
        *,
        keep: int,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._settings = policy
        self._rewards = rewards
        self._keep = keep
        self._clock = clock
        self._compiled = lru_cache(maxsize=8)(self._compile)
        self._begin()

    def _begin(self) -> None:
        """Go on from what was published last in the current epoch."""
        store, policy = self._store, self._settings
        self._epoch, self._began = store.epoch(), store.began()
        self._clipping = Clipping(self._rewards, store.recent(REMEMBERED))
        snapshot = store.latest_snapshot(policy.learner_version)
        self._position = self._published = 0
        body = None
        if snapshot is not None:
            body, self._position = snapshot.body, snapshot.position
            self._published = snapshot.position
        self._policy = Policy(policy, body, learned=self._position)
        _log.info("learning", epoch=self._epoch, position=self._position)

    @property
    def position(self) -> int:
        """How many rows of the training stream the model has learned."""
        return self._position

    def step(self) -> bool:
        """Join what is new, learn what was joined; say whether there was any."""
        wanted = self._store.rebuild_asked()
        if wanted != "none":
            self.rebuild(judged_anew=wanted == "judged_anew")
        joined = self._join()
        return self._learn() or joined

    def publish(self) -> None:
        """Publish what has been learned since the last time, if anything has.

        Of an epoch that took the place of another one nothing is published before all
        is learned that it began with: until then the old model serves.
        """
        if self._position == self._published or self._position < self._began:
            return
        learner = self._settings.learner_version
        body = self._policy.save()
        snapshot = Snapshot(learner, self._epoch, self._position, body)
        self._store.publish(snapshot, self._keep)
        self._published = self._position
        telemetry.MODEL_POSITION.set(self._position)

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
        not there when the wait was over; what came later is a correction.
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
            if revision == 0:
                if decision.split == "train":
                    self._clipping.remember(earned)
            elif reward == known:
                continue
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
        """Learn one batch of the training stream."""
        rows = self._store.stream(self._epoch, self._position, _BATCH)
        for position, resolution, decision in rows:
            fold(self._policy, resolution, decision, self._catalogue_of(decision))
            self._position = position
        telemetry.LEARNED.inc(len(rows))
        return bool(rows)

    def _catalogue_of(self, decision: Decision) -> Catalogue:
        return self._compiled(decision.catalogue)

    def _compile(self, version: str) -> Catalogue:
        text = self._store.catalogue(version)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {version}")
        return catalogues.read(text, linted=False)
