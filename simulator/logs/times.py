"""Reads times as they stand in logs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["all_ms_of", "day_of", "ms_of", "text_of"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_SECONDS_MAX = 100_000_000_000  # In the year 5138; as milliseconds, in 1973.


def ms_of(text: str) -> int:
    """Return a time in Unix ms: of ISO 8601, UTC where no zone is said, or a number.

    A number below 1e11 counts seconds, else milliseconds.

    Raises:
        ValueError: If it is none.

    Examples:
        >>> ms_of("2019-11-24 00:00:22.199+00:00"), ms_of("1574553622.199")
        (1574553622199, 1574553622199)
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        number = _number(text)
        return int(number * 1_000 if abs(number) < _SECONDS_MAX else number)
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return (time - _EPOCH) // _MILLISECOND


def all_ms_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return many times in Unix ms; 0 for those that are empty.

    Raises:
        ValueError: If one is none; the message does not say which.

    Examples:
        >>> all_ms_of(["2019-11-24T00:00:22.1999Z", ""]).tolist()
        [1574553622199, 0]
    """
    if all(text[-1:] == "Z" for text in texts):
        # As fast as it gets, for the one form that nearly all logs have.
        times = np.array([text[:-1] for text in texts], "datetime64[ms]")
        if not np.isnat(times).any():
            return times.astype(np.int64)
    return np.array([ms_of(text) if text else 0 for text in texts], np.int64)


def text_of(time_ms: int) -> str:
    """Return a time as ISO 8601.

    Examples:
        >>> text_of(1574553622199)
        '2019-11-24T00:00:22.199+00:00'
    """
    time = dt.datetime.fromtimestamp(time_ms / 1_000, dt.UTC)
    return time.isoformat(timespec="milliseconds")


def day_of(time_ms: int) -> str:
    """Return the day of a time, UTC; `unknown` for 0.

    Examples:
        >>> day_of(1574553622199), day_of(0)
        ('2019-11-24', 'unknown')
    """
    if not time_ms:
        return "unknown"
    return dt.datetime.fromtimestamp(time_ms // 1_000, dt.UTC).date().isoformat()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a time of ISO 8601, not {text!r}") from None
