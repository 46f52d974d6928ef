"""Plays the steps of a script against one server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from examples.scenarios.comparing import misses, refusals
from examples.scenarios.script import Ask, Step
from examples.scenarios.serving import Served
from examples.scenarios.wire import ask_request, report_request, tell_requests
from examples.scenarios.wording import asked, why_offered, why_silent
from opportune.v1 import (
    CheckDecisionRequest,
    Decision,
    ExplainDecisionRequest,
    OfferState,
    Rejection,
)

__all__ = ["Came", "Player"]


class Came(NamedTuple):
    """What came of a step: see `examples.scenarios.playing.Row`."""

    asked: str
    came: str
    why: str
    misses: tuple[str, ...]


class Player:
    """Plays steps, and remembers what came of those before.

    Attributes:
        interruptions: By user, how many offers interrupted them.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self._latest: dict[tuple[str, str], Decision] = {}
        self._reports = 0
        self.interruptions: Counter[str] = Counter()

    async def play(self, step: Step) -> Came:
        """Tell, ask, compare and report, as the step says."""
        await self._served.keep_up()
        await self.tell(step)
        if step.ask is None:
            await self._report(step, ())
            came = Came("", _reported(step), "", ())
        else:
            came = await self._asked(step, step.ask)
        for offer_id, expected in step.expect.now.items():
            found = await self._now(step, offer_id)
            came = _looked_at(came, f"{offer_id} of before", found, expected)
        for offer_id, earned in step.expect.earned.items():
            found, expected = self._earned(step, offer_id), _worth(earned)
            came = _looked_at(came, f"earned by {offer_id}", found, expected)
        for offer_id, columns in step.expect.sold.items():
            row = self._served.sold(self._latest[step.user, offer_id].decision_id)
            for column, value in columns.items():
                what = f"{column} of {offer_id}"
                came = _looked_at(came, what, f"{row.get(column)}", f"{value}")
        return came

    async def tell(self, step: Step) -> None:
        """Tell what the step says."""
        now_ms = self._served.clock()
        for tell in step.told:
            for request in tell_requests(tell, step.user, step.account, now_ms):
                await self._served.tell(request)

    async def ask(self, step: Step, ask: Ask, user_id: str = "") -> list[Decision]:
        """Ask, and remember what was chosen."""
        user_id = user_id or step.user
        self.interruptions[user_id] += 0
        request = ask_request(ask, user_id, step.account, self._served.clock())
        response = await self._served.decisions.GetOffer(request)
        for decision in response.decisions:
            self._latest[user_id, decision.offer_id] = decision
        return list(response.decisions)

    async def report(
        self, user_id: str, decision: Decision, said: Sequence[str]
    ) -> None:
        """Report what a user did about a decision."""
        self._reports += 1
        now_ms = self._served.clock()
        request = report_request(decision, said, now_ms, self._reports)
        await self._served.decisions.ReportOutcome(request)
        if "shown" in said and decision.placement_id in self._served.interrupting:
            self.interruptions[user_id] += 1

    async def why_not(self, decision: Decision) -> list[Rejection]:
        """Return why everything else could not be chosen."""
        request = ExplainDecisionRequest(decision_id=decision.decision_id)
        explanation = await self._served.decisions.ExplainDecision(request)
        return list(explanation.rejections)

    async def _asked(self, step: Step, ask: Ask) -> Came:
        decisions = await self.ask(step, ask)
        rejections = await self.why_not(decisions[-1])
        wrong = [*misses(step.expect, decisions), *refusals(step.expect, rejections)]
        wrong += await self._crowd(step, ask)
        await self._report(step, decisions)
        first = decisions[0]
        came = ", ".join(d.offer_id for d in decisions if d.offer_id) or "nothing"
        why = why_offered(first) if first.offer_id else why_silent(first, rejections)
        return Came(asked(step, ask), came, why, tuple(wrong))

    async def _crowd(self, step: Step, ask: Ask) -> list[str]:
        """Ask for the others of the account; each must get the same."""
        wrong: list[str] = []
        for number in range(1, step.crowd + 1):
            user_id = f"{step.user}-{number}"
            decisions = await self.ask(step, ask, user_id)
            wrong += [f"{user_id}: {miss}" for miss in misses(step.expect, decisions)]
        return wrong

    async def _report(self, step: Step, decisions: Sequence[Decision]) -> None:
        if isinstance(step.report, dict):
            for offer_id, said in step.report.items():
                decision = self._latest[step.user, offer_id]
                await self.report(step.user, decision, said)
        elif step.report:
            await self.report(step.user, decisions[0], step.report)

    async def _now(self, step: Step, offer_id: str) -> str:
        """Look at the last decision for an offer: can it still be had?"""
        decision = self._latest[step.user, offer_id]
        request = CheckDecisionRequest(decision_id=decision.decision_id)
        checked = await self._served.decisions.CheckDecision(request)
        return OfferState.Name(checked.offer_state).removeprefix("OFFER_STATE_")

    def _earned(self, step: Step, offer_id: str) -> str:
        """Return what the last decision for an offer has taught by now."""
        decision = self._latest[step.user, offer_id]
        return _worth(self._served.earned(decision.decision_id))


def _reported(step: Step) -> str:
    """Say what was reported of earlier decisions."""
    reports = step.report if isinstance(step.report, dict) else {}
    said = [f"{offer_id}: {', '.join(kinds)}" for offer_id, kinds in reports.items()]
    return "; ".join(said) or "told"


def _worth(earned: float | str | None) -> str:
    return f"{earned:g}" if isinstance(earned, int | float) else "none"


def _looked_at(came: Came, what: str, found: str, expected: str) -> Came:
    said = f"{what}: {found}"
    why = "; ".join(part for part in (came.why, said) if part)
    if found == expected:
        return came._replace(why=why)
    return came._replace(why=why, misses=(*came.misses, f"{said}, not {expected}"))
