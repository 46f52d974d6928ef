"""What every log is to those who read it: a source of parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from policies.errors import OpportuneError
from simulator.feedback import Feedback

__all__ = ["ROWS_MAX", "LeftOut", "LogError", "Source", "Watcher"]

ROWS_MAX = 8_192
"""How many rows a part has at most where nothing else is asked for."""

_FIRST_MAX = 20

Watcher = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


class LogError(OpportuneError):
    """A log cannot be read, or lacks something; the message says what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class LeftOut(msgspec.Struct):
    """The rows of a log that are in none of its parts, and why.

    Attributes:
        reasons: How many of them for which reason, such as `bad` or `unlabelled`.
        first: The first of them, each with its file, its line and what is wrong.
        firsts: By reason, the first of them.
    """

    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    first: list[str] = msgspec.field(default_factory=list)
    firsts: dict[str, list[str]] = msgspec.field(default_factory=dict)

    def add(self, reason: str, message: str) -> None:
        """Count one."""
        self.reasons[reason] += 1
        if len(self.first) < _FIRST_MAX:
            self.first.append(message)
        of_reason = self.firsts.setdefault(reason, [])
        if len(of_reason) < _FIRST_MAX:
            of_reason.append(message)


class Source(Protocol):
    """A log that can be read from its beginning to its end, more than once.

    Attributes:
        path: Where it is.
        format: What it is: `server`, `parquet`, `dsjson`, `vw`, `obd`, `obp`, `csv`.
        rows: How many decisions it has; none where only reading tells.
        bytes: How large it is.
        targets: The policies whose probability of what was chosen it has.
        left_out: What the latest pass over it left out.
    """

    path: Path
    format: str
    rows: int | None
    bytes: int
    targets: tuple[str, ...]
    left_out: LeftOut

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield its decisions in logged order, a part at a time.

        Args:
            rows_max: How many rows a part has at most, at least 1.
            columns: The columns that are needed, by their names in `Feedback`, beside
                rewards and propensities, which always come; all without it. `actions`
                brings their offsets and probabilities, `target:NAME` one target. A
                source that reads rows whole gives more than that.

        Raises:
            LogError: If something cannot be read; the message says the file, the line
                and the field.
        """
        ...

    def close(self) -> None:
        """Let go of its files."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
