"""Complaints and bad ratings, and what waits after them."""

from __future__ import annotations

from typing import Literal

import pytest

from policies.gates.base import Because, Facts, Gate, Ruling, Situation
from policies.gates.sentiment import PriceSentiment, Sentiment
from policies.model import NO_HISTORY, Action, History, Opportunity
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, OfferSpec, PlacementSpec, SentimentSpec
from policies.toml import Duration

DAY = 86_400_000
ACTION = Action(1, "more", "default", "home", ())
FREE, PAID = OfferSpec(), OfferSpec(price=900)
INLINE, MODAL = PlacementSpec(), PlacementSpec(kind="modal")
UNHAPPY = Ruling("NEGATIVE_SENTIMENT", 8 * DAY)


def gates(
    offer: OfferSpec, placement: PlacementSpec, spec: SentimentSpec
) -> list[Gate]:
    facts = Facts(
        CatalogueSpec(sentiment=spec),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
    )
    return [
        *Sentiment.of(facts._replace(placement=placement)),
        *PriceSentiment.of(facts._replace(offer=offer)),
    ]


def ruling(
    at_ms: int,
    offer: OfferSpec = PAID,
    placement: PlacementSpec = INLINE,
    spec: SentimentSpec | None = None,
    history: History | None = None,
) -> Ruling | None:
    asked = Opportunity("d", at_ms, "ada", ("home",))
    situation = Situation(asked, history or History(negative_ms=DAY))
    made = gates(offer, placement, spec or SentimentSpec())
    rulings = [gate.reject(ACTION, situation) for gate in made]
    return next((found for found in rulings if found is not None), None)


def test_who_complained_is_asked_for_no_money_for_a_week() -> None:
    assert ruling(DAY) == UNHAPPY
    assert ruling(8 * DAY - 1) == UNHAPPY
    assert ruling(8 * DAY) is None


def test_who_complained_sees_what_costs_nothing() -> None:
    assert ruling(DAY, FREE, MODAL) is None


def test_who_never_complained_sees_everything() -> None:
    assert ruling(DAY, history=NO_HISTORY) is None


@pytest.mark.parametrize(
    ("blocks", "offer", "placement", "held"),
    [
        ("all", FREE, INLINE, True),
        ("interrupts", FREE, MODAL, True),
        ("interrupts", PAID, INLINE, False),
        ("price", PAID, INLINE, True),
        ("price", FREE, MODAL, False),
    ],
)
def test_a_catalogue_says_what_waits(
    blocks: Literal["all", "interrupts", "price"],
    offer: OfferSpec,
    placement: PlacementSpec,
    held: bool,
) -> None:
    spec = SentimentSpec(blocks=blocks)

    assert ruling(DAY, offer, placement, spec) == (UNHAPPY if held else None)


@pytest.mark.parametrize("blocks", ["all", "interrupts", "price"])
def test_without_a_cool_down_there_is_no_gate(
    blocks: Literal["all", "interrupts", "price"],
) -> None:
    spec = SentimentSpec(cool_down=Duration(0), blocks=blocks)

    assert gates(PAID, MODAL, spec) == []


def test_a_complaint_of_the_account_holds_for_its_users() -> None:
    asked = Opportunity("d", DAY, "ada", ("home",), account_id="acme")
    (gate,) = gates(PAID, INLINE, SentimentSpec())
    earlier, later = History(negative_ms=5), History(negative_ms=DAY)

    assert gate.reject(ACTION, Situation(asked, NO_HISTORY, later)) == UNHAPPY
    assert gate.reject(ACTION, Situation(asked, earlier, later)) == UNHAPPY
    assert gate.reject(ACTION, Situation(asked, later, earlier)) == UNHAPPY


def test_a_complaint_is_told_with_its_time() -> None:
    asked = Opportunity("d", DAY, "ada", ("home",))
    (gate,) = gates(PAID, INLINE, SentimentSpec())

    assert gate.because(ACTION, Situation(asked, History(negative_ms=0))) == Because(
        "a complaint or a bad rating at 1970-01-01 00:00:00 UTC", "none in the last 7d"
    )
