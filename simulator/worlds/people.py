"""Who there is: every number about a user is a hash, whatever is decided for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from policies.model import FeatureValue
from simulator.worlds.spec import FeatureDraw, SegmentSpec, WorldSpec

__all__ = ["Habit", "Person", "among", "exponential", "person", "uniform"]


class Habit(NamedTuple):
    """How a user uses something.

    Attributes:
        start: How much is used at the beginning, as a share of the limit; where counts
            start anew, how much of the cycle is over then.
        per_day: How much it grows a day, as a share.
    """

    start: float
    per_day: float


class Person(NamedTuple):
    """A user.

    Attributes:
        number: Which of the world's users, from 0.
        user_id: The name that the product gives them; other seeds, other names.
        segment: The name of their segment.
        spec: What holds of that.
        features: What is known of them at the beginning.
        habits: By usage, how they use it.
        needs: The offers that they need.
        states: The life-states that hold for them.
    """

    number: int
    user_id: str
    segment: str
    spec: SegmentSpec
    features: dict[str, FeatureValue]
    habits: dict[str, Habit]
    needs: frozenset[str]
    states: tuple[str, ...] = ()


def uniform(*parts: object) -> float:
    """Return a number in [0, 1) that is a hash of what it is for.

    Examples:
        >>> uniform(1, "u7", 3, "accept") == uniform(1, "u7", 3, "accept")
        True
        >>> uniform(1, "u7", 3, "accept") == uniform(1, "u7", 4, "accept")
        False
    """
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def exponential(mean: float, *parts: object) -> float:
    """Return a number with an exponential distribution, in the unit of its mean."""
    return -math.log1p(-uniform(*parts)) * mean


def among(shares: Mapping[str, float], drawn: float) -> str:
    """Return one of several names, by a number in [0, 1).

    Examples:
        >>> among({"free": 3.0, "team": 1.0}, 0.74), among({"free": 3, "team": 1}, 0.75)
        ('free', 'team')
    """
    left = drawn * sum(shares.values())
    name = ""
    for name, share in shares.items():
        left -= share
        if left < 0.0:
            return name
    return name


def person(spec: WorldSpec, seed: int, number: int) -> Person:
    """Return a user of a world, always the same one.

    Args:
        spec: The world.
        seed: The seed.
        number: Which user, from 0.
    """
    user_id = f"s{seed}-u{number}"

    def drawn(*what: object) -> float:
        return uniform(seed, number, *what)

    shares = {name: segment.share for name, segment in spec.segments.items()}
    name = among(shares, drawn("segment"))
    segment = spec.segments[name]
    return Person(
        number,
        user_id,
        name,
        segment,
        {
            feature: _value(draw, drawn("feature", feature))
            for feature, draw in segment.features.items()
        },
        {
            usage: Habit(
                _between(each.start, drawn("usage", usage, "start")),
                _between(each.per_day, drawn("usage", usage, "per_day")),
            )
            for usage, each in segment.usage.items()
        },
        frozenset(
            [o for o, share in segment.needs.items() if drawn("need", o) < share]
        ),
        tuple([s for s, share in segment.states.items() if drawn("state", s) < share]),
    )


def _value(draw: FeatureDraw, drawn: float) -> FeatureValue:
    if draw.between is not None:
        return _between(draw.between, drawn)
    if draw.among:
        return among(draw.among, drawn)
    return drawn < (draw.chance or 0.0)


def _between(span: tuple[float, float], drawn: float) -> float:
    return span[0] + (span[1] - span[0]) * drawn
