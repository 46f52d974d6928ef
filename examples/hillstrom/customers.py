"""The customers of the shop, as its experiment left them: see README.md."""

from __future__ import annotations

import csv
import io
import lzma
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from opportune.v1 import Context, GetOfferRequest
from opportune.v1 import FeatureValue as FeatureMessage
from policies.model import FeatureValue

__all__ = ["OFFERS", "Customer", "read_customers", "request", "shuffled"]

OFFERS = {"Mens E-Mail": "mens", "Womens E-Mail": "womens", "No E-Mail": ""}
"""What the experiment calls its arms, and which offer each of them is."""

_FILE = Path(__file__).with_name("customers.csv.xz")


class Customer(NamedTuple):
    """A customer: what the shop knew, what it sent, and what came of it.

    Attributes:
        number: The row in the file, from 1.
        recency: Months since the last purchase.
        history: Dollars spent in the past year.
        mens: Whether any of it went to men's goods.
        womens: Whether any of it went to women's goods.
        zip_code: What kind of area the customer lives in.
        newbie: Whether the customer was new in the past year.
        channel: Where the customer bought.
        sent: The offer that the experiment sent; empty for none.
        visited: Whether the customer visited the shop within two weeks.
        converted: Whether the customer bought anything then.
        spent_cents: For how much.
    """

    number: int
    recency: float
    history: float
    mens: bool
    womens: bool
    zip_code: str
    newbie: bool
    channel: str
    sent: str
    visited: bool
    converted: bool
    spent_cents: int

    @property
    def user_id(self) -> str:
        """The name under which the server knows the customer."""
        return f"customer-{self.number}"

    @property
    def features(self) -> dict[str, FeatureValue]:
        """What the shop knew, by the names that the catalogue declares."""
        return {
            "recency": self.recency,
            "history": self.history,
            "mens": self.mens,
            "womens": self.womens,
            "zip_code": self.zip_code,
            "newbie": self.newbie,
            "channel": self.channel,
        }


def read_customers() -> list[Customer]:
    """Return all 64,000 customers, in the order of the original file."""
    with lzma.open(_FILE) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
        return [_customer(number, row) for number, row in enumerate(rows, start=1)]


def shuffled(
    customers: Sequence[Customer], seed: int, count: int | None = None
) -> list[Customer]:
    """Return customers in an order that the seed decides; the first `count` of them."""
    order = list(customers)
    random.Random(seed).shuffle(order)
    return order[:count]


def request(customer: Customer, seed: int) -> GetOfferRequest:
    """Ask what to send to a customer.

    The id of the request, and with it that of the decision and every draw, derives
    from the seed and the customer.
    """
    return GetOfferRequest(
        request_id=f"seed-{seed}",
        user_id=customer.user_id,
        placement_ids=["email"],
        context=Context(
            features={
                name: _message(value) for name, value in customer.features.items()
            }
        ),
    )


def _message(value: FeatureValue) -> FeatureMessage:
    match value:
        case bool():
            return FeatureMessage(flag=value)
        case str():
            return FeatureMessage(category=value)
        case _:
            return FeatureMessage(number=value)


def _customer(number: int, row: dict[str, str]) -> Customer:
    return Customer(
        number=number,
        recency=float(row["recency"]),
        history=float(row["history"]),
        mens=row["mens"] == "1",
        womens=row["womens"] == "1",
        zip_code=row["zip_code"],
        newbie=row["newbie"] == "1",
        channel=row["channel"],
        sent=OFFERS[row["segment"]],
        visited=row["visit"] == "1",
        converted=row["conversion"] == "1",
        spent_cents=round(float(row["spend"]) * 100),
    )
