"""From an opportunity to stored decisions: load, decide, commit, again if need be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from policies.catalogue import Catalogue
from policies.engine import (
    Past,
    Verdict,
    decide,
    eligible,
    past_of,
    silence,
    standing,
)
from policies.entropy import selection_entropy
from policies.errors import StoreUnavailableError
from policies.features import unknown_features
from policies.gates import Ruling
from policies.history import reserve
from policies.identity import decision_id, root_of
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Action,
    Decision,
    History,
    Opportunity,
)
from server import telemetry
from server.current import Current
from server.stores.base import (
    Histories,
    Hold,
    LeaseLostError,
    ServingStore,
    StoredPast,
)
from server.supplies import Supplies

__all__ = ["Answer", "Decider"]

_ROUNDS_MAX = 2_000
_RETRY_AFTER_S = 0.1
_OFFERED = telemetry.DECISIONS.labels("OFFER")


class Answer(NamedTuple):
    """What a request is answered with: a verdict, and the catalogue it is from."""

    verdict: Verdict
    catalogue: Catalogue


class _Need(NamedTuple):
    """What a decision takes of an inventory or a budget, and until when."""

    name: str
    amount: int
    decision_id: str
    until_ms: int


class Decider:
    """Makes decisions that are stored before anybody hears of them.

    Args:
        store: Where they are stored.
        supplies: The inventories and budgets.
        current: What decides now.
        clock: Returns the time in milliseconds since 1970.
    """

    def __init__(
        self,
        store: ServingStore,
        supplies: Supplies,
        current: Current,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._supplies = supplies
        self._current = current
        self._clock = clock

    async def decide(self, opportunity: Opportunity, request_id: str) -> list[Answer]:
        """Decide one offer after the other, each on what the ones before reserve.

        A decision is stored before the next one is drawn: a call takes the longer the
        more offers are drawn, and were that to say which of two calls at once is stored
        first, then what is logged would depend on what was drawn. A retry goes on where
        the earlier try was cut short.

        Args:
            opportunity: What is asked.
            request_id: What the ids of further decisions are made from.

        Raises:
            StoreUnavailableError: If others always were faster; the same call may be
                sent again.
        """
        root, first_id = root_of(opportunity.decision_id), opportunity.decision_id
        answers: list[Answer] = []
        asked = opportunity
        while True:
            answer = await self._decide_one(asked, first_id)
            answers.append(answer)
            decision = answer.verdict.decision
            # A retry goes on with what the first try asked, whatever it asks itself.
            stored = decision.opportunity
            kept = stored.decision_id != asked.decision_id
            if kept or decision.chosen == NO_OFFER or len(answers) >= stored.most:
                return answers
            action = answer.catalogue.actions[decision.chosen]
            asked = msgspec.structs.replace(
                stored,
                decision_id=decision_id(
                    root, opportunity.user_id, request_id, len(answers)
                ),
                at_ms=opportunity.at_ms,
                earlier=(*asked.earlier, (action.offer_id, action.placement_id)),
            )

    async def resume(self, first_id: str, request_id: str, at_ms: int) -> list[Answer]:
        """Answer a retry by what the first try asked; with nothing, if there was none.

        Args:
            first_id: The id of the first decision of the request.
            request_id: The request.
            at_ms: The time.
        """
        stored = await self._store.decisions(first_id)
        if not stored or stored[0].opportunity.decision_id != first_id:
            return await self.recall(stored)
        asked = msgspec.structs.replace(stored[0].opportunity, at_ms=at_ms)
        return await self.decide(asked, request_id)

    async def recall(self, decisions: Sequence[Decision]) -> list[Answer]:
        """Find again what an earlier try of the same request was answered."""
        answers: list[Answer] = []
        for decision in decisions:
            catalogue = await self._current.catalogue_of(decision)
            _, rejections = eligible(decision.opportunity, catalogue, past_of(decision))
            answers.append(Answer(Verdict(decision, rejections), catalogue))
        return answers

    async def standing(self, decision: Decision, at_ms: int) -> Ruling | None:
        """Say why a decided offer may not be shown any more; none where it may.

        That it cannot be had goes before that it had better not be shown now.

        Args:
            decision: A decision for an offer.
            at_ms: The time.
        """
        if at_ms >= decision.valid_until_ms:
            return Ruling("EXPIRED")
        opportunity = decision.opportunity
        seen = await self._store.past(
            root_of(opportunity.decision_id),
            opportunity.user_id,
            account=bool(opportunity.account_id),
        )
        histories = _histories(seen)
        gone = (await self.gone(decision, at_ms))(Histories(*histories))
        if gone is not None:
            return gone
        past = Past(*histories, self._current.conditions())
        now = await self._now(decision, at_ms)
        return standing(now, self._current.catalogue, past, seen=False)

    async def gone(
        self, decision: Decision, at_ms: int
    ) -> Callable[[Histories], Ruling | None]:
        """Return what says of a past why a decided offer cannot be had at a time.

        Args:
            decision: A decision for an offer.
            at_ms: The time.
        """
        now = await self._now(decision, at_ms)
        catalogue, conditions = self._current.catalogue, self._current.conditions()

        def why(histories: Histories) -> Ruling | None:
            account = histories.account
            past = Past(
                histories.user, NO_HISTORY if account is None else account, conditions
            )
            return standing(now, catalogue, past, seen=True)

        return why

    async def _decide_one(self, opportunity: Opportunity, first_id: str) -> Answer:
        """Decide until no other request has changed the past meanwhile."""
        root = root_of(opportunity.decision_id)
        account = bool(opportunity.account_id)
        call_id = first_id if opportunity.earlier else ""
        alone = opportunity.most == 1 and not opportunity.earlier
        for _ in range(_ROUNDS_MAX):
            seen = await self._store.past(root, opportunity.user_id, account=account)
            if alone and seen.user.history.stuck:
                kept = await self._again(opportunity, seen)
                if kept is not None:
                    return kept
            catalogue = self._current.catalogue
            exhausted = await self._prepare(opportunity, catalogue, seen)
            # From here to where it waits to be stored the loop does not turn, so that
            # the order of calls does not depend on what they draw.
            verdict = decide(
                opportunity,
                catalogue=catalogue,
                past=Past(*_histories(seen), self._current.conditions(exhausted)),
                policy=self._current.policy_for(root),
            )
            stored = await self._commit(verdict.decision, call_id, seen, catalogue)
            if stored is verdict.decision:
                _tell(verdict, catalogue)
                return Answer(verdict, catalogue)
            if stored is not None:
                (answer,) = await self.recall([stored])
                return answer
            telemetry.CONFLICTS.inc()
        raise StoreUnavailableError(_RETRY_AFTER_S)

    async def _commit(
        self, decision: Decision, call_id: str, seen: StoredPast, catalogue: Catalogue
    ) -> Decision | None:
        """Store a decision with what it takes of supplies, or nothing."""
        holds: list[Hold] = []
        stored: Decision | None = None
        try:
            for need in _needs_of(decision, catalogue):
                holds.append(  # noqa: PERF401 - those before one that fails are undone
                    self._supplies.take(
                        need.name,
                        need.amount,
                        decision_id=need.decision_id,
                        until_ms=need.until_ms,
                    )
                )
            stored = await self._store.commit(
                decision,
                call_id=call_id,
                seen=seen,
                after=_reserved(seen, decision, catalogue),
                holds=holds,
            )
        except LeaseLostError as error:
            self._supplies.forget(error.lease_ids)
        # Who is cancelled, or told that the store is not available, undoes nothing: it
        # may be stored yet. What it was not stored with is free when the lease ends.
        if stored is not decision:
            for hold in holds:
                self._supplies.undo(hold)
        return stored

    async def _prepare(
        self,
        opportunity: Opportunity,
        catalogue: Catalogue,
        seen: StoredPast,
    ) -> frozenset[str]:
        """Make sure of what eligible offers need, and say of what there is none left.

        It is done before anything is drawn, so that what is drawn has no part in it.
        """
        if not catalogue.supplied:
            return frozenset()
        past = Past(*_histories(seen), self._current.conditions())
        actions, _ = eligible(opportunity, catalogue, past)
        # Where what is eligible turns out to be used up, the fallbacks are left.
        fallbacks = [
            action
            for placement_id in opportunity.placements
            if placement_id in catalogue.placements
            for action in catalogue.placements[placement_id].fallback
        ]
        day = _day(opportunity.at_ms)
        return await self._short([*actions, *fallbacks], catalogue, day)

    async def _short(
        self, actions: Sequence[Action], catalogue: Catalogue, day: str
    ) -> frozenset[str]:
        """Say what is exhausted: of each supply as little as can be.

        Where there is not enough for the dearest offer, the dearest ones are left out,
        one after the other.
        """
        limits, amounts = _needs(actions, catalogue, day)
        exhausted: dict[str, str] = {}
        while True:
            # All of them at once and again, for what was secured before the loop
            # turned others may have taken.
            gone = await self._supplies.prepare(
                {name: (limits[name], some[-1]) for name, some in amounts.items()}
            )
            if not gone:
                return frozenset(exhausted.values())
            for name in gone:
                dearest = amounts[name][-1]
                payable = [amount for amount in amounts.pop(name) if amount < dearest]
                exhausted[name] = f"{name}>{payable[-1]}" if payable else name
                if payable:
                    amounts[name] = payable

    async def _again(self, opportunity: Opportunity, seen: StoredPast) -> Answer | None:
        """Return what the request was answered with, or what a placement keeps to."""
        stored = await self._store.decisions(opportunity.decision_id)
        if stored:
            return (await self.recall(stored[:1]))[0]
        return await self._sticky(opportunity, seen)

    async def _sticky(
        self, opportunity: Opportunity, seen: StoredPast
    ) -> Answer | None:
        """Return the decision that a placement keeps to, if it still stands.

        It is for this request too: a retry is answered with it again.
        """
        for stuck in seen.user.history.stuck:
            if stuck.placement_id not in opportunity.placements:
                continue
            if stuck.until_ms <= opportunity.at_ms:
                continue
            decision = await self._store.decision(stuck.decision_id)
            if decision is None or not await self._keeps(opportunity, decision, seen):
                continue
            stored = await self._store.answer(
                opportunity.decision_id, stuck.decision_id
            )
            return (await self.recall([stored]))[0]
        return None

    async def _keeps(
        self, opportunity: Opportunity, decision: Decision, seen: StoredPast
    ) -> bool:
        """Say whether an earlier decision answers what is asked now."""
        now = await self._now(decision, opportunity.at_ms)
        if opportunity.offers and now.offers[0] not in opportunity.offers:
            return False
        asked = msgspec.structs.replace(now, context=opportunity.context)
        past = Past(*_histories(seen), self._current.conditions())
        return standing(asked, self._current.catalogue, past, seen=False) is None

    async def _now(self, decision: Decision, at_ms: int) -> Opportunity:
        """Return what a decision for an offer was asked, at another time."""
        catalogue = await self._current.catalogue_of(decision)
        action = catalogue.actions[decision.chosen]
        return msgspec.structs.replace(
            decision.opportunity,
            at_ms=at_ms,
            offers=(action.offer_id,),
            placements=(action.placement_id,),
            earlier=(),
        )


def _needs(
    actions: Sequence[Action], catalogue: Catalogue, day: str
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return how much there is of each supply, and what offers take, ascending."""
    limits: dict[str, int] = {}
    amounts: dict[str, list[int]] = {}
    for action in {action.offer_id: action for action in actions}.values():
        for name, (limit, amount) in catalogue.needs([action], day).items():
            limits[name] = limit
            amounts.setdefault(name, []).append(amount)
    return limits, {name: sorted(taken) for name, taken in amounts.items()}


def _histories(seen: StoredPast) -> tuple[History, History]:
    account = NO_HISTORY if seen.account is None else seen.account.history
    return seen.user.history, account


def _needs_of(decision: Decision, catalogue: Catalogue) -> list[_Need]:
    if decision.chosen == NO_OFFER:
        return []
    opportunity = decision.opportunity
    needs = catalogue.needs(
        [catalogue.actions[decision.chosen]], _day(opportunity.at_ms)
    )
    until_ms = decision.valid_until_ms + int(catalogue.spec.report_grace)
    return [
        _Need(name, amount, opportunity.decision_id, until_ms)
        for name, (_, amount) in needs.items()
    ]


def _reserved(
    seen: StoredPast, decision: Decision, catalogue: Catalogue
) -> Histories | None:
    """Return the histories with what a decision reserves; nothing where silent."""
    if decision.chosen == NO_OFFER:
        return None
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory = catalogue.memory
    user, account = _histories(seen)
    return Histories(
        reserve(user, chosen, decision, memory),
        reserve(account, chosen, decision, memory, account=True)
        if decision.opportunity.account_id
        else None,
    )


def _day(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC).date().isoformat()


def _tell(verdict: Verdict, catalogue: Catalogue) -> None:
    decision = verdict.decision
    if decision.chosen != NO_OFFER:
        _OFFERED.inc()
        if catalogue.offers[catalogue.actions[decision.chosen].offer_id].critical:
            telemetry.OVERRIDES.inc()
    else:
        reason = silence(decision, verdict.rejections).reason
        telemetry.DECISIONS.labels(reason).inc()
    if len(decision.actions) > 1:
        entropy = selection_entropy(decision.probabilities)
        telemetry.SELECTION_ENTROPY.observe(entropy)
    if unknown_features(decision.opportunity.context, catalogue.features):
        telemetry.UNKNOWN_FEATURES.inc()
