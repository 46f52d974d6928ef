"""Reads what a product server asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opportune.v1 import context_pb2, decision_pb2, decision_service_pb2
from policies.catalogue import Catalogue
from policies.identity import decision_id, root_key
from policies.model import (
    NO_MOMENT,
    Context,
    FeatureValue,
    Moment,
    Opportunity,
    Usage,
)
from server.codec.checks import CONTROL, NAME, TEXT_MAX, Check, entry

__all__ = [
    "decision_id_of",
    "opportunities_from_proto",
    "opportunity_from_proto",
]

_FEATURES_MAX = 100
_CART_MAX = 100
_PLACEMENTS_MAX = 50
_OFFERS_MAX = 1_000
_DECISIONS_MAX = 20
_REQUESTS_MAX = 100

_VIEWS = frozenset(decision_pb2.DecisionView.values())


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
    check = Check()
    opportunity = _opportunity(
        check,
        request,
        decision_id=decision_id_of(request, request_id, tenant),
        at_ms=at_ms,
        catalogue=catalogue,
    )
    check.done()
    return opportunity


def opportunities_from_proto(
    request: decision_service_pb2.BatchGetOffersRequest,
    *,
    request_ids: Sequence[str],
    tenant: str,
    at_ms: int,
    catalogue: Catalogue,
) -> list[Opportunity]:
    """Read what a product server asks at once.

    Args:
        request: The message.
        request_ids: For each request its own id or, where that is empty, one made up.
        tenant: Whose users they are.
        at_ms: The time.
        catalogue: What the placements and offers must be part of.

    Raises:
        InvalidRequestError: It names every wrong field of every request.
    """
    batch = Check()
    if not request.requests:
        batch.wrong("requests", "is required: at least one request")
    opportunities: list[Opportunity] = []
    if batch.count("requests", request.requests, _REQUESTS_MAX):
        pairs = zip(request.requests, request_ids, strict=True)
        for at, (each, request_id) in enumerate(pairs):
            check = Check(f"requests[{at}].")
            opportunity = _opportunity(
                check,
                each,
                decision_id=decision_id_of(each, request_id, tenant),
                at_ms=at_ms,
                catalogue=catalogue,
            )
            opportunities.append(opportunity)
            batch.problems += check.problems
    batch.done()
    return opportunities


def decision_id_of(
    request: decision_service_pb2.GetOfferRequest, request_id: str, tenant: str
) -> str:
    """Return the id of the first decision that a request is answered with."""
    root = root_key(tenant, request.account_id, request.user_id)
    return decision_id(root, request.user_id, request_id)


def _opportunity(
    check: Check,
    request: decision_service_pb2.GetOfferRequest,
    *,
    decision_id: str,
    at_ms: int,
    catalogue: Catalogue,
) -> Opportunity:
    user_id = check.text("user_id", request.user_id, required=True)
    account_id = check.text("account_id", request.account_id)
    session_id = check.text("session_id", request.session_id)
    check.text("request_id", request.request_id)
    placements = check.known(
        "placement_ids",
        request.placement_ids,
        _PLACEMENTS_MAX,
        catalogue.placements,
    )
    if not request.placement_ids:
        check.wrong("placement_ids", "is required: the placements that can render now")
    offers = check.known("offer_ids", request.offer_ids, _OFFERS_MAX, catalogue.offers)
    if request.view not in _VIEWS:
        check.wrong("view", f"{request.view} is no view")
    if not 0 <= request.max_decisions <= _DECISIONS_MAX:
        wrong = f"must be 1 to {_DECISIONS_MAX}, not {request.max_decisions}"
        check.wrong("max_decisions", wrong)
    return Opportunity(
        decision_id=decision_id,
        at_ms=at_ms,
        user_id=user_id,
        account_id=account_id,
        session_id=session_id,
        placements=placements,
        offers=offers,
        context=_context(check, request.context),
        most=request.max_decisions or 1,
    )


def _context(check: Check, context: context_pb2.Context) -> Context:
    return Context(
        role=check.text("context.role", context.role, TEXT_MAX),
        segment=check.text("context.segment", context.segment, TEXT_MAX),
        usage=_usages(check, context.usage),
        moment=_moment(check, context.moment),
        features=_features(check, "context.features", context.features),
        cart=_cart(check, context.cart_product_ids),
    )


def _moment(check: Check, moment: context_pb2.Moment) -> Moment:
    kind = check.text("context.moment.kind", moment.kind)
    if kind and not NAME.fullmatch(kind):
        check.wrong("context.moment.kind", f"is {NAME.pattern}")
    features = _features(check, "context.moment.features", moment.features)
    return Moment(kind, features) if kind or features else NO_MOMENT


def _cart(check: Check, products: Sequence[str]) -> tuple[str, ...]:
    """Read a cart, which may hold what the catalogue has never heard of."""
    field = "context.cart_product_ids"
    if not products or not check.count(field, products, _CART_MAX):
        return ()
    for at, product in enumerate(products):
        check.text(f"{field}[{at}]", product, required=True)
    return tuple(products)


def _usages(check: Check, usages: Mapping[str, context_pb2.Usage]) -> dict[str, Usage]:
    if not check.count("context.usage", usages, _FEATURES_MAX):
        return {}
    read: dict[str, Usage] = {}
    for name, usage in usages.items():
        check.key("context.usage", name)
        read[name] = _usage(check, name, usage)
    return read


def _usage(check: Check, name: str, usage: context_pb2.Usage) -> Usage:
    here = "context.usage"
    value = usage.value
    limit = usage.limit if usage.HasField("limit") else None
    per_day = usage.per_day if usage.HasField("per_day") else None
    if not 0.0 <= value < math.inf:
        wrong = f"must be finite and 0 or more, not {value}"
        check.wrong(f"{entry(here, name)}.value", wrong)
    if limit is not None and not 0.0 < limit < math.inf:
        wrong = f"must be finite and above 0, not {limit}; or unset"
        check.wrong(f"{entry(here, name)}.limit", wrong)
    if per_day is not None and not math.isfinite(per_day):
        wrong = f"must be finite, not {per_day}; or unset"
        check.wrong(f"{entry(here, name)}.per_day", wrong)
    since_ms = until_ms = None
    if usage.HasField("cycle_start_time"):
        field = f"{entry(here, name)}.cycle_start_time"
        since_ms = check.instant(field, usage.cycle_start_time)
    if usage.HasField("cycle_end_time"):
        field = f"{entry(here, name)}.cycle_end_time"
        until_ms = check.instant(field, usage.cycle_end_time)
        if since_ms is not None and until_ms is not None and until_ms <= since_ms:
            check.wrong(field, "must be after cycle_start_time")
    return Usage(value, limit, per_day, since_ms, until_ms)


def _features(
    check: Check, field: str, features: Mapping[str, context_pb2.FeatureValue]
) -> dict[str, FeatureValue]:
    if not features or not check.count(field, features, _FEATURES_MAX):
        return {}
    read: dict[str, FeatureValue] = {}
    for name, value in features.items():
        check.key(field, name)
        kind = value.WhichOneof("kind")
        if kind == "number":
            read[name] = number = value.number
            if not math.isfinite(number):
                here = f"{entry(field, name)}.number"
                check.wrong(here, f"must be finite, not {number}")
        elif kind == "category":
            read[name] = category = value.category
            if len(category) > TEXT_MAX or CONTROL.search(category):
                check.text(f"{entry(field, name)}.category", category, TEXT_MAX)
        elif kind == "flag":
            read[name] = value.flag
        else:
            wrong = "has no value: a number, a category or a flag"
            check.wrong(entry(field, name), wrong)
    return read
