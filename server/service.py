"""The decision service: translate, decide, report, explain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from opportune.v1 import decision_pb2
from opportune.v1 import decision_service_pb2 as pb
from opportune.v1.decision_service_pb2_grpc import DecisionServiceServicer
from policies.engine import Refusal, explain, message_of
from policies.errors import InvalidRequestError, NotFoundError
from policies.gates import Ruling
from policies.identity import is_decision_id, root_key, root_of
from policies.model import NO_OFFER, Decision
from server import codec, telemetry
from server.current import Current
from server.deciding import Answer, Decider
from server.guarding import Guarding
from server.reporting import Report, fold_of
from server.settings import GuardSettings
from server.stores.base import Histories, ServingStore

__all__ = ["DecisionService"]

_GET_OFFER = telemetry.SECONDS.labels("GetOffer")
_BATCH_GET_OFFERS = telemetry.SECONDS.labels("BatchGetOffers")
_REPORT_OUTCOME = telemetry.SECONDS.labels("ReportOutcome")


class DecisionService(DecisionServiceServicer):
    """Serves decisions of one tenant from one store.

    Args:
        store: Where decisions and outcomes are.
        decider: What makes decisions.
        current: What is offered now.
        tenant: Whose users these are.
        clock: Returns the time in milliseconds since 1970.
        guard: What is let in of what requests say.
    """

    def __init__(
        self,
        store: ServingStore,
        decider: Decider,
        current: Current,
        *,
        tenant: str,
        clock: Callable[[], int],
        guard: GuardSettings,
    ) -> None:
        self._store = store
        self._decider = decider
        self._current = current
        self._tenant = tenant
        self._clock = clock
        self._guarding = Guarding(guard)

    async def GetOffer(
        self,
        request: pb.GetOfferRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.GetOfferResponse:
        """Choose offers or silence, and store the choice before answering."""
        del context  # Errors are raised, and become statuses in server.status.
        with _GET_OFFER.time():
            request_id = request.request_id or uuid.uuid4().hex
            try:
                opportunity = codec.opportunity_from_proto(
                    request,
                    request_id=request_id,
                    tenant=self._tenant,
                    at_ms=self._clock(),
                    catalogue=self._current.catalogue,
                )
                features = self._current.catalogue.features
                opportunity = self._guarding.admit(opportunity, features)
            except InvalidRequestError:
                # A retry is answered whatever the catalogue has become meanwhile.
                answers = await self._earlier(request, request_id)
                if not answers:
                    raise
            else:
                answers = await self._decider.decide(opportunity, request_id)
            return await self._response(answers, request)

    async def BatchGetOffers(
        self,
        request: pb.BatchGetOffersRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.BatchGetOffersResponse:
        """Choose for each request in turn, so that what one reserves binds the next."""
        del context
        with _BATCH_GET_OFFERS.time():
            request_ids = [
                each.request_id or uuid.uuid4().hex for each in request.requests
            ]
            try:
                opportunities = codec.opportunities_from_proto(
                    request,
                    request_ids=request_ids,
                    tenant=self._tenant,
                    at_ms=self._clock(),
                    catalogue=self._current.catalogue,
                )
                features = self._current.catalogue.features
                opportunities = [
                    self._guarding.admit(each, features, f"requests[{at}].")
                    for at, each in enumerate(opportunities)
                ]
            except InvalidRequestError:
                # As with GetOffer: a retry is answered whatever is offered by now.
                batch = await self._all_earlier(request, request_ids)
                if not batch:
                    raise
            else:
                batch = [
                    await self._decider.decide(opportunity, request_id)
                    for opportunity, request_id in zip(
                        opportunities, request_ids, strict=True
                    )
                ]
            pairs = zip(batch, request.requests, strict=True)
            return pb.BatchGetOffersResponse(
                responses=[await self._response(*pair) for pair in pairs]
            )

    async def ReportOutcome(
        self,
        request: pb.ReportOutcomeRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.ReportOutcomeResponse:
        """Store what a user did about a decision, on disk before answering."""
        del context
        with _REPORT_OUTCOME.time():
            decision = await self._find(codec.decision_id_from_proto(request))
            at_ms = self._clock()
            catalogue = await self._current.catalogue_of(decision)
            outcomes = codec.outcomes_from_proto(
                request, decision=decision, at_ms=at_ms, currency=catalogue.currency
            )
            report = Report(decision, catalogue)
            gone = await self._gone(decision, at_ms)
            reported = await self._store.report(
                decision,
                outcomes,
                fold_of(report, self._current.catalogue.memory, gone),
                account=bool(decision.opportunity.account_id),
            )
            for outcome, new in zip(outcomes, reported.fresh, strict=True):
                if new:
                    telemetry.OUTCOMES.labels(outcome.kind).inc()
            why = gone(reported.before)
            state = codec.offer_state(
                offered=decision.chosen != NO_OFFER,
                why=report.why_gone(why, reported.known, outcomes),
                lapsed=reported.kept is False,
            )
            return codec.results_to_proto(outcomes, reported.fresh, state)

    async def CheckDecision(
        self,
        request: pb.CheckDecisionRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.CheckDecisionResponse:
        """Say whether what was decided may still be shown."""
        del context
        decision = await self._find(codec.named_decision_from_proto(request))
        if decision.chosen == NO_OFFER:
            return codec.check_to_proto(offered=False, why=None)
        why = await self._decider.standing(decision, self._clock())
        return codec.check_to_proto(offered=True, why=why)

    async def ExplainDecision(
        self,
        request: pb.ExplainDecisionRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> decision_pb2.Explanation:
        """Say why a decision was as it was, by making it again."""
        del context
        decision = await self._find(codec.named_decision_from_proto(request))
        (answer,) = await self._decider.recall([decision])
        # To ask every gate about every action, and to write it down, is too much for
        # the event loop.
        return await asyncio.get_running_loop().run_in_executor(
            None, _explanation, answer
        )

    async def _earlier(
        self, request: pb.GetOfferRequest, request_id: str
    ) -> list[Answer]:
        first_id = codec.decision_id_of(request, request_id, self._tenant)
        return await self._decider.resume(first_id, request_id, self._clock())

    async def _all_earlier(
        self, request: pb.BatchGetOffersRequest, request_ids: list[str]
    ) -> list[list[Answer]]:
        """Return the answers of an earlier try; nothing where one was not decided."""
        batch: list[list[Answer]] = []
        for each, request_id in zip(request.requests, request_ids, strict=True):
            answers = await self._earlier(each, request_id)
            if not answers:
                return []
            batch.append(answers)
        return batch

    async def _response(
        self, answers: list[Answer], request: pb.GetOfferRequest
    ) -> pb.GetOfferResponse:
        if request.view != decision_pb2.DECISION_VIEW_FULL:
            written = [_written(answer, request.view) for answer in answers]
        else:
            loop = asyncio.get_running_loop()
            written = [
                await loop.run_in_executor(None, _written_in_full, answer)
                for answer in answers
            ]
        return pb.GetOfferResponse(decisions=written)

    async def _gone(
        self, decision: Decision, at_ms: int
    ) -> Callable[[Histories], Ruling | None]:
        if decision.chosen == NO_OFFER:
            return lambda _: None
        return await self._decider.gone(decision, at_ms)

    def _is_ours(self, decision: Decision) -> bool:
        """Say whether it is a decision of this tenant; others may share the store."""
        asked = decision.opportunity
        root = root_key(self._tenant, asked.account_id, asked.user_id)
        return root_of(asked.decision_id) == root

    async def _find(self, decision_id: str) -> Decision:
        decision = None
        if is_decision_id(decision_id):
            decision = await self._store.decision(decision_id)
        if decision is None or not self._is_ours(decision):
            shown = decision_id if len(decision_id) <= 40 else decision_id[:40] + "…"
            raise NotFoundError("decision", shown)
        return decision


def _written(
    answer: Answer,
    view: decision_pb2.DecisionView.ValueType,
    refusals: Sequence[Refusal] | None = None,
) -> decision_pb2.Decision:
    decision, rejections = answer.verdict
    return codec.decision_to_proto(
        decision,
        rejections,
        answer.catalogue,
        view,
        message=message_of(decision, answer.catalogue),
        refusals=refusals,
    )


def _written_in_full(answer: Answer) -> decision_pb2.Decision:
    refusals = explain(answer.verdict.decision, answer.catalogue).refusals
    return _written(answer, decision_pb2.DECISION_VIEW_FULL, refusals)


def _explanation(answer: Answer) -> decision_pb2.Explanation:
    decision, rejections = answer.verdict
    return codec.explanation_to_proto(
        explain(decision, answer.catalogue),
        rejections,
        answer.catalogue,
        message_of(decision, answer.catalogue),
    )
