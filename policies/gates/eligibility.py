"""An offer is for those whom its rules describe, in three tiers.

Who is not eligible may never see it, to who is not applicable it would make no sense
now, and for who is not suitable it would be a bad idea. The reason names the tier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import seen
from policies.model import Action
from policies.rules import Rule

__all__ = ["Applicability", "Eligibility", "Suitability"]


@dataclass(frozen=True, slots=True)
class _Tier:
    """Rules an offer out where its rule does not hold, looked at each time anew.

    Attributes:
        rule: What must hold; what cannot be evaluated does not.
    """

    name: ClassVar[str]
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False
    ruling: ClassVar[Ruling]

    rule: Rule

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return the tier's reason where the rule does not hold."""
        del action
        return None if situation.holds(self.rule) else self.ruling

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what the rule has seen, and the rule."""
        del action
        return Because(seen(self.rule, situation.variables), self.rule.source)


@dataclass(frozen=True, slots=True)
class Eligibility(_Tier):
    """Rules an offer out for users who may never see it."""

    name: ClassVar[str] = "eligible"
    ruling: ClassVar[Ruling] = Ruling("NOT_ELIGIBLE")

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that says who is eligible."""
        if facts.offer.eligible is not None:
            yield cls(facts.rule(facts.offer.eligible))


@dataclass(frozen=True, slots=True)
class Applicability(_Tier):
    """Rules an offer out for users to whom it makes no sense now."""

    name: ClassVar[str] = "applicable"
    ruling: ClassVar[Ruling] = Ruling("NOT_APPLICABLE")

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that says to whom it is applicable."""
        if facts.offer.applicable is not None:
            yield cls(facts.rule(facts.offer.applicable))


@dataclass(frozen=True, slots=True)
class Suitability(_Tier):
    """Rules an offer out for users for whom it is a bad idea."""

    name: ClassVar[str] = "suitable"
    ruling: ClassVar[Ruling] = Ruling("NOT_SUITABLE")

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for an offer that says for whom it is suitable."""
        if facts.offer.suitable is not None:
            yield cls(facts.rule(facts.offer.suitable))
