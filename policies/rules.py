"""Eligibility rules in CEL, the Common Expression Language.

A rule sees the variables `user_id`, `account_id`, `role`, `segment`, `placements`,
`usage.NAME.value`, `usage.NAME.limit`, `usage.NAME.ratio`, `moment.kind`,
`moment.features.NAME` and `features.NAME`; of the features those that the
catalogue declares. A rule that needs something the request does not hold does not
hold itself.

CEL has no limit on what a rule may cost, so what could cost much is refused when
the rule is compiled: long sources, many brackets, macros, which run through lists, and
regular expressions, which are compiled anew at each evaluation. The source is searched
for these as it stands, strings and all, so that nothing in it can hide them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import cel

from policies.model import Context, FeatureValue, Opportunity

__all__ = ["Rule", "Variables"]

_LENGTH_MAX = 1_000
_BRACKETS_MAX = 64
_COSTLY = re.compile(r"\b(all|exists|exists_one|map|filter|matches)\s*\(")
_MEMBER = re.compile(r"\bfeatures\s*\.\s*(\w+)\b(?!\s*\()")
_ENTRY = re.compile(r"\bfeatures\s*\[\s*['\"]([^'\"]*)['\"]\s*\]")
_USAGE = re.compile(r"\busage\s*\.\s*(\w+)\b(?!\s*\()")
_USAGE_ENTRY = re.compile(r"\busage\s*\[\s*['\"]([^'\"]*)['\"]\s*\]")
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class Rule:
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

    def __init__(self, source: str, features: Mapping[str, FeatureValue]) -> None:
        _refuse_the_costly(source)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            reason = str(error).partition("\n")[0].partition(" expecting {")[0]
            raise ValueError(f"is not CEL: {reason}") from None
        unknown = sorted(set(self._program.variables()) - _ROOTS)
        if unknown:
            known = ", ".join(sorted(_ROOTS))
            raise ValueError(f"names {', '.join(unknown)}; a rule may name {known}")
        self._reads = _reads(source, self._program.variables())
        named = {*_MEMBER.findall(_STRING.sub("''", source)), *_ENTRY.findall(source)}
        undeclared = sorted(named - set(features))
        if undeclared:
            raise ValueError(
                f"names features that are not declared: {', '.join(undeclared)}"
            )
        self._try_out(features)

    def _try_out(self, features: Mapping[str, FeatureValue]) -> None:
        """Evaluate the rule on a request that holds all that it may ask for."""
        variables = _sample(self._program.source, features)
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
            if "Undefined" in str(error):
                raise ValueError(f"calls what CEL does not have: {error}") from None
            return  # As below.
        except (ValueError, ArithmeticError):
            return  # The values of a real request decide.
        if value not in (True, False):
            raise ValueError(f"must be true or false, not {value!r}")

    @property
    def reads(self) -> frozenset[str]:
        """What the rule looks at: names of variables, and `features.NAME` of those."""
        return self._reads

    def holds(self, variables: Variables) -> bool:
        """Say whether the rule holds; what cannot be evaluated does not."""
        try:
            return self._program.execute(variables.context) is True
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
            return False


class Variables:
    """What rules can see of an opportunity, made when the first rule looks.

    Args:
        opportunity: What is asked.
        reads: What the rules look at, as `Rule.reads` has it; to hand CEL more costs
            about 2 µs a value. Everything where it is none.
    """

    def __init__(
        self, opportunity: Opportunity, reads: frozenset[str] | None = None
    ) -> None:
        self._opportunity = opportunity
        self._reads = reads
        self._context: cel.Context | None = None

    @property
    def context(self) -> cel.Context:
        """The variables, as CEL takes them."""
        if self._context is None:
            variables = _variables(self._opportunity)
            if self._reads is not None:
                variables = _only(self._reads, variables)
            self._context = cel.Context(variables=variables)
        return self._context


def _variables(opportunity: Opportunity) -> dict[str, Any]:
    context = opportunity.context
    return {
        "user_id": opportunity.user_id,
        "account_id": opportunity.account_id,
        "role": context.role,
        "segment": context.segment,
        "placements": list(opportunity.placements),
        "usage": _usage(context),
        "moment": {
            "kind": context.moment.kind,
            "features": context.moment.features,
        },
        "features": context.features,
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


def _only(reads: frozenset[str], variables: dict[str, Any]) -> dict[str, Any]:
    """Leave out what no rule looks at, but for the empty maps."""
    kept = {name: value for name, value in variables.items() if name in reads}
    if "features" not in kept:
        features = variables["features"]
        kept["features"] = {
            name: features[name] for name in features if f"features.{name}" in reads
        }
    return kept


def _sample(source: str, features: Mapping[str, FeatureValue]) -> dict[str, Any]:
    """Return variables that hold every usage that a rule names."""
    usage = {"value": 1.0, "limit": 2.0, "ratio": 0.5}
    named = [*_USAGE.findall(source), *_USAGE_ENTRY.findall(source)]
    return {
        **_EMPTY,
        "usage": dict.fromkeys(named, usage),
        "moment": {"kind": "", "features": dict(features)},
        "features": dict(features),
    }


def _usage(context: Context) -> dict[str, dict[str, float]]:
    usages: dict[str, dict[str, float]] = {}
    for name, usage in context.usage.items():
        usages[name] = {"value": usage.value}
        if usage.limit is not None:
            usages[name]["limit"] = usage.limit
            usages[name]["ratio"] = usage.value / usage.limit
    return usages


_EMPTY = _variables(Opportunity("", 0, "", ()))
_ROOTS = frozenset(_EMPTY)


def _refuse_the_costly(source: str) -> None:
    if not source.strip():
        raise ValueError("is empty; leave the key out for an offer that all may see")
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
            f"uses {costly.group(1)}; a rule may use in, startsWith, endsWith and"
            " contains, but nothing that could run for long"
        )
