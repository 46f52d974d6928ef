"""Eligibility rules in CEL, the Common Expression Language.

A rule sees the variables `user_id`, `account_id`, `role`, `segment`, `placements`,
`usage.NAME.value`, `usage.NAME.limit`, `usage.NAME.ratio`, `moment.kind`,
`moment.features.NAME` and `features.NAME`; of the features those that the
catalogue declares. A rule that needs something the request does not hold does not
hold itself.

CEL has no limit on what a rule may cost, so what could cost much is refused when
the rule is compiled: long sources, many brackets, more than one macro, and regular
expressions, which are compiled anew at each evaluation. The source is searched for
these as it stands, strings and all, so that nothing in it can hide them.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import cel

from policies.model import Context, Opportunity

__all__ = ["Rule", "Variables"]

_LENGTH_MAX = 1_000
_BRACKETS_MAX = 64
_MACRO = re.compile(r"\b(?:all|exists|exists_one|map|filter)\s*\(")
_BOUND = re.compile(_MACRO.pattern + r"\s*(\w+)\s*,")
_MEMBER = re.compile(r"\bfeatures\s*\.\s*(\w+)")
_ENTRY = re.compile(r"\bfeatures\s*\[\s*['\"]([^'\"]*)['\"]\s*\]")
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


class Rule:
    """A compiled rule.

    Args:
        source: The rule in CEL.
        features: The names of the features that the catalogue declares.

    Raises:
        ValueError: If it is not CEL, names what no request can hold, or could
            run for long.

    Examples:
        >>> from policies.model import Context, Opportunity
        >>> rule = Rule("segment == 'free' && features.seats < 5.0", {"seats"})
        >>> context = Context(segment="free", features={"seats": 3.0})
        >>> asked = Opportunity("d", 0, "ada", ("home",), context=context)
        >>> rule.holds(Variables(asked))
        True
    """

    def __init__(self, source: str, features: Collection[str]) -> None:
        _refuse_the_costly(source)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            reason = str(error).replace("\n", " ")
            raise ValueError(f"is not CEL: {reason}") from None
        local = set(_BOUND.findall(source))
        unknown = sorted(set(self._program.variables()) - _ROOTS - local)
        if unknown:
            known = ", ".join(sorted(_ROOTS))
            raise ValueError(f"names {', '.join(unknown)}; a rule may name {known}")
        named = {*_MEMBER.findall(_STRING.sub("''", source)), *_ENTRY.findall(source)}
        undeclared = sorted(named - set(features))
        if undeclared:
            raise ValueError(
                f"names features that are not declared: {', '.join(undeclared)}"
            )
        try:
            self._program.execute(cel.Context(variables=_EMPTY))
        except LookupError:
            pass  # The request may hold what an empty one does not.
        except RuntimeError as error:
            if "Undefined" in str(error):
                raise ValueError(f"calls what CEL does not have: {error}") from None
        except (TypeError, ValueError, ArithmeticError):
            pass  # As above: the values decide.

    def holds(self, variables: Variables) -> bool:
        """Say whether the rule holds; what cannot be evaluated does not."""
        try:
            return self._program.execute(variables.context) is True
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError):
            return False


class Variables:
    """What rules can see of an opportunity, made when the first rule looks."""

    def __init__(self, opportunity: Opportunity) -> None:
        self._opportunity = opportunity
        self._context: cel.Context | None = None

    @property
    def context(self) -> cel.Context:
        """The variables, as CEL takes them."""
        if self._context is None:
            self._context = cel.Context(variables=_variables(self._opportunity))
        return self._context


def _variables(opportunity: Opportunity) -> dict[str, object]:
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
    if len(_MACRO.findall(source)) > 1:
        raise ValueError("has more than one of all, exists, exists_one, map and filter")
    if "//" in source:
        raise ValueError("holds //; comments belong in the file, after a #")
    if re.search(r"\bmatches\b", source):
        raise ValueError("uses matches; use startsWith, endsWith, contains or ==")
