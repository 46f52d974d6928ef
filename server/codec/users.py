"""Reads what a product tells of its users, and writes that it was told."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from zoneinfo import ZoneInfo

from opportune.v1 import user_pb2, user_service_pb2
from policies.commands import (
    Command,
    Engagement,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    Notice,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.model import History, QuietHours
from policies.specs import CatalogueSpec
from server.codec.checks import (
    CLOCK_SKEW_MS,
    DAY_MS,
    TEXT_MAX,
    Check,
    entry,
    shortened,
    span_ms,
    timestamp,
)

__all__ = [
    "ENGAGEMENTS",
    "notice_from_proto",
    "notice_to_proto",
    "whose_from_proto",
]

ENGAGEMENTS: Mapping[user_pb2.Engagement.ValueType, Engagement] = {
    user_pb2.ENGAGEMENT_UNSPECIFIED: "",
    user_pb2.ENGAGEMENT_LOW: "low",
    user_pb2.ENGAGEMENT_NORMAL: "normal",
    user_pb2.ENGAGEMENT_HIGH: "high",
}

_NAMES_MAX = 100
_LIFE_STATES_MAX = 20
_KEY_MAX = 64
_ZONE_MAX = 64
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

_Request = (
    user_service_pb2.SetUserStateRequest
    | user_service_pb2.SetPreferencesRequest
    | user_service_pb2.BeginCriticalRequest
    | user_service_pb2.EndCriticalRequest
    | user_service_pb2.RecordEventRequest
)
_Response = (
    user_service_pb2.SetUserStateResponse
    | user_service_pb2.SetPreferencesResponse
    | user_service_pb2.BeginCriticalResponse
    | user_service_pb2.EndCriticalResponse
    | user_service_pb2.RecordEventResponse
)


def notice_from_proto(
    request: _Request, *, event_id: str, at_ms: int, spec: CatalogueSpec
) -> Notice:
    """Read what a product tells.

    Args:
        request: The message.
        event_id: The request's own or, where that is empty, one made up.
        at_ms: The time.
        spec: What categories, offers and products must be part of.

    Raises:
        InvalidRequestError: It names every wrong field.
    """
    check = Check()
    user_id, account_id = _whose(check, request)
    check.text("event_id", request.event_id)
    source = check.text("source", request.source)
    command = _command(check, request, at_ms, spec)
    check.done()
    return Notice(user_id, account_id, event_id, source, at_ms, command)


def whose_from_proto(request: user_service_pb2.GetUserRequest) -> tuple[str, str]:
    """Read of which user and account something is asked.

    Raises:
        InvalidRequestError: It names every wrong field.
    """
    check = Check()
    whose = _whose(check, request)
    check.done()
    return whose


def _whose(
    check: Check, request: _Request | user_service_pb2.GetUserRequest
) -> tuple[str, str]:
    if not request.user_id and not request.account_id:
        check.wrong("user_id", "is required, or account_id for the account itself")
    user_id = check.text("user_id", request.user_id)
    return user_id, check.text("account_id", request.account_id)


def _command(
    check: Check, request: _Request, at_ms: int, spec: CatalogueSpec
) -> Command:
    match request:
        case user_service_pb2.SetUserStateRequest():
            return _state_change(check, request, at_ms, spec)
        case user_service_pb2.SetPreferencesRequest():
            return _preferences_change(check, request, at_ms, spec)
        case user_service_pb2.BeginCriticalRequest():
            return _lease_begin(check, request, at_ms)
        case user_service_pb2.EndCriticalRequest():
            return LeaseEnd(at_ms, _workflow(check, request.key))
        case user_service_pb2.RecordEventRequest():
            return _event(check, request, at_ms, spec)


def _state_change(
    check: Check,
    request: user_service_pb2.SetUserStateRequest,
    at_ms: int,
    spec: CatalogueSpec,
) -> StateChange:
    role = engagement = value_discovered = None
    if request.HasField("role"):
        role = check.text("role", request.role, TEXT_MAX)
    if request.HasField("engagement"):
        engagement = ENGAGEMENTS.get(request.engagement)
        if engagement is None:
            check.wrong("engagement", f"{request.engagement} is no engagement")
    if request.HasField("value_discovered"):
        value_discovered = request.value_discovered
    return StateChange(
        at_ms=at_ms,
        role=role,
        engagement=engagement,
        value_discovered=value_discovered,
        added=_names(check, "add_product_ids", request.add_product_ids, spec.products),
        removed=_removed(check, request, spec),
        pending=_names(
            check, "pending_product_ids", request.pending_product_ids, spec.products
        ),
        pending_until_ms=_pending_until_ms(check, request, at_ms),
        life=_life(check, request.life_states, at_ms, spec),
    )


def _removed(
    check: Check,
    request: user_service_pb2.SetUserStateRequest,
    spec: CatalogueSpec,
) -> tuple[str, ...]:
    field = "remove_product_ids"
    others = {*request.add_product_ids, *request.pending_product_ids}
    others &= spec.products.keys()
    _disjoint(check, field, request.remove_product_ids, others, "another list")
    return _names(check, field, request.remove_product_ids, spec.products)


def _pending_until_ms(
    check: Check, request: user_service_pb2.SetUserStateRequest, at_ms: int
) -> int | None:
    field = "pending_until"
    if not request.HasField("pending_until"):
        if request.pending_product_ids:
            check.wrong(field, "is required with pending_product_ids")
        return None
    if not request.pending_product_ids:
        check.wrong(field, "goes with pending_product_ids")
        return None
    return check.ahead(field, request.pending_until, at_ms)


def _life(
    check: Check,
    states: Mapping[str, user_service_pb2.LifeStateUpdate],
    at_ms: int,
    spec: CatalogueSpec,
) -> dict[str, LifeChange]:
    if not check.count("life_states", states, _LIFE_STATES_MAX):
        return {}
    read: dict[str, LifeChange] = {}
    for name, state in states.items():
        check.key("life_states", name)
        here = entry("life_states", name)
        read[name] = _life_change(check, here, state, at_ms, spec)
    return read


def _life_change(
    check: Check,
    field: str,
    state: user_service_pb2.LifeStateUpdate,
    at_ms: int,
    spec: CatalogueSpec,
) -> LifeChange:
    until_ms = None
    if state.HasField("end_time") and not state.active:
        check.wrong(f"{field}.end_time", "goes with active")
    elif state.HasField("end_time"):
        until_ms = check.ahead(f"{field}.end_time", state.end_time, at_ms)
    if state.active and state.negative:
        check.wrong(f"{field}.negative", "does not go with active")
    topics = f"{field}.topic_category_ids"
    return LifeChange(
        active=state.active,
        until_ms=until_ms,
        topics=_names(check, topics, state.topic_category_ids, spec.categories),
        negative=state.negative,
    )


def _preferences_change(
    check: Check,
    request: user_service_pb2.SetPreferencesRequest,
    at_ms: int,
    spec: CatalogueSpec,
) -> PreferencesChange:
    zone = None
    if request.HasField("time_zone"):
        zone = request.time_zone
        if zone and not _is_zone(zone):
            check.wrong("time_zone", f"there is no {shortened(zone)!r}")
    quiet = None
    if request.HasField("quiet_hours"):
        quiet = _quiet_hours(check, request.quiet_hours)
        if request.clear_quiet_hours:
            check.wrong("clear_quiet_hours", "does not go with quiet_hours")
    out, back = _opted(check, request, spec)
    return PreferencesChange(
        at_ms=at_ms,
        opt_out=out,
        opt_in=back,
        zone=zone,
        quiet=quiet,
        quiet_cleared=request.clear_quiet_hours,
    )


def _is_zone(name: str) -> bool:
    if len(name) > _ZONE_MAX or name == "localtime":  # The server's, whatever it is.
        return False
    try:
        ZoneInfo(name)
    except (ValueError, LookupError, OSError):  # Whatever the name makes of a path.
        return False
    return True


def _opted(
    check: Check,
    request: user_service_pb2.SetPreferencesRequest,
    spec: CatalogueSpec,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read what is not to be shown any more, and what may be again."""
    out: list[str] = []
    back: list[str] = []
    known: Mapping[str, object]
    for kind, outs, backs, known in (
        (
            "category",
            request.opt_out_category_ids,
            request.opt_in_category_ids,
            spec.categories,
        ),
        ("offer", request.opt_out_offer_ids, request.opt_in_offer_ids, spec.offers),
    ):
        field_out, field_back = f"opt_out_{kind}_ids", f"opt_in_{kind}_ids"
        _disjoint(check, field_back, backs, known.keys() & {*outs}, field_out)
        out += [f"{kind}:{name}" for name in _names(check, field_out, outs, known)]
        back += [f"{kind}:{name}" for name in _names(check, field_back, backs, known)]
    if request.HasField("opt_out_all"):
        (out if request.opt_out_all else back).append("all")
    return tuple(out), tuple(back)


def _quiet_hours(check: Check, quiet: user_pb2.QuietHours) -> QuietHours:
    return QuietHours(
        _minute(check, "quiet_hours.start", quiet.start),
        _minute(check, "quiet_hours.end", quiet.end),
    )


def _minute(check: Check, field: str, text: str) -> int:
    """Read a time of the day, in minutes after midnight."""
    found = _TIME_OF_DAY.fullmatch(text)
    if found is None:
        wrong = "must be hours and minutes, such as 22:00"
        check.wrong(field, f"{wrong}, not {shortened(text)!r}")
        return 0
    return int(found[1]) * 60 + int(found[2])


def _lease_begin(
    check: Check, request: user_service_pb2.BeginCriticalRequest, at_ms: int
) -> LeaseBegin:
    ttl_ms = span_ms(request.ttl)
    if not request.HasField("ttl"):
        check.wrong("ttl", "is required: after how long it ends by itself")
    elif not 1_000 <= ttl_ms <= DAY_MS:
        check.wrong("ttl", "must be 1 second to 24 hours")
    return LeaseBegin(
        at_ms=at_ms,
        key=_workflow(check, request.key),
        until_ms=at_ms + ttl_ms,
        inline=request.allow_inline,
    )


def _workflow(check: Check, key: str) -> str:
    return check.text("key", key, _KEY_MAX, required=True)


def _event(
    check: Check,
    request: user_service_pb2.RecordEventRequest,
    at_ms: int,
    spec: CatalogueSpec,
) -> UserEvent:
    occurred_ms = _occurred_ms(check, request, at_ms)
    kind = request.WhichOneof("event")
    match kind:
        case "purchased" | "cancelled":
            bought = request.purchased if kind == "purchased" else request.cancelled
            products = _bought(check, f"{kind}.product_ids", bought.product_ids, spec)
            return UserEvent(occurred_ms, kind, products=products)
        case "contacted":
            return _contact(check, request.contacted, occurred_ms, spec)
        case "rated":
            score = _score(check, request.rated)
            return UserEvent(occurred_ms, kind, score=score)
        case "ticket_opened":
            about = request.ticket_opened.category_ids
            field = "ticket_opened.category_ids"
            topics = _names(check, field, about, spec.categories)
            return UserEvent(occurred_ms, kind, categories=topics)
        case "ticket_closed":
            negative = request.ticket_closed.negative
            return UserEvent(occurred_ms, kind, negative=negative)
        case "complained" | "uninstalled":
            return UserEvent(occurred_ms, kind)
        case None:
            check.wrong("event", "is required: what happened")
            return UserEvent(occurred_ms, "complained")


def _occurred_ms(
    check: Check, request: user_service_pb2.RecordEventRequest, at_ms: int
) -> int:
    """Return when it happened: not after now."""
    if not request.HasField("occur_time"):
        return at_ms
    occurred_ms = check.instant("occur_time", request.occur_time)
    if occurred_ms is None:
        return at_ms
    if occurred_ms > at_ms + CLOCK_SKEW_MS:
        check.wrong("occur_time", "is in the future")
    return min(occurred_ms, at_ms)


def _bought(
    check: Check, field: str, products: Sequence[str], spec: CatalogueSpec
) -> tuple[str, ...]:
    if not products:
        check.wrong(field, "is required: at least one product")
    return _names(check, field, products, spec.products)


def _contact(
    check: Check,
    contact: user_service_pb2.Contact,
    occurred_ms: int,
    spec: CatalogueSpec,
) -> UserEvent:
    return UserEvent(
        occurred_ms,
        "contacted",
        categories=_names(
            check, "contacted.category_ids", contact.category_ids, spec.categories
        ),
        channel=check.text("contacted.channel", contact.channel),
    )


def _score(check: Check, rating: user_service_pb2.Rating) -> float:
    if not rating.HasField("score"):
        check.wrong("rated.score", "is required: from 0 to 1")
    elif not 0.0 <= rating.score <= 1.0:
        check.wrong("rated.score", f"must be from 0 to 1, not {rating.score}")
    return rating.score


def _names(
    check: Check, field: str, names: Sequence[str], known: Collection[str]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check.known(field, names, _NAMES_MAX, known)))


def _disjoint(
    check: Check, field: str, names: Sequence[str], others: Collection[str], where: str
) -> None:
    """Look for names that are said to be both so and not so."""
    if len(names) > _NAMES_MAX:
        return
    for at, name in enumerate(names):
        if name in others:
            check.wrong(f"{field}[{at}]", f"{shortened(name)!r} is in {where} too")


def notice_to_proto(notice: Notice, history: History, *, fresh: bool) -> _Response:
    """Write that something was told.

    Args:
        notice: What was told.
        history: What is remembered now of the user or the account.
        fresh: Whether it was new, and not told before.
    """
    command = notice.command
    match command:
        case StateChange():
            return user_service_pb2.SetUserStateResponse(duplicate=not fresh)
        case PreferencesChange():
            return user_service_pb2.SetPreferencesResponse(
                duplicate=not fresh, consent_version=history.preferences.version
            )
        case LeaseBegin():
            return _begun(notice, command, history, fresh=fresh)
        case LeaseEnd():
            return user_service_pb2.EndCriticalResponse(duplicate=not fresh)
        case UserEvent():
            return user_service_pb2.RecordEventResponse(duplicate=not fresh)


def _begun(
    notice: Notice, command: LeaseBegin, history: History, *, fresh: bool
) -> user_service_pb2.BeginCriticalResponse:
    response = user_service_pb2.BeginCriticalResponse(duplicate=not fresh)
    lease = history.leases.get(command.key)
    if lease is not None and lease.until_ms > notice.told_ms:
        response.expire_time.CopyFrom(timestamp(lease.until_ms))
    return response
