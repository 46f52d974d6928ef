"""Products that are paid by consumption: growth is no reason to interrupt."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Facts, Ruling, Situation
from policies.gates.metered import ConsumptionPriced
from policies.model import NO_HISTORY, Action, Context, Opportunity, Usage
from policies.rules import Expression, Rule
from policies.specs import (
    CatalogueSpec,
    OfferKind,
    OfferSpec,
    PlacementSpec,
    ProductSpec,
)

ACTION = Action(1, "more_compute", "default", "home", ())
CATALOGUE = CatalogueSpec(
    products={"seats": ProductSpec(), "compute": ProductSpec(metered=True)}
)
GROWING = Situation(
    Opportunity(
        "d",
        0,
        "ada",
        ("home",),
        context=Context(usage={"compute": Usage(140.0, per_day=4.0)}),
    ),
    NO_HISTORY,
)


def gate(
    kind: OfferKind, placement: PlacementSpec, *grants: str
) -> ConsumptionPriced | None:
    facts = Facts(
        CATALOGUE,
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
        offer=OfferSpec(kind=kind, grants=grants),
        placement=placement,
    )
    return next(iter(ConsumptionPriced.of(facts)), None)


INLINE = PlacementSpec()
BANNER, MODAL = PlacementSpec(kind="banner"), PlacementSpec(kind="modal")
MORE: list[OfferKind] = [
    "upsell",
    "usage_pack",
    "add_on",
    "seats",
    "cross_sell",
    "bundle",
]
SAVINGS: list[OfferKind] = ["term", "free_help"]


@pytest.mark.parametrize("kind", MORE)
@pytest.mark.parametrize(
    "placement", [INLINE, BANNER, MODAL], ids=["inline", "banner", "modal"]
)
def test_more_of_what_is_metered_is_shown_nowhere(
    kind: OfferKind, placement: PlacementSpec
) -> None:
    made = gate(kind, placement, "seats", "compute")

    assert made is not None
    assert made.reject(ACTION, GROWING) == Ruling("CONSUMPTION_PRICED")
    assert made.because(ACTION, GROWING) == Because(
        "compute is metered", "a term or free help, where it does not interrupt"
    )


@pytest.mark.parametrize("kind", SAVINGS)
def test_a_saving_is_shown_inline_and_interrupts_nowhere(kind: OfferKind) -> None:
    assert gate(kind, INLINE, "compute") is None
    for placement in (BANNER, MODAL):
        made = gate(kind, placement, "compute")
        assert made is not None
        assert made.reject(ACTION, GROWING) == Ruling("CONSUMPTION_PRICED")
        assert made.because(ACTION, GROWING) == Because(
            "compute is metered, and home interrupts",
            "a placement that does not interrupt",
        )


@pytest.mark.parametrize("grants", [(), ("seats",), ("unheard_of",)])
def test_what_is_not_metered_is_none_of_its_business(grants: tuple[str, ...]) -> None:
    assert gate("upsell", MODAL, *grants) is None
