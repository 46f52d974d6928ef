"""Parameters: a text that would show a hole is not shown."""

from __future__ import annotations

from policies.gates.base import Because, Facts, Ruling, Situation
from policies.gates.parameters import Parameters
from policies.model import NO_HISTORY, Action, Context, Opportunity, Usage
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, CreativeSpec, ParameterSpec

ACTION = Action(1, "more", "left", "home", ())
LEFT = CreativeSpec(
    parameters={
        "left": ParameterSpec("usage.gb.limit - usage.gb.value"),
        "plan": ParameterSpec("segment", "text"),
        "saving": ParameterSpec("usage.gb.value / usage.gb.limit * 100.0", "money"),
    }
)


def gate(creative: CreativeSpec) -> Parameters | None:
    facts = Facts(
        CatalogueSpec(),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
        creative_id="left",
        creative=creative,
    )
    return next(iter(Parameters.of(facts)), None)


def situation(**context: object) -> Situation:
    asked = Opportunity(
        "d",
        0,
        "ada",
        ("home",),
        context=Context(**context),  # type: ignore[arg-type]  # Fields by name.
    )
    return Situation(asked, NO_HISTORY)


GB = {"gb": Usage(92.0, 100.0)}


def test_a_creative_of_which_all_is_known_is_shown() -> None:
    made = gate(LEFT)

    assert made is not None
    assert made.reject(ACTION, situation(usage=GB, segment="free")) is None


def test_a_creative_of_which_something_is_missing_is_not_shown() -> None:
    made = gate(LEFT)

    assert made is not None
    for now in (
        situation(segment="free"),
        situation(usage=GB),
        situation(usage={"gb": Usage(92.0)}, segment="free"),
        situation(usage={"gb": Usage(92.5, 100.0)}, segment="free"),
    ):
        assert made.reject(ACTION, now) == Ruling("MISSING_PARAMETER")


def test_what_is_missing_is_told_with_what_it_is_computed_from() -> None:
    made = gate(LEFT)
    assert made is not None

    unknown = made.because(ACTION, situation(usage={"gb": Usage(92.5)}, segment="free"))
    wrong = made.because(ACTION, situation(usage={"gb": Usage(92.5, 100.0)}))

    assert unknown == Because(
        "left: usage.gb.limit not known; saving: usage.gb.limit not known",
        "left = usage.gb.limit - usage.gb.value;"
        " saving = usage.gb.value / usage.gb.limit * 100.0",
    )
    assert wrong == Because(
        "plan: '' is no text; saving: 92.5 is no money",
        "plan = segment; saving = usage.gb.value / usage.gb.limit * 100.0",
    )


def test_what_is_known_but_cannot_be_computed_is_told_so() -> None:
    made = gate(CreativeSpec(parameters={"share": ParameterSpec("1 / size(owned)")}))
    assert made is not None

    told = made.because(ACTION, situation())

    assert told == Because("share: cannot be computed", "share = 1 / size(owned)")


def test_a_creative_that_needs_nothing_has_no_gate() -> None:
    assert gate(CreativeSpec()) is None
