"""Rules that can never be true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from policies.linting.base import Note
from policies.linting.formulas import (
    Comparison,
    Formula,
    Junction,
    Sign,
    Value,
    formula_of,
)
from policies.specs import CatalogueSpec, OfferSpec

__all__ = ["lint_common_rules", "lint_rules"]

_Given = tuple[tuple[str, frozenset[str]], ...]

_WAYS_MAX = 256
_NEVER_NEGATIVE = re.compile(r"usage\.\w+\.(?:value|limit|ratio)|size\(.*\)")
_KNOWN: Mapping[str, frozenset[Value]] = {
    "engagement": frozenset(["", "low", "normal", "high"])
}
_TIERS = ("eligible", "applicable", "suitable")


def lint_common_rules(note: Note, spec: CatalogueSpec) -> None:
    """Check the rules that are not an offer's."""
    _lint_alone(note, spec.value_discovered, "value_discovered")
    _lint_alone(note, spec.engagement.low, "engagement", "low")
    _lint_alone(note, spec.engagement.high, "engagement", "high")


def lint_rules(note: Note, offer: OfferSpec, catalogue: CatalogueSpec) -> None:
    """Check the rules of an offer, each by itself, then together."""
    _lint_alone(note, offer.value_discovered, "value_discovered")
    given = _given(offer, catalogue)
    rules: dict[str, str] = {}
    for key in _TIERS:
        source: str | None = getattr(offer, key)
        if source is None:
            continue
        if not _lint_alone(note, source, key):
            return
        rules[key] = source
        if _conflict(tuple(rules.values()), given) is not None:
            _lint_together(note, rules, given)
            return


def _lint_alone(note: Note, source: str | None, *keys: str) -> bool:
    """Check a rule by itself; return whether it could be true."""
    if source is None:
        return True
    terms = _conflict((source,), ())
    # The product may say by itself who has discovered what it is good for.
    if terms is None or (source.strip(), keys[-1]) == ("false", "value_discovered"):
        return True
    whatever = f", whatever {terms} is" if terms else ""
    note(f"can never be true{whatever}; mend it, or leave it out", *keys)
    return False


def _lint_together(note: Note, rules: Mapping[str, str], given: _Given) -> None:
    """Note that the last of some rules contradicts what is asked for before it."""
    *others, key = rules
    if _conflict((rules[key],), given) is not None:
        among = " and ".join(f"{term} is {_listed(values)}" for term, values in given)
        note(f"can never be true, for the offer is only for when {among}", key)
        return
    terms = _conflict(tuple(rules.values()), given)
    with_others = f"together with {' and '.join(others)}"
    note(f"can never be true {with_others}, whatever {terms} is", key)


def _listed(values: frozenset[str]) -> str:
    return " or ".join(sorted(values))


def _given(offer: OfferSpec, catalogue: CatalogueSpec) -> _Given:
    """Return what other gates ask for already."""
    given: list[tuple[str, frozenset[str]]] = []
    if offer.moments and "moments" not in catalogue.gates.off:
        given.append(("moment.kind", frozenset(offer.moments)))
    buys = offer.price > 0 if offer.buyers_only is None else offer.buyers_only
    if buys and catalogue.buyers and "buyer" not in catalogue.gates.off:
        given.append(("role", frozenset(catalogue.buyers)))
    return tuple(given)


@lru_cache(maxsize=4_096)
def _conflict(sources: tuple[str, ...], given: _Given) -> str | None:
    """Return what no value is right for, if rules can never be true together.

    Returns:
        The terms in question, empty where there are none; none where the rules could
        be true, or where that is too much to think about.
    """
    formulas = tuple([formula_of(source) for source in sources])
    known: dict[str, frozenset[Value]] = {**_KNOWN, **dict(given)}
    terms: dict[str, None] = {}
    for tried, way in enumerate(_ways(Junction(every=True, parts=formulas))):
        term = _impossible(way, known)
        if term is None or tried >= _WAYS_MAX:
            return None
        terms[term] = None
    return " or ".join(terms)


def _ways(formula: Formula) -> Iterator[tuple[Comparison, ...]]:
    """Yield the ways in which a formula is true: what must be so together."""
    if isinstance(formula, Comparison):
        yield (formula,)
    elif not formula.every:
        for part in formula.parts:
            yield from _ways(part)
    elif not formula.parts:
        yield ()
    else:
        first, rest = formula.parts[0], formula._replace(parts=formula.parts[1:])
        for way in _ways(first):
            for further in _ways(rest):
                yield (*way, *further)


def _impossible(
    way: Sequence[Comparison], known: Mapping[str, frozenset[Value]]
) -> str | None:
    """Return the term for which no value is right; none where each has one."""
    terms: dict[str, list[Comparison]] = {}
    for comparison in way:
        terms.setdefault(comparison.term, []).append(comparison)
    for term, comparisons in terms.items():
        if not _has_value(term, comparisons, known.get(term)):
            return term
    return None


def _has_value(
    term: str, comparisons: Sequence[Comparison], values: frozenset[Value] | None
) -> bool:
    """Say whether some value is right for all comparisons.

    Args:
        term: What is compared.
        comparisons: What it must be.
        values: The only ones there are; none where anything may be.
    """
    barred: set[Value] = set()
    room = _Room()
    if _NEVER_NEGATIVE.fullmatch(term):
        room = room.within(">=", 0.0)
    for _, sign, compared in comparisons:
        if sign == "in":
            values = compared if values is None else values & compared
        elif sign == "not in":
            barred |= compared
        else:
            for end in compared:
                room = room.within(sign, float(end))
    if values is None:
        return room.least < room.most or (
            room.holds(room.least) and room.least not in barred
        )
    return any(room.holds(value) for value in values - barred)


class _Room(NamedTuple):
    """The numbers between two ends, each of which may be left out."""

    least: float = -math.inf
    least_left_out: bool = False
    most: float = math.inf
    most_held: bool = True

    def within(self, sign: Sign, end: float) -> _Room:
        """Return the room that is left beyond an end."""
        if sign in (">", ">="):
            ends = max((self.least, self.least_left_out), (end, sign == ">"))
            return self._replace(least=ends[0], least_left_out=ends[1])
        ends = min((self.most, self.most_held), (end, sign == "<="))
        return self._replace(most=ends[0], most_held=ends[1])

    def holds(self, value: Value) -> bool:
        """Say whether a value is within; what is no number is anywhere."""
        if isinstance(value, str | bool):
            return True
        above = value > self.least or (value == self.least and not self.least_left_out)
        return above and (value < self.most or (value == self.most and self.most_held))
