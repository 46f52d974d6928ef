"""Gates of other packages: found by their entry points, and held to the protocol."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policies.gates.base import Facts, Ruling, Situation
from policies.gates.plugins import load
from policies.model import NO_HISTORY, Action, Context, Opportunity
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, GatesSpec

GATE = """
from dataclasses import dataclass
from typing import ClassVar

from policies.gates.base import Because, Ruling

@dataclass(frozen=True)
class Regulated:
    name: ClassVar[str] = "regulated"
    scope: ClassVar[str] = "offer"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    segment: str

    @classmethod
    def of(cls, facts):
        yield cls(facts.catalogue.gates.options["regulated"]["segment"])

    def reject(self, action, situation):
        if situation.opportunity.context.segment == self.segment:
            return Ruling("NOT_LICENSED")
        return None

    def because(self, action, situation):
        return Because(self.segment, "any other segment")

@dataclass(frozen=True)
class Polite(Regulated):
    name: ClassVar[str] = "polite"

class Empty:
    pass

@dataclass(frozen=True)
class Sloppy(Regulated):
    name: ClassVar[str] = "sloppy"
    scope: ClassVar[str] = "user"
    of_history: ClassVar[int] = 0
    indexed: ClassVar[bool] = True

    def of(self, facts):
        return []
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of gates, as pip would: its modules and what it announces."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def package(name: str, **gates: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        points = "\n".join(f"{gate} = {value}" for gate, value in gates.items())
        (info / "entry_points.txt").write_text(f"[opportune.gates]\n{points}\n")
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(GATE))

    before = set(sys.modules)
    yield package
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_gate_of_another_package_is_asked_like_any_other(install: Install) -> None:
    install("bank_gates", regulated="bank_gates:Regulated")
    catalogue = CatalogueSpec(
        gates=GatesSpec(
            plugins=("regulated",), options={"regulated": {"segment": "minor"}}
        )
    )
    facts = Facts(
        catalogue, lambda text: Rule(text, {}), lambda text: Expression(text, {})
    )

    (kind,) = load(catalogue.gates.plugins)
    (gate,) = kind.of(facts)

    action = Action(1, "loan", "default", "home", ())
    context = Context(segment="minor")
    asked = Opportunity("d", 0, "ada", ("home",), context=context)
    assert gate.reject(action, Situation(asked, NO_HISTORY)) == Ruling("NOT_LICENSED")
    asked = Opportunity("d", 0, "ada", ("home",))
    assert gate.reject(action, Situation(asked, NO_HISTORY)) is None


def test_gates_are_loaded_in_their_order_and_once(install: Install) -> None:
    install("bank_gates", regulated="bank_gates:Regulated", polite="bank_gates:Polite")

    kinds = load(["polite", "regulated", "polite"])

    assert [kind.name for kind in kinds] == ["polite", "regulated"]
    assert load([]) == ()


def test_a_gate_that_nobody_announces_is_refused(install: Install) -> None:
    with pytest.raises(ValueError, match=r"no gate 'regulated': install .* are: none"):
        load(["regulated"])

    install("bank_gates", polite="bank_gates:Polite")
    with pytest.raises(ValueError, match="announced are: polite"):
        load(["regulated"])


def test_a_gate_that_two_packages_announce_is_refused(install: Install) -> None:
    install("bank_gates", regulated="bank_gates:Regulated")
    install("shop_gates", regulated="shop_gates:Regulated")

    with pytest.raises(ValueError, match="bank_gates:Regulated, shop_gates:Regulated"):
        load(["regulated"])


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("bank_gates:Missing", "AttributeError"),
        ("no_such_module:Regulated", "ModuleNotFoundError"),
    ],
)
def test_a_gate_that_cannot_be_imported_is_refused(
    install: Install, value: str, word: str
) -> None:
    install("bank_gates", regulated=value)

    with pytest.raises(ValueError, match=f"cannot be imported from {value}: {word}"):
        load(["regulated"])


@pytest.mark.parametrize(
    ("gate", "value", "lacks"),
    [
        ("other", "Regulated", ["name = 'other'"]),
        (
            "empty",
            "Empty",
            [
                "name = 'empty'",
                "a scope, one of placement, offer, action",
                "of_history, true or false",
                "bypassed, true or false",
                "indexed = False",
                "of(facts), a class method",
                "reject(action, situation)",
                "because(action, situation)",
                "@dataclass(frozen=True)",
            ],
        ),
        (
            "sloppy",
            "Sloppy",
            ["a scope", "of_history", "indexed = False", "a class method"],
        ),
        ("function", "dataclass", ["name = 'function'", "of(facts)"]),
    ],
)
def test_a_class_that_is_no_gate_is_refused_with_all_that_it_lacks(
    install: Install, gate: str, value: str, lacks: list[str]
) -> None:
    install("bank_gates", **{gate: f"bank_gates:{value}"})

    with pytest.raises(
        ValueError, match=f"bank_gates:{value} is not a gate"
    ) as refused:
        load([gate])

    for what in lacks:
        assert what in str(refused.value)
