"""A text is shown where all is known that it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import listed
from policies.messages import Parameter, Wording
from policies.model import Action
from policies.rules import Variables

__all__ = ["Parameters"]

_MISSING = Ruling("MISSING_PARAMETER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Rules a creative out of which a parameter cannot be computed.

    Attributes:
        parameters: What its text needs, at least one.
    """

    name: ClassVar[str] = "parameters"
    scope: ClassVar[Scope] = "action"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one for a creative whose text needs anything."""
        wording = Wording.of(facts.creative_id, facts.creative, facts.expression)
        if wording.parameters:
            yield cls(parameters=wording.parameters)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return MISSING_PARAMETER where one has no value, or one of another type."""
        del action
        for parameter in self.parameters:
            if parameter.value(situation.variables) is None:
                return _MISSING
        return None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return which are missing, and what they are computed from."""
        del action
        variables = situation.variables
        missing = [p for p in self.parameters if p.value(variables) is None]
        return Because(
            "; ".join(f"{p.name}: {_why(p, variables)}" for p in missing),
            "; ".join(f"{p.name} = {p.expression.source}" for p in missing),
        )


def _why(parameter: Parameter, variables: Variables) -> str:
    """Say why a parameter is missing."""
    seen = parameter.expression.seen(variables)
    unknown = [path for path, value in seen.items() if value is None]
    if unknown:
        return f"{listed(unknown)} not known"
    value = parameter.expression.value(variables)
    if value is None:
        return "cannot be computed"
    return f"{value!r} is no {parameter.kind}"
