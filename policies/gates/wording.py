"""How explanations word times, spans, numbers, lists, and what rules have seen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from policies.rules import Rule, Variables

__all__ = ["instant", "listed", "number", "one_of", "percent", "seen", "span"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def instant(at_ms: int) -> str:
    """Word a time, to the second.

    Examples:
        >>> instant(1_795_737_600_000)
        '2026-11-27 00:00:00 UTC'
    """
    at = _EPOCH + dt.timedelta(milliseconds=at_ms)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(span_ms: int) -> str:
    """Word a span as catalogues write it.

    Examples:
        >>> span(36 * 3_600_000), span(1_500), span(0)
        ('1d12h', '1s500ms', '0s')
    """
    parts: list[str] = []
    left = span_ms
    for unit, size in _UNITS_MS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    if left:
        parts.append(f"{left}ms")
    return "".join(parts) or "0s"


def number(value: float) -> str:
    """Word a number, to two decimals or, below 1, three digits.

    Examples:
        >>> number(10_050), number(2.5), number(0.004)
        ('10,050', '2.5', '0.004')
    """
    if abs(value) < 1:
        return f"{value:.3g}"
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Word a share of 1.

    Examples:
        >>> percent(0.92)
        '92 %'
    """
    return f"{number(100 * share)} %"


def listed(names: Iterable[str]) -> str:
    """Word a list.

    Examples:
        >>> listed(["hdmi", "tv"])
        'hdmi, tv'
    """
    return ", ".join(names)


def one_of(names: Sequence[str]) -> str:
    """Word a choice.

    Examples:
        >>> one_of(["tv"]), one_of(["hdmi", "tv"])
        ('tv', 'one of hdmi, tv')
    """
    return listed(names) if len(names) == 1 else f"one of {listed(names)}"


def seen(rule: Rule, variables: Variables) -> str:
    """Word what a rule has seen.

    Examples:
        >>> from policies.model import Context, Opportunity, Usage
        >>> rule = Rule("segment == 'team' && usage.gb.ratio > 0.8", {})
        >>> context = Context(segment="free", usage={"gb": Usage(4.0, 10.0)})
        >>> asked = Opportunity("d", 0, "ada", ("home",), context=context)
        >>> seen(rule, Variables(asked))
        "segment = 'free', usage.gb.ratio = 0.4"
    """
    found = rule.seen(variables).items()
    return listed(f"{path} = {_worded(value)}" for path, value in found) or "nothing"


def _worded(value: object) -> str:
    if value is None:
        return "unknown"
    # Not rounded as elsewhere: rules compare.
    return f"{value:.15g}" if isinstance(value, float) else repr(value)
