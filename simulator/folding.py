"""Follows a training stream: the model as it was at any position in it."""

from __future__ import annotations

from policies.policy import Policy, PolicySettings
from policies.training import fold
from simulator.logs import Log, LogError, StreamRow

__all__ = ["Folding"]


class Folding:
    """One learner's model, from nothing or a snapshot, forward along one stream.

    Args:
        log: Where the stream is.
        settings: A policy with the learner.
        epoch: Which stream.
        snapshot: A position, and what the learner had saved there; none to begin at
            the beginning, with what the learner began with.

    Attributes:
        stream: The version of the learner, and the epoch.
        position: How many rows of the stream it has learned.
    """

    def __init__(
        self,
        log: Log,
        settings: PolicySettings,
        epoch: int,
        snapshot: tuple[int, bytes] | None = None,
    ) -> None:
        begun = log.begun(settings.learner_version, epoch)
        self.position, body = snapshot or (0, begun)
        self._log = log
        self.stream = (settings.learner_version, epoch)
        self._learning = Policy(settings, body)
        self._deciding: dict[str, Policy] = {}
        self._problem = ""
        self._rows = log.stream(epoch, after=self.position)

    def advance(self, position: int) -> None:
        """Learn the rows up to a position, which is not before where it is.

        Raises:
            LogError: If the log does not hold all that is to be learned; from then on
                no row of the stream can be learned any more.
        """
        if self._problem:
            raise LogError(self._log.path, self._problem)
        try:
            while self.position < position:
                self._learn(next(self._rows, None))
        except LogError as error:
            self._problem = error.problem
            raise

    def _learn(self, row: StreamRow | None) -> None:
        wanted = self.position + 1
        name = f"row {wanted} of training stream {self.stream[1]}"
        if row is None or row.position != wanted:
            raise LogError(self._log.path, f"the log does not hold {name}")
        if row.record is None:
            decision_id = row.resolution.decision_id
            gone = f"{name} is about decision {decision_id}, which is not in the log"
            raise LogError(self._log.path, gone)
        decision = self._log.lesson(row.record, f"the decision of {name}")
        catalogue = self._log.catalogue(decision.catalogue)
        fold(self._learning, row.resolution, decision, catalogue)
        self.position = row.position

    def policy(self, settings: PolicySettings) -> Policy:
        """Return a policy that decides by this model, until it advances.

        Args:
            settings: Those of any policy with this learner.
        """
        policy = self._deciding.get(settings.version)
        if policy is None:
            policy = Policy(settings, previous=self._learning)
            policy.learner = self._learning.learner
            policy.outcomes = self._learning.outcomes
            self._deciding[settings.version] = policy
        policy.model = f"{self.stream[1]}.{self.position}"
        # Corrections count too: it is how servers count.
        policy.learned = self.position
        return policy

    def save(self) -> bytes:
        """Return all that was learned."""
        return self._learning.save()
