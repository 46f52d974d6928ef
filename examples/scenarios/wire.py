"""Puts what a script says into the requests of a product server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.duration_pb2 import Duration as Span
from google.protobuf.timestamp_pb2 import Timestamp

from examples.scenarios.script import Ask, Gauge, Tell
from opportune.v1 import (
    DECISION_VIEW_FULL,
    BeginCriticalRequest,
    Cancellation,
    Complaint,
    Contact,
    Context,
    Decision,
    EndCriticalRequest,
    Engagement,
    FeatureValue,
    GetOfferRequest,
    LifeStateUpdate,
    Moment,
    Money,
    Outcome,
    OutcomeKind,
    Purchase,
    QuietHours,
    Rating,
    RecordEventRequest,
    ReportOutcomeRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
    TicketClosing,
    TicketOpening,
    Usage,
)
from policies import model
from policies.toml import Duration

__all__ = ["Told", "ask_request", "instant", "ms", "report_request", "tell_requests"]

Told = (
    SetUserStateRequest
    | SetPreferencesRequest
    | BeginCriticalRequest
    | EndCriticalRequest
    | RecordEventRequest
)

_PENDING_MS = 7 * 86_400_000


def ask_request(
    ask: Ask, user_id: str, account_id: str, now_ms: int, request_id: str = ""
) -> GetOfferRequest:
    """Make the request for an offer; with its id the same is drawn again and again."""
    return GetOfferRequest(
        request_id=request_id,
        user_id=user_id,
        account_id=account_id,
        session_id=ask.session,
        context=Context(
            role=ask.role,
            usage={name: _usage(gauge, now_ms) for name, gauge in ask.usage.items()},
            moment=Moment(kind=ask.moment),
            features={name: _feature(value) for name, value in ask.features.items()},
            cart_product_ids=ask.cart,
        ),
        placement_ids=ask.placements,
        offer_ids=ask.offers,
        max_decisions=ask.max,
        view=DECISION_VIEW_FULL,
    )


def tell_requests(
    tell: Tell, user_id: str, account_id: str, now_ms: int
) -> Iterator[Told]:
    """Make what the product tells of a user, or of the account itself."""
    for request in _told(tell, now_ms):
        request.user_id = user_id if tell.of == "user" else ""
        request.account_id = account_id
        request.source = "script"
        yield request


def report_request(
    decision: Decision, said: Sequence[str], now_ms: int, number: int
) -> ReportOutcomeRequest:
    """Make the report of what a user did about a decision.

    Args:
        decision: The decision.
        said: What the user did, such as `shown`, `snoozed 7d` or `converted 36 USD`.
        now_ms: The time.
        number: A number that no other report has.
    """
    outcomes = [_outcome(decision, what, now_ms, number) for what in said]
    return ReportOutcomeRequest(decision_id=decision.decision_id, outcomes=outcomes)


def instant(at_ms: int) -> Timestamp:
    """Return a time as the wire has it."""
    return Timestamp(seconds=at_ms // 1_000, nanos=at_ms % 1_000 * 1_000_000)


def ms(stamp: Timestamp) -> int:
    """Return a time of the wire, in milliseconds since 1970."""
    return stamp.seconds * 1_000 + stamp.nanos // 1_000_000


def _usage(gauge: Gauge, now_ms: int) -> Usage:
    since, left = gauge.since, gauge.left
    return Usage(
        value=gauge.value,
        limit=gauge.limit,
        per_day=gauge.per_day,
        cycle_start_time=None if since is None else instant(now_ms - since),
        cycle_end_time=None if left is None else instant(now_ms + left),
    )


def _feature(value: model.FeatureValue) -> FeatureValue:
    if isinstance(value, bool):
        return FeatureValue(flag=value)
    if isinstance(value, str):
        return FeatureValue(category=value)
    return FeatureValue(number=value)


def _told(tell: Tell, now_ms: int) -> Iterator[Told]:
    state, preferences = _state(tell, now_ms), _preferences(tell)
    if state.ByteSize():
        yield state
    if preferences.ByteSize():
        yield preferences
    if tell.enters is not None:
        enters, lasts = tell.enters, Span(seconds=tell.enters.lasts // 1_000)
        yield BeginCriticalRequest(
            key=enters.key, ttl=lasts, allow_inline=enters.allow_inline
        )
    if tell.leaves:
        yield EndCriticalRequest(key=tell.leaves)
    yield from _events(tell)


def _state(tell: Tell, now_ms: int) -> SetUserStateRequest:
    states = {
        name: LifeStateUpdate(
            active=True,
            end_time=None if begins.lasts is None else instant(now_ms + begins.lasts),
            topic_category_ids=begins.about,
        )
        for name, begins in tell.begins.items()
    }
    states |= {
        name: LifeStateUpdate(active=False, negative=ends.badly)
        for name, ends in tell.ends.items()
    }
    engagement = tell.engagement
    pending = instant(now_ms + _PENDING_MS) if tell.about_to_own else None
    return SetUserStateRequest(
        role=tell.role,
        engagement=engagement and Engagement.Value(f"ENGAGEMENT_{engagement.upper()}"),
        value_discovered=tell.value_discovered,
        add_product_ids=tell.owns,
        pending_product_ids=tell.about_to_own,
        pending_until=pending,
        life_states=states,
    )


def _preferences(tell: Tell) -> SetPreferencesRequest:
    quiet = tell.quiet
    return SetPreferencesRequest(
        opt_out_category_ids=_of("category:", tell.opts_out),
        opt_in_category_ids=_of("category:", tell.opts_in),
        opt_out_offer_ids=_of("offer:", tell.opts_out),
        opt_in_offer_ids=_of("offer:", tell.opts_in),
        opt_out_all=_of_all(tell),
        time_zone=tell.zone,
        quiet_hours=quiet and QuietHours(start=quiet[0], end=quiet[1]),
    )


def _of_all(tell: Tell) -> bool | None:
    if "all" in tell.opts_out:
        return True
    return False if "all" in tell.opts_in else None


def _of(prefix: str, scopes: Sequence[str]) -> list[str]:
    return [scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix)]


def _events(tell: Tell) -> Iterator[RecordEventRequest]:
    if tell.bought:
        yield RecordEventRequest(purchased=Purchase(product_ids=tell.bought))
    if tell.cancelled:
        yield RecordEventRequest(cancelled=Cancellation(product_ids=tell.cancelled))
    if tell.contacted is not None:
        contact = Contact(category_ids=tell.contacted.about, channel=tell.contacted.by)
        yield RecordEventRequest(contacted=contact)
    if tell.rated is not None:
        yield RecordEventRequest(rated=Rating(score=tell.rated))
    if tell.complained:
        yield RecordEventRequest(complained=Complaint())
    if tell.ticket is not None:
        yield RecordEventRequest(ticket_opened=TicketOpening(category_ids=tell.ticket))
    if tell.ticket_closed is not None:
        closing = TicketClosing(negative=tell.ticket_closed == "badly")
        yield RecordEventRequest(ticket_closed=closing)


def _outcome(decision: Decision, said: str, now_ms: int, number: int) -> Outcome:
    kind, *more = said.split()
    outcome = Outcome(
        outcome_id=f"{kind}-{number}",
        kind=OutcomeKind.Value(f"OUTCOME_KIND_{kind.upper()}"),
    )
    match more:
        case [span]:
            outcome.snooze_until.CopyFrom(instant(now_ms + Duration.parse(span)))
        case [amount, currency]:
            outcome.revenue.CopyFrom(_money(amount, currency))
    if kind == "accepted" and decision.HasField("price"):
        price = decision.price
        outcome.revenue.CopyFrom(price.price)
        outcome.list_price.CopyFrom(price.list_price)
        if price.HasField("discount"):
            outcome.discount.CopyFrom(price.discount)
    return outcome


def _money(amount: str, currency: str) -> Money:
    return Money(minor_units=round(float(amount) * 100), currency_code=currency)
