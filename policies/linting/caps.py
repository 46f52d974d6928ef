"""Caps that cannot be, or that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from policies.history import TIMES_MAX
from policies.linting.base import Note
from policies.specs import CapSpec, EngagementSpec
from policies.toml import Duration

__all__ = ["lint_caps"]

_CAPS_MAX = 10
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_PERIODS_MS = {"day": _DAY_MS, "week": 7 * _DAY_MS, "month": 31 * _DAY_MS}
_WITHIN = {"day": ("day", "week", "month"), "week": ("week",), "month": ("month",)}
"""What holds a day, a week or a month wherever that lies."""

_Of = Literal["offers", "placements", "categories", "everything"]
_Wrong = tuple[str, tuple[str, ...]]


def lint_caps(
    note: Note,
    caps: tuple[CapSpec, ...],
    engagement: EngagementSpec,
    *,
    of: _Of,
) -> None:
    """Check the caps that must all hold in one place.

    Args:
        note: Notes problems under the key `caps`.
        caps: The caps.
        engagement: What limits are multiplied with.
        of: What the caps are of.
    """
    if caps:
        factors = [engagement.low_factor, engagement.high_factor]
        known = tuple([factor for factor in factors if math.isfinite(factor)])
        for description, keys in _wrong(caps, of, known):
            note(description, *keys)


@lru_cache(maxsize=1_024)
def _wrong(
    caps: tuple[CapSpec, ...], of: _Of, factors: tuple[float, ...]
) -> Sequence[_Wrong]:
    """Return what is wrong; many offers have the same caps."""
    wrong: list[_Wrong] = []
    if len(caps) > _CAPS_MAX:
        wrong.append((f"has {len(caps)} caps; at most {_CAPS_MAX}", ()))
    for at, cap in enumerate(caps):
        wrong += [(said, (str(at), key)) for said, key in _one(cap, of)]
    if not wrong:
        wrong += _idle(caps, factors)
    return wrong


def _one(cap: CapSpec, of: _Of) -> list[tuple[str, str]]:
    """Return what is wrong with one cap, and under which key."""
    wrong: list[tuple[str, str]] = []
    if not 1 <= cap.limit <= TIMES_MAX:
        advice = "to never show an offer, leave it out"
        wrong.append((f"is 1 to {TIMES_MAX}, not {cap.limit}; {advice}", "limit"))
    if cap.window is not None and cap.window <= 0:
        wrong.append(("is above 0; for a cap for life, leave it out", "window"))
    windows = [
        key
        for key in ("window", "calendar", "session")
        if getattr(cap, key) not in (None, False)
    ]
    if len(windows) > 1:
        said = f"does not go with {windows[0]}; a cap has one of them"
        wrong += [(said, key) for key in windows[1:]]
    if cap.across == "placement" and of in ("placements", "categories"):
        said = "is all: only caps of offers, of creatives and of everything count each"
        wrong.append((f"{said} placement for itself", "across"))
    if cap.per == "account" and cap.session:
        wrong.append(("is user where `session` is true: a visit is one user's", "per"))
    return wrong


def _idle(caps: Sequence[CapSpec], factors: tuple[float, ...]) -> list[_Wrong]:
    """Return which caps another one makes idle, whatever happens."""
    wrong: list[_Wrong] = []
    for at, cap in enumerate(caps):
        for other_at, other in enumerate(caps):
            if at == other_at or not _covers(other, cap, factors):
                continue
            if other_at < at or not _covers(cap, other, factors):
                already = f"cap {other_at} ({_described(other)}) is reached before it"
                said = f"never holds anything back: {already}; leave one of them out"
                wrong.append((said, (str(at),)))
                break
    return wrong


def _covers(cap: CapSpec, other: CapSpec, factors: tuple[float, ...]) -> bool:
    """Say whether a cap is reached whenever the other one is."""
    return (
        cap.counts == other.counts
        and (cap.per == "account" or other.per == "user")
        and (cap.across == "all" or other.across == "placement")
        and _lasts(cap, other)
        and _is_reached(cap, other, factors)
    )


def _lasts(cap: CapSpec, other: CapSpec) -> bool:
    """Say whether all that is in the other's window is in the cap's."""
    if _is_for_life(cap):
        return True
    if cap.session or other.session:
        return cap.session and other.session
    if other.calendar is not None:
        if cap.calendar is not None:
            return cap.calendar in _WITHIN[other.calendar]
        # Clocks are put back by an hour.
        longest_ms = _PERIODS_MS[other.calendar] + _HOUR_MS
        return cap.window is not None and cap.window >= longest_ms
    if cap.window is None or other.window is None:
        return False
    return cap.window >= other.window


def _is_reached(cap: CapSpec, other: CapSpec, factors: tuple[float, ...]) -> bool:
    """Say whether as many reach the cap as reach the other, for every user."""
    return all(
        _scaled(cap, factor) <= _scaled(other, factor) for factor in (1.0, *factors)
    )


def _scaled(cap: CapSpec, factor: float) -> int:
    if not cap.scales or _is_for_life(cap):
        return cap.limit
    return max(1, math.floor(cap.limit * factor + 1e-9))


def _is_for_life(cap: CapSpec) -> bool:
    return cap.window is None and cap.calendar is None and not cap.session


def _described(cap: CapSpec) -> str:
    if cap.session:
        return f"{cap.limit} in a visit"
    if cap.calendar is not None:
        return f"{cap.limit} in a {cap.calendar}"
    if cap.window is None:
        return f"{cap.limit} for life"
    return f"{cap.limit} in {Duration(cap.window).text}"
