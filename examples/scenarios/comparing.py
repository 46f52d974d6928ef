"""Compares what came with what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from examples.scenarios.script import Expect
from examples.scenarios.wire import ms
from opportune.v1 import Decision, ParameterValue, Reason, Rejection
from policies.model import FeatureValue
from policies.toml import Duration

__all__ = ["misses", "reason_of", "refusals", "value_of"]

_NEVER = "never"


def misses(expect: Expect, decisions: Sequence[Decision]) -> Iterator[str]:
    """Say what of the answer is not as expected."""
    chosen = tuple([d.offer_id for d in decisions if d.offer_id])
    first = decisions[0]
    if chosen != expect.chosen:
        found = ", ".join(chosen) or f"nothing ({reason_of(first.reason)})"
        yield f"{found} came, not {', '.join(expect.chosen) or 'nothing'}"
        return
    if expect.again:
        yield from _again(expect.again, first)
    if chosen:
        yield from _offered(expect, first)
    elif reason_of(first.reason) != expect.silence:
        yield f"the reason is {reason_of(first.reason)}, not {expect.silence}"


def refusals(expect: Expect, rejections: Sequence[Rejection]) -> Iterator[str]:
    """Say which offers were not held back for the reason that was expected."""
    for what, expected in expect.why_not.items():
        named, _, placement_id = what.partition("@")
        offer_id, _, creative_id = named.partition("/")
        found = {
            reason_of(rejection.reason)
            for rejection in rejections
            if rejection.offer_id == offer_id
            and creative_id in ("", rejection.creative_id)
            and placement_id in ("", rejection.placement_id)
        }
        if found != {expected}:
            reasons = ", ".join(sorted(found)) or "nothing"
            yield f"{what} is held back by {reasons}, not {expected}"


def reason_of(reason: Reason.ValueType) -> str:
    """Return a reason as scripts name it; empty where there is none."""
    name = Reason.Name(reason).removeprefix("REASON_")
    return "" if name == "UNSPECIFIED" else name


def value_of(parameter: ParameterValue) -> FeatureValue:
    """Return the value that a text needs: money in minor units, times in ms."""
    kind = parameter.WhichOneof("kind")
    if kind == "money":
        return float(parameter.money.minor_units)
    if kind == "time":
        return float(ms(parameter.time))
    value: FeatureValue = getattr(parameter, kind or "number")
    return value


def _again(expected: str, decision: Decision) -> Iterator[str]:
    found = _NEVER
    if decision.HasField("next_eligible_time"):
        left_ms = ms(decision.next_eligible_time) - ms(decision.decide_time)
        found = Duration(left_ms).text
    if expected != _NEVER:
        expected = Duration.parse(expected).text
    if found != expected:
        yield f"it may come again in {found}, not in {expected}"


def _offered(expect: Expect, decision: Decision) -> Iterator[str]:
    message = decision.message
    if not (message.dismissible and message.snoozable):
        yield "it cannot be waved away, or not be put off"
    for what, found, expected in _pairs(expect, decision):
        if not _equal(found, expected):
            yield f"{what} is {found}, not {expected}"


def _pairs(expect: Expect, decision: Decision) -> Iterator[tuple[str, object, object]]:
    """Yield what is expected of an offer: what, what was found, and what should be."""
    message, price = decision.message, decision.price
    if expect.placement:
        yield "the placement", decision.placement_id, expect.placement
    if expect.why_me:
        yield "what the user is told why", message.reason_code, expect.why_me
    if expect.price is not None:
        yield "the price", price.price.minor_units, expect.price
    if expect.discount is not None:
        yield "the discount", price.discount.minor_units, expect.discount
    for name, value in expect.parameters.items():
        known = name in message.parameters
        yield name, value_of(message.parameters[name]) if known else None, value


def _equal(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, int | float):
        return math.isclose(found, expected, rel_tol=1e-9)
    return found == expected
