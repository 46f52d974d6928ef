"""The log's format: decisions and histories as JSON that a person can read.

A noun is written under its own names, without what is at its default. Only the
eligible actions are written shorter: catalogue indices that follow each other as one
pair, the first and how many.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policies.model import NO_HISTORY, Decision, History, Opportunity, Outcome

__all__ = [
    "DecisionRecord",
    "decode_decision",
    "decode_history",
    "decode_outcome",
    "encode",
    "encode_decision",
]


class DecisionRecord(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A decision as it is written: with all that is needed to make it again.

    Attributes:
        opportunity: What was asked.
        catalogue: The version of the catalogue.
        policy: The version of the policy.
        model: How far in which training stream the model had learned, as
            `epoch.position`.
        actions: The eligible actions, no offer first: pairs of a catalogue index and
            how many indices in a row begin with it.
        probabilities: The chance of each of them, in billionths, together one.
        chosen: The catalogue index of the action that was drawn.
        valid_until_ms: Until when the choice may be shown.
        history: What was known of the user's past, before this decision.
    """

    opportunity: Opportunity
    catalogue: str
    policy: str
    model: str
    actions: tuple[tuple[int, int], ...]
    probabilities: tuple[int, ...]
    chosen: int
    valid_until_ms: int
    history: History = NO_HISTORY


_encoder = msgspec.json.Encoder()
_decision = msgspec.json.Decoder(DecisionRecord)
_history = msgspec.json.Decoder(History)
_outcome = msgspec.json.Decoder(Outcome)


def encode_decision(decision: Decision) -> str:
    """Write a decision."""
    record = DecisionRecord(
        opportunity=decision.opportunity,
        catalogue=decision.catalogue,
        policy=decision.policy,
        model=decision.model,
        actions=tuple(_runs(decision.actions)),
        probabilities=decision.probabilities,
        chosen=decision.chosen,
        valid_until_ms=decision.valid_until_ms,
        history=decision.history,
    )
    return _encoder.encode(record).decode()


def decode_decision(text: str) -> Decision:
    """Read a decision.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    record = _decision.decode(text)
    if sum(count for _, count in record.actions) != len(record.probabilities):
        raise msgspec.ValidationError("there must be a probability for each action")
    return Decision(
        opportunity=record.opportunity,
        catalogue=record.catalogue,
        policy=record.policy,
        model=record.model,
        actions=tuple(
            [
                at
                for first, count in record.actions
                for at in range(first, first + count)
            ]
        ),
        probabilities=record.probabilities,
        chosen=record.chosen,
        valid_until_ms=record.valid_until_ms,
        history=record.history,
    )


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return the runs of indices that follow each other.

    Examples:
        >>> _runs([0, 1, 2, 7])
        [(0, 3), (7, 1)]
    """
    runs: list[tuple[int, int]] = []
    first = after = -1
    for index in indices:
        if index != after:
            if after > first:
                runs.append((first, after - first))
            first = index
        after = index + 1
    runs.append((first, after - first))
    return runs


def encode(noun: History | Outcome) -> str:
    """Write a history or an outcome."""
    return _encoder.encode(noun).decode()


def decode_history(text: str) -> History:
    """Read a history.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    return _history.decode(text)


def decode_outcome(text: str) -> Outcome:
    """Read an outcome.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    return _outcome.decode(text)
