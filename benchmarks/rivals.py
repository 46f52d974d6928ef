"""Policies of other libraries, so that they can be measured beside ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from vowpalwabbit import Workspace

from policies.model import Action, Features, FloatArray
from policies.policy import Policy, PolicySettings

__all__ = ["RIVALS", "Chooser", "Ours", "Rival"]


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
            context,
            actions[chosen],
            reward=reward,
            propensity=propensity,
            among=actions,
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
        if not self._bandit._is_initial_fit:  # noqa: SLF001
            return int(uniform * len(names)), 1.0 / len(names)
        return names.index(self._bandit.predict(_row(context))), 1.0

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
        self._bandit.partial_fit([actions[chosen].name], [reward], _row(context))


class PlainLinUCB:
    """Disjoint LinUCB as one writes it with numpy in a few lines.

    Args:
        alpha: The width of the bound.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._inverse: FloatArray = np.zeros((0, 0, 0))
        self._b: FloatArray = np.zeros((0, 0))

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; it takes the first of the best."""
        del uniform
        x = _row(context)[0]
        if not self._b.size:
            self._b = np.zeros((len(actions), len(x)))
            self._inverse = np.tile(np.eye(len(x)), (len(actions), 1, 1))
        gain = self._inverse @ x
        bounds = (gain * self._b).sum(1) + self._alpha * np.sqrt(gain @ x)
        return int(bounds.argmax()), 1.0

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`."""
        del actions, propensity
        x = _row(context)[0]
        gain = self._inverse[chosen] @ x
        self._inverse[chosen] -= np.outer(gain, gain) / (1.0 + gain @ x)
        self._b[chosen] += reward * x


class River:
    """Disjoint LinUCB of the PyPI package river, at its defaults."""

    def __init__(self) -> None:
        bandit = importlib.import_module("river.bandit")
        self._bandit: Any = bandit.LinUCBDisjoint(seed=1)

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; its propensities are not known, and given as 1."""
        del uniform
        names = [action.name for action in actions]
        return names.index(self._bandit.pull(names, context=dict(context))), 1.0

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
        self._bandit.update(actions[chosen].name, dict(context), reward)


class BayesianBandits:
    """A policy of the PyPI package bayesianbandits, on normal–inverse-gamma arms.

    Args:
        policy: The name of its policy, which is taken at its defaults.
    """

    def __init__(self, policy: str) -> None:
        self._library = importlib.import_module("bayesianbandits")
        self._policy = getattr(self._library, policy)()
        self._agent: Any = None

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; its propensities are not known, and given as 1."""
        del uniform
        names = [action.name for action in actions]
        if self._agent is None:
            regression = self._library.NormalInverseGammaRegressor
            arms = [self._library.Arm(name, learner=regression()) for name in names]
            self._agent = self._library.ContextualAgent(
                arms, self._policy, random_seed=1
            )
        return names.index(self._agent.pull(_row(context))[0]), 1.0

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
        self._agent.select_for_update(actions[chosen].name)
        self._agent.update(_row(context), np.array([reward]))


class ContextualBandits:
    """LinUCB of the PyPI package contextualbandits, at its defaults."""

    def __init__(self) -> None:
        self._library = importlib.import_module("contextualbandits.online")
        self._bandit: Any = None
        self._fitted = False

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        """See `Chooser.choose`; its propensities are not known, and given as 1."""
        if self._bandit is None:
            self._bandit = self._library.LinUCB(
                len(actions), fit_intercept=False, random_state=1, njobs=1
            )
        if not self._fitted:
            return int(uniform * len(actions)), 1.0 / len(actions)
        return int(self._bandit.predict(_row(context))[0]), 1.0

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        """See `Chooser.learn`."""
        del actions, propensity
        given = np.array([chosen]), np.array([reward])
        self._bandit.partial_fit(_row(context), *given)
        self._fitted = True


def _row(context: Features) -> FloatArray:
    return np.array([[value for _, value in context]])


def _draw(probabilities: FloatArray, uniform: float) -> tuple[int, float]:
    """Return the action whose share of [0, 1) holds the number, and its share."""
    at = int(np.searchsorted(probabilities.cumsum(), uniform, side="right"))
    at = min(at, int(np.flatnonzero(probabilities)[-1]))
    return at, float(probabilities[at])


def _words(features: Any) -> str:
    return " ".join(f"{quote(name)}:{value:.6g}" for name, value in features)


@dataclass(frozen=True)
class Rival:
    """A policy of another library.

    Attributes:
        make: Makes one that has learned nothing.
        package: What has to be installed from PyPI, under the name it is imported by.
        fixed: Whether it needs the same actions and numbers at every decision.
    """

    make: Callable[[], Chooser]
    package: str
    fixed: bool = False

    @property
    def installed(self) -> bool:
        """Whether its library is there."""
        return find_spec(self.package) is not None


def _explorer(options: str) -> Rival:
    return Rival(lambda: Explorer(options), "vowpalwabbit")


RIVALS = {
    "vw_egreedy": _explorer("--epsilon 0.05"),
    "vw_squarecb": _explorer("--squarecb"),
    "vw_squarecb_elim": _explorer("--squarecb --elim --cb_min_cost -1 --cb_max_cost 0"),
    "vw_regcb": _explorer("--regcb --cb_min_cost -1 --cb_max_cost 0"),
    "vw_regcbopt": _explorer("--regcbopt --cb_min_cost -1 --cb_max_cost 0"),
    "vw_cover": _explorer("--cover 5"),
    "vw_synthcover": _explorer("--synthcover"),
    "vw_bag": _explorer("--bag 5"),
    "vw_softmax": _explorer("--softmax"),
    "vw_first": _explorer("--first 500"),
    "vw_rnd": _explorer("--rnd 1"),
    "gittins": Rival(Gittins, "gittins"),
    "numpy_linucb": Rival(lambda: PlainLinUCB(0.1), "numpy", fixed=True),
    "mabwiser_linucb": Rival(
        lambda: MABWiser("LinUCB", alpha=0.1), "mabwiser", fixed=True
    ),
    "mabwiser_lingreedy": Rival(
        lambda: MABWiser("LinGreedy", epsilon=0.05), "mabwiser", fixed=True
    ),
    "mabwiser_lints": Rival(
        lambda: MABWiser("LinTS", alpha=1.0), "mabwiser", fixed=True
    ),
    "river_linucb": Rival(River, "river", fixed=True),
    "bayesianbandits_ucb": Rival(
        lambda: BayesianBandits("UpperConfidenceBound"), "bayesianbandits", fixed=True
    ),
    "bayesianbandits_ts": Rival(
        lambda: BayesianBandits("ThompsonSampling"), "bayesianbandits", fixed=True
    ),
    "contextualbandits_linucb": Rival(
        ContextualBandits, "contextualbandits", fixed=True
    ),
}
"""Other libraries' policies by name, installed or not."""
