"""What is asked of a server in a benchmark: a catalogue, and requests for offers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from opportune.v1 import Context, FeatureValue, GetOfferRequest

__all__ = ["PLACEMENT", "SETTINGS", "catalogue_text", "contexts", "requests"]

PLACEMENT = "panel"

SETTINGS = """\
[server]
address = "127.0.0.1:0"
tenant = "benchmark"

[store]
url = "sqlite:///opportune.db"

[catalogue]
file = "catalogue.toml"
"""
"""The settings of the server: the default policy, and nearly all else too."""

_PLANS = ("free", "starter", "team", "business")
_COUNTRIES = ("de", "fr", "gb", "in", "jp", "us")
_CHANNELS = ("mail", "partner", "search", "web")
_RETURNING_SHARE = 0.1

_FEATURES = """\
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
theme = { type = "category" }
"""
_OFFER = """\
[offers.offer-{number}]
placements = ["{placement}"]
caps = [{{ limit = 1, window = "1d" }}, {{ limit = 3, window = "30d" }}]
dismissal_cool_down = "7d"
features = {{ price = {price}, theme = "theme-{theme}" }}
"""
_RULE = "eligible = \"segment == 'active' && features.seats >= {seats}.0\"\n"


def catalogue_text(offers: int) -> str:
    """Return a catalogue of so many offers, all eligible for a new user of `contexts`.

    Each offer has one creative, two caps, a dismissal's cool-down and two features of
    its own; every third has a rule too.
    """
    parts = ['valid_for = "2m"\n', _FEATURES, f"[placements.{PLACEMENT}]\n"]
    for number in range(offers):
        part = _OFFER.format(
            number=number,
            placement=PLACEMENT,
            price=number * 7 % 100,
            theme=number % 8,
        )
        parts.append(part + _RULE.format(seats=number % 3) if number % 3 == 0 else part)
    return "\n".join(parts)


def contexts(seed: int) -> Iterator[Context]:
    """Return contexts of ten features each, the same for the same seed."""
    draw = random.Random(seed)
    while True:
        features = {
            "plan": FeatureValue(category=draw.choice(_PLANS)),
            "country": FeatureValue(category=draw.choice(_COUNTRIES)),
            "channel": FeatureValue(category=draw.choice(_CHANNELS)),
            "trial": FeatureValue(flag=draw.random() < 0.3),
            "admin": FeatureValue(flag=draw.random() < 0.2),
            "age_days": FeatureValue(number=draw.randrange(1_000)),
            "seats": FeatureValue(number=draw.randrange(3, 50)),
            "storage_gb": FeatureValue(number=round(draw.expovariate(0.1), 1)),
            "shares_week": FeatureValue(number=draw.randrange(20)),
            "logins_week": FeatureValue(number=draw.randrange(50)),
        }
        yield Context(segment="active", features=features)


def requests(seed: int) -> Iterator[bytes]:
    """Return serialized requests, each with an id of its own, mostly of new users.

    To write one is to be cheap for the process that measures: what a request has of
    its own is written before one of a thousand contexts, which protobuf reads as one
    message.
    """
    draw = random.Random(seed)
    made = itertools.islice(contexts(seed), 1_000)
    rests = [
        GetOfferRequest(context=context, placement_ids=[PLACEMENT]).SerializeToString()
        for context in made
    ]
    users = 0
    for number in itertools.count():
        if users and draw.random() < _RETURNING_SHARE:
            user = draw.randrange(users)
        else:
            user, users = users, users + 1
        head = GetOfferRequest(
            request_id=f"request-{seed}-{number}", user_id=f"user-{seed}-{user}"
        )
        yield head.SerializeToString() + rests[number % len(rests)]
