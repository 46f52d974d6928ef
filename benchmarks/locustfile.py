"""Users who come back, react to what they see, and hold the server to its promises.

`make load` runs it. Importing it makes locust and grpc use gevent in the whole
process, so nothing else imports it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import grpc.experimental.gevent
from gevent.pool import Group  # type: ignore[import-untyped]
from google.protobuf.timestamp_pb2 import Timestamp
from locust import User, between, task
from locust.env import Environment

from benchmarks.promises import MOMENT, OFFERS, PLACEMENT, Memory
from opportune.v1 import (
    Context,
    Decision,
    DecisionServiceStub,
    FeatureValue,
    GetOfferRequest,
    GetOfferResponse,
    Moment,
    Outcome,
    OutcomeKind,
    ReportOutcomeRequest,
)

__all__ = ["BrokenPromiseError", "Visitor"]

grpc.experimental.gevent.init_gevent()

_TIMEOUT_S = 10.0
_RETRIED = 0.1
_TABS_SHARE, _TABS = 0.1, 3
_LOST, _NOT_SHOWN = 0.1, 0.2
_REACTIONS = {
    OutcomeKind.OUTCOME_KIND_ACCEPTED: 0.1,
    OutcomeKind.OUTCOME_KIND_DISMISSED: 0.3,
    OutcomeKind.OUTCOME_KIND_IGNORED: 0.2,
    None: 0.4,
}


class BrokenPromiseError(Exception):
    """The server did what it had promised not to do."""


class Visitor(User):
    """One user, who remembers everything, over a connection of its own."""

    wait_time = between(0.05, 0.25)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._id = uuid.uuid4().hex
        self._memory = Memory(OFFERS)
        # It stays open: when locust stops a user, a tab of theirs may still wait.
        channel = grpc.insecure_channel(self.host or "")
        timed = grpc.intercept_channel(channel, _Timing(environment))
        self._stub = DecisionServiceStub(timed)

    @task
    def moment(self) -> None:
        """Reach a moment, now and then in several tabs at once, and react."""
        tabs = _TABS if random.random() < _TABS_SHARE else 1
        kind = MOMENT if random.random() < 0.5 else "visit"
        asked = [self._request(kind) for _ in range(tabs)]
        try:
            answers = Group().map(self._ask, asked)
            decisions = [answer.decisions[0] for answer in answers]
            self._check_decisions(decisions, kind)
            if random.random() < _RETRIED:
                self._check_retry(asked[0], answers[0])
            for decision in decisions:
                self._react(decision)
            if random.random() < _RETRIED:
                self._check_retry(asked[-1], answers[-1])
        except grpc.RpcError:
            return  # Counted as a failure where it was timed.

    def _request(self, kind: str) -> GetOfferRequest:
        age = FeatureValue(number=random.randrange(1_000))
        return GetOfferRequest(
            request_id=uuid.uuid4().hex,
            user_id=self._id,
            placement_ids=[PLACEMENT],
            context=Context(moment=Moment(kind=kind), features={"age_days": age}),
        )

    def _ask(self, request: GetOfferRequest) -> GetOfferResponse:
        return self._stub.GetOffer(request, timeout=_TIMEOUT_S)

    def _check_decisions(self, decisions: list[Decision], kind: str) -> None:
        """Hold what came at once to the promises, in the order of its times."""
        for decision in sorted(decisions, key=lambda d: d.decide_time.ToNanoseconds()):
            if not decision.offer_id:
                continue
            for broken in self._memory.decided(
                decision.decision_id,
                decision.offer_id,
                at_ms=decision.decide_time.ToMilliseconds(),
                until_ms=decision.valid_until.ToMilliseconds(),
                moment=kind,
            ):
                self._fail("decision", broken)

    def _check_retry(self, request: GetOfferRequest, answer: GetOfferResponse) -> None:
        if self._ask(request) != answer:
            self._fail("retry", f"{request.request_id}: answered differently")

    def _react(self, decision: Decision) -> None:
        """Do what users do, and let the product report it, or lose it."""
        luck = random.random()
        if luck < _LOST:
            return
        if luck < _NOT_SHOWN:
            self._report(decision, OutcomeKind.OUTCOME_KIND_NOT_SHOWN)
            if decision.offer_id:
                self._memory.not_shown(decision.decision_id)
            return
        at_ms = self._report(decision, OutcomeKind.OUTCOME_KIND_SHOWN)
        if not decision.offer_id:
            return
        self._memory.shown(decision.decision_id, at_ms=at_ms)
        (reaction,) = random.choices(list(_REACTIONS), list(_REACTIONS.values()))
        if reaction is None:
            return
        at_ms = self._report(decision, reaction)
        if reaction == OutcomeKind.OUTCOME_KIND_DISMISSED:
            self._memory.dismissed(decision.decision_id, at_ms=at_ms)

    def _report(self, decision: Decision, kind: OutcomeKind.ValueType) -> int:
        """Report an outcome, now and then twice; return its time."""
        at_ms = time.time_ns() // 1_000_000
        occurred = Timestamp()
        occurred.FromMilliseconds(at_ms)
        outcome = Outcome(outcome_id=str(kind), kind=kind, occur_time=occurred)
        request = ReportOutcomeRequest(
            decision_id=decision.decision_id, outcomes=[outcome]
        )
        self._stub.ReportOutcome(request, timeout=_TIMEOUT_S)
        if random.random() < _RETRIED:
            again = self._stub.ReportOutcome(request, timeout=_TIMEOUT_S)
            if not again.results[0].duplicate:
                self._fail("report", f"{decision.decision_id}: counted twice")
        return at_ms

    def _fail(self, promise: str, what: str) -> None:
        error = BrokenPromiseError(what)
        _tell(self.environment, "promise", promise, error=error)


class _Timing(grpc.UnaryUnaryClientInterceptor):
    """Tells locust how long each call took, and whether it failed."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Make the call."""
        started = time.perf_counter()
        call = continuation(client_call_details, request)
        error = call.exception()
        _tell(
            self._environment,
            "grpc",
            client_call_details.method.rpartition("/")[2],
            ms=(time.perf_counter() - started) * 1e3,
            size=0 if error else call.result().ByteSize(),
            error=error,
        )
        return call


def _tell(
    environment: Environment,
    kind: str,
    name: str,
    *,
    error: Exception | None,
    ms: float = 0.0,
    size: int = 0,
) -> None:
    environment.events.request.fire(  # type: ignore[no-untyped-call]
        request_type=kind,
        name=name,
        response_time=ms,
        response_length=size,
        exception=error,
        context={},
    )
