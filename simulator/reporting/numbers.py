"""How numbers are written in a report."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "among",
    "count",
    "decimals",
    "fixed",
    "interval",
    "ordinary",
    "percent",
    "roughly",
    "share",
]

_DIGITS = 2
_DECIMALS_MAX = 9
_MINUS = "\u2212"
_BLANK = "\u00a0"


def decimals(widths: Iterable[float]) -> int:
    """Return how many decimals show two digits of the smallest width above 0.

    Examples:
        >>> decimals([0.017, 0.2])
        3
        >>> decimals([1200.0]), decimals([])
        (0, 4)
    """
    smallest = min((width for width in widths if width > 0.0), default=0.0)
    if not 0.0 < smallest < math.inf:
        return 4
    place = math.floor(math.log10(smallest))
    return min(max(_DIGITS - 1 - place, 0), _DECIMALS_MAX)


def fixed(number: float | None, places: int, *, signed: bool = False) -> str:
    """Write a number with so many decimals; a dash where there is none.

    Examples:
        >>> fixed(-0.1234, 2), fixed(1200.0, 0), fixed(0.5, 1, signed=True)
        ('−0.12', '1,200', '+0.5')
        >>> fixed(-0.001, 2), fixed(None, 2)
        ('0.00', '—')
    """
    if number is None:
        return "—"
    number = round(number, places) + 0.0
    sign = "+" if signed and number else "-" if signed else ""
    text = f"{number:{sign},.{places}f}"
    return text.replace("-", _MINUS)


def interval(
    low: float | None, high: float | None, places: int, *, signed: bool = False
) -> str:
    """Write an interval; where nothing bounds it, without end.

    Examples:
        >>> interval(0.1, None, 2)
        '0.10 to ∞'
    """
    lower = f"{_MINUS}∞" if low is None else fixed(low, places, signed=signed)
    upper = "∞" if high is None else fixed(high, places, signed=signed)
    return f"{lower} to {upper}"


def count(number: float) -> str:
    """Write how many there are.

    Examples:
        >>> count(12345.0)
        '12,345'
    """
    return f"{number:,.0f}".replace("-", _MINUS)


def share(number: float, places: int = 1) -> str:
    r"""Write a share as a percentage, as small as it is.

    Examples:
        >>> share(0.25), share(0.0004), share(0.0)
        ('25.0\xa0%', '0.04\xa0%', '0\xa0%')
    """
    if number and abs(number) * 100 < 10.0**-places:
        return f"{number * 100:.1g}{_BLANK}%".replace("-", _MINUS)
    if not number:
        return f"0{_BLANK}%"
    return f"{number * 100:.{places}f}{_BLANK}%".replace("-", _MINUS)


def percent(confidence: float) -> str:
    r"""Write how often an interval holds.

    Examples:
        >>> percent(0.95)
        '95\xa0%'
    """
    return f"{float(f'{confidence:.4g}') * 100:g}{_BLANK}%"


def roughly(number: float) -> str:
    """Write how many would do: two digits, rounded up.

    Examples:
        >>> roughly(3_544_676), roughly(97)
        ('3,600,000', '97')
    """
    step = 10.0 ** max(math.floor(math.log10(max(number, 1.0))) - 1, 0)
    return count(math.ceil(number / step) * step)


def ordinary(number: float) -> str:
    """Write a number with three digits, for a label.

    Examples:
        >>> ordinary(0.125), ordinary(1234.5), ordinary(-2.0)
        ('0.125', '1,230', '−2')
    """
    if abs(number) >= 100:
        rounded = float(f"{number:.3g}")
        return f"{rounded:,.0f}".replace("-", _MINUS)
    return f"{number:.3g}".replace("-", _MINUS)


def among(names: Iterable[str]) -> str:
    """Join names as a sentence does.

    Examples:
        >>> among(["a", "b", "c"]), among(["a"])
        ('a, b and c', 'a')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
