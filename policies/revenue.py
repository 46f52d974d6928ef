"""What was bought, what it was worth, and which decision is to be thanked for it.

A purchase is named by its outcome: when several decisions for an offer claim the same
one, the decision that was shown last before it has the credit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from policies.identity import root_of
from policies.joiner import Terms
from policies.model import Action, Decision, Money, Outcome, OutcomeKind

__all__ = ["SALES", "Revenue", "Sale", "attribute"]

SALES: tuple[OutcomeKind, ...] = ("accepted", "converted", "refunded")
"""The outcomes that money comes of."""


class Sale(NamedTuple):
    """A decision of which something came.

    Attributes:
        decision: The decision.
        action: What it chose.
        terms: What the settings and the catalogue say of that.
        outcomes: All that was reported of it.
    """

    decision: Decision
    action: Action
    terms: Terms
    outcomes: Sequence[Outcome]


class Revenue(msgspec.Struct, frozen=True):
    """One outcome that money came of, or was to come of.

    Amounts are in minor units of the catalogue's currency, those in other currencies
    by the rates of the settings; none where that is not known. What a refund gives
    back is below 0.

    Attributes:
        at_ms: When the user did it.
        shown_ms: When the decision was shown last before that; none if it was not.
        account_id: Empty for a user who stands alone.
        offer_id: Empty where no offer was made; likewise creative and placement.
        moment: The kind of the moment; empty for none.
        campaign: The campaign that the offer was part of.
        tags: Its further tags.
        revenue: What the user paid or got back: as it was reported or, for what was
            accepted or refunded, as the catalogue says.
        margin: What was left of that, likewise.
        reported: Whether the revenue was reported.
        claims: How many decisions claim the same purchase, this one among them.
        tied: Whether another of them was shown last at the same time.
        credited: Whether it is this decision's: of a purchase one is, if it was shown
            within the time for attribution; a refund goes with what was bought.
    """

    at_ms: int
    kind: OutcomeKind
    decision_id: str
    outcome_id: str
    user_id: str
    account_id: str
    offer_id: str
    creative_id: str
    placement_id: str
    moment: str
    campaign: str
    tags: tuple[str, ...]
    currency: str
    list_price: float | None
    discount: float | None
    revenue: float | None
    margin: float | None
    reported: bool
    shown_ms: int | None
    claims: int
    tied: bool
    credited: bool


class _Claim(NamedTuple):
    sale: Sale
    outcome: Outcome
    shown_ms: int | None


def attribute(sales: Sequence[Sale]) -> list[Revenue]:
    """Say what was bought, and by which decision.

    Args:
        sales: All decisions of one root of which something came. Those of others claim
            nothing of it.

    Returns:
        A row for each outcome of the kinds of `SALES`, in the order of their times.

    Raises:
        ValueError: If they are of several roots.
    """
    if len({root_of(sale.decision.opportunity.decision_id) for sale in sales}) > 1:
        raise ValueError("the decisions must be of one root")
    bought: dict[tuple[str, ...], list[_Claim]] = defaultdict(list)
    rows: list[Revenue] = []
    refunds: list[_Claim] = []
    for sale in sales:
        for outcome in sale.outcomes:
            claim = _Claim(sale, outcome, _shown_ms(sale, outcome))
            if outcome.kind == "refunded":
                refunds.append(claim)
            elif outcome.kind in SALES:
                key = (outcome.kind, sale.action.offer_id, outcome.outcome_id)
                bought[key].append(claim)
    credited: set[str] = set()
    for claims in bought.values():
        for group in _purchases(claims):
            winner, tied = _winner(group)
            for claim in group:
                won = claim is winner
                if won:
                    credited.add(_id_of(claim))
                rows.append(_row(claim, len(group), tied=claim in tied, credited=won))
    rows += [
        _row(claim, 1, tied=False, credited=_id_of(claim) in credited)
        for claim in refunds
    ]
    return sorted(rows, key=lambda row: (row.at_ms, row.decision_id, row.outcome_id))


def _id_of(claim: _Claim) -> str:
    return claim.sale.decision.opportunity.decision_id


def _shown_ms(sale: Sale, outcome: Outcome) -> int | None:
    shown = [o.at_ms for o in sale.outcomes if o.kind == "shown"]
    return max([at_ms for at_ms in shown if at_ms <= outcome.at_ms], default=None)


def _window_ms(claim: _Claim) -> int:
    return int(claim.sale.terms.rewards.attribution)


def _purchases(claims: Sequence[_Claim]) -> list[list[_Claim]]:
    """Tell apart what has the same name but is too far apart to be the same."""
    groups: list[list[_Claim]] = []
    for claim in sorted(claims, key=lambda c: (c.outcome.at_ms, _id_of(c))):
        first_ms = groups[-1][0].outcome.at_ms if groups else 0
        if groups and claim.outcome.at_ms - first_ms <= _window_ms(claim):
            groups[-1].append(claim)
        else:
            groups.append([claim])
    return groups


def _winner(group: Sequence[_Claim]) -> tuple[_Claim | None, list[_Claim]]:
    """Return whose the purchase is, and who was shown last at the same time."""
    could = [
        (claim.shown_ms, claim)
        for claim in group
        if claim.sale.action.offer_id
        and claim.shown_ms is not None
        and claim.outcome.at_ms - claim.shown_ms <= _window_ms(claim)
    ]
    if not could:
        return None, []
    last_ms = max(shown_ms for shown_ms, _ in could)
    last = [claim for shown_ms, claim in could if shown_ms == last_ms]
    return min(last, key=_id_of), last if len(last) > 1 else []


def _row(claim: _Claim, claims: int, *, tied: bool, credited: bool) -> Revenue:
    sale, outcome, shown_ms = claim
    opportunity, action, offer = (
        sale.decision.opportunity,
        sale.action,
        sale.terms.offer,
    )
    sign = -1.0 if outcome.kind == "refunded" else 1.0

    def amount(reported: Money | None, known: float | None) -> float | None:
        value = known if reported is None else sale.terms.normalised(reported)
        return None if value is None else sign * value

    # What was accepted has the price it was offered at, and a refund gives it back.
    list_price = discount = price = margin = None
    if offer is not None and outcome.kind in ("accepted", "refunded"):
        price, margin = offer.price, offer.margin
    if offer is not None and outcome.kind == "accepted":
        list_price = offer.price if offer.list_price is None else offer.list_price
        discount = offer.discount
    return Revenue(
        at_ms=outcome.at_ms,
        kind=outcome.kind,
        decision_id=opportunity.decision_id,
        outcome_id=outcome.outcome_id,
        user_id=opportunity.user_id,
        account_id=opportunity.account_id,
        offer_id=action.offer_id,
        creative_id=action.creative_id,
        placement_id=action.placement_id,
        moment=opportunity.context.moment.kind,
        campaign="" if offer is None else offer.campaign,
        tags=() if offer is None else offer.tags,
        currency=sale.terms.currency,
        list_price=amount(outcome.list_price, list_price),
        discount=amount(outcome.discount, discount),
        revenue=amount(outcome.revenue, price),
        margin=amount(outcome.margin, margin),
        reported=outcome.revenue is not None,
        shown_ms=shown_ms,
        claims=claims,
        tied=tied,
        credited=credited,
    )
