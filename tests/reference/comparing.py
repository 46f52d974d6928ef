"""Compares what a server says of a decision with what the model says."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from opportune.v1 import Decision, Explanation, Reason, Rejection
from tests.reference.model import Sight
from tests.reference.nouns import BYPASSED, UNTIMED, Act, No
from tests.server import kit

__all__ = ["Comparison", "act_of", "reason_of"]

_FAR_MS = 4_000 * kit.DAY_MS
_SILENCE = Act("", "", "")
_UNNEEDED = No("fallback", "NO_CANDIDATE")


class Comparison:
    """One decision, with all that was said of it.

    Args:
        sight: What the model can say of the request.
        decision: What the request was answered with, in full.
        explanation: Why, as the server says.
        tally: Counts what was seen.

    Attributes:
        ends: When the server says that a refusal ends.
    """

    def __init__(
        self,
        sight: Sight,
        decision: Decision,
        explanation: Explanation,
        tally: Counter[str],
    ) -> None:
        self.sight = sight
        self.decision = decision
        self.explanation = explanation
        self.tally = tally
        self.ends: list[int] = []

    def compare(self) -> None:
        """Compare everything."""
        self.tally["decision"] += 1
        self._views()
        self._distribution()
        self._candidates()
        self._bypasses()
        for rejection in self.explanation.rejections:
            self._rejection(rejection)
        if not self.decision.offer_id:
            self._silence()

    def _views(self) -> None:
        """The answer and its explanation are of one mind."""
        again = Decision()
        again.CopyFrom(self.explanation.decision)
        again.rejections.extend(self.explanation.rejections)
        for rejection in again.rejections:
            rejection.ClearField("found")
            rejection.ClearField("needed")
        assert again == self.decision, f"{again} is not {self.decision}"
        assert set(self.explanation.stopped_scopes) == set(self.sight.stopped)

    def _distribution(self) -> None:
        candidates, propensity = self.decision.candidates, self.decision.propensity
        acts = [act_of(candidate) for candidate in candidates]
        assert len(set(acts)) == len(acts), "an action twice"
        assert _SILENCE in acts, "silence was not possible"
        assert math.isclose(sum(c.probability for c in candidates), 1.0)
        chosen = act_of(self.decision)
        own = [c.probability for c in candidates if act_of(c) == chosen]
        assert own == [propensity], f"{chosen}: {own} is not {propensity}"
        assert propensity > 0

    def _candidates(self) -> None:
        sight = self.sight
        could = {act_of(c) for c in self.decision.candidates} - {_SILENCE}
        for act in could - sight.eligible:
            why = sight.every_no(act) or "is a fallback"
            raise AssertionError(f"{act} could be chosen, but {why}")
        refused = {act_of(r): r for r in self.explanation.rejections}
        for act in sight.eligible - could:
            raise AssertionError(f"{act} may be chosen, but {_said(refused.get(act))}")
        assert set(refused) == set(sight.acts) - could, "not all is explained"

    def _bypasses(self) -> None:
        said = {
            (act_of(bypass), No(bypass.gate, reason_of(bypass.reason)))
            for bypass in self.explanation.bypasses
        }
        due = {
            (act, no)
            for act in self.sight.eligible
            if self.sight.spec.offers[act.offer_id].override == "critical"
            for no in self.sight.every_no(act)
            if no.gate in BYPASSED
        }
        assert said == due, f"gone past, or not: {said ^ due}"
        self.tally["bypass"] += len(due)

    # --- Refusals -------------------------------------------------------------------

    def _rejection(self, rejection: Rejection) -> None:
        act = act_of(rejection)
        said = No(rejection.gate, reason_of(rejection.reason))
        against = self.sight.binding(act)
        if said == _UNNEEDED:
            assert self.sight.is_fallback(act), f"{act} is no fallback"
            assert not against, f"{act}: {against}"
            return
        self.tally[f"{said.gate}: {said.reason}"] += 1
        assert said in against, f"{act} is refused for {said}, not for {against}"
        assert rejection.found, f"{act}: {said} found nothing"
        assert rejection.needed, f"{act}: {said} needs nothing"
        if rejection.HasField("next_eligible_time"):
            self._end(act, kit.ms(rejection.next_eligible_time))
        else:
            self._endless(act)

    def _end(self, act: Act, until_ms: int) -> None:
        """Up to then something must say no, and the last of it must stop just then."""
        sight, now_ms = self.sight, self.sight.at_ms
        against = sight.binding(act)
        gates = _gates(against)
        assert until_ms > now_ms, f"{act} may be chosen since {until_ms}: {against}"
        for at_ms in (until_ms - 1, (now_ms + until_ms) // 2):
            still = sight.at(at_ms).binding(act)
            assert still, f"{act}: {against} until {until_ms}, but not at {at_ms}"
        gone = gates - _gates(sight.at(until_ms).binding(act))
        last = gone & _gates(sight.at(until_ms - 1).binding(act))
        assert last, f"{act}: {against} until {until_ms}, when none of them ends"
        for gate in gates - gone:
            paused = any(
                gate not in _gates(sight.at(at_ms).binding(act))
                for at_ms in sight.pauses
                if now_ms < at_ms < until_ms
            )
            assert paused, f"{act}: {gate} says no beyond {until_ms}: {against}"
        self.ends.append(until_ms)
        self.tally["end of a refusal"] += 1

    def _endless(self, act: Act) -> None:
        """What has no end must say no for ever, or not go by the clock."""
        against = self.sight.binding(act)
        far = _gates(self.sight.at(self.sight.at_ms + _FAR_MS).binding(act))
        assert _gates(against) & (far | UNTIMED), f"{act}: when does it end? {against}"

    # --- Silence --------------------------------------------------------------------

    def _silence(self) -> None:
        sight, decision = self.sight, self.decision
        reason = reason_of(decision.reason)
        self.tally[f"silence: {reason}"] += 1
        if sight.eligible:
            reasons = {"LOW_VALUE", "EXPLORATION"}
        elif sight.acts:
            against = [no for act in sight.acts for no in sight.binding(act)]
            reasons = {no.reason for no in against}
        else:
            reasons = {"NO_CANDIDATE"}
        assert reason in reasons, f"silence for {reason}, not for {reasons}"
        if decision.HasField("next_eligible_time"):
            self._soonest(kit.ms(decision.next_eligible_time))

    def _soonest(self, until_ms: int) -> None:
        """Before then nothing is eligible but what does not go by the clock."""
        for at_ms in (until_ms - 1, (self.sight.at_ms + until_ms) // 2):
            for act in self.sight.at(at_ms).eligible:
                against = self.sight.binding(act)
                said = f"{act} may be chosen at {at_ms}, before {until_ms}: {against}"
                assert _gates(against) & UNTIMED, said


def act_of(named: Any) -> Act:
    """Return the action that a message names."""
    return Act(named.offer_id, named.creative_id, named.placement_id)


def reason_of(value: Reason.ValueType) -> str:
    """Return the code of a reason; empty for none."""
    return Reason.Name(value).removeprefix("REASON_") if value else ""


def _gates(against: list[No]) -> set[str]:
    return {no.gate for no in against}


def _said(rejection: Rejection | None) -> str:
    if rejection is None:
        return "nothing is said of it"
    return f"{rejection.gate}: {rejection.found}, {rejection.needed}"
