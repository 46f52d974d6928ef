"""Decides: candidates, gates, scores, a distribution, a draw.

This is the one path from a context to a choice, for the server, the simulator and
whoever asks why: a decision is a pure function of the opportunity, the catalogue,
the past and the policy, so that explaining one is making it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import msgspec

from policies.catalogue import Catalogue, Offer
from policies.draw import draw, to_units
from policies.features import context_features
from policies.gates import ALIKE, Gate, Ruling, Situation
from policies.gates.holdout import Holdout, held_out
from policies.gates.moments import due
from policies.history import released, relevant
from policies.messages import Message, message
from policies.model import (
    NO_CONDITIONS,
    NO_HISTORY,
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Conditions,
    Decision,
    History,
    Opportunity,
    Rejection,
    Split,
)
from policies.policy import Policy

__all__ = [
    "Explanation",
    "Past",
    "Refusal",
    "Silence",
    "Verdict",
    "decide",
    "eligible",
    "explain",
    "message_of",
    "past_of",
    "silence",
    "standing",
]

_TOLD_MAX = 50
_TERMS = frozenset(["placement_stop", "offer_stop", "lifecycle", "dates", "ownership"])
_CAPS = frozenset(["once_per_cycle"])
_UNASKED = Ruling("")
_index_of = attrgetter("index")
_ALIKE = frozenset(ALIKE)


class Past(NamedTuple):
    """What is known beside what is asked.

    Attributes:
        history: Of the user's past.
        account: Of the account's; nothing for a user without one.
        conditions: What holds for everybody.
    """

    history: History = NO_HISTORY
    account: History = NO_HISTORY
    conditions: Conditions = NO_CONDITIONS


class Verdict(NamedTuple):
    """A decision, and what could not be chosen of what came into question."""

    decision: Decision
    rejections: tuple[Rejection, ...]


class Silence(NamedTuple):
    """Why nothing is shown, and when asking again may change that."""

    reason: str
    next_eligible_ms: int | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Why an action could not be chosen, in full.

    Attributes:
        gate: The name of the gate that rejected it first.
        found: The value that failed.
        needed: What would have had to differ.
        next_eligible_ms: Before this no gate that looks at the clock lets the
            action through; none where time alone changes nothing.
    """

    offer_id: str
    creative_id: str
    placement_id: str
    reason: str
    gate: str
    found: str
    needed: str
    next_eligible_ms: int | None = None


class Explanation(msgspec.Struct, frozen=True):
    """Why a decision was as it was.

    Attributes:
        decision: The decision.
        refusals: Of every other action of the placements, why it could not be chosen.
        bypasses: What held back critical offers and was gone past.
    """

    decision: Decision
    refusals: tuple[Refusal, ...]
    bypasses: tuple[Refusal, ...]


def decide(
    opportunity: Opportunity,
    *,
    catalogue: Catalogue,
    past: Past,
    policy: Policy,
    told: bool = True,
) -> Verdict:
    """Choose one of the eligible actions, "no offer" always among them.

    Args:
        opportunity: What is asked; its placements and offers are the catalogue's.
        catalogue: What can be offered.
        past: What is known beside that.
        policy: What turns the context into a distribution.
        told: Whether to say what could not be chosen, which takes longer than the
            decision.
    """
    # What is logged is what decides: made again from the log, it is the same.
    seen = _seen(opportunity, catalogue, past)
    actions, rejections = eligible(opportunity, catalogue, seen, told=told)
    context = context_features(opportunity.context, catalogue.features)
    split = _split(opportunity, catalogue, policy)
    chances = (
        policy.baseline(actions)
        if split == "control"
        else policy.chances(context, actions)
    )
    probabilities = to_units(chances.probabilities)
    chosen = actions[draw(probabilities, opportunity.decision_id, policy.salt)]
    decision = Decision(
        opportunity=opportunity,
        history=seen.history,
        account=seen.account,
        conditions=seen.conditions,
        catalogue=catalogue.version,
        policy=policy.version,
        model=policy.model,
        actions=tuple(map(_index_of, actions)),
        probabilities=probabilities,
        chosen=chosen.index,
        valid_until_ms=_valid_until_ms(opportunity, catalogue, chosen),
        floor=_floor(chances.floor, probabilities),
        split=split,
        terms=None if split == "control" else policy.terms(context, chosen),
    )
    return Verdict(decision, rejections)


def message_of(decision: Decision, catalogue: Catalogue) -> Message | None:
    """Say how the product shows what was chosen; none where it was no offer.

    Args:
        decision: The decision.
        catalogue: The catalogue of that decision.
    """
    if decision.chosen == NO_OFFER:
        return None
    action = catalogue.actions[decision.chosen]
    variables = _situation(decision.opportunity, catalogue, past_of(decision)).variables
    wording = catalogue.wordings[action.offer_id, action.creative_id]
    return message(action, wording, variables, decision.opportunity.decision_id)


def past_of(decision: Decision) -> Past:
    """Return what a decision was made on."""
    return Past(decision.history, decision.account, decision.conditions)


def eligible(
    opportunity: Opportunity, catalogue: Catalogue, past: Past, *, told: bool = True
) -> tuple[list[Action], tuple[Rejection, ...]]:
    """Gate the candidates: what may be chosen, "no offer" first, and what may not.

    A gate is asked once for each thing that it tells apart, not once an action. The
    reason is that of the first gate that rejects; when an action is eligible again
    depends on all of them. What may not be chosen is only told where nothing may, and
    where somebody wants to know.
    """
    situation = _situation(opportunity, catalogue, past)
    gating = _Gating(catalogue, situation)
    candidates = _candidates(opportunity, catalogue, situation)
    actions = [catalogue.actions[NO_OFFER]]
    actions += gating.passing(candidates)
    # The index has asked none of its gates about these.
    back = _returning(opportunity, catalogue, situation, candidates)
    actions += [action for action in back if gating.rejection(action) is None]
    fallbacks = _fallbacks(opportunity, catalogue, actions)
    actions += [action for action in fallbacks if gating.rejection(action) is None]
    if back or fallbacks:
        candidates += [*back, *fallbacks]
        actions.sort(key=_index_of)
    if len(actions) > 1 or not told:
        return actions, ()
    if not candidates:
        of_placements = catalogue.all_actions(
            opportunity.placements, opportunity.offers
        )
        candidates = list(islice(of_placements, _TOLD_MAX))
    found = [gating.rejection(action) for action in candidates]
    return actions, tuple([rejection for rejection in found if rejection is not None])


def explain(decision: Decision, catalogue: Catalogue) -> Explanation:
    """Say of every action why it could or could not be chosen, by asking again.

    Args:
        decision: The decision.
        catalogue: The catalogue of that decision.
    """
    opportunity = decision.opportunity
    situation = _situation(opportunity, catalogue, past_of(decision))
    could = frozenset(decision.actions)
    refusals: list[Refusal] = []
    bypasses: list[Refusal] = []
    for action in catalogue.all_actions(opportunity.placements, opportunity.offers):
        critical = catalogue.offers[action.offer_id].critical
        refused = _refusing(_every_gate(action, catalogue), action, situation)
        binding = [pair for pair in refused if not (critical and pair[0].bypassed)]
        if action.index in could:
            gone_past = [pair for pair in refused if critical and pair[0].bypassed]
            bypasses += [_refusal(action, [pair], situation) for pair in gone_past]
        elif binding:
            refusals.append(_refusal(action, binding, situation))
        else:
            refusals.append(_unneeded(action))
    return Explanation(decision, tuple(refusals), tuple(bypasses))


def standing(
    now: Opportunity, catalogue: Catalogue, past: Past, *, seen: bool
) -> Ruling | None:
    """Say why a decided offer does not stand any more; none where it does.

    Caps are not asked again: the decision has its place in them. Of an offer that the
    user has seen, only what is true of the offer itself is asked: that it is still
    offered, and not owned yet. It stands where any of its wordings does.

    Args:
        now: The decision's opportunity at the present time; its `offers` and
            `placements` are those that the decision chose.
        catalogue: What is offered now.
        past: What is known now, with what the decision has reserved.
        seen: Whether the user has seen the offer.
    """
    found = catalogue.actions_of(now.offers[0], now.placements)
    if not found:
        return Ruling("WITHDRAWN")
    freed = Past(
        released(past.history, now.decision_id),
        released(past.account, now.decision_id),
        past.conditions,
    )
    situation = _situation(now, catalogue, freed)
    ruling: Ruling | None = None
    for action in found:
        ruling = _first(_lasting(action, catalogue, seen=seen), action, situation)
        if ruling is None:
            break
    return ruling


def silence(decision: Decision, rejections: Sequence[Rejection]) -> Silence:
    """Say why a decision shows nothing.

    Where nothing was eligible, the reason is that of the action that the clock lets
    through first or, where the clock lets none through, of the first action.
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


_Refused = list[tuple[Gate, Ruling]]


class _Gating:
    """Asks the gates about one situation, each as seldom as can be.

    Which of several gates rejects matters only where nothing is eligible; until then
    they are asked in whatever order is fast.
    """

    def __init__(self, catalogue: Catalogue, situation: Situation) -> None:
        self._catalogue = catalogue
        self._situation = situation
        # Of the gates that offers share, those that reject or were not asked yet.
        self._open = -1
        self._rejecting = 0
        self._rulings: dict[int, Ruling | None] = {}
        self._refused: dict[tuple[str, bool], list[tuple[Gate, Ruling]]] = {}
        self._offer_refused: dict[str, list[tuple[Gate, Ruling]]] = {}

    def passing(self, candidates: Iterable[Action]) -> list[Action]:
        """Return those that no gate rejects, of those that the index has asked."""
        asks, situation = self._catalogue.asks, self._situation
        touched = situation.touched
        opened: set[int] = set()
        closed: set[int] = set()
        passed: dict[str, bool] = {}
        found: list[Action] = []
        for action in candidates:
            place, offer_id, bits, gates = asks[action.index]
            if place not in opened:
                if place in closed or self._is_closed(action):
                    closed.add(place)
                    continue
                opened.add(place)
            if bits & self._open or offer_id in touched:
                if offer_id not in passed:
                    passed[offer_id] = self._passes(action)
                if not passed[offer_id]:
                    continue
            if not gates or _first(gates, action, situation) is None:
                found.append(action)
        return found

    def rejection(self, action: Action) -> Rejection | None:
        """Return why an action is rejected, and when all its gates let it through."""
        offer = self._catalogue.offers[action.offer_id]
        refused = self._refused_placement(action, offer)
        refused = refused + self._refused_offer(action, offer)
        own = self._catalogue.action_gates.get(action.index)
        if own is not None:
            asked = [gate for gate in own if not (offer.critical and gate.bypassed)]
            refused = refused + _refusing(asked, action, self._situation)
        return _rejection(action, refused) if refused else None

    def _is_closed(self, action: Action) -> bool:
        offer = self._catalogue.offers[action.offer_id]
        gates = self._placement_gates(action, offer)
        return _first(gates, action, self._situation) is not None

    def _passes(self, action: Action) -> bool:
        """Say whether no gate of its offer rejects an action."""
        situation, offer_id = self._situation, action.offer_id
        if offer_id in situation.named:
            gates = self._catalogue.offers[offer_id].gates
            return _first(gates, action, situation) is None
        bits, own, past = self._catalogue.shares.of[offer_id]
        if self._reject(bits, action):
            return False
        if own and _first(own, action, situation) is not None:
            return False
        return offer_id not in situation.touched or (
            _first(past, action, situation) is None
        )

    def _reject(self, bits: int, action: Action) -> bool:
        """Ask gates that several offers have; once one rejects, the others wait."""
        if bits & self._rejecting:
            return True
        gates = self._catalogue.shares.gates
        left = bits & self._open & -2  # Bit 0 is none of them.
        while left:
            bit = left & -left
            if gates[bit.bit_length() - 2].reject(action, self._situation) is not None:
                self._rejecting |= bit
                return True
            left ^= bit
            self._open ^= bit
        return False

    def _placement_gates(self, action: Action, offer: Offer) -> tuple[Gate, ...]:
        placement = self._catalogue.placements[action.placement_id]
        return placement.strict_gates if offer.critical else placement.gates

    def _refused_placement(
        self, action: Action, offer: Offer
    ) -> list[tuple[Gate, Ruling]]:
        key = (action.placement_id, offer.critical)
        refused = self._refused.get(key)
        if refused is None:
            gates = self._placement_gates(action, offer)
            refused = self._refused[key] = _refusing(gates, action, self._situation)
        return refused

    def _refused_offer(self, action: Action, offer: Offer) -> list[tuple[Gate, Ruling]]:
        refused = self._offer_refused.get(offer.offer_id)
        if refused is None:
            refused = self._offer_refused[offer.offer_id] = []
            asked = offer.every_gate
            if offer.critical:
                asked = tuple([gate for gate in asked if not gate.bypassed])
            situation = self._situation
            touched = offer.offer_id in situation.touched
            # None of those that are asked once is of a history.
            once = {} if offer.offer_id in situation.named else self._rulings
            for gate in asked:
                ruling = once.get(id(gate), _UNASKED)
                if ruling is _UNASKED:
                    if gate.of_history and not touched:
                        continue
                    ruling = gate.reject(action, situation)
                    if type(gate) in _ALIKE:
                        once[id(gate)] = ruling
                if ruling is not None:
                    refused.append((gate, ruling))
        return refused


def _situation(opportunity: Opportunity, catalogue: Catalogue, past: Past) -> Situation:
    return Situation(
        opportunity,
        past.history,
        past.account,
        past.conditions,
        reads=catalogue.reads,
        zone=catalogue.spec.zone,
    )


def _candidates(
    opportunity: Opportunity, catalogue: Catalogue, situation: Situation
) -> list[Action]:
    return catalogue.candidates(
        opportunity.placements,
        opportunity.offers,
        moment=opportunity.context.moment.kind,
        owned=situation.owned,
    )


def _returning(
    opportunity: Opportunity,
    catalogue: Catalogue,
    situation: Situation,
    candidates: Sequence[Action],
) -> list[Action]:
    """Return what comes back after a snooze, though this is no moment of its own."""
    back = [
        offer_id
        for offer_id, snooze in situation.history.snoozes.items()
        if due(snooze, situation.at_ms)
        and (not opportunity.offers or offer_id in opportunity.offers)
    ]
    if not back:
        return []
    there = {action.index for action in candidates}
    return [
        action
        for offer_id in back
        for action in catalogue.actions_of(offer_id, opportunity.placements)
        if action.index not in there
        and catalogue.placements[action.placement_id].spec.fallback != offer_id
    ]


def _fallbacks(
    opportunity: Opportunity, catalogue: Catalogue, actions: Sequence[Action]
) -> list[Action]:
    """Return what to show in placements where nothing else may be."""
    # A catalogue that has just come into use may lack one that was asked for.
    placements = [
        catalogue.placements[p]
        for p in dict.fromkeys(opportunity.placements)
        if p in catalogue.placements
    ]
    if not any(placement.fallback for placement in placements):
        return []
    filled = {action.placement_id for action in actions}
    return [
        action
        for placement in placements
        if placement.placement_id not in filled
        for action in placement.fallback
        if not opportunity.offers or action.offer_id in opportunity.offers
    ]


def _every_gate(action: Action, catalogue: Catalogue) -> Iterator[Gate]:
    yield from catalogue.placements[action.placement_id].gates
    yield from catalogue.offers[action.offer_id].every_gate
    yield from catalogue.action_gates.get(action.index, ())


def _lasting(action: Action, catalogue: Catalogue, *, seen: bool) -> list[Gate]:
    """Return the gates that a decision must go on passing."""
    return [
        gate
        for gate in _every_gate(action, catalogue)
        if (
            gate.name in _TERMS
            if seen
            else not gate.bypassed and gate.name not in _CAPS
        )
    ]


def _first(
    gates: Iterable[Gate], action: Action, situation: Situation
) -> Ruling | None:
    for gate in gates:
        ruling = gate.reject(action, situation)
        if ruling is not None:
            return ruling
    return None


def _refusing(gates: Iterable[Gate], action: Action, situation: Situation) -> _Refused:
    return [
        (gate, ruling)
        for gate in gates
        if (ruling := gate.reject(action, situation)) is not None
    ]


def _rejection(action: Action, refused: Sequence[tuple[Gate, Ruling]]) -> Rejection:
    gate, ruling = refused[0]
    return Rejection(
        action.offer_id,
        action.creative_id,
        action.placement_id,
        ruling.reason,
        gate.name,
        _latest([ruling.next_eligible_ms for _, ruling in refused]),
    )


def _refusal(
    action: Action, refused: Sequence[tuple[Gate, Ruling]], situation: Situation
) -> Refusal:
    rejection = _rejection(action, refused)
    found, needed = refused[0][0].because(action, situation)
    return Refusal(
        action.offer_id,
        action.creative_id,
        action.placement_id,
        rejection.reason,
        rejection.gate,
        found,
        needed,
        rejection.next_eligible_ms,
    )


def _unneeded(action: Action) -> Refusal:
    """Say why an action that passes every gate did not come into question."""
    return Refusal(
        action.offer_id,
        action.creative_id,
        action.placement_id,
        "NO_CANDIDATE",
        "fallback",
        "other offers may be shown there",
        "nothing else to show: it is the placement's fallback",
    )


def _latest(times: Sequence[int | None]) -> int | None:
    """Return the last of the times; none where a gate waits for no time."""
    known = [time for time in times if time is not None]
    return None if len(known) < len(times) else max(known)


def _seen(opportunity: Opportunity, catalogue: Catalogue, past: Past) -> Past:
    """Return of the past what the gates can look at."""
    if past.history is NO_HISTORY and past.account is NO_HISTORY:
        return past
    at_ms, memory = opportunity.at_ms, catalogue.memory
    offers: frozenset[str] = frozenset()
    if not memory.wide:
        placements = frozenset(opportunity.placements)
        offers = frozenset(
            [
                track.subject.offer_id
                for history in (past.history, past.account)
                for track in history.tracks
                if (offer := catalogue.offers.get(track.subject.offer_id)) is not None
                and not placements.isdisjoint(offer.spec.placements)
            ]
        )
    visit = opportunity.session_id
    return Past(
        relevant(past.history, at_ms, memory, session_id=visit, offers=offers),
        relevant(past.account, at_ms, memory, offers=offers, account=True),
        past.conditions,
    )


def _floor(floor: float, probabilities: Sequence[int]) -> int:
    """Return in billionths what every action was sure of, as it is stored."""
    if floor == 0.0:
        return 0
    # What is possible has one billionth; and who takes up the rounding may lose some.
    return min(max(int(floor * PROBABILITY_UNITS), 1), *probabilities)


def _split(opportunity: Opportunity, catalogue: Catalogue, policy: Policy) -> Split:
    user_id, holdout = opportunity.user_id, catalogue.spec.holdout
    asked = holdout.share and Holdout.name not in catalogue.spec.gates.off
    if asked and held_out(user_id, holdout.share, holdout.salt):
        return "holdout"
    return policy.settings.split.of(user_id)


def _valid_until_ms(
    opportunity: Opportunity, catalogue: Catalogue, chosen: Action
) -> int:
    until_ms = opportunity.at_ms + int(catalogue.spec.valid_for)
    if chosen.index == NO_OFFER:
        return until_ms
    end_ms = catalogue.offers[chosen.offer_id].end_ms
    return until_ms if end_ms is None else min(until_ms, end_ms)
