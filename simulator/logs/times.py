"""Reads times as they stand in logs."""

from __future__ import annotations

import datetime as dt

__all__ = ["day_of", "ms_of", "text_of"]

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
        return round(number * 1_000 if abs(number) < _SECONDS_MAX else number)
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return round(time.timestamp() * 1_000)


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
