"""GetOffer through the wire: what is answered, stored and answered again."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from opportune.v1 import (
    DECISION_VIEW_BASIC,
    Context,
    FeatureValue,
    GetOfferRequest,
    Moment,
    Reason,
    Usage,
)
from policies import catalogue as catalogues
from policies.entropy import selection_entropy
from policies.errors import CatalogueError
from policies.records import decode_decision
from server import telemetry
from tests.server import kit
from tests.server.kit import Shop


async def test_an_offer_is_answered_with_all_that_names_it(shop: Shop) -> None:
    # Given a server that was just started
    # When a user asks until the draw falls on an offer
    decision = await shop.offered("ada")

    # Then the answer names the offer and all versions that it was chosen by
    assert decision.offer_id in {"tea", "jam"}
    assert (decision.creative_id, decision.placement_id) == ("default", "home")
    assert Reason.Value("REASON_UNSPECIFIED") == decision.reason
    assert not decision.HasField("next_eligible_time")
    assert decision.policy_version == shop.services.current.policy.version
    assert decision.model_version == "0.0"
    assert decision.catalogue_version == shop.services.current.catalogue.version
    assert kit.ms(decision.decide_time) == kit.NOON_MS
    assert kit.ms(decision.valid_until) == kit.NOON_MS + 10 * kit.MINUTE_MS
    assert 0.0 < decision.propensity <= 1.0


async def test_the_full_view_holds_the_distribution_and_the_rejections(
    shop: Shop,
) -> None:
    # Given a user who has seen the capped offer
    await shop.report(await shop.offered("ada", "tea"), kit.SHOWN)

    # When the user asks again for everything
    decision = await shop.ask("ada", "home", "banner")

    # Then the candidates with "no offer" sum to one, the most probable first, the
    # chosen one has the propensity, and every offer that is out says why
    candidates = {
        (c.offer_id, c.creative_id, c.placement_id): c.probability
        for c in decision.candidates
    }
    assert candidates.keys() == {("", "", ""), ("jam", "default", "home")}
    assert math.isclose(sum(candidates.values()), 1.0, rel_tol=0.0, abs_tol=1e-12)
    ranked = [c.probability for c in decision.candidates]
    assert sorted(ranked, reverse=True) == ranked
    chosen = (decision.offer_id, decision.creative_id, decision.placement_id)
    assert candidates[chosen] == decision.propensity
    assert 0.0 < decision.floor <= min(candidates.values())
    rejected = {
        (r.offer_id, r.creative_id, r.placement_id, r.gate, Reason.Name(r.reason))
        for r in decision.rejections
    }
    assert rejected == {
        ("tea", "default", "home", "offer_cap", "REASON_FREQUENCY_CAP"),
        ("storage", "default", "banner", "eligible", "REASON_NOT_ELIGIBLE"),
    }


async def test_decisions_that_have_a_choice_say_how_much(shop: Shop) -> None:
    # Given how much choice was left so far
    before = telemetry.SELECTION_ENTROPY._sum.get()

    # When one decision has a choice, and another has none
    decision = await shop.ask("ada")
    await shop.ask("bob", "empty")

    # Then the entropy of the chances of the first is counted
    entropy = selection_entropy([c.probability for c in decision.candidates])
    counted = telemetry.SELECTION_ENTROPY._sum.get() - before
    assert math.isclose(counted, entropy, rel_tol=1e-6)


async def test_the_basic_view_is_the_default_and_holds_no_lists(shop: Shop) -> None:
    # Given one request
    full = await shop.ask("ada", request_id="once")

    # When it is sent again with less to answer
    basic = await shop.ask("ada", request_id="once", view=DECISION_VIEW_BASIC)
    unsaid = await shop.ask("ada", request_id="once", view=0)

    # Then all but the lists is the same
    assert basic == unsaid
    assert not basic.candidates
    assert not basic.rejections
    assert basic.floor == 0.0
    full.ClearField("candidates")
    full.ClearField("rejections")
    full.ClearField("floor")
    assert basic == full


async def test_a_placement_without_offers_is_answered_with_no_candidate(
    shop: Shop,
) -> None:
    # Given a placement that no offer goes with
    # When a user asks for it
    decision = await shop.ask("ada", "empty")

    # Then silence is the only candidate, and says so
    assert decision.offer_id == ""
    assert Reason.Name(decision.reason) == "REASON_NO_CANDIDATE"
    assert decision.propensity == 1.0
    assert [c.offer_id for c in decision.candidates] == [""]


async def test_only_the_offers_that_are_named_are_considered(shop: Shop) -> None:
    # Given two offers for one placement
    # When a request names one of them
    decision = await shop.ask("ada", offer_ids=["jam"])

    # Then the other one is neither a candidate nor a rejection
    assert {c.offer_id for c in decision.candidates} == {"", "jam"}
    assert not decision.rejections


async def test_every_creative_and_placement_is_a_candidate(shop: Shop) -> None:
    # Given an offer with two creatives
    # When its placement is asked for twice in one request
    decision = await shop.ask("ada", "door", "door")

    # Then each of them is a candidate once
    names = sorted((c.offer_id, c.creative_id) for c in decision.candidates)
    assert names == [("", ""), ("door", "bold"), ("door", "calm")]


async def test_a_rule_sees_the_request_and_is_looked_at_each_time(shop: Shop) -> None:
    # Given an offer for those who have used four fifths of their storage
    def context(value: float, segment: str = "free") -> Context:
        usage = {"storage_gb": Usage(value=value, limit=10.0)}
        return Context(segment=segment, usage=usage)

    async def offers(context: Context | None) -> set[str]:
        decision = await shop.ask("ada", "banner", context=context)
        return {c.offer_id for c in decision.candidates}

    # When requests say different things, then each is judged by what it says
    assert await offers(context(8.0)) == {"", "storage"}
    assert await offers(context(7.9)) == {""}
    assert await offers(context(9.0, "team")) == {""}
    assert await offers(None) == {""}
    assert await offers(context(8.0)) == {"", "storage"}


async def test_what_the_catalogue_does_not_declare_is_logged_and_ignored(
    shop: Shop,
) -> None:
    # Given one request with only declared features and one with others too
    declared = {"seats": FeatureValue(number=3.0), "trial": FeatureValue(flag=True)}
    others = {"shoe": FeatureValue(number=43.0), "hat": FeatureValue(category="top")}
    plain = await shop.ask("ada", context=Context(features=declared))

    # When both are decided
    rich = await shop.ask("bob", context=Context(features=declared | others))

    # Then the distribution is the same, and the log holds everything
    assert list(plain.candidates) == list(rich.candidates)
    ((record,),) = kit.rows(
        shop.path,
        "select record from decisions_v1 where decision_id = ?",
        rich.decision_id,
    )
    logged = decode_decision(record).opportunity.context.features
    assert logged == {"seats": 3.0, "trial": True, "shoe": 43.0, "hat": "top"}


async def test_a_decision_is_stored_before_it_is_answered(shop: Shop) -> None:
    # Given a user, and the account that the user belongs to
    # When a request says everything
    context = Context(
        role="admin",
        segment="team",
        usage={"seats": Usage(value=3.0), "gb": Usage(value=1.0, limit=2.0)},
        moment=Moment(kind="done", features={"seats": FeatureValue(number=1.0)}),
    )
    decision = await shop.ask(
        "ada", "home", context=context, account_id="acme", session_id="visit"
    )

    # Then the log holds all of it, by the decision's id
    ((record, at_ms),) = kit.rows(
        shop.path,
        "select record, at_ms from decisions_v1 where decision_id = ?",
        decision.decision_id,
    )
    logged = decode_decision(record)
    asked = logged.opportunity
    assert at_ms == asked.at_ms == kit.NOON_MS
    assert (asked.user_id, asked.account_id) == ("ada", "acme")
    assert asked.session_id == "visit"
    assert (asked.context.role, asked.context.segment) == ("admin", "team")
    assert asked.context.usage["gb"].limit == 2.0
    assert asked.context.usage["seats"].limit is None
    assert asked.context.moment.kind == "done"
    assert logged.propensity == decision.propensity
    assert sum(logged.probabilities) == 10**9


async def test_users_of_an_account_live_under_its_root(shop: Shop) -> None:
    # Given two users of one account, and one user of the same name without
    ada = await shop.ask("ada", account_id="acme", request_id="r")
    bob = await shop.ask("bob", account_id="acme", request_id="r")
    alone = await shop.ask("ada", request_id="r")

    # Then the ids of the account's decisions begin alike, and no id is shared
    assert ada.decision_id[:16] == bob.decision_id[:16]
    assert ada.decision_id[:16] != alone.decision_id[:16]
    assert len({ada.decision_id, bob.decision_id, alone.decision_id}) == 3


async def test_a_request_without_an_id_is_a_new_request_each_time(shop: Shop) -> None:
    # Given a request that names itself in no way
    request = GetOfferRequest(user_id="ada", placement_ids=["home"])

    # When it is sent twice
    first, second = [await shop.stub.GetOffer(request) for _ in range(2)]

    # Then there are two decisions
    assert first.decisions[0].decision_id != second.decisions[0].decision_id
    assert shop.count("decisions_v1") == 2


async def test_a_retry_is_answered_alike_whatever_has_changed(shop: Shop) -> None:
    # Given an offer that was shown, so that its cap is reached
    for number in range(100):
        request_id = f"try-{number}"
        first = await shop.ask("ada", request_id=request_id, offer_ids=["tea"])
        if first.offer_id:
            break
    await shop.report(first, kit.SHOWN, kit.ACCEPTED)
    before = shop.counts()

    # When the model has learned, time has passed, the catalogue is another one that
    # has dropped the offer, and the request comes again with another context
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        kit.learn_all(learning)
    await shop.follow()
    assert shop.services.current.policy.model == "1.1"
    shop.clock.advance(3 * kit.HOUR_MS)
    await kit.change_catalogue(
        shop, 'currency = "EUR"\n[placements.home]\n[offers.new]\nplacements = ["home"]'
    )
    again = await shop.ask(
        "ada", request_id=request_id, context=Context(segment="other")
    )

    # Then the answer is the same to the last bit, and nothing was counted twice
    assert again == first
    after = shop.counts()
    assert after["decision"] == before["decision"]
    assert after["history"] == before["history"]


async def test_a_retry_is_answered_even_when_its_placement_is_gone(shop: Shop) -> None:
    # Given a decision
    first = await shop.ask("ada", request_id="once")

    # When the catalogue no longer has its placement
    await kit.change_catalogue(shop, "[placements.other]")
    again = await shop.ask("ada", request_id="once")

    # Then the retry is answered all the same
    assert again == first


async def test_requests_go_on_while_catalogues_with_other_placements_come_and_go(
    shop: Shop, catalogue_text: str
) -> None:
    # Given a catalogue that lacks the placements of another one
    other = catalogues.read(
        "[placements.other]\nfallback = 'tea'\n[offers.tea]\nplacements = ['other']\n"
    )
    mine = shop.services.current.catalogue
    await shop.store.register((other.version, other.text), ("none", "{}"))

    # When many requests of one user are under way, and the two take turns
    async def turns() -> None:
        for catalogue in itertools.cycle([other, mine, mine]):
            shop.services.current.catalogue = catalogue
            await asyncio.sleep(0)

    turning = asyncio.ensure_future(turns())
    answers = await asyncio.gather(
        *(shop.stub.GetOffer(shop.request("ada", "home")) for _ in range(300)),
        return_exceptions=True,
    )
    turning.cancel()

    # Then each is answered, or refused since its placement is not there any more
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert not isinstance(answer, BaseException)


async def test_one_request_sent_many_times_at_once_is_one_decision(shop: Shop) -> None:
    # Given one request
    # When it is sent a hundred times at once
    answers = await asyncio.gather(
        *(shop.ask("ada", request_id="once") for _ in range(100))
    )

    # Then it is one decision, and it is stored once
    assert all(answer == answers[0] for answer in answers)
    assert shop.count("decisions_v1") == 1


async def test_the_same_request_id_of_another_user_is_another_request(
    shop: Shop,
) -> None:
    # Given two users who number their requests alike
    # When both ask, then each gets a decision of their own
    ada = await shop.ask("ada", request_id="1")
    bob = await shop.ask("bob", request_id="1")
    assert ada.decision_id != bob.decision_id


async def test_health_says_that_the_service_serves(shop: Shop) -> None:
    # Given a running server
    stub: Any = health_pb2_grpc.HealthStub(shop.channel)

    # When it is asked for its health, as a whole and by the service's name
    for service in ("", "opportune.v1.DecisionService", "opportune.v1.UserService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))

        # Then it serves
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_shows_the_service_and_its_messages(shop: Shop) -> None:
    # Given a client that has no generated code
    channel: Any = shop.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    symbol = "opportune.v1.DecisionService"
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol),
    ]

    # When it asks the server what there is
    listed, described = [
        answer async for answer in stub.ServerReflectionInfo(iter(questions))
    ]

    # Then it finds the service, and the file that describes its methods
    names = {service.name for service in listed.list_services_response.service}
    assert {
        "opportune.v1.DecisionService",
        "opportune.v1.UserService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    } == names
    assert described.file_descriptor_response.file_descriptor_proto


async def test_a_method_that_is_not_there_is_unimplemented(shop: Shop) -> None:
    # Given a client of a later version
    call: Any = shop.channel.unary_unary("/opportune.v1.DecisionService/Nothing")

    # When it calls what is not there
    try:
        await call(b"")
        code = None
    except grpc.aio.AioRpcError as error:
        code = error.code()

    # Then it learns so
    assert code == grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_that_is_full_says_when_to_come_again(
    shop: Shop, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given a server that holds one request at a time
    path = shop.path.with_name("small.db")
    settings = kit.settings_of(path, in_flight_max=1)
    async with kit.running(path, catalogue_text, clock, settings) as small:
        # When many come at once
        answers = await asyncio.gather(
            *(small.ask("ada") for _ in range(50)), return_exceptions=True
        )

        # Then those that were too many learn when to come again, and nothing of
        # them was stored
        errors = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
        assert errors
        for error in errors:
            refusal = kit.unpacked(error)
            assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusal.info.reason == "OVERLOADED"
            assert refusal.retry_after_s == 0.1
        assert small.count("decisions_v1") == len(answers) - len(errors)
        assert (await small.ask("ada")).decision_id


async def test_more_than_ten_thousand_actions_at_once_can_be_decided(
    shop: Shop,
) -> None:
    # Given a catalogue that the linter accepts, with more than 10,000 actions
    places = [f"p{number}" for number in range(50)]
    text = "".join(f"[placements.{place}]\n" for place in places)
    for number in range(201):
        text += f"[offers.o{number}]\nplacements = {places}\n"
    try:
        catalogues.read(text)
    except CatalogueError:
        return  # Or it does not accept it.
    await kit.change_catalogue(shop, text)

    # When all of it is asked for at once
    decision = await shop.ask("ada", *places, view=DECISION_VIEW_BASIC)

    # Then there is a decision
    assert decision.decision_id
