"""What the product needs to show an offer: a text, its values, a reason and a click.

The texts themselves are the product's. A creative names the one to use and declares,
each with its type, the values that it needs; they are computed from what the user does
and has. `policies.gates.parameters` rules creatives out of which one is missing, so
that no text ever shows a hole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, Self
from urllib.parse import quote

import msgspec

from policies.model import Action, FeatureValue, OutcomeKind
from policies.rules import Expression, Kind, Variables
from policies.specs import CreativeSpec, ParameterSpec

__all__ = [
    "Message",
    "Parameter",
    "ParameterKind",
    "Value",
    "Wording",
    "cart_token",
    "link_problem",
    "message",
]

ParameterKind = Literal[
    "number", "text", "flag", "money", "percent", "duration", "time"
]
"""What a value is, as `policies.specs.ParameterSpec` describes."""

_NEEDS: dict[ParameterKind, Kind] = {"text": "text", "flag": "flag"}
_MONEY_MAX = 2**53
_YEAR_10000_MS = 253_402_300_800_000
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("offer_id", "creative_id", "placement_id", "decision_id")


class Value(msgspec.Struct, frozen=True):
    """A value of a text.

    Attributes:
        value: A text that is not blank for `text`, a flag for `flag`, an integer in
            minor units of the catalogue's currency for `money`, one from 1970 to the
            year 9999 in milliseconds for `time`, else a finite number.
    """

    kind: ParameterKind
    value: FeatureValue


class Message(msgspec.Struct, frozen=True):
    """How an offer is shown, and what the user can do about it.

    Attributes:
        template: The id of the text in the product.
        parameters: What the text needs, by name.
        reason: Why the user sees it, as a code that the product words.
        link: Where one click leads; empty where there is a cart token.
        cart_token: What one click puts into the cart: a name of this offer in this
            decision that nobody can guess who does not know the decision's id.
        replies: What the user can always do besides, as outcomes to report.
    """

    template: str
    parameters: dict[str, Value]
    reason: str = ""
    link: str = ""
    cart_token: str = ""
    replies: tuple[OutcomeKind, ...] = ("dismissed", "snoozed")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a text needs, ready to be computed.

    Attributes:
        name: What the text calls it.
    """

    name: str
    kind: ParameterKind
    expression: Expression

    @classmethod
    def of(
        cls, name: str, spec: ParameterSpec, expression: Callable[[str], Expression]
    ) -> Self:
        """Make one from what a catalogue says; `expression` compiles."""
        return cls(name, spec.type, expression(spec.value))

    @property
    def problem(self) -> str | None:
        """What is wrong with it whatever is asked; none where nothing is known to be.

        Examples:
            >>> spec = ParameterSpec("segment", "money")
            >>> Parameter.of("price", spec, lambda text: Expression(text, {})).problem
            'gives a text, but is declared as money, which is a number'
        """
        needed, given = _NEEDS.get(self.kind, "number"), self.expression.kind
        if given is None or given == needed:
            return None
        return f"gives a {given}, but is declared as {self.kind}, which is a {needed}"

    def value(self, variables: Variables) -> FeatureValue | None:
        """Return the value; none where it cannot be computed or is of another type."""
        value = self.expression.value(variables)
        if isinstance(value, bool):
            return value if self.kind == "flag" else None
        if isinstance(value, str):
            return value if self.kind == "text" and value.strip() else None
        if value is None or self.kind in _NEEDS:
            return None
        if self.kind == "money":
            return _minor(value)
        return _instant(value) if self.kind == "time" else value


@dataclass(frozen=True, slots=True)
class Wording:
    """A creative, ready to be put into a message.

    Attributes:
        template: The id of the text in the product.
        reason: Why users see it, as a code that the product words.
        link: Where one click leads, with fields to fill in; empty for a cart token.
        parameters: What the text needs.
    """

    template: str
    reason: str = ""
    link: str = ""
    parameters: tuple[Parameter, ...] = ()

    @classmethod
    def of(
        cls,
        creative_id: str,
        creative: CreativeSpec,
        expression: Callable[[str], Expression],
    ) -> Self:
        """Make one from what a catalogue says; `expression` compiles."""
        parameters = [
            Parameter.of(name, spec, expression)
            for name, spec in creative.parameters.items()
        ]
        template = creative.template or creative_id
        return cls(template, creative.reason, creative.action, tuple(parameters))


def message(
    action: Action, wording: Wording, variables: Variables, decision_id: str
) -> Message:
    """Say how the product shows an action that was chosen.

    Args:
        action: What was chosen, an offer.
        wording: Its creative.
        variables: What was known when it was chosen.
        decision_id: The decision that chose it.

    Raises:
        ValueError: If a parameter cannot be computed, so that the action could not
            be chosen.

    Examples:
        >>> from policies.model import Context, Opportunity, Usage
        >>> creative = CreativeSpec(
        ...     parameters={"left": ParameterSpec("usage.gb.limit - usage.gb.value")},
        ...     reason="near_storage_limit",
        ...     action="https://shop.example/buy?o={offer_id}",
        ... )
        >>> wording = Wording.of("plain", creative, lambda text: Expression(text, {}))
        >>> context = Context(usage={"gb": Usage(92.0, 100.0)})
        >>> asked = Opportunity("d", 0, "ada", ("home",), context=context)
        >>> action = Action(1, "more storage", "plain", "home", ())
        >>> said = message(action, wording, Variables(asked), "d")
        >>> said.template, said.parameters["left"], said.link
        ('plain', Value(kind='number', value=8.0), 'https://shop.example/buy?o=more%20storage')
    """
    values: dict[str, Value] = {}
    for parameter in wording.parameters:
        value = parameter.value(variables)
        if value is None:
            raise ValueError(f"{action.name}: {parameter.name} cannot be computed")
        values[parameter.name] = Value(parameter.kind, value)
    link = _filled(wording.link, action, decision_id)
    token = "" if link else cart_token(decision_id, action.offer_id)
    return Message(wording.template, values, wording.reason, link, token)


def cart_token(decision_id: str, offer_id: str) -> str:
    """Name an offer in a decision, in 16 hexadecimal digits.

    Examples:
        >>> cart_token("d", "tea") == cart_token("d", "tea")
        True
        >>> cart_token("d", "tea") == cart_token("dt", "ea")
        False
    """
    # The length of the first part keeps the two apart.
    named = f"{len(decision_id)}:{decision_id}{offer_id}".encode()
    return blake2b(named, digest_size=8, person=b"cart").hexdigest()


def link_problem(link: str) -> str | None:
    """Say what is wrong with the link of a creative; none where nothing is.

    Examples:
        >>> link_problem("https://shop.example/{offer}").partition(";")[0]
        'holds {offer}'
        >>> link_problem("https://shop.example/{offer_id}") is None
        True
    """
    unknown = sorted({name for name in _FIELD.findall(link) if name not in _FIELDS})
    known = ", ".join(f"{{{name}}}" for name in _FIELDS)
    if unknown:
        held = ", ".join(f"{{{name}}}" for name in unknown)
        return f"holds {held}; a link may hold {known}"
    if set("{}") & set(_FIELD.sub("", link)):
        return f"holds a brace on its own; a link may hold {known}"
    return None


def _filled(link: str, action: Action, decision_id: str) -> str:
    fields = {
        "offer_id": action.offer_id,
        "creative_id": action.creative_id,
        "placement_id": action.placement_id,
        "decision_id": decision_id,
    }
    return _FIELD.sub(
        lambda field: (
            quote(fields[field[1]], safe="") if field[1] in fields else field[0]
        ),
        link,
    )


def _minor(value: float) -> int | None:
    """Return an amount of money; none where there are fractions of the minor unit."""
    if value != int(value) or abs(value) > _MONEY_MAX:
        return None
    return int(value)


def _instant(value: float) -> int | None:
    """Return a time to the millisecond; none where calendars end."""
    return int(value) if 0 <= value < _YEAR_10000_MS else None
