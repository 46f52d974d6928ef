"""Turns what is known of a user, a moment or an offer into what learners see.

The catalogue declares the features; what it does not declare stays in the log
and is otherwise left alone. One declaration serves every learner, so that a
feature means the same to all of them.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from policies.model import Context, Features, FeatureValue

__all__ = [
    "FeatureSpec",
    "context_features",
    "features_of",
    "unknown_features",
]


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one feature is read.

    Attributes:
        type: `number`, `category` or `flag`.
        range: For a number, the two values that become 0 and 1; what lies outside
            is clipped. Without it the number is squashed to sign(x)·log(1 + |x|).
    """

    type: Literal["number", "category", "flag"]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a range that is not one."""
        if self.range is None:
            return
        low, high = self.range
        if self.type != "number":
            raise ValueError(f"only a number has a range, not a {self.type}")
        if not (math.isfinite(high - low) and low < high):
            raise ValueError(
                f"range must be [low, high] with low < high, not {self.range}"
            )

    @property
    def sample(self) -> FeatureValue:
        """Some value of the type."""
        if self.type == "category":
            return "a"
        return True if self.type == "flag" else 1.0

    def read(self, name: str, value: FeatureValue) -> tuple[str, float] | None:
        """Return the name and number that learners see; none for a wrong type."""
        if isinstance(value, str):
            return (f"{name}={value}", 1.0) if self.type == "category" else None
        if isinstance(value, bool):
            return (name, float(value)) if self.type == "flag" else None
        return (name, self._scaled(float(value))) if self.type == "number" else None

    def _scaled(self, value: float) -> float:
        if self.range is None:
            return math.copysign(math.log1p(abs(value)), value)
        low, high = self.range
        return min(max((value - low) / (high - low), 0.0), 1.0)


def features_of(
    values: dict[str, FeatureValue], specs: dict[str, FeatureSpec], prefix: str = ""
) -> Features:
    """Read the declared features among `values`, in the order of their names.

    Examples:
        >>> specs = {"age": FeatureSpec("number", range=(0.0, 50.0))}
        >>> features_of({"age": 25.0, "shoe": 43.0}, specs)
        (('age', 0.5),)
    """
    if not values:
        return ()
    read = [
        specs[name].read(prefix + name, values[name])
        for name in sorted(values.keys() & specs.keys())
    ]
    return tuple([feature for feature in read if feature is not None])


def context_features(context: Context, specs: dict[str, FeatureSpec]) -> Features:
    """Read a context: segment, role, moment, usage and the declared features.

    A usage with a limit becomes the used share of it, from 0 to 2; one without is
    squashed like a number without a range. The moment's own features are read by
    the same declarations as the request's, which they do not replace.
    """
    features: list[tuple[str, float]] = [("constant", 1.0)]
    if context.segment:
        features.append((f"segment={context.segment}", 1.0))
    if context.role:
        features.append((f"role={context.role}", 1.0))
    if context.moment.kind:
        features.append((f"moment={context.moment.kind}", 1.0))
    for name in sorted(context.usage):
        usage = context.usage[name]
        if usage.limit is None:
            value = math.copysign(math.log1p(abs(usage.value)), usage.value)
        else:
            value = min(max(usage.value / usage.limit, 0.0), 2.0)
        features.append((f"usage.{name}", value))
    features.extend(features_of(context.features, specs))
    features.extend(features_of(context.moment.features, specs, "moment."))
    return tuple(features)


def unknown_features(context: Context, specs: dict[str, FeatureSpec]) -> set[str]:
    """Return the names that a context holds and the catalogue does not declare."""
    return (context.features.keys() | context.moment.features.keys()) - specs.keys()
