"""From an opportunity to stored decisions: load, decide, commit, again if need be."""

from __future__ import annotations

import asyncio
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


class _Drawn(NamedTuple):
    """A call that is decided and not stored yet."""

    verdicts: list[Verdict]
    after: Histories | None
    needs: list[_Need]


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

    async def decide(
        self, opportunity: Opportunity, request_id: str, most: int
    ) -> list[Answer]:
        """Decide until no other request has changed the past meanwhile.

        Args:
            opportunity: What is asked.
            request_id: What the ids of further decisions are made from.
            most: How many offers to choose at the most.

        Raises:
            StoreUnavailableError: If others always were faster; the same call may be
                sent again.
        """
        root = root_of(opportunity.decision_id)
        account = bool(opportunity.account_id)
        for _ in range(_ROUNDS_MAX):
            seen = await self._store.past(root, opportunity.user_id, account=account)
            if most == 1 and seen.user.history.stuck:
                kept = await self._again(opportunity, seen)
                if kept is not None:
                    return kept
            catalogue = self._current.catalogue
            exhausted = await self._prepare(opportunity, catalogue, seen, most)
            drawn = await self._draw(
                opportunity,
                request_id,
                most,
                catalogue,
                Past(*_histories(seen), self._current.conditions(exhausted)),
            )
            decisions = [verdict.decision for verdict in drawn.verdicts]
            stored = await self._commit(decisions, seen, drawn)
            if stored is None:
                telemetry.CONFLICTS.inc()
                continue
            if stored[0] is decisions[0]:
                for verdict in drawn.verdicts:
                    _tell(verdict, catalogue)
                return [Answer(verdict, catalogue) for verdict in drawn.verdicts]
            return await self.recall(stored)
        raise StoreUnavailableError(_RETRY_AFTER_S)

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

    async def _draw(
        self,
        opportunity: Opportunity,
        request_id: str,
        most: int,
        catalogue: Catalogue,
        past: Past,
    ) -> _Drawn:
        """Decide one offer after the other, each on what the ones before reserve."""
        verdicts: list[Verdict] = []
        needs: list[_Need] = []
        day = _day(opportunity.at_ms)
        root = root_of(opportunity.decision_id)
        asked = opportunity
        while True:
            verdict = decide(
                asked, catalogue=catalogue, past=past, policy=self._current.policy
            )
            decision = verdict.decision
            verdicts.append(verdict)
            if decision.chosen == NO_OFFER:
                break
            action = catalogue.actions[decision.chosen]
            until_ms = decision.valid_until_ms + int(catalogue.spec.report_grace)
            needs += [
                _Need(name, amount, asked.decision_id, until_ms)
                for name, (_, amount) in catalogue.needs([action], day).items()
            ]
            past = _reserved(past, decision, catalogue)
            if len(verdicts) == most:
                break
            await asyncio.sleep(0)  # Others wait no longer than for one decision.
            asked = msgspec.structs.replace(
                opportunity,
                decision_id=decision_id(
                    root, opportunity.user_id, request_id, len(verdicts)
                ),
                earlier=(*asked.earlier, (action.offer_id, action.placement_id)),
            )
        after = None
        if verdicts[0].decision.chosen != NO_OFFER:
            account = past.account if opportunity.account_id else None
            after = Histories(past.history, account)
        return _Drawn(verdicts, after, needs)

    async def _commit(
        self, decisions: list[Decision], seen: StoredPast, drawn: _Drawn
    ) -> list[Decision] | None:
        """Store a call with what it takes of inventories and budgets, or nothing."""
        holds: list[Hold] = []
        stored: list[Decision] | None = None
        try:
            for need in drawn.needs:
                holds.append(  # noqa: PERF401 - those before one that fails are undone
                    self._supplies.take(
                        need.name,
                        need.amount,
                        decision_id=need.decision_id,
                        until_ms=need.until_ms,
                    )
                )
            stored = await self._store.commit(
                decisions, seen=seen, after=drawn.after, holds=holds
            )
        except LeaseLostError as error:
            self._supplies.forget(error.lease_ids)
        finally:
            if stored is None or stored[0] is not decisions[0]:
                for hold in holds:
                    self._supplies.undo(hold)
        return stored

    async def _prepare(
        self,
        opportunity: Opportunity,
        catalogue: Catalogue,
        seen: StoredPast,
        most: int,
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
        return await self._short([*actions, *fallbacks], catalogue, day, most)

    async def _short(
        self, actions: Sequence[Action], catalogue: Catalogue, day: str, most: int
    ) -> frozenset[str]:
        """Say what is exhausted: of each supply as little as can be.

        No offer is chosen twice: of a supply a call takes at most what the dearest of
        as many offers take together. Where there is not so much, the dearest ones are
        left out, one after the other.
        """
        limits, amounts = _needs(actions, catalogue, day)
        exhausted: set[str] = set()
        asked = set(limits)
        while asked:
            gone = await self._supplies.prepare(
                {name: (limits[name], sum(amounts[name][-most:])) for name in asked}
            )
            for name in gone:
                payable = [a for a in amounts[name] if a < amounts[name][-1]]
                amounts[name] = payable
                exhausted = {e for e in exhausted if e.partition(">")[0] != name}
                exhausted.add(f"{name}>{payable[-1]}" if payable else name)
            asked = {name for name in gone if amounts[name]}
        return frozenset(exhausted)

    async def _again(
        self, opportunity: Opportunity, seen: StoredPast
    ) -> list[Answer] | None:
        """Return what the request was answered with, or what a placement keeps to."""
        stored = await self._store.decisions(opportunity.decision_id)
        if stored:
            return await self.recall(stored)
        return await self._sticky(opportunity, seen)

    async def _sticky(
        self, opportunity: Opportunity, seen: StoredPast
    ) -> list[Answer] | None:
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
            return await self.recall(stored)
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


def _reserved(past: Past, decision: Decision, catalogue: Catalogue) -> Past:
    chosen = catalogue.chosen(catalogue.actions[decision.chosen])
    memory = catalogue.memory
    account = past.account
    if decision.opportunity.account_id:
        account = reserve(account, chosen, decision, memory, account=True)
    history = reserve(past.history, chosen, decision, memory)
    return past._replace(history=history, account=account)


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
    if unknown_features(decision.opportunity.context, catalogue.features):
        telemetry.UNKNOWN_FEATURES.inc()
