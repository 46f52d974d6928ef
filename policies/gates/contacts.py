"""People and other channels do not ask for the same at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, span
from policies.model import Action

__all__ = ["Contacts"]

_EVERY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Rules an offer out for some time after a contact about one of its categories.

    A contact under no category was about all of them.

    Attributes:
        categories: What the offer belongs to.
        cool_down_ms: For how long, above 0.

    Examples:
        >>> from policies.model import Action, History, Opportunity
        >>> gate = Contacts(categories=("seats",), cool_down_ms=3 * 86_400_000)
        >>> mailed = History(contacts={"seats": 0})
        >>> def ruling(at_ms):
        ...     asked = Opportunity("d", at_ms, "ada", ("home",))
        ...     action = Action(1, "more", "default", "home", ())
        ...     return gate.reject(action, Situation(asked, mailed))
        >>> ruling(2 * 86_400_000).reason
        'CROSS_CHANNEL_COOLDOWN'
        >>> ruling(3 * 86_400_000) is None
        True
    """

    name: ClassVar[str] = "contacts"
    scope: ClassVar[Scope] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    categories: tuple[str, ...]
    cool_down_ms: int

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for every offer, if contacts cool anything down."""
        cool_down = facts.catalogue.contacts.cool_down
        if cool_down:
            yield cls(categories=facts.offer.categories, cool_down_ms=int(cool_down))

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return CROSS_CHANNEL_COOLDOWN until the cool-down is over."""
        del action
        if situation.at_ms >= situation.contacted_ms + self.cool_down_ms:
            return None
        latest = self._latest(situation)
        if latest is None:
            return None
        over_ms = latest[0] + self.cool_down_ms
        if situation.at_ms >= over_ms:
            return None
        return Ruling("CROSS_CHANNEL_COOLDOWN", over_ms)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return when the contact was, and what it was about."""
        del action
        at_ms, category = self._latest(situation) or (0, _EVERY)
        topic = f"about {category}" if category else "about everything"
        return Because(
            f"a contact {topic} at {instant(at_ms)}",
            f"none in the last {span(self.cool_down_ms)}",
        )

    def _latest(self, situation: Situation) -> tuple[int, str] | None:
        """Return when the latest contact that matters was, and what it was about."""
        latest: tuple[int, str] | None = None
        for history in situation.histories:
            contacts = history.contacts
            if not contacts:
                continue
            for category in (_EVERY, *self.categories):
                at_ms = contacts.get(category)
                if at_ms is not None and (latest is None or at_ms > latest[0]):
                    latest = (at_ms, category)
        return latest
