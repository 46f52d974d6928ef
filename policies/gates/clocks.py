"""What clocks show where users are, and when days, weeks and months begin there."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

__all__ = ["Calendar", "jump_ms", "offset_ms", "period"]

Calendar = Literal["day", "week", "month"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MS = dt.timedelta(milliseconds=1)
_DAY = dt.timedelta(days=1)


def offset_ms(at_ms: int, zone: ZoneInfo) -> int:
    """Return how many milliseconds clocks are ahead of UTC.

    Examples:
        >>> offset_ms(0, ZoneInfo("Europe/Berlin"))
        3600000
    """
    local = (_EPOCH + at_ms * _MS).astimezone(zone)
    return (local.utcoffset() or dt.timedelta()) // _MS


def jump_ms(from_ms: int, to_ms: int, zone: ZoneInfo) -> int:
    """Return the later time or, if clocks are put before, when they first show so.

    Args:
        from_ms: The earlier time.
        to_ms: The later time, less than a day after it.
        zone: Where the clocks are.
    """
    offset = offset_ms(from_ms, zone)
    if offset_ms(to_ms, zone) == offset:
        return to_ms
    while to_ms - from_ms > 1:
        middle_ms = (from_ms + to_ms) // 2
        if offset_ms(middle_ms, zone) == offset:
            from_ms = middle_ms
        else:
            to_ms = middle_ms
    return to_ms


def period(at_ms: int, calendar: Calendar, zone: ZoneInfo) -> tuple[int, int]:
    """Return when the day, week or month that a moment is in begins and ends.

    A week begins on Monday. Where a midnight comes twice, its day begins with the
    first; where it is left out, when clocks jump over it.

    Examples:
        >>> begin_ms, end_ms = period(0, "day", ZoneInfo("Europe/Berlin"))
        >>> begin_ms // 3_600_000, end_ms // 3_600_000
        (-1, 23)
    """
    day = (_EPOCH + at_ms * _MS).astimezone(zone).date()
    begin_ms, end_ms = _bounds(day, "day", zone)
    # Clocks that are put back at midnight show the day before once more.
    if at_ms >= end_ms:
        day += _DAY
    elif at_ms < begin_ms:
        day -= _DAY
    return _bounds(day, calendar, zone)


@lru_cache(maxsize=4_096)
def _bounds(day: dt.date, calendar: Calendar, zone: ZoneInfo) -> tuple[int, int]:
    """Return when the day, or its week or month, begins and ends."""
    if calendar == "day":
        first, after = day, day + _DAY
    elif calendar == "week":
        first = day - day.weekday() * _DAY
        after = first + 7 * _DAY
    else:
        first = day.replace(day=1)
        after = (first + 31 * _DAY).replace(day=1)
    return _midnight_ms(first, zone), _midnight_ms(after, zone)


def _midnight_ms(day: dt.date, zone: ZoneInfo) -> int:
    midnight = dt.datetime(day.year, day.month, day.day, tzinfo=zone)
    return (midnight - _EPOCH) // _MS
