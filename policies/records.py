"""The log's format: decisions and histories as JSON that a person can read."""

from __future__ import annotations

import msgspec

from policies.model import Decision, History, Outcome

__all__ = [
    "decode_decision",
    "decode_history",
    "decode_outcome",
    "encode",
]

_encoder = msgspec.json.Encoder()
_decision = msgspec.json.Decoder(Decision)
_history = msgspec.json.Decoder(History)
_outcome = msgspec.json.Decoder(Outcome)


def encode(noun: Decision | History | Outcome) -> str:
    """Write a noun as JSON, without what is at its default."""
    return _encoder.encode(noun).decode()


def decode_decision(text: str) -> Decision:
    """Read a decision.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    return _decision.decode(text)


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
