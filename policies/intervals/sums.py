"""Estimators of one policy as sums over hash shards of users, which add up.

A log of any size comes down to 2,000 shards, by a hash of whom a row is of: all rows of
one user are in one of them, on whatever machine they are read. Estimates, intervals and
differences between policies are made from the shards alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.estimators import Rows, Terms
from policies.intervals.base import (
    WEIGHT_MARGIN,
    Clusters,
    Row,
    Worst,
    columns,
    refuse,
)
from policies.intervals.likelihood import Moments
from policies.intervals.mixing import below, mixed
from policies.model import FloatArray
from policies.overlap import Overlap

__all__ = [
    "SHARDS",
    "Sums",
    "largest_weight",
    "rewards_within",
    "rows_of",
    "shards_of",
    "total",
    "usual_worst",
]

SHARDS = 2_000
"""In how many shards users are put."""

_FORMAT = "opportune.sums.v1"
_PARTS = ("added", "over", "under")


def shards_of(keys: NDArray[np.uint64], shards: int = SHARDS) -> NDArray[np.intp]:
    """Return the shard of each key: equal keys are in the same one, everywhere.

    Args:
        keys: Hashes of whom each row is of, or any other numbers, shape (n,).
        shards: How many there are.

    Returns:
        Shape (n,), each from 0 to `shards` − 1.
    """
    return below(mixed(keys), shards)


class Sums(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is kept of the rows of a log about one policy.

    Attributes:
        rows: How many rows each shard has, shape (shards,).
        weights: The sum of their weights, likewise.
        terms: By estimator and part, such as `snips.over`, the sum of it, likewise.
        names: The estimators.
        modelled: The smallest and the largest value that a reward model expects of an
            action taken, and of the policy; none without a model.
        moments: What empirical likelihood needs.
        overlap: What the verdict needs.
        weight_max: The largest weight that any decision could have had, or twice the
            largest seen where it is not `weight_max_known`.
        reward_range: The smallest and the largest reward possible, or those seen where
            it is not `reward_range_known`.
    """

    rows: FloatArray
    weights: FloatArray
    terms: dict[str, FloatArray]
    names: tuple[str, ...]
    modelled: tuple[float, float, float, float] | None
    moments: Moments
    overlap: Overlap
    weight_max: float
    reward_range: tuple[float, float]
    weight_max_known: bool
    reward_range_known: bool

    @classmethod
    def of(
        cls,
        terms: Mapping[str, Terms],
        keys: NDArray[np.uint64] | None = None,
        *,
        weights: FloatArray,
        rewards: FloatArray,
        logged_values: FloatArray | None = None,
        target_values: FloatArray | None = None,
        weight_max: float | None = None,
        reward_range: tuple[float, float] | None = None,
        quiet: NDArray[np.bool_] | None = None,
    ) -> Sums:
        """Return the sums of some rows.

        Args:
            terms: By name, what estimators made of the rows.
            keys: Whom each row is of, shape (n,), uint64; each row is by itself without
                them, which is right where nobody has two.
            weights: Target over logging propensity of the action taken, shape (n,),
                each 0 or more.
            rewards: What each earned, shape (n,), any unit.
            logged_values: As of `Rows`, where there is a reward model.
            target_values: Likewise.
            weight_max: The largest weight that any decision could have had: the
                largest of target propensity over floor of exploration. Without it
                twice the largest seen, which is a guess, and a bad one where the
                target likes what the log has hardly tried.
            reward_range: The smallest and the largest reward possible. Without it those
                seen: right for rewards of 0 and 1, a guess for amounts of money.
            quiet: Of which rows nothing came, whatever they cost, shape (n,); as of
                `policies.overlap.Overlap`.

        Raises:
            ValueError: If the shapes differ, there is no row, a number is not finite, a
                weight is negative or above `weight_max`, or a reward outside of
                `reward_range`; the message names the first such row.
        """
        given = columns(rewards=rewards, weights=weights)
        rewards, weights = given["rewards"], given["weights"]
        w_max = largest_weight(weights, weight_max)
        r_range = rewards_within(rewards, reward_range)
        if keys is None:
            keys = np.arange(len(rewards), dtype=np.uint64)
        if keys.shape != rewards.shape:
            raise ValueError(f"keys must be {rewards.shape}, not {keys.shape}")
        shards = shards_of(keys)
        summed: dict[tuple[int, str], FloatArray] = {}
        sums: dict[str, FloatArray] = {}
        for name, one in terms.items():
            for part in _PARTS:
                column = getattr(one, part)
                if column is None:
                    continue
                # Estimators share columns, such as the weights under a ratio.
                known = (id(column), "")
                if known not in summed:
                    columns(rewards=rewards, **{part: column})
                    summed[known] = _by_shard(shards, column)
                sums[f"{name}.{part}"] = summed[known]
        return cls(
            rows=_by_shard(shards, None),
            weights=_by_shard(shards, weights),
            terms=sums,
            names=tuple(terms),
            modelled=_extremes(logged_values, target_values),
            moments=Moments.of(weights, rewards),
            overlap=Overlap.of(weights, rewards, quiet),
            weight_max=w_max,
            reward_range=r_range,
            weight_max_known=weight_max is not None,
            reward_range_known=reward_range is not None,
        )

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of the rows of both, of the same estimators.

        Raises:
            ValueError: If they are of different estimators.
        """
        if self.terms.keys() != other.terms.keys():
            raise ValueError(
                f"sums of {', '.join(sorted(self.terms))} do not add up with those of"
                f" {', '.join(sorted(other.terms))}"
            )
        low, high = zip(self.reward_range, other.reward_range, strict=True)
        return Sums(
            rows=self.rows + other.rows,
            weights=self.weights + other.weights,
            terms={name: sums + other.terms[name] for name, sums in self.terms.items()},
            names=self.names,
            modelled=_wider(self.modelled, other.modelled),
            moments=self.moments + other.moments,
            overlap=self.overlap + other.overlap,
            weight_max=max(self.weight_max, other.weight_max),
            reward_range=(min(low), max(high)),
            weight_max_known=self.weight_max_known and other.weight_max_known,
            reward_range_known=self.reward_range_known and other.reward_range_known,
        )

    @property
    def n(self) -> int:
        """The number of rows."""
        return self.overlap.n

    def clusters(self, name: str) -> Clusters:
        """Return the shards of an estimator.

        Raises:
            KeyError: If it is none of them.
        """
        if name not in self.names:
            raise KeyError(name)
        added, over, under = (self.terms.get(f"{name}.{part}") for part in _PARTS)
        return Clusters(self.rows, added, over, under, self.weights)

    def worst_rows(self) -> Rows:
        """Return the two rows that could have been logged and would matter most.

        What an estimator makes of them is what `estimate` wants to know as `worst`:
        first the row that makes a value as low as can be, then the one that makes it as
        high.
        """
        rewards, weights = np.array(self.reward_range), np.full(2, self.weight_max)
        if self.modelled is None:
            return Rows(rewards=rewards, weights=weights)
        q_low, q_high, v_low, v_high = self.modelled
        return Rows(
            rewards=rewards,
            weights=weights,
            logged_values=np.array([q_high, q_low]),
            target_values=np.array([v_low, v_high]),
        )

    def to_bytes(self) -> bytes:
        """Return the sums as bytes, to be kept or sent."""
        fields = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in ("rows", "weights", "terms")
        }
        arrays = {"rows": self.rows, "weights": self.weights, **self.terms}
        packed = {
            name: column.astype("<f8").tobytes() for name, column in arrays.items()
        }
        return msgspec.msgpack.encode(
            {"format": _FORMAT, "fields": fields, "arrays": packed}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Sums:
        """Return the sums that were made into bytes.

        Raises:
            ValueError: If the bytes are something else.
        """
        try:
            read = msgspec.msgpack.decode(data)
            if read["format"] != _FORMAT:
                raise ValueError(f"the format is {read['format']}, not {_FORMAT}")
            fields = msgspec.convert(read["fields"], _Fields)
            arrays = {
                name: np.frombuffer(column, dtype="<f8").astype(float)
                for name, column in read["arrays"].items()
            }
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ValueError(f"these are not sums: {error}") from None
        made: dict[str, Any] = {
            name: getattr(fields, name) for name in fields.__struct_fields__
        }
        return cls(
            rows=arrays.pop("rows"), weights=arrays.pop("weights"), terms=arrays, **made
        )


class _Fields(msgspec.Struct, frozen=True):
    """What of sums is no array."""

    names: tuple[str, ...]
    modelled: tuple[float, float, float, float] | None
    moments: Moments
    overlap: Overlap
    weight_max: float
    reward_range: tuple[float, float]
    weight_max_known: bool
    reward_range_known: bool


def largest_weight(weights: FloatArray, weight_max: float | None) -> float:
    """Return the largest weight possible; refuse a larger one."""
    if weight_max is None:
        return WEIGHT_MARGIN * float(weights.max())
    # A ratio of two roundings may be a little above the ratio.
    above = ~(weights <= weight_max * (1 + 1e-9))
    refuse(above, weights, "weights", f"at most {weight_max}, the largest possible")
    return weight_max


def rewards_within(
    rewards: FloatArray, reward_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the smallest and the largest reward possible; refuse one outside."""
    if reward_range is None:
        return float(rewards.min()), float(rewards.max())
    low, high = reward_range
    outside = ~((rewards >= low) & (rewards <= high))
    refuse(outside, rewards, "rewards", f"in [{low}, {high}], the range given")
    return low, high


def usual_worst(
    clusters: Clusters, weight_max: float, reward_range: tuple[float, float]
) -> Worst:
    """Return the worst rows of weights times rewards, with or without a ratio."""
    low, high = (weight_max * reward for reward in reward_range)
    if clusters.under is None:
        return Worst(
            Row(added=low, weight=weight_max), Row(added=high, weight=weight_max)
        )
    added = 0.0
    if clusters.added is not None:
        added = float(clusters.added.sum() / clusters.n.sum())
    return Worst(
        Row(added=added, over=low, under=weight_max, weight=weight_max),
        Row(added=added, over=high, under=weight_max, weight=weight_max),
    )


def rows_of(worst: Terms, weight_max: float) -> Worst:
    """Return the terms of the two worst rows, one by one."""
    rows: list[Row] = []
    for place in range(2):
        parts = {part: getattr(worst, part) for part in _PARTS}
        found: dict[str, float] = {
            part: float(column[place])
            for part, column in parts.items()
            if column is not None
        }
        rows.append(Row(**found, weight=weight_max))
    return Worst(*rows)


def _extremes(
    logged_values: FloatArray | None, target_values: FloatArray | None
) -> tuple[float, float, float, float] | None:
    if logged_values is None or target_values is None:
        return None
    q, v = logged_values, target_values
    return float(q.min()), float(q.max()), float(v.min()), float(v.max())


def _wider(
    one: tuple[float, float, float, float] | None,
    other: tuple[float, float, float, float] | None,
) -> tuple[float, float, float, float] | None:
    if one is None or other is None:
        return None
    return (
        min(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        max(one[3], other[3]),
    )


def _by_shard(shards: NDArray[np.intp], column: FloatArray | None) -> FloatArray:
    found = np.bincount(shards, weights=column, minlength=SHARDS)
    return found.astype(float, copy=False)


def total(parts: Iterable[Sums]) -> Sums:
    """Return the sums of all rows of all parts, in their order.

    Raises:
        ValueError: If there is none, or they are of different estimators.
    """
    found: Sums | None = None
    for part in parts:
        found = part if found is None else found + part
    if found is None:
        raise ValueError("there are no sums to add up")
    return found
