"""What another catalogue would have meant for decisions that were made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from policies.catalogue import Catalogue
from policies.engine import eligible, past_of
from policies.model import NO_OFFER, Decision

__all__ = ["Trial", "try_out"]


class Trial(NamedTuple):
    """What came out.

    Attributes:
        decisions: How many decisions were looked at.
        other: How many of them name a placement that one of the catalogues lacks.
        silenced: How many would have none to choose from, and have under what is in
            use.
        gained: By offer, in how many decisions it would be eligible and now is not.
        lost: By offer, in how many it is eligible now and would not be.
    """

    decisions: int
    other: int
    silenced: int
    gained: Counter[str]
    lost: Counter[str]


def try_out(
    decisions: Iterable[Decision], catalogue: Catalogue, current: Catalogue
) -> Trial:
    """Gate what was asked once more, under what is in use and under another catalogue.

    The past is as it was: what the catalogues would have changed in it is not followed.

    Args:
        decisions: What was decided, under whichever catalogue.
        catalogue: The other catalogue.
        current: What is in use.
    """
    count = other = silenced = 0
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for decision in decisions:
        count += 1
        asked = set(decision.opportunity.placements)
        if not asked <= catalogue.placements.keys() & current.placements.keys():
            other += 1
            continue
        now, would = _offers(decision, current), _offers(decision, catalogue)
        gained.update(would - now)
        lost.update(now - would)
        silenced += bool(now) and not would
    return Trial(count, other, silenced, gained, lost)


def _offers(decision: Decision, catalogue: Catalogue) -> set[str]:
    actions, _ = eligible(decision.opportunity, catalogue, past_of(decision))
    return {action.offer_id for action in actions if action.index != NO_OFFER}
