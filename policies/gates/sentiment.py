"""Who has just complained is left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, span
from policies.model import Action

__all__ = ["PriceSentiment", "Sentiment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentiment:
    """Rules out for some time after a complaint or a bad rating.

    Attributes:
        cool_down_ms: For how long, above 0.
    """

    name: ClassVar[str] = "sentiment"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    cool_down_ms: int

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return NEGATIVE_SENTIMENT until the cool-down is over."""
        del action
        negative_ms = _negative_ms(situation)
        if negative_ms is None:
            return None
        over_ms = negative_ms + self.cool_down_ms
        if situation.at_ms >= over_ms:
            return None
        return Ruling("NEGATIVE_SENTIMENT", over_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return when the user or the account was unhappy last."""
        del action
        return Because(
            f"a complaint or a bad rating at {instant(_negative_ms(situation) or 0)}",
            f"none in the last {span(self.cool_down_ms)}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment(_Sentiment):
    """Rules a placement out, if all offers wait, or all that interrupt.

    Examples:
        >>> from policies.model import Action, History, Opportunity
        >>> gate = Sentiment(cool_down_ms=7 * 86_400_000)
        >>> asked = Opportunity("d", 86_400_000, "ada", ("home",))
        >>> situation = Situation(asked, History(negative_ms=0))
        >>> gate.reject(Action(1, "more", "default", "home", ()), situation)
        Ruling(reason='NEGATIVE_SENTIMENT', next_eligible_ms=604800000)
    """

    scope: ClassVar[Scope] = "placement"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a placement in which nothing may be shown meanwhile."""
        spec = facts.catalogue.sentiment
        interrupts = spec.blocks == "interrupts" and facts.placement.interrupts
        if spec.cool_down and (spec.blocks == "all" or interrupts):
            yield cls(cool_down_ms=int(spec.cool_down))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSentiment(_Sentiment):
    """Rules an offer out that costs something, if only those wait."""

    scope: ClassVar[Scope] = "offer"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that costs something."""
        spec = facts.catalogue.sentiment
        if spec.cool_down and spec.blocks == "price" and facts.offer.price:
            yield cls(cool_down_ms=int(spec.cool_down))


def _negative_ms(situation: Situation) -> int | None:
    """Return when the user or the account was unhappy last; none for never."""
    latest: int | None = None
    for history in situation.histories:
        negative_ms = history.negative_ms
        if negative_ms is not None and (latest is None or negative_ms > latest):
            latest = negative_ms
    return latest
