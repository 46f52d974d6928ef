"""An offer is shown at its moments, or when the user wanted it to come back."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.moments import Moments
from policies.model import Context, History, Moment, Snooze
from policies.specs import OfferSpec
from tests.policies.gates import kit

NEAR = kit.gate(Moments, OfferSpec(moments=("limit_near", "limit_hit")))
IDLE = Context()
MILESTONE = Context(moment=Moment("milestone"))


def snoozed(
    until_ms: int, *, returned: bool = False, offer_id: str = "offer"
) -> History:
    return History(snoozes={offer_id: Snooze(until_ms, 1, 0, returned)})


def test_an_offer_without_moments_may_be_shown_at_any() -> None:
    assert not kit.gates(Moments, OfferSpec())


def test_an_offer_is_shown_at_its_moments() -> None:
    for kind in ("limit_near", "limit_hit"):
        at = kit.moment(Context(moment=Moment(kind)))

        assert NEAR.reject(kit.ACTION, at) is None


def test_an_offer_is_not_eligible_at_another_moment_or_at_none() -> None:
    for context in (MILESTONE, IDLE):
        assert NEAR.reject(kit.ACTION, kit.moment(context)) == Ruling("NOT_ELIGIBLE")


def test_a_snoozed_offer_comes_back_without_its_moment() -> None:
    for context in (MILESTONE, IDLE):
        due = kit.moment(context, history=snoozed(kit.NOW))

        assert NEAR.reject(kit.ACTION, due) is None


def test_a_snoozed_offer_comes_back_once() -> None:
    again = kit.moment(history=snoozed(kit.NOW, returned=True))

    assert NEAR.reject(kit.ACTION, again) == Ruling("NOT_ELIGIBLE")


def test_a_snoozed_offer_says_when_it_comes_back() -> None:
    early = kit.moment(history=snoozed(kit.NOW + 1))

    assert NEAR.reject(kit.ACTION, early) == Ruling("NOT_ELIGIBLE", kit.NOW + 1)


def test_a_snooze_brings_back_no_other_offer_and_nothing_to_another_user() -> None:
    other = kit.moment(history=snoozed(kit.NOW, offer_id="other"))
    housemate = kit.moment(account=snoozed(kit.NOW))

    assert NEAR.reject(kit.ACTION, other) == Ruling("NOT_ELIGIBLE")
    assert NEAR.reject(kit.ACTION, housemate) == Ruling("NOT_ELIGIBLE")


def test_the_moment_is_told() -> None:
    assert NEAR.because(kit.ACTION, kit.moment(MILESTONE)) == Because(
        "the moment is milestone", "one of limit_near, limit_hit"
    )
    idle = NEAR.because(kit.ACTION, kit.moment(IDLE))
    assert idle.found == "it is no certain moment"
