"""Catalogues: offers have the gates that they ask for, equal ones made once."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from policies.catalogue import Catalogue, read
from policies.gates import GATES, Dates, Dismissal, Eligibility, Facts, OfferCap
from policies.model import NO_OFFER, FeatureValue
from policies.rules import Expression, Rule
from policies.specs import CreativeSpec, OfferSpec
from tests.policies import shops
from tests.policies.shops import DAY, toml

BASE = """\
[features.seats]
type = "number"
range = [0, 10]
[features.plan]
type = "category"
[placements.home]
[placements.till]
"""
TEA = BASE + '[offers.tea]\nplacements = ["home"]\n'


def test_an_offer_has_the_gates_that_it_names() -> None:
    catalogue = read(
        TEA
        + """
        start = 2026-12-01T00:00:00Z
        end = 2026-12-01T01:00:00.5Z
        eligible = "features.seats > 3.0"
        caps = [{ limit = 1, window = "1d" }, { limit = 100 }]
        dismissal_cool_down = "1d12h"
        """
    )

    start_ms = 1_796_083_200_000
    offer = catalogue.offers["tea"]
    assert (offer.start_ms, offer.end_ms) == (start_ms, start_ms + 3_600_500)
    assert Dates(start_ms=start_ms, end_ms=start_ms + 3_600_500) in offer.gates
    (dismissal,) = [gate for gate in offer.gates if isinstance(gate, Dismissal)]
    assert dismissal.cool_down_ms == 36 * 3_600_000
    caps = [gate.cap for gate in offer.gates if isinstance(gate, OfferCap)]
    assert [(cap.limit, cap.window_ms) for cap in caps] == [(1, DAY), (100, None)]
    assert any(isinstance(gate, Eligibility) for gate in offer.gates)


def test_offers_alike_have_the_same_gates_so_that_they_are_asked_once() -> None:
    rule = 'placements = ["home"]\neligible = "features.seats > 3.0"\n'
    other = rule.replace("3.0", "4.0")
    catalogue = read(
        f"{BASE}[offers.tea]\n{rule}[offers.jam]\n{rule}[offers.oats]\n{other}"
    )

    tea, jam, oats = (catalogue.offers[name] for name in ("tea", "jam", "oats"))

    assert tea.gates is jam.gates
    assert tea.gates != oats.gates


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(catalogue=shops.catalogues())
def test_everything_has_the_gates_that_its_own_facts_make(catalogue: Catalogue) -> None:
    spec = catalogue.spec

    def made(scope: str, **facts: Any) -> list[object]:
        asked = Facts(
            spec,
            lambda source: Rule(source, SAMPLES),
            lambda source: Expression(source, SAMPLES),
            **facts,
        )
        kinds = [kind for kind in GATES if kind.name not in spec.gates.off]
        return [
            plainly(gate)
            for kind in kinds
            if kind.scope == scope
            for gate in kind.of(asked)
        ]

    for offer_id, offer in spec.offers.items():
        gates = catalogue.offers[offer_id].every_gate
        assert plainly(gates) == made("offer", offer_id=offer_id, offer=offer)
    for action in catalogue.actions[NO_OFFER + 1 :]:
        offer = spec.offers[action.offer_id]
        gates = catalogue.action_gates.get(action.index, ())
        assert plainly(gates) == made(
            "action",
            offer_id=action.offer_id,
            offer=offer,
            placement_id=action.placement_id,
            placement=spec.placements[action.placement_id],
            creative_id=action.creative_id,
            creative=offer.creatives.get(action.creative_id, CreativeSpec()),
        )


ALIKE = {
    "placements": ["home"],
    "kind": "bundle",
    "categories": ["hot"],
    "grants": ["basic"],
    "ladder": "plan",
    "price": 500,
}
DIFFERENT: dict[str, Any] = {
    "placements": ["till"],
    "state": "paused",
    "kind": "free_help",
    "categories": ["sweet"],
    "moments": ["renewal"],
    "eligible": "segment == 'a'",
    "applicable": "segment == 'a'",
    "suitable": "segment == 'a'",
    "value_discovered": "segment == 'a'",
    "limit": {"usage": "gb"},
    "grants": ["pro"],
    "requires": ["pro"],
    "complements": ["pro"],
    "credit": True,
    "ladder": "",
    "anchor": True,
    "price": 0,
    "discount": 5,
    "budget": "spring",
    "inventory": 3,
    "buyers_only": True,
    "override": "critical",
    "counted": False,
    "caps": [{"limit": 1}],
    "dismissal": {"cool_down": "1d"},
    "dismissal_cool_down": "1d",
    "snooze": {"repeats": 9},
    "list_price": 900,
    "margin": 1,
    "hold": "1h",
    "dismissible": False,
    "preselected": True,
    "deadline": "fixed",
    "price_shown": False,
    "renews": True,
    "cancel_path": "/cancel",
    "start": dt.datetime(2026, 12, 1, tzinfo=dt.UTC),
    "end": dt.datetime(2026, 12, 1, tzinfo=dt.UTC),
    # What nobody asks about.
    "description": "another",
    "campaign": "another",
    "tags": ["another"],
    "benefits": ["another"],
    "priority": 9,
    "traffic": {"most": 0.5},
    "rewards": {"accepted": 2.0},
    "reward_wait": "1d",
    "reward_default": -0.1,
    "reward_aggregate": "sum",
    "like": "other",
    "like_doubt": 2.0,
    "lever": 2.0,
    "moment_weights": {"renewal": 2.0},
    "features": {},
    "creatives": {"bold": {"caps": [{"limit": 1}]}},
}


def test_all_that_offers_may_differ_in_is_tried() -> None:
    assert {*DIFFERENT} == {*OfferSpec.__struct_fields__}


@pytest.mark.parametrize("key", DIFFERENT)
def test_an_offer_that_is_alike_but_for_one_thing_has_its_own_gates(key: str) -> None:
    other = {**ALIKE, key: DIFFERENT[key]}
    tables = {
        "buyers": ["admin"],
        "categories": {"hot": {}, "sweet": {}},
        "products": {"basic": {"metered": True}, "pro": {"price": 900}},
        "ladders": {"plan": {"rungs": ["basic", "pro"]}},
        "budgets": {"spring": {"amount": 9}},
        "placements": {"home": {"kind": "modal"}, "till": {"categories": ["hot"]}},
    }

    def gates(offers: dict[str, Any]) -> object:
        catalogue = read(toml({**tables, "offers": offers}), linted=False)
        actions = catalogue.actions_of("other", ["home", "till"])
        own = [catalogue.action_gates.get(action.index, ()) for action in actions]
        return plainly((catalogue.offers["other"].every_gate, *own))

    assert gates({"first": ALIKE, "other": other}) == gates({"other": other})


SAMPLES: dict[str, FeatureValue] = {"seats": 1.0}


def plainly(value: object) -> object:
    """Return a value with the sources of rules in the place of what they compile to."""
    if isinstance(value, Rule | Expression):
        return value.source
    if isinstance(value, tuple):
        return [plainly(part) for part in value]
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return [type(value), *[plainly(getattr(value, name)) for name in fields]]
    return value


def test_a_gate_that_is_off_is_not_asked() -> None:
    text = TEA + 'caps = [{ limit = 1 }]\nmoments = ["renewal"]\n'
    off = 'gates = { off = ["offer_cap", "moments"] }\n' + text

    assert "offer_cap" in {gate.name for gate in read(text).offers["tea"].gates}
    assert read(text).candidates(["home"]) == []
    tea = read(off).offers["tea"]
    assert not {"offer_cap", "moments"} & {gate.name for gate in tea.every_gate}
    assert [a.offer_id for a in read(off).candidates(["home"])] == ["tea"]


def test_a_critical_offer_has_no_caps_to_be_asked_but_to_be_told() -> None:
    offer = read(TEA + 'caps = [{ limit = 1 }]\noverride = "critical"\n').offers["tea"]

    assert offer.critical
    assert "offer_cap" not in {gate.name for gate in offer.gates}
    assert "offer_cap" in {gate.name for gate in offer.every_gate}


def test_a_fallback_is_all_wordings_of_one_offer_at_one_place() -> None:
    catalogue = read(
        """
        [placements.home]
        fallback = "tea"
        [placements.till]
        [offers.tea]
        placements = ["home", "till"]
        [offers.tea.creatives.bold]
        [offers.tea.creatives.calm]
        """
    )

    names = [action.name for action in catalogue.placements["home"].fallback]
    assert names == ["tea/bold/home", "tea/calm/home"]
    assert catalogue.placements["till"].fallback == ()
    assert catalogue.candidates(["home"]) == []
    assert len(catalogue.candidates(["till"])) == 2
