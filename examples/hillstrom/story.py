"""Tells what happens to one user, moment by moment, with real answers of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opportune.v1 import (
    DECISION_VIEW_FULL,
    Context,
    Decision,
    GetOfferRequest,
    Moment,
    Money,
    Outcome,
    OutcomeKind,
    Reason,
    ReportOutcomeRequest,
    Usage,
)

if TYPE_CHECKING:
    from opportune.v1.decision_service_pb2_grpc import DecisionServiceAsyncStub

__all__ = ["Story", "tell"]

_MOMENTS_MAX = 12
_LEARN_S = 30.0
_POLL_S = 0.1
_PRICE_CENTS = 12_00

_SHOWN = OutcomeKind.OUTCOME_KIND_SHOWN
_NOT_SHOWN = OutcomeKind.OUTCOME_KIND_NOT_SHOWN
_DISMISSED = OutcomeKind.OUTCOME_KIND_DISMISSED
_ACCEPTED = OutcomeKind.OUTCOME_KIND_ACCEPTED

_NAMES = {
    "more_storage": "more storage",
    "team_plan": "team plan",
    "": "silence",
}


@dataclass(slots=True)
class Story:
    """What was told.

    Attributes:
        lines: The story, a line a step.
        shown: How many decisions were reported shown.
        acknowledged: Ids of decisions and outcomes that the server has on disk.
        before: What the model did for a user like her at first, by offer.
        after: What it does at the end.
        complete: Whether every step came to pass.
    """

    lines: list[str] = field(default_factory=list)
    shown: int = 0
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    complete: bool = True


async def tell(
    stub: DecisionServiceAsyncStub,
    seed: int,
    learned: Callable[[int], Awaitable[object]],
    say: Callable[[str], None],
) -> Story:
    """Live through the story, and say each step as it happens.

    Args:
        stub: The server.
        seed: What the ids of the requests derive from.
        learned: Waits until so many decisions are learned and published.
        say: Is told every line.
    """
    return await _Telling(stub, seed, learned, say).tell()


class _Telling:
    def __init__(
        self,
        stub: DecisionServiceAsyncStub,
        seed: int,
        learned: Callable[[int], Awaitable[object]],
        say: Callable[[str], None],
    ) -> None:
        self._stub = stub
        self._seed = seed
        self._learned = learned
        self._say = say
        self._story = Story()
        self._asked = 0

    async def tell(self) -> Story:
        """Let Ada dismiss an offer, meet silence, another offer, a cap, and accept."""
        story = self._story
        before = await self._probe("ben")
        storage = await self._until(
            "more_storage", "Ada has filled 9.4 of 10 GB", "limit_near", 9.4, 3
        )
        if storage is not None:
            await self._report(storage, _SHOWN, _DISMISSED)
            self._line("She waves it away", "reported shown and dismissed")
            silence = await self._ask("ada", "limit_near", 9.6, 3)
            self._line("She has filled 9.6 GB", _why(silence))
        plan = await self._until(
            "team_plan", "She shares her 12th file", "shared", 9.6, 12
        )
        if plan is not None:
            await self._report(plan, _SHOWN)
            self._line("She sees it, and works on", "reported shown")
            capped = await self._ask("ada", "shared", 9.6, 13)
            self._line("She shares her 13th file", _why(capped))
            await self._report(plan, _ACCEPTED, revenue_cents=_PRICE_CENTS)
            price = f"{_PRICE_CENTS / 100:.2f} USD"
            self._line("She goes back and takes it", f"reported accepted, {price}")
        story.complete = storage is not None and plan is not None
        after = await self._after_learning(before)
        story.before, story.after = _chances(before), _chances(after)
        changes = [
            f"{name} {story.before[offer_id]:.0%} → {story.after[offer_id]:.0%}"
            for offer_id, name in _NAMES.items()
        ]
        self._line("For others like her, now", ", ".join(changes))
        return story

    async def _until(
        self, offer_id: str, moment: str, kind: str, storage_gb: float, shares: float
    ) -> Decision | None:
        """Ask at one moment after the other until an offer is drawn."""
        for _ in range(_MOMENTS_MAX):
            decision = await self._ask("ada", kind, storage_gb, shares)
            chances = _chances(decision)
            if decision.offer_id == offer_id:
                self._line(
                    moment,
                    f"offered: {_NAMES[offer_id]},"
                    f" propensity {decision.propensity:.0%}",
                )
                return decision
            self._line(
                moment,
                f"silence was drawn, propensity {decision.propensity:.0%}:"
                f" {_NAMES[offer_id]} had {chances.get(offer_id, 0.0):.0%}",
            )
            moment = "The next such moment"
        self._line(
            moment, f"{_NAMES[offer_id]} was never drawn; the story goes on without"
        )
        return None

    async def _after_learning(self, before: Decision) -> Decision:
        """Ask for another user once the server decides by what it has learned."""
        if not self._story.shown:
            return before
        await self._learned(self._story.shown)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _LEARN_S
        while True:
            decision = await self._probe("cleo")
            _, _, position = decision.model_version.partition(".")
            if int(position) >= self._story.shown or loop.time() > give_up:
                return decision
            await asyncio.sleep(_POLL_S)

    async def _probe(self, user_id: str) -> Decision:
        """Ask for somebody like Ada who could get either offer, and show nothing."""
        decision = await self._ask(user_id, "limit_near", 9.6, 12)
        if decision.offer_id:
            await self._report(decision, _NOT_SHOWN)
        return decision

    async def _ask(
        self, user_id: str, kind: str, storage_gb: float, shares: float
    ) -> Decision:
        self._asked += 1
        usage = {
            "storage_gb": Usage(value=storage_gb, limit=10.0),
            "shares_week": Usage(value=shares),
        }
        request = GetOfferRequest(
            request_id=f"seed-{self._seed}-story-{self._asked}",
            user_id=user_id,
            placement_ids=["banner"],
            context=Context(segment="free", usage=usage, moment=Moment(kind=kind)),
            view=DECISION_VIEW_FULL,
        )
        response = await self._stub.GetOffer(request)
        return response.decisions[0]

    async def _report(
        self, decision: Decision, *kinds: OutcomeKind.ValueType, revenue_cents: int = 0
    ) -> None:
        outcomes = [
            Outcome(outcome_id=OutcomeKind.Name(kind).lower(), kind=kind)
            for kind in kinds
        ]
        if revenue_cents:
            revenue = Money(currency_code="USD", minor_units=revenue_cents)
            outcomes[-1].revenue.CopyFrom(revenue)
        await self._stub.ReportOutcome(
            ReportOutcomeRequest(decision_id=decision.decision_id, outcomes=outcomes)
        )
        self._story.shown += _SHOWN in kinds
        self._story.acknowledged.extend(
            (decision.decision_id, outcome.outcome_id) for outcome in outcomes
        )

    def _line(self, happened: str, answered: str) -> None:
        line = f"{happened:<27} → {answered}"
        self._story.lines.append(line)
        self._say(line)


def _chances(decision: Decision) -> dict[str, float]:
    return {c.offer_id: c.probability for c in decision.candidates}


def _why(decision: Decision) -> str:
    """Say why there is silence, and when there may be an offer again."""
    if decision.offer_id:
        return f"offered {_NAMES[decision.offer_id]}, against what its rules promise"
    reason = Reason.Name(decision.reason).removeprefix("REASON_")
    if not decision.HasField("next_eligible_time"):
        return f"silence, {reason}"
    seconds = decision.next_eligible_time.seconds
    again = datetime.fromtimestamp(seconds, UTC).astimezone()
    wait = seconds - decision.decide_time.seconds
    days = round(wait / 86_400)
    unit = "day" if days == 1 else "days"
    return f"silence, {reason}; again in {days} {unit}, {again:%d %b %H:%M}"
