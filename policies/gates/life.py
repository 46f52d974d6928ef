"""What is going on with a user or an account comes before offers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import instant, listed, span
from policies.model import Action, LifeState
from policies.rules import over_ms
from policies.specs import SuppressorSpec
from policies.toml import Duration

__all__ = ["SUPPRESSORS", "ActionLifeState", "OfferLifeState", "PlacementLifeState"]

_DAY = Duration(86_400_000)
_HOUR = Duration(3_600_000)

SUPPRESSORS: Mapping[str, SuppressorSpec] = {
    "support_open": SuppressorSpec(cool_down=_DAY, topic_matched=True),
    "incident": SuppressorSpec(cool_down=_HOUR),
    "payment_failed": SuppressorSpec(blocks="price", cool_down=_DAY),
    "onboarding": SuppressorSpec(blocks="price"),
    "churn_risk": SuppressorSpec(blocks="price"),
    "trial_first_session": SuppressorSpec(blocks="interrupts"),
}
"""What holds back what in every catalogue, unless it says otherwise by the same name.

For these the reason is the name, in capitals; for any other state it is LIFE_STATE.
"""


class _Suppressor(NamedTuple):
    """What a life-state does to an offer.

    Attributes:
        state: The name of the life-state.
        cool_down_ms: For how long it goes on after the state is over.
        topic_matched: Whether it does not for offers of what the state was about,
            unless it ended badly.
    """

    state: str
    cool_down_ms: int
    topic_matched: bool

    @property
    def reason(self) -> str:
        """The code that it gives."""
        return self.state.upper() if self.state in SUPPRESSORS else "LIFE_STATE"


class _Hit(NamedTuple):
    """A state that holds an offer back at some time."""

    suppressor: _Suppressor
    state: LifeState
    until_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _LifeStates:
    """Rules out what the life-states of the user and the account hold back.

    A state holds back from its beginning until it is over, and then for its cool-down.

    Attributes:
        suppressors: Those that may hold it back, in the order of their reasons.
        longest_ms: The longest of their cool-downs.
        topics: The categories of the offer, where they matter.
    """

    name: ClassVar[str] = "life_state"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    suppressors: tuple[_Suppressor, ...]
    longest_ms: int
    topics: frozenset[str] = frozenset()

    @classmethod
    def _made(
        cls, suppressors: list[_Suppressor], categories: Collection[str] = ()
    ) -> Iterator[Self]:
        if suppressors:
            matter = any(suppressor.topic_matched for suppressor in suppressors)
            topics = frozenset(categories) if matter else frozenset[str]()
            longest_ms = max(suppressor.cool_down_ms for suppressor in suppressors)
            yield cls(
                suppressors=tuple(suppressors), longest_ms=longest_ms, topics=topics
            )

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return the reason of the first state that holds the offer back."""
        del action
        if situation.at_ms >= situation.life_over_ms + self.longest_ms:
            return None
        return self._ruling(situation)

    def because(self, action: Action, situation: Situation) -> Because:
        """Return since when the state holds the offer back, and what would end that."""
        del action
        suppressor, state, _ = self._hits(situation, situation.at_ms)[0]
        over = over_ms(state)
        if over > situation.at_ms:
            found = f"{suppressor.state} since {instant(state.since_ms)}"
        else:
            ended = "ended badly" if state.negative else "ended"
            found = f"{suppressor.state} {ended} at {instant(int(over))}"
        return Because(found, _needed(suppressor, state))

    def _ruling(self, situation: Situation) -> Ruling | None:
        hits = self._hits(situation, situation.at_ms)
        if not hits:
            return None
        reason = hits[0].suppressor.reason
        while hits:
            until_ms = max(hit.until_ms for hit in hits)
            if until_ms == math.inf:
                return Ruling(reason)
            # Another state may begin in the meantime.
            hits = self._hits(situation, int(until_ms))
        return Ruling(reason, int(until_ms))

    def _hits(self, situation: Situation, at_ms: int) -> list[_Hit]:
        hits: list[_Hit] = []
        for suppressor in self.suppressors:
            for history in situation.histories:
                state = history.state.life.get(suppressor.state)
                if state is None or at_ms < state.since_ms:
                    continue
                until_ms = over_ms(state) + self._cool_down_ms(suppressor, state)
                if at_ms < until_ms:
                    hits.append(_Hit(suppressor, state, until_ms))
        return hits

    def _cool_down_ms(self, suppressor: _Suppressor, state: LifeState) -> int:
        if suppressor.topic_matched and not state.negative:
            matched = not self.topics.isdisjoint(state.topics)
            return 0 if matched else suppressor.cool_down_ms
        return suppressor.cool_down_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementLifeState(_LifeStates):
    """Rules a placement out for as long as a life-state wants silence in it."""

    scope: ClassVar[Scope] = "placement"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one of the suppressors that look at nothing of an offer."""
        silent = [
            suppressor
            for suppressor, spec in _suppressors(facts)
            if _of_placement(spec)
            and (spec.blocks == "all" or facts.placement.interrupts)
        ]
        return cls._made(silent)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferLifeState(_LifeStates):
    """Rules an offer out for as long as a life-state holds it back everywhere."""

    scope: ClassVar[Scope] = "offer"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one of the suppressors that look at nothing of a placement."""
        silent = [
            suppressor
            for suppressor, spec in _suppressors(facts)
            if not _of_placement(spec)
            and (spec.blocks == "all" or (spec.blocks == "price" and facts.offer.price))
            and _concerns(spec, facts)
        ]
        return cls._made(silent, facts.offer.categories)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionLifeState(_LifeStates):
    """Rules an offer out for as long as a life-state does not let it interrupt."""

    scope: ClassVar[Scope] = "action"

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one of the suppressors that look at offer and placement."""
        silent = [
            suppressor
            for suppressor, spec in _suppressors(facts)
            if not _of_placement(spec)
            and spec.blocks == "interrupts"
            and facts.placement.interrupts
            and _concerns(spec, facts)
        ]
        return cls._made(silent, facts.offer.categories)


def _needed(suppressor: _Suppressor, state: LifeState) -> str:
    needed = f"{suppressor.state} over"
    if suppressor.cool_down_ms:
        needed += f" for {span(suppressor.cool_down_ms)}"
    if suppressor.topic_matched and state.topics and not state.negative:
        needed += f"; just over, for offers of {listed(state.topics)}"
    return needed


_Suppressors = tuple[tuple[_Suppressor, SuppressorSpec], ...]


def _suppressors(facts: Facts) -> _Suppressors:
    return _all_suppressors(tuple(facts.catalogue.suppressors.items()))


@lru_cache(maxsize=16)
def _all_suppressors(further: tuple[tuple[str, SuppressorSpec], ...]) -> _Suppressors:
    """Return the suppressors of a catalogue, made once for all its offers."""
    found: list[tuple[_Suppressor, SuppressorSpec]] = []
    for state, spec in {**SUPPRESSORS, **dict(further)}.items():
        # Without a cool-down there is nothing that topics could shorten.
        matched = spec.topic_matched and spec.cool_down > 0
        found.append((_Suppressor(state, int(spec.cool_down), matched), spec))
    return tuple(found)


def _of_placement(spec: SuppressorSpec) -> bool:
    """Say whether a suppressor looks at nothing of an offer."""
    matched = spec.topic_matched and spec.cool_down > 0
    return spec.blocks != "price" and not spec.categories and not matched


def _concerns(spec: SuppressorSpec, facts: Facts) -> bool:
    """Say whether a suppressor is about the categories of an offer."""
    categories = spec.categories
    return not categories or not set(categories).isdisjoint(facts.offer.categories)
