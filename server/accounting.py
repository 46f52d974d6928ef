"""What was bought, and by which decision: read from the store, written as a table."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import msgspec
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from policies.allowed import listed
from policies.discounts import Discount, Discounts, Range
from policies.identity import root_of
from policies.joiner import terms_of
from policies.model import Decision, Outcome, OutcomeKind
from policies.revenue import SALES, Revenue, Sale, attribute
from policies.rewards import RewardSettings
from server import activation
from server.stores.base import AdminStore

__all__ = ["discounts", "discounts_table", "revenue", "write_csv", "write_json"]


def revenue(
    store: AdminStore, rewards: RewardSettings, *, since_ms: int = 0
) -> Iterator[Revenue]:
    """Yield what money came of, one account or user after the other.

    Args:
        store: The store.
        rewards: The rates of currencies, and the time for attribution.
        since_ms: The earliest time of what is told; what was claimed before counts.
    """
    catalogue_of = activation.compiled(store)

    def sale(decision: Decision, outcomes: list[Outcome]) -> Sale:
        catalogue = catalogue_of(decision.catalogue)
        action = catalogue.actions[decision.chosen]
        return Sale(
            decision, action, terms_of(rewards, catalogue.spec, action), outcomes
        )

    of_root = itertools.groupby(
        store.decisions_with(SALES),
        key=lambda pair: root_of(pair[0].opportunity.decision_id),
    )
    for _, pairs in of_root:
        for row in attribute([sale(*pair) for pair in pairs]):
            if row.at_ms >= since_ms:
                yield row


def discounts(
    store: AdminStore, rewards: RewardSettings, *, since_ms: int = 0
) -> list[Discount]:
    """Return what became of each discount that was shown.

    Args:
        store: The store.
        rewards: The rates of currencies.
        since_ms: The earliest time of a decision that counts.
    """
    catalogue_of = activation.compiled(store)
    found = Discounts(rewards)
    shown: tuple[OutcomeKind, ...] = ("shown",)
    for decision, outcomes in store.decisions_with(shown):
        if decision.opportunity.at_ms >= since_ms:
            found.add(decision, outcomes, catalogue_of(decision.catalogue))
    return found.report()


def discounts_table(rows: Sequence[Discount]) -> Group:
    """Return what became of discounts as a table, with what speaks against it."""
    if not rows:
        return Group(
            Text("no discount was shown that has an offer like it without one")
        )
    headers = ("discount", "shown", "accepted", "given", "wasted", "of it", "gained")
    table = Table(*[Column(header, overflow="fold") for header in headers])
    doubts: list[str] = []
    for row in rows:
        table.add_row(
            row.offer_id,
            f"{row.shown:,}",
            f"{row.accepted:,}",
            f"{row.given:,.0f}",
            _range(row.wasted, ",.0f"),
            _range(row.share, ".0%"),
            _range(row.gained, "+,.0f"),
        )
        doubts += [f"{row.offer_id}: {doubt}" for doubt in row.doubts]
        if row.alone:
            doubts.append(
                f"{row.offer_id}: shown {row.alone:,} times more where the full price"
                " could not have been shown"
            )
    currencies = listed(sorted({row.currency for row in rows}))
    table.caption = (
        f"amounts in minor units of {currencies}; below them, intervals of 95 %"
    )
    return Group(table, *[Text(doubt) for doubt in doubts])


def _range(found: Range | None, form: str) -> str:
    if found is None:
        return "not known"
    return f"{found.value:{form}}\n{found.low:{form}} to {found.high:{form}}"


def write_csv(rows: Iterator[Revenue], out: TextIO) -> None:
    """Write rows as CSV with a header; tags are separated by spaces."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Revenue.__struct_fields__)
    for row in rows:
        values = msgspec.structs.astuple(row)
        writer.writerow([_cell(value) for value in values])


def write_json(rows: Iterable[Revenue | Discount], out: TextIO) -> None:
    """Write rows as JSON, one a line."""
    out.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, bool) else value
