"""Quantiles of the distributions that intervals are made from.

numpy has none of them, and a library for these few would weigh more than all else. The
incomplete beta and gamma functions are evaluated by their continued fractions and
series, and inverted by halving, so that each is right to about 1e-12.

References:
    W. H. Press, S. A. Teukolsky, W. T. Vetterling and B. P. Flannery. Numerical
    Recipes, 3rd edition, chapter 6. Cambridge University Press, 2007.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

__all__ = [
    "beta_cdf",
    "beta_quantile",
    "f_quantile",
    "halve",
    "log_lower_gamma",
    "normal_quantile",
    "t_quantile",
]

_TINY = 1e-300
_STEPS_MAX = 10_000
_DF_MANY = 10
_NEWTON_STEPS = 8


def normal_quantile(confidence: float) -> float:
    """Return how many standard deviations hold a normal number so often, two-sided.

    Raises:
        ValueError: If `confidence` is not in (0, 1).

    Examples:
        >>> round(normal_quantile(0.95), 4)
        1.96
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


@lru_cache(maxsize=1_000)
def t_quantile(confidence: float, df: float) -> float:
    """Return the two-sided quantile of Student's distribution.

    Args:
        confidence: In (0, 1).
        df: Degrees of freedom, above 0.

    Examples:
        >>> round(t_quantile(0.95, 30), 4)
        2.0423
    """
    z, alpha = normal_quantile(confidence), 1 - confidence
    if df < _DF_MANY:
        high = 1.0
        while _t_tail(high, df) > alpha:
            high *= 2.0
        return halve(lambda x: alpha - _t_tail(x, df), 0.0, high)
    # From the first terms of its expansion around the normal one, by Newton's steps.
    x = z + (z**3 + z) / (4 * df)
    for _ in range(_NEWTON_STEPS):
        x += (_t_tail(x, df) - alpha) / (2 * _t_density(x, df))
    return x


def f_quantile(alpha: float, df: float) -> float:
    """Return what F with 1 and so many degrees of freedom exceeds that often.

    Args:
        alpha: How often, in (0, 1).
        df: Degrees of freedom of the denominator, above 0.
    """
    return t_quantile(1 - alpha, df) ** 2


def _t_tail(x: float, df: float) -> float:
    """Return how often Student's t is further from 0 than x."""
    return beta_cdf(df / (df + x * x), df / 2, 0.5)


def _t_density(x: float, df: float) -> float:
    log = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
    log -= (df + 1) / 2 * math.log1p(x * x / df) + math.log(df * math.pi) / 2
    return math.exp(log)


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the p-quantile of the beta distribution; `a` and `b` are above 0.

    Examples:
        >>> round(beta_quantile(0.5, 2.0, 2.0), 9)
        0.5
    """
    return halve(lambda x: beta_cdf(x, a, b) - p, 0.0, 1.0)


def halve(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function passes 0 between two points."""
    middle = (low + high) / 2
    while low < middle < high:
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
        middle = (low + high) / 2
    return middle


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function.

    Args:
        x: In [0, 1].
        a: Above 0.
        b: Above 0.

    Examples:
        >>> round(beta_cdf(0.25, 1.0, 2.0), 9)
        0.4375
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * math.log(x)
        + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1.0 - front * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function (Lentz)."""
    c, d = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    fraction, step, m = d, 0.0, 0
    while step != 1.0 and m < _STEPS_MAX:
        m += 1
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = _inverse(1 + term * d)
            c = 1 + term / c or _TINY
            step = c * d
            fraction *= step
    return fraction


def _inverse(number: float) -> float:
    return 1 / (number or _TINY)


def log_lower_gamma(a: float, x: float) -> float:
    """Return the logarithm of the lower incomplete gamma function, not regularised.

    Args:
        a: Above 0.
        x: Above 0.

    Examples:
        >>> round(log_lower_gamma(1.0, 2.0), 9)  # 1 − e⁻²
        -0.145413458
    """
    if x < a + 1:
        return a * math.log(x) - x + math.log(_gamma_series(a, x))
    log_upper = a * math.log(x) - x + math.log(_gamma_fraction(a, x))
    return math.lgamma(a) + math.log1p(-math.exp(log_upper - math.lgamma(a)))


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    k = 0
    while term > total * 1e-17 and k < _STEPS_MAX:
        k += 1
        term *= x / (a + k)
        total += term
    return total


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1 / _TINY, _inverse(b)
    fraction, step, k = d, 0.0, 0
    while step != 1.0 and k < _STEPS_MAX:
        k += 1
        term = -k * (k - a)
        b += 2
        d = _inverse(term * d + b)
        c = b + term / c or _TINY
        step = c * d
        fraction *= step
    return fraction
