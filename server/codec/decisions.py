"""Writes decisions: what was chosen, why not, and whether it still stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opportune.v1 import (
    decision_pb2,
    decision_service_pb2,
    message_pb2,
    outcome_pb2,
)
from policies.catalogue import Catalogue
from policies.engine import Explanation, Refusal, silence
from policies.gates import Ruling
from policies.messages import Message, Value
from policies.model import (
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Decision,
    Money,
    Rejection,
)
from policies.specs import OfferSpec
from server.codec.checks import Check, money_to_proto, timestamp

__all__ = [
    "check_to_proto",
    "decision_to_proto",
    "explanation_to_proto",
    "named_decision_from_proto",
    "offer_state",
]

_REASONS: Mapping[str, decision_pb2.Reason.ValueType] = {
    name.removeprefix("REASON_"): value
    for name, value in decision_pb2.Reason.items()
    if value != decision_pb2.REASON_UNSPECIFIED
}
_GONE = frozenset(
    [
        "WITHDRAWN",
        "STOPPED",
        "PAUSED",
        "NOT_APPROVED",
        "ARCHIVED",
        "NOT_STARTED",
        "ALREADY_OWNED",
        "PENDING_PURCHASE",
        "INVENTORY_EXHAUSTED",
        "BUDGET_EXHAUSTED",
    ]
)
"""The reasons for which an offer cannot be had, not only not be shown."""


def named_decision_from_proto(
    request: (
        decision_service_pb2.ExplainDecisionRequest
        | decision_service_pb2.CheckDecisionRequest
    ),
) -> str:
    """Read which decision a question is about.

    Raises:
        InvalidRequestError: If it does not say so.
    """
    check = Check()
    if not request.decision_id:
        check.wrong("decision_id", "is required: as GetOffer answered it")
    check.done()
    return request.decision_id


def decision_to_proto(
    decision: Decision,
    rejections: Sequence[Rejection],
    catalogue: Catalogue,
    view: decision_pb2.DecisionView.ValueType,
    *,
    message: Message | None = None,
    refusals: Sequence[Refusal] | None = None,
) -> decision_pb2.Decision:
    """Write a decision.

    Args:
        decision: The decision.
        rejections: What the verdict says could not be chosen.
        catalogue: The catalogue of that decision.
        view: How much of it to write.
        message: What to tell the user; none for no offer.
        refusals: What could not be chosen, in full, to be listed in place of the
            rejections.
    """
    opportunity = decision.opportunity
    written = decision_pb2.Decision(
        decision_id=opportunity.decision_id,
        propensity=decision.propensity,
        policy_version=decision.policy,
        model_version=decision.model,
        catalogue_version=decision.catalogue,
        decide_time=timestamp(opportunity.at_ms),
        valid_until=timestamp(decision.valid_until_ms),
    )
    if decision.chosen == NO_OFFER:
        why = silence(decision, rejections)
        written.reason = _reason(why.reason)
        if why.next_eligible_ms is not None:
            written.next_eligible_time.CopyFrom(timestamp(why.next_eligible_ms))
    else:
        _write_offer(written, catalogue.actions[decision.chosen], catalogue)
    if message is not None:
        written.message.CopyFrom(_message(message, catalogue.currency))
    if view == decision_pb2.DECISION_VIEW_FULL:
        written.floor = decision.floor / PROBABILITY_UNITS
        written.candidates.extend(_candidates(decision, catalogue))
        listed = rejections if refusals is None else refusals
        written.rejections.extend(map(_rejection, listed))
    return written


def explanation_to_proto(
    explanation: Explanation,
    rejections: Sequence[Rejection],
    catalogue: Catalogue,
    message: Message | None = None,
) -> decision_pb2.Explanation:
    """Write why a decision was made as it was.

    Args:
        explanation: Why.
        rejections: What its verdict said could not be chosen, from which follows what
            was answered.
        catalogue: The catalogue of that decision.
        message: What the user was told; none for no offer.
    """
    decision = explanation.decision
    return decision_pb2.Explanation(
        decision=decision_to_proto(
            decision,
            rejections,
            catalogue,
            decision_pb2.DECISION_VIEW_FULL,
            message=message,
            refusals=(),
        ),
        rejections=map(_refusal, explanation.refusals),
        bypasses=map(_refusal, explanation.bypasses),
        consent_version=decision.history.preferences.version,
        account_consent_version=decision.account.preferences.version,
        stopped_scopes=decision.conditions.stopped,
        exhausted_supplies=decision.conditions.exhausted,
    )


def offer_state(
    *, offered: bool, why: Ruling | None = None, lapsed: bool = False
) -> outcome_pb2.OfferState.ValueType:
    """Say whether an offer can still be had.

    Args:
        offered: Whether the decision chose an offer.
        why: Why the decision does not stand any more; none where it does.
        lapsed: Whether what was held of it for the user was given back.
    """
    if not offered:
        return outcome_pb2.OFFER_STATE_UNSPECIFIED
    if why is not None and why.reason in _GONE:
        return outcome_pb2.OFFER_STATE_WITHDRAWN
    if lapsed or (why is not None and why.reason == "EXPIRED"):
        return outcome_pb2.OFFER_STATE_EXPIRED
    return outcome_pb2.OFFER_STATE_ACTIVE


def check_to_proto(
    *, offered: bool, why: Ruling | None
) -> decision_service_pb2.CheckDecisionResponse:
    """Write whether a decision may still be shown.

    Args:
        offered: Whether the decision chose an offer.
        why: Why it may not be shown any more; none where it may.
    """
    response = decision_service_pb2.CheckDecisionResponse(
        offer_state=offer_state(offered=offered, why=why)
    )
    if offered and why is not None:
        response.reason = _reason(why.reason)
        if why.next_eligible_ms is not None:
            response.next_eligible_time.CopyFrom(timestamp(why.next_eligible_ms))
    return response


def _reason(code: str) -> decision_pb2.Reason.ValueType:
    """Return a reason; those of gates that were added are not in the contract."""
    return _REASONS.get(code, decision_pb2.REASON_CUSTOM)


def _write_offer(
    written: decision_pb2.Decision, action: Action, catalogue: Catalogue
) -> None:
    offer = catalogue.offers[action.offer_id].spec
    placement = catalogue.placements[action.placement_id].spec
    written.offer_id = action.offer_id
    written.creative_id = action.creative_id
    written.placement_id = action.placement_id
    written.category_ids.extend(offer.categories)
    written.fallback = placement.fallback == action.offer_id
    if offer.price or offer.list_price or offer.discount:
        written.price.CopyFrom(_price(offer, catalogue.currency))


def _price(offer: OfferSpec, currency: str) -> decision_pb2.Price:
    """Write what an offer costs; what it would cost follows from the discount."""
    listed = offer.price + offer.discount
    if offer.list_price is not None:
        listed = offer.list_price
    price = decision_pb2.Price(
        price=money_to_proto(Money(currency, offer.price)),
        list_price=money_to_proto(Money(currency, listed)),
    )
    if offer.discount:
        price.discount.CopyFrom(money_to_proto(Money(currency, offer.discount)))
    return price


def _message(message: Message, currency: str) -> message_pb2.Message:
    written = message_pb2.Message(
        template_id=message.template,
        parameters={
            name: _parameter(value, currency)
            for name, value in message.parameters.items()
        },
        reason_code=message.reason,
        dismissible="dismissed" in message.replies,
        snoozable="snoozed" in message.replies,
    )
    if message.link:
        written.link = message.link
    else:
        written.cart_token = message.cart_token
    return written


def _parameter(value: Value, currency: str) -> message_pb2.ParameterValue:
    given = value.value
    written = message_pb2.ParameterValue()
    match value.kind:
        case "text":
            written.text = str(given)
        case "flag":
            written.flag = bool(given)
        case "money":
            written.money.CopyFrom(money_to_proto(Money(currency, int(given))))
        case "time":
            written.time.CopyFrom(timestamp(int(given)))
        case "number":
            written.number = float(given)
        case "percent":
            written.percent = float(given)
        case "duration":
            written.duration_days = float(given)
    return written


def _candidates(
    decision: Decision, catalogue: Catalogue
) -> list[decision_pb2.Candidate]:
    ranked = sorted(
        zip(decision.probabilities, decision.actions, strict=True),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return [
        decision_pb2.Candidate(
            offer_id=catalogue.actions[index].offer_id,
            creative_id=catalogue.actions[index].creative_id,
            placement_id=catalogue.actions[index].placement_id,
            probability=units / PROBABILITY_UNITS,
        )
        for units, index in ranked
    ]


def _rejection(rejection: Rejection | Refusal) -> decision_pb2.Rejection:
    written = decision_pb2.Rejection(
        offer_id=rejection.offer_id,
        creative_id=rejection.creative_id,
        placement_id=rejection.placement_id,
        reason=_reason(rejection.reason),
        gate=rejection.gate,
    )
    if rejection.next_eligible_ms is not None:
        written.next_eligible_time.CopyFrom(timestamp(rejection.next_eligible_ms))
    return written


def _refusal(refusal: Refusal) -> decision_pb2.Rejection:
    written = _rejection(refusal)
    written.found = refusal.found
    written.needed = refusal.needed
    return written
