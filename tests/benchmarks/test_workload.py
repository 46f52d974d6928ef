from __future__ import annotations

import itertools

import pytest

from benchmarks import workload
from opportune.v1 import GetOfferRequest
from policies import catalogue as catalogues
from policies.engine import Past, eligible
from server import codec


@pytest.mark.parametrize("offers", [10, 50])
def test_every_offer_is_eligible_for_a_new_user_of_each_context(offers: int) -> None:
    catalogue = catalogues.read(workload.catalogue_text(offers))
    for message in itertools.islice(workload.requests(seed=1), 200):
        request = GetOfferRequest.FromString(message)
        opportunity = codec.opportunity_from_proto(
            request, request_id="", tenant="t", at_ms=0, catalogue=catalogue
        )
        actions, rejections = eligible(opportunity, catalogue, Past())
        assert (len(actions), rejections) == (offers + 1, ())
        assert len(opportunity.context.features) == 10


def test_requests_differ_and_some_users_come_back() -> None:
    messages = list(itertools.islice(workload.requests(seed=1), 1_000))
    requests = [GetOfferRequest.FromString(message) for message in messages]
    assert len({request.request_id for request in requests}) == 1_000
    assert 850 < len({request.user_id for request in requests}) < 950
