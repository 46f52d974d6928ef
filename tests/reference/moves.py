"""What may happen: users, contexts, spans of time, and what products tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from opportune.v1 import Context as ContextMessage
from opportune.v1 import Engagement, LifeStateUpdate
from policies.commands import (
    Command,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
    UserEventKind,
)
from policies.commands import Engagement as Tier
from policies.model import Context, FeatureValue, OutcomeKind, QuietHours, Usage
from policies.model import Moment as Occasion
from policies.specs import CatalogueSpec
from tests.reference.past import Who
from tests.server import kit

__all__ = [
    "BACK",
    "GAPS",
    "KINDS",
    "OCCURRED",
    "PLAIN",
    "SCOPES",
    "SNOOZES",
    "SPANS",
    "STARTS",
    "SWITCHES",
    "THEN",
    "Saying",
    "anchored",
    "anybody",
    "clamped_ms",
    "context_to_proto",
    "contexts",
    "events",
    "occurred_ms",
    "places",
    "preferences",
    "sessions",
    "state_changes",
    "users",
]


class Saying:
    """Fills a request at a time, of a catalogue, and returns what that says.

    Args:
        says: What it says, for people.
        fill: Does it.
    """

    def __init__(
        self, says: object, fill: Callable[[Any, int, CatalogueSpec], Command]
    ) -> None:
        self._says = says
        self._fill = fill

    def __call__(self, request: Any, now_ms: int, spec: CatalogueSpec) -> Command:
        return self._fill(request, now_ms, spec)

    def __repr__(self) -> str:
        return f"<{self._says}>"


_MIN, _HOUR, _DAY = kit.MINUTE_MS, kit.HOUR_MS, kit.DAY_MS

SWITCHES = (
    1_792_890_000_000,  # 2026-10-25T01:00Z, Berlin's clocks are put back.
    1_793_512_800_000,  # 2026-11-01T06:00Z, New York's are.
    1_805_007_600_000,  # 2027-03-14T07:00Z, New York's are put forward.
    1_806_195_600_000,  # 2027-03-28T01:00Z, Berlin's are.
    1_824_944_400_000,  # 2027-10-31T01:00Z, Berlin's are put back.
    1_835_395_200_000,  # 2028-02-29T00:00Z, a leap day begins.
)
"""Where calendars do what they seldom do."""

STARTS = (kit.NOON_MS, *(switch - 3 * _HOUR for switch in SWITCHES))
SPANS = (
    _MIN, 1, 1_000, 10 * _MIN, 20 * _MIN, _HOUR, 3 * _HOUR, 10 * _HOUR, _DAY, 3 * _DAY,
    9 * _DAY, 40 * _DAY, 200 * _DAY,
)  # fmt: skip
GAPS = (_MIN, 1_000, 20 * _MIN, 3 * _HOUR, 11 * _HOUR, _DAY, 3 * _DAY)
BACK = (1, _MIN, 10 * _MIN, _HOUR)

users = st.sampled_from(
    [
        Who("acme", "ada"),
        Who("acme", "bob"),
        Who("", "ada"),
        Who("zeta", "eve"),
    ]
)
anybody = users | st.sampled_from([Who("acme", ""), Who("acme", "ada")])
sessions = st.sampled_from(["one", "", "two"])
places = st.lists(st.integers(0, 9), min_size=1, max_size=5)

SCOPES = (
    "offer:tips",
    "category:plans",
    "placement:modal",
    "offer:storage",
    "category:extras",
    "placement:page",
    "all",
)

KINDS: tuple[OutcomeKind, ...] = (
    "shown",
    "shown",
    "clicked",
    "dismissed",
    "dismissed",
    "accepted",
    "snoozed",
    "not_shown",
    "opted_out",
    "refunded",
    "viewed",
    "ignored",
    "converted",
    "downgraded",
)
THEN: tuple[OutcomeKind, ...] = ("shown", "clicked", "dismissed", "shown", "accepted")
OCCURRED = ("now", "decided", "soon", "late", "ahead", "before")
SNOOZES = (_HOUR, 90_000, _DAY, 20 * _DAY)


def occurred_ms(name: str, decided_ms: int, now_ms: int) -> int | None:
    """Return when something is said to have happened; none for nothing said."""
    least, most = decided_ms - 5 * _MIN, now_ms + 5 * _MIN
    if name == "now" or least > most:
        return None
    wanted = {
        "decided": decided_ms,
        "soon": decided_ms + _MIN,
        "late": now_ms - 10 * _MIN,
        "ahead": most,
        "before": least,
    }
    return min(max(wanted[name], least), most)


def clamped_ms(at_ms: int | None, decided_ms: int, now_ms: int) -> int:
    """Return when it happened: not before the decision, and not after now."""
    if at_ms is None:
        return now_ms
    return max(min(at_ms, now_ms), min(decided_ms, now_ms))


# --- Contexts -------------------------------------------------------------------

_storage = st.builds(
    Usage,
    value=st.sampled_from([85.0, 100.0, 40.0, 0.0, 5.0, 97.0, 120.0]),
    limit=st.sampled_from([100.0, None]),
    per_day=st.sampled_from([None, 2.0, 0.0, 30.0]),
    since_ms=st.sampled_from([None, -_DAY, -20 * _DAY, -_HOUR, 0]),
    until_ms=st.sampled_from([None, 2 * _DAY, 20 * _DAY, _HOUR]),
)
_seats = st.sampled_from([5.0, 11.0, 51.0, 300.0]).map(Usage)
_usage = st.fixed_dictionaries({}, optional={"storage_gb": _storage, "seats": _seats})
_features: st.SearchStrategy[dict[str, FeatureValue]] = st.fixed_dictionaries(
    {},
    optional={
        "seats": st.sampled_from([3.0, 1.0, 60.0, 2.0]),
        "trial": st.booleans(),
    },
)

contexts = st.builds(
    Context,
    role=st.sampled_from(["admin", "", "guest", "owner"]),
    segment=st.sampled_from(["free", "", "idle", "busy"]),
    usage=_usage,
    moment=st.sampled_from(
        ["", "workflow_done", "limit_near", "limit_hit", "quarter_end"]
    ).map(Occasion),
    features=_features,
    cart=st.lists(
        st.sampled_from(["tv", "hdmi", "basic", "enterprise", "case", "unknown"]),
        max_size=2,
        unique=True,
    ).map(tuple),
)
"""What is known of users; times are as of the request, until it is made."""

PLAIN = Context(
    role="admin",
    segment="free",
    usage={
        "storage_gb": Usage(
            85.0, 100.0, per_day=2.0, since_ms=-_DAY, until_ms=20 * _DAY
        )
    },
    features={"seats": 3.0},
)
"""One whom most rules are content with."""


def anchored(context: Context, now_ms: int) -> Context:
    """Return a context whose times are true of a request made now."""
    usage = {
        name: msgspec.structs.replace(
            used,
            since_ms=None if used.since_ms is None else used.since_ms + now_ms,
            until_ms=None if used.until_ms is None else used.until_ms + now_ms,
        )
        for name, used in context.usage.items()
    }
    return msgspec.structs.replace(context, usage=usage)


def context_to_proto(context: Context) -> ContextMessage:
    """Write a context."""
    written = ContextMessage(
        role=context.role, segment=context.segment, cart_product_ids=context.cart
    )
    written.moment.kind = context.moment.kind
    for name, used in context.usage.items():
        usage = written.usage[name]
        usage.value = used.value
        if used.limit is not None:
            usage.limit = used.limit
        if used.per_day is not None:
            usage.per_day = used.per_day
        if used.since_ms is not None:
            usage.cycle_start_time.CopyFrom(kit.timestamp(used.since_ms))
        if used.until_ms is not None:
            usage.cycle_end_time.CopyFrom(kit.timestamp(used.until_ms))
    for name, value in context.features.items():
        if isinstance(value, bool):
            written.features[name].flag = value
        elif isinstance(value, float):
            written.features[name].number = value
    return written


# --- What is told ---------------------------------------------------------------


def _some(names: Sequence[str], most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), max_size=most, unique=True).map(tuple)


_PRODUCTS = [
    "basic",
    "standard",
    "tv",
    "premium",
    "hdmi",
    "case",
    "seat",
    "disk",
    "api",
]
_CATEGORIES = ["plans", "extras", "storage", "help"]
_OFFERS = ["next_plan", "tips", "storage", "alert", "hdmi"]


_ENGAGEMENTS: tuple[Tier | None, ...] = (None, "low", "high", "normal", "")


@st.composite
def _state_changes(draw: st.DrawFn) -> Saying:
    added = draw(_some(_PRODUCTS))
    removed = tuple(p for p in draw(_some(_PRODUCTS)) if p not in added)
    pending = tuple(p for p in draw(_some(_PRODUCTS, 1)) if p not in {*added, *removed})
    pending_ms = draw(st.sampled_from([_HOUR, 5 * _DAY, 60 * _DAY]))
    role = draw(st.sampled_from([None, "admin", "guest", ""]))
    engagement = draw(st.sampled_from(_ENGAGEMENTS))
    value_discovered = draw(st.sampled_from([None, True, False]))
    states = draw(_life_changes)

    def fill(request: Any, now_ms: int, spec: CatalogueSpec) -> Command:
        life = {name: make(now_ms, spec) for name, make in states.items()}
        request.add_product_ids.extend(added)
        request.remove_product_ids.extend(removed)
        request.pending_product_ids.extend(pending)
        if pending:
            request.pending_until.CopyFrom(kit.timestamp(now_ms + pending_ms))
        told_role = role if request.user_id else None
        if told_role is not None:
            request.role = told_role
        if engagement is not None:
            name = engagement.upper() or "UNSPECIFIED"
            request.engagement = Engagement.Value(f"ENGAGEMENT_{name}")
        if value_discovered is not None:
            request.value_discovered = value_discovered
        for name, change in life.items():
            request.life_states[name].CopyFrom(_life_to_proto(change))
        return StateChange(
            now_ms,
            role=told_role,
            engagement=engagement,
            value_discovered=value_discovered,
            added=added,
            removed=removed,
            pending=pending,
            pending_until_ms=now_ms + pending_ms if pending else None,
            life=life,
        )

    said = (added, removed, pending, pending_ms, role, engagement, value_discovered)
    return Saying((*said, list(states)), fill)


@st.composite
def _life_change(draw: st.DrawFn) -> Callable[[int, CatalogueSpec], LifeChange]:
    active = draw(st.booleans())
    ends = draw(st.sampled_from([None, _HOUR, 2 * _DAY])) if active else None
    topics = draw(_some(_CATEGORIES))
    negative = draw(st.booleans()) and not active

    def make(now_ms: int, spec: CatalogueSpec) -> LifeChange:
        known = tuple(topic for topic in topics if topic in spec.categories)
        until_ms = None if ends is None else now_ms + ends
        return LifeChange(active, until_ms, known, negative)

    return make


_life_changes = st.dictionaries(
    st.sampled_from(
        [
            "support_open",
            "payment_failed",
            "incident",
            "onboarding",
            "churn_risk",
            "trial_first_session",
            "moving",
            "strike",
            "unknown_state",
        ]
    ),
    _life_change(),
    max_size=2,
)


def _life_to_proto(change: LifeChange) -> LifeStateUpdate:
    written = LifeStateUpdate(
        active=change.active,
        topic_category_ids=change.topics,
        negative=change.negative,
    )
    if change.until_ms is not None:
        written.end_time.CopyFrom(kit.timestamp(change.until_ms))
    return written


@st.composite
def _preferences(draw: st.DrawFn) -> Saying:
    out = draw(_some(_CATEGORIES, 1)), draw(_some(_OFFERS, 1))
    back = draw(_some(_CATEGORIES)), draw(_some(_OFFERS))
    everything = draw(st.sampled_from([None, None, None, False, True]))
    zone = draw(
        st.sampled_from([None, "Europe/Berlin", "America/New_York", "", "Asia/Tokyo"])
    )
    quiet = draw(
        st.sampled_from(
            [None, ("22:00", "07:00"), ("02:15", "02:45"), ("12:00", "13:00")]
        )
    )
    clear = quiet is None and draw(st.booleans())

    def fill(request: Any, now_ms: int, spec: CatalogueSpec) -> Command:
        scopes: list[list[str]] = [[], []]
        for kind, at, known in (
            ("category", 0, spec.categories),
            ("offer", 1, spec.offers),
        ):
            gone = [name for name in out[at] if name in known]
            again = [name for name in back[at] if name in known and name not in gone]
            getattr(request, f"opt_out_{kind}_ids").extend(gone)
            getattr(request, f"opt_in_{kind}_ids").extend(again)
            scopes[0] += [f"{kind}:{name}" for name in gone]
            scopes[1] += [f"{kind}:{name}" for name in again]
        if everything is not None:
            request.opt_out_all = everything
            scopes[0 if everything else 1].append("all")
        if zone is not None:
            request.time_zone = zone
        hours = None
        if quiet is not None:
            request.quiet_hours.start, request.quiet_hours.end = quiet
            hours = QuietHours(*(int(t[:2]) * 60 + int(t[3:]) for t in quiet))
        request.clear_quiet_hours = clear
        return PreferencesChange(
            now_ms,
            opt_out=tuple(scopes[0]),
            opt_in=tuple(scopes[1]),
            zone=zone,
            quiet=hours,
            quiet_cleared=clear,
        )

    return Saying((out, back, everything, zone, quiet, clear), fill)


_EVENTS: tuple[UserEventKind, ...] = (
    "purchased",
    "contacted",
    "rated",
    "complained",
    "ticket_opened",
    "ticket_closed",
    "cancelled",
    "uninstalled",
)


@st.composite
def _events(draw: st.DrawFn) -> Saying:
    kind = draw(st.sampled_from(_EVENTS))
    ago_ms = draw(st.sampled_from([None, 0, _MIN, _HOUR, 2 * _DAY, -_MIN]))
    products = draw(_some(_PRODUCTS)) or ("basic",)
    topics = draw(_some(_CATEGORIES))
    score = draw(st.sampled_from([0.0, 0.49, 0.5, 1.0]))
    negative = draw(st.booleans())

    def fill(request: Any, now_ms: int, spec: CatalogueSpec) -> Command:
        at_ms = now_ms
        if ago_ms is not None:
            request.occur_time.CopyFrom(kit.timestamp(now_ms - ago_ms))
            at_ms = min(now_ms - ago_ms, now_ms)
        known = tuple(topic for topic in topics if topic in spec.categories)
        said = getattr(request, kind)
        said.SetInParent()
        event: dict[str, Any] = {}
        if kind in ("purchased", "cancelled"):
            said.product_ids.extend(products)
            event["products"] = products
        if kind in ("contacted", "ticket_opened"):
            said.category_ids.extend(known)
            event["categories"] = known
        if kind == "rated":
            said.score = event["score"] = score
        if kind == "ticket_closed":
            said.negative = event["negative"] = negative
        return UserEvent(at_ms, kind, **event)

    return Saying((kind, ago_ms, products, topics, score, negative), fill)


state_changes = _state_changes()
preferences = _preferences()
events = _events()
