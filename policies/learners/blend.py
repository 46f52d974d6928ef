"""Three models of reward, of which the better predicting counts the more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.learners.amends import ACCOUNT, amend, overlap, within
from policies.learners.base import Beliefs
from policies.learners.bounds import bounded
from policies.learners.regressions import Regressions, RegressionsState
from policies.learners.ridge import products
from policies.learners.sealing import seal, unseal
from policies.learners.waves import Contexts, Descriptions, Seen, action_number
from policies.model import Action, Features, FloatArray

__all__ = ["Blend", "BlendSettings"]

REWARD_MAX = 1e9
"""Rewards beyond this, either way, are learned as this."""

_BLOCK = 64
_FADE = 0.998
_NOISE_FADE = 0.9995
_DOUBT = 20.0
_APART = 0.1
_SURPRISE_MAX = 9.0
_SURPRISE_USUAL = 2.0
_SURPRISES = 60.0
_STEADY = 500.0
_PATIENCE = 100
_OUTLYING = 10.0
_NEGLIGIBLE = 1e-12
_HEAD_START = 4.0
"""What the exact model has to make up for, in nats, because it shares nothing."""
_TRUST = 0.5
"""How much less the exact model counts, by its variance at a context."""

_SURER = 0.3
"""The exact model's bound in those of the others: it knows what goes together."""
_UNKNOWN = 0

FloatArray32 = NDArray[np.float32]


class BlendSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="blend",
):
    """How a wide, a curved and an exact model are learned together.

    Nothing here has to be set: the defaults are the ones of the default policy.
    """

    waves: int = 128
    """How many waves the curved model is made of: 64 to 1,024, a multiple of 64.

    The more, the finer the differences between contexts that it can tell. Time and
    memory grow in proportion: an action takes 33 KB at 128, beside the 17 KB of its
    exact model.
    """

    bits: int = 18
    """Into how many weights, as a power of 2, the wide models are hashed: 10 to 24.

    More than there are actions times features. The memory is 24 bytes a weight,
    what is saved grows with the weights that were learned.
    """

    curved_actions: int = 256
    """How many actions have a curved and an exact model: 1 to 30,000.

    Beyond it, the action that was not learned from for the longest loses its own.
    """

    alpha: float = 1.0
    """The width of the bound in standard deviations: 0 to 1,000; 0 is no optimism."""

    reward_scale: float = 1.0
    """A typical reward, in units of reward: 1e-9 to 1e9.

    It is what rewards are believed to vary by until enough of them were seen: until
    20 have differed from the first by a tenth of it.
    """

    forgetting: float = 0.02
    """How much becomes unsure again when rewards are no longer as they were: 0 to 1.

    0 is never to forget; 1 is to trust nothing that was learned before.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 64 <= self.waves <= 1024 or self.waves % _BLOCK:
            raise ValueError(
                f"waves must be from 64 to 1024, a multiple of 64, not {self.waves}"
            )
        if not 10 <= self.bits <= 24:
            raise ValueError(f"bits must be from 10 to 24, not {self.bits}")
        if not 1 <= self.curved_actions <= 30_000:
            raise ValueError(
                f"curved_actions must be from 1 to 30000, not {self.curved_actions}"
            )
        if not 0.0 <= self.alpha <= 1e3:
            raise ValueError(f"alpha must be from 0 to 1000, not {self.alpha}")
        if not 1e-9 <= self.reward_scale <= 1e9:
            raise ValueError(
                f"reward_scale must be from 1e-9 to 1e9, not {self.reward_scale}"
            )
        if not 0.0 <= self.forgetting <= 1.0:
            raise ValueError(f"forgetting must be from 0 to 1, not {self.forgetting}")


_Each = tuple[float, float, float]
"""A number of each model: the wide, the curved and the exact one."""


class _Track(msgspec.Struct, array_like=True):
    """How well the models have predicted, and what rewards are like.

    The first of three is the wide model's, then the curved and the exact one's.
    """

    losses: _Each = (0.0, 0.0, 0.0)
    noises: _Each = (0.0, 0.0, 0.0)
    count: float = 0.0
    first: float | None = None
    others: int = 0
    usual: float = 0.0
    learned: int = 0
    surprise: float = 0.0
    forgotten: int = 0
    low: float = 0.0
    high: float = 0.0


class _State(msgspec.Struct, array_like=True):
    """What is saved; arrays as bytes, least significant first."""

    track: _Track
    contexts: Any
    at: bytes
    linear: bytes
    blended: bytes
    variance: bytes
    names: list[str]
    latest: list[int]
    theta: bytes
    precision: bytes
    covariance: bytes
    regressions: RegressionsState
    straight: list[str] = []
    accounts: bytes = b""


class _Asked(NamedTuple):
    """Actions as numbers.

    Attributes:
        actions: Which.
        numbers: A hash of the name of each and of each slot that any of them uses,
            shape (n_actions + n_slots, 1).
        slots: What each action has in those slots, for the three kinds of weights:
            twice as it is, and then squared, shape (3, n_actions, n_slots).
        rows: The row of the curved model of each.
    """

    actions: tuple[Action, ...]
    numbers: NDArray[np.intp]
    slots: FloatArray
    rows: NDArray[np.intp]


_NOBODY = _Asked(
    (), np.zeros((0, 1), np.intp), np.zeros((3, 0, 0)), np.zeros(0, np.intp)
)


class _Step(NamedTuple):
    """What one reward would change.

    Attributes:
        at: Which hashed weights are concerned, shape (n_concerned,).
        weights: What they are, for the three kinds, shape (3, n_concerned).
        gain: How far one unit of error moves each, before it is divided.
        spread: The variance of the wide model there, in units of the noise's.
        curved_gain: The same for the weights of the waves, shape (blocks, 64).
        curved_spreads: The same by block, shape (blocks,).
        means: What the wide model predicts, and the curved one.
    """

    at: NDArray[np.intp]
    weights: FloatArray
    gain: FloatArray
    spread: float
    curved_gain: FloatArray32
    curved_spreads: FloatArray32
    means: tuple[float, float]


class Blend:
    """Scores actions by three models at once, each as far as it has proven itself.

    The wide model has a weight for each feature of the context with each action, and
    one for each feature of the context with each feature of an action: a new offer
    starts from what others like it have earned. Its weights are hashed, so that
    contexts may hold any number of words, and taken to be independent.

    The curved model has the same weights, learned apart, and for each action a
    regression on random waves over the context: what it adds need not be a straight
    line.

    The exact model is a ridge regression for each action on the first 63 features that
    were seen, with all covariances: where accepts are rare and features overlap, it
    averages where the others follow the latest rewards. It shares nothing between
    actions, so that it starts 4 nats behind; and where it knows little of an action at
    a context, the wide model has its say there.

    What is expected is the mean of all, weighted by the exponential of their squared
    errors on the rewards of late, in units of the noise; all predict each reward before
    they learn it. Only the chosen action's reward is known, and that suffices: to
    compare predictions of the same number needs no propensities.

    The noise is learned, so that rewards may be of any size. Where accepts are rare,
    the first rewards vary by nothing, and would seem certain: until 20 have differed
    from the first by a tenth of `reward_scale`, a belief in noise of that size counts
    as much as 20 rewards, and ever less.

    Rewards that suddenly are no longer what was expected make what was learned
    before unsure again, as far as `forgetting` says.

    Propensities are ignored, as by `linucb`, for the same reason.

    A correction moves the weights by what the difference would have moved them, but
    all corrections of an action together by no more than their mean over all of its
    rewards, and no prediction out of the range of rewards, that of the correction
    among them. That is near, and not equal, to having learned the right reward at once.
    How well the models were seen to predict is not corrected. Of an action that has
    lost its curved and exact model, the wide weights are corrected alone.

    A reward ten times as far from 0 as any before, once a hundred were learned, is
    learned as ten times the largest: one mistake does not undo all that was learned,
    and what stays larger is learned in a few steps.

    Examples:
        >>> from policies.model import Action
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> learner = Blend(BlendSettings())
        >>> for hour in [*range(24)] * 9:
        ...     context = (("constant", 1.0), ("hour", hour / 24))
        ...     learner.learn(
        ...         context, tea, reward=float(6 <= hour < 18), propensity=0.5
        ...     )
        ...     learner.learn(context, jam, reward=0.5, propensity=0.5)
        >>> for hour in (0, 12):
        ...     context = (("constant", 1.0), ("hour", hour / 24))
        ...     tea_earns, jam_earns = learner.believe(context, [tea, jam]).mean
        ...     print(hour, bool(tea_earns > jam_earns))
        0 False
        12 True

    References:
        A. Rahimi and B. Recht. Random features for large-scale kernel machines. NIPS
        2007. The waves: their inner products are about a Gaussian kernel.

        G. V. Puskorius and L. A. Feldkamp. Neurocontrol of nonlinear dynamical
        systems with Kalman filter trained recurrent networks. IEEE Transactions on
        Neural Networks 1994. That covariances between groups of weights are left out,
        as here between those of the linear part and blocks of 64 waves.
    """

    def __init__(self, settings: BlendSettings) -> None:
        self.settings = settings
        size = 1 << settings.bits
        self._blocks = settings.waves // _BLOCK
        self._mask = size - 1
        # The wide weights alone, those with the waves, and the variance of both.
        self._weights: FloatArray = np.zeros((3, size))
        self._linear, self._blended, self._variance = self._weights
        self._variance[:] = 1.0
        self._track = _Track()
        self._contexts = Contexts(settings.waves, _BLOCK)
        self._descriptions = Descriptions()
        # Row 0 is the prior: that of every action without a curved model.
        self._row_of: dict[str, int] = {}
        self._latest: list[int] = []
        # Those that were learned from, and lost their curved model.
        self._straight: dict[str, None] = {}
        self._asked = _NOBODY
        self._regressions = Regressions()
        self._grow(8)

    @classmethod
    def load(
        cls, settings: BlendSettings, blob: bytes, previous: Blend | None = None
    ) -> Self:
        """Return a learner that has learned what the one that saved the blob had.

        Args:
            settings: Those of the learner that saved it.
            blob: What was saved.
            previous: The learner that this one replaces; what it found out of names
                and actions, whatever was learned of them, is used again.

        Raises:
            ValueError: If the blob is damaged, or the settings that shape what is
                learned were others.
        """
        learner = cls(settings)
        if previous is not None:
            learner._share_names(previous)
        state = msgspec.msgpack.decode(unseal(learner._kind, blob), type=_State)
        learner._track = state.track
        learner._contexts.load(state.contexts)
        at = np.frombuffer(state.at, "<u4").astype(np.intp)
        learner._linear[at] = np.frombuffer(state.linear, "<f8")
        learner._blended[at] = np.frombuffer(state.blended, "<f8")
        learner._variance[at] = np.frombuffer(state.variance, "<f8")
        learner._row_of = {name: row for row, name in enumerate(state.names, 1)}
        learner._latest = state.latest
        learner._straight = dict.fromkeys(state.straight)
        rows = slice(1, len(state.names) + 1)
        learner._grow(len(state.names) + 2)
        shape = learner._covariance[rows].shape
        learner._theta[rows] = _read(state.theta).reshape(-1, settings.waves)
        learner._precision[rows] = _read(state.precision).reshape(-1, settings.waves)
        learner._spread[rows] = 1.0 / learner._precision[rows]
        learner._covariance[rows] = _read(state.covariance).reshape(shape)
        if state.accounts:
            accounts = np.frombuffer(state.accounts, "<f8")
            learner._accounts[rows] = accounts.reshape(-1, ACCOUNT)
        learner._regressions.load(
            state.regressions, len(state.names), learner._contexts.width
        )
        return learner

    def _share_names(self, other: Blend) -> None:
        self._descriptions = other._descriptions
        self._contexts.share(other._contexts)

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        at = np.flatnonzero((self._variance != 1.0) | (self._linear != 0.0))
        rows = slice(1, len(self._row_of) + 1)
        state = _State(
            track=self._track,
            contexts=self._contexts.save(),
            at=at.astype("<u4").tobytes(),
            linear=self._linear[at].astype("<f8").tobytes(),
            blended=self._blended[at].astype("<f8").tobytes(),
            variance=self._variance[at].astype("<f8").tobytes(),
            names=list(self._row_of),
            latest=self._latest,
            theta=self._theta[rows].astype("<f4").tobytes(),
            precision=self._precision[rows].astype("<f4").tobytes(),
            covariance=self._covariance[rows].astype("<f4").tobytes(),
            straight=list(self._straight),
            accounts=self._accounts[rows].astype("<f8").tobytes(),
            regressions=self._regressions.save(len(self._row_of), self._contexts.width),
        )
        return seal(self._kind, msgspec.msgpack.encode(state))

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the upper confidence bound of each action's reward.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.

        Returns:
            The bounds, shape (n_actions,), in units of reward.
        """
        mean, deviation = self.believe(context, actions)
        bounds: FloatArray = mean + self.settings.alpha * deviation
        return bounds

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """Return the estimate of each action's reward, and its standard deviation.

        The deviation is that of weights taken to be independent of each other, but for
        the exact model's, which knows their covariances, and counts 0.3.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one.
        """
        seen = self._contexts.of(context)
        asked = self._ask(actions)
        wide, curved, exact = self._shares()
        noises = self._noises()
        mean: FloatArray = np.zeros(len(actions))
        deviation: FloatArray = np.zeros(len(actions))
        others: FloatArray | float = wide
        if exact:
            line, variance = self._regressions.believe(asked.rows, seen.places)
            known = exact / (1.0 + _TRUST * variance)
            others = wide + exact - known
            mean += known * line
            deviation += known * np.sqrt(variance * noises[2]) * _SURER
        lines, blended, variance = self._lines(asked, seen)
        mean += others * lines
        deviation += others * np.sqrt(variance * noises[0])
        if curved:
            blended += products(self._theta.take(asked.rows, axis=0), seen.waves)
            squares = seen.waves * seen.waves
            variance += products(self._spread.take(asked.rows, axis=0), squares)
            mean += curved * blended
            deviation += curved * np.sqrt(variance * noises[1])
        return Beliefs(mean, deviation)

    def _lines(self, asked: _Asked, seen: Seen) -> FloatArray:
        """Return what the linear part of either model expects, and its variance.

        Shape (3, n_actions).
        """
        at = asked.numbers + seen.numbers
        at &= self._mask
        factors = np.array((seen.x, seen.x, seen.x * seen.x))[:, np.newaxis]
        found = np.vecdot(self._weights.take(at, axis=1), factors)
        count = len(asked.actions)
        lines: FloatArray = found[:, :count]
        if found.shape[1] > count:
            lines += np.vecdot(asked.slots, found[:, np.newaxis, count:])
        return lines

    def _ask(self, actions: Sequence[Action]) -> _Asked:
        """Return the actions as numbers; who asks for the same again has them."""
        asked, latest = tuple(actions), self._asked
        if asked != latest.actions:
            described = [self._descriptions.of(action) for action in asked]
            slots = np.array([d.slots for d in described])
            used = np.flatnonzero(slots.any(axis=0))
            slots = slots[:, used]
            own = [d.number for d in described]
            shared = self._descriptions.numbers[used]
            row_of = self._row_of
            rows = [row_of.get(action.name, _UNKNOWN) for action in asked]
            for place, action in enumerate(asked):
                if action.like:
                    name = self._known_as(action)
                    own[place] = action_number(name)
                    rows[place] = row_of.get(name, _UNKNOWN)
            latest = self._asked = _Asked(
                asked,
                np.concatenate([np.array(own), shared])[:, np.newaxis],
                np.array([slots, slots, slots * slots]),
                np.array(rows),
            )
        return latest

    def _known_as(self, action: Action) -> str:
        """Return the name under which what is known of an action was learned.

        It is its own, or that of the first action like it that anything was learned of.
        """
        if action.like and not self._has_learned(action.name):
            for name in action.like:
                if self._has_learned(name):
                    return name
        return action.name

    def _has_learned(self, name: str) -> bool:
        return name in self._row_of or name in self._straight

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite; beyond ±1e9, or ten times the largest so
                far, it is learned as that.
            propensity: Ignored, as the class says.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del propensity
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        reward = bounded(reward, self._reward_max())
        seen = self._contexts.of(context)
        row = self._row_for(action)
        step = self._step(seen, action, row)
        exact = self._regressions.step(row, seen.places)
        errors = reward - step.means[0], reward - step.means[1], reward - exact.mean
        scales = (
            1.0 + step.spread,
            1.0 + step.spread + float(step.curved_spreads.sum()),
            1.0 + exact.spread,
        )
        step.weights[2] -= step.gain * step.gain / scales[0]
        self._move(step, row, errors[0] / scales[0], errors[1] / scales[1])
        u = step.curved_gain
        shrunk = u / (1.0 + step.curved_spreads)[:, np.newaxis]
        self._covariance[row] -= u[:, :, np.newaxis] * shrunk[:, np.newaxis]
        precision = self._precision[row]
        precision += seen.waves * seen.waves
        np.divide(1.0, precision, self._spread[row])
        self._accounts[row, 0] += 1.0
        self._regressions.move(row, exact, errors[2] / scales[2])
        self._regressions.shrink(row, exact)
        self._judge(reward, errors, scales)
        self._contexts.learn(context)

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
    ) -> None:
        """Learn that what was learned before turned out to be another reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite; beyond ±1e9 it is learned as that.
            before: What was learned that it earned.
            propensity: Ignored, as the class says.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del propensity
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        track = self._track
        reward = bounded(reward, self._reward_max())
        by = reward - min(max(before, track.low), track.high)
        if not by:
            return
        row = self._row_of.get(action.name, _UNKNOWN)
        seen = self._contexts.of(context)
        step = self._step(seen, action, row)
        spreads = step.spread, step.spread + float(step.curved_spreads.sum())
        scales = 1.0 + spreads[0], 1.0 + spreads[1]
        variances = step.weights[2].reshape(-1, len(seen.x))
        times = overlap(seen, variances)
        account = self._accounts[row] if row else np.zeros(ACCOUNT)
        parts = amend(
            account,
            by,
            rate=variances.item(0),
            overlaps=(times, times + self._blocks),
            scales=scales,
        )
        track.low, track.high = min(track.low, reward), max(track.high, reward)
        edge = track.low if by < 0.0 else track.high
        linear, curved = (
            within(part * by / scale, spread, edge - mean)
            for part, scale, spread, mean in zip(
                parts, scales, spreads, step.means, strict=True
            )
        )
        self._move(step, row, linear, curved)
        if row:
            self._latest[row - 1] = track.learned
            exact = self._regressions.step(row, seen.places)
            by = within(by, exact.spread, edge - exact.mean)
            self._regressions.move(row, exact, by)

    @property
    def _kind(self) -> str:
        """What must not change between saving and loading."""
        settings = self.settings
        return (
            f"blend of three waves={settings.waves} bits={settings.bits}"
            f" curved_actions={settings.curved_actions}"
            f" reward_scale={float(settings.reward_scale)!r}"
            f" forgetting={float(settings.forgetting)!r}"
        )

    def _step(self, seen: Seen, action: Action, row: int) -> _Step:
        """Return what learning one reward would move, and how far."""
        described = self._descriptions.of(action)
        at = (described.numbers + seen.numbers).ravel()
        at &= self._mask
        x = (described.factors * seen.x).ravel()
        weights = self._weights.take(at, axis=1)
        gain = weights[2] * x
        waves = seen.waves.reshape(self._blocks, _BLOCK)
        curved_gain = np.vecdot(self._covariance[row], waves[:, np.newaxis])
        return _Step(
            at,
            weights,
            gain,
            float(gain.dot(x)),
            curved_gain,
            # Rounding may leave a tiny negative.
            np.maximum(np.vecdot(curved_gain, waves), 0.0),
            (
                float(weights[0].dot(x)),
                float(weights[1].dot(x)) + float(self._theta[row].dot(seen.waves)),
            ),
        )

    def _move(self, step: _Step, row: int, linear: float, curved: float) -> None:
        """Move the weights by their gains times a number for either model.

        An action without a row has hashed weights alone.
        """
        step.weights[0] += step.gain * linear
        step.weights[1] += step.gain * curved
        self._weights[:, step.at] = step.weights
        if row:
            theta = self._theta[row]
            theta += step.curved_gain.ravel() * np.float32(curved)

    def _reward_max(self) -> float:
        """Return beyond what a reward, either way, is learned as this."""
        track = self._track
        if track.learned <= _PATIENCE:
            return REWARD_MAX
        usual = max(-track.low, track.high, self.settings.reward_scale)
        return min(_OUTLYING * usual, REWARD_MAX)

    def _noises(self) -> _Each:
        """Return the variance of rewards around what each model predicts."""
        track = self._track
        doubt = _DOUBT * max(0.0, 1.0 - track.others / _DOUBT)
        count = doubt + track.count
        if not count:
            return 0.0, 0.0, 0.0
        believed = doubt * self.settings.reward_scale**2
        wide, curved, exact = track.noises
        return (
            (believed + wide) / count,
            (believed + curved) / count,
            (believed + exact) / count,
        )

    def _shares(self) -> _Each:
        """Return how much each model counts: they sum to 1, or to a little less."""
        noise = 2.0 * min(self._noises())
        if not noise:
            return 0.5, 0.5, 0.0
        wide, curved, exact = (loss / noise for loss in self._track.losses)
        exact += _HEAD_START
        least = min(wide, curved, exact)
        wide, curved, exact = (math.exp(least - x) for x in (wide, curved, exact))
        total = wide + curved + exact
        return _share(wide / total), _share(curved / total), _share(exact / total)

    def _judge(self, reward: float, errors: _Each, scales: _Each) -> None:
        """Remember how far each model was off, and forget where that is new."""
        track = self._track
        shares = self._shares()
        wide, curved, exact = (error * error for error in errors)
        noise = wide / scales[0], curved / scales[1], exact / scales[2]
        losses, noises = track.losses, track.noises
        track.losses = (
            _FADE * losses[0] + wide,
            _FADE * losses[1] + curved,
            _FADE * losses[2] + exact,
        )
        track.noises = (
            _NOISE_FADE * noises[0] + noise[0],
            _NOISE_FADE * noises[1] + noise[1],
            _NOISE_FADE * noises[2] + noise[2],
        )
        track.count = _NOISE_FADE * track.count + 1.0
        if track.first is None:
            track.first = track.low = track.high = reward
        track.low, track.high = min(track.low, reward), max(track.high, reward)
        apart = abs(reward - track.first)
        track.others += apart > _APART * self.settings.reward_scale
        track.learned += 1
        off = sum(share * part for share, part in zip(shares, noise, strict=True))
        track.usual += (off - track.usual) / min(float(track.learned), _STEADY)
        if not self.settings.forgetting or not track.usual:
            return
        surprise = min(off / track.usual, _SURPRISE_MAX) - _SURPRISE_USUAL
        track.surprise = max(0.0, track.surprise + surprise)
        if track.surprise > _SURPRISES and track.learned > _PATIENCE:
            self._forget()

    def _forget(self) -> None:
        """Make what was learned unsure again, and begin to judge anew."""
        by = self.settings.forgetting
        at = np.flatnonzero(self._variance != 1.0)
        self._variance[at] += by * (1.0 - self._variance[at])
        rows = slice(1, len(self._row_of) + 1)
        places = np.arange(_BLOCK)
        diagonal = self._covariance[rows, :, places, places]
        self._covariance[rows, :, places, places] = diagonal + np.float32(by) * (
            1.0 - diagonal
        )
        spread = self._spread[rows]
        self._precision[rows] = 1.0 / (spread + np.float32(by) * (1.0 - spread))
        self._spread[rows] = 1.0 / self._precision[rows]
        counts = self._accounts[rows, 0]
        np.minimum(counts, 1.0 / by, out=counts)
        self._regressions.forget(by)
        track = self._track
        track.surprise = 0.0
        track.forgotten += 1
        if track.count > 50.0:
            kept = 50.0 / track.count
            wide, curved, exact = track.noises
            track.noises = wide * kept, curved * kept, exact * kept
            track.count = 50.0

    def _row_for(self, action: Action) -> int:
        """Return the row of an action, which begins with what it is like."""
        name = self._known_as(action)
        if name == action.name:
            return self._row(name)
        doubt = action.doubt
        self._copy_lines(action_number(name), action_number(action.name), doubt)
        source = self._row_of.get(name, _UNKNOWN)
        theta, spread = self._theta[source].copy(), self._spread[source].copy()
        covariance = self._covariance[source].copy()
        exact = self._regressions.learned(source)
        row = self._row(action.name)
        if source != _UNKNOWN:
            self._regressions.begin(row, exact, doubt)
            part = np.float32(doubt)
            self._theta[row] = theta
            self._precision[row] = 1.0 / (spread + part * (1.0 - spread))
            self._spread[row] = 1.0 / self._precision[row]
            prior = np.eye(_BLOCK, dtype=np.float32)
            self._covariance[row] = covariance + part * (prior - covariance)
        return row

    def _copy_lines(self, source: int, target: int, doubt: float) -> None:
        """Let hashed weights begin with those of another; none that is in use does."""
        numbers = self._contexts.numbers()
        old, new = (source + numbers) & self._mask, (target + numbers) & self._mask
        variance = self._weights[2]
        fresh = (variance[new] == 1.0) & (variance[old] != 1.0)
        old, new = old[fresh], new[fresh]
        self._weights[:2, new] = self._weights[:2, old]
        variance[new] = variance[old] + doubt * (1.0 - variance[old])

    def _row(self, name: str) -> int:
        """Return the row of an action's curved model, a new one if need be."""
        row = self._row_of.get(name)
        if row is None:
            row = self._new_row(name)
        self._latest[row - 1] = self._track.learned
        return row

    def _new_row(self, name: str) -> int:
        """Give an action a curved model that has learned nothing."""
        self._asked = _NOBODY
        row = len(self._row_of) + 1
        if row > self.settings.curved_actions:
            row = self._latest.index(min(self._latest)) + 1
            names = list(self._row_of)
            self._straight[names[row - 1]] = None
            names[row - 1] = name
            self._row_of = {name: at for at, name in enumerate(names, 1)}
        else:
            if row == len(self._theta):
                self._grow(2 * row)
            self._row_of[name] = row
            self._latest.append(0)
        self._straight.pop(name, None)
        self._theta[row] = 0.0
        self._precision[row] = self._spread[row] = 1.0
        self._covariance[row] = np.eye(_BLOCK)
        self._accounts[row] = 0.0
        self._regressions.clear(row)
        return row

    def _grow(self, size: int) -> None:
        """Make room for so many rows."""
        waves, blocks = self.settings.waves, self._blocks
        old = len(self._row_of) + 1 if hasattr(self, "_theta") else 0
        theta = np.zeros((size, waves), np.float32)
        precision = np.ones((size, waves), np.float32)
        spread = np.ones((size, waves), np.float32)
        covariance = np.zeros((size, blocks, _BLOCK, _BLOCK), np.float32)
        accounts = np.zeros((size, ACCOUNT))
        if old:
            old = min(old, len(self._theta))
            theta[:old] = self._theta[:old]
            precision[:old] = self._precision[:old]
            spread[:old] = self._spread[:old]
            covariance[:old] = self._covariance[:old]
            accounts[:old] = self._accounts[:old]
        self._theta: FloatArray32 = theta
        self._precision: FloatArray32 = precision
        self._spread: FloatArray32 = spread
        self._covariance: FloatArray32 = covariance
        self._accounts: FloatArray = accounts
        self._regressions.grow(size)


def _share(share: float) -> float:
    return 0.0 if share < _NEGLIGIBLE else share


def _read(saved: bytes) -> FloatArray32:
    return np.frombuffer(saved, "<f4").astype(np.float32)
