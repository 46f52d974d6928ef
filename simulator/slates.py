"""What other policies would have earned with calls that fill several slots.

A log has one decision for each slot. Those of one user at one time are one call, in the
order in which they were made: each chose from what those above it had left. Rewards of
slots may depend on each other; `policies.estimators.slates` say what they assume of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.diagnostics import DiagnosticsSettings
from policies.estimators.slates import SLATES, Slates
from policies.intervals import estimate
from policies.model import FloatArray
from policies.overlap import Verdict, worse
from policies.reward_model import RewardModel
from simulator.batches import Batch
from simulator.candidates import Training, candidates, targets
from simulator.feedback import Feedback, joined
from simulator.judging import FOLDS, QuestionError, opened
from simulator.logs import AnyLog, LogError, Source, Watcher
from simulator.surveying import REWARD, column_of, contexts_of, demand_sound, survey
from simulator.tallying import UNSEEN
from simulator.targets import Target

__all__ = ["SLATE_ESTIMATORS", "SlateValue", "evaluate_slates"]

SLATE_ESTIMATORS = ("iips", "rips", "cascade_dr", "pseudo_inverse")
"""What is estimated by where nothing is asked for."""

_ALONE = ("iips", "sniips", "pseudo_inverse")
"""Those in which a slot counts by its own weight, whatever is above it."""

_MODEL_FOLDS = 5
_MODEL_DIM = 64
_SETTINGS = DiagnosticsSettings()


class SlateValue(msgspec.Struct, frozen=True, kw_only=True):
    """What one estimator says of one policy, a call.

    Attributes:
        policy: The name under which it was asked for.
        objective: What is earned.
        estimator: An estimator of `policies.estimators.slates.SLATES`.
        value: What a call earns, over all of its slots, in the unit of the objective;
            none where the log cannot tell.
        low: The lower end of the interval; none likewise.
        high: Its upper end; none likewise.
        confidence: How often such an interval holds the true value.
        n: The number of calls.
        slots: The largest number of slots of one.
        ess: How many calls of its own the policy would have needed to say as much.
        verdict: `usable`, `weak` or `unusable`, as of any estimate.
        doubts: Why it is not usable.
    """

    policy: str
    objective: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    slots: int
    ess: float
    verdict: Verdict
    doubts: tuple[str, ...]


class _Calls(NamedTuple):
    """Where the rows of a log are in calls: row i is slot `slot[i]` of `call[i]`."""

    call: NDArray[np.intp]
    slot: NDArray[np.intp]
    keys: NDArray[np.uint64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.keys), int(self.slot.max()) + 1

    def spread(self, values: FloatArray, missing: float) -> FloatArray:
        """Return values of rows by call and slot, shape (calls, slots)."""
        found = np.full(self.shape, missing)
        found[self.call, self.slot] = values
        return found


def evaluate_slates(
    log: AnyLog,
    policies: Sequence[str],
    *,
    estimators: Sequence[str] = SLATE_ESTIMATORS,
    objective: str = REWARD,
    confidence: float = 0.95,
    folds: int = FOLDS,
    watcher: Watcher | None = None,
) -> tuple[SlateValue, ...]:
    """Estimate what policies would have earned, a call, in a log of several slots.

    The log is read into memory. A call with fewer slots than others counts with those
    that it has, and one of which a slot has no reward yet is left out.

    Args:
        log: What `simulator.logs.open_log` opens, or a part that somebody has made.
        policies: What to ask, as for `simulator.evaluate`.
        estimators: By which, of `policies.estimators.slates.SLATES`.
        objective: What is earned: `reward`, or another outcome that the log has.
        confidence: How often an interval is to hold the true value.
        folds: Into how many parts users fall for policies that learn from the log.
        watcher: Is told how far training is.

    Returns:
        One for each policy and estimator, in the order in which they were asked for.

    Raises:
        OpportuneError: If the log or a policy cannot be used, or the log does not say
            what is one call.
    """
    unknown = [name for name in estimators if name not in SLATES]
    if unknown:
        known = ", ".join(SLATES)
        raise QuestionError(f"there is no slate estimator {unknown[0]!r}: {known}")
    wanted = candidates(policies)
    with opened(log) as source:
        part = _read(source, objective)
        demand_sound(part)
        batch = Batch(part)
        found = survey(batch, (objective,), folds=_MODEL_FOLDS, dim=0)
        asked = targets(
            wanted,
            source,
            lambda: iter([part]),
            training=Training(folds=folds),
            watcher=watcher or (lambda *_: None),
            offers=found.offers,
        )
    calls = _calls(part)
    rewards = calls.spread(column_of(part, objective), 0.0)
    expected = _expected(batch, calls, rewards) if "cascade_dr" in estimators else None
    return tuple(
        value
        for target in asked
        for value in _values(
            _Asked(target, batch, calls, rewards, expected),
            estimators,
            objective,
            confidence,
        )
    )


def _read(source: Source, objective: str) -> Feedback:
    """Return the calls of which every slot has a reward."""
    parts = list(source.parts())
    if not parts:
        raise LogError(source.path, "there are no decisions")
    whole = joined(parts)
    if not (whole.times_ms > 0).all():
        raise LogError(
            source.path,
            "there are decisions without a time: those of one user at one time are one"
            " call",
        )
    calls = _calls(whole)
    unknown = np.isnan(column_of(whole, objective)) | ~whole.rewarded
    lacking = np.bincount(calls.call, unknown, len(calls.keys)) > 0
    kept = whole.take(~lacking[calls.call])
    if not len(kept):
        raise LogError(source.path, "no call has a reward for each of its slots yet")
    return kept


def _calls(part: Feedback) -> _Calls:
    """Say which rows are of one call, and which slot each is."""
    pairs = np.stack([part.keys, part.times_ms.astype(np.uint64)])
    found, call = np.unique(pairs, axis=1, return_inverse=True)
    call = call.ravel()
    order = np.argsort(call, kind="stable")
    begins = np.searchsorted(call[order], np.arange(found.shape[1]))
    slot = np.empty(len(call), np.intp)
    slot[order] = np.arange(len(call)) - begins[call[order]]
    return _Calls(call, slot, found[0])


def _expected(batch: Batch, calls: _Calls, rewards: FloatArray) -> FloatArray:
    """Return what a model expects of each eligible action and of the slots below it."""
    part = batch.feedback
    from_here = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    taught = msgspec.structs.replace(part, rewards=from_here[calls.call, calls.slot])
    surveyed = survey(Batch(taught), (REWARD,), folds=_MODEL_FOLDS, dim=_MODEL_DIM)
    if surveyed.moments is None:
        raise QuestionError("cascade_dr: there are too many actions for its model")
    model: RewardModel = surveyed.moments.solve(
        names=[*sorted(surveyed.chosen), UNSEEN]
    )
    values = model.predict(contexts_of(part), batch.folds(_MODEL_FOLDS), 0)
    places = {name: place for place, name in enumerate(model.names)}
    place_of = np.array(
        [places.get(action.name, places[UNSEEN]) for action in part.vocabulary]
    )
    found: FloatArray = values[batch.rows, place_of[part.actions]]
    return found


class _Asked:
    """A target on the calls of a log."""

    def __init__(
        self,
        target: Target,
        batch: Batch,
        calls: _Calls,
        rewards: FloatArray,
        expected: FloatArray | None,
    ) -> None:
        self.name = target.name
        self.calls = calls
        part = batch.feedback
        answer = target.answer(batch)
        eligible = answer.eligible
        self.untried = 0.0
        logged = values = None
        if eligible is not None and not np.isnan(part.probabilities).any():
            tried = batch.totals(eligible * (part.probabilities > 0.0))
            self.untried = float(np.maximum(1.0 - tried, 0.0).mean())
        if eligible is not None and expected is not None:
            values = calls.spread(batch.totals(eligible * expected), 0.0)
            logged = calls.spread(expected[batch.at], 0.0)
        self.slates = Slates(
            rewards=rewards,
            weights=calls.spread(answer.taken / part.propensities, 1.0),
            logged_values=logged,
            target_values=values,
        )


def _values(
    asked: _Asked, estimators: Sequence[str], objective: str, confidence: float
) -> list[SlateValue]:
    slates = asked.slates
    earned = slates.rewards.sum(axis=1)
    found: list[SlateValue] = []
    for name in estimators:
        if name == "cascade_dr" and slates.target_values is None:
            raise QuestionError(
                f"cascade_dr needs to know what {asked.name} would do with every"
                " eligible action"
            )
        each = slates.weights
        weights = each.mean(axis=1) if name in _ALONE else each.prod(axis=1)
        result = estimate(
            SLATES[name](slates),
            asked.calls.keys,
            weights=weights,
            rewards=earned,
            confidence=confidence,
        )
        verdict, doubts = result.verdict, list(result.doubts)
        if asked.untried > _SETTINGS.untried_max:
            hopeless = asked.untried > _SETTINGS.untried_refused
            verdict = worse(verdict, "unusable" if hopeless else "weak")
            share = f"{asked.untried:.1%}"
            doubts.append(f"the log never tries {share} of what it would do")
        told = verdict != "unusable"
        found.append(
            SlateValue(
                policy=asked.name,
                objective=objective,
                estimator=name,
                value=result.value if told else None,
                low=result.low if told else None,
                high=result.high if told else None,
                confidence=confidence,
                n=result.n,
                slots=each.shape[1],
                ess=result.ess,
                verdict=verdict,
                doubts=tuple(doubts),
            )
        )
    return found
