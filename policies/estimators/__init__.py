"""What another policy would have earned: one family of estimators a file.

An estimator is a function from rows to terms, and terms are columns that add up:
parts of a log that are read apart, or on other machines, are put together by adding.

>>> import numpy as np
>>> rows = rows_of(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.9, 0.1]))
>>> named("snips")(rows).value
0.9
"""

from __future__ import annotations

from policies.estimators.base import Rows, Sums, Terms
from policies.estimators.modelling import (
    clipped_dr,
    dm,
    dr,
    dros,
    mrdr,
    mrdr_weights,
    sndr,
    subgaussian_dr,
    switch_dr,
)
from policies.estimators.named import ESTIMATORS, Estimator, named
from policies.estimators.slates import SLATES, Slates
from policies.estimators.tuning import choose_estimator, tune_by_mse, tune_by_slope
from policies.estimators.values import parts_of, rows_of, sums_of, target_values
from policies.estimators.weighting import (
    clipped_ips,
    exponential,
    ips,
    snips,
    subgaussian_ips,
    switch_ips,
)

__all__ = [
    "ESTIMATORS",
    "SLATES",
    "Estimator",
    "Rows",
    "Slates",
    "Sums",
    "Terms",
    "choose_estimator",
    "clipped_dr",
    "clipped_ips",
    "dm",
    "dr",
    "dros",
    "exponential",
    "ips",
    "mrdr",
    "mrdr_weights",
    "named",
    "parts_of",
    "rows_of",
    "sndr",
    "snips",
    "subgaussian_dr",
    "subgaussian_ips",
    "sums_of",
    "switch_dr",
    "switch_ips",
    "target_values",
    "tune_by_mse",
    "tune_by_slope",
]
