"""Messages: what the product is handed to show an offer."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.messages import (
    Message,
    Parameter,
    ParameterKind,
    Value,
    Wording,
    cart_token,
    link_problem,
    message,
)
from policies.model import Action, Context, FeatureValue, Moment, Opportunity, Usage
from policies.rules import Expression, Variables
from policies.specs import CreativeSpec, ParameterSpec

FEATURES: dict[str, FeatureValue] = {"saved": 1.0, "related": "a", "yearly": True}
ACTION = Action(1, "more_storage", "near", "home", ())
DAY = 86_400_000


def compiled(source: str) -> Expression:
    return Expression(source, FEATURES)


def said(creative: CreativeSpec, context: Context, action: Action = ACTION) -> Message:
    wording = Wording.of(action.creative_id, creative, compiled)
    asked = Opportunity("d", DAY, "ada", ("home",), context=context)
    return message(action, wording, Variables(asked), "d1")


def test_a_message_carries_what_the_user_does_and_has() -> None:
    creative = CreativeSpec(
        template="storage_nearly_full",
        parameters={
            "used": ParameterSpec("usage.gb.ratio", "percent"),
            "days": ParameterSpec("usage.gb.days_left", "duration"),
            "saved": ParameterSpec("features.saved", "money"),
            "related": ParameterSpec("features.related", "text"),
            "yearly": ParameterSpec("features.yearly", "flag"),
            "files": ParameterSpec("moment.features.saved"),
        },
        reason="near_storage_limit",
        action="app://upgrade",
    )
    context = Context(
        usage={"gb": Usage(92.0, 100.0, until_ms=4 * DAY)},
        moment=Moment("limit_near", {"saved": 7.0}),
        features={"saved": 1_200.0, "related": "sharing", "yearly": False},
    )

    assert said(creative, context) == Message(
        "storage_nearly_full",
        {
            "used": Value("percent", 0.92),
            "days": Value("duration", 3.0),
            "saved": Value("money", 1_200),
            "related": Value("text", "sharing"),
            "yearly": Value("flag", False),
            "files": Value("number", 7.0),
        },
        reason="near_storage_limit",
        link="app://upgrade",
    )


def test_a_creative_that_says_nothing_gets_a_text_of_its_own_name_and_a_token() -> None:
    plain = said(CreativeSpec(), Context())

    assert plain.template == "near"
    assert plain.parameters == {}
    assert plain.reason == ""
    assert plain.link == ""
    assert plain.cart_token == cart_token("d1", "more_storage")


@pytest.mark.parametrize("link", ["", "app://upgrade"])
def test_dismissing_and_snoozing_are_always_there(link: str) -> None:
    shown = said(CreativeSpec(action=link), Context())

    assert shown.replies == ("dismissed", "snoozed")
    assert bool(shown.link) != bool(shown.cart_token)


def test_a_message_with_a_hole_is_refused() -> None:
    creative = CreativeSpec(parameters={"left": ParameterSpec("usage.gb.limit")})

    with pytest.raises(ValueError, match="more_storage/near/home: left cannot"):
        said(creative, Context(usage={"gb": Usage(1.0)}))


@pytest.mark.parametrize(
    ("kind", "fits", "misfits"),
    [
        ("number", ["1.5", "3", "0.0", "-2.0"], ["'x'", "true"]),
        ("percent", ["0.92"], ["'92 %'", "false"]),
        ("duration", ["2.5"], ["'2d'"]),
        (
            "time",
            ["1795737600000.5", "0.0", "253402300799999"],
            ["'now'", "-1", "253402300800000", "1e300"],
        ),
        ("money", ["1299", "1299.0", "-5.0"], ["12.99", "'12'", "true", "1e300"]),
        ("text", ["'x'"], ["''", "' \\t'", "1.0", "true"]),
        ("flag", ["true", "false"], ["1.0", "1", "'true'"]),
    ],
)
def test_a_parameter_has_a_value_only_of_its_type(
    kind: ParameterKind, fits: list[str], misfits: list[str]
) -> None:
    variables = Variables(Opportunity("d", 0, "ada", ("home",)))
    values = [
        Parameter("p", kind, compiled(source)).value(variables)
        for source in fits + misfits
    ]

    assert None not in values[: len(fits)]
    assert values[len(fits) :] == [None] * len(misfits)


@pytest.mark.parametrize(("source", "value"), [("1299", 1_299), ("1299.0", 1_299)])
def test_money_is_a_whole_number_of_minor_units(source: str, value: int) -> None:
    variables = Variables(Opportunity("d", 0, "ada", ("home",)))

    amount = Parameter("price", "money", compiled(source)).value(variables)

    assert amount == value
    assert isinstance(amount, int)


@pytest.mark.parametrize(
    ("kind", "source", "problem"),
    [
        ("number", "1.0", None),
        ("text", "features.related", None),
        ("flag", "features.yearly", None),
        ("money", "1 / size(account_id)", None),
        (
            "money",
            "segment",
            "gives a text, but is declared as money, which is a number",
        ),
        ("text", "1.0", "gives a number, but is declared as text, which is a text"),
        ("flag", "'x'", "gives a text, but is declared as flag, which is a flag"),
    ],
)
def test_a_parameter_of_a_wrong_type_is_known_before_it_is_computed(
    kind: ParameterKind, source: str, problem: str | None
) -> None:
    parameter = Parameter.of("p", ParameterSpec(source, kind), compiled)

    assert parameter.problem == problem


names = st.text(min_size=1, max_size=30).filter(
    lambda name: name.encode("utf-8", "ignore").decode() == name
)


@given(offer=names, creative=names, placement=names)
def test_a_link_says_what_it_was_filled_with(
    offer: str, creative: str, placement: str
) -> None:
    link = "https://shop.example/{offer_id}?c={creative_id}&p={placement_id}&d={decision_id}"
    action = Action(1, offer, creative, placement, ())

    filled = urlsplit(said(CreativeSpec(action=link), Context(), action).link)

    query = parse_qs(filled.query, strict_parsing=True)
    assert query == {"c": [creative], "p": [placement], "d": ["d1"]}
    assert "/" not in filled.path[1:]
    assert not filled.fragment


def test_what_is_no_field_of_a_link_stays_as_it_is() -> None:
    link = "app://buy/{offer_id}/{unknown}"

    assert said(CreativeSpec(action=link), Context()).link == (
        "app://buy/more_storage/{unknown}"
    )


@pytest.mark.parametrize(
    ("link", "word"),
    [
        ("app://{offer}", r"holds {offer}; a link may hold {offer_id}"),
        ("app://{b}/{a}", r"holds {a}, {b};"),
        ("app://{}", r"holds {};"),
        ("app://{offer_id", "brace on its own"),
        ("app://offer_id}", "brace on its own"),
        ("app://{{offer_id}}", "brace on its own"),
    ],
)
def test_a_link_with_a_hole_is_known_before_it_is_filled(link: str, word: str) -> None:
    assert word in (link_problem(link) or "")


@pytest.mark.parametrize(
    "link", ["", "app://upgrade", "https://x.example/{offer_id}?d={decision_id}"]
)
def test_a_link_without_holes_is_fine(link: str) -> None:
    assert link_problem(link) is None


@given(decision=st.text(max_size=8), offer=st.text(max_size=8))
def test_a_cart_token_is_16_digits_and_the_same_each_time(
    decision: str, offer: str
) -> None:
    token = cart_token(decision, offer)

    assert token == cart_token(decision, offer)
    assert len(token) == 16
    assert set(token) <= set("0123456789abcdef")
    assert token != cart_token(decision + "x", offer)
    assert token != cart_token(decision, offer + "x")
