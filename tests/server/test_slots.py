"""Several offers in one call: in order, none twice, each with its own propensity."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from typing import Any

import grpc
import pytest

from opportune.v1 import DECISION_VIEW_FULL, Decision, GetOfferRequest
from policies.errors import StoreUnavailableError
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"

[categories.plans]
caps = [{ limit = 2, window = "1d" }]

[placements.list]
slots = 3
[placements.card]
[placements.empty]

[offers.tea]
placements = ["list", "card"]
priority = 50
[offers.tea.creatives.calm]
[offers.tea.creatives.bold]

[offers.jam]
placements = ["list", "card"]
priority = 40

[offers.pro]
placements = ["list", "card"]
categories = ["plans"]
priority = 30

[offers.team]
placements = ["list"]
categories = ["plans"]
priority = 20

[offers.firm]
placements = ["list"]
categories = ["plans"]
priority = 10

[offers.help]
placements = ["card"]
priority = 5
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


def offers(decisions: list[Decision]) -> list[str]:
    return [decision.offer_id for decision in decisions]


def places(decisions: list[Decision]) -> list[str]:
    return [decision.placement_id for decision in decisions]


async def test_the_slots_of_several_placements_are_filled_in_order(
    eager: Shop,
) -> None:
    # Given a placement with three slots, and one with one
    # When all of them are to be filled
    decisions = await eager.choose(4, "ada", "list", "card")

    # Then there is an offer for each slot, the most important first, and none twice;
    # of a category no more than its cap allows
    assert offers(decisions) == ["tea", "jam", "pro", "team"]
    assert Counter(places(decisions)) == {"list": 3, "card": 1}
    assert len({decision.decision_id for decision in decisions}) == 4


async def test_there_are_no_more_decisions_than_asked_for_and_silence_is_the_last(
    eager: Shop,
) -> None:
    # Given six offers for four slots
    # When users ask for one, two or very many
    one = await eager.choose(1, "ada", "list", "card")
    two = await eager.choose(2, "bob", "list", "card")
    many = await eager.choose(20, "cat", "list", "card")
    none = await eager.choose(20, "dan", "empty")

    # Then they get so many, and where there is no more to show, silence says why
    assert offers(one) == ["tea"]
    assert offers(two) == ["tea", "jam"]
    assert offers(many) == ["tea", "jam", "pro", "team", ""]
    assert offers(none) == [""]
    assert kit.reason_of(none[0]) == "NO_CANDIDATE"
    why = {(r.offer_id, r.placement_id): kit.reason_of(r) for r in many[-1].rejections}
    assert why["firm", "list"] == "PLACEMENT_FULL"
    assert why["help", "card"] == "PLACEMENT_FULL"


async def test_an_offer_is_not_chosen_twice_in_whatever_wording_and_place(
    shop: Shop,
) -> None:
    # Given users whose offers are drawn
    for number in range(30):
        decisions = await shop.choose(20, f"user-{number}", "card", "list")

        # Then none is there twice, silence is last, and every decision knows of those
        # before it
        chosen = [d.offer_id for d in decisions if d.offer_id]
        assert len(set(chosen)) == len(chosen)
        assert all(offers(decisions[:-1]))
        counted = Counter(d.placement_id for d in decisions if d.offer_id)
        assert counted["list"] <= 3
        assert counted["card"] <= 1
        for at, decision in enumerate(decisions):
            could = kit.candidates(decision)
            assert not could & set(chosen[:at])
            for rejection in decision.rejections:
                if rejection.gate == "chosen":
                    assert rejection.offer_id in chosen[:at]


async def test_every_slot_has_its_own_distribution(shop: Shop) -> None:
    # Given a call for several offers
    while True:
        decisions = await shop.choose(4, "ada", "list", "card")
        if len(decisions) > 2:
            break

    # Then each decision says how likely it was among what was left for its slot
    for decision in decisions:
        total = sum(candidate.probability for candidate in decision.candidates)
        assert math.isclose(total, 1.0, rel_tol=0.0, abs_tol=1e-12)
        chance = {
            (c.offer_id, c.creative_id, c.placement_id): c.probability
            for c in decision.candidates
        }
        chosen = (decision.offer_id, decision.creative_id, decision.placement_id)
        assert chance[chosen] == decision.propensity
    sizes = [len(decision.candidates) for decision in decisions]
    assert sorted(sizes, reverse=True) == sizes
    assert len(set(sizes)) == len(sizes)


async def test_a_retry_is_answered_with_the_same_list(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given a call for several offers
    request = shop.request("ada", "list", "card", max_decisions=4)
    first = await shop.stub.GetOffer(request)
    before = shop.counts()

    # When it is sent again, by many at once, later, and for another number of offers
    again = await asyncio.gather(*(shop.stub.GetOffer(request) for _ in range(20)))
    clock.advance(kit.HOUR_MS)
    fewer = GetOfferRequest()
    fewer.CopyFrom(request)
    fewer.max_decisions = 1
    more = GetOfferRequest()
    more.CopyFrom(request)
    more.max_decisions = 20
    again += [await shop.stub.GetOffer(each) for each in (request, fewer, more)]

    # Then the answer is the same to the last bit, and nothing was counted twice
    assert all(answer == first for answer in again)
    assert shop.counts() == before


async def cut(shop: Shop, request: GetOfferRequest, after: int) -> list[str]:
    """Send a request of which the store takes only so many decisions; return them."""
    commit, made = shop.store.commit, itertools.count()

    async def fails(decision: Any, **how: Any) -> Any:
        if next(made) == after:
            raise StoreUnavailableError(0.1)
        return await commit(decision, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop.store, "commit", fails)
        refusal = await kit.refused(shop.stub.GetOffer(request))
    assert refusal.code == grpc.StatusCode.UNAVAILABLE
    kept = kit.rows(shop.path, "select decision_id from decision order by position")
    assert len(kept) == after
    return [decision_id for (decision_id,) in kept]


@pytest.mark.parametrize("most", [0, 1, 2, 3, 20])
async def test_a_call_that_was_cut_short_is_gone_on_with(
    eager: Shop, most: int
) -> None:
    # Given a call for three offers, of which the store could take only two
    request = eager.request("ada", "list", "card", max_decisions=3)
    kept = await cut(eager, request, 2)

    # When it is sent again, for as many or not
    again = GetOfferRequest()
    again.CopyFrom(request)
    again.max_decisions = most
    answers = [(await eager.stub.GetOffer(each)).decisions for each in (again, request)]

    # Then the two are in the answer, and the third is decided
    for decisions in answers:
        assert kept == [kit.id_of(decision) for decision in decisions[:2]]
        assert offers(list(decisions)) == ["tea", "jam", "pro"]


async def test_a_call_is_gone_on_with_where_its_placement_is_gone(eager: Shop) -> None:
    # Given a call that was cut short, and a catalogue without one of its placements
    request = eager.request("ada", "card", "list", max_decisions=3)
    kept = await cut(eager, request, 1)
    gone = CATALOGUE.replace("[placements.card]\n", "").replace(', "card"]', "]")
    await kit.change_catalogue(eager, gone.replace('["card"]', '["list"]'))

    # When it is sent again
    decisions = (await eager.stub.GetOffer(request)).decisions

    # Then it is as long as it was to be
    assert kit.id_of(decisions[0]) == kept[0]
    assert len(decisions) == 3
    assert decisions == (await eager.stub.GetOffer(request)).decisions


async def test_caps_bind_across_slots_and_across_calls_at_once(
    eager: Shop, other: Shop
) -> None:
    # Given a category of which a user may see two a day
    # When many calls for several offers come at once, at two servers
    calls = await asyncio.gather(
        *(
            shop.choose(3, "ada", "list", offer_ids=["pro", "team", "firm"])
            for _ in range(40)
            for shop in (eager, other)
        )
    )

    # Then all of them together get two
    shown = [d.offer_id for decisions in calls for d in decisions if d.offer_id]
    assert len(shown) == 2


async def test_what_was_chosen_for_a_slot_is_freed_alone(eager: Shop) -> None:
    # Given a call that took all there is of a category
    first, second = (
        await eager.choose(3, "ada", "list", offer_ids=["pro", "team", "firm"])
    )[:2]

    # When the client shows only the first one
    await eager.report(first, kit.SHOWN)
    await eager.report(second, kit.NOT_SHOWN)

    # Then there is room for one more
    later = await eager.choose(3, "ada", "list", offer_ids=["pro", "team", "firm"])
    assert len([offer for offer in offers(later) if offer]) == 1


async def test_every_decision_of_a_call_can_be_asked_about_and_reported(
    eager: Shop,
) -> None:
    # Given a call for several offers
    decisions = await eager.choose(20, "ada", "list", "card")

    # When each is explained and reported, then each is a decision of its own, which
    # knew of those before it
    for at, decision in enumerate(decisions):
        explained = await eager.explain(decision)
        assert explained.decision == _without_rejections(decision)
        taken = {
            r.offer_id: r.found for r in explained.rejections if r.gate == "chosen"
        }
        assert taken.keys() <= set(offers(decisions[:at]))
        (result,) = await eager.report(decision, kit.SHOWN)
        assert not result.duplicate
    calls = kit.rows(eager.path, "select distinct call_id from decisions_v1")
    assert calls == [(decisions[0].decision_id,)]


def _without_rejections(decision: Decision) -> Decision:
    copy = Decision()
    copy.CopyFrom(decision)
    copy.ClearField("rejections")
    return copy


@pytest.mark.parametrize("most", [-1, 21, 2**31 - 1])
async def test_a_number_of_offers_that_makes_no_sense_is_refused(
    eager: Shop, most: int
) -> None:
    # Given a request for too many offers, or for fewer than none
    request = GetOfferRequest(
        user_id="ada",
        placement_ids=["list"],
        max_decisions=most,
        view=DECISION_VIEW_FULL,
    )

    # When it is sent
    refusal = await kit.refused(eager.stub.GetOffer(request))

    # Then it is refused by name
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields.keys() == {"max_decisions"}
