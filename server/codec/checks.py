"""Collects what is wrong with a request, and reads what every message is made of."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import outcome_pb2
from policies.errors import InvalidRequestError, Problem
from policies.model import Money

__all__ = [
    "CLOCK_SKEW_MS",
    "CONTROL",
    "DAY_MS",
    "ID_MAX",
    "NAME",
    "TEXT_MAX",
    "YEAR_MS",
    "Check",
    "entry",
    "milliseconds",
    "money_to_proto",
    "shortened",
    "span_ms",
    "timestamp",
]

ID_MAX = 128
TEXT_MAX = 256
CLOCK_SKEW_MS = 300_000
DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

_QUOTE_MAX = 40
_LAST_SECOND = 253_402_300_799  # The end of the year 9999, as of all timestamps.


class Check:
    """Collects what is wrong with a request.

    Args:
        within: What goes before the names of the fields, such as `requests[3].`.
    """

    def __init__(self, within: str = "") -> None:
        self.problems: list[Problem] = []
        self._within = within

    def wrong(self, field: str, description: str) -> None:
        """Note that a field is wrong, and what would be right."""
        self.problems.append(Problem(self._within + field, description))

    def done(self) -> None:
        """Raise if anything was wrong."""
        if self.problems:
            raise InvalidRequestError(self.problems)

    def text(
        self, field: str, value: str, limit: int = ID_MAX, *, required: bool = False
    ) -> str:
        """Return a text that is to be short and of one line."""
        if len(value) > limit:
            self.wrong(field, f"has {len(value)} characters; at most {limit}")
        elif not value:
            if required:
                self.wrong(field, "is required")
        elif CONTROL.search(value):
            self.wrong(field, "holds control characters")
        return value

    def count(
        self, field: str, values: Sequence[Any] | Mapping[str, Any], most: int
    ) -> bool:
        """Say whether there are at most so many; what is too much is not looked at."""
        if len(values) > most:
            self.wrong(field, f"has {len(values)} entries; at most {most}")
            return False
        return True

    def known(
        self, field: str, names: Sequence[str], most: int, known: Container[str]
    ) -> tuple[str, ...]:
        """Return names that are to be the catalogue's."""
        if not self.count(field, names, most):
            return ()
        for at, name in enumerate(names):
            if name not in known:
                wrong = f"the catalogue has no {shortened(name)!r}"
                self.wrong(f"{field}[{at}]", wrong)
        return tuple(names)

    def key(self, field: str, name: str) -> None:
        """Look at the name of an entry of a map."""
        if not NAME.fullmatch(name):
            self.wrong(entry(field, name), f"a name is {NAME.pattern}")

    def instant(self, field: str, time: Timestamp) -> int | None:
        """Return a time that is to be from 1970 to 9999; none where it is not."""
        if not 0 <= time.seconds <= _LAST_SECOND or not 0 <= time.nanos < 10**9:
            self.wrong(field, "must be from 1970 to 9999")
            return None
        return milliseconds(time)

    def ahead(self, field: str, time: Timestamp, at_ms: int) -> int:
        """Return a time that is to be after now, by 366 days at most."""
        time_ms = milliseconds(time)
        if not at_ms < time_ms <= at_ms + YEAR_MS:
            self.wrong(field, "must be after now, by 366 days at most")
        return time_ms


def entry(field: str, name: str) -> str:
    """Return how to call an entry of a map."""
    return f"{field}[{shortened(name)!r}]"


def shortened(name: str) -> str:
    """Return a name, or its beginning, for an error."""
    return name if len(name) <= _QUOTE_MAX else name[:_QUOTE_MAX] + "…"


def timestamp(at_ms: int) -> Timestamp:
    """Write a time."""
    return Timestamp(seconds=at_ms // 1_000, nanos=at_ms % 1_000 * 1_000_000)


def milliseconds(time: Timestamp) -> int:
    """Read a time, whatever it is."""
    return int(time.seconds) * 1_000 + time.nanos // 1_000_000


def span_ms(duration: Duration) -> int:
    """Read a span, whatever it is."""
    return int(duration.seconds) * 1_000 + duration.nanos // 1_000_000


def money_to_proto(money: Money) -> outcome_pb2.Money:
    """Write an amount of money."""
    return outcome_pb2.Money(currency_code=money.currency, minor_units=money.minor)
