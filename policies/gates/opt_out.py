"""Who wants to see no offers, or none of a kind, sees none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant
from policies.model import Action

__all__ = ["OfferOptOut", "OptOut"]

_OUT = Ruling("OPTED_OUT")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """Rules everything out for whoever wants to see no offers.

    It cannot be switched off, nor gone past. An account's opt-out is one of all its
    users.
    """

    name: ClassVar[str] = "opt_out"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every placement."""
        del facts
        yield cls()

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return OPTED_OUT."""
        del action
        for history in situation.histories:
            if "all" in history.preferences.opt_outs:
                return _OUT
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return since when."""
        del action
        return _because(("all",), situation)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferOptOut:
    """Rules an offer out for whoever does not want to see it, or a category of it.

    It cannot be switched off, nor gone past.

    Attributes:
        scopes: The offer's categories, as `category:NAME`.
    """

    name: ClassVar[str] = "offer_opt_out"
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
        """Return OPTED_OUT."""
        for history in situation.histories:
            opt_outs = history.preferences.opt_outs
            if opt_outs:
                if f"offer:{action.offer_id}" in opt_outs:
                    return _OUT
                for scope in self.scopes:
                    if scope in opt_outs:
                        return _OUT
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return of what, and since when."""
        return _because((f"offer:{action.offer_id}", *self.scopes), situation)


def _because(scopes: tuple[str, ...], situation: Situation) -> Because:
    since = {
        scope: history.preferences.opt_outs[scope]
        for history in situation.histories
        for scope in scopes
        if scope in history.preferences.opt_outs
    }
    scope, since_ms = next(iter(since.items()))
    return Because(f"opted out of {scope} at {instant(since_ms)}", "no opt-out")
