"""Rules and expressions in CEL, the Common Expression Language.

A rule says whether something holds, an expression gives a number, a text or a flag.
Both see the variables `user_id`, `account_id`, `role`, `segment`, `placements`,
`usage.NAME.value`, `usage.NAME.limit`, `usage.NAME.ratio`, `usage.NAME.per_day`,
`usage.NAME.days_left`, `moment.kind`, `moment.features.NAME`, `features.NAME`, `owned`,
`cart`, `states`, `engagement` and `value_discovered`; of the features those that the
catalogue declares. A rule that needs something that is not known does not hold, and
an expression that does gives nothing.

CEL has no limit on what a rule may cost, so what could cost much is refused when
the rule is compiled: long sources, many brackets, many lists, macros, which run through
lists, and regular expressions, which are compiled anew at each evaluation. The source
is searched for these as it stands, strings and all, so that nothing in it hides them.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import cel

from policies.model import (
    NO_HISTORY,
    FeatureValue,
    History,
    LifeState,
    Opportunity,
    Usage,
)

__all__ = ["Expression", "Kind", "Rule", "Variables", "kind_of", "over_ms"]

Kind = Literal["number", "text", "flag"]
"""What a value is."""

_DAY_MS = 86_400_000
_LENGTH_MAX = 1_000
_TEXT_MAX = 256
_BRACKETS_MAX = 64
_LISTS_MAX = 32
_COSTLY = re.compile(r"\b(all|exists|exists_one|map|filter|matches)\s*\(")
_LISTS = re.compile(r"\b(?:owned|cart|states)\b")
_PATH = re.compile(r"(?<![\w.])([a-z]\w*(?:\s*\.\s*\w+)*)(\s*\()?")
_MEMBER = re.compile(r"\bfeatures\s*\.\s*(\w+)\b(?!\s*\()")
_ENTRY = re.compile(r"\bfeatures\s*\[\s*['\"]([^'\"]*)['\"]\s*\]")
_USAGE = re.compile(r"\busage\s*\.\s*(\w+)\b(?!\s*\()")
_USAGE_ENTRY = re.compile(r"\busage\s*\[\s*['\"]([^'\"]*)['\"]\s*\]")
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class _Compiled(ABC):
    """What rules and expressions have in common."""

    _noun: ClassVar[str]
    _empty: ClassVar[str]

    def __init__(self, source: str, features: Mapping[str, FeatureValue]) -> None:
        if not source.strip():
            raise ValueError(f"is empty; {self._empty}")
        _refuse_the_costly(source, self._noun)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            reason = str(error).partition("\n")[0].partition(" expecting {")[0]
            raise ValueError(f"is not CEL: {reason}") from None
        unknown = sorted(set(self._program.variables()) - _ROOTS.keys())
        if unknown:
            known = ", ".join(sorted(_ROOTS))
            raise ValueError(
                f"names {', '.join(unknown)}; {self._noun} may name {known}"
            )
        self._reads = _reads(source, self._program.variables())
        named = {*_MEMBER.findall(_STRING.sub("''", source)), *_ENTRY.findall(source)}
        undeclared = sorted(named - set(features))
        if undeclared:
            raise ValueError(
                f"names features that are not declared: {', '.join(undeclared)}"
            )
        self._try_out(features)

    @property
    def source(self) -> str:
        """What was compiled."""
        source: str = self._program.source
        return source

    @property
    def reads(self) -> frozenset[str]:
        """What it looks at: names of variables, and `features.NAME` of those."""
        return self._reads

    @abstractmethod
    def _check(self, value: object) -> None:
        """Refuse what the sample gave, by a ValueError, if it is of a wrong type."""

    def _try_out(self, features: Mapping[str, FeatureValue]) -> None:
        """Evaluate on a request that holds all that may be asked for."""
        variables = _sample(self.source, features)
        try:
            value = self._program.execute(cel.Context(variables=variables))
        except LookupError as error:
            raise ValueError(f"names {error}, which no request holds") from None
        except TypeError:
            raise ValueError(
                "compares or combines values of different types; the types of features"
                " are those that [features] declares, and all numbers of requests are"
                " doubles"
            ) from None
        except RuntimeError as error:
            if "Undefined" in str(error) or "not enabled" in str(error):
                raise ValueError(f"calls what CEL does not have: {error}") from None
            return  # As below.
        except (ValueError, ArithmeticError):
            return  # The values of a real request decide.
        self._check(value)

    def seen(self, variables: Variables) -> dict[str, object]:
        """Return the values of what it names, such as `usage.gb.ratio`, for people.

        What is not known is none; what it names otherwise than by dots is left out.
        """
        values: dict[str, object] = {}
        for match in _PATH.finditer(_STRING.sub("''", self.source)):
            names = [name.strip() for name in match[1].split(".")]
            if match[2]:  # A function, or a method of what stands before it.
                names.pop()
            if names and names[0] in _ROOTS:
                values[".".join(names)] = variables.at(names)
        return {
            path: value
            for path, value in values.items()
            if not isinstance(value, Mapping)
        }

    def _execute(self, variables: Variables) -> object:
        """Evaluate; none where that fails."""
        try:
            value: object = self._program.execute(variables.context)
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
            return None
        return value


class Rule(_Compiled):
    """A compiled rule.

    Args:
        source: The rule in CEL.
        features: The features that the catalogue declares, each with some value.

    Raises:
        ValueError: If it is not CEL, names what no request can hold, or could
            run for long.

    Examples:
        >>> from policies.model import Context, Opportunity
        >>> rule = Rule("segment == 'free' && features.seats < 5.0", {"seats": 1.0})
        >>> context = Context(segment="free", features={"seats": 3.0})
        >>> asked = Opportunity("d", 0, "ada", ("home",), context=context)
        >>> rule.holds(Variables(asked))
        True
    """

    _noun = "a rule"
    _empty = "leave the key out for an offer that all may see"

    def holds(self, variables: Variables) -> bool:
        """Say whether the rule holds; what cannot be evaluated does not."""
        return self._execute(variables) is True

    def _check(self, value: object) -> None:
        if not isinstance(value, bool):
            raise ValueError(  # noqa: TRY004 - Like all else that is refused here.
                f"must be true or false, not {value!r}"
            )


class Expression(_Compiled):
    """A compiled expression.

    Args:
        source: The expression in CEL.
        features: The features that the catalogue declares, each with some value.

    Attributes:
        kind: What it gives; none where only the values of a real request tell.

    Raises:
        ValueError: If it is not CEL, names what no request can hold, could run for
            long, or gives something else than a number, a text or a flag.

    Examples:
        >>> from policies.model import Context, Opportunity, Usage
        >>> left = Expression("usage.gb.limit - usage.gb.value", {})
        >>> context = Context(usage={"gb": Usage(8.0, 10.0)})
        >>> asked = Opportunity("d", 0, "ada", ("home",), context=context)
        >>> left.value(Variables(asked))
        2.0
    """

    _noun = "an expression"
    _empty = "it must give a value"

    def __init__(self, source: str, features: Mapping[str, FeatureValue]) -> None:
        self.kind: Kind | None = None
        super().__init__(source, features)

    def value(self, variables: Variables) -> FeatureValue | None:
        """Return the value; none where it cannot be computed.

        A number that is not finite, or a text of more than 256 characters, is none
        either. What was computed once from the same variables is not computed again.
        """
        known = variables.values
        if self not in known:
            known[self] = _usable(self._execute(variables))
        return known[self]

    def _check(self, value: object) -> None:
        self.kind = kind_of(value)
        if self.kind is None:
            raise ValueError(f"must give a number, a text or a flag, not {value!r}")


def kind_of(value: object) -> Kind | None:
    """Return what a value is; none for what no expression may give."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, (int, float)) else None


def _usable(value: object) -> FeatureValue | None:
    if isinstance(value, str):
        return value if len(value) <= _TEXT_MAX else None
    if isinstance(value, (int, float)) and math.isfinite(value):
        return value
    return None


class Variables:
    """What rules can see of a moment, made when the first rule looks.

    Args:
        opportunity: What is asked.
        reads: What the rules look at, as `Rule.reads` has it; to hand CEL more costs
            about 2 µs a value. Everything where it is none.
        history: What is known of the user's past.
        account: What is known of the account's past.

    Attributes:
        values: What expressions gave so far.
    """

    def __init__(
        self,
        opportunity: Opportunity,
        reads: frozenset[str] | None = None,
        *,
        history: History = NO_HISTORY,
        account: History = NO_HISTORY,
    ) -> None:
        self._known = _Known(opportunity, history, account)
        self._reads = reads
        self._context: cel.Context | None = None
        self.values: dict[Expression, FeatureValue | None] = {}

    @property
    def context(self) -> cel.Context:
        """The variables, as CEL takes them."""
        if self._context is None:
            variables = _variables(self._known, self._reads)
            self._context = cel.Context(variables=variables)
        return self._context

    def at(self, path: Sequence[str]) -> object:
        """Return the value under a variable, and names below it; none if there is none.

        This is for people who ask why: all variables are made anew.
        """
        value: object = _variables(self._known, None)
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


class _Known(NamedTuple):
    """What variables are made from."""

    opportunity: Opportunity
    history: History
    account: History


def _variables(known: _Known, reads: frozenset[str] | None) -> dict[str, Any]:
    """Make the variables that are looked at; of the features alone if so."""
    if reads is None:
        return {root: make(known) for root, make in _ROOTS.items()}
    made = {root: make(known) for root, make in _ROOTS.items() if root in reads}
    if "features" not in made:
        features = known.opportunity.context.features
        made["features"] = {
            name: features[name] for name in features if f"features.{name}" in reads
        }
    return made


def _role(known: _Known) -> str:
    told = known.history.state.role or known.account.state.role
    return known.opportunity.context.role or told


def _moment(known: _Known) -> dict[str, Any]:
    moment = known.opportunity.context.moment
    return {"kind": moment.kind, "features": moment.features}


def _usages(known: _Known) -> dict[str, dict[str, float]]:
    at_ms = known.opportunity.at_ms
    usages = known.opportunity.context.usage
    return {name: _usage(usage, at_ms) for name, usage in usages.items()}


def _usage(usage: Usage, at_ms: int) -> dict[str, float]:
    found = {"value": usage.value}
    if usage.limit is not None:
        found["limit"] = usage.limit
        found["ratio"] = usage.value / usage.limit
    if usage.per_day is not None:
        found["per_day"] = usage.per_day
    if usage.until_ms is not None and usage.until_ms >= at_ms:
        found["days_left"] = (usage.until_ms - at_ms) / _DAY_MS
    return found


def _owned(known: _Known) -> list[str]:
    return sorted({*known.history.state.owned, *known.account.state.owned})


def _states(known: _Known) -> list[str]:
    at_ms = known.opportunity.at_ms
    return sorted(
        {
            name
            for history in (known.history, known.account)
            for name, state in history.state.life.items()
            if state.since_ms <= at_ms < over_ms(state)
        }
    )


def over_ms(state: LifeState) -> float:
    """Return when a life-state is over; infinity where nobody knows."""
    if state.cleared_ms is not None:
        return state.cleared_ms
    return math.inf if state.until_ms is None else state.until_ms


def _value_discovered(known: _Known) -> bool:
    user, account = known.history.state, known.account.state
    return user.value_discovered or account.value_discovered


_ROOTS: dict[str, Callable[[_Known], Any]] = {
    "user_id": lambda known: known.opportunity.user_id,
    "account_id": lambda known: known.opportunity.account_id,
    "role": _role,
    "segment": lambda known: known.opportunity.context.segment,
    "placements": lambda known: list(known.opportunity.placements),
    "usage": _usages,
    "moment": _moment,
    "features": lambda known: known.opportunity.context.features,
    "owned": _owned,
    "cart": lambda known: list(known.opportunity.context.cart),
    "states": _states,
    "engagement": lambda known: (
        known.history.state.engagement or known.account.state.engagement
    ),
    "value_discovered": _value_discovered,
}


def _reads(source: str, variables: Sequence[str]) -> frozenset[str]:
    """Return what a rule looks at, and of the features which, where it names them."""
    bare = _STRING.sub("''", source)
    members = _MEMBER.findall(bare)
    reads = set(variables)
    if len(members) == len(re.findall(r"\bfeatures\b", bare)) and members:
        reads.discard("features")
        reads.update(f"features.{member}" for member in members)
    return frozenset(reads)


def _sample(source: str, features: Mapping[str, FeatureValue]) -> dict[str, Any]:
    """Return variables that hold every usage that a rule names."""
    usage = _usage(Usage(1.0, 2.0, per_day=1.0, until_ms=_DAY_MS), 0)
    named = [*_USAGE.findall(source), *_USAGE_ENTRY.findall(source)]
    nothing = _Known(Opportunity("", 0, "", ()), NO_HISTORY, NO_HISTORY)
    return {
        **_variables(nothing, None),
        "usage": dict.fromkeys(named, usage),
        "moment": {"kind": "", "features": dict(features)},
        "features": dict(features),
        "owned": ["a"],
        "cart": ["a"],
        "states": ["a"],
    }


def _refuse_the_costly(source: str, noun: str) -> None:
    if len(source) > _LENGTH_MAX:
        raise ValueError(f"has {len(source)} characters; at most {_LENGTH_MAX}")
    brackets = sum(map(source.count, "([{"))
    if brackets > _BRACKETS_MAX:
        raise ValueError(f"opens {brackets} brackets; at most {_BRACKETS_MAX}")
    if re.search(r"\b[rRbB]{1,2}''|''''", _STRING.sub("''", source)):
        raise ValueError("holds a raw, byte or triple-quoted string; use plain ones")
    if "//" in source:
        raise ValueError("holds //; comments belong in the file, after a #")
    if costly := _COSTLY.search(source):
        raise ValueError(
            f"uses {costly.group(1)}; {noun} may use in, startsWith, endsWith and"
            " contains, but nothing that could run for long"
        )
    _refuse_long_lists(source)


def _refuse_long_lists(source: str) -> None:
    """Refuse what could make many copies of what a user has, some thousand products."""
    lists = len(_LISTS.findall(source))
    if lists > _LISTS_MAX:
        raise ValueError(
            f"names owned, cart and states {lists} times; at most {_LISTS_MAX}"
        )
    pluses = source.count("+")
    if lists * pluses > _LISTS_MAX:
        raise ValueError(
            f"names owned, cart and states {lists} times and holds {pluses} signs +;"
            f" the product may be at most {_LISTS_MAX}"
        )
