"""How far an estimate can be trusted: one kind of interval a file.

An estimator gives terms (`policies.estimators`), an interval turns them into an
`Estimate`: `estimate` from rows in memory, `Sums` and `estimate_sums` from a log of any
size, read in parts that add up.
"""

from __future__ import annotations

from policies.intervals.base import Clusters, Estimate, Row, Worst, worst_rows
from policies.intervals.estimating import (
    KINDS,
    Kind,
    estimate,
    estimate_sums,
    mean_of,
    rate_of,
)
from policies.intervals.many import Selection, above, apart, select
from policies.intervals.sums import SHARDS, Sums, shards_of, total

__all__ = [
    "KINDS",
    "SHARDS",
    "Clusters",
    "Estimate",
    "Kind",
    "Row",
    "Selection",
    "Sums",
    "Worst",
    "above",
    "apart",
    "estimate",
    "estimate_sums",
    "mean_of",
    "rate_of",
    "select",
    "shards_of",
    "total",
    "worst_rows",
]
