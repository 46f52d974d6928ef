"""What the demo measured: every number of its table, its plot and its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from examples.hillstrom.customers import OFFERS, Customer
from examples.hillstrom.traffic import IN_FLIGHT, Answer, Traffic
from policies.catalogue import Catalogue
from policies.estimators import rows_of, snips
from policies.features import context_features
from policies.intervals import (
    Estimate,
    estimate,
    mean_of,
    rate_of,
)
from policies.model import Context
from policies.reward_model import cross_fit

__all__ = ["Curve", "GetOffer", "Row", "curve", "get_offer", "learnable", "observed"]

_ARMS = list(OFFERS.values())
_BLOCKS = 40
_SPLITS = 3


class Row(msgspec.Struct, frozen=True):
    """What a policy earned, per customer; none where the log cannot say.

    Attributes:
        n: How many customers that is known of.
        visit_rate: The share that visited the shop.
        conversion_rate: The share that bought something.
        spend: Dollars spent per customer.
    """

    n: int
    visit_rate: Estimate
    conversion_rate: Estimate | None = None
    spend: Estimate | None = None


class GetOffer(msgspec.Struct, frozen=True):
    """How long GetOffer took, as the client saw it.

    Attributes:
        p50_ms: The median while `in_flight` customers were under way at once, which
            is as fast as server and client can go on this machine: time in queues.
        p99_ms: The same for the slowest of a hundred.
        per_s: Decisions per second meanwhile; reports of outcomes go on beside them.
        in_flight: How many customers were under way.
        alone_p50_ms: The median with nothing else under way.
        alone_p99_ms: The same for the slowest of a hundred.
    """

    p50_ms: float
    p99_ms: float
    per_s: float
    in_flight: int
    alone_p50_ms: float
    alone_p99_ms: float


class Curve(msgspec.Struct, frozen=True):
    """How the policy got better, block by block of customers.

    Attributes:
        customers: How many customers had been served at the end of each block.
        visit_rate: The share of all matched customers so far that visited.
        low: The lower end of its interval.
        high: Its upper end.
        block_rate: The share of the matched customers of the block alone.
        shares: For each offer, the empty one for none, the share of the block's
            customers that it was chosen for.
    """

    customers: list[int]
    visit_rate: list[float]
    low: list[float]
    high: list[float]
    block_rate: list[float]
    shares: dict[str, list[float]]


def observed(customers: Sequence[Customer]) -> Row:
    """Return what some customers did, who were all treated by one policy."""
    n = len(customers)
    spend = np.array([customer.spent_cents for customer in customers]) / 100
    return Row(
        n,
        rate_of(sum(customer.visited for customer in customers), n),
        rate_of(sum(customer.converted for customer in customers), n),
        mean_of(spend),
    )


def learnable(customers: Sequence[Customer], catalogue: Catalogue) -> Row:
    """Return what the best policy earns that can be learned from the whole log.

    Each customer is given what a regression on four fifths of the others expects the
    most of; the experiment, which treated everybody at random, says what that earns.
    How the fifths are drawn matters as much as what is learned, so that it is done
    anew a few times, and the policy is one of these at random.
    """
    rewards = np.array([float(customer.visited) for customer in customers])
    sent = np.array([_ARMS.index(customer.sent) for customer in customers])
    contexts = [
        context_features(Context(features=customer.features), catalogue.features)
        for customer in customers
    ]
    chances = np.zeros(len(customers))
    for split in range(_SPLITS):
        keys = [f"{split} {customer.user_id}" for customer in customers]
        expected = cross_fit(contexts, sent, rewards, keys, n_actions=len(_ARMS))
        chances += (expected.argmax(axis=1) == sent) / _SPLITS
    rows = rows_of(rewards, np.full(len(customers), 1 / len(_ARMS)), chances)
    found = estimate(
        snips(rows),
        weights=rows.weights,
        rewards=rewards,
        weight_max=float(len(_ARMS)),
        reward_range=(0.0, 1.0),
    )
    return Row(int(np.count_nonzero(rows.weights)), found)


def get_offer(traffic: Traffic) -> GetOffer:
    """Return how long GetOffer took."""
    loaded = np.array([answer.seconds for answer in traffic.loaded]) * 1_000
    alone = np.array([answer.seconds for answer in traffic.alone]) * 1_000
    return GetOffer(
        p50_ms=float(np.percentile(loaded, 50)),
        p99_ms=float(np.percentile(loaded, 99)),
        per_s=len(loaded) / traffic.seconds,
        in_flight=IN_FLIGHT,
        alone_p50_ms=float(np.percentile(alone, 50)),
        alone_p99_ms=float(np.percentile(alone, 99)),
    )


def curve(answers: Sequence[Answer]) -> Curve:
    """Follow the policy from the first customer to the last."""
    made = Curve([], [], [], [], [], {offer_id: [] for offer_id in _ARMS})
    matched = visited = 0
    for block in np.array_split(np.arange(len(answers)), _BLOCKS):
        served = [answers[index] for index in block]
        known = [answer for answer in served if answer.matched]
        came = sum(answer.customer.visited for answer in known)
        matched, visited = matched + len(known), visited + came
        so_far = rate_of(visited, max(matched, 1))
        made.customers.append(int(block[-1]) + 1)
        made.visit_rate.append(so_far.value)
        made.low.append(so_far.low)
        made.high.append(so_far.high)
        made.block_rate.append(came / max(len(known), 1))
        for offer_id, shares in made.shares.items():
            chosen = sum(answer.offer_id == offer_id for answer in served)
            shares.append(chosen / len(served))
    return made


def ci95(estimate: Estimate) -> list[float]:
    """Return the two ends of an interval."""
    return [estimate.low, estimate.high]


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as it is written to the file."""
    made: dict[str, Any] = {
        "n": row.n,
        "visit_rate": row.visit_rate.value,
        "ci95": ci95(row.visit_rate),
    }
    if row.conversion_rate is not None:
        made["conversion_rate"] = row.conversion_rate.value
        made["conversion_ci95"] = ci95(row.conversion_rate)
    if row.spend is not None:
        made["spend"] = row.spend.value
        made["spend_ci95"] = ci95(row.spend)
    return made
