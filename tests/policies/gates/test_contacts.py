"""Contacts by people and other channels, and what waits after them."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Facts, Ruling, Situation
from policies.gates.contacts import Contacts
from policies.model import NO_HISTORY, Action, History, Opportunity
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, ContactSpec, OfferSpec
from policies.toml import Duration

DAY = 86_400_000
ACTION = Action(1, "seats_pack", "default", "home", ())
COLD = Ruling("CROSS_CHANNEL_COOLDOWN", 4 * DAY)
SEATS = OfferSpec(categories=("growth", "seats"))


def gate(offer: OfferSpec = SEATS, cool_down: int = 3 * DAY) -> Contacts | None:
    facts = Facts(
        CatalogueSpec(contacts=ContactSpec(Duration(cool_down))),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
        offer=offer,
    )
    return next(iter(Contacts.of(facts)), None)


def ruling(
    contacts: dict[str, int], at_ms: int, offer: OfferSpec = SEATS
) -> Ruling | None:
    asked = Opportunity("d", at_ms, "ada", ("home",))
    made = gate(offer)
    assert made is not None
    return made.reject(ACTION, Situation(asked, History(contacts=contacts)))


def test_what_a_person_wrote_about_is_not_offered_for_three_days() -> None:
    mailed = {"seats": DAY}

    assert ruling(mailed, DAY) == COLD
    assert ruling(mailed, 4 * DAY - 1) == COLD
    assert ruling(mailed, 4 * DAY) is None


def test_what_nobody_wrote_about_is_offered() -> None:
    assert ruling({"storage": DAY}, DAY) is None
    assert ruling({}, DAY) is None


@pytest.mark.parametrize("offer", [SEATS, OfferSpec()], ids=["seats", "no category"])
def test_a_contact_under_no_category_is_about_everything(offer: OfferSpec) -> None:
    assert ruling({"": DAY}, 2 * DAY, offer) == COLD


def test_the_latest_contact_counts() -> None:
    assert ruling({"seats": DAY, "growth": 0, "": 5}, 2 * DAY) == COLD


def test_a_contact_with_the_account_holds_for_its_users() -> None:
    asked = Opportunity("d", 2 * DAY, "ada", ("home",), account_id="acme")
    called = History(contacts={"seats": DAY})
    made = gate()
    assert made is not None

    assert made.reject(ACTION, Situation(asked, NO_HISTORY, called)) == COLD
    both = Situation(asked, called, History(contacts={"seats": 0}))
    assert made.reject(ACTION, both) == COLD


def test_without_a_cool_down_there_is_no_gate() -> None:
    assert gate(cool_down=0) is None


@pytest.mark.parametrize(
    ("contacts", "topic"), [({"seats": 0}, "seats"), ({"": 0}, "everything")]
)
def test_a_contact_is_told_with_its_topic(contacts: dict[str, int], topic: str) -> None:
    asked = Opportunity("d", 5, "ada", ("home",))
    made = gate()
    assert made is not None

    told = made.because(ACTION, Situation(asked, History(contacts=contacts)))

    assert told == Because(
        f"a contact about {topic} at 1970-01-01 00:00:00 UTC", "none in the last 3d"
    )
