"""Why a decision was as it was: what happened, told again at any time after."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import (
    BeginCriticalRequest,
    Complaint,
    Context,
    Decision,
    ExplainDecisionRequest,
    Explanation,
    GetOfferRequest,
    LifeStateUpdate,
    Moment,
    Purchase,
    RecordEventRequest,
    Rejection,
    SetPreferencesRequest,
    SetUserStateRequest,
    Usage,
)
from policies import catalogue as catalogues
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[categories.plans]
[categories.devices]

[products.basic]
[products.pro]
[products.disk]

[placements.home]
[placements.till]
categories = ["devices"]
[placements.dialog]
kind = "modal"
[placements.other]

[offers.tea]
placements = ["home"]
caps = [{ limit = 1, window = "7d" }]
dismissal_cool_down = "3d"

[offers.pro]
placements = ["home", "dialog"]
categories = ["plans"]
grants = ["pro"]
price = 900

[offers.disk]
placements = ["home", "till"]
categories = ["devices"]
requires = ["basic"]

[offers.space]
placements = ["home"]
moments = ["limit_near"]
limit = { usage = "storage_gb" }
[offers.space.creatives.plain]
[offers.space.creatives.exact]
parameters = { left = { value = "usage.storage_gb.limit - usage.storage_gb.value" } }
[offers.space.creatives.seats]
parameters = { seats = { value = "features.seats" } }

[offers.team]
placements = ["home"]
eligible = "segment == 'team'"

[offers.xmas]
placements = ["home"]
start = 2026-12-01T00:00:00Z

[offers.old]
placements = ["home"]
state = "paused"

[offers.alarm]
placements = ["home", "dialog"]
override = "critical"
caps = [{ limit = 1, window = "1d" }]

[offers.spare]
placements = ["other"]
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


Action = tuple[str, str, str]


def everything(shop: Shop, *placements: str) -> set[Action]:
    return {
        (action.offer_id, action.creative_id, action.placement_id)
        for action in shop.services.current.catalogue.actions
        if action.placement_id in placements
    }


def could(decision: Decision) -> set[Action]:
    return {
        (c.offer_id, c.creative_id, c.placement_id)
        for c in decision.candidates
        if c.offer_id
    }


def why(explained: Explanation) -> dict[Action, tuple[str, str, str, str]]:
    return {
        (r.offer_id, r.creative_id, r.placement_id): (
            kit.reason_of(r),
            r.gate,
            r.found,
            r.needed,
        )
        for r in explained.rejections
    }


async def test_every_action_of_the_placements_could_be_chosen_or_says_why_not(
    eager: Shop,
) -> None:
    # Given a user who has seen tea
    await eager.report(await eager.ask(offer_ids=["tea"]), kit.SHOWN)

    # When a decision for three placements is explained
    decision = await eager.ask("ada", "home", "till", "dialog")
    explained = await eager.explain(decision)

    # Then each action of theirs is among those that could be chosen, or among the
    # others, and says there which gate said no, what it found, and what it needed
    every = everything(eager, "home", "till", "dialog")
    assert could(explained.decision) | set(why(explained)) == every
    assert not could(explained.decision) & set(why(explained))
    assert len(explained.rejections) == len(why(explained))
    told = why(explained)
    for reason, gate, found, needed in told.values():
        assert reason
        assert gate
        assert found
        assert needed
    assert told["tea", "default", "home"] == (
        "FREQUENCY_CAP",
        "offer_cap",
        "tea shown 1 time in the last 7d",
        "fewer than 1",
    )
    assert told["team", "default", "home"][:2] == ("NOT_ELIGIBLE", "eligible")
    assert told["disk", "default", "till"][:2] == ("REQUIREMENT_MISSING", "requires")
    assert told["xmas", "default", "home"][:2] == ("NOT_STARTED", "dates")
    assert told["old", "default", "home"][:2] == ("PAUSED", "lifecycle")
    assert told["space", "plain", "home"][:2] == ("NOT_ELIGIBLE", "moments")


async def test_the_full_view_lists_what_the_explanation_lists(eager: Shop) -> None:
    # Given decisions with an offer, and with none
    offered = await eager.ask("ada", "home", "till")
    silent = await eager.ask("ada", "home", offer_ids=["team", "xmas", "old"])

    # When each is explained
    for decision in (offered, silent):
        explained = await eager.explain(decision)

        # Then the rejections are the same, with the same times; only the explanation
        # says what was found
        assert unfounded(explained) == list(decision.rejections)
        assert all(rejection.found for rejection in explained.rejections)
        assert not any(rejection.found for rejection in decision.rejections)


def unfounded(explained: Explanation) -> list[Rejection]:
    """Return the rejections as decisions list them."""
    copy = Explanation()
    copy.CopyFrom(explained)
    for rejection in copy.rejections:
        rejection.ClearField("found")
        rejection.ClearField("needed")
    return list(copy.rejections)


def without_rejections(decision: Decision) -> Decision:
    copy = Decision()
    copy.CopyFrom(decision)
    copy.ClearField("rejections")
    return copy


async def lived(shop: Shop) -> list[Decision]:
    """Live through much, and return all decisions."""
    made: list[Decision] = []
    near = Context(
        usage={"storage_gb": Usage(value=9.0, limit=10.0, per_day=1.0)},
        moment=Moment(kind="limit_near"),
        cart_product_ids=["disk"],
    )
    for number in range(12):
        context = near if number % 3 == 0 else None
        made.append(
            await shop.ask(
                "ada",
                "home",
                "till",
                "dialog",
                context=context,
                account_id="acme",
                session_id=f"visit-{number // 4}",
            )
        )
        if made[-1].offer_id:
            await shop.report(made[-1], kit.SHOWN, *[kit.DISMISSED] * (number % 2))
        shop.clock.advance(kit.HOUR_MS)
    told = [
        SetUserStateRequest(
            user_id="ada",
            account_id="acme",
            life_states={"payment_failed": LifeStateUpdate(active=True)},
        ),
        SetPreferencesRequest(
            user_id="ada", account_id="acme", opt_out_category_ids=["devices"]
        ),
        RecordEventRequest(account_id="acme", purchased=Purchase(product_ids=["pro"])),
        RecordEventRequest(user_id="ada", account_id="acme", complained=Complaint()),
        BeginCriticalRequest(
            user_id="ada",
            account_id="acme",
            key="export",
            ttl=Duration(seconds=3),
            allow_inline=True,
        ),
    ]
    for request in told:
        await shop.told(request)
        made.append(await shop.ask("ada", "home", "dialog", account_id="acme"))
    await kit.stop(shop, "offer:alarm")
    made.append(await shop.ask("ada", "home", "dialog", account_id="acme"))
    made += await shop.choose(6, "ada", "home", "till", "dialog", account_id="acme")
    return made


async def test_an_explanation_is_what_happened(shop: Shop, other_shop: Shop) -> None:
    # Given decisions of a user with whom much was going on
    made = await lived(shop)

    # When each is explained, at this server or at another
    for decision in made:
        explained = await shop.explain(decision)
        assert await other_shop.explain(decision) == explained

        # Then it holds the decision as it was answered: the reason, the time to ask
        # again, the distribution, what the user was told
        assert explained.decision == without_rejections(decision)
        assert unfounded(explained) == list(decision.rejections)
    assert {bool(decision.offer_id) for decision in made} == {True, False}
    stops = [list((await shop.explain(d)).stopped_scopes) for d in made]
    assert stops[0] == []
    assert stops[-1] == ["offer:alarm"]


@pytest.fixture
async def other_shop(
    shop: Shop, clock: kit.Clock, catalogue_text: str
) -> AsyncIterator[Shop]:
    """Another server over the same file."""
    async with kit.running(
        shop.path, catalogue_text, clock, shop.settings, "other"
    ) as running:
        yield running


async def test_an_explanation_is_the_same_after_a_quarter_of_a_year(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given decisions, and what was said of them then
    made = await lived(shop)
    then = [await shop.explain(decision) for decision in made]

    # When the catalogue is another one, the user has gone on, and 90 days have passed
    await kit.change_catalogue(
        shop, '[placements.wall]\n[offers.poster]\nplacements = ["wall"]\n'
    )
    await shop.told(SetPreferencesRequest(user_id="ada", opt_out_all=True))
    await kit.stop(shop, "all")
    clock.advance(90 * kit.DAY_MS)

    # Then the same is said of them, also by a server that was started since
    for decision, before in zip(made, then, strict=True):
        assert await shop.explain(decision) == before
    text = shop.services.current.catalogue.text
    async with kit.running(shop.path, text, clock, shop.settings, "late") as late:
        for decision, before in zip(made, then, strict=True):
            assert await late.explain(decision) == before


async def test_a_catalogue_that_would_not_be_taken_today_explains_its_decisions(
    shop: Shop,
) -> None:
    # Given a decision from a catalogue of old, when less was asked of catalogues
    bad = (
        '[placements.home]\n[offers.nag]\nplacements = ["home"]\ndismissible = false\n'
    )
    catalogue = catalogues.read(bad, linted=False)
    await shop.store.register((catalogue.version, bad), ("none", "{}"))
    shop.services.current.catalogue = catalogue
    decision = await shop.offered("ada", "nag")

    # When today's is another one
    await kit.change_catalogue(shop, "[placements.home]\n")

    # Then the decision is explained by its own
    explained = await shop.explain(decision)
    assert explained.decision.offer_id == "nag"
    assert explained.decision == without_rejections(decision)


async def test_what_critical_offers_went_past_is_told(eager: Shop) -> None:
    # Given a critical offer that has been shown as often as its cap would allow
    await eager.report(await eager.ask(offer_ids=["alarm"]), kit.SHOWN)

    # When it is shown once more
    decision = await eager.ask(offer_ids=["alarm"])
    explained = await eager.explain(decision)

    # Then the explanation says what it has gone past
    assert decision.offer_id == "alarm"
    assert not explained.rejections
    (bypass,) = explained.bypasses
    assert (bypass.offer_id, bypass.gate) == ("alarm", "offer_cap")
    assert kit.reason_of(bypass) == "FREQUENCY_CAP"
    assert bypass.found == "alarm shown 1 time in the last 1d"


async def test_a_decision_is_explained_with_what_the_user_was_told(
    eager: Shop,
) -> None:
    # Given an offer whose text says how much is left
    context = Context(
        usage={"storage_gb": Usage(value=9.0, limit=10.0)},
        moment=Moment(kind="limit_near"),
    )
    decision = await eager.ask(offer_ids=["space"], context=context)
    assert decision.offer_id == "space"

    # When it is explained, then with the text, and with the creative that was not
    # possible
    explained = await eager.explain(decision)
    assert explained.decision.message == decision.message
    assert why(explained)["space", "seats", "home"][:2] == (
        "MISSING_PARAMETER",
        "parameters",
    )


@pytest.mark.parametrize("name", ["", "never", "0" * 36, "g" * 36, "x" * 5_000])
async def test_a_decision_that_was_never_made_cannot_be_explained(
    eager: Shop, name: str
) -> None:
    # Given a name that is no decision's
    # When its explanation is asked for
    refusal = await kit.refused(
        eager.stub.ExplainDecision(ExplainDecisionRequest(decision_id=name))
    )

    # Then it is not found
    expected = "NOT_FOUND" if name else "INVALID_ARGUMENT"
    assert refusal.code == grpc.StatusCode[expected]


async def test_to_explain_changes_nothing(eager: Shop) -> None:
    # Given a decision
    decision = await eager.ask("ada", "home", "dialog")
    before = eager.counts()

    # When it is explained many times
    explained = [await eager.explain(decision) for _ in range(5)]

    # Then it is the same each time, and nothing was written
    assert all(each == explained[0] for each in explained)
    assert eager.counts() == before


async def test_basic_answers_hold_no_lists(eager: Shop) -> None:
    # Given a request that does not ask for everything
    request = GetOfferRequest(user_id="ada", placement_ids=["home"])

    # When it is answered
    (decision,) = (await eager.stub.GetOffer(request)).decisions

    # Then the lists come with the explanation only
    assert not decision.candidates
    assert not decision.rejections
    explained = await eager.explain(decision)
    assert explained.decision.candidates
    assert explained.rejections
