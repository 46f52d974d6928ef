"""A name names one thing: an event, a tenant's decision, a catalogue."""

from __future__ import annotations

import asyncio

import grpc

from opportune.v1 import (
    CheckDecisionRequest,
    Complaint,
    DecisionServiceStub,
    RecordEventRequest,
    SetPreferencesRequest,
)
from server.current import Current
from server.worker import Services, make_server
from tests.server import kit
from tests.server.kit import Shop


async def test_an_event_id_of_another_kind_of_call_is_refused(shop: Shop) -> None:
    # Given something that was told under a name
    told = RecordEventRequest(user_id="ada", event_id="r-1", complained=Complaint())
    await shop.users.RecordEvent(told)

    # When an opt-out has the same one, then it is not taken for a repeat
    opt_out = SetPreferencesRequest(user_id="ada", event_id="r-1", opt_out_all=True)
    refusal = await kit.refused(shop.users.SetPreferences(opt_out))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields["event_id"].startswith("names a record_event already")


async def test_a_decision_of_another_tenant_is_not_found(shop: Shop) -> None:
    # Given a decision, and a server of another tenant over the same store
    decision = await shop.ask("ada")
    services = Services(
        shop.store, shop.services.current, tenant="other", clock=shop.clock
    )
    server, _ = await make_server(services, shop.settings)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    # When it is asked about there, then it is as if it had never been
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = CheckDecisionRequest(decision_id=decision.decision_id)
        refusal = await kit.refused(DecisionServiceStub(channel).CheckDecision(request))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    await server.stop(0)


async def test_an_older_catalogue_is_compiled_once_for_all_who_ask(
    shop: Shop,
) -> None:
    # Given a catalogue that was in use before
    before = shop.services.current.catalogue
    await kit.change_catalogue(shop, f"{before.text}\n# Another one.\n")
    current = Current(
        shop.store, shop.services.current.catalogue, shop.services.current.policy
    )

    # When many ask for it at once, then all get the same
    found = await asyncio.gather(
        *(current.catalogue_named(before.version) for _ in range(8))
    )
    assert all(catalogue is found[0] for catalogue in found)
    assert found[0].version == before.version
