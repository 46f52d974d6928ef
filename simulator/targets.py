"""Policies that a log is asked about: what each would have done, part by part.

A target says how likely it chooses each eligible action. One that learns from the log
is never asked about the users that it has learned from: users fall into folds by
their keys, and the model that is asked about a fold has learned from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.errors import OpportuneError
from policies.model import Action, Features, FloatArray
from policies.policy import Policy, PolicySettings
from simulator.batches import Batch
from simulator.feedback import Feedback

__all__ = [
    "Answer",
    "Column",
    "Fixed",
    "Frozen",
    "Learned",
    "Logged",
    "Own",
    "Shares",
    "Target",
    "TargetError",
    "Uniform",
    "ask",
    "learn",
]

_REMEMBERED_MAX = 65_536

_SUM_OFF_MAX = 1e-6

Shares = Callable[[Feedback], FloatArray]
"""A policy of one's own: of a part of a log the probability of each eligible action."""

Distribution = Callable[[Features, Sequence[Action]], FloatArray]


class TargetError(OpportuneError):
    """There is no such policy to evaluate; the message says which there are."""


class Answer(NamedTuple):
    """What a target would have done on a part of a log.

    Attributes:
        taken: Its probability of the logged action, shape (n,).
        eligible: Its probability of each eligible action, shape (offsets[n],); none
            where only `taken` is known.
    """

    taken: FloatArray
    eligible: FloatArray | None


class Target(Protocol):
    """A policy to ask about. It can be pickled, so that other machines can ask, too.

    Attributes:
        name: What it is called in tables.
        about: What it is, in words.
        trained: Whether it has learned from rewards that it is judged by, or may have.
        crossed: Whether it has learned from this log, though never from the users
            about whom it is asked.
    """

    name: str
    about: str
    trained: bool
    crossed: bool

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        ...


class _Base:
    """What most targets have in common."""

    trained = False
    crossed = False

    def __init__(self, name: str, about: str) -> None:
        self.name = name
        self.about = about


class Logged(_Base):
    """The policies that logged, whichever it was at the time."""

    def answer(self, batch: Batch) -> Answer:
        """Say what they did."""
        eligible = batch.feedback.probabilities if batch.complete else None
        return Answer(batch.feedback.propensities, eligible)


class Uniform(_Base):
    """Each eligible action alike."""

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        batch.demand_actions()
        shares = 1.0 / batch.sizes
        return Answer(shares, shares[batch.rows])


class Fixed(_Base):
    """One offer wherever it is eligible, and no offer elsewhere.

    Args:
        name: As for every target.
        about: As for every target.
        offer_id: The offer, whose creatives and placements are chosen alike; empty
            for no offer.
    """

    def __init__(self, name: str, about: str, offer_id: str) -> None:
        super().__init__(name, about)
        self._offer_id = offer_id

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        batch.demand_actions()
        part = batch.feedback
        offers = [action.offer_id for action in part.vocabulary]
        fits = self._among(offers, batch)
        counts = batch.totals(fits)
        silent = self._among(["?" if offer else "" for offer in offers], batch, "")
        fits = np.where(counts[batch.rows] > 0, fits, silent)
        counts = np.maximum(batch.totals(fits), 1.0)
        shares = fits / counts[batch.rows]
        return Answer(shares[batch.at], shares)

    def _among(
        self, offers: Sequence[str], batch: Batch, wanted: str | None = None
    ) -> FloatArray:
        offer_id = self._offer_id if wanted is None else wanted
        mask = np.array([offer == offer_id for offer in offers], dtype=float)
        found: FloatArray = mask[batch.feedback.actions]
        return found


class Frozen(_Base):
    """A policy as it is, which learns nothing more.

    Args:
        name: As for every target.
        about: As for every target.
        policy: The policy.
        trained: As of every target.
    """

    def __init__(
        self, name: str, about: str, policy: Policy, *, trained: bool = False
    ) -> None:
        super().__init__(name, about)
        self.trained = trained
        self._kept = _Kept(policy)

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        rows = np.arange(len(batch))
        eligible = np.empty(len(batch.feedback.actions))
        ask(self._kept.distribution, batch, rows, eligible)
        return Answer(np.minimum(eligible[batch.at], 1.0), eligible)


class Learned(_Base):
    """A policy in as many models as there are folds; each knows all folds but one.

    Args:
        name: As for every target.
        about: As for every target.
        policies: The models, in the order of the folds that they do not know.
    """

    crossed = True

    def __init__(self, name: str, about: str, policies: Sequence[Policy]) -> None:
        super().__init__(name, about)
        self._kept = [_Kept(policy) for policy in policies]

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done, each fold by the model without it."""
        eligible = np.empty(len(batch.feedback.actions))
        folds = batch.folds(len(self._kept))
        for fold, kept in enumerate(self._kept):
            ask(kept.distribution, batch, np.flatnonzero(folds == fold), eligible)
        return Answer(np.minimum(eligible[batch.at], 1.0), eligible)


class Column(_Base):
    """A policy of which the log itself holds how likely it makes the logged choice."""

    def __init__(self, name: str, about: str, column: str) -> None:
        super().__init__(name, about)
        self._column = column

    def answer(self, batch: Batch) -> Answer:
        """Say what the column says.

        Raises:
            TargetError: If there is no such column, or it holds no probabilities.
        """
        part = batch.feedback
        taken = part.targets.get(self._column)
        if taken is None:
            raise TargetError(f"the log has no column target:{self._column}")
        wrong = ~((taken >= 0.0) & (taken <= 1.0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise TargetError(
                f"column {self._column!r} must hold probabilities: row"
                f" {part.positions[row]} has {taken[row]}"
            )
        return Answer(taken, None)


class Own(_Base):
    """A policy that is a function of a part of a log.

    Args:
        name: As for every target.
        about: As for every target.
        shares: Says its probability of each entry of the part's `actions`. On a
            cluster it must be one that can be pickled.
    """

    def __init__(self, name: str, about: str, shares: Shares) -> None:
        super().__init__(name, about)
        self._shares = shares

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done.

        Raises:
            TargetError: If what it says are no probabilities of the eligible actions.
        """
        batch.demand_actions()
        part = batch.feedback
        try:
            said = np.array(self._shares(part), dtype=float)
        except (TypeError, ValueError) as error:
            raise TargetError(f"policy {self.name}: {error}") from error
        if said.shape != part.actions.shape:
            raise TargetError(
                f"policy {self.name} must say one probability for each of the"
                f" {len(part.actions)} entries of actions, not {said.shape}"
            )
        sums = batch.totals(said)
        wrong = ~((said >= 0.0) & (said <= 1.0 + _SUM_OFF_MAX))
        rows = batch.rows[wrong] if wrong.any() else np.empty(0, np.intp)
        off = np.flatnonzero(~(np.abs(sums - 1.0) <= _SUM_OFF_MAX))
        if len(rows):
            raise TargetError(
                f"policy {self.name} must say probabilities in [0, 1]: row"
                f" {part.positions[rows[0]]} has {said[wrong][0]:g}"
            )
        if len(off):
            raise TargetError(
                f"policy {self.name}: its probabilities of the eligible actions must"
                f" sum to 1: in row {part.positions[off[0]]} they sum to"
                f" {sums[off[0]]:g}"
            )
        said = np.minimum(said, 1.0)
        return Answer(said[batch.at], said)


class _Kept:
    """A policy that can be pickled, and remembers what it has said."""

    def __init__(self, policy: Policy) -> None:
        self._settings = policy.settings
        self._body: bytes | None = None
        self._model, self._learned = policy.model, policy.learned
        self._policy: Policy | None = policy
        self._said: dict[tuple[Features, tuple[Action, ...]], FloatArray] = {}

    def __getstate__(self) -> tuple[PolicySettings, bytes | None, str, int]:
        body = self._body if self._policy is None else self._policy.save()
        return self._settings, body, self._model, self._learned

    def __setstate__(
        self, state: tuple[PolicySettings, bytes | None, str, int]
    ) -> None:
        self._settings, self._body, self._model, self._learned = state
        self._policy, self._said = None, {}

    def distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        if self._policy is None:
            self._policy = Policy(
                self._settings, self._body, model=self._model, learned=self._learned
            )
        key = (context, tuple(actions))
        said = self._said.get(key)
        if said is None:
            if len(self._said) >= _REMEMBERED_MAX:
                self._said.clear()
            said = self._said[key] = self._policy.distribution(context, actions)
        return said


def learn(policies: Sequence[Policy], batch: Batch) -> None:
    """Let policies learn a part of a log in its order, each all folds but its own.

    Args:
        policies: They learn in place; as many as there are folds. One alone learns
            everything.
        batch: The part.
    """
    batch.demand_actions()
    part = batch.feedback
    folds = batch.folds(len(policies)).tolist()
    alone = len(policies) == 1
    for row, (context, among) in enumerate(_situations(batch)):
        action = part.vocabulary[part.chosen[row]]
        reward, propensity = float(part.rewards[row]), float(part.propensities[row])
        for fold, policy in enumerate(policies):
            if alone or fold != folds[row]:
                policy.learn(
                    context,
                    action,
                    reward=reward,
                    propensity=propensity,
                    among=among if policy.learns_among else (),
                )


def _situations(batch: Batch) -> Iterator[tuple[Features, list[Action]]]:
    """Yield what was known, and what was eligible, row by row."""
    part = batch.feedback
    actions = part.actions.tolist()
    ends = part.offsets.tolist()
    vocabulary = part.vocabulary
    for row, context in enumerate(part.contexts):
        yield context, [vocabulary[at] for at in actions[ends[row] : ends[row + 1]]]


def ask(
    distribution: Distribution,
    batch: Batch,
    rows: NDArray[np.int64],
    eligible: FloatArray,
) -> None:
    """Ask about some rows of a part, and write down what is said."""
    batch.demand_actions()
    part = batch.feedback
    ends = part.offsets.tolist()
    for row in rows.tolist():
        span = slice(ends[row], ends[row + 1])
        actions = [part.vocabulary[at] for at in part.actions[span].tolist()]
        eligible[span] = distribution(part.contexts[row], actions)
