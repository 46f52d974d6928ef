"""The contract of Opportune, version 1: messages and the client's stub."""

from __future__ import annotations

from opportune.v1.context_pb2 import Context, FeatureValue, Moment, Usage
from opportune.v1.decision_pb2 import (
    DECISION_VIEW_BASIC,
    DECISION_VIEW_FULL,
    Candidate,
    Decision,
    DecisionView,
    Reason,
    Rejection,
)
from opportune.v1.decision_service_pb2 import (
    GetOfferRequest,
    GetOfferResponse,
    ReportOutcomeRequest,
    ReportOutcomeResponse,
)
from opportune.v1.decision_service_pb2_grpc import DecisionServiceStub
from opportune.v1.outcome_pb2 import (
    Money,
    OfferState,
    Outcome,
    OutcomeKind,
    OutcomeResult,
)

__all__ = [
    "DECISION_VIEW_BASIC",
    "DECISION_VIEW_FULL",
    "Candidate",
    "Context",
    "Decision",
    "DecisionServiceStub",
    "DecisionView",
    "FeatureValue",
    "GetOfferRequest",
    "GetOfferResponse",
    "Moment",
    "Money",
    "OfferState",
    "Outcome",
    "OutcomeKind",
    "OutcomeResult",
    "Reason",
    "Rejection",
    "ReportOutcomeRequest",
    "ReportOutcomeResponse",
    "Usage",
]
