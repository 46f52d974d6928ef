"""Folds what happened to a user into what the gates remember.

A history is small and bounded: of each offer it holds the last
`IMPRESSIONS_MAX` impressions of the last `REMEMBERED_MS`, and as many reservations,
which is all that any cap may ask for, whatever the catalogue says tomorrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from policies.model import (
    Decision,
    Dismissal,
    History,
    Impression,
    Outcome,
    OutcomeKind,
    Reservation,
)

__all__ = [
    "CONFIRMING",
    "IMPRESSIONS_MAX",
    "REMEMBERED_MS",
    "relevant",
    "report",
    "reserve",
]

IMPRESSIONS_MAX = 100
"""The largest limit of a cap."""

REMEMBERED_MS = 3660 * 86_400_000
"""The longest window of a cap."""

CONFIRMING: frozenset[OutcomeKind] = frozenset(
    [
        "shown",
        "viewed",
        "clicked",
        "accepted",
        "dismissed",
        "snoozed",
        "opted_out",
        "ignored",
    ]
)
"""The outcomes that only an offer on the screen can have: they count as shown."""


def reserve(
    history: History,
    offer_id: str,
    placement_id: str,
    decision: Decision,
    *,
    grace_ms: int = 0,
) -> History:
    """Hold the chosen offer as if it were shown, until it is or its time is over.

    Args:
        history: What was known before.
        offer_id: The offer that the decision chose.
        placement_id: The placement that it chose.
        decision: The decision.
        grace_ms: How long after the decision's time is over a report that it was
            shown in time may take to arrive.
    """
    opportunity = decision.opportunity
    until_ms = decision.valid_until_ms + grace_ms
    new = Reservation(until_ms, offer_id, placement_id, opportunity.decision_id)
    held = [r for r in history.reservations if r.until_ms > opportunity.at_ms]
    same = sum(r.offer_id == offer_id for r in held)
    if same >= IMPRESSIONS_MAX:
        # No cap counts further. The one that ends first is missed the least.
        held.remove(min(r for r in held if r.offer_id == offer_id))
    return msgspec.structs.replace(history, reservations=(*held, new))


def report(
    history: History,
    offer_id: str,
    placement_id: str,
    decision_id: str,
    outcome: Outcome,
    *,
    confirmed: bool,
) -> History:
    """Fold an outcome of a decision that chose an offer.

    Args:
        history: What was known before.
        offer_id: The offer that the decision chose.
        placement_id: The placement that it chose.
        decision_id: The decision.
        outcome: What the user did, not folded before.
        confirmed: Whether an earlier outcome already said that the offer was on the
            screen, so that it counts as shown already.
    """
    if outcome.kind == "not_shown" and not confirmed:
        history = _release(history, decision_id)
    if outcome.kind in CONFIRMING and not confirmed:
        history = _release(history, decision_id)
        history = _impress(history, Impression(outcome.at_ms, offer_id, placement_id))
    if outcome.kind == "dismissed":
        history = _dismiss(history, offer_id, outcome.at_ms)
    return history


def relevant(
    history: History, memories: Mapping[str, tuple[int, float]], at_ms: int
) -> History:
    """Leave out what no gate of these offers can look at.

    Args:
        history: All that is remembered.
        memories: For each offer how many of its last impressions may count, and for
            how long each does, in milliseconds.
        at_ms: The time.
    """
    kept: list[Impression] = []
    taken: Counter[str] = Counter()
    for impression in reversed(history.impressions):
        offer_id = impression.offer_id
        count, window_ms = memories.get(offer_id, (0, 0.0))
        if taken[offer_id] < count and impression.at_ms > at_ms - window_ms:
            taken[offer_id] += 1
            kept.append(impression)
    return History(
        impressions=tuple(reversed(kept)),
        reservations=tuple(
            r
            for r in history.reservations
            if r.offer_id in memories and r.until_ms > at_ms
        ),
        dismissals={
            offer_id: dismissal
            for offer_id, dismissal in history.dismissals.items()
            if offer_id in memories
        },
    )


def _release(history: History, decision_id: str) -> History:
    kept = tuple(r for r in history.reservations if r.decision_id != decision_id)
    return msgspec.structs.replace(history, reservations=kept)


def _impress(history: History, impression: Impression) -> History:
    since_ms = impression.at_ms - REMEMBERED_MS
    same = [i for i in history.impressions if i.offer_id == impression.offer_id]
    others = [i for i in history.impressions if i.offer_id != impression.offer_id]
    same = sorted([*(i for i in same if i.at_ms > since_ms), impression])
    kept = sorted([*others, *same[-IMPRESSIONS_MAX:]])
    return msgspec.structs.replace(history, impressions=tuple(kept))


def _dismiss(history: History, offer_id: str, at_ms: int) -> History:
    before = history.dismissals.get(offer_id, Dismissal(0, at_ms))
    after = Dismissal(before.count + 1, max(before.at_ms, at_ms))
    return msgspec.structs.replace(
        history, dismissals={**history.dismissals, offer_id: after}
    )
