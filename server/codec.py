"""Translates between the wire's messages and the nouns of `policies`.

What comes in is checked here, once, and every wrong field is named in one error;
what is past this point can be relied on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import context_pb2, decision_pb2, decision_service_pb2, outcome_pb2
from policies.catalogue import Catalogue
from policies.engine import silence
from policies.errors import InvalidRequestError, Problem
from policies.identity import decision_id, root_key
from policies.model import (
    NO_MOMENT,
    NO_OFFER,
    PROBABILITY_UNITS,
    Context,
    Decision,
    FeatureValue,
    Moment,
    Money,
    Opportunity,
    Outcome,
    OutcomeKind,
    Rejection,
    Usage,
)

__all__ = [
    "decision_id_from_proto",
    "decision_id_of",
    "decision_to_proto",
    "opportunity_from_proto",
    "outcomes_from_proto",
    "results_to_proto",
]

_ID_MAX = 128
_TEXT_MAX = 256
_FEATURES_MAX = 100
_PLACEMENTS_MAX = 50
_OFFERS_MAX = 1_000
_OUTCOMES_MAX = 100
_QUOTE_MAX = 40
_CLOCK_SKEW_MS = 300_000
_SNOOZE_MAX_MS = 366 * 86_400_000
_VIEW_MAX_MS = 86_400_000
_MONEY_MAX = 10**15
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

_REASONS: dict[str, decision_pb2.Reason.ValueType] = {
    name.removeprefix("REASON_"): value for name, value in decision_pb2.Reason.items()
}
_KINDS: dict[int, OutcomeKind] = {
    outcome_pb2.OUTCOME_KIND_SHOWN: "shown",
    outcome_pb2.OUTCOME_KIND_NOT_SHOWN: "not_shown",
    outcome_pb2.OUTCOME_KIND_VIEWED: "viewed",
    outcome_pb2.OUTCOME_KIND_CLICKED: "clicked",
    outcome_pb2.OUTCOME_KIND_ACCEPTED: "accepted",
    outcome_pb2.OUTCOME_KIND_CONVERTED: "converted",
    outcome_pb2.OUTCOME_KIND_DISMISSED: "dismissed",
    outcome_pb2.OUTCOME_KIND_SNOOZED: "snoozed",
    outcome_pb2.OUTCOME_KIND_OPTED_OUT: "opted_out",
    outcome_pb2.OUTCOME_KIND_IGNORED: "ignored",
    outcome_pb2.OUTCOME_KIND_REFUNDED: "refunded",
    outcome_pb2.OUTCOME_KIND_DOWNGRADED: "downgraded",
    outcome_pb2.OUTCOME_KIND_CHURNED: "churned",
}
_VIEWS = frozenset(decision_pb2.DecisionView.values())
_WITHOUT_OFFER: frozenset[OutcomeKind] = frozenset(
    ["shown", "not_shown", "converted", "refunded", "downgraded", "churned"]
)


class _Check:
    """Collects what is wrong with a request."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, field: str, description: str) -> None:
        self.problems.append(Problem(field, description))

    def done(self) -> None:
        """Raise if anything was wrong."""
        if self.problems:
            raise InvalidRequestError(self.problems)

    def text(
        self, field: str, value: str, limit: int = _ID_MAX, *, required: bool = False
    ) -> str:
        if len(value) > limit:
            self.wrong(field, f"has {len(value)} characters; at most {limit}")
        elif not value:
            if required:
                self.wrong(field, "is required")
        elif _CONTROL.search(value):
            self.wrong(field, "holds control characters")
        return value

    def count(
        self, field: str, values: Sequence[Any] | Mapping[str, Any], most: int
    ) -> bool:
        """Say whether there are at most so many; what is too much is not looked at."""
        if len(values) > most:
            self.wrong(field, f"has {len(values)} entries; at most {most}")
            return False
        return True


def opportunity_from_proto(
    request: decision_service_pb2.GetOfferRequest,
    *,
    request_id: str,
    tenant: str,
    at_ms: int,
    catalogue: Catalogue,
) -> Opportunity:
    """Read what a product server asks.

    Args:
        request: The message.
        request_id: The request's own or, where that is empty, one made up.
        tenant: Whose user it is.
        at_ms: The time.
        catalogue: What the placements and offers must be part of.

    Raises:
        InvalidRequestError: It names every wrong field.
    """
    check = _Check()
    user_id = check.text("user_id", request.user_id, required=True)
    account_id = check.text("account_id", request.account_id)
    session_id = check.text("session_id", request.session_id)
    check.text("request_id", request.request_id)
    placements = _names(
        check,
        "placement_ids",
        request.placement_ids,
        _PLACEMENTS_MAX,
        catalogue.placements,
    )
    if not request.placement_ids:
        check.wrong("placement_ids", "is required: the placements that can render now")
    offers = _names(
        check, "offer_ids", request.offer_ids, _OFFERS_MAX, catalogue.offers
    )
    if request.view not in _VIEWS:
        check.wrong("view", f"{request.view} is no view")
    context = _context(check, request.context)
    check.done()
    return Opportunity(
        decision_id=decision_id_of(request, request_id, tenant),
        at_ms=at_ms,
        user_id=user_id,
        account_id=account_id,
        session_id=session_id,
        placements=placements,
        offers=offers,
        context=context,
    )


def decision_id_of(
    request: decision_service_pb2.GetOfferRequest, request_id: str, tenant: str
) -> str:
    """Return the id of the decision that a request is answered with."""
    root = root_key(tenant, request.account_id, request.user_id)
    return decision_id(root, request.user_id, request_id)


def _names(
    check: _Check,
    field: str,
    names: Sequence[str],
    most: int,
    known: frozenset[str] | Mapping[str, Any],
) -> tuple[str, ...]:
    if not check.count(field, names, most):
        return ()
    for at, name in enumerate(names):
        if name not in known:
            check.wrong(f"{field}[{at}]", f"the catalogue has no {_shortened(name)!r}")
    return tuple(names)


def _context(check: _Check, context: context_pb2.Context) -> Context:
    return Context(
        role=check.text("context.role", context.role, _TEXT_MAX),
        segment=check.text("context.segment", context.segment, _TEXT_MAX),
        usage=_usage(check, context.usage),
        moment=_moment(check, context.moment),
        features=_features(check, "context.features", context.features),
    )


def _moment(check: _Check, moment: context_pb2.Moment) -> Moment:
    kind = check.text("context.moment.kind", moment.kind)
    if kind and not _FEATURE_NAME.fullmatch(kind):
        check.wrong("context.moment.kind", f"is {_FEATURE_NAME.pattern}")
    features = _features(check, "context.moment.features", moment.features)
    return Moment(kind, features) if kind or features else NO_MOMENT


def _usage(check: _Check, usages: Mapping[str, context_pb2.Usage]) -> dict[str, Usage]:
    if not check.count("context.usage", usages, _FEATURES_MAX):
        return {}
    read: dict[str, Usage] = {}
    for name, usage in usages.items():
        _key(check, "context.usage", name)
        value = usage.value
        limit = usage.limit if usage.HasField("limit") else None
        if not 0.0 <= value < math.inf:
            field = f"{_entry('context.usage', name)}.value"
            check.wrong(field, f"must be finite and 0 or more, not {value}")
        if limit is not None and not 0.0 < limit < math.inf:
            field = f"{_entry('context.usage', name)}.limit"
            check.wrong(field, f"must be finite and above 0, not {limit}; or unset")
        read[name] = Usage(value, limit)
    return read


def _features(
    check: _Check, field: str, features: Mapping[str, context_pb2.FeatureValue]
) -> dict[str, FeatureValue]:
    if not features or not check.count(field, features, _FEATURES_MAX):
        return {}
    read: dict[str, FeatureValue] = {}
    for name, value in features.items():
        _key(check, field, name)
        kind = value.WhichOneof("kind")
        if kind == "number":
            read[name] = number = value.number
            if not math.isfinite(number):
                here = f"{_entry(field, name)}.number"
                check.wrong(here, f"must be finite, not {number}")
        elif kind == "category":
            read[name] = category = value.category
            if len(category) > _TEXT_MAX or _CONTROL.search(category):
                check.text(f"{_entry(field, name)}.category", category, _TEXT_MAX)
        elif kind == "flag":
            read[name] = value.flag
        else:
            wrong = "has no value: a number, a category or a flag"
            check.wrong(_entry(field, name), wrong)
    return read


def _key(check: _Check, field: str, name: str) -> None:
    if not _FEATURE_NAME.fullmatch(name):
        check.wrong(_entry(field, name), f"a name is {_FEATURE_NAME.pattern}")


def _entry(field: str, name: str) -> str:
    """Return how to call an entry of a map."""
    return f"{field}[{_shortened(name)!r}]"


def _shortened(name: str) -> str:
    return name if len(name) <= _QUOTE_MAX else name[:_QUOTE_MAX] + "…"


def decision_id_from_proto(request: decision_service_pb2.ReportOutcomeRequest) -> str:
    """Read which decision a report is about.

    Raises:
        InvalidRequestError: If it does not say so.
    """
    check = _Check()
    if not request.decision_id:
        check.wrong("decision_id", "is required: as GetOffer answered it")
        if not request.outcomes:
            check.wrong("outcomes", "is required: at least one outcome")
    check.done()
    return request.decision_id


def decision_to_proto(
    decision: Decision,
    rejections: Sequence[Rejection],
    catalogue: Catalogue,
    view: decision_pb2.DecisionView.ValueType,
) -> decision_pb2.Decision:
    """Write a decision.

    Args:
        decision: The decision.
        rejections: What could not be chosen.
        catalogue: The catalogue of that decision.
        view: How much of it to write.
    """
    opportunity = decision.opportunity
    message = decision_pb2.Decision(
        decision_id=opportunity.decision_id,
        propensity=decision.propensity,
        policy_version=decision.policy,
        model_version=decision.model,
        catalogue_version=decision.catalogue,
        decide_time=_timestamp(opportunity.at_ms),
        valid_until=_timestamp(decision.valid_until_ms),
    )
    if decision.chosen == NO_OFFER:
        why = silence(decision, rejections)
        message.reason = _REASONS[why.reason]
        if why.next_eligible_ms is not None:
            message.next_eligible_time.CopyFrom(_timestamp(why.next_eligible_ms))
    else:
        action = catalogue.actions[decision.chosen]
        message.offer_id = action.offer_id
        message.creative_id = action.creative_id
        message.placement_id = action.placement_id
    if view == decision_pb2.DECISION_VIEW_FULL:
        message.candidates.extend(_candidates(decision, catalogue))
        message.rejections.extend(map(_rejection, rejections))
    return message


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


def _rejection(rejection: Rejection) -> decision_pb2.Rejection:
    message = decision_pb2.Rejection(
        offer_id=rejection.offer_id, reason=_REASONS[rejection.reason]
    )
    if rejection.next_eligible_ms is not None:
        message.next_eligible_time.CopyFrom(_timestamp(rejection.next_eligible_ms))
    return message


def _timestamp(at_ms: int) -> Timestamp:
    return Timestamp(seconds=at_ms // 1_000, nanos=at_ms % 1_000 * 1_000_000)


def outcomes_from_proto(
    request: decision_service_pb2.ReportOutcomeRequest,
    *,
    decision: Decision,
    at_ms: int,
    currency: str,
) -> list[Outcome]:
    """Read what a user did about a decision.

    Args:
        request: The message.
        decision: The decision that it names.
        at_ms: The time.
        currency: The only currency that is counted.

    Raises:
        InvalidRequestError: It names every wrong field.
    """
    check = _Check()
    outcomes: list[Outcome] = []
    if not request.outcomes:
        check.wrong("outcomes", "is required: at least one outcome")
    if check.count("outcomes", request.outcomes, _OUTCOMES_MAX):
        outcomes = [
            _outcome(
                check,
                f"outcomes[{at}]",
                message,
                decision=decision,
                at_ms=at_ms,
                currency=currency,
            )
            for at, message in enumerate(request.outcomes)
        ]
    check.done()
    return outcomes


def _outcome(
    check: _Check,
    field: str,
    message: outcome_pb2.Outcome,
    *,
    decision: Decision,
    at_ms: int,
    currency: str,
) -> Outcome:
    kind = _KINDS.get(message.kind)
    if kind is None:
        check.wrong(f"{field}.kind", "is required: what the user did")
        kind = "shown"
    elif decision.chosen == NO_OFFER and kind not in _WITHOUT_OFFER:
        check.wrong(f"{field}.kind", f"{kind} needs an offer; the decision has none")
    occurred_ms = _occurred_ms(check, field, message, decision, at_ms)
    return Outcome(
        outcome_id=check.text(f"{field}.outcome_id", message.outcome_id, required=True),
        kind=kind,
        at_ms=occurred_ms,
        viewed_ms=_viewed_ms(check, field, message, kind),
        snoozed_until_ms=_snoozed_until_ms(check, field, message, kind, decision),
        revenue=_money(check, field, "revenue", message, currency),
        list_price=_money(check, field, "list_price", message, currency),
        discount=_money(check, field, "discount", message, currency),
        margin=_money(check, field, "margin", message, currency),
    )


def _occurred_ms(
    check: _Check,
    field: str,
    message: outcome_pb2.Outcome,
    decision: Decision,
    at_ms: int,
) -> int:
    """Return when it happened: not before the decision, and not after now."""
    if not message.HasField("occur_time"):
        return at_ms
    decided_ms = decision.opportunity.at_ms
    occurred_ms = _milliseconds(message.occur_time)
    if occurred_ms > at_ms + _CLOCK_SKEW_MS:
        check.wrong(f"{field}.occur_time", "is in the future")
    elif occurred_ms < decided_ms - _CLOCK_SKEW_MS:
        check.wrong(f"{field}.occur_time", "is before the decision")
    return max(min(occurred_ms, at_ms), min(decided_ms, at_ms))


def _milliseconds(timestamp: Timestamp) -> int:
    return int(timestamp.seconds) * 1_000 + timestamp.nanos // 1_000_000


def _viewed_ms(
    check: _Check, field: str, message: outcome_pb2.Outcome, kind: OutcomeKind
) -> int | None:
    if not message.HasField("view_duration"):
        return None
    duration = message.view_duration
    viewed_ms = int(duration.seconds) * 1_000 + duration.nanos // 1_000_000
    if kind != "viewed":
        check.wrong(f"{field}.view_duration", f"goes with VIEWED, not with {kind}")
    elif not 0 <= viewed_ms <= _VIEW_MAX_MS:
        check.wrong(f"{field}.view_duration", "must be 0 to 24 hours")
    return viewed_ms


def _snoozed_until_ms(
    check: _Check,
    field: str,
    message: outcome_pb2.Outcome,
    kind: OutcomeKind,
    decision: Decision,
) -> int | None:
    """Read the end of a snooze, which a late report or a retry may be past."""
    if not message.HasField("snooze_until"):
        if kind == "snoozed":
            check.wrong(f"{field}.snooze_until", "is required with SNOOZED")
        return None
    until_ms = _milliseconds(message.snooze_until)
    decided_ms = decision.opportunity.at_ms
    if kind != "snoozed":
        check.wrong(f"{field}.snooze_until", f"goes with SNOOZED, not with {kind}")
    elif not decided_ms < until_ms <= decided_ms + _SNOOZE_MAX_MS:
        wrong = "must be after the decision, by 366 days at most"
        check.wrong(f"{field}.snooze_until", wrong)
    return until_ms


def _money(
    check: _Check,
    field: str,
    name: str,
    message: outcome_pb2.Outcome,
    currency: str,
) -> Money | None:
    if not message.HasField(name):  # type: ignore[arg-type] # Only the four names.
        return None
    money: outcome_pb2.Money = getattr(message, name)
    here = f"{field}.{name}"
    if money.currency_code != currency:
        given = _shortened(money.currency_code)
        check.wrong(f"{here}.currency_code", f"must be {currency}, not {given!r}")
    if not 0 <= money.minor_units <= _MONEY_MAX:
        check.wrong(
            f"{here}.minor_units", f"must be 0 to 10^15, not {money.minor_units}"
        )
    return Money(money.currency_code, money.minor_units)


def results_to_proto(
    outcomes: Sequence[Outcome],
    fresh: Sequence[bool],
    offered: str | None,
    *,
    at_ms: int,
    catalogue: Catalogue,
) -> decision_service_pb2.ReportOutcomeResponse:
    """Write what became of reported outcomes.

    Args:
        outcomes: The outcomes.
        fresh: For each whether it was new.
        offered: The id of the chosen offer; none for no offer.
        at_ms: The time.
        catalogue: What can be offered now.
    """
    state = outcome_pb2.OFFER_STATE_UNSPECIFIED
    if offered is not None:
        offer = catalogue.offers.get(offered)
        if offer is None:
            state = outcome_pb2.OFFER_STATE_WITHDRAWN
        elif offer.end_ms is not None and at_ms >= offer.end_ms:
            state = outcome_pb2.OFFER_STATE_EXPIRED
        else:
            state = outcome_pb2.OFFER_STATE_ACTIVE
    return decision_service_pb2.ReportOutcomeResponse(
        results=[
            outcome_pb2.OutcomeResult(
                outcome_id=outcome.outcome_id, duplicate=not new, offer_state=state
            )
            for outcome, new in zip(outcomes, fresh, strict=True)
        ]
    )
