"""What every estimator is made from, and what it makes."""

from __future__ import annotations

import msgspec

from policies.model import FloatArray

__all__ = ["Rows", "Terms"]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Logged decisions about one target policy, as columns.

    Attributes:
        rewards: What each decision earned, shape (n,), any unit.
        weights: Target over logging propensity of the action taken, shape (n,), each
            0 or more.
        logged_values: What a reward model expects of the action taken, shape (n,), in
            the unit of the rewards; none where there is no model.
        target_values: What it expects of the target policy: over the eligible actions,
            the sum of target probability times value, shape (n,); none likewise.
    """

    rewards: FloatArray
    weights: FloatArray
    logged_values: FloatArray | None = None
    target_values: FloatArray | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate in parts, one of each a row, that are summed before anything else.

    The value is the mean of `added` plus the ratio of the sums of `over` and `under`.

    Attributes:
        added: Shape (n,), in the unit of the rewards; none where nothing is added.
        over: Shape (n,), in the unit of the rewards; none where there is no ratio.
        under: Shape (n,), without a unit; there where `over` is.
    """

    added: FloatArray | None = None
    over: FloatArray | None = None
    under: FloatArray | None = None

    @property
    def value(self) -> float:
        """The estimate, in the unit of the rewards; not a number where `under` is 0."""
        value = 0.0 if self.added is None else float(self.added.mean())
        if self.over is None or self.under is None:
            return value
        total = float(self.under.sum())
        return value + float(self.over.sum()) / total if total else float("nan")
