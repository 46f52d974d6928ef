"""A learner's models: each is the one before, and a few rows of the stream more.

What is published is checked first, and what is resumed is too: a model that is damaged
or not fit to decide is left out, and an older one, or none, learns on from there.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from policies.catalogue import Catalogue
from policies.health import UnfitModelError, check
from policies.policy import Policy, PolicySettings
from policies.releasing import Release, published
from policies.training import fold
from server import telemetry, warming
from server.settings import LearningSettings
from server.stores.base import Snapshot, StreamRow, TrainingStore

__all__ = ["Lineage"]

_BYTES_MAX = 1 << 29
"""How large a model may be: the store takes none twice as large."""

_log = structlog.get_logger()


class Lineage:
    """One learner as it learns, and its models as they are published.

    Args:
        store: Where the stream is and the models go.
        settings: A policy with the learner.
        epoch: Which stream.
        learning: How models are published.
        keep: How many snapshots to keep.
        clock: Returns the time in milliseconds since 1970.

    Attributes:
        policy: It learns in place.
        position: How many rows of the stream it has learned.
        waiting: Whether the stream is learned anew, and nothing is to be published
            before its end: the last model of the epoch before serves meanwhile, what
            serves knows more than what could be read of it, or the baseline decides
            where the learner is new.
    """

    def __init__(
        self,
        store: TrainingStore,
        settings: PolicySettings,
        epoch: int,
        *,
        learning: LearningSettings,
        keep: int,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._settings = settings
        self._epoch = epoch
        self._learning = learning
        self._keep = keep
        self._clock = clock
        self._catalogue: Catalogue | None = None
        self.policy, self.position = self._resumed()
        self._published = self.position
        self._unfit = -1
        behind = self.position < store.stream_length()
        release = store.release(self.learner)
        if release is not None:
            behind = behind and release.serving > (epoch, self.position)
        self.waiting = behind or (release is not None and release.serving[0] < epoch)
        if behind:
            _log.info(
                "learning from the log; nothing is published before its end",
                learner=self.learner,
                behind=store.stream_length() - self.position,
            )

    @property
    def learner(self) -> str:
        """The version of the learner's settings."""
        return self._settings.learner_version

    def learn(self, row: StreamRow, catalogue: Catalogue) -> None:
        """Learn the next row of the stream.

        Args:
            row: The row past `position`.
            catalogue: The catalogue of its decision.
        """
        fold(self.policy, row.resolution, row.decision, catalogue)
        self.position = row.position
        self._catalogue = catalogue

    def publish(self) -> None:
        """Publish what has been learned since the last time, if anything has."""
        if self.waiting:
            return
        if self.position == self._published:
            self._graduate()
            return
        snapshot = Snapshot(
            self.learner, self._epoch, self.position, self.policy.save(), self._clock()
        )
        if self._is_fit(snapshot):
            self._store.publish(
                snapshot, self._keep, lambda before: self._next(before, snapshot)
            )
            self._published = self.position
            telemetry.MODEL_POSITION.set(self.position)

    def _graduate(self) -> None:
        """Let a canary that has served long enough serve all."""
        release = self._store.release(self.learner)
        if release is not None and self._next(release, None) != release:
            self._store.change_release(self.learner, lambda r: self._next(r, None))

    def _next(
        self, before: Release | None, snapshot: Snapshot | None
    ) -> Release | None:
        return published(
            before,
            None if snapshot is None else snapshot.version,
            at_ms=self._clock(),
            automatic=self._learning.auto_publish,
            canary=self._learning.canary,
            canary_for_ms=self._learning.canary_for,
        )

    def _is_fit(self, snapshot: Snapshot) -> bool:
        """Say whether a snapshot can be read, and decides; each is told of once."""
        try:
            _check_size(snapshot)
            check(self._read(snapshot), self._catalogue)
        except (UnfitModelError, ValueError) as error:
            if self._unfit != snapshot.position:
                _refused(snapshot, error)
            self._unfit = snapshot.position
            return False
        return True

    def _read(self, snapshot: Snapshot) -> Policy:
        return Policy(
            self._settings,
            snapshot.body,
            model=snapshot.model,
            learned=snapshot.position,
        )

    def _resumed(self) -> tuple[Policy, int]:
        """Return the latest model that is whole, or what to begin with."""
        before: int | None = None
        while True:
            snapshot = self._store.latest_snapshot(self.learner, before=before)
            if snapshot is None:
                return self._begun(), 0
            try:
                policy = self._read(snapshot)
                check(policy)
            except (UnfitModelError, ValueError) as error:
                _refused(snapshot, error)
                before = snapshot.position
            else:
                return policy, snapshot.position

    def _begun(self) -> Policy:
        """Return a model that has learned nothing here, and keep what it knows."""
        warm = self._store.warm(self.learner)
        body = None if warm is None else warm.body
        if body is None and self._learning.warm_start:
            try:
                body = warming.body(self._learning.warm_start, self._settings)
            except (OSError, RuntimeError, ValueError) as error:
                _log.error("no warm start", learner=self.learner, error=str(error))
        if body is None:
            return Policy(self._settings)
        snapshot = Snapshot(self.learner, self._epoch, 0, body, self._clock())
        try:
            policy = self._read(snapshot)
            check(policy)
        except (UnfitModelError, ValueError) as error:
            _refused(snapshot, error)
            return Policy(self._settings)
        # Where the stream is learned anew, what serves knows more than this.
        self._store.publish(
            snapshot, self._keep, lambda release: release or self._next(None, snapshot)
        )
        return policy


def _check_size(snapshot: Snapshot) -> None:
    size = len(snapshot.body)
    if size > _BYTES_MAX:
        raise UnfitModelError(
            f"{size:,} bytes are more than {_BYTES_MAX:,}: it needs fewer actions, or a"
            " learner with fewer numbers for each"
        )


def _refused(snapshot: Snapshot, error: Exception) -> None:
    telemetry.MODELS_REFUSED.inc()
    _log.error(
        "a model is not fit to decide, the last good one serves",
        learner=snapshot.learner,
        model=snapshot.model,
        error=str(error),
    )
