"""Engagement: who uses a product much bears more offers."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.engagement import Engagement
from policies.gates.frequency import OfferCap
from policies.model import Context, State
from policies.specs import CapSpec, CatalogueSpec, EngagementSpec, OfferSpec
from policies.toml import Duration
from tests.policies.gates.pasts import DAY, TEA, ask, gates, past, track

RULED = CatalogueSpec(
    engagement=EngagementSpec(low="segment == 'idle'", high="segment != ''")
)


def limit(catalogue: CatalogueSpec, spec: CapSpec, segment: str, told: str) -> int:
    """Return how often a user may see an offer that was shown so far this often."""
    (gate,) = gates(OfferCap, catalogue, offer=OfferSpec(caps=(spec,)))
    context = Context(segment=segment)
    for count in range(1, 200):
        history = past(track("tea", *range(count)), state=State(engagement=told))
        if gate.reject(TEA, ask(count, history, context=context)) is not None:
            return count
    raise AssertionError


WEEKLY = CapSpec(limit=3, window=Duration(7 * DAY))


@pytest.mark.parametrize(("told", "most"), [("low", 1), ("normal", 3), ("high", 4)])
def test_limits_follow_what_the_product_has_told(told: str, most: int) -> None:
    assert limit(CatalogueSpec(), WEEKLY, "", told) == most


@pytest.mark.parametrize(("segment", "most"), [("idle", 1), ("", 3), ("team", 4)])
def test_or_else_what_the_rules_say_low_first(segment: str, most: int) -> None:
    assert limit(RULED, WEEKLY, segment, "") == most


def test_what_was_told_goes_before_the_rules() -> None:
    assert limit(RULED, WEEKLY, "idle", "normal") == 3
    assert limit(RULED, WEEKLY, "idle", "high") == 4


def test_without_rules_and_words_limits_are_as_they_are() -> None:
    assert limit(CatalogueSpec(), WEEKLY, "idle", "") == 3


@pytest.mark.parametrize(
    "spec",
    [
        CapSpec(limit=4),
        CapSpec(limit=4, window=Duration(7 * DAY), scales=False),
    ],
)
def test_caps_for_life_and_caps_that_are_told_not_to_do_not_follow(
    spec: CapSpec,
) -> None:
    assert limit(CatalogueSpec(), spec, "", "low") == 4
    assert limit(CatalogueSpec(), spec, "", "high") == 4


@pytest.mark.parametrize(
    ("base", "factor", "most"),
    [(1, 0.5, 1), (1, 0.01, 1), (5, 0.5, 2), (100, 0.29, 29)],
)
def test_limits_are_rounded_down_but_never_below_one(
    base: int, factor: float, most: int
) -> None:
    asked = ask(0, past(state=State(engagement="low")))

    assert Engagement(low_factor=factor).scaled(base, asked) == most


def test_it_says_that_a_limit_is_scaled() -> None:
    (gate,) = gates(OfferCap, offer=OfferSpec(caps=(WEEKLY,)))
    history = past(track("tea", 0), state=State(engagement="low"))
    asked = ask(1, history)

    assert gate.reject(TEA, asked) == Ruling("FREQUENCY_CAP", 7 * DAY)
    assert gate.because(TEA, asked) == Because(
        "tea shown 1 time in the last 7d",
        "fewer than 1 (3 × 0.5 for the user's engagement)",
    )
