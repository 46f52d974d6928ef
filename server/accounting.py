"""What was bought, and by which decision: read from the store, written as a table."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import TextIO

import msgspec

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.identity import root_of
from policies.joiner import terms_of
from policies.model import Decision, Outcome
from policies.revenue import SALES, Revenue, Sale, attribute
from policies.rewards import RewardSettings
from server.stores.base import AdminStore

__all__ = ["revenue", "write_csv", "write_json"]


def revenue(
    store: AdminStore, rewards: RewardSettings, *, since_ms: int = 0
) -> Iterator[Revenue]:
    """Yield what money came of, one account or user after the other.

    Args:
        store: The store.
        rewards: The rates of currencies, and the time for attribution.
        since_ms: The earliest time of what is told; what was claimed before counts.
    """

    @lru_cache(maxsize=8)
    def compiled(version: str) -> Catalogue:
        text = store.catalogue(version)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {version}")
        return catalogues.read(text, linted=False)

    def sale(decision: Decision, outcomes: list[Outcome]) -> Sale:
        catalogue = compiled(decision.catalogue)
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


def write_csv(rows: Iterator[Revenue], out: TextIO) -> None:
    """Write rows as CSV with a header; tags are separated by spaces."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Revenue.__struct_fields__)
    for row in rows:
        values = msgspec.structs.astuple(row)
        writer.writerow([_cell(value) for value in values])


def write_json(rows: Iterator[Revenue], out: TextIO) -> None:
    """Write rows as JSON, one a line."""
    out.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, bool) else value
