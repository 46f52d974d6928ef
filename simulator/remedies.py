"""Where in a catalogue to look, when a gate holds something back."""

from __future__ import annotations

from collections.abc import Mapping

from policies.specs import CatalogueSpec

__all__ = ["KEYS", "key_of"]

KEYS: Mapping[str, str] = {
    "placement_stop": "",
    "holdout": "holdout.share",
    "opt_out": "",
    "critical_workflow": "placements.{placement}.kind",
    "life_state": "suppressors",
    "sentiment": "sentiment",
    "quiet_hours": "quiet_hours",
    "slots": "placements.{placement}.slots",
    "fatigue": "fatigue",
    "spacing": "spacing.interruptive",
    "session_limit": "spacing.per_session",
    "attention": "attention.budget",
    "placement_cap": "placements.{placement}.caps",
    "offer_stop": "",
    "offer_opt_out": "",
    "lifecycle": "offers.{offer}.state",
    "dates": "offers.{offer}.start",
    "inventory": "offers.{offer}.inventory",
    "budget": "budgets",
    "moments": "offers.{offer}.moments",
    "chosen": "",
    "ownership": "offers.{offer}.grants",
    "ladder": "ladders",
    "requires": "offers.{offer}.requires",
    "complements": "offers.{offer}.complements",
    "buyer": "buyers",
    "eligible": "offers.{offer}.eligible",
    "applicable": "offers.{offer}.applicable",
    "value_discovered": "value_discovered",
    "limit": "offers.{offer}.limit",
    "suitable": "offers.{offer}.suitable",
    "contacts": "contacts.cool_down",
    "snooze": "snooze",
    "dismissal": "offers.{offer}.dismissal",
    "category_dismissal": "categories",
    "once_per_cycle": "offers.{offer}.limit",
    "category_cap": "categories",
    "offer_cap": "offers.{offer}.caps",
    "room": "placements.{placement}.categories",
    "metered": "products",
    "ladder_anchor": "offers.{offer}.anchor",
    "parameters": "offers.{offer}.creatives",
    "creative_cap": "offers.{offer}.creatives",
}
"""By gate, the key that it follows from; empty where no key of a catalogue says it."""


def key_of(
    gate: str, spec: CatalogueSpec, offer_id: str, placement_id: str = ""
) -> str:
    """Return the key of the catalogue that a gate follows from.

    Args:
        gate: The name of the gate; `fallback` for an offer that is only that.
        spec: The catalogue.
        offer_id: The offer that it rejects.
        placement_id: In which placement.

    Returns:
        The key; empty where no key says it: somebody stopped it, or a user did not
        want it.

    Examples:
        >>> from policies.specs import OfferSpec
        >>> spec = CatalogueSpec(offers={"tea": OfferSpec()})
        >>> key_of("offer_cap", spec, "tea")
        'offers.tea.caps'
        >>> key_of("dismissal", spec, "tea"), key_of("our_gate", spec, "tea")
        ('dismissal', 'gates.options.our_gate')
    """
    if gate == "fallback":
        return f"placements.{placement_id}.fallback"
    offer, placement = spec.offers.get(offer_id), spec.placements.get(placement_id)
    match gate:
        case "dismissal" if offer is not None and offer.dismissal is None:
            if offer.dismissal_cool_down is not None:
                return f"offers.{offer_id}.dismissal_cool_down"
            return "dismissal"
        case "value_discovered" if offer is not None and offer.value_discovered:
            return f"offers.{offer_id}.value_discovered"
        case "placement_cap" if placement is not None and not placement.caps:
            return "caps"
    key = KEYS.get(gate, f"gates.options.{gate}")
    return key.format(offer=offer_id, placement=placement_id)
