"""The translation of messages: what is read, what is refused, and what is written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import (
    DECISION_VIEW_BASIC,
    DECISION_VIEW_FULL,
    BatchGetOffersRequest,
    CheckDecisionRequest,
    Context,
    ExplainDecisionRequest,
    GetOfferRequest,
    OfferState,
    Reason,
    Usage,
)
from policies import catalogue as catalogues
from policies import model
from policies.catalogue import Catalogue
from policies.engine import Explanation, Refusal
from policies.errors import InvalidRequestError
from policies.gates import Ruling
from policies.messages import Message, Value
from policies.model import (
    NO_OFFER,
    Conditions,
    Decision,
    History,
    Opportunity,
    Preferences,
    Rejection,
)
from server import codec
from tests.server.kit import DAY_MS, HOUR_MS, NOON_MS, ms, timestamp

CATALOGUE = """
    currency = "EUR"

    [categories.storage]

    [placements.home]
    fallback = "help"

    [offers.more_storage]
    placements = ["home"]
    categories = ["storage"]
    price = 900
    list_price = 1200
    discount = 300

    [offers.help]
    placements = ["home"]
    kind = "free_help"
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return catalogues.read(CATALOGUE)


def wrong_fields(error: InvalidRequestError) -> set[str]:
    fields = [problem.field for problem in error.problems]
    assert len(fields) == len(set(fields))
    assert all(problem.description for problem in error.problems)
    return set(fields)


# --- What a product server asks ---------------------------------------------------


def ask(**fields: Any) -> GetOfferRequest:
    return GetOfferRequest(**({"user_id": "ada", "placement_ids": ["home"]} | fields))


def opportunity(request: GetOfferRequest, catalogue: Catalogue) -> Opportunity:
    return codec.opportunity_from_proto(
        request,
        request_id="r",
        tenant="shop",
        at_ms=NOON_MS,
        catalogue=catalogue,
    )


def usage(**fields: Any) -> Context:
    return Context(usage={"gb": Usage(**({"value": 1.0} | fields))})


def test_a_cart_and_the_cycle_of_a_usage_are_read(catalogue: Catalogue) -> None:
    context = usage(
        per_day=-0.5,
        cycle_start_time=timestamp(NOON_MS - DAY_MS),
        cycle_end_time=timestamp(NOON_MS + DAY_MS),
    )
    context.cart_product_ids.extend(["disk", "what nobody knows"])

    read = opportunity(ask(context=context), catalogue).context

    assert read.cart == ("disk", "what nobody knows")
    assert read.usage["gb"] == model.Usage(
        1.0, None, -0.5, NOON_MS - DAY_MS, NOON_MS + DAY_MS
    )


def test_a_pace_of_nothing_is_not_an_unknown_pace(catalogue: Catalogue) -> None:
    still = opportunity(ask(context=usage(per_day=0.0)), catalogue)
    unknown = opportunity(ask(context=usage()), catalogue)

    assert still.context.usage["gb"].per_day == 0.0
    assert unknown.context.usage["gb"].per_day is None


WRONG_QUESTIONS: dict[str, tuple[GetOfferRequest, set[str]]] = {
    "a pace that is none": (
        ask(context=usage(per_day=math.nan)),
        {"context.usage['gb'].per_day"},
    ),
    "an endless pace": (
        ask(context=usage(per_day=-math.inf)),
        {"context.usage['gb'].per_day"},
    ),
    "a cycle that ends before it begins": (
        ask(
            context=usage(
                cycle_start_time=timestamp(NOON_MS), cycle_end_time=timestamp(NOON_MS)
            )
        ),
        {"context.usage['gb'].cycle_end_time"},
    ),
    "times that are none": (
        ask(
            context=usage(
                cycle_start_time=Timestamp(seconds=-1),
                cycle_end_time=Timestamp(seconds=2**62),
            )
        ),
        {
            "context.usage['gb'].cycle_start_time",
            "context.usage['gb'].cycle_end_time",
        },
    ),
    "101 products in the cart": (
        ask(context=Context(cart_product_ids=["disk"] * 101)),
        {"context.cart_product_ids"},
    ),
    "products without a name": (
        ask(context=Context(cart_product_ids=["disk", "", "x" * 129, "a\nb"])),
        {f"context.cart_product_ids[{at}]" for at in (1, 2, 3)},
    ),
    "21 decisions": (ask(max_decisions=21), {"max_decisions"}),
    "fewer than no decisions": (ask(max_decisions=-1), {"max_decisions"}),
}


@pytest.mark.parametrize("name", WRONG_QUESTIONS)
def test_a_wrong_question_is_refused_with_every_wrong_field(
    catalogue: Catalogue, name: str
) -> None:
    request, wrong = WRONG_QUESTIONS[name]

    with pytest.raises(InvalidRequestError) as caught:
        opportunity(request, catalogue)

    assert wrong == wrong_fields(caught.value)


def test_one_decision_is_wanted_unless_more_are(catalogue: Catalogue) -> None:
    assert opportunity(ask(), catalogue).most == 1
    assert opportunity(ask(max_decisions=20), catalogue).most == 20


def batch(*requests: GetOfferRequest) -> BatchGetOffersRequest:
    return BatchGetOffersRequest(requests=requests)


def opportunities(
    request: BatchGetOffersRequest, catalogue: Catalogue
) -> list[Opportunity]:
    return codec.opportunities_from_proto(
        request,
        request_ids=[each.request_id for each in request.requests],
        tenant="shop",
        at_ms=NOON_MS,
        catalogue=catalogue,
    )


def test_a_batch_is_read_like_its_requests(catalogue: Catalogue) -> None:
    requests = [ask(user_id=f"user-{n}", request_id="r") for n in range(100)]

    read = opportunities(batch(*requests), catalogue)

    assert [opportunity(request, catalogue) for request in requests] == read


def test_every_wrong_field_of_every_request_of_a_batch_is_named(
    catalogue: Catalogue,
) -> None:
    request = batch(
        ask(),
        ask(user_id="", max_decisions=21),
        ask(),
        ask(placement_ids=["nowhere"], context=usage(value=-1.0)),
    )

    with pytest.raises(InvalidRequestError) as caught:
        opportunities(request, catalogue)

    assert wrong_fields(caught.value) == {
        "requests[1].user_id",
        "requests[1].max_decisions",
        "requests[3].placement_ids[0]",
        "requests[3].context.usage['gb'].value",
    }


@pytest.mark.parametrize("many", [0, 101])
def test_a_batch_has_1_to_100_requests(catalogue: Catalogue, many: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        opportunities(batch(*[ask()] * many), catalogue)

    assert wrong_fields(caught.value) == {"requests"}


@pytest.mark.parametrize("kind", [ExplainDecisionRequest, CheckDecisionRequest])
def test_a_question_about_a_decision_names_it(
    kind: type[ExplainDecisionRequest | CheckDecisionRequest],
) -> None:
    assert codec.named_decision_from_proto(kind(decision_id="d")) == "d"
    with pytest.raises(InvalidRequestError) as caught:
        codec.named_decision_from_proto(kind())
    assert wrong_fields(caught.value) == {"decision_id"}


# --- What is answered -------------------------------------------------------------


def decided(
    catalogue: Catalogue, offer_id: str = "", *others: str, **fields: Any
) -> Decision:
    """Make a decision for an offer, with equal chances for some others."""
    known = {action.offer_id: action.index for action in catalogue.actions}
    indices = tuple(sorted({NO_OFFER, *(known[name] for name in (offer_id, *others))}))
    each = 10**9 // len(indices)
    rest = 10**9 - each * (len(indices) - 1)
    given: dict[str, Any] = {
        "opportunity": Opportunity("d", NOON_MS, "ada", ("home",)),
        "catalogue": catalogue.version,
        "policy": "p",
        "model": "1.2",
        "actions": indices,
        "probabilities": (rest, *[each] * (len(indices) - 1)),
        "chosen": known[offer_id],
        "valid_until_ms": NOON_MS + HOUR_MS,
    }
    return Decision(**(given | fields))


MESSAGE = Message(
    template="near_limit",
    parameters={
        "left": Value("number", 8.0),
        "name": Value("text", "photos"),
        "shared": Value("flag", value=True),
        "saved": Value("money", -250),
        "share": Value("percent", 0.92),
        "days": Value("duration", 2.5),
        "full": Value("time", float(NOON_MS)),
    },
    reason="near_storage_limit",
    cart_token="t",  # noqa: S106 - It is no password.
)


def test_an_offer_comes_with_its_categories_its_price_and_what_to_say(
    catalogue: Catalogue,
) -> None:
    decision = decided(catalogue, "more_storage")

    written = codec.decision_to_proto(
        decision, (), catalogue, DECISION_VIEW_BASIC, message=MESSAGE
    )

    assert (written.offer_id, written.placement_id) == ("more_storage", "home")
    assert list(written.category_ids) == ["storage"]
    assert not written.fallback
    price = written.price
    assert {m.currency_code for m in (price.price, price.list_price)} == {"EUR"}
    assert price.price.minor_units == 900
    assert price.list_price.minor_units == 1200
    assert price.discount.minor_units == 300
    said = written.message
    assert (said.template_id, said.reason_code) == ("near_limit", "near_storage_limit")
    assert said.dismissible
    assert said.snoozable
    assert said.WhichOneof("action") == "cart_token"
    values = said.parameters
    assert values["left"].number == 8.0
    assert values["name"].text == "photos"
    assert values["shared"].flag
    assert values["saved"].money.minor_units == -250
    assert values["saved"].money.currency_code == "EUR"
    assert values["share"].percent == 0.92
    assert values["days"].duration_days == 2.5
    assert ms(values["full"].time) == NOON_MS


def test_a_click_leads_to_the_link_where_there_is_one(catalogue: Catalogue) -> None:
    message = Message("near_limit", {}, link="https://shop.example/buy")

    written = codec.decision_to_proto(
        decided(catalogue, "help"), (), catalogue, DECISION_VIEW_BASIC, message=message
    )

    assert written.message.WhichOneof("action") == "link"
    assert written.message.link == "https://shop.example/buy"


def test_a_fallback_says_so_and_what_is_free_has_no_price(
    catalogue: Catalogue,
) -> None:
    written = codec.decision_to_proto(
        decided(catalogue, "help"), (), catalogue, DECISION_VIEW_BASIC
    )

    assert written.fallback
    assert not written.HasField("price")


def rejected(reason: str, gate: str, until_ms: int | None = None) -> Rejection:
    return Rejection("more_storage", "default", "home", reason, gate, until_ms)


def refused(reason: str, gate: str, found: str = "", needed: str = "") -> Refusal:
    named = ("more_storage", "default", "home")
    return Refusal(*named, reason, gate, found, needed, NOON_MS + 1)


def test_silence_says_why_and_a_rejection_names_its_gate(catalogue: Catalogue) -> None:
    rejection = rejected("SNOOZED", "snooze", NOON_MS + DAY_MS)

    written = codec.decision_to_proto(
        decided(catalogue), (rejection,), catalogue, DECISION_VIEW_FULL
    )

    assert written.reason == Reason.REASON_SNOOZED
    assert ms(written.next_eligible_time) == NOON_MS + DAY_MS
    assert not written.HasField("message")
    (told,) = written.rejections
    assert (told.offer_id, told.creative_id, told.placement_id) == (
        "more_storage",
        "default",
        "home",
    )
    assert (told.reason, told.gate) == (Reason.REASON_SNOOZED, "snooze")
    assert ms(told.next_eligible_time) == NOON_MS + DAY_MS


def test_the_floor_is_told_as_a_probability(catalogue: Catalogue) -> None:
    decision = decided(catalogue, "help", floor=2_500_000)

    full = codec.decision_to_proto(decision, (), catalogue, DECISION_VIEW_FULL)
    basic = codec.decision_to_proto(decision, (), catalogue, DECISION_VIEW_BASIC)

    assert full.floor == 0.0025
    assert basic.floor == 0.0


@pytest.mark.parametrize("reason", ["TOO_WINDY", "UNSPECIFIED", ""])
def test_the_reason_of_an_added_gate_is_custom(
    catalogue: Catalogue, reason: str
) -> None:
    written = codec.decision_to_proto(
        decided(catalogue), (rejected(reason, "wind"),), catalogue, DECISION_VIEW_FULL
    )

    assert written.reason == Reason.REASON_CUSTOM
    assert written.rejections[0].gate == "wind"


def test_refusals_are_listed_in_place_of_rejections_without_what_people_read(
    catalogue: Catalogue,
) -> None:
    written = codec.decision_to_proto(
        decided(catalogue, "help"),
        (),
        catalogue,
        DECISION_VIEW_FULL,
        refusals=(refused("SNOOZED", "snooze", "until noon", "nothing"),),
    )

    (told,) = written.rejections
    assert told.reason == Reason.REASON_SNOOZED
    assert not told.found
    assert not told.needed


def test_an_explanation_says_all_that_the_decision_relied_on(
    catalogue: Catalogue,
) -> None:
    # Given a decision for no offer, and why
    decision = decided(
        catalogue,
        history=History(preferences=Preferences(version=3)),
        account=History(preferences=Preferences(version=2)),
        conditions=Conditions(("offer:tea",), ("budget:spring",)),
    )
    refusal = refused("SNOOZED", "snooze", "snoozed", "not before")
    bypass = refused("SPACING", "spacing", "shown 5m ago", "30m apart")
    explanation = Explanation(decision, (refusal,), (bypass,))

    # When it is written
    rejections = (rejected("OPTED_OUT", "opt_out"),)
    written = codec.explanation_to_proto(explanation, rejections, catalogue)

    # Then the decision is the one that was answered, and everything is there
    assert written.decision.decision_id == "d"
    assert written.decision.reason == Reason.REASON_OPTED_OUT
    assert [c.probability for c in written.decision.candidates] == [1.0]
    assert not written.decision.rejections
    (told,) = written.rejections
    assert (told.gate, told.found, told.needed) == ("snooze", "snoozed", "not before")
    (gone_past,) = written.bypasses
    assert (gone_past.reason, gone_past.found) == (
        Reason.REASON_SPACING,
        "shown 5m ago",
    )
    assert (written.consent_version, written.account_consent_version) == (3, 2)
    assert list(written.stopped_scopes) == ["offer:tea"]
    assert list(written.exhausted_supplies) == ["budget:spring"]


STATES: dict[str, tuple[bool, Ruling | None, bool, str]] = {
    "no offer": (False, None, False, "UNSPECIFIED"),
    "a standing offer": (True, None, False, "ACTIVE"),
    "quiet hours": (True, Ruling("QUIET_HOURS"), False, "ACTIVE"),
    "its end": (True, Ruling("EXPIRED"), False, "EXPIRED"),
    "a hold that is gone": (True, None, True, "EXPIRED"),
    "a stop": (True, Ruling("STOPPED"), False, "WITHDRAWN"),
    "another catalogue": (True, Ruling("WITHDRAWN"), False, "WITHDRAWN"),
    "ownership": (True, Ruling("ALREADY_OWNED"), False, "WITHDRAWN"),
}


@pytest.mark.parametrize("name", STATES)
def test_an_offer_can_be_had_until_something_ends_it(name: str) -> None:
    offered, why, lapsed, state = STATES[name]

    told = codec.offer_state(offered=offered, why=why, lapsed=lapsed)

    assert OfferState.Name(told) == f"OFFER_STATE_{state}"


def test_a_check_says_why_not_and_until_when() -> None:
    why = Ruling("QUIET_HOURS", NOON_MS)

    written = codec.check_to_proto(offered=True, why=why)

    assert written.offer_state == OfferState.OFFER_STATE_ACTIVE
    assert written.reason == Reason.REASON_QUIET_HOURS
    assert ms(written.next_eligible_time) == NOON_MS


def test_a_check_of_what_stands_says_nothing_else() -> None:
    assert MessageToDict(codec.check_to_proto(offered=False, why=None)) == {}
    assert MessageToDict(codec.check_to_proto(offered=True, why=None)) == {
        "offerState": "OFFER_STATE_ACTIVE"
    }
