"""How often what was drawn, against how often it was to be."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["P_0001", "P_01", "Frequencies"]


class Frequencies:
    """How often each action was drawn, by the distribution it was drawn from."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[tuple[str, float], ...], Counter[str]] = defaultdict(
            Counter
        )

    def add(self, chances: Mapping[str, float], chosen: str) -> None:
        """Count a draw."""
        self.drawn[tuple(sorted(chances.items()))][chosen] += 1

    def deviation(self) -> float:
        """Return by how many standard deviations chi-square is above its mean.

        Of each distribution what is expected less than five times is taken together,
        as the test needs it; chi-squares of independent draws add up.
        """
        total, freedom = 0.0, 0
        for chances, counts in self.drawn.items():
            pairs = pooled(
                (n * chance, counts[name])
                for n in [counts.total()]
                for name, chance in chances
            )
            assert set(counts) <= {name for name, chance in chances if chance > 0}
            if len(pairs) > 1:
                total += sum((seen - due) ** 2 / due for due, seen in pairs)
                freedom += len(pairs) - 1
        assert freedom > 0
        # Wilson and Hilferty: the cube root of a chi-square is nearly normal.
        spread = 2.0 / (9.0 * freedom)
        return (math.cbrt(total / freedom) - (1.0 - spread)) / math.sqrt(spread)


def pooled(pairs: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    """Take together what is expected less than five times."""
    often: list[tuple[float, int]] = []
    due, seen = 0.0, 0
    for expected, count in pairs:
        if expected >= 5.0:
            often.append((expected, count))
        else:
            due, seen = due + expected, seen + count
    if due >= 5.0:
        often.append((due, seen))
    elif often:
        expected, count = often.pop()
        often.append((expected + due, count + seen))
    return often


P_01 = 2.33
"""Above this a deviation happens by chance once in a hundred times."""

P_0001 = 3.72
"""And above this once in ten thousand."""
