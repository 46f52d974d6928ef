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

from policies.learners.base import Beliefs
from policies.learners.bounds import FEATURE_MAX, bounded
from policies.learners.sealing import seal, unseal
from policies.model import Action, Features, FloatArray

__all__ = ["VowpalWabbit", "VowpalWabbitSettings"]

COST_MAX = 1e6
"""Rewards beyond this many times `reward_scale`, either way, are learned as this.

VW computes in 32 bits: a gradient is squared, and 1e39 is infinite.
"""

_EXAMPLES_MAX = 4_096
_NAMES_MAX = 65_536


class VowpalWabbitSettings(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="vw",
):
    """How Vowpal Wabbit learns."""

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

    l2: float = 0.0
    """How strongly each reward pulls all weights towards 0: 0 to 1."""

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
        if not 0.0 <= self.l2 <= 1.0:
            raise ValueError(f"l2 must be from 0 to 1, not {self.l2}")
        if not 1e-9 <= self.reward_scale <= 1e9:
            raise ValueError(
                f"reward_scale must be from 1e-9 to 1e9, not {self.reward_scale}"
            )

    @property
    def options(self) -> tuple[str, ...]:
        """The command line of a workspace with these settings."""
        interactions = [
            word for i in self.interactions for word in ("--interactions", i)
        ]
        return (
            *("--cb_adf", "--cb_type", "mtr"),
            *interactions,
            # Otherwise a name of digits is its own hash, and names collide.
            *("--hash", "all"),
            *("--bit_precision", str(self.bits)),
            *("--learning_rate", repr(float(self.learning_rate))),
            *("--l2", repr(float(self.l2))),
            # What makes a saved and loaded workspace go on as if nothing had been.
            *("--save_resume", "--preserve_performance_counters"),
            "--quiet",
        )


class VowpalWabbit:
    """Scores actions by one regression over context, action and their products.

    Actions share what they have in common: a new one with known features starts
    from what those have earned elsewhere. A learner may not be used by two threads
    at once, nor may two that share examples, as `previous` makes them; to load one
    while another scores is safe.

    Propensities are ignored: VW is told that every choice was certain. One regression
    on what was chosen needs no weights to be right where the model is, and with them
    each rare choice moves the weights so far that it learns worse: replaying the
    Hillstrom experiment, 16 % of customers came where without weights 18 % did.

    VW saves and loads by file only: `save` and `load` go through a temporary one,
    which is gone when they return.

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
        options = settings.options
        self._kind = " ".join(["vw", *options])
        self._workspace = (
            Workspace(arg_list=list(options))
            if snapshot is None
            else _loaded(options, unseal(self._kind, snapshot))
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
            return seal(self._kind, path.read_bytes())

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
        lines = self.examples.take(context, actions)
        try:
            self._workspace.predict_multi(lines)
            costs = lines[0].get_action_scores()
        finally:
            self.examples.give_back(lines[0])
        if len(costs) != len(actions):
            raise ValueError("an action is there twice")
        return np.array(costs) * -self.settings.reward_scale

    def believe(self, context: Features, actions: Sequence[Action]) -> Beliefs:
        """See `Learner.believe`; how sure it is VW does not say."""
        scores = self.score(context, actions)
        return Beliefs(scores, np.zeros_like(scores))

    def correct(
        self,
        context: Features,
        action: Action,
        *,
        reward: float,
        before: float,
        propensity: float,
    ) -> None:
        """Learn nothing: what VW has learned cannot be taken back."""
        del context, action, reward, before, propensity

    def learn(
        self, context: Features, action: Action, *, reward: float, propensity: float
    ) -> None:
        """Learn that the action, once chosen, earned this reward.

        Args:
            context: What was known when it was chosen.
            action: The chosen action.
            reward: What it earned, finite; beyond a million times `reward_scale`
                it is learned as that.
            propensity: Ignored, as the class says.

        Raises:
            ValueError: If `reward` is not finite.
        """
        del propensity
        if not math.isfinite(reward):
            raise ValueError(f"reward must be finite, not {reward}")
        cost = bounded(-reward / self.settings.reward_scale, COST_MAX)
        lines = self._workspace.parse(
            [
                self.examples.context_line(context),
                self.examples.line(action, f"0:{_number(cost)}:1"),
            ]
        )
        self._workspace.learn(lines)
        self._workspace.finish_example(lines)


class _Examples:
    """Parses contexts and actions into VW's examples, and keeps those of actions.

    Parsing fifty actions takes many times as long as scoring them, and a parsed
    action is good for any context and any workspace with the same options.

    It parses with a workspace of its own, which never learns and is never saved:
    to finish an example counts it in the workspace that parsed it, and those counts
    are saved, so that otherwise scoring would leave a trace in what was learned.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._workspace = Workspace(arg_list=list(options))
        # 32 KB each.
        self._kept: dict[Action, list[Any]] = {}
        self._retired: list[list[Any]] = []
        self._words: dict[str, str] = {}

    def take(self, context: Features, actions: Sequence[Action]) -> list[Any]:
        """Return the examples to predict on: the context's, then the actions'."""
        line = self.context_line(context)
        lines = self._workspace.parse(line, LabelType.CONTEXTUAL_BANDIT)
        kept = self._kept
        for action in actions:
            lines += kept.get(action) or self._keep(action)
        return list(lines)

    def give_back(self, context: Any) -> None:
        """Finish the context's example, and those of actions no longer kept."""
        self._workspace.finish_example([context])
        while self._retired:
            self._workspace.finish_example(self._retired.pop())

    def context_line(self, context: Features) -> str:
        """Return a context as a line of VW's text format."""
        return f"shared |c {self._text(context)}"

    def line(self, action: Action, label: str = "") -> str:
        """Return an action as a line of VW's text format.

        Its name begins with a sign that the words of features never hold, so that
        no feature can be taken for it.
        """
        return f"{label} |a @{self._word(action.name)} {self._text(action.features)}"

    def _keep(self, action: Action) -> list[Any]:
        """Parse an action and keep it, in the place of the oldest if need be.

        The oldest may be part of the very prediction being prepared, so it is
        finished only after that.
        """
        if len(self._kept) >= _EXAMPLES_MAX:
            self._retired.append(self._kept.pop(next(iter(self._kept))))
        example: list[Any] = self._workspace.parse(self.line(action))
        self._kept[action] = example
        return example

    def _text(self, features: Features) -> str:
        word = self._word
        return " ".join(
            word(name)
            if value == 1.0
            else f"{word(name)}:{_number(bounded(value, FEATURE_MAX))}"
            for name, value in features
        )

    def _word(self, name: str) -> str:
        """Write a name so that nothing in it can be taken for VW's own signs.

        Names come from callers, hold anything, and are remembered for a while.
        """
        word = self._words.get(name)
        if word is None:
            if len(self._words) >= _NAMES_MAX:
                self._words.clear()
            # `quote` leaves no `%` alone, so that this is nobody else's word.
            word = quote(name, safe="=/.", errors="surrogatepass") or "%"
            self._words[name] = word
        return word


def _number(value: float) -> str:
    """Write a number that VW reads as itself; it reads 1e-200 as not a number."""
    return f"{value:.9g}" if abs(value) > 1e-9 else "0"


def _loaded(options: Sequence[str], model: bytes) -> Any:
    """Return a workspace that goes on from a saved model."""
    with TemporaryDirectory(prefix="opportune-") as folder:
        path = Path(folder, "model")
        path.write_bytes(model)
        return Workspace(arg_list=[*options, "--initial_regressor", str(path)])
