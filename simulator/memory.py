"""A log that is in memory: parts that somebody has made, or that were read before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from simulator.feedback import Feedback
from simulator.logs import ROWS_MAX, LeftOut

__all__ = ["Parts"]


class Parts:
    """Parts of a log, as a source of them.

    Args:
        parts: The parts, in order.
        path: What to call it.

    Attributes:
        path: As given.
        format: `memory`.
        rows: How many decisions there are.
        bytes: 0: nothing of it is in a file.
        targets: The policies whose probability of what was chosen every part has.
        left_out: Nothing.
    """

    format = "memory"
    bytes = 0

    def __init__(self, parts: Sequence[Feedback], path: str = "memory") -> None:
        self._parts = parts
        self.path = Path(path)
        self.rows: int | None = sum(map(len, parts))
        named = [set(part.targets) for part in parts]
        self.targets = tuple(sorted(set.intersection(*named))) if named else ()
        self.left_out = LeftOut()

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the parts as they are."""
        del rows_max, columns
        yield from self._parts

    def close(self) -> None:
        """There is nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass
