"""Reads what users did about decisions, and writes what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from opportune.v1 import decision_service_pb2, outcome_pb2
from policies.model import NO_OFFER, Decision, Money, Outcome, OutcomeKind
from server.codec.checks import (
    CLOCK_SKEW_MS,
    DAY_MS,
    YEAR_MS,
    Check,
    milliseconds,
    shortened,
    span_ms,
)

__all__ = ["decision_id_from_proto", "outcomes_from_proto", "results_to_proto"]

_OUTCOMES_MAX = 100
_MONEY_MAX = 10**15

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
_WITHOUT_OFFER: frozenset[OutcomeKind] = frozenset(
    ["shown", "not_shown", "converted", "refunded", "downgraded", "churned"]
)


def decision_id_from_proto(request: decision_service_pb2.ReportOutcomeRequest) -> str:
    """Read which decision a report is about.

    Raises:
        InvalidRequestError: If it does not say so.
    """
    check = Check()
    if not request.decision_id:
        check.wrong("decision_id", "is required: as GetOffer answered it")
        if not request.outcomes:
            check.wrong("outcomes", "is required: at least one outcome")
    check.done()
    return request.decision_id


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
    check = Check()
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
    check: Check,
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
    check: Check,
    field: str,
    message: outcome_pb2.Outcome,
    decision: Decision,
    at_ms: int,
) -> int:
    """Return when it happened: not before the decision, and not after now."""
    if not message.HasField("occur_time"):
        return at_ms
    decided_ms = decision.opportunity.at_ms
    occurred_ms = milliseconds(message.occur_time)
    if occurred_ms > at_ms + CLOCK_SKEW_MS:
        check.wrong(f"{field}.occur_time", "is in the future")
    elif occurred_ms < decided_ms - CLOCK_SKEW_MS:
        check.wrong(f"{field}.occur_time", "is before the decision")
    return max(min(occurred_ms, at_ms), min(decided_ms, at_ms))


def _viewed_ms(
    check: Check, field: str, message: outcome_pb2.Outcome, kind: OutcomeKind
) -> int | None:
    if not message.HasField("view_duration"):
        return None
    viewed_ms = span_ms(message.view_duration)
    if kind != "viewed":
        check.wrong(f"{field}.view_duration", f"goes with VIEWED, not with {kind}")
    elif not 0 <= viewed_ms <= DAY_MS:
        check.wrong(f"{field}.view_duration", "must be 0 to 24 hours")
    return viewed_ms


def _snoozed_until_ms(
    check: Check,
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
    until_ms = milliseconds(message.snooze_until)
    decided_ms = decision.opportunity.at_ms
    if kind != "snoozed":
        check.wrong(f"{field}.snooze_until", f"goes with SNOOZED, not with {kind}")
    elif not decided_ms < until_ms <= decided_ms + YEAR_MS:
        wrong = "must be after the decision, by 366 days at most"
        check.wrong(f"{field}.snooze_until", wrong)
    return until_ms


def _money(
    check: Check,
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
        given = shortened(money.currency_code)
        check.wrong(f"{here}.currency_code", f"must be {currency}, not {given!r}")
    if not 0 <= money.minor_units <= _MONEY_MAX:
        check.wrong(
            f"{here}.minor_units", f"must be 0 to 10^15, not {money.minor_units}"
        )
    return Money(money.currency_code, money.minor_units)


def results_to_proto(
    outcomes: Sequence[Outcome],
    fresh: Sequence[bool],
    state: outcome_pb2.OfferState.ValueType,
) -> decision_service_pb2.ReportOutcomeResponse:
    """Write what became of reported outcomes.

    Args:
        outcomes: The outcomes.
        fresh: For each whether it was new.
        state: Whether the offer can still be had, as `offer_state` says.
    """
    return decision_service_pb2.ReportOutcomeResponse(
        results=[
            outcome_pb2.OutcomeResult(
                outcome_id=outcome.outcome_id, duplicate=not new, offer_state=state
            )
            for outcome, new in zip(outcomes, fresh, strict=True)
        ]
    )
