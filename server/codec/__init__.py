"""Translates between the wire's messages and the nouns of `policies`.

What comes in is checked here, once, and every wrong field is named in one error;
what is past this point can be relied on.
"""

from __future__ import annotations

from server.codec.decisions import (
    check_to_proto,
    decision_to_proto,
    explanation_to_proto,
    named_decision_from_proto,
    offer_state,
)
from server.codec.histories import user_to_proto
from server.codec.opportunity import (
    decision_id_of,
    opportunities_from_proto,
    opportunity_from_proto,
)
from server.codec.outcomes import (
    decision_id_from_proto,
    outcomes_from_proto,
    results_to_proto,
)
from server.codec.users import (
    notice_from_proto,
    notice_to_proto,
    whose_from_proto,
)

__all__ = [
    "check_to_proto",
    "decision_id_from_proto",
    "decision_id_of",
    "decision_to_proto",
    "explanation_to_proto",
    "named_decision_from_proto",
    "notice_from_proto",
    "notice_to_proto",
    "offer_state",
    "opportunities_from_proto",
    "opportunity_from_proto",
    "outcomes_from_proto",
    "results_to_proto",
    "user_to_proto",
    "whose_from_proto",
]
