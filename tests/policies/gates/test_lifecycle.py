"""Only what is approved is shown."""

from __future__ import annotations

from typing import Literal

import pytest

from policies.gates.base import Because, Ruling
from policies.gates.lifecycle import Lifecycle
from policies.specs import OfferSpec
from tests.policies.gates import kit


def test_an_approved_offer_needs_no_gate() -> None:
    assert not kit.gates(Lifecycle, OfferSpec(state="approved"))


@pytest.mark.parametrize(
    ("state", "code"),
    [("draft", "NOT_APPROVED"), ("paused", "PAUSED"), ("archived", "ARCHIVED")],
)
def test_an_offer_in_any_other_state_is_never_shown(
    state: Literal["draft", "paused", "archived"], code: str
) -> None:
    gate = kit.gate(Lifecycle, OfferSpec(state=state))

    assert gate.reject(kit.ACTION, kit.moment()) == Ruling(code)


def test_the_state_is_told() -> None:
    draft = kit.gate(Lifecycle, OfferSpec(state="draft"))
    paused = kit.gate(Lifecycle, OfferSpec(state="paused"))

    assert draft.because(kit.ACTION, kit.moment()) == Because(
        "the offer is a draft", "approved"
    )
    assert paused.because(kit.ACTION, kit.moment()).found == "the offer is paused"
