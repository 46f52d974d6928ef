"""Eligibility rules in CEL, the Common Expression Language.

A rule sees the variables `user_id`, `account_id`, `role`, `segment`, `placements`,
`usage.NAME.value`, `usage.NAME.limit`, `usage.NAME.ratio`, `moment.kind`,
`moment.features.NAME` and `features.NAME`; of the features those that the
catalogue declares. A rule that needs something the request does not hold does not
hold itself.

CEL has no limit on what a rule may cost, so what could cost much is refused when
the rule is compiled: long sources, deep nesting, and more than one macro.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import cel

from policies.model import Context, FeatureValue, Opportunity

__all__ = ["Rule", "Variables"]

_LENGTH_MAX = 1_000
_NESTING_MAX = 32
_ROOTS = frozenset(
    ["account_id", "features", "moment", "placements", "role", "segment", "usage", "user_id"]
)
_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_FEATURE = re.compile(r"\bfeatures\s*(?:\.\s*(\w+)|\[\s*['\"]([^'\"]*)['\"]\s*\])")
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
        >>> rule.holds(Variables(Opportunity("d", 0, "ada", ("home",), context=context)))
        True
    """

    def __init__(self, source: str, features: Collection[str]) -> None:
        _refuse_the_costly(source)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            reason = str(error).replace("\n", " ")
            raise ValueError(f"is not CEL: {reason}") from None
        local = _macro_variables(source)
        unknown = sorted(set(self._program.variables()) - _ROOTS - local)
        if unknown:
            known = ", ".join(sorted(_ROOTS))
            raise ValueError(f"names {', '.join(unknown)}; a rule may name {known}")
        named = {dot or key for dot, key in _FEATURE.findall(source)}
        undeclared = sorted(named - set(features))
        if undeclared:
            raise ValueError(
                f"names features that [features] does not declare: {', '.join(undeclared)}"
            )
        try:
            self._program.execute(cel.Context(variables=_EMPTY))
        except LookupError:
            pass  # The request may hold what an empty one does not.
        except RuntimeError as error:
            if "Undefined" in str(error):
                raise ValueError(f"calls what CEL does not have: {error}") from None
        except (TypeError, ValueError, OverflowError):
            pass  # As above: the values decide.

    def holds(self, variables: Variables) -> bool:
        """Say whether the rule holds; what cannot be evaluated does not."""
        try:
            return self._program.execute(variables.context) is True
        except (LookupError, TypeError, ValueError, OverflowError, RuntimeError):
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
            "features": _numbers(context.moment.features),
        },
        "features": _numbers(context.features),
    }


def _usage(context: Context) -> dict[str, dict[str, float]]:
    usages: dict[str, dict[str, float]] = {}
    for name, usage in context.usage.items():
        usages[name] = {"value": float(usage.value)}
        if usage.limit is not None:
            usages[name]["limit"] = float(usage.limit)
            usages[name]["ratio"] = usage.value / usage.limit
    return usages


def _numbers(features: dict[str, FeatureValue]) -> dict[str, FeatureValue]:
    """Make every number a double, as CEL does not compare it otherwise."""
    return {
        name: float(value) if type(value) is int else value
        for name, value in features.items()
    }


_EMPTY = _variables(Opportunity("", 0, "", ()))


def _macro_variables(source: str) -> set[str]:
    bare = _STRING.sub("''", source)
    macro = re.search(_MACRO.pattern + r"\s*(\w+)\s*,", bare)
    return {macro.group(1)} if macro else set()


def _refuse_the_costly(source: str) -> None:
    if not source.strip():
        raise ValueError("is empty; leave the key out for an offer that all may see")
    if len(source) > _LENGTH_MAX:
        raise ValueError(f"has {len(source)} characters; at most {_LENGTH_MAX}")
    bare = _STRING.sub("''", source)
    if len(_MACRO.findall(bare)) > 1:
        raise ValueError("has more than one of all, exists, exists_one, map and filter")
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > _NESTING_MAX:
        raise ValueError(f"nests {deepest} deep; at most {_NESTING_MAX}")
