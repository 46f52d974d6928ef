"""What no offer does to a user: the rules that no catalogue may switch off."""

from __future__ import annotations

from policies.linting.base import Note
from policies.specs import OfferSpec

__all__ = ["lint_honesty"]


def lint_honesty(note: Note, offer: OfferSpec) -> None:
    """Check that an offer is honest; notes it under the offer's own keys."""
    if not offer.dismissible:
        note("is true: every user can wave every offer away", "dismissible")
    if offer.preselected:
        note("is false: nothing is chosen but by the user", "preselected")
    if offer.deadline == "per_view":
        said = "is none or fixed: a deadline that starts anew for each view is none"
        note(said, "deadline")
    if offer.deadline == "fixed" and offer.end is None:
        note("is fixed by `end`, which is missing", "deadline")
    if (offer.price > 0 or offer.renews) and not offer.price_shown:
        note("is true: a user sees what they will pay before the accept", "price_shown")
    if offer.renews and not offer.cancel_path.strip():
        said = "is where the user cancels what renews; it is missing"
        note(said, "cancel_path")
