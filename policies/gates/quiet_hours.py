"""There are hours at which nobody is disturbed, by the clock on the user's wall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self
from zoneinfo import ZoneInfo

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.clocks import jump_ms, offset_ms
from policies.model import Action
from policies.model import QuietHours as Hours

__all__ = ["QuietHours"]

_MINUTE_MS = 60_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """Rules a placement out in the user's quiet hours, or else in the catalogue's.

    It is quiet when the clock where the user is shows a time from the start on and
    before the end, whether that clock has just been put forward or back. From one time
    to the same is all day.

    Attributes:
        hours: The catalogue's; none for the users' own only.
    """

    name: ClassVar[str] = "quiet_hours"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    hours: Hours | None

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a placement that is to be quiet then."""
        spec = facts.catalogue.quiet_hours
        if spec.blocks == "interrupts" and not facts.placement.interrupts:
            return
        hours = None
        if spec.start and spec.end:
            hours = Hours(_minute(spec.start), _minute(spec.end))
        yield cls(hours=hours)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return QUIET_HOURS until they end."""
        del action
        hours = _asked_for(situation) or self.hours
        if hours is None:
            return None
        if not _quiet(situation.clock_ms, hours):
            return None
        end_ms = _end_ms(situation.at_ms, hours, situation.zone)
        return Ruling("QUIET_HOURS", end_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what time it is, and what times are quiet."""
        del action
        own = _asked_for(situation)
        hours = own or self.hours or Hours(0, 0)
        minute = situation.clock_ms // _MINUTE_MS
        whose = "the user's" if own else "the catalogue's"
        start, end = _clock(hours.start_minute), _clock(hours.end_minute)
        return Because(
            f"it is {_clock(minute)} in {situation.zone.key}",
            f"not from {start} to {end}, {whose} quiet hours",
        )


def _asked_for(situation: Situation) -> Hours | None:
    """Return the quiet hours of the user or else of the account; none for neither."""
    own = situation.history.preferences.quiet
    return own or situation.account.preferences.quiet


def _quiet(clock_ms: int, hours: Hours) -> bool:
    minute, start, end = clock_ms // _MINUTE_MS, hours.start_minute, hours.end_minute
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


def _end_ms(at_ms: int, hours: Hours, zone: ZoneInfo) -> int | None:
    """Return when it is no longer quiet; none where it always is."""
    if hours.start_minute == hours.end_minute:
        return None
    while _quiet(clock_ms := _clock_ms(at_ms, zone), hours):
        left_ms = (hours.end_minute * _MINUTE_MS - clock_ms) % _DAY_MS
        at_ms = jump_ms(at_ms, at_ms + left_ms, zone)
    return at_ms


def _clock_ms(at_ms: int, zone: ZoneInfo) -> int:
    return (at_ms + offset_ms(at_ms, zone)) % _DAY_MS


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
