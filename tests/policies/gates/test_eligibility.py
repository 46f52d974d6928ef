"""Three tiers of rules, each with its own reason."""

from __future__ import annotations

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.eligibility import Applicability, Eligibility, Suitability
from policies.model import Context
from policies.specs import OfferSpec
from tests.policies.gates import kit

ANNUAL = OfferSpec(
    eligible="features.tenure_days >= 180.0",
    applicable="moment.kind == 'renewal'",
    suitable="!('payment_failed' in states)",
)
Tier = type[Eligibility] | type[Applicability] | type[Suitability]


@pytest.mark.parametrize("tier", [Eligibility, Applicability, Suitability])
def test_an_offer_without_a_rule_is_for_everybody(tier: Tier) -> None:
    assert not kit.gates(tier, OfferSpec())


@pytest.mark.parametrize(
    ("tier", "code"),
    [
        (Eligibility, "NOT_ELIGIBLE"),
        (Applicability, "NOT_APPLICABLE"),
        (Suitability, "NOT_SUITABLE"),
    ],
)
def test_the_reason_names_the_tier(tier: Tier, code: str) -> None:
    never = OfferSpec(eligible="false", applicable="false", suitable="false")
    always = OfferSpec(eligible="true", applicable="true", suitable="true")

    assert kit.gate(tier, never).reject(kit.ACTION, kit.moment()) == Ruling(code)
    assert kit.gate(tier, always).reject(kit.ACTION, kit.moment()) is None


def test_each_tier_has_its_own_rule() -> None:
    half_a_year = kit.moment(Context(features={"tenure_days": 180.0}))

    assert kit.reason(kit.gate(Eligibility, ANNUAL), half_a_year) == ""
    assert kit.reason(kit.gate(Applicability, ANNUAL), half_a_year) == "NOT_APPLICABLE"
    assert kit.reason(kit.gate(Suitability, ANNUAL), half_a_year) == ""


def test_what_is_not_known_makes_nobody_eligible() -> None:
    assert kit.reason(kit.gate(Eligibility, ANNUAL), kit.moment()) == "NOT_ELIGIBLE"


def test_dropbox_storage_at_40_percent_is_told_in_full() -> None:
    rule = "usage.storage_gb.ratio >= 0.8 || features.tenure_days > 365.0"
    gate = kit.gate(Eligibility, OfferSpec(eligible=rule))
    little = kit.moment(kit.using("storage_gb", 40.0, 100.0))

    assert gate.reject(kit.ACTION, little) == Ruling("NOT_ELIGIBLE")
    assert gate.because(kit.ACTION, little) == Because(
        "usage.storage_gb.ratio = 0.4, features.tenure_days = unknown", rule
    )


def test_a_rule_that_looks_at_nothing_has_seen_nothing() -> None:
    gate = kit.gate(Suitability, OfferSpec(suitable="false"))

    assert gate.because(kit.ACTION, kit.moment()) == Because("nothing", "false")
