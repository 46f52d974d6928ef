"""Ladders that nobody could climb, and bundles of what is not sold any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from policies.linting.base import Note, declared, id_of, under
from policies.specs import CatalogueSpec, OfferSpec

__all__ = ["lint_bundles", "lint_ladders"]

_STEP_MAX = 1_000


def lint_ladders(note: Note, spec: CatalogueSpec) -> None:
    """Check the ladders, each by itself and together."""
    sold = {
        product
        for offer in spec.offers.values()
        if offer.state != "archived"
        for product in offer.grants
    }
    above: dict[str, set[str]] = {}
    for name, ladder in spec.ladders.items():
        here = under(note, "ladders", name)
        id_of(here, "a ladder", name)
        declared(here, ladder.rungs, spec.products, "products", "rungs")
        if len(ladder.rungs) < 2:
            here("names at least two products, the smallest first", "rungs")
        if not 1 < ladder.max_step <= _STEP_MAX:
            said = f"is above 1 and at most {_STEP_MAX:,}, not {ladder.max_step:g}"
            here(said, "max_step")
        for rung, higher in _holes(ladder.rungs, sold):
            said = f"no offer grants {rung}, so that nobody climbs to {higher}"
            here(f"{said}; offer it, or take it out", "rungs")
        for lower, higher in pairwise(dict.fromkeys(ladder.rungs)):
            if lower in _reached(above, higher):
                said = f"{higher} is below {lower} on another ladder"
                here(f"{said}; they go round in a circle", "rungs")
            else:
                above.setdefault(lower, set()).add(higher)


def _holes(rungs: tuple[str, ...], sold: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the rungs that nobody sells below one that somebody does, with that one."""
    for at, rung in enumerate(rungs[1:], start=1):
        higher = [product for product in rungs[at + 1 :] if product in sold]
        if rung not in sold and higher:
            yield rung, higher[0]


def _reached(above: Mapping[str, set[str]], product: str) -> set[str]:
    """Return what is above a product on any ladder, itself included."""
    reached: set[str] = set()
    ahead = [product]
    while ahead:
        here = ahead.pop()
        if here not in reached:
            reached.add(here)
            ahead.extend(above.get(here, ()))
    return reached


def lint_bundles(note: Note, spec: CatalogueSpec) -> None:
    """Check what bundles are made of."""
    offers_of: dict[str, list[tuple[str, OfferSpec]]] = {}
    for offer_id, offer in spec.offers.items():
        for product in offer.grants:
            offers_of.setdefault(product, []).append((offer_id, offer))
    for offer_id, offer in spec.offers.items():
        here = under(note, "offers", offer_id)
        if offer.kind != "bundle":
            if offer.credit:
                here("is for offers of kind bundle alone", "credit")
            continue
        if len(offer.grants) < 2:
            here("of a bundle names at least two products", "grants")
        for product in dict.fromkeys(offer.grants):
            others = [o for named, o in offers_of[product] if named != offer_id]
            gone = others and all(other.state == "archived" for other in others)
            if gone and offer.state != "archived":
                said = f"names {product}, whose own offers are all archived"
                here(f"{said}; take it out, or archive the bundle", "grants")
