"""Sends the customers through the server, many at once, and reports what they did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from examples.hillstrom.customers import Customer, request
from examples.hillstrom.process import ServerProcess
from opportune.v1 import (
    DecisionServiceStub,
    GetOfferRequest,
    Money,
    Outcome,
    OutcomeKind,
    ReportOutcomeRequest,
)

if TYPE_CHECKING:
    from opportune.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub

__all__ = ["ALONE", "IN_FLIGHT", "Answer", "Traffic", "ask_again", "release", "send"]

IN_FLIGHT = 32
"""How many customers are under way at once."""

CONNECTIONS = 8
"""Over how many connections: each is one worker's, so that both workers get some."""

ALONE = 400
"""How many customers are asked for one after the other first, with nothing else."""


class Answer(NamedTuple):
    """What the server answered for a customer.

    Attributes:
        customer: The customer.
        decision_id: The decision.
        offer_id: What it chose; empty for no offer.
        propensity: How likely that was.
        model: The model that it was chosen by.
        seconds: How long the answer took, as the client saw it.
    """

    customer: Customer
    decision_id: str
    offer_id: str
    propensity: float
    model: str
    seconds: float

    @property
    def matched(self) -> bool:
        """Whether the experiment had done the same, so that its outcome is known."""
        return self.offer_id == self.customer.sent


@dataclass(slots=True)
class Traffic:
    """What came of sending customers through the server.

    Attributes:
        alone: The answers to those who were asked for one after the other.
        loaded: The answers to all the others, by the order in which they were sent.
        acknowledged: Ids of decisions and of their outcomes that the server said it
            has on disk.
        seconds: How long all but the first took.
    """

    alone: list[Answer] = field(default_factory=list)
    loaded: list[Answer] = field(default_factory=list)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def answers(self) -> list[Answer]:
        """All answers, in the order in which the customers were sent."""
        return [*self.alone, *self.loaded]


async def send(
    server: ServerProcess,
    customers: Sequence[Customer],
    seed: int,
    watch: Callable[[Answer], None],
) -> Traffic:
    """Ask what to send to each customer, and report what the experiment knows of it.

    Where the choice is not what the experiment did, nobody knows what the customer
    would have done: nothing is reported, and nothing was shown.

    Args:
        server: The server.
        customers: The customers, in the order in which they are to be sent.
        seed: What the ids of the requests derive from.
        watch: Is told every answer.
    """
    traffic = Traffic()
    alone = customers[:ALONE]
    rest = customers[ALONE:]
    requests = [request(customer, seed) for customer in rest]
    answers: list[tuple[int, Answer]] = []
    turns = iter(list(zip(rest, requests, range(len(rest)), strict=True)))

    async def serve_in_turn(stub: DecisionServiceAsyncStub) -> None:
        for customer, asked, turn in turns:
            answer = await _serve(stub, customer, asked, traffic)
            answers.append((turn, answer))
            watch(answer)

    async with AsyncExitStack() as stack:
        stubs = [
            DecisionServiceStub(await stack.enter_async_context(server.channel()))
            for _ in range(CONNECTIONS)
        ]
        for customer in alone:
            answer = await _serve(stubs[0], customer, request(customer, seed), traffic)
            traffic.alone.append(answer)
            watch(answer)
        started = time.perf_counter()
        await _together(
            serve_in_turn(stubs[index % CONNECTIONS]) for index in range(IN_FLIGHT)
        )
        traffic.seconds = time.perf_counter() - started
    traffic.loaded = [answer for _, answer in sorted(answers, key=lambda a: a[0])]
    return traffic


async def ask_again(
    server: ServerProcess, answers: Sequence[Answer], seed: int
) -> list[Answer]:
    """Ask once more for customers, as new requests, all at once; show nothing.

    Returns:
        What was answered, in the order of `answers`.
    """
    async with server.channel() as channel:
        stub = DecisionServiceStub(channel)

        async def again(answer: Answer) -> Answer:
            asked = request(answer.customer, seed)
            asked.request_id += "-again"
            response = await stub.GetOffer(asked)
            decision = response.decisions[0]
            if decision.offer_id:
                await _report(stub, decision.decision_id, [_not_shown()])
            return answer._replace(
                decision_id=decision.decision_id, offer_id=decision.offer_id
            )

        return list(await asyncio.gather(*map(again, answers)))


async def release(server: ServerProcess, answers: Sequence[Answer]) -> None:
    """Report that decisions were not shown, so that they hold nothing any more."""
    async with server.channel() as channel:
        stub = DecisionServiceStub(channel)
        await asyncio.gather(
            *(_report(stub, answer.decision_id, [_not_shown()]) for answer in answers)
        )


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all of it; if one fails, end the others and fail with its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(
    stub: DecisionServiceAsyncStub,
    customer: Customer,
    asked: GetOfferRequest,
    traffic: Traffic,
) -> Answer:
    started = time.perf_counter()
    response = await stub.GetOffer(asked)
    seconds = time.perf_counter() - started
    decision = response.decisions[0]
    answer = Answer(
        customer,
        decision.decision_id,
        decision.offer_id,
        decision.propensity,
        decision.model_version,
        seconds,
    )
    if answer.matched:
        outcomes = _outcomes(customer)
        await _report(stub, decision.decision_id, outcomes)
        traffic.acknowledged.extend(
            (decision.decision_id, outcome.outcome_id) for outcome in outcomes
        )
    return answer


def _outcomes(customer: Customer) -> list[Outcome]:
    """Return what the customer did, as the experiment saw it.

    The aim is a visit. One that led to a purchase brings its revenue with it; a
    customer who did not come did nothing, which the server learns by waiting.
    """
    outcomes = [Outcome(outcome_id="shown", kind=OutcomeKind.OUTCOME_KIND_SHOWN)]
    if customer.visited:
        visit = Outcome(outcome_id="visit", kind=OutcomeKind.OUTCOME_KIND_CONVERTED)
        if customer.spent_cents:
            revenue = Money(currency_code="USD", minor_units=customer.spent_cents)
            visit.revenue.CopyFrom(revenue)
        outcomes.append(visit)
    return outcomes


def _not_shown() -> Outcome:
    return Outcome(outcome_id="not-shown", kind=OutcomeKind.OUTCOME_KIND_NOT_SHOWN)


async def _report(
    stub: DecisionServiceAsyncStub, decision_id: str, outcomes: list[Outcome]
) -> None:
    await stub.ReportOutcome(
        ReportOutcomeRequest(decision_id=decision_id, outcomes=outcomes)
    )
