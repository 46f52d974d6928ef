"""When one policy takes the place of another: only where that is certain enough.

A champion decides, challengers are compared with it on the same decisions: how much
likelier or less likely each makes what was chosen says what each would have earned.
Trials are counted in windows. A challenger has won a window where the lower bound of
what it earns above the champion is above 0; it has lost where the upper bound is below.
Several windows won in a row move it a step up, lost ones a step down, and what is in
between begins the count anew. A step is a share of the traffic; past the last share the
challenger becomes the champion.

One window that is won by luck is seen once in 40 (the interval holds 95 %); three in a
row once in 64,000.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from policies.comparison import lead
from policies.intervals import Estimate

__all__ = [
    "CHAMPION",
    "Lineup",
    "PromotionSettings",
    "Standing",
    "Verdict",
    "advance",
    "judge",
    "standing",
]

CHAMPION = "default"
"""The name of the policy that decides where nothing else was recorded."""

Verdict = Literal["better", "worse", "open"]


class PromotionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a challenger takes over.

    Attributes:
        automatic: Whether it does so by itself. If not, every window is judged and
            recorded all the same, and `models promote` does it.
        window: How many trials are one window, 100 or more: decisions for offers with a
            known reward, and silences. The more, the smaller the differences that can
            be told.
        windows: How many windows in a row must be won for a step, 1 to 100.
        step: By how much of the traffic a challenger's share grows with a step, above 0
            to 1; 1 goes to all at once.
        share_min: The smallest share of traffic, above 0 to 1; a step down ends there.
        share_max: The largest share before all, at least `share_min`, to 1.
        agreement: For an apprentice, in which share of decisions it must choose what
            was chosen, 0 to 1.
    """

    automatic: bool = False
    window: int = 1_000
    windows: int = 3
    step: float = 0.1
    share_min: float = 0.1
    share_max: float = 0.9
    agreement: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.window < 100:
            raise ValueError(f"window must be 100 or more, not {self.window}")
        if not 1 <= self.windows <= 100:
            raise ValueError(f"windows must be 1 to 100, not {self.windows}")
        if not 0.0 < self.step <= 1.0:
            raise ValueError(f"step must be above 0, to 1, not {self.step}")
        if not 0.0 < self.share_min <= self.share_max <= 1.0:
            raise ValueError(
                "share_min and share_max must be above 0, to 1, in this order, not"
                f" {self.share_min} and {self.share_max}"
            )
        if not 0.0 <= self.agreement <= 1.0:
            raise ValueError(f"agreement must be 0 to 1, not {self.agreement}")


class Lineup(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which policy decides, and what the others have of the traffic.

    Attributes:
        champion: The name of the policy that decides for all who are in no share.
        shares: By name, the share of users for whom another one decides.
        since: By name, the last trial before the share was changed: windows are counted
            from there.
    """

    champion: str = CHAMPION
    shares: dict[str, float] = {}
    since: dict[str, int] = {}


class Standing(NamedTuple):
    """Where a challenger is: its share, and windows won or lost in a row.

    Attributes:
        share: Its share of traffic, 0 for none, 1 for the champion's place.
    """

    share: float
    won: int = 0
    lost: int = 0


def judge(
    difference: Estimate, *, agreement: float = 1.0, needed: float = 0.0
) -> Verdict:
    """Say what a window has shown.

    Args:
        difference: What the challenger earns above the champion.
        agreement: In which share of the trials it chose what was chosen.
        needed: In which share it must.
    """
    if difference.verdict == "unusable":
        return "open"
    found = lead(difference)
    return "open" if found == "better" and agreement < needed else found


def advance(
    before: Standing, verdict: Verdict, settings: PromotionSettings
) -> Standing:
    """Say where a challenger is after another window.

    Examples:
        >>> settings = PromotionSettings(windows=2)
        >>> once = advance(Standing(0.0), "better", settings)
        >>> once
        Standing(share=0.0, won=1, lost=0)
        >>> advance(once, "better", settings)
        Standing(share=0.1, won=0, lost=0)
    """
    share, won, lost = before
    if verdict == "open":
        return Standing(share)
    if verdict == "better":
        won, lost = won + 1, 0
    else:
        won, lost = 0, lost + 1
    if max(won, lost) < settings.windows:
        return Standing(share, won, lost)
    return Standing(_up(share, settings) if won else _down(share, settings))


def _up(share: float, settings: PromotionSettings) -> float:
    """Return the share one step up; 1 past the largest."""
    if share >= settings.share_max - 1e-9:
        return 1.0
    stepped = round(share + settings.step, 9)
    if stepped >= 1.0:
        return 1.0
    return min(max(stepped, settings.share_min), settings.share_max)


def _down(share: float, settings: PromotionSettings) -> float:
    """Return the share one step down; none stays none."""
    if share == 0.0:
        return 0.0
    return max(round(share - settings.step, 9), min(settings.share_min, share))


def standing(
    share: float, verdicts: Iterable[Verdict], settings: PromotionSettings
) -> Standing:
    """Say where a challenger is after windows, in order, whose share was one.

    What would have been a step is the end of it: it is for who asks to take it.

    Args:
        share: Its share of traffic all the time.
        verdicts: What each window has shown.
        settings: When there is a step.
    """
    found = Standing(share)
    for verdict in verdicts:
        found = advance(found, verdict, settings)
        if found.share != share:
            break
    return found
