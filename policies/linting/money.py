"""Prices, discounts and budgets that do not go together."""

from __future__ import annotations

from policies.linting.base import MONEY_MAX, Note, between
from policies.specs import CatalogueSpec, OfferSpec

__all__ = ["lint_money"]


def lint_money(note: Note, offer: OfferSpec, catalogue: CatalogueSpec) -> None:
    """Check what an offer costs; notes it under the offer's own keys."""
    between(note, offer.price, 0, MONEY_MAX, "price")
    if offer.kind == "free_help" and offer.price > 0:
        note(f"is 0 for free_help, which costs nothing, not {offer.price:,}", "price")
    if offer.list_price is not None or offer.discount:
        _lint_discount(note, offer)
    if offer.margin is not None:
        _lint_margin(note, offer, offer.margin)
    if offer.budget:
        _lint_budget(note, offer, catalogue)
    if offer.buyers_only and not catalogue.buyers:
        said = "needs `buyers` at the top of the file, the roles that may buy"
        note(f"{said}; without it all may", "buyers_only")
    if offer.inventory is not None:
        advice = "; to never show an offer, leave it out"
        between(note, offer.inventory, 1, MONEY_MAX, "inventory", advice=advice)


def _lint_discount(note: Note, offer: OfferSpec) -> None:
    right = offer.price + offer.discount
    if not 0 <= offer.discount <= MONEY_MAX:
        between(note, offer.discount, 0, MONEY_MAX, "discount")
    elif offer.list_price is None:
        note(f"needs list_price, the price before it: {right:,}", "discount")
    elif offer.discount > offer.list_price:
        said = f"is more than the list_price, {offer.list_price:,}"
        note(f"{said}; nobody is paid for taking an offer", "discount")
    elif offer.list_price != right:
        said = f"is the price and the discount together, {right:,}"
        note(f"{said}, not {offer.list_price:,}", "list_price")


def _lint_margin(note: Note, offer: OfferSpec, margin: int) -> None:
    if margin < 0 < offer.discount:
        floor = max(0, margin + offer.discount)
        said = f"leaves less than nothing of the price: the margin is {margin:,}"
        note(f"{said}; take off at most {floor:,}", "discount")
    elif margin < 0:
        note(f"is 0 or more, not {margin:,}: it is sold below its costs", "margin")
    elif margin > max(offer.price, 0):
        said = f"is a part of the price, at most {offer.price:,}"
        note(f"{said}, not {margin:,}", "margin")


def _lint_budget(note: Note, offer: OfferSpec, catalogue: CatalogueSpec) -> None:
    budget = catalogue.budgets.get(offer.budget)
    if budget is None:
        note(f"there is no [budgets.{offer.budget}]", "budget")
        return
    if not offer.discount:
        note("pays for a discount, and there is none; leave it out", "budget")
    for key, most in (("amount", budget.amount), ("per_day", budget.per_day)):
        if most is not None and 0 < most < offer.discount:
            said = f"is more than the {key} of [budgets.{offer.budget}], {most:,}"
            note(f"{said}, which would not pay for a single one", "discount")
