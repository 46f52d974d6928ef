"""Catalogues that between them ask for everything that a catalogue can ask for.

The first three have the same offers, in other categories, under other rules; the last
counts nothing over several offers. What their rules mean is said in Python as well.
"""

from __future__ import annotations

from tests.reference.nouns import Moment, Rules

__all__ = ["NAMES", "RULES", "TEXTS"]

_PRODUCTS = """
[features.seats]
type = "number"

[features.trial]
type = "flag"

[products.basic]
price = 500
limit = 10.0
[products.standard]
price = 1000
limit = 50.0
[products.premium]
price = 2500
limit = 200.0
[products.enterprise]
price = 6000
[products.tv]
[products.hdmi]
[products.case]
[products.api]
metered = true
[products.seat]
shared = false
[products.disk]

[ladders.plan]
rungs = ["basic", "standard", "premium", "enterprise"]
max_step = 2.0
usage = "seats"
"""

_BROAD = """
currency = "EUR"
zone = "Europe/Berlin"
valid_for = "10m"
report_grace = "2m"
provisioned_within = "3d"
value_discovered = "features.seats >= 2.0 || 'basic' in owned"
buyers = ["admin", "owner"]
moments = ["quarter_end"]
caps = [
    { limit = 6, window = "1h" },
    { limit = 30, calendar = "month", scales = false },
]

[attention]
budget = 7.4
window = "6h"

[spacing]
interruptive = "20m"
per_session = 3

[quiet_hours]
start = "01:45"
end = "03:15"
blocks = "interrupts"

[fatigue]
ignored = 5
pause = "2d"

[engagement]
low = "segment == 'idle'"
high = "segment == 'busy'"

[dismissal]
cool_down = "1d"
factor = 2.0
longest = "5d"

[snooze]
repeats = 1

[sentiment]
cool_down = "2d"

[contacts]
cool_down = "12h"

[budgets.sale]
amount = 900
per_day = 500

[suppressors.moving]
blocks = "interrupts"
categories = ["plans", "help"]
cool_down = "5h"

[categories.plans]
caps = [{ limit = 3, window = "1d" }, { limit = 8, calendar = "week" }]
dismissals = 2
dismissals_window = "10d"
cool_down = "4d"
[categories.extras]
caps = [{ limit = 2, session = true, scales = false }]
dismissals = 3
dismissals_window = "5d"
cool_down = "8d"
household = true
[categories.storage]
caps = [{ limit = 2, window = "2d", counts = "clicked" }]
[categories.help]
dismissals = 0

[placements.modal]
kind = "modal"
caps = [{ limit = 2, calendar = "day" }]
[placements.strip]
kind = "banner"
interruptiveness = 1.5
[placements.page]
slots = 2
[placements.compare]
comparison = true
slots = 3
[placements.cart]
categories = ["extras", "help"]
slots = 2
[placements.side]
sticky = "5m"
fallback = "tips"

[offers.first_plan]
kind = "upsell"
placements = ["modal", "page", "compare"]
categories = ["plans"]
grants = ["basic"]
ladder = "plan"
price = 500
caps = [{ limit = 1, window = "3h" }, { limit = 4, window = "7d", scales = false }]

[offers.next_plan]
kind = "upsell"
placements = ["modal", "strip", "page", "compare"]
categories = ["plans"]
grants = ["standard"]
ladder = "plan"
price = 1000
renews = true
cancel_path = "/cancel"
caps = [{ limit = 2, calendar = "day", counts = "decided" }]
[offers.next_plan.creatives.plain]
[offers.next_plan.creatives.bold]
caps = [{ limit = 1, calendar = "week" }]

[offers.big_plan]
kind = "upsell"
placements = ["page", "compare", "strip"]
categories = ["plans"]
grants = ["premium"]
ladder = "plan"
price = 2500

[offers.anchor_plan]
kind = "upsell"
placements = ["compare", "page"]
categories = ["plans"]
grants = ["enterprise"]
ladder = "plan"
anchor = true
price = 6000

[offers.storage]
kind = "usage_pack"
placements = ["modal", "strip", "page", "cart"]
categories = ["storage"]
grants = ["disk"]
price = 300
limit = { usage = "storage_gb" }
caps = [{ limit = 2, window = "2d", across = "placement" }]
[offers.storage.creatives.left]
parameters.left = { value = "usage.storage_gb.limit - usage.storage_gb.value" }
caps = [{ limit = 1, window = "5h", across = "placement" }]
[offers.storage.creatives.plain]

[offers.storage_tip]
kind = "free_help"
placements = ["page", "side"]
categories = ["storage", "help"]
limit.usage = "storage_gb"
limit.from_share = 0.5
limit.to_share = 2.0
limit.forecast = "0s"
limit.once_per_cycle = false
moments = ["limit_near", "limit_hit"]

[offers.hdmi]
kind = "cross_sell"
placements = ["cart", "page"]
categories = ["extras"]
grants = ["hdmi"]
complements = ["tv"]
price = 20
buyers_only = false
dismissal_cool_down = "6h"

[offers.bundle]
kind = "bundle"
placements = ["cart", "page"]
categories = ["extras"]
grants = ["hdmi", "case"]
price = 250
list_price = 600
discount = 350
budget = "sale"

[offers.credit_bundle]
kind = "bundle"
placements = ["cart", "strip"]
categories = ["extras", "plans"]
grants = ["hdmi", "case", "tv"]
credit = true
price = 400
list_price = 500
discount = 100
budget = "sale"
caps = [{ limit = 3, per = "account", window = "1d" }]

[offers.extension]
placements = ["page", "side"]
categories = ["extras"]
requires = ["basic", "tv"]
moments = ["workflow_done", "quarter_end"]
caps = [{ limit = 3 }]

[offers.seats]
kind = "seats"
placements = ["page", "modal"]
categories = ["plans"]
grants = ["seat"]
price = 700
caps = [{ limit = 1, per = "account", calendar = "day" }]

[offers.calls]
kind = "usage_pack"
placements = ["page", "modal"]
grants = ["api"]
price = 50

[offers.saving]
kind = "term"
placements = ["page", "strip"]
categories = ["plans"]
grants = ["api"]

[offers.tips]
kind = "free_help"
placements = ["side", "page"]
categories = ["help"]
caps = [{ limit = 5, window = "4h" }]

[offers.silent_tip]
kind = "free_help"
placements = ["page", "cart"]
categories = ["help"]
counted = false
applicable = "'onboarding' in states || features.trial"

[offers.alert]
placements = ["modal", "page"]
categories = ["help"]
override = "critical"
caps = [{ limit = 1, window = "1d" }]

[offers.quiet_alert]
placements = ["strip"]
categories = ["plans"]
override = "critical"
counted = false
suitable = "engagement != 'low'"

[offers.flash]
placements = ["page", "strip"]
categories = ["extras"]
inventory = 3
hold = "2h"
start = 2026-10-20T00:00:00Z
end = 2027-03-20T00:00:00Z

[offers.pro]
placements = ["page", "side"]
categories = ["plans"]
eligible = "segment == 'free' || role == 'owner'"
applicable = "features.seats >= 3.0"
suitable = "usage.storage_gb.ratio > 0.1"
value_discovered = "!('tv' in cart)"
dismissal = { cool_down = "2h", factor = 3.0, longest = "3d" }
snooze = { repeats = 0 }

[offers.draft]
placements = ["page"]
state = "draft"
[offers.paused]
placements = ["page"]
state = "paused"
"""

_WIDE = """
currency = "EUR"
zone = "America/New_York"
valid_for = "30m"
report_grace = "0s"
provisioned_within = "6h"
buyers = ["guest", "admin"]
caps = [
    { limit = 4, calendar = "day" },
    { limit = 2, window = "30m", across = "placement" },
]

[attention]
budget = 4.0
window = "1h"

[spacing]
interruptive = "0s"
per_session = 1

[quiet_hours]
start = "01:30"
end = "02:30"

[fatigue]
ignored = 2
pause = "5h"

[engagement]
high = "features.seats > 50.0"
low_factor = 0.3
high_factor = 2.5

[sentiment]
cool_down = "6h"
blocks = "all"

[contacts]
cool_down = "3d"

[budgets.sale]
amount = 2000

[suppressors.support_open]
blocks = "all"
cool_down = "2h"
topic_matched = true
[suppressors.onboarding]
blocks = "interrupts"
cool_down = "1h"
[suppressors.moving]
blocks = "price"
topic_matched = true
cool_down = "1d"
[suppressors.strike]

[categories.plans]
household = true
dismissals = 0
cool_down = "1d"
[categories.extras]
caps = [
    { limit = 3, calendar = "month", per = "account" },
    { limit = 1, window = "10m" },
]
[categories.storage]
[categories.help]
caps = [{ limit = 1, counts = "dismissed" }]

[placements.modal]
kind = "banner"
[placements.strip]
kind = "inline"
interruptiveness = 0.0
caps = [{ limit = 3, session = true }, { limit = 5, window = "3d", per = "account" }]
[placements.page]
slots = 3
interruptiveness = 1.1
[placements.cart]
kind = "modal"
categories = ["extras", "plans"]
[placements.side]
fallback = "paused"

[offers.first_plan]
kind = "upsell"
placements = ["modal", "page"]
categories = ["help"]
grants = ["basic"]
ladder = "plan"
price = 500
caps = [{ limit = 2, counts = "accepted" }, { limit = 3, session = true }]

[offers.next_plan]
kind = "upsell"
placements = ["modal", "strip", "page"]
categories = ["plans", "extras"]
grants = ["standard"]
ladder = "plan"
price = 1000
caps = [{ limit = 1, window = "1d", counts = "clicked", per = "account" }]
[offers.next_plan.creatives.bold]
caps = [{ limit = 2, window = "1h", counts = "decided" }]
parameters.role = { value = "role", type = "text" }
[offers.next_plan.creatives.late]
caps = [{ limit = 2 }]

[offers.big_plan]
kind = "upsell"
placements = ["page", "strip", "cart"]
categories = ["plans"]
grants = ["premium"]
ladder = "plan"
price = 0

[offers.storage]
kind = "usage_pack"
placements = ["strip", "page", "side"]
categories = ["extras", "storage"]
grants = ["disk"]
price = 300
limit = { usage = "storage_gb", from_share = 0.9, forecast = "3d" }
moments = ["limit_near"]

[offers.hdmi]
kind = "cross_sell"
placements = ["cart", "page"]
categories = ["extras"]
grants = ["hdmi"]
complements = ["tv", "basic"]
price = 20

[offers.bundle]
kind = "bundle"
placements = ["cart", "page"]
categories = ["extras"]
grants = ["hdmi", "case"]
price = 100
list_price = 400
discount = 300
budget = "sale"

[offers.extension]
placements = ["page", "side", "cart"]
categories = ["help"]
requires = ["tv", "basic"]
moments = ["workflow_done"]
dismissal_cool_down = "30m"
snooze = { repeats = 0 }

[offers.seats]
kind = "seats"
placements = ["page", "modal"]
categories = ["plans"]
grants = ["seat"]
price = 700
buyers_only = true
caps = [{ limit = 2, window = "1d", per = "account" }]

[offers.tips]
kind = "free_help"
placements = ["side", "page"]
counted = false
dismissal = { cool_down = "1h", factor = 1.0, longest = "1h" }

[offers.alert]
placements = ["modal", "page"]
categories = ["storage"]
override = "critical"
caps = [{ limit = 1, window = "1d" }]
[offers.alert.creatives.loud]
[offers.alert.creatives.soft]
caps = [{ limit = 1, session = true }]

[offers.flash]
placements = ["page", "strip"]
categories = ["extras", "help"]
inventory = 5
end = 2027-11-20T00:00:00Z

[offers.pro]
placements = ["page", "side"]
categories = ["storage"]
eligible = "usage.storage_gb.days_left > 1.0"
applicable = "value_discovered"
value_discovered = "'tv' in owned"

[offers.paused]
placements = ["page", "side"]
state = "paused"
"""

_HELD = (
    _BROAD.replace('zone = "Europe/Berlin"', 'zone = "Asia/Kolkata"')
    .replace("budget = 7.4", "budget = 0.0")
    .replace('interruptive = "20m"', 'interruptive = "2h"')
    .replace("per_session = 3", "per_session = 0")
    .replace('end = "03:15"\nblocks = "interrupts"', 'end = "01:50"\nblocks = "all"')
    .replace("ignored = 5", "ignored = 0")
    .replace(
        'cool_down = "2d"\n\n[contacts]',
        'cool_down = "2d"\nblocks = "interrupts"\n\n[contacts]',
    )
    .replace('fallback = "tips"', 'fallback = "extension"')
    .replace('override = "critical"\ncaps', 'override = "none"\ncaps')
    .replace('placements = ["side", "page"]', 'placements = ["side", "strip", "page"]')
    + """
[holdout]
share = 0.3
salt = "pepper"

[gates]
off = ["value_discovered", "contacts", "creative_cap", "metered"]
"""
)

_NARROW = """
currency = "EUR"
valid_for = "1h"
report_grace = "5m"
buyers = ["admin"]

[spacing]
interruptive = "0s"

[placements.modal]
kind = "modal"
[placements.page]
slots = 2
sticky = "10m"
[placements.side]
[placements.new]
kind = "banner"
fallback = "tips"

[offers.first_plan]
kind = "upsell"
placements = ["modal", "page"]
grants = ["basic"]
ladder = "plan"
price = 500
caps = [{ limit = 1, window = "1h" }]

[offers.next_plan]
kind = "upsell"
placements = ["modal", "page", "new"]
grants = ["standard"]
ladder = "plan"
caps = [
    { limit = 2, window = "2h", across = "placement" },
    { limit = 5, window = "20d" },
]
[offers.next_plan.creatives.bold]
[offers.next_plan.creatives.plain]
parameters.seats = { value = "features.seats" }

[offers.storage]
placements = ["page", "side"]
limit = { usage = "storage_gb" }

[offers.hdmi]
placements = ["page", "side", "new"]
grants = ["hdmi"]
complements = ["tv"]
snooze = { repeats = 1 }

[offers.extension]
placements = ["page", "side", "modal"]
requires = ["basic", "tv"]
moments = ["workflow_done"]
caps = [{ limit = 3 }]

[offers.seats]
placements = ["page"]
grants = ["seat"]
price = 1
caps = [{ limit = 1, calendar = "week", per = "account", scales = false }]

[offers.tips]
placements = ["side", "new"]
caps = [{ limit = 4, session = true }]
[offers.twin]
placements = ["side", "new", "page"]
caps = [{ limit = 4, session = true }]

[offers.flash]
placements = ["page"]
inventory = 4
"""

_FREE = """
[gates]
off = [
    "applicable", "buyer", "complements", "eligible", "ladder", "ladder_anchor",
    "limit", "metered", "moments", "ownership", "requires", "room", "suitable",
    "value_discovered", "attention", "fatigue", "spacing", "session_limit",
]
"""
"""Only what users bear counts, whatever they have."""

_OFTEN = """
[gates]
off = [
    "attention", "category_cap", "category_dismissal", "contacts", "creative_cap",
    "critical_workflow", "dismissal", "fatigue", "life_state", "offer_cap",
    "placement_cap", "quiet_hours", "sentiment", "session_limit", "spacing",
]
"""
"""Only what users have and need counts, however much they bear."""

_TEXTS = {
    "broad": _BROAD,
    "wide": _WIDE,
    "held": _HELD,
    "narrow": _NARROW,
    "broad_free": _BROAD + _FREE,
    "wide_free": _WIDE + _FREE,
    "wide_often": _WIDE + _OFTEN,
}

NAMES = tuple(_TEXTS)
"""What the catalogues are called, in their order."""

TEXTS = tuple(text + _PRODUCTS for text in _TEXTS.values())
"""The catalogues; each may follow each."""


def _ratio(moment: Moment) -> float | None:
    usage = moment.context.usage.get("storage_gb")
    return usage.value / usage.limit if usage and usage.limit else None


def _seats(moment: Moment) -> float | None:
    seats = moment.context.features.get("seats")
    return seats if isinstance(seats, float) else None


def _days_left(moment: Moment, at_ms: int) -> float | None:
    usage = moment.context.usage.get("storage_gb")
    if usage is None or usage.until_ms is None or usage.until_ms < at_ms:
        return None
    return (usage.until_ms - at_ms) / 86_400_000


RULES = Rules(
    holds={
        "features.seats >= 2.0 || 'basic' in owned": lambda m: (
            (_seats(m) or 0.0) >= 2.0 or "basic" in m.owned
        ),
        "segment == 'idle'": lambda m: m.context.segment == "idle",
        "segment == 'busy'": lambda m: m.context.segment == "busy",
        "'onboarding' in states || features.trial": lambda m: (
            "onboarding" in m.states or m.context.features.get("trial") is True
        ),
        "engagement != 'low'": lambda m: m.engagement != "low",
        "segment == 'free' || role == 'owner'": lambda m: (
            m.context.segment == "free" or m.role == "owner"
        ),
        "features.seats >= 3.0": lambda m: (_seats(m) or 0.0) >= 3.0,
        "usage.storage_gb.ratio > 0.1": lambda m: (_ratio(m) or 0.0) > 0.1,
        "!('tv' in cart)": lambda m: "tv" not in m.context.cart,
        "features.seats > 50.0": lambda m: (_seats(m) or 0.0) > 50.0,
        "usage.storage_gb.days_left > 1.0": lambda m: (
            (_days_left(m, m.at_ms) or 0.0) > 1.0
        ),
        "value_discovered": lambda m: m.value_discovered,
        "'tv' in owned": lambda m: "tv" in m.owned,
    },
    known={
        "usage.storage_gb.limit - usage.storage_gb.value": lambda m: (
            _ratio(m) is not None
        ),
        "role": lambda m: bool(m.role),
        "features.seats": lambda m: _seats(m) is not None,
    },
)
"""What the rules and the parameters of the catalogues mean."""
