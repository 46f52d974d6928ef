"""What was stopped is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import listed
from policies.model import Action

__all__ = ["OfferStop", "PlacementStop"]

_STOPPED = Ruling("STOPPED")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementStop:
    """Rules a placement out that was stopped, or all where everything was.

    Attributes:
        scopes: The names of the stops that it obeys.
    """

    name: ClassVar[str] = "placement_stop"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    scopes: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every placement."""
        yield cls(scopes=("all", f"placement:{facts.placement_id}"))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return STOPPED."""
        del action
        stopped = situation.conditions.stopped
        if stopped:
            for scope in self.scopes:
                if scope in stopped:
                    return _STOPPED
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what was stopped."""
        del action
        return _because(self.scopes, situation)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferStop:
    """Rules an offer out that was stopped, or of which a category was.

    Attributes:
        scopes: The offer's categories, as `category:NAME`.
    """

    name: ClassVar[str] = "offer_stop"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    scopes: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every offer."""
        yield cls(scopes=tuple([f"category:{c}" for c in facts.offer.categories]))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return STOPPED."""
        stopped = situation.conditions.stopped
        if stopped:
            if f"offer:{action.offer_id}" in stopped:
                return _STOPPED
            for scope in self.scopes:
                if scope in stopped:
                    return _STOPPED
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what was stopped."""
        return _because((f"offer:{action.offer_id}", *self.scopes), situation)


def _because(scopes: tuple[str, ...], situation: Situation) -> Because:
    stopped = situation.conditions.stopped
    found = listed(scope for scope in scopes if scope in stopped)
    return Because(f"stopped: {found}", "no stop")
