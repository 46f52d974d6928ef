"""What another catalogue would have meant for decisions that were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from policies.catalogue import Catalogue
from policies.engine import eligible, past_of
from policies.model import NO_OFFER, Decision

__all__ = ["Trial", "try_out"]


class Trial(NamedTuple):
    """What came out.

    Attributes:
        decisions: How many decisions were looked at.
        other: How many of them could not be asked of the other catalogue, which lacks
            a placement that they name.
        silenced: How many chose an offer and would have none to choose from.
        gained: By offer, in how many decisions it would be eligible and was not.
        lost: By offer, in how many it was eligible and would not be.
    """

    decisions: int
    other: int
    silenced: int
    gained: Counter[str]
    lost: Counter[str]


def try_out(
    decisions: Iterable[Decision],
    catalogue: Catalogue,
    catalogue_of: Callable[[str], Catalogue],
) -> Trial:
    """Gate what was asked once more, under another catalogue.

    The past is as it was: what the other catalogue would have changed in it is not
    followed.

    Args:
        decisions: What was decided.
        catalogue: The other catalogue.
        catalogue_of: Returns the catalogue of a version, from which actions had their
            numbers.
    """
    count = other = silenced = 0
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for decision in decisions:
        count += 1
        opportunity = decision.opportunity
        if not set(opportunity.placements) <= catalogue.placements.keys():
            other += 1
            continue
        before = catalogue_of(decision.catalogue)
        was = {before.actions[at].offer_id for at in decision.actions if at != NO_OFFER}
        actions, _ = eligible(opportunity, catalogue, past_of(decision))
        would = {action.offer_id for action in actions if action.index != NO_OFFER}
        gained.update(would - was)
        lost.update(was - would)
        silenced += decision.chosen != NO_OFFER and not would
    return Trial(count, other, silenced, gained, lost)
