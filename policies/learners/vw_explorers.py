"""Vowpal Wabbit's own explorers: which one, and how much it tries.

Each is settings, with the options that they are on VW's command line.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

__all__ = [
    "VowpalWabbitExploration",
    "VwBag",
    "VwCover",
    "VwEpsilonGreedy",
    "VwExplorer",
    "VwFirst",
    "VwRegCB",
    "VwRnd",
    "VwSoftmax",
    "VwSquareCB",
    "VwSynthCover",
]

CbType = Literal["mtr", "dr", "ips"]
"""How VW makes a regression of rewards that are known of chosen actions alone."""

_ANY: tuple[CbType, ...] = ("mtr", "dr", "ips")
_REWARD_MAX = 1e9


class VowpalWabbitExploration(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="vw_explorer",
):
    """What Vowpal Wabbit's own explorer says, which is the learner's `explorer`.

    The learner must be of kind `vw` and have one. The draw stays that of all other
    policies: VW gives the distribution and never draws.
    """

    floor: ClassVar[float] = 0.0

    def least(self, n_actions: int, *, learned: int) -> float:
        """Return the least probability that is promised: none."""
        del n_actions, learned
        return 0.0


class VwEpsilonGreedy(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="epsilon_greedy",
):
    """Mostly the best action, and now and then any."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    epsilon: float = 0.05
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        return _words(epsilon=self.epsilon)


class VwFirst(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="first",
):
    """Any action until enough was learned, and from then on the best."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    rewards: int = 1_000
    """How many rewards are learned before the best is chosen: 1 to 1e9."""

    epsilon: float = 0.0
    """The probability that is shared equally by all actions from then on: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 1 <= self.rewards <= 10**9:
            raise ValueError(f"rewards must be from 1 to 1e9, not {self.rewards}")
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        return _words(first=self.rewards, epsilon=self.epsilon)


class VwSoftmax(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="softmax",
):
    """Better actions more often, by the exponential of what they are to earn."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    inverse_temperature: float = 1.0
    """How much likelier a lead of one `reward_scale` makes: e to this; 0 to 1e6.

    VW calls it lambda. At VW's own default, 1, rewards of 0 and 1 hardly matter.
    """

    epsilon: float = 0.0
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_range("inverse_temperature", self.inverse_temperature, 0.0, 1e6)
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        return (
            "--softmax",
            *_words(epsilon=self.epsilon, **{"lambda": self.inverse_temperature}),
        )


class VwSquareCB(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="squarecb",
):
    """Actions that trail the best are tried in inverse proportion to how far.

    With n actions, one that trails the best by `gap`, in units of `reward_scale`, has
    the probability 1 / (n + γ·gap), and the best what is left. γ is gamma_scale times
    the number of rewards learned to the power of gamma_exponent.

    References:
        D. Foster and A. Rakhlin. Beyond UCB: optimal and efficient contextual bandits
        with regression oracles. ICML 2020, https://arxiv.org/abs/2002.04926.
    """

    cb_types: ClassVar[tuple[CbType, ...]] = ("mtr",)

    gamma_scale: float = 10.0
    """γ at the first reward learned: above 0, to 1e9. The larger, the less is tried."""

    gamma_exponent: float = 0.5
    """The power of the rewards learned with which γ grows: 0 to 1."""

    elim: bool = False
    """Whether only actions that may still be the best, as `regcb` finds, are tried."""

    mellowness: float = 0.001
    """With `elim`, how much it takes to rule an action out: above 0, to 1e6."""

    reward_min: float = 0.0
    """With `elim`, the least that an action can be expected to earn."""

    reward_max: float = 1.0
    """With `elim`, the most that an action can be expected to earn."""

    epsilon: float = 0.0
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_positive("gamma_scale", self.gamma_scale, 1e9)
        _check_range("gamma_exponent", self.gamma_exponent, 0.0, 1.0)
        _check_positive("mellowness", self.mellowness, 1e6)
        _check_rewards(self.reward_min, self.reward_max)
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        words = _words(
            gamma_scale=self.gamma_scale,
            gamma_exponent=self.gamma_exponent,
            epsilon=self.epsilon,
        )
        if self.elim:
            words += (
                "--elim",
                *_words(mellowness=self.mellowness),
                *_costs(self.reward_min, self.reward_max, reward_scale),
            )
        return ("--squarecb", *words)


class VwRegCB(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="regcb",
):
    """Only actions that may still be the best, all alike; or the one with most to hope.

    References:
        D. Foster, A. Agarwal, M. Dudík, H. Luo and R. Schapire. Practical contextual
        bandits with regression oracles. ICML 2018, https://arxiv.org/abs/1803.01088.
    """

    cb_types: ClassVar[tuple[CbType, ...]] = ("mtr",)

    optimistic: bool = False
    """Whether the action with the most to hope for is chosen, as `--regcbopt` does.

    It then is the only one that is chosen, so that the log says nothing of the others,
    and it may settle on what is good though something else is better.
    """

    mellowness: float = 0.1
    """How much it takes to rule an action out: above 0, to 1e6."""

    reward_min: float = 0.0
    """The least that an action can be expected to earn."""

    reward_max: float = 1.0
    """The most that an action can be expected to earn."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_positive("mellowness", self.mellowness, 1e6)
        _check_rewards(self.reward_min, self.reward_max)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        return (
            "--regcbopt" if self.optimistic else "--regcb",
            *_words(mellowness=self.mellowness),
            *_costs(self.reward_min, self.reward_max, reward_scale),
        )


class VwBag(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="bag",
):
    """The votes of regressions, each of which learned its own random part."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    bags: int = 5
    """How many regressions: 1 to 100."""

    greedify: bool = False
    """Whether the first regression learns every reward exactly once."""

    epsilon: float = 0.0
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_count("bags", self.bags)
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        greedify = ("--greedify",) if self.greedify else ()
        return (*_words(bag=self.bags, epsilon=self.epsilon), *greedify)


class VwCover(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="cover",
):
    """The votes of policies that are paid for disagreeing with each other.

    References:
        A. Agarwal, D. Hsu, S. Kale, J. Langford, L. Li and R. Schapire. Taming the
        monster: a fast and simple algorithm for contextual bandits. ICML 2014,
        https://arxiv.org/abs/1402.0555.
    """

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    policies: int = 5
    """How many policies: 1 to 100."""

    psi: float = 1.0
    """How much disagreeing is worth: above 0, to 1e6."""

    nounif: bool = False
    """Whether an action that no policy votes for is never tried."""

    epsilon: float | None = None
    """The probability that is shared equally by all actions: 0 to 1, for ever the same.

    Without it, it shrinks, as VW has it by default: of n actions, after t rewards, each
    has 1/n or, where that is less, 1/√(n·t).
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_count("policies", self.policies)
        _check_positive("psi", self.psi, 1e6)
        if self.epsilon is not None:
            _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        words = _words(cover=self.policies, psi=self.psi)
        # VW stops shrinking it where it is said at all.
        if self.epsilon is not None:
            words += _words(epsilon=self.epsilon)
        return (*words, *(("--nounif",) if self.nounif else ()))


class VwSynthCover(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="synthcover",
):
    """As `cover`, with votes that follow from the scores of one regression."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    policies: int = 100
    """How many votes: 1 to 10,000."""

    psi: float = 0.1
    """What it is worth to an action to have few votes: above 0, to 1e6."""

    epsilon: float = 0.0
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_count("policies", self.policies, 10_000)
        _check_positive("psi", self.psi, 1e6)
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        words = _words(synthcoversize=self.policies, synthcoverpsi=self.psi)
        return ("--synthcover", *words, *_words(epsilon=self.epsilon))


class VwRnd(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="rnd",
):
    """Actions whose features are new are tried more: by predicting random numbers."""

    cb_types: ClassVar[tuple[CbType, ...]] = _ANY

    predictors: int = 1
    """How many random numbers are predicted: 1 to 100."""

    alpha: float = 0.1
    """How much more is tried where features were seen before: above 0, to 1e6."""

    inverse_lambda: float = 0.1
    """How much more is tried where features are new: above 0, to 1e6."""

    epsilon: float = 0.0
    """The probability that is shared equally by all actions: 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _check_count("predictors", self.predictors)
        _check_positive("alpha", self.alpha, 1e6)
        _check_positive("inverse_lambda", self.inverse_lambda, 1e6)
        _check_share(self.epsilon)

    def options(self, reward_scale: float) -> tuple[str, ...]:
        """Return the explorer as VW's options."""
        del reward_scale
        words = _words(rnd=self.predictors, rnd_alpha=self.alpha)
        words += _words(rnd_invlambda=self.inverse_lambda)
        return (*words, *_words(epsilon=self.epsilon))


VwExplorer = (
    VwEpsilonGreedy
    | VwFirst
    | VwSoftmax
    | VwSquareCB
    | VwRegCB
    | VwBag
    | VwCover
    | VwSynthCover
    | VwRnd
)
"""Every explorer of VW's; `kind` says in a file of settings which one is meant."""


def _words(**options: float) -> tuple[str, ...]:
    """Write options as VW's command line has them.

    Examples:
        >>> _words(cover=5, psi=1.0)
        ('--cover', '5', '--psi', '1')
    """
    return tuple(
        word
        for name, value in options.items()
        # Whole numbers alike, whether they were written as such or not.
        for word in (f"--{name}", repr(float(value)).removesuffix(".0"))
    )


def _costs(least: float, most: float, reward_scale: float) -> tuple[str, ...]:
    """Write bounds of rewards as VW's bounds of costs."""
    low, high = -most / reward_scale, -least / reward_scale
    return _words(cb_min_cost=low + 0.0, cb_max_cost=high + 0.0)


def _check_share(epsilon: float) -> None:
    _check_range("epsilon", epsilon, 0.0, 1.0)


def _check_count(key: str, count: int, most: int = 100) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"{key} must be from 1 to {most:,}, not {count}")


def _check_range(key: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{key} must be from {least:g} to {most:g}, not {value}")


def _check_positive(key: str, value: float, most: float) -> None:
    if not 0.0 < value <= most:
        raise ValueError(f"{key} must be above 0, to {most:g}, not {value}")


def _check_rewards(least: float, most: float) -> None:
    for key, value in (("reward_min", least), ("reward_max", most)):
        _check_range(key, value, -_REWARD_MAX, _REWARD_MAX)
    if least >= most:
        raise ValueError(f"reward_min must be below reward_max, {most}, not {least}")
