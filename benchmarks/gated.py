"""Catalogues in which every gate is asked, and users with a past that it looks at.

What is random is drawn from seeds: the same catalogue, users and requests each time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence

from policies.catalogue import Catalogue
from policies.commands import (
    Command,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.engine import Past
from policies.history import report, reserve
from policies.identity import decision_id, root_key
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Action,
    Conditions,
    Context,
    Decision,
    FeatureValue,
    History,
    Moment,
    Opportunity,
    Outcome,
    OutcomeKind,
    QuietHours,
    Usage,
)
from policies.profiles import apply

__all__ = [
    "AT_MS",
    "CONDITIONS",
    "PLACEMENTS",
    "YEAR",
    "catalogue_text",
    "opportunities",
    "past_of_a_year",
]

AT_MS = 1_780_050_600_000
"""When it is asked: 12:30 where the users are."""

PLACEMENTS = ("panel", "strip")
"""The placements that are asked for."""

CONDITIONS = Conditions(
    stopped=("category:gone", "offer:offer-17", "placement:corner"),
    exhausted=("budget:autumn", "inventory:offer-12"),
)
"""Something is stopped, and something used up."""

YEAR = (
    "two offers shown a week: a tenth clicked, a fifth dismissed, 3 % accepted, 2 %"
    " snoozed; 12 products owned, 5 tickets and contacts, one opt-out, quiet hours"
)
"""What a year of use is."""

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_WEEKS = 52
_COLLEAGUES = 4
_SEEN_HERE, _SEEN_ELSEWHERE = 40, 20
_ELSEWHERE_MAX = 1_000

_REACTIONS: dict[OutcomeKind, float] = {
    "clicked": 0.07,
    "accepted": 0.03,
    "dismissed": 0.2,
    "snoozed": 0.02,
    "ignored": 0.68,
}
_ELIGIBLE = (
    "segment == 'active'",
    "features.seats >= 3.0",
    "features.plan != 'free' || features.trial",
    "features.country in ['de', 'fr', 'gb']",
    "features.logins_week > 2.0 && features.seats > 5.0",
    "role == 'admin'",
    "features.storage_gb > 1.0",
    "!('incident' in states)",
)
_APPLICABLE = ("usage.gb.ratio > 0.3", "features.shares_week > 0.0")

_TOP = """\
zone = "Europe/Berlin"
buyers = ["admin", "owner"]
value_discovered = "features.age_days > 30.0"
caps = [
    { limit = 20, window = "7d" },
    { limit = 8, calendar = "day", per = "account" },
    { limit = 6, session = true },
    { limit = 3, counts = "clicked", calendar = "month" },
]
attention = { budget = 40.0, window = "7d" }
spacing = { interruptive = "30m", per_session = 3 }
quiet_hours = { start = "22:00", end = "07:00" }
fatigue = { ignored = 50 }
engagement = { low = "features.logins_week < 1.0", high = "features.seats > 45.0" }
holdout = { share = 0.05 }

[features]
plan = { type = "category" }
country = { type = "category" }
channel = { type = "category" }
trial = { type = "flag" }
admin = { type = "flag" }
age_days = { type = "number" }
seats = { type = "number", range = [1, 50] }
storage_gb = { type = "number" }
shares_week = { type = "number" }
logins_week = { type = "number", range = [0, 50] }
price = { type = "number", range = [0, 100] }

[suppressors.moving]
blocks = "interrupts"
categories = ["cat-4"]
cool_down = "1d"

[budgets.spring]
amount = 1_000_000
per_day = 10_000

[products.core]
[products.rare]
[products.flow]
metered = true
[products.plan-0]
price = 0
limit = 10.0
[products.plan-1]
price = 900
limit = 100.0
[products.plan-2]
price = 1_700
limit = 1_000.0
[products.plan-3]
price = 9_900

[ladders.plans]
rungs = ["plan-0", "plan-1", "plan-2", "plan-3"]
usage = "gb"

[placements.panel]
slots = 3
caps = [{ limit = 12, window = "7d" }]
[placements.strip]
kind = "banner"
caps = [{ limit = 4, calendar = "day" }]
[placements.compare]
comparison = true
[placements.corner]
categories = ["cat-0"]
"""
_CATEGORIES = 8
_CATEGORY = """\
[categories.cat-{number}]
caps = [{{ limit = 6, window = "7d" }}{more}]
household = {household}
"""
_NAMED_PLACEMENTS = 4
_WORDINGS = """\
[{name}.creatives.calm]
reason = "near_storage_limit"
[{name}.creatives.calm.parameters.left]
value = "usage.gb.limit - usage.gb.value"
[{name}.creatives.bold]
caps = [{{ limit = 1, window = "3d" }}]
"""


def catalogue_text(offers: int, *, candidates: int, placements: int = 4) -> str:
    """Return a catalogue of so many offers, of which few can be candidates.

    The others are in other placements, at other moments, for products that nobody has,
    or not approved.

    Args:
        offers: How many offers there are.
        candidates: How many actions the index finds for one of `opportunities`.
        placements: How many placements there are, at least 4.
    """
    parts = [_TOP, *_categories()]
    others = [f"place-{n}" for n in range(placements - _NAMED_PLACEMENTS)]
    parts += [f"[placements.{name}]" for name in others]
    here = list(_offers_here(candidates))
    rest = [_other(n, others) for n in range(len(here), offers)]
    return "\n".join([*parts, *here, *rest])


def _categories() -> Iterator[str]:
    for number in range(_CATEGORIES):
        weekly = ', { limit = 30, calendar = "week", per = "account" }'
        yield _CATEGORY.format(
            number=number,
            more=weekly if number == 1 else "",
            household="true" if number == 0 else "false",
        )


def _offers_here(candidates: int) -> Iterator[str]:
    """Yield offers that make so many candidates."""
    number, left = 0, candidates
    while left > 0:
        # Two placements, or two wordings, or neither.
        twice = left > 1 and number % 5 in (0, 2)
        both = twice and number % 5 == 0
        inline = number % 5 != 4
        one = PLACEMENTS[:1] if inline else PLACEMENTS[1:]
        placements = PLACEMENTS if both else one
        keys = _keys(number) | {"placements": [*placements, *_further(number)]}
        wordings = _WORDINGS if twice and not both else ""
        yield _written(number, keys, wordings)
        left -= 2 if twice else 1
        number += 1


def _further(number: int) -> list[str]:
    """Return placements that are not asked for."""
    if number % 25 == 0:
        return ["compare"]
    return ["corner"] if number % 5 == 3 else []


def _other(number: int, others: Sequence[str]) -> str:
    """Return an offer that cannot be a candidate."""
    keys = _keys(number)
    match number % 10:
        case 0:
            keys |= {"placements": PLACEMENTS[:1], "moments": ["renewal", "milestone"]}
        case 5:
            keys |= {"placements": PLACEMENTS, "requires": ["rare"]}
        case 8:
            # Somebody must have sold what is a rung, and it is not for sale any more.
            keys |= {"placements": PLACEMENTS, "state": "paused"}
            keys |= {"grants": ["plan-1"], "ladder": "plans"}
        case _:
            keys["placements"] = [others[number % len(others)] if others else "corner"]
            keys["categories"] = ["cat-0"]
    keys.pop("anchor", None)
    return _written(number, keys)


def _keys(number: int) -> dict[str, object]:
    """Return what an offer says; of each gate some have one."""
    category, further = number % _CATEGORIES, (number + 3) % _CATEGORIES
    keys: dict[str, object] = {
        "categories": [f"cat-{c}" for c in (category, further)[: 1 + number % 4 // 3]],
        "features": {"price": number * 7 % 100},
        "caps": [{"limit": 2, "window": "7d"}, {"limit": 6, "window": "90d"}],
        "price": 0 if number % 4 == 3 else 900 + 100 * (number % 7),
    }
    if number % 2 == 0:
        keys["eligible"] = _ELIGIBLE[number // 2 % len(_ELIGIBLE)]
    if number % 8 in (1, 5):
        keys["applicable"] = _APPLICABLE[number // 4 % len(_APPLICABLE)]
    if number % 16 == 5:
        keys["suitable"] = "!features.trial || features.seats > 5.0"
    if number % 3 == 0:
        keys["start"], keys["end"] = _STARTED, _ENDED
        keys["caps"] = [
            {"limit": 1, "calendar": "day", "across": "placement"},
            {"limit": 6, "window": "90d"},
        ]
    return keys | _supplied(number) | _bound(number)


def _supplied(number: int) -> dict[str, object]:
    """Return what there is only so much of, and what pays for it."""
    if number % 10 == 2:
        return {"inventory": 1_000}
    if number % 10 == 4:
        price = 900 + 100 * (number % 7)
        money = {"price": price, "discount": 100, "list_price": price + 100}
        return money | {"budget": "spring"}
    return {}


def _bound(number: int) -> dict[str, object]:
    """Return what an offer has to do with products, moments and usage."""
    match number % 25:
        case 0:
            plan = {"grants": ["plan-3"], "ladder": "plans"}
            return plan | {"kind": "upsell", "anchor": True}
        case 6:
            return {"grants": ["plan-2"], "ladder": "plans", "kind": "upsell"}
        case 3:
            return {"grants": ["flow"], "kind": "usage_pack"}
        case rest if rest % 5 == 1:
            limit = {"usage": "gb", "from_share": 0.5}
            return {"moments": ["limit_near", "limit_hit"], "limit": limit}
        case rest if rest % 5 == 0:
            return {"requires": ["core"], "complements": ["core", "plan-1"]}
        case _:
            return {"grants": [f"add-on-{number}"]}


def _written(number: int, keys: Mapping[str, object], tables: str = "") -> str:
    name = f"offers.offer-{number}"
    lines = [f"[{name}]", *(f"{key} = {_value(v)}" for key, v in keys.items())]
    lines.append(tables.format(name=name))
    if f"add-on-{number}" in _value(keys.get("grants", [])):
        lines.append(f"[products.add-on-{number}]")
    return "\n".join(lines)


def _value(value: object) -> str:
    """Write a value in TOML."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {_value(v)}" for key, v in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # TOML and JSON agree on the rest; times are their own text.
    return str(value) if isinstance(value, _Raw) else json.dumps(value)


class _Raw(str):
    """Text that is TOML already."""

    __slots__ = ()


_STARTED = _Raw("2026-01-01T00:00:00Z")
_ENDED = _Raw("2027-01-01T00:00:00Z")


def opportunities(count: int, *, seed: int) -> list[Opportunity]:
    """Return what different users ask, at the same time."""
    draw = random.Random(seed)
    return [_opportunity(draw, number) for number in range(count)]


def _opportunity(draw: random.Random, number: int) -> Opportunity:
    features: dict[str, FeatureValue] = {
        "plan": draw.choice(["free", "starter", "team", "business"]),
        "country": draw.choice(["de", "fr", "gb", "in", "jp", "us"]),
        "channel": draw.choice(["mail", "partner", "search", "web"]),
        "trial": draw.random() < 0.3,
        "admin": draw.random() < 0.2,
        "age_days": float(draw.randrange(31, 1_000)),
        "seats": float(draw.randrange(3, 50)),
        "storage_gb": round(draw.expovariate(0.1), 1),
        "shares_week": float(draw.randrange(20)),
        "logins_week": float(draw.randrange(1, 30)),
    }
    usage = Usage(
        float(draw.randrange(70, 100)),
        100.0,
        since_ms=AT_MS - 20 * _DAY_MS,
        until_ms=AT_MS + 11 * _DAY_MS,
    )
    return Opportunity(
        f"decision-{number}",
        AT_MS,
        "ada",
        PLACEMENTS,
        account_id="acme",
        session_id="visit",
        context=Context(
            role="admin",
            segment="active",
            usage={"gb": usage},
            moment=Moment("limit_near"),
            features=features,
            cart=("tea",),
        ),
    )


def past_of_a_year(
    catalogue: Catalogue,
    *,
    seed: int,
    weeks: int = _WEEKS,
    colleagues: int = _COLLEAGUES,
) -> Past:
    """Return what is known of a user, and of their account, after a year.

    It is folded by the functions that the server folds with.

    Args:
        catalogue: What they were offered.
        seed: What is drawn from.
        weeks: For how long they have used the product.
        colleagues: How many others the account has.
    """
    draw = random.Random(seed)
    pool = _pool(catalogue, draw)
    history, account = _told(weeks), NO_HISTORY
    days = sorted(
        [
            (draw.uniform(2, 7 * weeks), person)
            for person in range(1 + colleagues)
            for _ in range(2 * weeks)
        ],
        reverse=True,
    )
    for number, (day, person) in enumerate(days):
        at_ms = AT_MS - round(day * _DAY_MS)
        decision = _decided(catalogue, draw.choice(pool), at_ms, number)
        outcomes = _outcomes(draw, at_ms)
        account = _folded(account, catalogue, decision, outcomes, account=True)
        if person == 0:
            history = _folded(history, catalogue, decision, outcomes, account=False)
    return Past(history, account, CONDITIONS)


def _pool(catalogue: Catalogue, draw: random.Random) -> list[Action]:
    """Return what users see in a year, here and elsewhere."""
    here = catalogue.candidates(PLACEMENTS, moment="limit_near", owned=["core"])
    known = frozenset([action.index for action in here])
    first = catalogue.actions[NO_OFFER + 1 : _ELSEWHERE_MAX]
    elsewhere = [action for action in first if action.index not in known]
    return [
        *draw.sample(here, min(_SEEN_HERE, len(here))),
        *draw.sample(elsewhere, min(_SEEN_ELSEWHERE, len(elsewhere))),
    ]


def _decided(catalogue: Catalogue, action: Action, at_ms: int, number: int) -> Decision:
    root = root_key("benchmark", "acme", "ada")
    opportunity = Opportunity(
        decision_id(root, "ada", str(number)),
        at_ms,
        "ada",
        (action.placement_id,),
        account_id="acme",
        session_id=f"visit-{number}",
    )
    until_ms = at_ms + int(catalogue.spec.valid_for)
    return Decision(opportunity, "", "", "", (), (), action.index, until_ms)


def _outcomes(draw: random.Random, at_ms: int) -> list[Outcome]:
    """Return what a user does about an offer: see it, and perhaps react."""
    (kind,) = draw.choices(list(_REACTIONS), list(_REACTIONS.values()))
    until_ms = at_ms + 14 * _DAY_MS if kind == "snoozed" else None
    reaction = Outcome("2", kind, at_ms + 5_000, snoozed_until_ms=until_ms)
    return [Outcome("1", "shown", at_ms + 1_000), reaction]


def _folded(
    history: History,
    catalogue: Catalogue,
    decision: Decision,
    outcomes: Sequence[Outcome],
    *,
    account: bool,
) -> History:
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory, name = catalogue.memory, decision.opportunity.decision_id
    history = reserve(history, chosen, decision, memory, account=account)
    for at, outcome in enumerate(outcomes):
        history = report(
            history, chosen, name, outcome, memory, confirmed=at > 0, account=account
        )
    return history


def _told(weeks: int) -> History:
    """Return what the product has told of a user."""
    history = NO_HISTORY
    for command in _commands():
        if command.at_ms > AT_MS - 7 * weeks * _DAY_MS:
            history = apply(history, command)
    return history


def _commands() -> Iterator[Command]:
    """Yield what a product tells in a year, the first first."""
    owned = ("core", "plan-1", *(f"own-{number}" for number in range(10)))
    yield StateChange(_before(350), role="admin", added=owned)
    yield PreferencesChange(
        _before(340),
        opt_out=("category:cat-7",),
        zone="Europe/Berlin",
        quiet=QuietHours(22 * 60, 7 * 60),
    )
    yield UserEvent(_before(200), "complained")
    for at, days in enumerate((300, 220, 150, 90, 40)):
        topics = (f"cat-{at}",)
        yield UserEvent(_before(days), "ticket_opened", categories=topics)
        yield UserEvent(_before(days - 2), "ticket_closed")
        yield UserEvent(_before(days - 10), "contacted", categories=topics)
    failed = {"payment_failed": LifeChange(active=True)}
    yield StateChange(_before(30), life=failed)
    yield StateChange(_before(29), life={"payment_failed": LifeChange(active=False)})
    yield LeaseBegin(_before(5), "checkout", _before(4))
    yield LeaseEnd(_before(5), "checkout")
    yield UserEvent(_before(1), "contacted", categories=("cat-5",))


def _before(days: int) -> int:
    return AT_MS - days * _DAY_MS
