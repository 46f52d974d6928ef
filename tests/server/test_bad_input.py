"""Requests that are wrong: each wrong field is named, and nothing is half-written."""

from __future__ import annotations

import math
import string
import urllib.parse
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import (
    Context,
    FeatureValue,
    GetOfferRequest,
    Moment,
    Money,
    Outcome,
    ReportOutcomeRequest,
    Usage,
)
from tests.server import kit
from tests.server.kit import Shop

MEGABYTE = "x" * 2**20
HEADERS_MAX = 8_192


def ask(**fields: object) -> GetOfferRequest:
    valid = {"user_id": "ada", "placement_ids": ["home"]}
    return GetOfferRequest(**(valid | fields))  # type: ignore[arg-type]


def features(**values: FeatureValue) -> Context:
    return Context(features=values)


def number(value: float) -> FeatureValue:
    return FeatureValue(number=value)


MANY = {f"f{n}": number(1.0) for n in range(10_000)}
MANY_USAGES = {f"u{n}": Usage(value=1.0) for n in range(10_000)}

WRONG_QUESTIONS: dict[str, tuple[GetOfferRequest, set[str]]] = {
    "nothing": (GetOfferRequest(), {"user_id", "placement_ids"}),
    "no user": (ask(user_id=""), {"user_id"}),
    "no placement": (ask(placement_ids=[]), {"placement_ids"}),
    "unknown placement": (
        ask(placement_ids=["home", "nowhere", ""]),
        {"placement_ids[1]", "placement_ids[2]"},
    ),
    "51 placements": (ask(placement_ids=["home"] * 51), {"placement_ids"}),
    "unknown offer": (ask(offer_ids=["tea", "gold"]), {"offer_ids[1]"}),
    "1,001 offers": (ask(offer_ids=["tea"] * 1_001), {"offer_ids"}),
    "unknown view": (ask(view=7), {"view"}),
    "long user": (ask(user_id="x" * 129), {"user_id"}),
    "1 MB user": (ask(user_id=MEGABYTE), {"user_id"}),
    "1 MB everywhere": (
        ask(
            user_id=MEGABYTE[:400_000],
            account_id=MEGABYTE[:400_000],
            session_id=MEGABYTE[:400_000],
            request_id=MEGABYTE[:400_000],
            placement_ids=[MEGABYTE[:400_000]],
            offer_ids=[MEGABYTE[:400_000]],
        ),
        {
            "user_id",
            "account_id",
            "session_id",
            "request_id",
            "placement_ids[0]",
            "offer_ids[0]",
        },
    ),
    "long context": (
        ask(context=Context(role="x" * 257, segment="x" * 257)),
        {"context.role", "context.segment"},
    ),
    "control characters": (
        ask(user_id="a\nb", context=Context(segment="a\0b")),
        {"user_id", "context.segment"},
    ),
    "not a number": (
        ask(context=features(a=number(math.nan), b=number(1.0))),
        {"context.features['a'].number"},
    ),
    "infinity": (
        ask(context=features(a=number(math.inf), b=number(-math.inf))),
        {"context.features['a'].number", "context.features['b'].number"},
    ),
    "no value": (ask(context=features(a=FeatureValue())), {"context.features['a']"}),
    "1 MB category": (
        ask(context=features(a=FeatureValue(category=MEGABYTE))),
        {"context.features['a'].category"},
    ),
    "10,000 features": (ask(context=Context(features=MANY)), {"context.features"}),
    "10,000 features of the moment": (
        ask(context=Context(moment=Moment(features=MANY))),
        {"context.moment.features"},
    ),
    "10,000 usages": (ask(context=Context(usage=MANY_USAGES)), {"context.usage"}),
    "names that are none": (
        ask(
            context=Context(
                features={"": number(1.0), "Ä": number(1.0)},
                usage={"a b": Usage(value=1.0)},
                moment=Moment(kind="Limit near", features={"x.y": number(1.0)}),
            )
        ),
        {
            "context.features['']",
            "context.features['Ä']",
            "context.usage['a b']",
            "context.moment.kind",
            "context.moment.features['x.y']",
        },
    ),
    "usage that cannot be": (
        ask(
            context=Context(
                usage={
                    "a": Usage(value=-1.0),
                    "b": Usage(value=math.nan),
                    "c": Usage(value=1.0, limit=0.0),
                    "d": Usage(value=1.0, limit=-1.0),
                    "e": Usage(value=1.0, limit=math.inf),
                }
            )
        ),
        {
            "context.usage['a'].value",
            "context.usage['b'].value",
            "context.usage['c'].limit",
            "context.usage['d'].limit",
            "context.usage['e'].limit",
        },
    ),
    "everything": (
        GetOfferRequest(
            placement_ids=["nowhere"],
            offer_ids=["gold"],
            view=9,  # type: ignore[arg-type] # That is what is wrong.
            context=Context(
                role="x" * 257,
                usage={"a": Usage(value=-1.0)},
                features={"b": number(math.nan)},
                moment=Moment(kind="?", features={"c": FeatureValue()}),
            ),
        ),
        {
            "user_id",
            "placement_ids[0]",
            "offer_ids[0]",
            "view",
            "context.role",
            "context.usage['a'].value",
            "context.features['b'].number",
            "context.moment.kind",
            "context.moment.features['c']",
        },
    ),
}


@pytest.mark.parametrize("name", WRONG_QUESTIONS)
async def test_a_wrong_question_is_refused_with_every_wrong_field(
    shop: Shop, name: str
) -> None:
    # Given a server that has made a decision
    await shop.offered("ada", "jam")
    before = shop.counts()
    request, wrong = WRONG_QUESTIONS[name]

    # When a request has wrong values
    refusal = await kit.refused(shop.stub.GetOffer(request))

    # Then each of them is named, and nothing has changed, and the server goes on
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.info.domain, refusal.info.reason) == (
        "opportune.dev",
        "INVALID_REQUEST",
    )
    assert wrong == set(refusal.fields)
    assert all(refusal.fields.values())
    assert before == shop.counts()
    assert (await shop.ask("ada")).decision_id


async def test_what_is_just_within_bounds_is_answered(shop: Shop) -> None:
    # Given the largest values that the contract allows
    hundred = {f"f{n}": number(1e308) for n in range(100)}
    context = Context(
        role="x" * 256,
        segment="x" * 256,
        usage={f"u{n}": Usage(value=1e308, limit=1e-308) for n in range(100)},
        moment=Moment(kind="k" * 63, features=hundred),
        features=hundred | {"f0": FeatureValue(category="x" * 256)},
    )

    # When a request has all of them
    decision = await shop.ask(
        "u" * 128,
        *(["home"] * 50),
        request_id="r" * 128,
        account_id="ä" * 128,
        session_id="s" * 128,
        offer_ids=["tea"] * 1_000,
        context=context,
    )

    # Then it is answered
    assert decision.decision_id


AT = kit.NOON_MS


def one(kind: int = kit.SHOWN, **fields: Any) -> list[Outcome]:
    return [kit.outcome(kind, **fields)]


def euro(minor_units: int, currency: str = "EUR") -> Money:
    return Money(currency_code=currency, minor_units=minor_units)


FAR = 2**62
WRONG_REPORTS: dict[str, tuple[list[Outcome], set[str]]] = {
    "no outcome": ([], {"outcomes"}),
    "101 outcomes": (one() * 101, {"outcomes"}),
    "nothing": ([Outcome()], {"outcomes[0].outcome_id", "outcomes[0].kind"}),
    "unknown kind": (
        [Outcome(outcome_id="a", kind=99)],  # type: ignore[arg-type] # That is it.
        {"outcomes[0].kind"},
    ),
    "1 MB id": (one(outcome_id=MEGABYTE), {"outcomes[0].outcome_id"}),
    "far future": (
        one(occur_time=Timestamp(seconds=FAR)),
        {"outcomes[0].occur_time"},
    ),
    "near future": (one(at_ms=AT + 300_001), {"outcomes[0].occur_time"}),
    "far past": (one(occur_time=Timestamp(seconds=-FAR)), {"outcomes[0].occur_time"}),
    "near past": (one(at_ms=AT - 300_001), {"outcomes[0].occur_time"}),
    "1970": (one(occur_time=Timestamp()), {"outcomes[0].occur_time"}),
    "a view that is none": (
        one(kit.SHOWN, view_duration=Duration(seconds=1)),
        {"outcomes[0].view_duration"},
    ),
    "a negative view": (
        one(kit.VIEWED, view_duration=Duration(seconds=-1)),
        {"outcomes[0].view_duration"},
    ),
    "a view of years": (
        one(kit.VIEWED, view_duration=Duration(seconds=FAR)),
        {"outcomes[0].view_duration"},
    ),
    "a snooze without end": (one(kit.SNOOZED), {"outcomes[0].snooze_until"}),
    "a snooze that is over": (
        one(kit.SNOOZED, snooze_until=kit.timestamp(AT)),
        {"outcomes[0].snooze_until"},
    ),
    "a snooze for years": (
        one(kit.SNOOZED, snooze_until=kit.timestamp(AT + 366 * kit.DAY_MS + 1)),
        {"outcomes[0].snooze_until"},
    ),
    "a snooze that is none": (
        one(kit.SHOWN, snooze_until=kit.timestamp(AT + 1)),
        {"outcomes[0].snooze_until"},
    ),
    "negative money": (
        one(kit.ACCEPTED, revenue=euro(-1), margin=euro(-(2**63))),
        {"outcomes[0].revenue.minor_units", "outcomes[0].margin.minor_units"},
    ),
    "too much money": (
        one(kit.ACCEPTED, list_price=euro(10**15 + 1)),
        {"outcomes[0].list_price.minor_units"},
    ),
    "wrong currency": (
        one(kit.ACCEPTED, revenue=euro(1, "USD"), discount=euro(1, MEGABYTE)),
        {"outcomes[0].revenue.currency_code", "outcomes[0].discount.currency_code"},
    ),
    "no currency": (
        one(kit.ACCEPTED, revenue=Money()),
        {"outcomes[0].revenue.currency_code"},
    ),
    "one of several": (
        [kit.outcome(kit.SHOWN), kit.outcome(kit.SNOOZED), kit.outcome(kit.ACCEPTED)],
        {"outcomes[1].snooze_until"},
    ),
    "several of several": (
        [
            Outcome(kind=kit.SHOWN),
            kit.outcome(kit.ACCEPTED, revenue=euro(-1, "USD"), at_ms=AT + kit.DAY_MS),
        ],
        {
            "outcomes[0].outcome_id",
            "outcomes[1].revenue.minor_units",
            "outcomes[1].revenue.currency_code",
            "outcomes[1].occur_time",
        },
    ),
}


@pytest.mark.parametrize("name", WRONG_REPORTS)
async def test_a_wrong_report_is_refused_with_every_wrong_field(
    shop: Shop, name: str
) -> None:
    # Given a decision for an offer
    decision = await shop.offered("ada", "jam")
    before = shop.counts()
    outcomes, wrong = WRONG_REPORTS[name]

    # When a report about it has wrong values
    refusal = await kit.refused(shop.tell(decision, *outcomes))

    # Then each of them is named, nothing of the report is stored, and the right
    # report is taken as if there had been no wrong one
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert wrong == set(refusal.fields)
    assert before == shop.counts()
    (result,) = await shop.report(decision, kit.SHOWN)
    assert not result.duplicate


OF_AN_OFFER = ["VIEWED", "CLICKED", "ACCEPTED", "DISMISSED", "OPTED_OUT", "IGNORED"]
OF_ANY = ["SHOWN", "NOT_SHOWN", "CONVERTED", "REFUNDED", "DOWNGRADED", "CHURNED"]


@pytest.mark.parametrize("kind", OF_AN_OFFER)
async def test_nothing_is_accepted_or_dismissed_where_nothing_was_offered(
    shop: Shop, kind: str
) -> None:
    # Given a decision for no offer
    silence = await shop.ask("ada", "empty")

    # When it is reported that the user did something about an offer
    value = kit.kind_of(kind)
    refusal = await kit.refused(shop.report(silence, kit.SHOWN, value))

    # Then that is refused, and what came with it too
    assert set(refusal.fields) == {"outcomes[1].kind"}
    assert shop.count("outcomes_v1") == 0


@pytest.mark.parametrize("kind", OF_ANY)
async def test_what_needs_no_offer_is_taken_for_silence_too(
    shop: Shop, kind: str
) -> None:
    # Given a decision for no offer
    silence = await shop.ask("ada", "empty")

    # When something is reported that can happen without one
    value = kit.kind_of(kind)
    (result,) = await shop.report(silence, value)

    # Then it is recorded, and there is no offer that could have ended
    assert not result.duplicate
    assert result.offer_state == 0
    assert shop.count("outcomes_v1") == 1


UNKNOWN_IDS = [
    "0" * 36,
    "f" * 36,
    "0" * 35,
    "0" * 37,
    "F" * 36,
    "z",
    "decision",
    "'; drop table decision; --",
    "ä" * 32,
    "\N{GRINNING FACE}" * 100,
    "\0",
    "x" * 2**20,
]


@pytest.mark.parametrize("decision_id", UNKNOWN_IDS, ids=lambda name: ascii(name[:20]))
async def test_a_decision_that_was_never_made_is_not_found_at_once(
    shop: Shop, decision_id: str
) -> None:
    # Given a server that has made one decision
    decision = await shop.ask("ada")
    request = ReportOutcomeRequest(decision_id=decision_id, outcomes=one())

    # When an outcome of another one is reported
    refusal = await kit.refused(shop.stub.ReportOutcome(request, timeout=2.0))

    # Then there is no such decision, and nothing is stored
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    assert (refusal.info.domain, refusal.info.reason) == ("opportune.dev", "NOT_FOUND")
    assert shop.count("outcomes_v1") == 0
    await shop.report(decision, kit.SHOWN)


KEYS: dict[str, Callable[[int], str]] = {
    "plain": lambda n: f"{n:05}".ljust(200, "x"),
    "german": lambda n: f"{n:05}".ljust(200, "ä"),
    "faces": lambda n: f"{n:05}".ljust(200, "\N{GRINNING FACE}"),
    "invisible": lambda n: f"{n:05}".ljust(200, "\U000e0001"),
    "quotes": lambda n: f"{n:05}".ljust(200, '"'),
    "controls": lambda n: f"{n:05}".ljust(200, "\0"),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_a_status_fits_in_the_headers_however_much_is_wrong(
    shop: Shop, kind: str
) -> None:
    # Given requests in which everything is wrong, in every alphabet
    key = KEYS[kind]
    wrong = {key(n): FeatureValue() for n in range(100)}
    context = Context(
        features=wrong,
        usage={key(n): Usage(value=-1.0, limit=math.nan) for n in range(100)},
        moment=Moment(kind=key(0), features=wrong),
    )
    question = GetOfferRequest(
        placement_ids=[key(n) for n in range(50)],
        offer_ids=[key(n) for n in range(1_000)],
        context=context,
    )
    only_context = GetOfferRequest(
        user_id="ada", placement_ids=["home"], context=context
    )
    decision = await shop.offered("ada")
    money: dict[str, Any] = {
        name: euro(-1, key(0))
        for name in ("revenue", "list_price", "discount", "margin")
    }
    report = ReportOutcomeRequest(
        decision_id=decision.decision_id,
        outcomes=[kit.outcome(kit.ACCEPTED, **money) for _ in range(100)],
    )

    # When they are sent
    for call in (
        shop.stub.GetOffer(question),
        shop.stub.GetOffer(only_context),
        shop.stub.ReportOutcome(report),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

        # Then the answer arrives, and what it weighs is less than a header may
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        message = caught.value.details() or ""
        weight = len(urllib.parse.quote(message, safe=string.printable))
        for name, value in caught.value.trailing_metadata() or ():
            size = len(value) * 4 / 3 if isinstance(value, bytes) else len(value)
            weight += len(name) + int(size) + 32
        assert weight < HEADERS_MAX
        assert kit.unpacked(caught.value).fields


async def test_bytes_that_are_no_message_are_refused_like_any_other(shop: Shop) -> None:
    # Given a client whose messages are broken
    for method in ("GetOffer", "ReportOutcome"):
        call: Any = shop.channel.unary_unary(f"/opportune.v1.DecisionService/{method}")

        # When it calls
        refusal = await kit.refused(call(b"\xff\xff\xff"))

        # Then it is told so
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.info.reason == "INVALID_REQUEST"
        assert set(refusal.fields) == {"request"}


async def test_a_rule_that_fails_on_a_value_rules_out_and_no_more(shop: Shop) -> None:
    # Given a rule that divides by what a request may leave empty
    text = """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        eligible = "size(segment) / size(role) >= 1"
    """
    await kit.change_catalogue(shop, text)

    # When a request leaves it empty
    decision = await shop.ask("ada", context=Context(segment="free"))

    # Then the offer is out, and the server goes on
    assert [r.offer_id for r in decision.rejections] == ["tea"]
    decision = await shop.ask("ada", context=Context(segment="free", role="a"))
    assert not decision.rejections


async def test_a_report_that_says_nothing_is_told_all_that_it_lacks(shop: Shop) -> None:
    refusal = await kit.refused(shop.stub.ReportOutcome(ReportOutcomeRequest()))

    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {"decision_id", "outcomes"}
