"""What costs something is for those who may buy."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.buyer import Buyer
from policies.model import Context
from policies.specs import CatalogueSpec, OfferSpec
from tests.policies.gates import kit

SLACK = CatalogueSpec(buyers=("admin", "owner"))
PAID = kit.gate(Buyer, OfferSpec(price=725), SLACK)


@pytest.mark.parametrize("role", ["admin", "owner"])
def test_who_may_buy_sees_what_costs_something(role: str) -> None:
    assert PAID.reject(kit.ACTION, kit.moment(Context(role=role))) is None


@pytest.mark.parametrize("role", ["guest", "member", "", "Admin"])
def test_who_may_not_buy_or_is_not_known_sees_nothing_that_costs(role: str) -> None:
    asked = kit.moment(Context(role=role))

    assert PAID.reject(kit.ACTION, asked) == Ruling("NOT_BUYER")


def test_the_role_that_the_product_has_told_counts_until_a_request_says_another() -> (
    None
):
    admin = kit.having(role="admin")

    assert kit.reason(PAID, kit.moment(history=admin)) == ""
    assert kit.reason(PAID, kit.moment(Context(role="guest"), history=admin))


def test_without_named_buyers_everybody_may_buy() -> None:
    assert not kit.gates(Buyer, OfferSpec(price=725))
    assert not kit.gates(Buyer, OfferSpec(buyers_only=True))


def test_what_costs_nothing_is_for_everybody_unless_it_says_otherwise() -> None:
    assert not kit.gates(Buyer, OfferSpec(price=0), SLACK)
    assert kit.gates(Buyer, OfferSpec(price=0, buyers_only=True), SLACK) == [PAID]


def test_a_paid_offer_may_be_for_everybody() -> None:
    ask_your_admin = OfferSpec(price=725, buyers_only=False)

    assert not kit.gates(Buyer, ask_your_admin, SLACK)


def test_the_role_is_told() -> None:
    guest, nobody = kit.moment(Context(role="guest")), kit.moment()

    assert PAID.because(kit.ACTION, guest) == Because(
        "the user's role is guest", "one of admin, owner"
    )
    found = PAID.because(kit.ACTION, nobody).found
    assert found == "nobody said what the user's role is"
