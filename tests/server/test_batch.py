"""Many requests in one call: in their order, all of them or none."""

from __future__ import annotations

import grpc
import pytest

from opportune.v1 import (
    BatchGetOffersRequest,
    BatchGetOffersResponse,
    GetOfferRequest,
    SetPreferencesRequest,
)
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "10m"
caps = [{ limit = 3, window = "1d" }]

[placements.home]
slots = 2
[placements.door]

[offers.tea]
placements = ["home", "door"]
priority = 3
caps = [{ limit = 1 }]

[offers.jam]
placements = ["home", "door"]
priority = 2
caps = [{ limit = 4, per = "account" }]

[offers.pie]
placements = ["home"]
priority = 1
"""


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def answers(
    shop: Shop, requests: list[GetOfferRequest]
) -> BatchGetOffersResponse:
    return await shop.stub.BatchGetOffers(BatchGetOffersRequest(requests=requests))


def offers(response: BatchGetOffersResponse) -> list[list[str]]:
    return [
        [decision.offer_id for decision in each.decisions]
        for each in response.responses
    ]


async def test_a_hundred_requests_are_answered_in_their_order(eager: Shop) -> None:
    # Given a hundred requests of fifty users, two of each
    requests = [eager.request(f"user-{number % 50}") for number in range(100)]

    # When they are sent at once
    response = await answers(eager, requests)

    # Then each is answered in its place, as if it had been sent after those before it
    assert offers(response) == [["tea"]] * 50 + [["jam"]] * 50
    ids = [each.decisions[0].decision_id for each in response.responses]
    assert len(set(ids)) == 100
    stored = kit.rows(
        eager.path, "select decision_id from decisions_v1 order by position"
    )
    assert [decision_id for (decision_id,) in stored] == ids


async def test_caps_hold_in_order_across_the_requests_of_one_user(eager: Shop) -> None:
    # Given one user, who may see three offers a day, and tea once in a life
    requests = [eager.request("ada") for _ in range(6)]

    # When six requests come at once
    response = await answers(eager, requests)

    # Then the first ones use the cap up, and the last ones say so
    assert offers(response) == [["tea"], ["jam"], ["jam"], [""], [""], [""]]
    for each in response.responses[3:]:
        assert kit.reason_of(each.decisions[0]) == "FREQUENCY_CAP"


async def test_caps_of_an_account_hold_across_its_users(eager: Shop) -> None:
    # Given ten users of an account that may see jam four times
    requests = [
        eager.request(f"user-{n}", account_id="acme", offer_ids=["jam"])
        for n in range(10)
    ]

    # When all of them are asked for at once
    response = await answers(eager, requests)

    # Then the first four get it
    assert offers(response) == [["jam"]] * 4 + [[""]] * 6


async def test_requests_of_a_batch_may_ask_for_several_offers(eager: Shop) -> None:
    # Given requests for several slots
    requests = [eager.request("ada", max_decisions=2) for _ in range(2)]

    # When they are sent at once
    response = await answers(eager, requests)

    # Then each has a list of its own, and the second knows what the first has taken
    assert offers(response) == [["tea", "jam"], ["jam", ""]]


async def test_a_batch_may_be_sent_again(eager: Shop, clock: kit.Clock) -> None:
    # Given a batch that was answered
    requests = [
        eager.request(f"user-{number % 3}", max_decisions=2) for number in range(9)
    ]
    first = await answers(eager, requests)
    before = eager.counts()

    # When it is sent again, and its requests alone, after a while
    clock.advance(kit.HOUR_MS)
    again = await answers(eager, requests)
    alone = [await eager.stub.GetOffer(request) for request in requests]

    # Then the answers are the same, and nothing was counted twice
    assert again == first
    assert alone == list(first.responses)
    assert eager.counts() == before


async def test_a_batch_may_be_sent_again_when_its_placements_are_gone(
    eager: Shop,
) -> None:
    # Given a batch that was answered
    requests = [eager.request(f"user-{number}") for number in range(3)]
    first = await answers(eager, requests)

    # When the catalogue no longer has its placement
    await kit.change_catalogue(eager, "[placements.wall]\n")

    # Then it is answered as it was, and a batch with something new in it is refused
    assert await answers(eager, requests) == first
    refusal = await kit.refused(answers(eager, [*requests, eager.request("eve")]))
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_that_is_there_twice_is_one_request(eager: Shop) -> None:
    # Given a batch that names one request twice
    request = eager.request("ada")

    # When it is sent
    response = await answers(eager, [request, request])

    # Then both are answered with the same decision
    first, second = response.responses
    assert first == second
    assert eager.count("decisions_v1") == 1


async def test_what_was_told_before_binds_every_request_of_a_batch(
    eager: Shop, other: Shop
) -> None:
    # Given a user who wants to see no offers
    await other.told(SetPreferencesRequest(user_id="ada", opt_out_all=True))

    # When a batch asks for this one and another
    response = await answers(eager, [eager.request(u) for u in ("ada", "bob")])

    # Then only the other one sees something
    assert offers(response) == [[""], ["tea"]]


async def test_a_batch_is_refused_as_a_whole_with_every_wrong_field(
    eager: Shop,
) -> None:
    # Given a hundred requests, of which three are wrong
    requests = [eager.request(f"user-{number}") for number in range(100)]
    requests[3].user_id = ""
    requests[50].placement_ids.append("nowhere")
    requests[50].offer_ids.extend(["tea", "gold"])
    requests[99].context.features["x"].number = float("nan")
    requests[99].max_decisions = 99

    # When they are sent at once
    refusal = await kit.refused(answers(eager, requests))

    # Then every wrong field is named with its request, and nothing was decided
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields.keys() == {
        "requests[3].user_id",
        "requests[50].placement_ids[1]",
        "requests[50].offer_ids[1]",
        "requests[99].context.features['x'].number",
        "requests[99].max_decisions",
    }
    assert eager.count("decisions_v1") == 0
    assert eager.count("history") == 0


@pytest.mark.parametrize("number", [0, 101, 1_000])
async def test_a_batch_of_none_or_of_too_many_is_refused(
    eager: Shop, number: int
) -> None:
    # Given no request, or more than a hundred
    requests = [eager.request(f"user-{n}") for n in range(number)]

    # When they are sent
    refusal = await kit.refused(answers(eager, requests))

    # Then they are refused
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields.keys() == {"requests"}
    assert eager.count("decisions_v1") == 0
