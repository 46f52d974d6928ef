"""Decides: candidates, gates, scores, a distribution, a draw.

This is the one path from a context to a choice, for the server, the simulator and
whoever asks why: a decision is a pure function of the opportunity, the catalogue,
the history and the policy, so that explaining one is making it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from policies.catalogue import Catalogue
from policies.draw import draw, to_units
from policies.features import context_features
from policies.gates import Gate, Ruling, Situation
from policies.history import relevant
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Action,
    Decision,
    History,
    Opportunity,
    Rejection,
)
from policies.policy import Policy

__all__ = ["Silence", "Verdict", "decide", "eligible", "silence"]


class Verdict(NamedTuple):
    """A decision, and what could not be chosen."""

    decision: Decision
    rejections: tuple[Rejection, ...]


class Silence(NamedTuple):
    """Why nothing is shown, and when asking again may change that."""

    reason: str
    next_eligible_ms: int | None = None


def decide(
    opportunity: Opportunity, *, catalogue: Catalogue, history: History, policy: Policy
) -> Verdict:
    """Choose one of the eligible actions, "no offer" always among them.

    Args:
        opportunity: What is asked; its placements and offers are the catalogue's.
        catalogue: What can be offered.
        history: What is known of the user's past.
        policy: What turns the context into a distribution.
    """
    actions, rejections = eligible(opportunity, catalogue, history)
    context = context_features(opportunity.context, catalogue.features)
    probabilities = to_units(policy.distribution(context, actions))
    chosen = actions[draw(probabilities, opportunity.decision_id, policy.salt)]
    decision = Decision(
        opportunity=opportunity,
        history=_seen(opportunity, catalogue, history),
        catalogue=catalogue.version,
        policy=policy.version,
        model=policy.model,
        actions=tuple([action.index for action in actions]),
        probabilities=probabilities,
        chosen=chosen.index,
        valid_until_ms=_valid_until_ms(opportunity, catalogue, chosen),
    )
    return Verdict(decision, rejections)


def eligible(
    opportunity: Opportunity, catalogue: Catalogue, history: History
) -> tuple[list[Action], tuple[Rejection, ...]]:
    """Gate the candidates: what may be chosen, "no offer" first, and what may not.

    Every gate is asked once an offer, not once an action. The reason is that of the
    first gate that rejects; when an offer is eligible again depends on all of them.
    """
    situation = Situation(opportunity, history, catalogue.reads)
    offers, touched = catalogue.offers, situation.touched
    rulings: dict[str, Ruling | None] = {}
    alike: dict[int, Ruling | None] = {}
    actions = [catalogue.actions[NO_OFFER]]
    for action in catalogue.candidates(opportunity.placements, opportunity.offers):
        offer_id = action.offer_id
        if offer_id not in rulings:
            if offer_id in touched:
                ruling = _ask(offers[offer_id].gates, offer_id, situation)
            else:
                # Offers without a past that have the same gates fare alike.
                gates = offers[offer_id].first_gates
                if id(gates) not in alike:
                    alike[id(gates)] = _ask(gates, offer_id, situation)
                ruling = alike[id(gates)]
            rulings[offer_id] = ruling
        if rulings[offer_id] is None:
            actions.append(action)
    return actions, tuple(
        [Rejection(offer_id, *ruling) for offer_id, ruling in rulings.items() if ruling]
    )


def silence(decision: Decision, rejections: Sequence[Rejection]) -> Silence:
    """Say why a decision shows nothing.

    Where nothing was eligible, the reason is that of the offer that the clock lets
    through first or, where the clock lets none through, of the first offer.
    """
    if len(decision.actions) > 1:
        at = decision.actions.index(NO_OFFER)
        held_best = decision.probabilities[at] == max(decision.probabilities)
        return Silence("LOW_VALUE" if held_best else "EXPLORATION")
    if not rejections:
        return Silence("NO_CANDIDATE")
    timed = [r for r in rejections if r.next_eligible_ms is not None]
    if not timed:
        return Silence(rejections[0].reason)
    soonest = min(timed, key=lambda r: r.next_eligible_ms or 0)
    return Silence(soonest.reason, soonest.next_eligible_ms)


def _seen(opportunity: Opportunity, catalogue: Catalogue, history: History) -> History:
    """Return of a history what the candidates' gates can look at."""
    if history is NO_HISTORY:
        return history
    candidates = catalogue.candidates(opportunity.placements, opportunity.offers)
    memories = {a.offer_id: catalogue.offers[a.offer_id].memory for a in candidates}
    return relevant(history, memories, opportunity.at_ms)


def _ask(gates: Iterable[Gate], offer_id: str, situation: Situation) -> Ruling | None:
    """Ask the gates in order; once one has rejected, ask the rest only for times."""
    asked = iter(gates)
    for gate in asked:
        ruling = gate.reject(offer_id, situation)
        if ruling is not None:
            break
    else:
        return None
    later = [gate.reject(offer_id, situation) for gate in asked]
    times = [r.next_eligible_ms for r in [ruling, *later] if r is not None]
    return Ruling(ruling.reason, _latest(times))


def _latest(times: Sequence[int | None]) -> int | None:
    """Return the last of the times; none where a gate waits for no time."""
    known = [time for time in times if time is not None]
    return None if len(known) < len(times) else max(known)


def _valid_until_ms(
    opportunity: Opportunity, catalogue: Catalogue, chosen: Action
) -> int:
    until_ms = opportunity.at_ms + catalogue.valid_for_ms
    if chosen.index == NO_OFFER:
        return until_ms
    end_ms = catalogue.offers[chosen.offer_id].end_ms
    return until_ms if end_ms is None else min(until_ms, end_ms)
