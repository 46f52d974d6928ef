"""Vowpal Wabbit's contextual bandit, over actions that have features."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
from vowpalwabbit import LabelType, Workspace
from vowpalwabbit.pyvw import pylibvw

from policies.learners.base import Beliefs
from policies.learners.bounds import FEATURE_MAX, bounded
from policies.learners.sealing import seal, unseal
from policies.learners.vw_explorers import CbType, VwExplorer
from policies.model import Action, Features, FloatArray

__all__ = ["VowpalWabbit", "VowpalWabbitSettings"]

COST_MAX = 1e6
"""Rewards beyond this many times `reward_scale`, either way, are learned as this.

VW computes in 32 bits: a gradient is squared, and 1e39 is infinite.
"""

_EXAMPLES_MAX = 4_096
_NAMES_MAX = 65_536
_FEATURE_MIN = 1e-9
_LENGTH_BYTES = 8
_CONTEXT = ord("c")
_CONSTANT = "constant"
"""The feature of contexts that VW has itself, and would learn twice as fast."""


class VowpalWabbitSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="vw",
):
    """How Vowpal Wabbit learns."""

    cb_type: CbType = "mtr"
    """What is made of rewards that are known of chosen actions alone.

    `mtr` is one regression on what was chosen, `ips` one on rewards divided by their
    propensity, with 0 for what was not chosen, `dr` one on what another expects, put
    right by `ips`. Without an explorer, `mtr` needs neither propensities nor the other
    actions, and is by far the fastest; `ips` and `dr` learn from both, in a time that
    grows with the number of eligible actions.
    """

    explorer: VwExplorer | None = None
    """Which of Vowpal Wabbit's own explorers it is; none for a regression alone.

    With one, exploration must be of kind `vw_explorer`, so that the explorer's
    distribution is what is drawn from, or be `epsilon_greedy` with an epsilon of 0: the
    best action by a regression that learns beside it. It learns from all eligible
    actions and the logged propensity.
    """

    interactions: tuple[str, ...] = ("ca",)
    """Which products of features are features too: 2 to 4 letters each.

    `c` stands for the features of the context, `a` for the action's name and its
    features. Without `ca` every context would get the same order of actions.
    """

    bits: int = 18
    """Into how many weights, as a power of 2, features are hashed: 10 to 24."""

    learning_rate: float = 0.1
    """How far one reward moves the weights: above 0, to 100.

    Where rewards are rare, replays of real customers earned the most from 0.02 to
    0.2; VW's own default is 0.5.
    """

    power_t: float = 0.5
    """How the steps of a weight shrink with what it has learned: 0 to 1.

    At VW's own 0.5 with the root of the sum of its squared gradients: what is new
    counts less and less. At 0 steps never shrink, so that what is old is forgotten at
    the same pace for ever, which suits rewards that drift; the learning rate should
    then be lower.
    """

    l2: float = 0.0
    """How strongly each reward pulls all weights towards 0: 0 to 1.

    It forgets too: what is not learned again fades.
    """

    reward_scale: float = 1.0
    """A typical reward, in units of reward: 1e-9 to 1e9.

    VW's steps are about as long whatever the reward's unit, so that it learns a
    reward of 1,000 slowly; divided by the scale, rewards should be of the size of 1.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for letters in self.interactions:
            if not re.fullmatch("[ca]{2,4}", letters):
                raise ValueError(
                    f"interactions must be 2 to 4 letters c or a, not {letters!r}"
                )
        if not 10 <= self.bits <= 24:
            raise ValueError(f"bits must be from 10 to 24, not {self.bits}")
        if not 0.0 < self.learning_rate <= 100.0:
            raise ValueError(
                f"learning_rate must be above 0, to 100, not {self.learning_rate}"
            )
        if not 0.0 <= self.power_t <= 1.0:
            raise ValueError(f"power_t must be from 0 to 1, not {self.power_t}")
        if not 0.0 <= self.l2 <= 1.0:
            raise ValueError(f"l2 must be from 0 to 1, not {self.l2}")
        if not 1e-9 <= self.reward_scale <= 1e9:
            raise ValueError(
                f"reward_scale must be from 1e-9 to 1e9, not {self.reward_scale}"
            )
        if self.explorer is not None and self.cb_type not in self.explorer.cb_types:
            kind = self.explorer.__struct_config__.tag
            raise ValueError(
                f"cb_type must be {' or '.join(self.explorer.cb_types)} with the"
                f" explorer {kind}, not {self.cb_type}"
            )

    @property
    def learns_among(self) -> bool:
        """Whether it learns from what was eligible too, not from the chosen alone."""
        return self.explorer is not None or self.cb_type != "mtr"

    @property
    def beside(self) -> VowpalWabbitSettings:
        """The same as a regression alone, which says what actions are to earn."""
        return msgspec.structs.replace(self, explorer=None, cb_type="mtr")

    @property
    def options(self) -> tuple[str, ...]:
        """The command line of a workspace with these settings."""
        interactions = [
            word for i in self.interactions for word in ("--interactions", i)
        ]
        explorer = self.explorer
        kind = (
            ("--cb_adf",)
            if explorer is None
            else ("--cb_explore_adf", *explorer.options(self.reward_scale))
        )
        return (
            *(*kind, "--cb_type", self.cb_type),
            *interactions,
            # Otherwise a name of digits is its own hash, and names collide.
            *("--hash", "all"),
            *("--bit_precision", str(self.bits)),
            *("--learning_rate", repr(float(self.learning_rate))),
            *("--power_t", repr(float(self.power_t))),
            *("--l2", repr(float(self.l2))),
            # What makes a saved and loaded workspace go on as if nothing had been.
            *("--save_resume", "--preserve_performance_counters"),
            # Without it only the first of several regressions does.
            "--per_model_save_load",
            "--quiet",
        )


class VowpalWabbit:
    """Scores actions by one regression over context, action and their products.

    Actions share what they have in common: a new one with known features starts
    from what those have earned elsewhere. A learner may not be used by two threads
    at once, nor may two that share examples, as `previous` makes them; to load one
    while another scores is safe.

    With `cb_type` `mtr` and no explorer, propensities are ignored: VW is told that
    every choice was certain. One regression on what was chosen needs no weights to be
    right where the model is, and with them each rare choice moves the weights so far
    that it learns worse: replaying the Hillstrom experiment, 16 % of customers came
    where without weights 18 % did.

    With an explorer there are two: the explorer, which says the distribution and
    learns as VW's command line does, and beside it the regression that there would be
    without one, by which actions are scored.

    All of it goes on after being saved and loaded as if nothing had been, byte for
    byte. VW saves and loads by file only: `save` and `load` go through a temporary
    one, which is gone when they return.

    Args:
        settings: How it learns.
        snapshot: What a learner with the same settings saved; none to begin anew.
        previous: A learner whose parsed examples to share; they are, where its
            settings lead to the same examples.

    Raises:
        ValueError: If `snapshot` is damaged, or saved under other settings.

    Examples:
        >>> from policies.model import Action
        >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "tea"), (2, "jam")])
        >>> learner = VowpalWabbit(VowpalWabbitSettings())
        >>> context = (("constant", 1.0), ("segment=new", 1.0))
        >>> for _ in range(100):
        ...     learner.learn(context, tea, reward=0.25, propensity=0.5)
        ...     learner.learn(context, jam, reward=0.75, propensity=0.5)
        >>> learner.score(context, [tea, jam]).round(2)
        array([0.25, 0.75])

    References:
        A. Bietti, A. Agarwal and J. Langford. A contextual bandit bake-off. JMLR
        2021, https://arxiv.org/abs/1802.04064. `mtr` is their importance-weighted
        regression, which all weights being 1 makes a plain one.
    """

    def __init__(
        self,
        settings: VowpalWabbitSettings,
        *,
        snapshot: bytes | None = None,
        previous: VowpalWabbit | None = None,
    ) -> None:
        self.settings = settings
        self.learns_among = settings.learns_among
        options = settings.options
        self._kind = " ".join(["vw", *options])
        model, beside = None, None
        if snapshot is not None:
            model = unseal(self._kind, snapshot)
            if settings.explorer is not None:
                model, beside = _parted(model)
        self._workspace = (
            _workspace(options) if model is None else _loaded(options, model)
        )
        self._beside: VowpalWabbit | None = None
        if settings.explorer is not None:
            self._beside = VowpalWabbit(
                settings.beside,
                snapshot=beside,
                previous=previous._beside if previous else None,  # noqa: SLF001
            )
        shared = previous is not None and previous.settings.options == options
        self.examples: _Examples = (
            previous.examples if previous and shared else _Examples(options)
        )

    @classmethod
    def load(
        cls,
        settings: VowpalWabbitSettings,
        blob: bytes,
        *,
        previous: VowpalWabbit | None = None,
    ) -> VowpalWabbit:
        """Return a learner that has learned what the one that saved the blob had.

        Raises:
            ValueError: If the blob is damaged, or saved under other settings.
        """
        return cls(settings, snapshot=blob, previous=previous)

    def save(self) -> bytes:
        """Return all it has learned: the same bytes for the same learning."""
        with TemporaryDirectory(prefix="opportune-") as folder:
            path = Path(folder, "model")
            self._workspace.save(str(path))
            model = path.read_bytes()
        if self._beside is not None:
            model = _joined(model, self._beside.save())
        return seal(self._kind, model)

    def score(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the reward that each action is expected to earn.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: At least one, and each once.

        Returns:
            The negated costs that VW predicts, shape (n_actions,), in units of
            reward, each finite.

        Raises:
            ValueError: If an action is there twice.
        """
        if self._beside is not None:
            return self._beside.score(context, actions)
        costs = self._predict(context, actions)
        costs *= -self.settings.reward_scale
        return costs

    def distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return the probability with which the explorer would choose each action.

        VW computes in 32 bits; what it says is divided by its sum in 64.

        Args:
            context: What is known of user and moment; beyond ±1,000 it is clipped.
            actions: The eligible actions, at least one, and each once.

        Returns:
            Probabilities that sum to 1, shape (n_actions,).

        Raises:
            ValueError: If an action is there twice, if there is no explorer, or if
                what it says is not a distribution.

        Examples:
            >>> from policies.learners.vw_explorers import VwFirst
            >>> from policies.model import Action
            >>> tea, jam = (Action(i, n, "c", "p", ()) for i, n in [(1, "t"), (2, "j")])
            >>> first = VowpalWabbit(VowpalWabbitSettings(explorer=VwFirst(rewards=1)))
            >>> first.distribution((("constant", 1.0),), [tea, jam])
            array([0.5, 0.5])
            >>> first.learn((("constant", 1.0),), jam, reward=1.0, propensity=0.5)
            >>> first.distribution((("constant", 1.0),), [tea, jam])
            array([0., 1.])
        """
        if self.settings.explorer is None:
            raise ValueError("there is no explorer that could say a distribution")
        shares = self._predict(context, actions)
        # In a tie, or by rounding, VW's shares need not sum to 1.
        shares.clip(0.0, None, out=shares)
        shares /= shares.sum()
        if not np.isfinite(shares).all():
            raise ValueError(f"shares must sum to a positive number, not {shares}")
        return shares

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """See `Learner.believe`; how sure it is VW does not say."""
        scores = self.score(context, actions)
        return Beliefs(scores, np.zeros_like(scores))

    def learn(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        propensity: float,
        among: Sequence[Action] = (),
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite; beyond a million times `reward_scale`
                it is learned as that.
            propensity: The probability in (0, 1] with which it was chosen.
            among: What it was chosen from, itself included, each once. Without it,
                or where `learns_among` does not hold, it is learned as if there had
                been no choice, and the propensity is ignored.

        Raises:
            ValueError: If `reward` is not finite, or `action` is not in `among`.
        """
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        cost = -reward / self.settings.reward_scale
        if among and self.learns_among:
            self._learn(context, action, cost, propensity, among)
        else:
            self._learn(context, action, cost, 1.0, (action,))
        if self._beside is not None:
            self._beside.learn(context, action, reward=reward, propensity=propensity)

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
        among: Sequence[Action] = (),
    ) -> None:
        """Learn that what was learned before turned out to be another reward.

        What a step of gradient descent has done cannot be undone exactly. It is made
        up for by one more step, of the length that the difference would have had: the
        action is learned to have earned what it is expected to, and the difference.
        Other rewards that were learned in between pull as much on this step as they
        pulled on the first. Where as much or more is made up for already, nothing is
        learned: many late corrections at once would carry what is expected beyond
        anything that was ever earned. How near that comes is in the explanation of
        Vowpal Wabbit; a rebuild is exact.

        Args:
            context: What was known when the action was chosen.
            action: The chosen action.
            reward: What it earned after all, finite.
            before: What was learned that it earned, finite.
            propensity: The probability in (0, 1] with which it was chosen.
            among: What it was chosen from, as for `learn`.

        Raises:
            ValueError: If a reward is not finite, or `action` is not in `among`.
        """
        for value in (reward, before):
            if not math.isfinite(value):
                raise ValueError(f"reward must be finite, not {value}")
        scale = self.settings.reward_scale
        more = -bounded(reward / scale - before / scale, COST_MAX)
        expected = -float(self.score(context, [action])[0]) / scale
        if more * (-bounded(reward / scale, COST_MAX) - expected) <= 0.0:
            return
        if self.settings.explorer is None and self.settings.cb_type == "ips":
            # What was not chosen was learned to have earned 0, and rightly.
            alone = (action,)
            self._learn(context, action, expected + more / propensity, 1.0, alone)
        elif among and self.learns_among:
            self._learn(context, action, expected + more, propensity, among)
        else:
            self._learn(context, action, expected + more, 1.0, (action,))
        if self._beside is not None:
            self._beside.correct(
                context, action, reward=reward, before=before, propensity=propensity
            )

    def _predict(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        """Return what VW says of each action: costs, or an explorer's shares."""
        lines = self.examples.take(context, actions)
        try:
            self._workspace.predict_multi(lines)
            said = lines[0].get_action_scores()
        finally:
            self.examples.give_back()
        if len(said) != len(actions):
            raise ValueError("an action is there twice")
        return np.array(said)

    def _learn(
        self,
        context: Features,
        action: Action,
        cost: float,
        propensity: float,
        among: Sequence[Action],
    ) -> None:
        try:
            at = among.index(action)
        except ValueError:
            raise ValueError(
                f"{action.name} must be one of the actions it was among"
            ) from None
        label = f"0:{_number(bounded(cost, COST_MAX))}:{_number(propensity)}"
        lines = self.examples.take(context, among, chosen=at, label=label)
        try:
            self._workspace.learn_multi(lines)
        finally:
            self.examples.give_back()


class _Examples:
    """Parses contexts and actions into VW's examples, and keeps those of actions.

    Parsing fifty actions takes many times as long as scoring them, and a parsed
    action is good for any context and any workspace with the same options. So is the
    context's example, whose features are put in anew each time, by the index that VW
    gives their name: that is a fraction of the work of writing and parsing them. Only
    the action that is learned is parsed each time: a label cannot be taken back.

    It parses with a workspace of its own, which never learns and is never saved:
    to finish an example counts it in the workspace that parsed it, and those counts
    are saved, so that otherwise scoring would leave a trace in what was learned.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._workspace = _workspace(options)
        # 32 KB each.
        self._kept: dict[Action, Any] = {}
        self._retired: list[Any] = []
        self._texts: dict[Action, str] = {}
        self._indices: dict[str, int] = {}
        # VW knows a namespace only of an example that was parsed with one.
        self._context = self._parsed("shared |c x")
        self._hash = self._workspace.hash_space("c")

    def take(
        self,
        context: Features,
        actions: Sequence[Action],
        *,
        chosen: int = -1,
        label: str = "",
    ) -> list[Any]:
        """Return the examples to predict on or to learn: the context's, then actions'.

        They are good until they are given back.

        Args:
            context: What is known.
            actions: At least one.
            chosen: Which of them has a label; -1 for none.
            label: That label, as VW writes it.
        """
        self._fill(context)
        kept = self._kept
        lines = [self._context]
        for at, action in enumerate(actions):
            if at == chosen:
                example = self._parsed(f"{label} {self._text(action)}")
                self._retired.append(example)
            else:
                example = kept.get(action) or self._keep(action)
            lines.append(example)
        return lines

    def give_back(self) -> None:
        """Finish the examples of actions that are not kept, or no longer."""
        while self._retired:
            self._workspace.finish_example([self._retired.pop()])

    def _text(self, action: Action) -> str:
        """Return an action without its label, by its name and those it is like.

        A name begins with a sign that the words of features never hold, so that
        no feature can be taken for it.
        """
        text = self._texts.get(action)
        if text is None:
            if len(self._texts) >= _EXAMPLES_MAX:
                self._texts.clear()
            names = " ".join([f"@{_word(n)}" for n in (action.name, *action.like)])
            text = f"|a {names} {_written(action.features)}"
            self._texts[action] = text
        return text

    def _fill(self, context: Features) -> None:
        """Put a context's features into its example, but for its constant."""
        indices = self._indices
        features = [
            (
                indices.get(name) or self._index(name),
                value
                if _FEATURE_MIN < value <= FEATURE_MAX
                or -FEATURE_MAX <= value < -_FEATURE_MIN
                else _tamed(value),
            )
            for name, value in context
            if name != _CONSTANT
        ]
        example = self._context
        example.erase_namespace(_CONTEXT)
        example.push_feature_list(self._workspace, _CONTEXT, self._hash, features)

    def _index(self, name: str) -> int:
        """Return the index that VW gives a name, which is remembered for a while."""
        if len(self._indices) >= _NAMES_MAX:
            self._indices.clear()
        example = self._parsed(f"shared |c {_word(name)}")
        # That of the wrapper is divided by the stride, and not what features are put
        # in by.
        index: int = pylibvw.example.feature(example, _CONTEXT, 0)
        self._workspace.finish_example([example])
        self._indices[name] = index
        return index

    def _keep(self, action: Action) -> Any:
        """Parse an action and keep it, in the place of the oldest if need be.

        The oldest may be part of the very prediction being prepared, so it is
        finished only after that.
        """
        if len(self._kept) >= _EXAMPLES_MAX:
            self._retired.append(self._kept.pop(next(iter(self._kept))))
        example = self._parsed(self._text(action))
        self._kept[action] = example
        return example

    def _parsed(self, line: str) -> Any:
        (example,) = self._workspace.parse(line, LabelType.CONTEXTUAL_BANDIT)
        return example


def _written(features: Features) -> str:
    """Write features in VW's text format."""
    return " ".join(
        _word(name) if value == 1.0 else f"{_word(name)}:{_number(_tamed(value))}"
        for name, value in features
    )


def _word(name: str) -> str:
    """Write a name so that nothing in it can be taken for VW's own signs.

    Names come from callers and hold anything.
    """
    # `quote` leaves no `%` alone, so that this is nobody else's word.
    return quote(name, safe="=/.", errors="surrogatepass") or "%"


def _tamed(value: float) -> float:
    """Return what VW is to read for a value: nothing beyond what it computes with."""
    return bounded(value, FEATURE_MAX) if abs(value) > _FEATURE_MIN else 0.0


def _joined(model: bytes, beside: bytes) -> bytes:
    return len(model).to_bytes(_LENGTH_BYTES, "big") + model + beside


def _parted(both: bytes) -> tuple[bytes, bytes]:
    start = _LENGTH_BYTES + int.from_bytes(both[:_LENGTH_BYTES], "big")
    return both[_LENGTH_BYTES:start], both[start:]


def _number(value: float) -> str:
    """Write a number that VW reads as itself; it reads 1e-200 as not a number."""
    return f"{value:.9g}" if abs(value) > _FEATURE_MIN else "0"


def _loaded(options: Sequence[str], model: bytes) -> Any:
    """Return a workspace that goes on from a saved model."""
    with TemporaryDirectory(prefix="opportune-") as folder:
        path = Path(folder, "model")
        path.write_bytes(model)
        return _workspace([*options, "--initial_regressor", str(path)])


def _workspace(options: Sequence[str]) -> Any:
    """Return a workspace that begins with room for few examples, and makes more.

    By itself it begins with 256, which are 8 MB and most of the time that it takes.
    """
    return Workspace(arg_list=[*options, "--ring_size", "2"])
