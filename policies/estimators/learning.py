"""What a policy that learns would have earned, had it decided from the start.

A learning policy is another one after each decision. It is walked through a log: where
the log did what it would have done, it learns, and is then the next policy. How often
that happens decides how far it gets, its `updates`, and the answer is what a run of
so many decisions earns per decision.

    replay         keeps what agrees; right only where the log chose uniformly
    rejection      keeps with probability c·w: right, and keeps the less the more the
                   log's choices differ in probability
    explore_eval   the same by the rule of Vowpal Wabbit, and values all rows by IPS
    dr_ns          the same with a c that grows, and values all rows by DR
    completed      keeps at a rate of its own choosing: where the log lacks what would
                   have been learned from, a reward model fills in

Each walks `Step`s with a policy that has learned nothing yet, and returns a `Learned`.

References:
    M. Dudík, D. Erhan, J. Langford and L. Li. Sample-efficient nonstationary policy
    evaluation for contextual bandits. UAI 2012, https://arxiv.org/abs/1210.4862.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import shake_128
from itertools import islice
from statistics import NormalDist
from typing import Any, Protocol

import msgspec
import numpy as np

from policies.estimators.base import IntArray, Terms
from policies.estimators.tuning import choose_terms
from policies.model import FloatArray

__all__ = [
    "Learned",
    "LearningPolicy",
    "Step",
    "completed",
    "dr_ns",
    "explore_eval",
    "rejection",
    "replay",
]

_LIMITS = (math.inf, 50.0, 20.0, 10.0, 5.0, 2.0)
"""Where `completed` may clip weights."""

_ENOUGH = 1e-6
"""By how much a probability of being kept may pass 1 before it is a violation."""


class LearningPolicy(Protocol):
    """A policy that learns from what it is told."""

    def distribution(self, context: Any, actions: Any) -> FloatArray:
        """Return the probability of each action, summing to 1."""

    def learn(
        self,
        context: Any,
        actions: Any,
        chosen: int,
        *,
        reward: float,
        probability: float,
        weight: float,
    ) -> None:
        """Learn what was earned.

        Args:
            context: As it was asked with.
            actions: Likewise.
            chosen: Which of them, from 0.
            reward: What it earned.
            probability: How likely this policy was to choose it.
            weight: As how many rewards it counts; 1 but for `explore_eval`.
        """


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A logged decision as a learning policy meets it.

    Attributes:
        context: Whatever the policy takes.
        actions: Those that were eligible, whatever the policy takes.
        chosen: Which of them the log chose, from 0.
        reward: What it earned.
        probabilities: The logging policy's, of each action, shape (n_actions,); the one
            of what was chosen is above 0.
        values: What a reward model expects of each action, shape (n_actions,), that
            does not know the reward of this decision; none without a model.
    """

    context: Any
    actions: Any
    chosen: int
    reward: float
    probabilities: FloatArray
    values: FloatArray | None = None

    @property
    def propensity(self) -> float:
        """The logging policy's probability of what it chose."""
        return float(self.probabilities[self.chosen])


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What a learning policy would have earned in a run of `updates` decisions.

    Attributes:
        value: Reward per decision, over the run; not a number where nothing was kept.
        low: The lower end of an interval for what such runs earn on average.
        high: Its upper end.
        run_low: The lower end of one for what a single such run earns.
        run_high: Its upper end.
        confidence: How often each interval is to hold.
        updates: How many decisions long the run is: what was learned from, each as
            often as it counted.
        observed: Of these, what the log had a reward for.
        violations: How many rows should have been kept with a probability above 1.
        multiplier: The last c.
        terms: Of each row, in the order of the log.
    """

    value: float
    low: float
    high: float
    run_low: float
    run_high: float
    confidence: float
    updates: float
    observed: float
    violations: int
    multiplier: float
    terms: Terms


def replay(
    policy: LearningPolicy,
    steps: Sequence[Step],
    *,
    seed: int = 0,
    confidence: float = 0.95,
) -> Learned:
    """Keep each row where a choice drawn from the policy is the logged one.

    Right where the log chose uniformly. Elsewhere what is kept is not what the policy
    would have met: propensities are not used.

    References:
        L. Li, W. Chu, J. Langford and X. Wang. Unbiased offline evaluation of
        contextual-bandit-based news article recommendation algorithms. WSDM 2011,
        https://arxiv.org/abs/1003.5956.
    """
    kept, rewards = np.zeros(len(steps)), np.zeros(len(steps))
    for row, (step, draw) in enumerate(zip(steps, _draws(seed), strict=False)):
        chance = policy.distribution(step.context, step.actions).item(step.chosen)
        rewards[row] = step.reward
        if draw < chance:
            kept[row] = 1.0
            _learn(policy, step, chance)
    return _of_kept(rewards, kept, 0, 1.0, confidence)


def rejection(
    policy: LearningPolicy,
    steps: Sequence[Step],
    *,
    multiplier: float | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Learned:
    """Keep each row with probability c·π(a)/p, so that the policy meets what it would.

    Args:
        policy: Has learned nothing yet.
        steps: The log.
        multiplier: c; the smallest propensity of the log without, and then it is never
            violated.
        seed: Of the draws.
        confidence: How often the intervals are to hold, in (0, 1).
    """
    if multiplier is None:
        multiplier = min(step.propensity for step in steps)
    kept, rewards = np.zeros(len(steps)), np.zeros(len(steps))
    violations = 0
    for row, (step, draw) in enumerate(zip(steps, _draws(seed), strict=False)):
        chance = policy.distribution(step.context, step.actions).item(step.chosen)
        rewards[row] = step.reward
        threshold = multiplier * chance / step.propensity
        violations += threshold > 1.0 + _ENOUGH
        if draw < threshold:
            kept[row] = 1.0
            _learn(policy, step, chance)
    return _of_kept(rewards, kept, violations, multiplier, confidence)


def explore_eval(
    policy: LearningPolicy,
    steps: Sequence[Step],
    *,
    multiplier: float | None = None,
    target_rate: float | None = None,
    draws: Iterable[float] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> Learned:
    """Keep rows by the rule of Vowpal Wabbit's --explore_eval; value all by IPS.

    c falls to the smallest p/π(a) met so far, so that the first rows are kept too
    often. With a target rate it is turned up or down to meet that instead, and rows
    whose probability of being kept passes 1 count for more.

    Args:
        policy: Has learned nothing yet.
        steps: The log.
        multiplier: c, if it is to stay the same.
        target_rate: The share of rows to keep, if it is to be met.
        draws: The uniform numbers to draw with; of `seed` without.
        seed: Of the draws.
        confidence: How often the intervals are to hold, in (0, 1).

    References:
        The reduction explore_eval of Vowpal Wabbit,
        https://github.com/VowpalWabbit/vowpal_wabbit.
    """
    fixed = multiplier is not None
    scale = 1.0 if multiplier is None else multiplier
    terms, kept = np.zeros(len(steps)), np.zeros(len(steps))
    rewards = np.zeros(len(steps))
    violations, thresholds = 0, 0.0
    uniform = iter(_draws(seed) if draws is None else draws)
    for row, step in enumerate(steps):
        chance = policy.distribution(step.context, step.actions).item(step.chosen)
        weight = chance / step.propensity
        rewards[row] = step.reward
        terms[row] = weight * step.reward
        if not fixed and target_rate is None and weight > 0:
            scale = min(scale, 1.0 / weight)
        threshold = weight * scale
        rate = 1.0
        if target_rate is not None and thresholds > 0:
            rate = target_rate * row / thresholds
        thresholds += threshold
        violations += threshold > 1.0 + _ENOUGH
        threshold *= rate
        if next(uniform) < threshold:
            kept[row] = max(threshold, 1.0)
            _learn(policy, step, chance, weight=float(kept[row]))
    return _learned(
        Terms(added=terms),
        updates=float(kept.sum()),
        observed=float(kept.sum()),
        rewards=rewards[kept > 0],
        violations=violations,
        multiplier=scale,
        confidence=confidence,
    )


def dr_ns(
    policy: LearningPolicy,
    steps: Sequence[Step],
    *,
    quantile: float = 0.0,
    multiplier_max: float = 1.0,
    seed: int = 0,
    confidence: float = 0.95,
) -> Learned:
    """Keep rows with a c that follows p/π(a), and value all rows by DR.

    Args:
        policy: Has learned nothing yet.
        steps: The log, with values of a model.
        quantile: Which quantile of the p/π(a) so far c is, in [0, 1]: with 0 nothing
            is kept too often, and the more, the more is kept, and the more bias.
        multiplier_max: The largest c.
        seed: Of the draws.
        confidence: How often the intervals are to hold, in (0, 1).

    Raises:
        ValueError: If a step has no values.

    References:
        M. Dudík, D. Erhan, J. Langford and L. Li. Sample-efficient nonstationary policy
        evaluation for contextual bandits. UAI 2012 (DR-ns),
        https://arxiv.org/abs/1210.4862.
    """
    scale, ratios = multiplier_max, list[float]()
    over, under = np.zeros(len(steps)), np.zeros(len(steps))
    kept, rewards, violations = np.zeros(len(steps)), np.zeros(len(steps)), 0
    for row, (step, draw) in enumerate(zip(steps, _draws(seed), strict=False)):
        rewards[row] = step.reward
        chances = policy.distribution(step.context, step.actions)
        chance, p = float(chances[step.chosen]), step.propensity
        # A row moves the run on by c decisions, on average.
        over[row], under[row] = scale * float(_dr_term(step, chances)), scale
        insort(ratios, p / chance if chance > 0 else math.inf)
        threshold = scale * chance / p
        violations += threshold > 1.0 + _ENOUGH
        if draw < threshold:
            kept[row] = 1.0
            _learn(policy, step, chance)
            place = min(int(quantile * len(ratios)), len(ratios) - 1)
            scale = min(multiplier_max, ratios[place])
    return _learned(
        Terms(over=over, under=under),
        updates=float(kept.sum()),
        observed=float(kept.sum()),
        rewards=rewards[kept > 0],
        violations=violations,
        multiplier=scale,
        confidence=confidence,
    )


def completed(
    make: Callable[[], LearningPolicy],
    steps: Sequence[Step],
    *,
    rate: float | None = None,
    passes: int = 4,
    in_order: bool = False,
    seed: int = 0,
    confidence: float = 0.95,
) -> Learned:
    """Keep every choice at the same rate, and let a model fill in what was not logged.

    In each row the policy draws a choice of its own. If the log made it too, with
    probability p, it is kept with probability min(1, ρ/p), and its reward is learned.
    That is rejection sampling, and all there is while p is at least ρ for every action.
    Where p is less, what lacks is made up from the rows in which the log chose
    otherwise: of these a share of (ρ − p)/(1 − p) is kept, and what is learned is what
    the reward model expects of the choice. So every choice in every context is kept
    with probability ρ, no context is met more often than it would be, and the run is
    ρ·n decisions long, whatever the log's probabilities.

    What the policies on the way earn is estimated by DR on all rows, with weights
    clipped where the log says that this lessens the error (`choose_estimator`). What
    the model can get wrong is how the policy learns: the more, the larger the share
    that it fills in, `1 − observed / updates`. It fills in expectations, which have
    less noise than rewards do.

    The log is walked several times, in another order and with other draws each time,
    and the estimates are averaged. The interval adds up how far rows differ, how far
    the passes do, and how far the clipping has moved the estimate. The passes count in
    full, not divided by their number, since all walk the same log.

    Args:
        make: Returns a policy that has learned nothing yet.
        steps: The log, with values of a model.
        rate: ρ, in (0, 1]; without it twice what rejection would keep at most: twice
            the smallest propensity.
        passes: How often to walk, at least 2.
        in_order: Whether to keep the order of the log, where what pleases changes.
        seed: Of the draws.
        confidence: How often the intervals are to hold, in (0, 1).

    Raises:
        ValueError: If a step has no values, or an argument is out of its range.

    Examples:
        >>> class Uniform:
        ...     def distribution(self, context, actions):
        ...         return np.array([0.5, 0.5])
        ...
        ...     def learn(self, context, actions, chosen, **what):
        ...         pass
        >>> steps = [
        ...     Step(
        ...         context=(),
        ...         actions=("tea", "jam"),
        ...         chosen=row % 2,
        ...         reward=float(row % 2),
        ...         probabilities=np.array([0.5, 0.5]),
        ...         values=np.array([0.0, 1.0]),
        ...     )
        ...     for row in range(100)
        ... ]
        >>> completed(Uniform, steps, rate=1.0).value
        0.5
    """
    if rate is None:
        rate = min(1.0, 2.0 * min(step.propensity for step in steps))
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be in (0, 1], not {rate}")
    if passes < 2:
        raise ValueError(f"passes must be at least 2, not {passes}")
    rewards = np.array([step.reward for step in steps])
    bounds = float(rewards.min()), float(rewards.max())
    walks = []
    for number in range(passes):
        order, draws = _order(len(steps), seed, number)
        if in_order:
            order = np.arange(len(steps))
        walks.append(_complete(make(), steps, rate, bounds, (order, draws)))
    terms = np.mean([walk.terms for walk in walks], axis=0)
    choice = choose_terms(
        {limit: Terms(added=terms[:, at]) for at, limit in enumerate(_LIMITS)}, math.inf
    )
    at = _LIMITS.index(float(choice.value))
    values = [float(walk.terms[:, at].mean()) for walk in walks]
    shift = choice.terms.value - float(terms[:, 0].mean())
    return _learned(
        choice.terms,
        updates=float(np.mean([walk.updates for walk in walks])),
        observed=float(np.mean([walk.kept.sum() for walk in walks])),
        rewards=rewards[np.any([walk.kept for walk in walks], axis=0)],
        violations=0,
        multiplier=rate,
        confidence=confidence,
        further=float(np.var(values, ddof=1)) + shift * shift,
    )


class _Walk(msgspec.Struct, frozen=True):
    """One pass of `completed`.

    Attributes:
        terms: DR of each row with weights up to each limit, in the order of the log,
            shape (n, n_limits).
        kept: Which rows' rewards were learned, shape (n,).
        updates: How many rewards were learned, the log's and the model's.
    """

    terms: FloatArray
    kept: IntArray
    updates: int


def _complete(
    policy: LearningPolicy,
    steps: Sequence[Step],
    rate: float,
    bounds: tuple[float, float],
    walk: tuple[IntArray, FloatArray],
) -> _Walk:
    order, draws = walk
    terms = np.zeros((len(steps), len(_LIMITS)))
    kept, filled = np.zeros(len(steps), dtype=int), 0
    limits = np.array(_LIMITS)
    for row in order:
        step = steps[row]
        chances = policy.distribution(step.context, step.actions)
        terms[row] = _dr_term(step, chances, limits)
        ends = np.cumsum(chances)
        chosen = int(np.searchsorted(ends, draws[row, 0] * ends[-1], side="right"))
        chosen = min(chosen, len(ends) - 1)
        p, chance = float(step.probabilities[chosen]), float(chances[chosen])
        if chosen == step.chosen:
            if draws[row, 1] * p < rate:
                kept[row] = 1
                _learn(policy, step, chance)
        elif draws[row, 1] * (1.0 - p) < rate - p:
            filled += 1
            policy.learn(
                step.context,
                step.actions,
                chosen,
                reward=min(max(float(_values(step)[chosen]), bounds[0]), bounds[1]),
                probability=chance,
                weight=1.0,
            )
    return _Walk(terms, kept, int(kept.sum()) + filled)


def _learn(
    policy: LearningPolicy, step: Step, chance: float, weight: float = 1.0
) -> None:
    policy.learn(
        step.context,
        step.actions,
        step.chosen,
        reward=step.reward,
        probability=chance,
        weight=weight,
    )


def _dr_term(
    step: Step, chances: FloatArray, limits: FloatArray | float = math.inf
) -> FloatArray:
    """Return v + min(w, λ)·(r − q) for each λ, of the shape of `limits`."""
    values = _values(step)
    weight = float(chances[step.chosen]) / step.propensity
    error = step.reward - float(values[step.chosen])
    return float(chances @ values) + np.minimum(weight, limits) * error


def _values(step: Step) -> FloatArray:
    if step.values is None:
        raise ValueError("each step needs values of a reward model")
    return step.values


def _of_kept(
    rewards: FloatArray,
    kept: FloatArray,
    violations: int,
    multiplier: float,
    confidence: float,
) -> Learned:
    """Return what is said by the mean reward of the rows that were kept."""
    return _learned(
        Terms(over=kept * rewards, under=kept),
        updates=float(kept.sum()),
        observed=float(kept.sum()),
        rewards=rewards[kept > 0],
        violations=violations,
        multiplier=multiplier,
        confidence=confidence,
    )


def _learned(
    terms: Terms,
    *,
    updates: float,
    observed: float,
    rewards: FloatArray,
    violations: int,
    multiplier: float,
    confidence: float,
    further: float = 0.0,
) -> Learned:
    value, half, run = terms.value, math.nan, math.nan
    if updates > 0 and not math.isnan(value):
        z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
        influence = terms.influence
        variance = float(influence @ influence) / len(influence) ** 2 + further
        # A single run has the noise of its own rewards too.
        spread = float(rewards.var()) if len(rewards) else 0.0
        half, run = z * math.sqrt(variance), z * math.sqrt(variance + spread / updates)
    return Learned(
        value=value,
        low=value - half,
        high=value + half,
        run_low=value - run,
        run_high=value + run,
        confidence=confidence,
        updates=updates,
        observed=observed,
        violations=int(violations),
        multiplier=multiplier,
        terms=terms,
    )


def _order(n: int, seed: int, number: int) -> tuple[IntArray, FloatArray]:
    """Return an order of n rows and two draws for each."""
    draws = np.fromiter(islice(_draws(seed, number), 3 * n), float, 3 * n).reshape(n, 3)
    return np.argsort(draws[:, 2], kind="stable"), draws[:, :2]


def _draws(seed: int, number: int = 0) -> Iterator[float]:
    """Yield uniform numbers in [0, 1), the same on every machine."""
    block = 0
    while True:
        key = b"%d.%d.%d" % (seed, number, block)
        words = np.frombuffer(shake_128(key).digest(8 * 4096), dtype="<u8")
        yield from ((words >> np.uint64(11)) * 2.0**-53).tolist()
        block += 1
