"""The decision service: translate, load, decide, commit, answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import grpc.aio

from opportune.v1 import decision_service_pb2
from opportune.v1.decision_service_pb2_grpc import DecisionServiceServicer
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Verdict, decide, eligible, silence
from policies.errors import InvalidRequestError, NotFoundError
from policies.features import unknown_features
from policies.history import reserve
from policies.identity import is_decision_id, root_of
from policies.model import NO_OFFER, Decision, Opportunity
from policies.policy import Policy
from server import codec, telemetry
from server.stores.base import ServingStore

__all__ = ["DecisionService", "system_clock"]

_GET_OFFER = telemetry.SECONDS.labels("GetOffer")
_REPORT_OUTCOME = telemetry.SECONDS.labels("ReportOutcome")
_OFFERED = telemetry.DECISIONS.labels("OFFER")


def system_clock() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class DecisionService(DecisionServiceServicer):
    """Serves decisions of one tenant from one store.

    Attributes:
        catalogue: What is offered now.
        policy: What decides now; a newer one may take its place between two requests.
    """

    def __init__(
        self,
        store: ServingStore,
        catalogue: Catalogue,
        policy: Policy,
        *,
        tenant: str,
        clock: Callable[[], int] = system_clock,
    ) -> None:
        self.catalogue = catalogue
        self.policy = policy
        self._store = store
        self._tenant = tenant
        self._clock = clock
        self._compiled = lru_cache(maxsize=8)(catalogues.read)

    async def GetOffer(
        self,
        request: decision_service_pb2.GetOfferRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> decision_service_pb2.GetOfferResponse:
        """Choose an offer or silence, and store the choice before answering."""
        del context  # Errors are raised, and become statuses in server.status.
        with _GET_OFFER.time():
            try:
                opportunity = codec.opportunity_from_proto(
                    request,
                    request_id=request.request_id or uuid.uuid4().hex,
                    tenant=self._tenant,
                    at_ms=self._clock(),
                    catalogue=self.catalogue,
                )
            except InvalidRequestError:
                # A retry is answered whatever the catalogue has become meanwhile.
                decision_id = codec.decision_id_of(
                    request, request.request_id, self._tenant
                )
                stored = await self._store.decision(decision_id)
                if stored is None:
                    raise
                verdict, catalogue = await self._recall(stored)
            else:
                verdict, catalogue = await self._decide(opportunity)
            message = codec.decision_to_proto(*verdict, catalogue, request.view)
            return decision_service_pb2.GetOfferResponse(decisions=[message])

    async def ReportOutcome(
        self,
        request: decision_service_pb2.ReportOutcomeRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> decision_service_pb2.ReportOutcomeResponse:
        """Store what a user did about a decision, on disk before answering."""
        del context
        with _REPORT_OUTCOME.time():
            decision = await self._find(codec.decision_id_from_proto(request))
            at_ms = self._clock()
            catalogue = await self._catalogue_of(decision)
            outcomes = codec.outcomes_from_proto(
                request, decision=decision, at_ms=at_ms, currency=catalogue.currency
            )
            offer = None
            if decision.chosen != NO_OFFER:
                action = catalogue.actions[decision.chosen]
                offer = (action.offer_id, action.placement_id)
            fresh = await self._store.report(decision, offer, outcomes)
            for outcome, new in zip(outcomes, fresh, strict=True):
                if new:
                    telemetry.OUTCOMES.labels(outcome.kind).inc()
            return codec.results_to_proto(
                outcomes,
                fresh,
                None if offer is None else offer[0],
                at_ms=at_ms,
                catalogue=self.catalogue,
            )

    async def _decide(self, opportunity: Opportunity) -> tuple[Verdict, Catalogue]:
        """Decide until no other request has changed the history meanwhile."""
        root = root_of(opportunity.decision_id)
        while True:
            catalogue = self.catalogue
            version, history = await self._store.history(root, opportunity.user_id)
            verdict = decide(
                opportunity, catalogue=catalogue, history=history, policy=self.policy
            )
            decision = verdict.decision
            after = None
            if decision.chosen != NO_OFFER:
                action = catalogue.actions[decision.chosen]
                after = reserve(
                    history,
                    action.offer_id,
                    action.placement_id,
                    decision,
                    grace_ms=catalogue.report_grace_ms,
                )
            stored = await self._store.commit(decision, version=version, after=after)
            if stored is decision:
                _count(verdict, catalogue)
                return verdict, catalogue
            if stored is not None:
                return await self._recall(stored)
            telemetry.CONFLICTS.inc()

    async def _recall(self, decision: Decision) -> tuple[Verdict, Catalogue]:
        """Find again what an earlier try of the same request was answered."""
        catalogue = await self._catalogue_of(decision)
        _, rejections = eligible(decision.opportunity, catalogue, decision.history)
        return Verdict(decision, rejections), catalogue

    async def _find(self, decision_id: str) -> Decision:
        decision = None
        if is_decision_id(decision_id):
            decision = await self._store.decision(decision_id)
        if decision is None:
            shown = decision_id if len(decision_id) <= 40 else decision_id[:40] + "…"
            raise NotFoundError("decision", shown)
        return decision

    async def _catalogue_of(self, decision: Decision) -> Catalogue:
        if decision.catalogue == self.catalogue.version:
            return self.catalogue
        text = await self._store.catalogue(decision.catalogue)
        if text is None:
            raise RuntimeError(f"the store lost catalogue {decision.catalogue}")
        # To compile a large one takes long enough for others to notice.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._compiled, text)


def _count(verdict: Verdict, catalogue: Catalogue) -> None:
    decision = verdict.decision
    if decision.chosen != NO_OFFER:
        _OFFERED.inc()
    else:
        reason = silence(decision, verdict.rejections).reason
        telemetry.DECISIONS.labels(reason).inc()
    if unknown_features(decision.opportunity.context, catalogue.features):
        telemetry.UNKNOWN_FEATURES.inc()
