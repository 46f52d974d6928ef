"""All estimators by name, and what each of them needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import msgspec

from policies.estimators.balancing import balanced_ips
from policies.estimators.base import Rows, Terms
from policies.estimators.calibrating import cressie_read, mle
from policies.estimators.embedding import mips, offcem
from policies.estimators.loggers import multi_ips
from policies.estimators.matching import rejection, replay
from policies.estimators.modelling import (
    clipped_dr,
    dm,
    dr,
    dros,
    mrdr,
    shrunk,
    sndr,
    subgaussian_dr,
    switch_dr,
)
from policies.estimators.weighting import (
    clipped,
    clipped_ips,
    exponential,
    ips,
    snips,
    subgaussian,
    subgaussian_ips,
    switch_ips,
    switched,
)
from policies.model import FloatArray

__all__ = ["ESTIMATORS", "Estimator", "Tunable", "named"]

_VALUES = ("logged_values", "target_values")
_LIMITS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, math.inf)
_SHRINKAGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Tunable(msgspec.Struct, frozen=True):
    """The one parameter that an estimator has.

    Attributes:
        name: Its name.
        candidates: What to choose from, from least bias to least variance.
        weights: The weights that it makes of weights, where it changes nothing else.
        ends: Which estimator it is at the ends of its range, by value; `zero` is the
            one that is always 0.
    """

    name: str
    candidates: tuple[float, ...]
    weights: Callable[[FloatArray, float], FloatArray] | None
    ends: dict[float, str]


class Estimator(msgspec.Struct, frozen=True):
    """An estimator, and what to know before calling it.

    Attributes:
        terms: The function: rows, and the parameter where it is tunable.
        needs: The columns that rows must have beside rewards and weights.
        tunable: Its parameter; none where it has none.
        ratio: Whether a reward that is always the same is estimated without error.
        whole: Whether it looks at all rows before it weighs one, so that parts of a log
            do not add up.
    """

    terms: Callable[..., Terms]
    needs: tuple[str, ...] = ()
    tunable: Tunable | None = None
    ratio: bool = False
    whole: bool = False

    def __call__(self, rows: Rows) -> Terms:
        """Return the terms, with the parameter at its default.

        Raises:
            ValueError: If the rows lack a column; the message names it.
        """
        return self.terms(rows)

    def at(self, value: float) -> Callable[[Rows], Terms]:
        """Return the estimator with another value of its parameter.

        Raises:
            ValueError: If it has none.
        """
        if self.tunable is None:
            raise ValueError("this estimator has no parameter")
        return partial(self.terms, **{self.tunable.name: value})


def _limit(
    weights: Callable[[FloatArray, float], FloatArray], none: str, all_: str
) -> Tunable:
    return Tunable("limit", _LIMITS[::-1], weights, {0.0: none, math.inf: all_})


ESTIMATORS: dict[str, Estimator] = {
    "ips": Estimator(ips),
    "snips": Estimator(snips, ratio=True),
    "clipped_ips": Estimator(clipped_ips, tunable=_limit(clipped, "zero", "ips")),
    "switch_ips": Estimator(switch_ips, tunable=_limit(switched, "zero", "ips")),
    "subgaussian_ips": Estimator(
        subgaussian_ips,
        tunable=Tunable("shrinkage", _SHRINKAGES, subgaussian, {0.0: "ips"}),
    ),
    "exponential": Estimator(
        exponential,
        needs=("targets",),
        tunable=Tunable("power", (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), None, {1.0: "ips"}),
    ),
    "dm": Estimator(dm, needs=("target_values",)),
    "dr": Estimator(dr, needs=_VALUES),
    "sndr": Estimator(sndr, needs=_VALUES, ratio=True),
    "clipped_dr": Estimator(
        clipped_dr, needs=_VALUES, tunable=_limit(clipped, "dm", "dr")
    ),
    "switch_dr": Estimator(
        switch_dr, needs=_VALUES, tunable=_limit(switched, "dm", "dr")
    ),
    "dros": Estimator(dros, needs=_VALUES, tunable=_limit(shrunk, "dm", "dr")),
    "subgaussian_dr": Estimator(
        subgaussian_dr,
        needs=_VALUES,
        tunable=Tunable("shrinkage", _SHRINKAGES, subgaussian, {0.0: "dr"}),
    ),
    "mrdr": Estimator(mrdr, needs=_VALUES),
    "balanced_ips": Estimator(balanced_ips, needs=("balanced_weights",)),
    "cressie_read": Estimator(cressie_read, whole=True, ratio=True),
    "mle": Estimator(mle, whole=True, ratio=True),
    "mips": Estimator(mips, needs=("cluster_weights",)),
    "offcem": Estimator(offcem, needs=("cluster_weights", *_VALUES)),
    "replay": Estimator(replay, needs=("targets",), ratio=True),
    "rejection": Estimator(rejection, needs=("draws",), ratio=True, whole=True),
    "multi_ips": Estimator(multi_ips, needs=("loggers",), whole=True),
}
"""All estimators of single decisions by name."""


def named(name: str) -> Callable[[Rows], Terms]:
    """Return an estimator by its name, as `dr`, or with its parameter, as `dros@50`.

    Raises:
        ValueError: If there is none of that name, or it has no parameter, or that is
            no number; the message says which there are.

    Examples:
        >>> import numpy as np
        >>> rows = Rows(rewards=np.ones(2), weights=np.array([0.5, 4.0]))
        >>> named("clipped_ips@2")(rows).value
        1.25
    """
    kind, at, text = name.partition("@")
    if kind not in ESTIMATORS:
        known = ", ".join(ESTIMATORS)
        raise ValueError(f"there is no estimator {kind!r}; there are {known}")
    if not at:
        return ESTIMATORS[kind]
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name!r}: {text!r} is no number") from None
    try:
        return ESTIMATORS[kind].at(value)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from None
