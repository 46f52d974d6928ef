"""Policies of other libraries, so that they can be measured beside ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from vowpalwabbit import Workspace

from policies.model import Action, Features, FloatArray
from policies.policy import Policy, PolicySettings

__all__ = ["RIVALS", "Chooser", "Ours"]


class Chooser(Protocol):
    """What is measured: it chooses with a known probability, and learns from it."""

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """Return which action is chosen, and with what probability.

        Args:
            context: What is known.
            actions: What there is.
            uniform: A random number from 0 to 1, for those that draw by it.
        """
        ...

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """Learn what the chosen action earned."""
        ...


class Ours:
    """One of our policies, as it decides behind the server."""

    def __init__(self, settings: PolicySettings) -> None:
        self.policy = Policy(settings)

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`."""
        probabilities = self.policy.distribution(context, actions)
        return _draw(probabilities, uniform)

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`."""
        self.policy.learn(
            context, actions[chosen], reward=reward, propensity=propensity
        )


class Explorer:
    """An explorer of Vowpal Wabbit's, on actions that have features.

    Args:
        options: Its command line. Each feature of the context is crossed with each
            of the action's; nothing else is tuned.
    """

    def __init__(self, options: str) -> None:
        common = "--cb_explore_adf --interactions ca --hash all -b 20 --quiet"
        self._workspace = Workspace(arg_list=[*common.split(), *options.split()])

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`."""
        lines = self._workspace.parse(self._text(context, actions))
        self._workspace.predict_multi(lines)
        scores = np.maximum(lines[0].get_action_scores(), 0.0)
        self._workspace.finish_example(lines)
        return _draw(scores / scores.sum(), uniform)

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`; the cost is the negated reward."""
        label = f"0:{-reward}:{propensity} "
        lines = self._workspace.parse(self._text(context, actions, chosen, label))
        self._workspace.learn(lines)
        self._workspace.finish_example(lines)

    @staticmethod
    def _text(
        context: Features, actions: Sequence[Action], chosen: int = -1, label: str = ""
    ) -> list[str]:
        # VW has a constant of its own.
        shared = _words(feature for feature in context if feature[0] != "constant")
        return [
            f"shared |c {shared}",
            *(
                f"{label if at == chosen else ''}"
                f"|a @{quote(action.name)} {_words(action.features)}"
                for at, action in enumerate(actions)
            ),
        ]


class Gittins:
    """The PyPI package gittins, as it comes."""

    def __init__(self) -> None:
        self._library = importlib.import_module("gittins")
        self._state = self._library.create(18, 10**12)
        self._time = 0
        self._waiting: dict[int, Any] = {}

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; it draws by a salt of its own."""
        del uniform
        self._time += 1
        known = {name: value for name, value in context if name != "constant"}
        described = [(action.name, dict(action.features)) for action in actions]
        record = self._library.decide(
            self._state, known, described, self._time, "quality"
        )
        self._waiting[id(context)] = record.decision_id
        return int(record.chosen), float(record.propensity)

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`."""
        del actions, chosen, propensity
        decision = self._waiting.pop(id(context))
        self._library.learn(self._state, decision, float(reward), self._time)


class MABWiser:
    """A contextual policy of the PyPI package mabwiser, on the context's numbers.

    It knows its arms and how many numbers there are from the first round, and learns
    from each reward at once.
    """

    def __init__(self, policy: str, **settings: float) -> None:
        self._library = importlib.import_module("mabwiser.mab")
        self._policy = getattr(self._library.LearningPolicy, policy)(**settings)
        self._bandit: Any = None

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; its propensities are not known, and given as 1."""
        names = [action.name for action in actions]
        if self._bandit is None:
            self._bandit = self._library.MAB(arms=names, learning_policy=self._policy)
        row = np.array([[value for _, value in context]])
        if not self._bandit._is_initial_fit:  # noqa: SLF001
            return int(uniform * len(names)), 1.0 / len(names)
        return names.index(self._bandit.predict(row)), 1.0

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`."""
        del propensity
        row = np.array([[value for _, value in context]])
        self._bandit.partial_fit([actions[chosen].name], [reward], row)


def _draw(probabilities: FloatArray, uniform: float) -> tuple[int, float]:
    """Return the action whose share of [0, 1) holds the number, and its share."""
    at = int(np.searchsorted(probabilities.cumsum(), uniform, side="right"))
    at = min(at, int(np.flatnonzero(probabilities)[-1]))
    return at, float(probabilities[at])


def _words(features: Any) -> str:
    return " ".join(f"{quote(name)}:{value:.6g}" for name, value in features)


def _rivals() -> dict[str, Callable[[], Chooser]]:
    """Return those whose libraries are installed."""
    rivals: dict[str, Callable[[], Chooser]] = {
        "vw_squarecb": lambda: Explorer("--squarecb"),
        "vw_squarecb_elim": lambda: Explorer("--squarecb --elim"),
        "vw_regcb": lambda: Explorer("--regcb"),
        "vw_regcbopt": lambda: Explorer("--regcbopt"),
        "vw_cover": lambda: Explorer("--cover 5"),
        "vw_bag": lambda: Explorer("--bag 5"),
        "vw_softmax": lambda: Explorer("--softmax"),
        "vw_first": lambda: Explorer("--first 500"),
        "vw_rnd": lambda: Explorer("--rnd 1"),
        "vw_egreedy": lambda: Explorer("--epsilon 0.05"),
    }
    if find_spec("gittins"):
        rivals["gittins"] = Gittins
    if find_spec("mabwiser"):
        rivals["mabwiser_linucb"] = lambda: MABWiser("LinUCB", alpha=0.1)
        rivals["mabwiser_lingreedy"] = lambda: MABWiser("LinGreedy", epsilon=0.05)
    return rivals


RIVALS = _rivals()
"""Other libraries' policies by name, those that are installed."""
