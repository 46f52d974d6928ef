"""What the log cannot tell has no number in a report, whoever wrote the result."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from policies.overlap import Verdict

__all__ = ["withheld"]

T = TypeVar("T", bound=msgspec.Struct)

_NUMBERS = {
    *("value", "low", "high", "standard_error", "error"),
    *("difference", "difference_low", "difference_high"),
}


def withheld(found: T, verdict: Verdict | str) -> T:
    """Return a number with its interval; without them where it is unusable."""
    if verdict != "unusable":
        return found
    names = _NUMBERS.intersection(found.__struct_fields__)
    return msgspec.structs.replace(found, **dict.fromkeys(names))
