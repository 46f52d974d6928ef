"""Critical workflows: a lease that nobody is interrupted under, and that ends."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from opportune.v1 import BeginCriticalRequest, EndCriticalRequest
from tests.server import kit
from tests.server.kit import Shop

CATALOGUE = """
valid_for = "1d"
spacing = { interruptive = "0s" }

[placements.home]
[placements.dialog]
kind = "modal"
[placements.strip]
kind = "banner"

[offers.tea]
placements = ["home", "dialog", "strip"]

[offers.alarm]
placements = ["home", "dialog"]
override = "critical"
"""
EVERYWHERE = ("home", "dialog", "strip")


@pytest.fixture
def catalogue_text() -> str:
    return CATALOGUE


async def begin(shop: Shop, seconds: int = 60, **fields: Any) -> int | None:
    """Begin a workflow; return when it ends by itself."""
    ttl = Duration(seconds=seconds)
    given: dict[str, Any] = {"user_id": "ada", "key": "export", "ttl": ttl}
    answer = await shop.told(BeginCriticalRequest(**(given | fields)))
    return kit.ms(answer.expire_time) if answer.HasField("expire_time") else None


async def end(shop: Shop, **fields: Any) -> None:
    await shop.told(
        EndCriticalRequest(**({"user_id": "ada", "key": "export"} | fields))
    )


async def open_placements(shop: Shop, user_id: str = "ada", **fields: Any) -> set[str]:
    """Return where the user may see something now."""
    asked = await shop.ask(user_id, *EVERYWHERE, **fields)
    for rejection in asked.rejections:
        assert kit.reason_of(rejection) == "CRITICAL_WORKFLOW"
        assert rejection.gate == "critical_workflow"
    return {c.placement_id for c in asked.candidates if c.offer_id}


async def test_a_workflow_is_not_interrupted_until_its_lease_ends_by_itself(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given a workflow of a minute
    end_ms = await begin(eager)
    assert end_ms == kit.NOON_MS + kit.MINUTE_MS

    # When any server is asked while it lasts, then there is silence, which says until
    # when at the latest; critical offers wait as well, and others see what they see
    for now_ms in (kit.NOON_MS, end_ms - 1):
        clock.now_ms = now_ms
        silence = await other.ask("ada", *EVERYWHERE)
        assert kit.reason_of(silence) == "CRITICAL_WORKFLOW"
        assert kit.ms(silence.next_eligible_time) == end_ms
        assert await open_placements(other) == set()
        assert await open_placements(other, "bob") == set(EVERYWHERE)

    # And once it is over, it is over, though nobody said so
    clock.now_ms = end_ms
    assert await open_placements(other) == set(EVERYWHERE)


async def test_a_heartbeat_renews_the_lease(
    eager: Shop, other: Shop, clock: kit.Clock
) -> None:
    # Given a workflow of a minute
    await begin(eager)

    # When it is begun again every half minute, at one server or the other
    for number in range(6):
        clock.advance(kit.MINUTE_MS // 2)
        assert await open_placements(eager) == set()
        end_ms = await begin((eager, other)[number % 2])
        assert end_ms == clock() + kit.MINUTE_MS

    # Then it ends a minute after the last time
    clock.advance(kit.MINUTE_MS - 1)
    assert await open_placements(eager) == set()
    clock.advance(1)
    assert await open_placements(eager) == set(EVERYWHERE)


async def test_a_heartbeat_may_make_a_lease_shorter(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given a workflow of an hour
    await begin(eager, 3_600)

    # When it is begun again for a second
    assert await begin(eager, 1) == clock() + 1_000

    # Then it is over after that second
    clock.advance(1_000)
    assert await open_placements(eager) == set(EVERYWHERE)


async def test_a_workflow_that_ends_early_is_over_at_once(
    eager: Shop, other: Shop
) -> None:
    # Given a workflow
    await begin(eager)
    assert await open_placements(other) == set()

    # When it ends at another server, twice
    await end(other)
    await end(other)

    # Then offers may be shown again
    assert await open_placements(eager) == set(EVERYWHERE)


async def test_a_workflow_may_allow_what_interrupts_nothing(eager: Shop) -> None:
    # Given a workflow that allows inline offers
    await begin(eager, allow_inline=True)

    # Then only what interrupts nothing may be shown
    assert await open_placements(eager) == {"home"}

    # And when a second one begins that does not, then nothing may
    await begin(eager, key="payment")
    assert await open_placements(eager) == set()
    await end(eager, key="payment")
    assert await open_placements(eager) == {"home"}


async def test_of_several_workflows_the_last_one_counts(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given two workflows, of one minute and of three
    await begin(eager, 60, key="export")
    end_ms = await begin(eager, 180, key="payment")

    # When the user asks, then silence lasts until the longer one ends
    silence = await eager.ask("ada")
    assert kit.ms(silence.next_eligible_time) == end_ms
    clock.advance(kit.MINUTE_MS)
    assert await open_placements(eager) == set()
    await end(eager, key="payment")
    assert await open_placements(eager) == set(EVERYWHERE)


async def test_a_workflow_of_an_account_is_one_of_all_its_users(eager: Shop) -> None:
    # Given a workflow of an account, as when all wait for a migration
    await begin(eager, user_id="", account_id="acme")

    # Then it holds back offers for its users, and for nobody else
    for user_id in ("ada", "bob"):
        assert await open_placements(eager, user_id, account_id="acme") == set()
        assert await open_placements(eager, user_id) == set(EVERYWHERE)

    # And a user who ends a workflow of that name ends their own, not the account's
    await end(eager, account_id="acme")
    assert await open_placements(eager, account_id="acme") == set()
    await end(eager, user_id="", account_id="acme")
    assert await open_placements(eager, account_id="acme") == set(EVERYWHERE)


async def test_a_decided_offer_waits_for_the_workflow_to_end(
    eager: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was decided just before a workflow began
    decision = await eager.ask("ada", "dialog")
    end_ms = await begin(eager)

    # When the client asks whether it may still be shown, then not now, but later
    answer = await eager.check(decision)
    assert kit.state_of(answer) == "ACTIVE"
    assert kit.reason_of(answer) == "CRITICAL_WORKFLOW"
    assert kit.ms(answer.next_eligible_time) == end_ms
    clock.advance(kit.MINUTE_MS)
    assert await eager.standing(decision) == ("ACTIVE", "")


async def test_a_decision_says_which_workflow_it_waited_for(eager: Shop) -> None:
    # Given silence during a workflow that is over by now
    await begin(eager)
    silence = await eager.ask("ada", "home", offer_ids=["tea"])
    await end(eager)

    # When it is explained
    explained = await eager.explain(silence)

    # Then it names the workflow, and until when it was thought to last
    (rejection,) = explained.rejections
    assert rejection.found.startswith("in export, until 2026-11-21")
    assert rejection.needed == "no workflow, or one that allows inline offers"
