"""What discounts were worth: their estimates hold what would have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from policies.catalogue import Catalogue, read
from policies.discounts import Discount, Discounts, undiscounted
from policies.model import Decision, Money, Opportunity, Outcome, OutcomeKind
from policies.rewards import RewardSettings

CATALOGUE = read(
    """
    currency = "USD"

    [placements.list]

    [offers.tea]
    placements = ["list"]
    price = 1000
    margin = 800

    [offers.tea_less]
    placements = ["list"]
    price = 600
    list_price = 1000
    discount = 400
    margin = 400
    like = "tea"
    """
)
TEA, LESS = 1, 2
BUYS = {"busy": (0.1, 0.5), "idle": (0.5, 0.6)}
"""By segment, who buys at the full price, and who with the discount."""


def decision(chosen: int, less: float, *, full: float | None = None) -> Decision:
    """Return a decision; what is left of the chances is silence's."""
    full = 0.9 - less if full is None else full
    units = [round(each * 10**9) for each in (full, less)]
    return Decision(
        Opportunity("d", 0, "ada", ("list",)),
        CATALOGUE.version,
        "p",
        "0.0",
        (0, TEA, LESS),
        (10**9 - sum(units), *units),
        chosen,
        1,
    )


def outcomes(*kinds: OutcomeKind, **money: Any) -> list[Outcome]:
    return [Outcome(kind, kind, at, **money) for at, kind in enumerate(kinds)]


def reported(
    rows: Sequence[tuple[Decision, Sequence[Outcome]]], catalogue: Catalogue = CATALOGUE
) -> list[Discount]:
    found = Discounts(RewardSettings(rates={"EUR": 1.1}))
    for row in rows:
        found.add(*row, catalogue)
    return found.report()


def world(seed: int, count: int) -> tuple[Discount, float, float]:
    """Return what is said of a world, and what was wasted and gained in it."""
    generator = np.random.default_rng(seed)
    rows = []
    wasted = gained = 0.0
    for _ in range(count):
        segment = ("busy", "idle")[int(generator.integers(2))]
        less = {"busy": 0.7, "idle": 0.2}[segment]
        chosen = int(generator.choice(3, p=[0.1, 0.9 - less, less]))
        taste = generator.random()
        at_full, with_less = (taste < chance for chance in BUYS[segment])
        buys = at_full if chosen == TEA else with_less
        if chosen == LESS:
            wasted += 400.0 * at_full
            gained += 400.0 * with_less - 800.0 * at_full
        rows.append(
            (
                decision(chosen, less),
                outcomes("shown", "accepted") if buys else outcomes("shown"),
            )
        )
    (found,) = reported(rows)
    return found, wasted, gained


def test_what_was_wasted_and_gained_is_what_would_have_been() -> None:
    # Given a world in which it is known who would have bought at the full price
    found, wasted, gained = world(seed=3, count=3_000)

    # When it is estimated from what was shown, then it is near
    assert found.offer_id == "tea_less"
    assert found.instead == ("tea",)
    assert found.given == 400.0 * found.accepted
    assert not found.doubts
    assert found.wasted is not None
    assert found.share is not None
    assert found.gained is not None
    assert found.wasted.value == pytest.approx(wasted, rel=0.2)
    assert found.share.value == pytest.approx(wasted / found.given, abs=0.1)
    assert found.gained.value == pytest.approx(gained, abs=0.2 * found.given)

    # And a simple look at who bought at the full price would have been far off, for it
    # was shown to others
    assert wasted < 0.65 * found.shown * 0.35 * 400.0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        found, *_ = world(seed, 240)
        assert found.wasted is not None
        idle = 0.2 / (0.2 + 0.7)
        expected = found.shown * 400.0 * (idle * 0.5 + (1 - idle) * 0.1)
        held += found.wasted.low <= min(expected, found.given) <= found.wasted.high

    assert held >= 53


def test_no_more_is_wasted_than_was_given() -> None:
    # Given that everybody accepts the full price, and a tenth the discount
    rows = [(decision(TEA, 0.5), outcomes("shown", "accepted"))] * 50
    rows += [(decision(LESS, 0.5), outcomes("shown"))] * 45
    rows += [(decision(LESS, 0.5), outcomes("shown", "accepted"))] * 5

    (found,) = reported(rows)

    assert found.share is not None
    assert (found.given, found.share.value, found.share.high) == (2_000.0, 1.0, 1.0)


def test_only_what_was_shown_and_kept_counts() -> None:
    rows = [
        (decision(LESS, 0.5), outcomes("accepted")),
        (decision(LESS, 0.5), outcomes("shown", "accepted", "refunded")),
        (decision(LESS, 0.5), outcomes("shown", "accepted")),
        (decision(0, 0.5), outcomes("shown", "converted")),
        (decision(TEA, 0.5), outcomes("shown", "dismissed")),
    ]

    (found,) = reported(rows)

    assert (found.shown, found.accepted, found.given) == (2, 1, 400.0)
    assert found.wasted is not None
    assert found.wasted.value == 0.0
    assert found.wasted.high > 0.0


def test_what_could_not_have_been_otherwise_is_told_apart() -> None:
    rows = [(decision(LESS, 0.9, full=0.0), outcomes("shown", "accepted"))] * 3
    (alone,) = reported(rows)
    assert (alone.shown, alone.alone, alone.wasted) == (0, 3, None)
    assert alone.doubts == ()

    rows += [(decision(LESS, 0.5), outcomes("shown", "accepted"))]
    (found,) = reported(rows)
    assert (found.shown, found.alone, found.wasted, found.gained) == (1, 3, None, None)
    assert found.doubts == ("nobody was shown the full price",)


def test_what_was_reported_goes_before_the_catalogue_in_its_currency() -> None:
    money = {"discount": Money("EUR", 100), "margin": Money("EUR", 200)}
    rows = [
        (decision(LESS, 0.5), outcomes("shown", "accepted", **money)),
        (decision(TEA, 0.5), outcomes("shown")),
    ]

    (found,) = reported(rows)

    assert found.given == pytest.approx(110.0)
    assert found.gained is not None
    assert found.gained.value == pytest.approx(220.0)


def test_few_who_were_shown_the_full_price_are_a_doubt() -> None:
    found, *_ = world(seed=1, count=60)

    assert len(found.doubts) == 2
    assert "and 100 are needed" in found.doubts[0]
    assert "accepted it, and 10 are needed" in found.doubts[1]


def test_the_same_offer_without_a_discount_is_found() -> None:
    text = """
    [products.plus]
    [products.pro]
    [placements.list]
    [offers.full]
    placements = ["list"]
    grants = ["plus"]
    [offers.less]
    placements = ["list"]
    grants = ["plus"]
    list_price = 100
    discount = 100
    [offers.other]
    placements = ["list"]
    grants = ["pro"]
    [offers.turned]
    placements = ["list"]
    like = "gift"
    [offers.gift]
    placements = ["list"]
    list_price = 100
    discount = 100
    [offers.single]
    placements = ["list"]
    list_price = 100
    discount = 100
    """

    assert undiscounted(read(text).spec) == {"less": ("full",), "gift": ("turned",)}
