"""What a client is told to show: a text, its values, a reason, what one can do."""

from __future__ import annotations

from typing import Any

import pytest

from opportune.v1 import Context, FeatureValue, Moment, Money, Usage
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.saved_hours]
type = "number"
[features.friend]
type = "category"
[features.trial]
type = "flag"
[features.ends_ms]
type = "number"
[features.pages]
type = "number"

[categories.plans]

[placements.home]

[offers.space]
placements = ["home"]
categories = ["plans"]
price = 700
list_price = 900
discount = 200
priority = 1
[offers.space.creatives.exact]
template = "space-left"
reason = "near_storage_limit"
action = "https://shop.example/{offer_id}/{creative_id}?at={placement_id}&d={decision_id}"
[offers.space.creatives.exact.parameters]
left = { value = "usage.gb.limit - usage.gb.value" }
used = { value = "usage.gb.ratio", type = "percent" }
days = { value = "usage.gb.days_left", type = "duration" }
saved = { value = "features.saved_hours * 1500.0", type = "money" }
friend = { value = "features.friend", type = "text" }
trial = { value = "features.trial", type = "flag" }
ends = { value = "features.ends_ms", type = "time" }
pages = { value = "moment.features.pages" }

[offers.plain]
placements = ["home"]
"""

TWO_DAYS = kit.timestamp(kit.NOON_MS + 2 * kit.DAY_MS)

FULL: dict[str, Any] = {
    "usage": {"gb": Usage(value=9.0, limit=10.0, cycle_end_time=TWO_DAYS)},
    "features": {
        "saved_hours": FeatureValue(number=3.0),
        "friend": FeatureValue(category="Bob"),
        "trial": FeatureValue(flag=False),
        "ends_ms": FeatureValue(number=float(kit.NOON_MS)),
    },
    "moment": Moment(kind="milestone", features={"pages": FeatureValue(number=100.0)}),
}


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def test_a_message_holds_what_the_text_needs(eager: Shop) -> None:
    # Given a user of whom all is known that a text needs
    # When they are offered something
    decision = await eager.ask(context=Context(**FULL))

    # Then the answer holds the text's name and values, each of its type, computed from
    # what the user does
    message = decision.message
    assert decision.offer_id == "space"
    assert message.template_id == "space-left"
    assert message.reason_code == "near_storage_limit"
    values = message.parameters
    assert set(values) == {
        "left",
        "used",
        "days",
        "saved",
        "friend",
        "trial",
        "ends",
        "pages",
    }
    assert values["left"].number == 1.0
    assert values["used"].percent == 0.9
    assert values["days"].duration_days == 2.0
    assert values["saved"].money == Money(currency_code="EUR", minor_units=4_500)
    assert values["friend"].text == "Bob"
    assert values["trial"].WhichOneof("kind") == "flag"
    assert values["trial"].flag is False
    assert kit.ms(values["ends"].time) == kit.NOON_MS
    assert values["pages"].number == 100.0


async def test_one_click_leads_somewhere_and_the_user_can_always_say_no(
    eager: Shop,
) -> None:
    # Given an offer with a link, and one without
    linked = await eager.ask(context=Context(**FULL))
    plain = await eager.ask(offer_ids=["plain"])

    # Then one click opens the link, filled in, or is a token for the cart that no
    # other decision has; and the user can wave both away, or put them off
    assert linked.message.WhichOneof("action") == "link"
    assert linked.message.link == (
        f"https://shop.example/space/exact?at=home&d={linked.decision_id}"
    )
    assert plain.message.WhichOneof("action") == "cart_token"
    other = await eager.ask("bob", offer_ids=["plain"])
    assert plain.message.cart_token
    assert plain.message.cart_token != other.message.cart_token
    assert plain.message.template_id == "default"
    for decision in (linked, plain):
        assert decision.message.dismissible
        assert decision.message.snoozable


async def test_a_decision_says_what_it_costs_and_what_it_belongs_to(
    eager: Shop,
) -> None:
    # Given an offer with a discount, and one that costs nothing
    priced = await eager.ask(context=Context(**FULL))
    free = await eager.ask(offer_ids=["plain"])

    # Then the answer says both prices, and what is taken off
    assert list(priced.category_ids) == ["plans"]
    assert priced.price.price == Money(currency_code="EUR", minor_units=700)
    assert priced.price.list_price == Money(currency_code="EUR", minor_units=900)
    assert priced.price.discount == Money(currency_code="EUR", minor_units=200)
    assert not free.HasField("price")
    assert not free.category_ids


MISSING: dict[str, dict[str, Any]] = {
    "no limit": {"usage": {"gb": Usage(value=9.0, cycle_end_time=TWO_DAYS)}},
    "no end": {"usage": {"gb": Usage(value=9.0, limit=10.0)}},
    "no usage": {"usage": {}},
    "no friend": {
        "features": {**FULL["features"], "friend": FeatureValue(category="")}
    },
    "another type": {
        "features": {**FULL["features"], "friend": FeatureValue(number=7.0)}
    },
    "half a cent": {
        "features": {
            **FULL["features"],
            "saved_hours": FeatureValue(number=0.00001),
        }
    },
    "no time": {"features": {**FULL["features"], "ends_ms": FeatureValue(number=-1.0)}},
    "nothing of the moment": {"moment": Moment(kind="milestone")},
    "nothing at all": {"usage": {}, "features": {}, "moment": Moment()},
}


@pytest.mark.parametrize("what", list(MISSING))
async def test_a_text_is_not_shown_with_a_hole(eager: Shop, what: str) -> None:
    # Given a user of whom something is not known that a text needs
    context = Context(**(FULL | MISSING[what]))

    # When they ask
    decision = await eager.ask(context=context)

    # Then the creative says why it is out, and what can be said without is offered
    assert kit.reasons(decision) == {"space": "MISSING_PARAMETER"}
    assert decision.offer_id == "plain"
    explained = await eager.explain(decision)
    (rejection,) = explained.rejections
    assert rejection.gate == "parameters"
    assert rejection.creative_id == "exact"
    assert rejection.found


async def test_silence_tells_the_user_nothing(eager: Shop) -> None:
    # Given silence
    await kit.stop(eager, "all")
    decision = await eager.ask(context=Context(**FULL))

    # Then there is no message, no price and no category
    assert decision.offer_id == ""
    assert not decision.HasField("message")
    assert not decision.HasField("price")
    assert not decision.category_ids


async def test_a_retry_is_told_the_same(eager: Shop, clock: kit.Clock) -> None:
    # Given a message
    first = await eager.ask(request_id="once", context=Context(**FULL))

    # When the request comes again, with other values, and from another catalogue
    clock.advance(kit.HOUR_MS)
    await kit.change_catalogue(eager, "[placements.home]\n")
    again = await eager.ask(request_id="once")

    # Then it is told the same
    assert again.message == first.message
    assert again == first
