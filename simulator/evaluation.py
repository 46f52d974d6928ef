"""What other policies would have earned, from a server's own log.

Of each decision that has a reward, the log holds which actions were eligible and how
likely each was to be chosen. A target policy is asked for its own distribution over
the same actions, and `policies.intervals` weighs the rewards with the ratio.

The actions are those that were left after the gates. What a target policy would have
done to the histories of users, and so to later gates, is not part of the answer: the
values are of one decision in the situations that the logging policy led to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.errors import FileError, OpportuneError
from policies.estimators import ESTIMATORS, rows_of
from policies.features import context_features
from policies.identity import root_of
from policies.intervals import Estimate, estimate, mean_of, worst_rows
from policies.learners.linucb import LinUCBSettings
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Decision,
    Features,
    FloatArray,
    Split,
)
from policies.policy import EpsilonGreedy, Policy, PolicySettings
from policies.reward_model import cross_fit
from policies.toml import parse
from simulator.folding import Folding
from simulator.logs import Key, Log, LogError, Watcher

__all__ = [
    "POLICIES",
    "UNTRIED_MAX",
    "Evaluation",
    "TargetError",
    "Value",
    "evaluate",
]

POLICIES = ("logged", "uniform", "latest", "greedy")
"""What is evaluated where nothing is asked for."""

UNTRIED_MAX = 0.001
"""The share of a policy's choices that the log never tries above which it is doubted.
"""

_FIXED = "fixed:"
_NO_OFFER = "no_offer"
_MODEL_CELLS_MAX = 50_000_000  # Predictions of the reward model: 400 MB.
_WATCH_EVERY = 500

Distribution = Callable[[Features, Sequence[Action]], FloatArray]


class TargetError(OpportuneError):
    """There is no such policy to evaluate; the message says which there are."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What one estimator says of one policy.

    Attributes:
        policy: The name under which it was asked for.
        estimator: `mean` of what was observed, `ips`, `snips` or `dr`.
        value: Reward per decision, in the unit of the rewards; none where the log
            holds nothing about the policy.
        low: The lower end of the interval; none where nothing bounds it.
        high: Its upper end; none likewise.
        confidence: How often such an interval holds the true value.
        standard_error: The standard deviation of `value`; none without one.
        n: The number of decisions.
        ess: How many decisions of its own the policy would have needed to say as
            much.
        events: The number of decisions with a weight and a reward other than 0.
        weight_max: The largest weight that an eligible action could have had, by the
            logged probabilities.
        untried: The share of the policy's choices to which the log gave no chance.
        reliable: Whether nothing speaks against deciding on these numbers.
        doubts: What does.
    """

    policy: str
    estimator: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    standard_error: float | None
    n: int
    ess: float
    events: int
    weight_max: float | None
    untried: float
    reliable: bool
    doubts: tuple[str, ...]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What policies would have earned on the decisions of a log.

    Attributes:
        format: The version of these fields.
        log: The path of the log.
        decisions: How many decisions were logged.
        rewarded: How many of them have a reward: those that are evaluated.
        users: How many users or accounts these are of.
        model: How far the training stream goes, as `epoch.position`.
        values: One per policy and estimator.
        about: Each policy in words, by its name.
        trained_on_log: The policies that have learned from the rewards that they are
            judged by, so that their values are somewhat too good.
        notes: What to know before reading the values.
    """

    format: str = "opportune.evaluation.v1"
    log: str
    decisions: int
    rewarded: int
    users: int
    model: str
    values: tuple[Value, ...]
    about: dict[str, str]
    trained_on_log: tuple[str, ...]
    notes: tuple[str, ...]


class _Target(NamedTuple):
    """A policy to evaluate; without a distribution the logging policy itself."""

    name: str
    about: str
    distribution: Distribution | None
    trained: bool = False


class _Row(NamedTuple):
    """A decision with a reward, read."""

    decision: Decision
    reward: float
    context: Features
    actions: list[Action]


def evaluate(
    log: Log,
    policies: Sequence[str] = POLICIES,
    *,
    confidence: float = 0.95,
    split: Split | None = None,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Estimate what policies would have earned on the decisions of a log.

    Args:
        log: The log.
        policies: What to evaluate: `logged`, `uniform`, `latest` (the last policy
            with the model at the end of the training stream), `greedy` (the same
            without exploration), `fixed:OFFER_ID`, `fixed:no_offer`, or the path of
            a settings file whose `[policy]` then learns the whole stream.
        confidence: How often an interval is to hold the true value, in (0, 1).
        split: Which part of the users to judge by; by all of them without it.
        watcher: Is told how far it is.

    Raises:
        LogError: If no decision has a reward, or the log lacks what they name.
        TargetError: If there is no such policy.
    """
    evaluating = _Evaluating(log, confidence, split, watcher or (lambda *_: None))
    return evaluating.run(policies)


class _Evaluating:
    """One evaluation under way."""

    def __init__(
        self, log: Log, confidence: float, split: Split | None, watcher: Watcher
    ) -> None:
        self._log = log
        self._confidence = confidence
        self._split = split
        self._watcher = watcher
        self._codes: dict[str, int] = {}
        self._notes: list[str] = []
        self._doubts: tuple[str, ...] = ()
        self._files: dict[str, PolicySettings] = {}

    def run(self, policies: Sequence[str]) -> Evaluation:
        """Read the rewards, make the policies, ask them, estimate."""
        log = self._log
        if not log.resolved:
            raise LogError(
                log.path,
                "no decision has a reward yet: rewards come from ReportOutcome, some"
                " of them only when [rewards] wait is over",
            )
        self._check(policies)
        decisions, silent, last = self._count()
        rows = self._read()
        self._say_what_is_missing(decisions, silent, rows)
        predictions = self._model_rewards(rows)
        targets = [self._target(name, last) for name in dict.fromkeys(policies)]
        asked = self._ask(targets, rows, predictions)
        return Evaluation(
            log=str(log.path),
            decisions=decisions,
            rewarded=len(rows.rewards),
            users=len(set(rows.roots)),
            model=f"{log.epoch}.{log.resolved}",
            values=tuple(
                value
                for target, answers in zip(targets, asked, strict=True)
                for value in self._values(target, answers, rows)
            ),
            about={target.name: target.about for target in targets},
            trained_on_log=tuple(
                target.name
                for target in targets
                if target.trained and self._split in (None, "train")
            ),
            notes=tuple(self._notes),
        )

    # --- What is in the log -------------------------------------------------------

    def _count(self) -> tuple[int, int, str]:
        """Count decisions and those for no offer; return also the last policy."""
        log = self._log
        decode = msgspec.json.Decoder(Key).decode
        count = silent = 0
        policy = ""
        for position, decision_id, record in log.records():
            try:
                key = decode(record)
            except msgspec.DecodeError as error:
                wrong = f"decision {decision_id} cannot be read: {error}"
                raise LogError(log.path, wrong) from None
            policy = key.policy
            if self._split not in (None, key.split):
                continue
            count += 1
            silent += key.chosen == NO_OFFER
            self._watch("reading decisions", position - log.first, log.last - log.first)
        return count, silent, policy

    def _rows(self, doing: str) -> Iterator[_Row]:
        """Yield the decisions that have a reward, the same every time."""
        log = self._log
        for position, resolution, record in log.resolutions():
            self._watch(doing, position, log.resolved)
            if record is None:
                continue
            decision = log.read(record, f"decision {resolution.decision_id}")
            if self._split not in (None, decision.split):
                continue
            catalogue = log.catalogue(decision.catalogue)
            yield _Row(
                decision,
                resolution.reward,
                context_features(decision.opportunity.context, catalogue.features),
                [catalogue.actions[index] for index in decision.actions],
            )

    def _read(self) -> _Logged:
        rows = _Logged([], [], [], [], [])
        seen: dict[Features, Features] = {}
        for decision, reward, context, actions in self._rows("reading rewards"):
            chosen = actions[decision.actions.index(decision.chosen)]
            rows.rewards.append(reward)
            rows.propensities.append(decision.propensity)
            rows.chosen.append(self._code(chosen))
            rows.contexts.append(seen.setdefault(context, context))
            rows.roots.append(root_of(decision.opportunity.decision_id))
            for action in actions:
                self._code(action)
        if not rows.rewards:
            gone = "none of the decisions that have a reward is in the log any more"
            if self._split is not None:
                gone = (
                    f"no decision for users of the split {self._split} has a reward;"
                    " [policy.split] in the server's settings says who they are"
                )
            raise LogError(self._log.path, gone)
        return rows

    def _code(self, action: Action) -> int:
        """Number actions by their names, which outlive a catalogue."""
        return self._codes.setdefault(action.name, len(self._codes))

    def _say_what_is_missing(self, decisions: int, silent: int, rows: _Logged) -> None:
        n = len(rows.rewards)
        code = self._codes.get("no_offer", -1)
        silent_n = rows.chosen.count(code)
        offers, offers_n = decisions - silent, n - silent_n
        if n < decisions:
            self._notes.append(
                f"{decisions - n:,} of {decisions:,} decisions have no reward and are"
                f" left out; {silent_n:,} of {silent:,} for no offer have one, and"
                f" {offers_n:,} of {offers:,} for an offer"
            )
        if silent and offers and abs(silent_n / silent - offers_n / offers) > 0.05:
            doubt = (
                "whether a decision has a reward depends on what was chosen (see"
                " [rewards] silence_confirms_itself)"
            )
            self._doubts = (doubt,)
        users = len(set(rows.roots))
        if users < n:
            self._notes.append(
                f"{n:,} decisions are of {users:,} users or accounts: in the intervals,"
                " those of one are no more independent than they are"
            )

    def _model_rewards(self, rows: _Logged) -> FloatArray | None:
        """Predict what each action would have earned; none where that is too much."""
        n, n_actions = len(rows.rewards), len(self._codes)
        if n * n_actions > _MODEL_CELLS_MAX:
            self._notes.append(
                f"dr is left out: {n:,} decisions with {n_actions:,} actions are more"
                " than its reward model holds in memory"
            )
            return None
        self._watcher("fitting the reward model", 0, 1)
        return cross_fit(
            rows.contexts,
            np.array(rows.chosen),
            np.array(rows.rewards),
            rows.roots,
            n_actions=n_actions,
        )

    # --- The policies -------------------------------------------------------------

    def _check(self, policies: Sequence[str]) -> None:
        """Refuse what cannot be evaluated before any work; read settings files."""
        if not policies:
            raise TargetError(f"name a policy: {_CHOICES}")
        for name in policies:
            known = name in POLICIES or name.startswith(_FIXED)
            if known:
                continue
            if not Path(name).is_file():
                raise TargetError(
                    f"there is no policy and no settings file {name!r}: {_CHOICES}"
                )
            self._files[name] = _policy_of(Path(name))

    def _target(self, name: str, last: str) -> _Target:
        match name:
            case "logged":
                return _Target(name, "what was decided, observed", None)
            case "uniform":
                return _Target(name, "every eligible action alike", _uniform)
            case "latest":
                policy = self._trained(self._log.policy(last))
                about = f"policy {last} with model {policy.model}, frozen"
                return _Target(name, about, policy.distribution, trained=True)
            case "greedy":
                settings = _greedy(self._log.policy(last))
                policy = self._trained(settings, self._log.policy(last))
                about = f"policy {last} with model {policy.model}, without exploration"
                return _Target(name, about, policy.distribution, trained=True)
        if name.startswith(_FIXED):
            return self._fixed(name)
        policy = self._trained(self._files[name])
        about = f"[policy] of {name}, trained on this log to {policy.model} and frozen"
        return _Target(name, about, policy.distribution, trained=True)

    def _fixed(self, name: str) -> _Target:
        offer_id = name.removeprefix(_FIXED)
        if offer_id == _NO_OFFER:
            return _Target(name, "never any offer", _Fixed(""))
        offers = {code.partition("/")[0] for code in self._codes} - {_NO_OFFER}
        if offer_id not in offers:
            there = ", ".join(sorted(offers)) or "none"
            raise TargetError(
                f"no rewarded decision could have chosen offer {offer_id!r};"
                f" there were: {there}"
            )
        about = f"{offer_id} wherever it is eligible, no offer elsewhere"
        return _Target(name, about, _Fixed(offer_id))

    def _trained(
        self, settings: PolicySettings, learner: PolicySettings | None = None
    ) -> Policy:
        """Return a policy that has learned the whole stream, and stays as it is.

        Args:
            settings: The policy.
            learner: The policy whose snapshot to begin from; its own without one.
        """
        log = self._log
        version = (learner or settings).learner_version
        folding = Folding(log, settings, log.epoch, log.snapshot(version, log.epoch))
        start = folding.position
        step = max((log.resolved - start) // 100, 1)
        for position in range(start, log.resolved, step):
            self._watcher("learning", position - start, log.resolved - start)
            folding.advance(position)
        folding.advance(log.resolved)
        return folding.policy(settings)

    # --- What they would have done ------------------------------------------------

    def _ask(
        self,
        targets: Sequence[_Target],
        rows: _Logged,
        predictions: FloatArray | None,
    ) -> list[_Answers]:
        """Ask every target for its distribution on every row."""
        n = len(rows.rewards)
        asked = [_Answers(n) for _ in targets]
        asking = [
            (target.distribution, answers)
            for target, answers in zip(targets, asked, strict=True)
            if target.distribution is not None
        ]
        for row, (decision, _, context, actions) in enumerate(self._rows("asking")):
            chosen = decision.actions.index(decision.chosen)
            logged = np.array(decision.probabilities) / PROBABILITY_UNITS
            expected = None
            if predictions is not None:
                codes = [self._codes[action.name] for action in actions]
                expected = predictions[row, codes]
            for distribution, answers in asking:
                target = distribution(context, actions)
                answers.add(row, chosen, target, logged, expected)
        if predictions is not None:
            taken = predictions[np.arange(n), np.array(rows.chosen)]
            for answers in asked:
                answers.logged_values = taken
        return asked

    def _values(
        self, target: _Target, answers: _Answers, rows: _Logged
    ) -> Iterator[Value]:
        rewards, confidence = np.array(rows.rewards), self._confidence
        if target.distribution is None:
            mean = mean_of(rewards, rows.keys, confidence=confidence)
            yield _value(target.name, "mean", mean, 0.0, self._doubts)
            return
        untried = float(answers.untried.mean())
        weighed = rows_of(
            rewards,
            np.array(rows.propensities),
            answers.target,
            logged_values=answers.logged_values,
            target_values=answers.target_values,
        )
        weights = weighed.weights
        if not weights.any():
            for name in ("ips", "snips", "dr"):
                yield _nothing(target.name, name, len(rewards), confidence, untried)
            return
        # As large as it would be for the rarest action of any logged decision.
        w_max = max(answers.weight_max, float(weights.max()))
        worst = worst_rows(
            weighed,
            weight_max=w_max,
            reward_range=(float(rewards.min()), float(rewards.max())),
        )
        for name in ("ips", "snips", "dr"):
            if name == "dr" and answers.logged_values is None:
                continue
            found = estimate(
                ESTIMATORS[name](weighed),
                rows.keys,
                weights=weights,
                rewards=rewards,
                weight_max=w_max,
                worst=ESTIMATORS[name](worst),
                confidence=confidence,
            )
            yield _value(target.name, name, found, untried, self._doubts)

    def _watch(self, doing: str, done: int, total: int) -> None:
        if done % _WATCH_EVERY == 0 or done >= total:
            self._watcher(doing, done, total)


class _Logged(NamedTuple):
    """The columns of the decisions that have a reward."""

    rewards: list[float]
    propensities: list[float]
    chosen: list[int]
    contexts: list[Features]
    roots: list[str]

    @property
    def keys(self) -> NDArray[np.uint64]:
        """A number for each root, whose rows are no more independent than they are."""
        digests = (blake2b(root.encode(), digest_size=8) for root in self.roots)
        return np.array(
            [int.from_bytes(digest.digest(), "big") for digest in digests],
            dtype=np.uint64,
        )


class _Answers:
    """What a target would have done, row by row.

    Attributes:
        target: Its probability of the logged action.
        untried: Its probability of actions that the log gave none.
        target_values: What the reward model expects of it.
        logged_values: What the reward model expects of the logged action, if there
            is one.
        weight_max: The largest ratio of its probability to the logged one, over
            all eligible actions: rows that were not drawn could have it.
    """

    def __init__(self, n: int) -> None:
        self.target: FloatArray = np.zeros(n)
        self.untried: FloatArray = np.zeros(n)
        self.target_values: FloatArray = np.zeros(n)
        self.logged_values: FloatArray | None = None
        self.weight_max = 0.0

    def add(
        self,
        row: int,
        chosen: int,
        target: FloatArray,
        logged: FloatArray,
        expected: FloatArray | None,
    ) -> None:
        """Note a distribution; sums of roundings may be a little above 1."""
        self.target[row] = min(target[chosen], 1.0)
        tried: NDArray[np.bool_] = logged > 0
        if tried.all():
            largest = (target / logged).max()
        else:
            largest = (target[tried] / logged[tried]).max()
            self.untried[row] = target[~tried].sum()
        self.weight_max = max(self.weight_max, float(largest))
        if expected is not None:
            self.target_values[row] = target @ expected


class _Fixed:
    """One offer wherever it is eligible; its creatives and placements alike."""

    def __init__(self, offer_id: str) -> None:
        self._offer_id = offer_id

    def __call__(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the distribution; no offer, which is the first action, else."""
        del context
        fits = np.array([action.offer_id == self._offer_id for action in actions])
        if not fits.any():
            fits[0] = True
        shares: FloatArray = fits / np.count_nonzero(fits)
        return shares


_CHOICES = (
    "logged, uniform, latest, greedy, fixed:OFFER_ID, fixed:no_offer, or the path of"
    " a settings file with [policy]"
)


def _uniform(context: Features, actions: Sequence[Action]) -> FloatArray:
    del context
    return np.full(len(actions), 1.0 / len(actions))


def _greedy(settings: PolicySettings) -> PolicySettings:
    """Return the settings without anything that is there to explore."""
    learner = settings.learner
    if isinstance(learner, LinUCBSettings):
        learner = msgspec.structs.replace(learner, alpha=0.0)
    return PolicySettings(learner, EpsilonGreedy(epsilon=0.0), settings.salt)


class _File(msgspec.Struct, frozen=True):
    """The part of a settings file that is of use here."""

    policy: PolicySettings


def _policy_of(path: Path) -> PolicySettings:
    try:
        section = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{path}: {error}") from None
    except FileError as error:
        raise TargetError(str(error)) from None
    if "policy" not in section.data:
        raise TargetError(f"{path}: there is no [policy] section to evaluate")
    file = section.convert(_File)
    if file is None or section.problems:
        raise TargetError("\n".join(f"{path}: {p}" for p in section.problems))
    return file.policy


def _value(
    policy: str,
    estimator: str,
    estimate: Estimate,
    untried: float,
    doubts: tuple[str, ...],
) -> Value:
    doubts = (*doubts, *estimate.doubts)
    if untried > UNTRIED_MAX:
        doubts = (*doubts, f"the log never tries {untried:.1%} of what it would do")
    return Value(
        policy=policy,
        estimator=estimator,
        value=estimate.value,
        low=_finite(estimate.low),
        high=_finite(estimate.high),
        confidence=estimate.confidence,
        standard_error=_finite(estimate.standard_error),
        n=estimate.n,
        ess=estimate.ess,
        events=estimate.events,
        weight_max=estimate.weight_max,
        untried=untried,
        reliable=not doubts,
        doubts=doubts,
    )


def _nothing(
    policy: str, estimator: str, n: int, confidence: float, untried: float
) -> Value:
    """Say that a log holds nothing about a policy."""
    return Value(
        policy=policy,
        estimator=estimator,
        value=None,
        low=None,
        high=None,
        confidence=confidence,
        standard_error=None,
        n=n,
        ess=0.0,
        events=0,
        weight_max=None,
        untried=untried,
        reliable=False,
        doubts=("the log never did what this policy does",),
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
