"""Puts what was asked, and what came, into words."""

from __future__ import annotations

from collections.abc import Sequence

from examples.scenarios.comparing import reason_of, value_of
from examples.scenarios.script import Ask, Step
from opportune.v1 import Decision, Money, ParameterValue, Rejection
from policies.model import FeatureValue

__all__ = ["asked", "why_offered", "why_silent"]


def asked(step: Step, ask: Ask) -> str:
    """Say what the product asks."""
    whom = f"{step.user} of {step.account}" if step.account else step.user
    if step.crowd:
        whom += f" and {step.crowd} others"
    parts = [whom, ask.moment, ask.role and f"as {ask.role}"]
    if ask.cart:
        parts.append(f"cart: {', '.join(ask.cart)}")
    for name, gauge in ask.usage.items():
        limit = "" if gauge.limit is None else f" of {gauge.limit:,g}"
        parts.append(f"{name} {gauge.value:,g}{limit}")
    parts += [f"{name} {_said(value)}" for name, value in ask.features.items()]
    if ask.offers:
        parts.append(f"only {', '.join(ask.offers)}")
    parts.append(f"in {', '.join(ask.placements)}")
    return " · ".join(part for part in parts if part)


def why_offered(decision: Decision) -> str:
    """Say where an offer is shown, what the user is told, and what it costs."""
    message = decision.message
    said = message.reason_code or message.template_id
    parameters = sorted(message.parameters.items())
    values = [f"{name} {_worded(parameter)}" for name, parameter in parameters]
    if values:
        said += f" ({', '.join(values)})"
    if decision.HasField("price"):
        said += f", {_amount(decision.price.price)}"
    return f"{decision.placement_id}: {said}"


def why_silent(decision: Decision, rejections: Sequence[Rejection]) -> str:
    """Say why nothing is shown, and what would have had to differ."""
    said = reason_of(decision.reason)
    for rejection in rejections:
        if rejection.reason == decision.reason:
            return f"{said}: {rejection.found}; needed: {rejection.needed}"
    return said


def _worded(parameter: ParameterValue) -> str:
    kind = parameter.WhichOneof("kind")
    if kind == "money":
        return _amount(parameter.money)
    if kind == "percent":
        return f"{100 * parameter.percent:g} %"
    return _said(value_of(parameter))


def _amount(money: Money) -> str:
    return f"{money.minor_units / 100:,.2f} {money.currency_code}"


def _said(value: FeatureValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:,g}"
