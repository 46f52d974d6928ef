"""What tests of decisions share: random catalogues, and pasts of those who use them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from policies.catalogue import Catalogue, read
from policies.commands import (
    Command,
    LeaseBegin,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.engine import Past
from policies.history import CONFIRMING, report, reserve
from policies.model import (
    NO_CONDITIONS,
    NO_HISTORY,
    Action,
    Conditions,
    Context,
    Decision,
    History,
    Moment,
    Opportunity,
    Outcome,
    OutcomeKind,
    Usage,
)
from policies.profiles import apply

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "NOW",
    "asked",
    "catalogues",
    "decision_of",
    "fold",
    "opportunities",
    "pasts",
    "toml",
]

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 20_780 * DAY + 11 * HOUR  # Some forenoon in November 2026.

_MOMENTS = ("renewal", "limit_near")
_PLACES = ("home", "side", "bar")
_OFFERS = ("tea", "jam", "oats", "rice")
_CATEGORIES = ("hot", "sweet")
_PRODUCTS = ("basic", "pro", "pool")
_INDEXED = ("lifecycle", "moments", "requires", "room")
_OTHERS = ("placement_cap", "offer_cap", "dismissal", "spacing", "ownership", "buyer")


def toml(table: Mapping[str, Any]) -> str:
    """Write a table as TOML, all tables in it as inline ones."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {_value(v)}" for key, v in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return json.dumps(value)


def _some(*values: Any, **keys: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """Draw some of the values, each at most once."""
    drawn = st.lists(st.sampled_from(values), unique=True, **keys)
    return drawn.map(lambda names: tuple(sorted(names, key=values.index)))


def _table(
    most: int = 3, **keys: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a table with so many of the keys at most: few rule out less than many."""
    named = st.lists(st.sampled_from(sorted(keys)), unique=True, max_size=most)
    return named.flatmap(
        lambda names: st.fixed_dictionaries({name: keys[name] for name in names})
    )


_windows = st.sampled_from(["10m", "1d", "7d", "40d"])
_caps = st.builds(
    lambda cap, span: {**cap, **span},
    _table(
        counts=st.sampled_from(["decided", "shown", "clicked", "dismissed"]),
        per=st.sampled_from(["user", "account"]),
        across=st.sampled_from(["all", "placement"]),
        scales=st.booleans(),
    ).flatmap(lambda cap: st.integers(1, 2).map(lambda limit: {"limit": limit, **cap})),
    st.one_of(
        st.just({}),
        _windows.map(lambda window: {"window": window}),
        st.sampled_from(["day", "week", "month"]).map(lambda c: {"calendar": c}),
        st.just({"session": True}),
    ),
)
_some_caps = st.lists(_caps, min_size=1, max_size=2)
_rules = st.sampled_from(
    [
        "segment == 'new'",
        "features.seats > 3.0",
        "'basic' in owned",
        "role != 'guest'",
    ]
)
_creatives = st.dictionaries(
    st.sampled_from(["bold", "calm"]),
    _table(
        caps=_some_caps,
        parameters=st.just({"left": {"value": "usage.gb.limit - usage.gb.value"}}),
    ),
    max_size=2,
)
_offers = st.builds(
    lambda placements, caps, rest: {"placements": placements, **caps, **rest},
    _some(*_PLACES, min_size=1),
    st.just({}) | _some_caps.map(lambda caps: {"caps": caps}),
    _table(
        4,
        state=st.sampled_from(["draft", "paused", "archived"]),
        kind=st.sampled_from(["upsell", "add_on", "bundle", "term", "free_help"]),
        categories=_some(*_CATEGORIES),
        priority=st.integers(-2, 2),
        moments=_some(*_MOMENTS, min_size=1),
        eligible=_rules,
        suitable=_rules,
        requires=_some(*_PRODUCTS, min_size=1),
        complements=_some(*_PRODUCTS, min_size=1),
        grants=_some(*_PRODUCTS, min_size=1),
        ladder=st.just("plan"),
        anchor=st.booleans(),
        limit=st.just({"usage": "gb"}),
        price=st.sampled_from([0, 500]),
        inventory=st.just(3),
        override=st.sampled_from(["none", "critical"]),
        counted=st.booleans(),
        dismissal=st.just({"cool_down": "1d", "factor": 2.0}),
        snooze=st.just({"repeats": 1}),
        creatives=_creatives,
    ),
)
_placements = _table(
    kind=st.sampled_from(["modal", "banner", "inline"]),
    slots=st.integers(1, 2),
    comparison=st.booleans(),
    categories=_some(*_CATEGORIES, min_size=1),
    caps=_some_caps,
    fallback=st.sampled_from(_OFFERS),
)
_categories = _table(
    caps=_some_caps,
    dismissals=st.integers(0, 2),
    household=st.booleans(),
)
_tops = _table(
    2,
    value_discovered=_rules,
    buyers=st.just(["admin"]),
    caps=_some_caps,
    attention=st.just({"budget": 4.0, "window": "1d"}),
    spacing=st.just({"interruptive": "10m", "per_session": 2}),
    fatigue=st.just({"ignored": 2, "pause": "3d"}),
    quiet_hours=st.just({"start": "10:00", "end": "12:00", "blocks": "interrupts"}),
    engagement=st.just({"low": "segment == 'new'", "low_factor": 0.5}),
    holdout=st.just({"share": 0.2}),
    gates=_some(*_INDEXED, *_OTHERS).map(lambda off: {"off": off}),
)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Draw a catalogue of some offers, of which any may name anything."""
    offers = draw(st.dictionaries(st.sampled_from(_OFFERS), _offers, min_size=1))
    first, *others = offers
    for offer_id in others:
        if draw(st.booleans()):  # Alike but for one key.
            key, value = list(offers[offer_id].items())[-1]
            offers[offer_id] = {**offers[first], key: value}
    placements = {place: draw(_placements) for place in _PLACES}
    for placement in placements.values():
        if placement.get("fallback") not in offers:
            placement.pop("fallback", None)
    tables = {
        "features": {"seats": {"type": "number"}},
        "products": {
            "basic": {"price": 500, "limit": 10.0},
            "pro": {"price": 900, "limit": 90.0, "shared": False},
            "pool": {"metered": True},
        },
        "ladders": {"plan": {"rungs": ["basic", "pro"], "usage": "gb"}},
        "categories": {name: draw(_categories) for name in _CATEGORIES},
        "placements": placements,
        "offers": offers,
    }
    # What nobody would write is compiled, too.
    return read(toml({**draw(_tops), **tables}), linted=False)


class _Move(NamedTuple):
    """Something that happened to a user, or to another user of the account.

    Attributes:
        action: Which action was chosen, as a number that is taken modulo all.
        outcomes: What they did, and how much later; nothing for what is not known yet.
    """

    at_ms: int
    mine: bool
    action: int
    session: str
    outcomes: tuple[tuple[OutcomeKind, int], ...]


_times = st.builds(
    lambda back, offset: NOW - back + offset,
    st.sampled_from([0, 5 * MINUTE, HOUR, DAY, 8 * DAY, 50 * DAY]),
    st.integers(-MINUTE, 0),
)
_kinds: st.SearchStrategy[OutcomeKind] = st.sampled_from(
    sorted([*CONFIRMING, "not_shown", "refunded"])
)
_moves = st.builds(
    _Move,
    _times,
    st.booleans(),
    st.integers(0, 99),
    st.sampled_from(["", "morning"]),
    st.lists(
        st.tuples(_kinds, st.integers(0, 10 * MINUTE)),
        max_size=3,
        unique_by=lambda o: o[0],
    ).map(tuple),
)
_commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        StateChange,
        at_ms=_times,
        role=st.sampled_from([None, "admin"]),
        engagement=st.sampled_from([None, "low", "high"]),
        value_discovered=st.sampled_from([None, True]),
        added=_some(*_PRODUCTS),
        life=st.dictionaries(
            st.sampled_from(["support_open", "onboarding", "moving"]),
            st.builds(LifeChange, st.booleans()),
            max_size=1,
        ),
    ),
    st.builds(
        PreferencesChange,
        at_ms=_times,
        opt_out=_some("offer:tea", "category:hot", max_size=1),
        zone=st.sampled_from([None, "Pacific/Auckland"]),
    ),
    st.builds(
        LeaseBegin,
        at_ms=_times,
        key=st.just("checkout"),
        until_ms=st.sampled_from([NOW - 1, NOW + HOUR]),
        inline=st.booleans(),
    ),
    st.builds(
        UserEvent,
        at_ms=_times,
        kind=st.sampled_from(["contacted", "complained"]),
        categories=_some(*_CATEGORIES),
    ),
)


_conditions = st.sampled_from(
    [
        NO_CONDITIONS,
        NO_CONDITIONS,
        Conditions(exhausted=("inventory:tea",)),
        Conditions(stopped=("category:hot",)),
        Conditions(stopped=("offer:jam", "placement:side")),
    ]
)


def decision_of(
    action: Action, number: int, at_ms: int, catalogue: Catalogue, session: str = ""
) -> Decision:
    """Return a decision that chose an action."""
    return Decision(
        opportunity=Opportunity(
            f"{number:036x}", at_ms, "ada", (action.placement_id,), session_id=session
        ),
        catalogue=catalogue.version,
        policy="",
        model="0.0",
        actions=(0, action.index),
        probabilities=(0, 10**9),
        chosen=action.index,
        valid_until_ms=at_ms + int(catalogue.spec.valid_for),
    )


def fold(
    history: History,
    decision: Decision,
    outcomes: Sequence[Outcome],
    catalogue: Catalogue,
    *,
    account: bool = False,
) -> History:
    """Fold a decision and its outcomes into a history, as the server does."""
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory, name = catalogue.memory, decision.opportunity.decision_id
    history = reserve(history, chosen, decision, memory, account=account)
    confirmed = False
    for outcome in outcomes:
        history = report(
            history,
            chosen,
            name,
            outcome,
            memory,
            confirmed=confirmed,
            account=account,
        )
        confirmed = confirmed or outcome.kind in CONFIRMING
    return history


@st.composite
def pasts(draw: st.DrawFn, catalogue: Catalogue) -> Past:
    """Draw what is known of a user of a catalogue, of their account, and of the day."""
    user = account = NO_HISTORY
    moves = draw(st.lists(_moves, min_size=1, max_size=8))
    for number, move in enumerate(sorted(moves)):
        chosen = catalogue.actions[1 + move.action % (len(catalogue.actions) - 1)]
        decision = decision_of(chosen, number, move.at_ms, catalogue, move.session)
        outcomes = [
            Outcome(f"{at}", kind, at_ms, snoozed_until_ms=_snoozed(kind, at_ms))
            for at, (kind, after_ms) in enumerate(move.outcomes)
            for at_ms in [min(move.at_ms + after_ms, NOW)]
        ]
        if move.mine:
            user = fold(user, decision, outcomes, catalogue)
        account = fold(account, decision, outcomes, catalogue, account=True)
    for command in draw(st.lists(_commands, max_size=2)):
        user = apply(user, command)
    for command in draw(st.lists(_commands, max_size=1)):
        account = apply(account, command)
    return Past(user, account if draw(st.booleans()) else NO_HISTORY, draw(_conditions))


def _snoozed(kind: OutcomeKind, at_ms: int) -> int | None:
    return at_ms + 2 * HOUR if kind == "snoozed" else None


def asked(number: int = 0, *placements: str, **rest: Any) -> Opportunity:
    """Return what a user asks now."""
    rest = {"at_ms": NOW, "user_id": "ada", **rest}
    return Opportunity(
        decision_id=f"{number:036x}", placements=placements or ("home",), **rest
    )


opportunities: st.SearchStrategy[Opportunity] = st.builds(
    asked,
    st.integers(0, 999),
    st.sampled_from(_PLACES),
    st.sampled_from(_PLACES),
    account_id=st.just("acme"),
    session_id=st.sampled_from(["", "morning"]),
    offers=st.just(()) | _some(*_OFFERS, min_size=1),
    earlier=st.just(())
    | st.tuples(st.tuples(st.sampled_from(_OFFERS), st.sampled_from(_PLACES))),
    context=st.builds(
        Context,
        role=st.sampled_from(["", "admin", "guest"]),
        segment=st.sampled_from(["", "new"]),
        usage=st.sampled_from([{}, {"gb": Usage(9.0, 10.0)}, {"gb": Usage(1.0, 10.0)}]),
        moment=st.builds(Moment, st.sampled_from(["", *_MOMENTS])),
        features=st.sampled_from([{}, {"seats": 5.0}]),
        cart=_some("pro", max_size=1),
    ),
)
