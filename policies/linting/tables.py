"""What offers refer to: placements, categories, products, budgets and the like."""

from __future__ import annotations

from policies.linting.base import (
    MONEY_MAX,
    Note,
    above,
    between,
    declared,
    id_of,
    name_of,
    under,
)
from policies.linting.caps import lint_caps
from policies.specs import (
    BudgetSpec,
    CatalogueSpec,
    CategorySpec,
    PlacementSpec,
    ProductSpec,
)

__all__ = ["lint_tables"]

_SLOTS_MAX = 20
_DISMISSALS_MAX = 100
_WEIGHT_MAX = 1_000


def lint_tables(note: Note, spec: CatalogueSpec) -> None:
    """Check the tables that offers refer to."""
    for name in spec.features:
        name_of(under(note, "features", name), "a feature", name)
    for name, category in spec.categories.items():
        _lint_category(under(note, "categories", name), name, category, spec)
    for name, product in spec.products.items():
        _lint_product(under(note, "products", name), name, product)
    for name, budget in spec.budgets.items():
        _lint_budget(under(note, "budgets", name), name, budget)
    for name, suppressor in spec.suppressors.items():
        here = under(note, "suppressors", name)
        name_of(here, "a life-state", name)
        categories = suppressor.categories
        declared(here, categories, spec.categories, "categories", "categories")
    if not spec.placements:
        note("a catalogue has at least one placement", "placements")
    for name, placement in spec.placements.items():
        _lint_placement(under(note, "placements", name), name, placement, spec)


def _lint_category(
    note: Note, name: str, spec: CategorySpec, catalogue: CatalogueSpec
) -> None:
    id_of(note, "a category", name)
    lint_caps(under(note, "caps"), spec.caps, catalogue.engagement, of="categories")
    between(note, spec.dismissals, 0, _DISMISSALS_MAX, "dismissals")
    if spec.dismissals:
        above(note, spec.dismissals_window, 0, "dismissals_window")
    if spec.dismissals or spec.household:
        above(note, spec.cool_down, 0, "cool_down")


def _lint_product(note: Note, name: str, spec: ProductSpec) -> None:
    id_of(note, "a product", name)
    between(note, spec.price, 0, MONEY_MAX, "price")
    above(note, spec.limit, 0, "limit")


def _lint_budget(note: Note, name: str, spec: BudgetSpec) -> None:
    id_of(note, "a budget", name)
    between(note, spec.amount, 1, MONEY_MAX, "amount")
    if spec.per_day is not None and 1 <= spec.amount <= MONEY_MAX:
        advice = "; it is a part of the amount"
        between(note, spec.per_day, 1, spec.amount, "per_day", advice=advice)


def _lint_placement(
    note: Note, name: str, spec: PlacementSpec, catalogue: CatalogueSpec
) -> None:
    id_of(note, "a placement", name)
    if spec.interruptiveness is not None:
        weight = spec.interruptiveness
        between(note, weight, 0, _WEIGHT_MAX, "interruptiveness")
    between(note, spec.slots, 1, _SLOTS_MAX, "slots")
    declared(note, spec.categories, catalogue.categories, "categories", "categories")
    lint_caps(under(note, "caps"), spec.caps, catalogue.engagement, of="placements")
    if spec.sticky > catalogue.valid_for:
        most = f"valid_for, {catalogue.valid_for.text}"
        note(f"is at most {most}, not {spec.sticky.text}", "sticky")
    if spec.fallback:
        _lint_fallback(note, name, spec.fallback, catalogue)


def _lint_fallback(
    note: Note, name: str, fallback: str, catalogue: CatalogueSpec
) -> None:
    offer = catalogue.offers.get(fallback)
    if offer is None:
        note(f"there is no [offers.{fallback}]", "fallback")
    elif name not in offer.placements:
        note(f"[offers.{fallback}] does not name this placement", "fallback")
    elif offer.state == "archived":
        note(f"[offers.{fallback}] is archived, and never shown", "fallback")
